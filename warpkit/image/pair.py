"""A pair of images with masks and guides, checked once: the door of all tasks on pairs.

In: arrays as users have them, or pictures of files. Out: `ImagePair`, whose masks are bool tensors
and which nothing behind it checks again. Transparency is a mask.
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
from warpkit.checks import check_mask, exists, require
from warpkit.coherent import Guides
from warpkit.describe.extractor import describe_checked
from warpkit.image.transparency import opaque_part, seen_picture
from warpkit.io.masks import read_objects
from warpkit.io.pictures import StoredPicture
from warpkit.match.filters import inside_mask
from warpkit.types import Describer, DescriptorMap

__all__ = ["ImagePair", "read_mask_file"]

_log = logging.getLogger("warpkit")


@dataclass(frozen=True, eq=False)
class ImagePair:
    """Two images, what of them counts, and points that belong together.

    Attributes:
        source: uint8 RGB (Hs, Ws, 3), what is described and shown: of one colour where it is
            transparent.
        target: uint8 RGB (H, W, 3), likewise.
        source_mask: bool (Hs, Ws) on the CPU, or None for all of it.
        target_mask: bool (H, W), likewise.
        guides: pairs of points, inside the masks.
        pictures: both as they were given.
    """

    source: Image
    target: Image
    pictures: tuple[StoredPicture, StoredPicture]
    source_mask: Tensor | None = None
    target_mask: Tensor | None = None
    guides: Guides | None = None

    @classmethod
    def checked(
        cls,
        source: Image | StoredPicture,
        target: Image | StoredPicture,
        *,
        source_mask: Mask | None = None,
        target_mask: Mask | None = None,
        guides: npt.ArrayLike | Guides | None = None,
        field: str = "coherent",
        names: tuple[str, str] = ("source mask", "target mask"),
    ) -> ImagePair:
        """The pair that users' arrays make.

        Args:
            source, target: arrays, uint8 or uint16, of 3 channels or with alpha, or pictures.
            source_mask, target_mask: None: what is opaque, where a picture has transparency.
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
        pictures = tuple(
            image if isinstance(image, StoredPicture) else StoredPicture.of(image, name)
            for image, name in ((source, "source"), (target, "target"))
        )
        given = zip((source_mask, target_mask), pictures, names, strict=True)
        masks = [_mask(*each) for each in given]
        if guides is not None:
            shapes = [picture.rgb.shape[:2] for picture in pictures]
            guides = Guides.of(guides, source=shapes[0], target=shapes[1])
            _check_guides(guides, *masks)
        source, target = (seen_picture(picture) for picture in pictures)
        return cls(source, target, (pictures[0], pictures[1]), masks[0], masks[1], guides)

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


def _mask(given: Mask | None, picture: StoredPicture, name: str) -> Tensor | None:
    """The mask of a picture: the one that is given, or what is opaque of it."""
    opaque = opaque_part(picture)
    if given is None:
        return None if opaque is None else torch.from_numpy(opaque)
    if opaque is not None:
        _log.info(
            "%s is transparent in part: the %s says what counts, not that", picture.name, name
        )
    height, width = picture.rgb.shape[:2]
    return torch.from_numpy(check_mask(given, height=height, width=width, name=name))


def read_mask_file(path: Path | str | None, name: str) -> Mask | None:
    """The mask of a file that was named; its size is for `ImagePair.checked` to check.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    if path is None:
        return None
    require(exists(path), f"{name}: no file at {path}")
    return read_objects(path) > 0
