"""A pair of images with masks and guides, checked once: the door of all tasks on pairs.

In: arrays as users have them. Out: `ImagePair`, whose masks are bool tensors and which nothing
behind it checks again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from warpkit.arrays import Image, Mask
from warpkit.checks import check_image, check_mask, exists, require
from warpkit.coherent import Guides
from warpkit.describe.extractor import describe_checked
from warpkit.io.images import read_rgba
from warpkit.io.masks import read_objects
from warpkit.match.filters import inside_mask
from warpkit.types import Describer, DescriptorMap

__all__ = ["ImagePair", "read_mask_file", "read_source"]

_log = logging.getLogger("warpkit")


@dataclass(frozen=True, eq=False)
class ImagePair:
    """Two images, what of them counts, and points that belong together.

    Attributes:
        source: uint8 RGB (Hs, Ws, 3).
        target: uint8 RGB (H, W, 3).
        source_mask: bool (Hs, Ws) on the CPU, or None for all of it.
        target_mask: bool (H, W), likewise.
        guides: pairs of points, inside the masks.
    """

    source: Image
    target: Image
    source_mask: Tensor | None = None
    target_mask: Tensor | None = None
    guides: Guides | None = None

    @classmethod
    def checked(
        cls,
        source: Image,
        target: Image,
        *,
        source_mask: Mask | None = None,
        target_mask: Mask | None = None,
        guides: npt.ArrayLike | Guides | None = None,
        field: str = "coherent",
        names: tuple[str, str] = ("source mask", "target mask"),
    ) -> ImagePair:
        """The pair that users' arrays make.

        Args:
            guides: pairs of points (G, 2, 2), `(x, y)` pixels, source first.
            field: that is asked for; guides steer a coherent one.
            names: of the masks, in messages.

        Raises:
            InputError: images, masks or guides of the wrong kind or size, empty masks, or a guide
                outside a mask.
        """
        require(
            guides is None or field != "nearest",
            "guides steer a coherent field, nearest neighbours know none: use --field coherent",
        )
        source, target = check_image(source, "source"), check_image(target, "target")
        masks = [
            None
            if mask is None
            else torch.from_numpy(
                check_mask(mask, height=image.shape[0], width=image.shape[1], name=name)
            )
            for mask, image, name in zip(
                (source_mask, target_mask), (source, target), names, strict=True
            )
        ]
        if guides is not None:
            guides = Guides.of(guides, source=source.shape[:2], target=target.shape[:2])
            _check_guides(guides, *masks)
        return cls(source, target, masks[0], masks[1], guides)

    def describe(
        self, describer: Describer, *, mirrored: Image | None = None
    ) -> tuple[DescriptorMap, DescriptorMap, DescriptorMap | None]:
        """Maps of both images, and of one of them mirrored left-right where that is asked for."""
        images = [self.source, self.target]
        if mirrored is not None:
            images.append(np.ascontiguousarray(mirrored[:, ::-1]))
        source, target, *more = describe_checked(describer, images)
        return source, target, more[0] if more else None


def _check_guides(guides: Guides, source_mask: Tensor | None, target_mask: Tensor | None) -> None:
    """Raise where a guide lies outside a mask: it would pull the field to what is not matched."""
    for mask, points, name in (
        (source_mask, guides.source_xy, "source"),
        (target_mask, guides.target_xy, "target"),
    ):
        if mask is None:
            continue
        outside = torch.nonzero(~inside_mask(mask, points))[:, 0].tolist()
        require(
            not outside,
            f"guide {', '.join(str(i + 1) for i in outside)} lies outside the {name} mask: put it"
            " on the object, or mend the mask",
        )


def read_source(path: Path | str, *, masked: bool) -> Image:
    """The image to take the appearance from; a line where it shows what is hidden in the file.

    Args:
        masked: a mask says what of it counts.
    """
    rgba = read_rgba(path)
    if not masked and bool((rgba[..., 3] == 0).any()):
        _log.warning(
            "%s is transparent in part, and the colours hidden there are warped as well: give its"
            " mask with --source-mask to leave them out",
            path,
        )
    return np.ascontiguousarray(rgba[..., :3])


def read_mask_file(path: Path | str | None, name: str) -> Mask | None:
    """The mask of a file that was named; its size is for `ImagePair.checked` to check.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    if path is None:
        return None
    require(exists(path), f"{name}: no file at {path}")
    return read_objects(path) > 0
