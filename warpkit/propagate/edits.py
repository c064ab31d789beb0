"""Edits: a picture layer drawn on the first frame, warped to another frame and laid over it.

In: an RGBA layer over the first frame and the descriptor maps of both frames. Out: the layer over
frame t, and the frame with the layer on it. Colours are kept premultiplied by their opacity, so
that interpolation and forward warps never mix in the colour of transparent pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from warpkit.arrays import mask_box
from warpkit.checks import check_image, check_mask, check_same_size, one_of, require, usable_array
from warpkit.match.matcher import Matcher
from warpkit.match.settings import MatchFilters
from warpkit.propagate.field_labels import WarpMode, throw
from warpkit.types import DescriptorMap
from warpkit.warp.backward import backward_warp
from warpkit.warp.field import dense_warp
from warpkit.warp.splat import fill_holes

__all__ = ["EditLayer", "closest_decoding", "colormap_layer", "composite", "warp_edit"]

# Colours at the corners of the object's box in `colormap_layer`: top left, top right, bottom
# left, bottom right. Far apart, so that every place between them has a colour of its own.
_CORNERS = np.array(
    [[[230, 50, 60], [250, 215, 50]], [[60, 70, 230], [50, 200, 120]]], dtype=np.float32
)

_AROUND = np.ones((5, 5), np.uint8)
_LUMA = np.array([[0.299, 0.587, 0.114], [0.2126, 0.7152, 0.0722]], np.float32)
_ALIKE = 3.0  # levels: two decodings of a frame, of the same mixture of colours


@dataclass(frozen=True, eq=False)
class EditLayer:
    """A layer over one frame.

    Attributes:
        premultiplied: float32 (H, W, 4), red, green, blue times opacity, and opacity, all in
            [0, 1]; zero where the layer is transparent.
    """

    premultiplied: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        layer = usable_array(self.premultiplied)
        object.__setattr__(self, "premultiplied", layer)
        if layer.ndim != 3 or layer.shape[2] != 4 or layer.dtype != np.float32:
            raise ValueError(
                f"EditLayer must hold float32 (H, W, 4), got {layer.dtype} {layer.shape}"
            )
        if not (np.isfinite(layer).all() and layer.min() >= 0 and layer.max() <= 1):
            raise ValueError("EditLayer values must lie in [0, 1]")

    @property
    def height(self) -> int:
        """Height of the frame in pixels."""
        return int(self.premultiplied.shape[0])

    @property
    def width(self) -> int:
        """Width of the frame in pixels."""
        return int(self.premultiplied.shape[1])

    @property
    def alpha(self) -> npt.NDArray[np.float32]:
        """Opacity, float32 (H, W)."""
        return self.premultiplied[..., 3]

    @classmethod
    def from_rgba(
        cls, rgba: npt.NDArray[np.uint8], *, height: int | None = None, width: int | None = None
    ) -> EditLayer:
        """A layer from an RGBA picture (H, W, 4), uint8, colours not premultiplied.

        Args:
            height: height of the frame that it lies on, to be checked.
            width: width of that frame, to be checked.

        Raises:
            InputError: if it is no RGBA picture, of another size, or wholly transparent.
        """
        rgba = usable_array(rgba)
        require(
            isinstance(rgba, np.ndarray)
            and rgba.dtype == np.uint8
            and rgba.ndim == 3
            and rgba.shape[2] == 4,
            "an edit layer must be a uint8 RGBA array (height, width, 4), got"
            f" {getattr(rgba, 'dtype', type(rgba).__name__)} {getattr(rgba, 'shape', '')}:"
            " save it with an alpha channel, or give the whole edited frame",
        )
        require(
            height in (None, rgba.shape[0]) and width in (None, rgba.shape[1]),
            f"the edit layer is {rgba.shape[0]} x {rgba.shape[1]} (height x width) but its frame"
            f" is {height} x {width}: draw it at the frame's own size",
        )
        require(bool(rgba[..., 3].any()), "the edit layer is wholly transparent: draw something")
        layer = rgba.astype(np.float32) / np.float32(255)
        layer[..., :3] *= layer[..., 3:]
        return cls(layer)

    @classmethod
    def from_edited_frame(
        cls,
        original: npt.NDArray[np.uint8],
        edited: npt.NDArray[np.uint8],
        *,
        decodings: Sequence[npt.NDArray[np.uint8]] = (),
        threshold: int = 12,
        speckle: int = 16,
    ) -> EditLayer:
        """The difference between a frame and its edited copy, as an opaque layer.

        A region belongs to the edit if its pixels differ by more than half the threshold and at
        least one by more than the threshold: faint rims of a stroke stay with it. The edge is
        hard, since the opacity of a blended edge cannot be told from its colour alone.

        Programs decode a video's colours in different ways, so the copy is compared with that
        decoding of the frame which it is most like. Where it is like none, differences that
        another way of decoding makes, thin ones along edges of colour, are no edit.

        Args:
            original: uint8 (H, W, 3), the frame.
            edited: uint8 (H, W, 3), the frame after editing.
            decodings: uint8 (H, W, 3) each, the frame as it may have been before editing.
            threshold: largest difference of a channel, in levels of 255, that is no edit.
            speckle: regions of fewer pixels are noise.

        Raises:
            InputError: if sizes differ or nothing differs noticeably.
        """
        original = check_image(original, "original frame")
        edited = check_image(edited, "edited frame")
        check_same_size(original, edited, "original frame", "edited frame")
        import cv2

        before = closest_decoding(edited, (original, *decodings))
        difference = _difference(before, edited)
        quiet = difference <= threshold
        # Most of what was not painted on is untouched, to the level: nothing is to be guessed.
        exact = (difference == 0).sum() >= 0.9 * quiet.sum()
        allowed = np.float32(0) if exact else _undecided(before, decodings)
        brightness = 0 * difference if exact else _brightness_difference(before, edited)
        surely = (difference > threshold + allowed) | (brightness > 1.5 * threshold)
        faint = difference > threshold / 2
        # The rim of what is surely painted goes with it, as wide as decodings blur.
        core = (difference > threshold / 2 + allowed) | (brightness > threshold)
        near = faint if exact else cv2.dilate(core.astype(np.uint8), _AROUND) > 0
        part = (faint & near).astype(np.uint8)
        _, region, stats, _ = cv2.connectedComponentsWithStats(part, connectivity=8)
        keep = np.zeros(len(stats), dtype=bool)
        keep[region[surely]] = True
        keep &= stats[:, cv2.CC_STAT_AREA] >= speckle
        keep[0] = False  # the background of the labelling
        changed = keep[region]
        require(
            bool(changed.any()),
            f"the edited frame does not differ from the original by more than {threshold} levels"
            f" in any region of {speckle} pixels: give the edited copy, or a lower threshold",
        )
        layer = np.zeros((*changed.shape, 4), dtype=np.float32)
        layer[changed, :3] = edited[changed].astype(np.float32) / 255
        layer[changed, 3] = 1
        return cls(layer)


def closest_decoding(
    edited: npt.NDArray[np.uint8], decodings: Sequence[npt.NDArray[np.uint8]]
) -> npt.NDArray[np.uint8]:
    """Which of several decodings of a frame was edited: that from which the most is left.

    Args:
        edited, decodings: uint8 (H, W, 3).
    """
    return min(decodings, key=lambda image: np.minimum(_difference(image, edited), 12).mean())


def _difference(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """The largest difference of a channel, (H, W)."""
    return np.abs(first.astype(np.int16) - second.astype(np.int16)).max(axis=2)


def _brightness_difference(
    first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float32]:
    """The difference in luma, of BT.601 or BT.709 whichever is less, (H, W)."""
    apart = first.astype(np.float32) - second.astype(np.float32)
    return np.abs(apart @ _LUMA.T).min(axis=2)


def _undecided(
    image: npt.NDArray[np.uint8], decodings: Sequence[npt.NDArray[np.uint8]]
) -> npt.NDArray[np.float32]:
    """By how much decoders differ at every pixel of an image, levels (H, W).

    They agree in brightness. Colours are stored for blocks of 2 x 2 pixels, and wherever they are
    taken from for a pixel, what it gets is among the colours around it.
    """
    import cv2

    colour = image.astype(np.float32)
    colour -= colour.mean(axis=2, keepdims=True)
    spread = (cv2.dilate(colour, _AROUND) - cv2.erode(colour, _AROUND)).max(axis=2)
    for other in decodings:
        difference = _difference(image, other).astype(np.float32)
        if difference.mean() <= _ALIKE:  # or it differs in more than that
            spread = np.maximum(spread, difference)
    return np.asarray(spread, np.float32)


def colormap_layer(mask: npt.NDArray[np.bool_], *, opacity: float = 0.8) -> EditLayer:
    """A smooth colour map over an object: every place has its own colour.

    Propagated, it shows which part of the object went where.

    Args:
        mask: (H, W), the object.
        opacity: of the layer, in (0, 1].

    Raises:
        InputError: for an empty mask or an impossible opacity.
    """
    require(0 < opacity <= 1, f"opacity must lie in (0, 1], got {opacity}")
    mask = usable_array(mask)
    size = mask.shape if getattr(mask, "ndim", 0) == 2 else (0, 0)
    mask = check_mask(mask, height=size[0], width=size[1], name="object mask")
    x1, y1, x2, y2 = mask_box(mask)
    y = (np.arange(mask.shape[0]) - y1 + 0.5) / (y2 - y1 + 1)
    x = (np.arange(mask.shape[1]) - x1 + 0.5) / (x2 - x1 + 1)
    across = (1 - x)[None, :, None] * _CORNERS[:, :1] + x[None, :, None] * _CORNERS[:, 1:]
    colour = (1 - y)[:, None, None] * across[0] + y[:, None, None] * across[1]
    layer = np.zeros((*mask.shape, 4), dtype=np.float32)
    layer[mask, :3] = colour[mask] / 255 * opacity
    layer[mask, 3] = opacity
    return EditLayer(layer)


def warp_edit(
    layer: EditLayer,
    first: DescriptorMap,
    frame: DescriptorMap,
    *,
    mode: WarpMode = "backward-warp",
    first_mask: npt.NDArray[np.bool_] | None = None,
    frame_mask: npt.NDArray[np.bool_] | None = None,
    matcher: Matcher | None = None,
    filters: MatchFilters | None = None,
    temperature: float = 0.05,
    fill: bool = True,
) -> EditLayer:
    """An edit of the first frame warped to another frame.

    Args:
        layer: the edit, over the first frame.
        first: descriptors of the first frame.
        frame: descriptors of the other frame.
        mode: `backward-warp`: every pixel takes the edit at its match in the first frame;
            `forward-warp`: the pixels of the first frame are thrown onto the other one.
        first_mask: bool (H, W), the object in the first frame: only its pixels are candidates,
            edited or not. None makes the whole frame a candidate, so that places without an edit
            can win too.
        frame_mask: bool (H, W), the object in the other frame: the edit lands nowhere else. An
            empty mask (the object is absent) gives an empty layer.
        matcher: search engine; None takes the default of `dense_warp`.
        filters: which matches count, see `dense_warp`.
        temperature: `forward-warp` only, see `warp_labels`.
        fill: `forward-warp` only: whether holes take what `backward-warp` finds there.

    Returns:
        The edit over the other frame; transparent outside `frame_mask`.

    Raises:
        InputError: for masks or layers of another size, or an empty `first_mask`.
    """
    one_of(mode, ("backward-warp", "forward-warp"), "mode")
    require(
        (layer.height, layer.width) == (first.height, first.width),
        f"the edit layer is {layer.height} x {layer.width} (height x width) but the first frame is"
        f" {first.height} x {first.width}: draw it at the frame's own size",
    )
    candidates = _mask_tensor(first_mask, first, "object mask of the first frame")
    allowed = _mask_tensor(frame_mask, frame, "object mask of the frame", allow_empty=True)
    if allowed is not None and not bool(allowed.any()):
        return EditLayer(np.zeros((frame.height, frame.width, 4), dtype=np.float32))
    planes = torch.tensor(layer.premultiplied, device=first.data.device).permute(2, 0, 1)

    match = partial(dense_warp, matcher=matcher, filters=filters)

    def backward() -> tuple[Tensor, Tensor]:
        warp = match(first, frame, source_mask=candidates, target_mask=allowed)
        return backward_warp(planes, warp, source_mask=candidates), warp.valid

    if mode == "backward-warp":
        moved, _ = backward()
    else:
        landing = match(frame, first, source_mask=allowed, target_mask=candidates)
        landed = throw(planes, landing, temperature)
        moved = (fill_holes(landed, *backward()) if fill else landed).values
    if allowed is not None:  # what lands reaches past the mask
        moved = torch.where(allowed, moved, 0)
    return EditLayer(moved.clamp(0, 1).permute(1, 2, 0).float().cpu().contiguous().numpy())


def composite(image: npt.NDArray[np.uint8], layer: EditLayer) -> npt.NDArray[np.uint8]:
    """A frame with a layer over it; where the layer is transparent the frame stays as it is.

    Args:
        image: uint8 (H, W, 3).
        layer: of the same size.

    Returns:
        uint8 (H, W, 3).

    Raises:
        InputError: if the sizes differ.
    """
    image = check_image(image, "frame")
    check_same_size(image, layer.premultiplied, "frame", "the edit layer")
    seen = layer.alpha > 0
    over = layer.premultiplied[seen]
    result = image.copy()
    result[seen] = np.rint(over[:, :3] * 255 + (1 - over[:, 3:]) * image[seen]).clip(0, 255)
    return result


def _mask_tensor(
    mask: npt.NDArray[np.bool_] | None,
    descriptors: DescriptorMap,
    name: str,
    *,
    allow_empty: bool = False,
) -> Tensor | None:
    if mask is None:
        return None
    checked = check_mask(
        mask,
        height=descriptors.height,
        width=descriptors.width,
        name=name,
        allow_empty=allow_empty,
    )
    return torch.from_numpy(checked).to(descriptors.data.device)
