"""An edit of the first frame propagated to the frames of a clip: which way, and how it is laid on.

In: the edit, frames with their labels and descriptors. Out: the layer over every frame, and the
frames with the edit on them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from warpkit.arrays import Image, Labels
from warpkit.checks import check_same_size, require
from warpkit.io.frame import Frame, Frames
from warpkit.io.images import read_rgba, saved_like
from warpkit.match.matcher import Matcher
from warpkit.propagate import (
    EDIT_MODELS,
    EditFit,
    EditLayer,
    EditModel,
    EditTracker,
    closest_decoding,
    composite,
    warp_edit,
)
from warpkit.types import DescriptorMap
from warpkit.video.config import EditMode, PropagateSettings
from warpkit.warp.blend import blend

__all__ = ["PropagatedEdit", "read_edit", "usable_edit"]

_log = logging.getLogger("warpkit")


class PropagatedEdit:
    """Propagates one edit.

    Args:
        edit: a layer over the first frame.
        image: uint8 RGB (H, W, 3), the first frame.
        labels: uint8 (H, W), what moves it in the first frame: objects, or its own region.
        outlined: whether the labels are objects.
        descriptors: of the first frame.

    Attributes:
        layer: the edit over the first frame, as it was given.
    """

    def __init__(
        self,
        edit: EditLayer,
        image: Image,
        labels: Labels,
        descriptors: DescriptorMap,
        *,
        outlined: bool,
        settings: PropagateSettings,
        matcher: Matcher | None,
    ) -> None:
        self.layer, self._image, self._labels = edit, image, labels
        self._descriptors, self._outlined = descriptors, outlined
        self._settings, self._matcher = settings, matcher
        self._tracker = None
        models = _models(settings.edit_mode)
        if models:
            self._tracker = EditTracker(
                image,
                labels,
                descriptors,
                edit,
                outlined=outlined,
                models=models,
                config=settings.edit,
            )

    def first(self) -> Image:
        """The first frame with the edit on it, as it was given."""
        return composite(self._image, self.layer)

    def begin(self, *, at_first: bool) -> None:
        """Go on behind the first frame, or at any other without knowing those before it."""
        if self._tracker is not None:
            self._tracker.begin(at_first=at_first)

    def step(
        self, image: Image, labels: Labels, descriptors: DescriptorMap
    ) -> tuple[EditLayer, Image]:
        """The layer over the next frame, and the frame with the edit on it."""
        settings = self._settings
        if self._tracker is not None:
            layer = self._tracker.step(image, labels, descriptors)
        else:
            layer = warp_edit(
                self.layer,
                self._descriptors,
                descriptors,
                mode="forward-warp" if settings.edit_mode == "forward-warp" else "backward-warp",
                # Without a mask every pixel of the first frame competes for the edit's region.
                first_mask=self._labels > 0 if self._outlined else None,
                frame_mask=labels > 0,
                matcher=self._matcher,
                filters=settings.filters,
            )
        edited = composite(image, layer)
        if settings.edit.blend == "poisson":
            edited = blend(image, edited, layer.alpha > 0, mode="poisson")
        return layer, edited

    @property
    def fits(self) -> dict[int, EditFit]:
        """By object, how its edit was propagated to the frame seen last."""
        return {} if self._tracker is None else self._tracker.fits

    def state(self) -> dict[str, torch.Tensor]:
        """What `restore` needs beside the last frame."""
        return {} if self._tracker is None else self._tracker.state()

    def restore(self, state: Mapping[str, torch.Tensor], image: Image) -> None:
        """Go on from a kept state; `image` is the frame propagated last."""
        if self._tracker is not None:
            self._tracker.restore(state, image)


def _models(mode: EditMode) -> tuple[EditModel, ...]:
    """What an edit may be moved by; nothing where dense fields alone are used."""
    if mode in ("backward-warp", "forward-warp"):
        return ()
    return tuple(model for model in EDIT_MODELS if mode in ("track", model))


def read_edit(path: Path | str, frames: Frames, first: Frame) -> EditLayer:
    """An edit from a file: with transparency it is a layer, without the edited frame itself.

    Args:
        frames: the clip, asked how other programs decode its first frame.
        first: that frame.

    Raises:
        InputError: a file that cannot be read, of another size, or without a difference.
    """
    rgba = read_rgba(path)
    check_same_size(rgba, first.image, f"the edit {path}", "the first frame")
    if bool((rgba[..., 3] < 255).any()):
        return EditLayer.from_rgba(rgba)
    edited = np.ascontiguousarray(rgba[..., :3])
    decodings = frames.decodings(first.index)
    copies = saved_like(path, closest_decoding(edited, (first.image, *decodings)))
    if not copies:
        return EditLayer.from_edited_frame(first.image, edited, decodings=decodings)
    # What compression leaves around a stroke is no edit.
    return EditLayer.from_edited_frame(
        first.image, edited, decodings=[*decodings, *copies], threshold=24
    )


def usable_edit(edit: EditLayer, image: Image, mask: npt.NDArray[np.bool_] | None) -> EditLayer:
    """The part of an edit that can be propagated: inside the mask, if there is one.

    Raises:
        InputError: an edit of another size than the first frame, or one that changes nothing.
    """
    height, width = image.shape[:2]
    require(
        (edit.height, edit.width) == (height, width),
        f"the edit is {edit.height} x {edit.width} (height x width) but the first frame is"
        f" {height} x {width}: they must agree",
    )
    if mask is not None:
        edit = _inside(edit, mask)
    require(
        bool((edit.alpha > 0).any()),
        "the edit changes nothing in the first frame"
        + ("" if mask is None else " inside the mask"),
    )
    return edit


def _inside(edit: EditLayer, mask: npt.NDArray[np.bool_]) -> EditLayer:
    """The part of an edit inside the mask: later frames can show no other."""
    outside = float(edit.alpha[~mask].sum() / max(float(edit.alpha.sum()), 1e-6))
    if outside > 0.05:
        _log.warning(
            "%.0f %% of what the edit changes lies outside the first frame's mask and will not be"
            " in the video: to keep it, draw the mask around it too, or give no mask",
            100 * outside,
        )
    return EditLayer(edit.premultiplied * mask[..., None].astype(np.float32))
