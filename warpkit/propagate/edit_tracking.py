"""Edits that follow their objects: a layer of the first frame laid over frame after frame.

In: frames, their object labels and descriptors, in order. Out: the layer over each frame. Every
object has its own field (`object_fields`), so objects that cross keep their edits apart, and the
edit ends where the field says that the object ends, as long as that is near the mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from warpkit.arrays import Image, Labels, Mask, mask_box
from warpkit.checks import check_image, one_of, require, usable_array
from warpkit.coords import pixel_grid
from warpkit.propagate.cell_matches import ObjectCells
from warpkit.propagate.edits import EditLayer
from warpkit.propagate.flow import flow_between, grey_of
from warpkit.propagate.object_fields import (
    ObjectField,
    ObjectTracker,
    sample,
)
from warpkit.types import DescriptorMap

__all__ = ["EditConfig", "EditTracker"]

Array = npt.NDArray[np.float32]

_TOLERANCE = 0.06  # colour difference at which a pixel beside the mask is no longer the object
_STATE = "edit."


@dataclass(frozen=True, kw_only=True)
class EditConfig:
    """How an edit is tracked and laid over a frame.

    Attributes:
        short_side: larger frames are tracked at this size, in pixels of the short side; the edit
            is always laid on at full size.
        band: part of the short side by which the edit's border may differ from the mask's, where
            the frame agrees with the field.
        lighting: whether the edit takes over how the object's light has changed since the first
            frame.
        blend: `soft` lays the layer over the frame by its opacity; `poisson` keeps the edit's
            gradients and the frame's colours around it.
    """

    short_side: int = 360
    band: float = 0.02
    lighting: bool = False
    blend: Literal["soft", "poisson"] = "soft"

    def __post_init__(self) -> None:
        require(
            self.short_side >= 64, f"short_side must be at least 64 pixels, got {self.short_side}"
        )
        require(0 <= self.band <= 0.2, f"band must lie between 0 and 0.2, got {self.band}")
        one_of(self.blend, ("soft", "poisson"), "blend")


class EditTracker:
    """Propagates one layer along, frame by frame.

    Args:
        image: uint8 RGB (H, W, 3), the first frame.
        labels: uint8 (H, W), objects of the first frame.
        descriptors: of the first frame.
        layer: over the first frame.
        outlined: whether the labels outline the objects. If not, they only say where the edit is,
            and its own opacity is all that ends it.

    Raises:
        InputError: for an image, labels or a layer of another size than the descriptors'.
    """

    def __init__(
        self,
        image: Image,
        labels: Labels,
        descriptors: DescriptorMap,
        layer: EditLayer,
        *,
        outlined: bool = True,
        config: EditConfig | None = None,
    ) -> None:
        image, labels = check_image(image, "the frame"), usable_array(labels)
        size = (descriptors.height, descriptors.width)
        for name, shape in (
            ("frame", image.shape[:2]),
            ("labels", labels.shape),
            ("edit layer", (layer.height, layer.width)),
        ):
            require(
                shape == size,
                f"the {name} is {shape[0]} x {shape[1]} (height x width) but the first frame's"
                f" descriptors are of {size[0]} x {size[1]}: they must agree",
            )
        self.config = config or EditConfig()
        self._outlined = outlined
        self._scale = min(1.0, self.config.short_side / min(size))
        self._first, self._start = self._small(image)
        self._grey: npt.NDArray[np.uint8] | None = self._start
        masks = {int(i): labels == i for i in np.unique(labels) if i > 0}
        self._covers = {i: mask.astype(np.float32) for i, mask in masks.items()}
        self._layers = {
            i: _extended(layer.premultiplied, mask) if outlined else layer.premultiplied
            for i, mask in masks.items()
        }
        self._image = image
        small = self._covering(descriptors)
        self._trackers = {
            i: ObjectTracker(
                self._first, self._shrunk(mask), self._cells(descriptors, image, mask), small
            )
            for i, mask in masks.items()
        }

    def step(self, image: Image, labels: Labels, descriptors: DescriptorMap) -> EditLayer:
        """The layer over the next frame.

        Args:
            image: uint8 RGB (H, W, 3).
            labels: uint8 (H, W), its objects; the edit lands nowhere far from them.
            descriptors: of the frame.
        """
        image, labels = check_image(image, "a frame"), usable_array(labels)
        small, grey = self._small(image)
        back = None if self._grey is None else flow_between(grey, self._grey)
        self._grey = grey
        described = self._covering(descriptors)
        total = np.zeros((*labels.shape, 4), np.float32)
        for i, tracker in self._trackers.items():
            mask = labels == i
            cells = self._cells(descriptors, image, mask)
            field = tracker.step(small, self._shrunk(mask), cells, described, back)
            if field is not None:
                box = self._box(mask)
                grown = self._grown(field)
                part = ObjectField(grown.source_xy[box], grown.error[box])
                free = mask[box] | (labels[box] == 0)
                total[box] += self._laid(i, part, mask[box], image[box]) * free[..., None]
        return EditLayer(np.clip(total, 0, 1))

    def begin(self, *, at_first: bool) -> None:
        """Forget the frames seen: go on behind the first frame, or somewhere else in the clip."""
        self._grey = self._start if at_first else None
        for tracker in self._trackers.values():
            tracker.field = tracker.places if at_first else None

    def state(self) -> dict[str, torch.Tensor]:
        """What `restore` needs beside the last frame: one field (h, w, 2) per object in sight."""
        return {
            f"{_STATE}{i}": torch.from_numpy(tracker.field)
            for i, tracker in self._trackers.items()
            if tracker.field is not None
        }

    def restore(self, state: Mapping[str, torch.Tensor], image: Image) -> None:
        """Go back to a kept state; what follows is what it would have been.

        Args:
            state: what `state` returned; other entries are not looked at.
            image: uint8 RGB (H, W, 3), the last frame before it was kept.
        """
        self._grey = self._small(image)[1]
        for i, tracker in self._trackers.items():
            kept = state.get(f"{_STATE}{i}")
            tracker.field = None if kept is None else kept.numpy()

    def _small(self, image: Image) -> tuple[Image, npt.NDArray[np.uint8]]:
        import cv2

        if self._scale < 1:
            image = cv2.resize(image, self._small_size(image.shape), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        return image, grey_of(image)

    def _small_size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return round(shape[1] * self._scale), round(shape[0] * self._scale)

    def _shrunk(self, mask: Mask) -> Mask:
        import cv2

        if self._scale == 1:
            return mask
        plane = cv2.resize(
            mask.astype(np.float32), self._small_size(mask.shape), interpolation=cv2.INTER_AREA
        )
        return np.asarray(plane > 0.5)

    def _covering(self, descriptors: DescriptorMap) -> DescriptorMap:
        """The same descriptors over the small frame."""
        if self._scale == 1:
            return descriptors
        width, height = self._small_size((descriptors.height, descriptors.width))
        return DescriptorMap(
            descriptors.data,
            height,
            width,
            descriptors.cell_height * height / descriptors.height,
            descriptors.cell_width * width / descriptors.width,
        )

    def _cells(self, descriptors: DescriptorMap, image: Image, mask: Mask) -> ObjectCells:
        return ObjectCells.of(descriptors, image, mask).scaled(self._scale)

    def _grown(self, field: ObjectField) -> ObjectField:
        """A field at the frames' own size."""
        import cv2

        if self._scale == 1:
            return field
        height, width = self._image.shape[:2]
        small = field.source_xy.shape[1::-1]
        ratio = np.array([width / small[0], height / small[1]], np.float32)
        away = field.source_xy - pixel_grid(height=small[1], width=small[0]).numpy()
        grown = cv2.resize(away, (width, height)) * ratio
        error = cv2.resize(field.error, (width, height))
        return ObjectField(
            (pixel_grid(height=height, width=width).numpy() + grown).astype(np.float32),
            error.astype(np.float32),
        )

    def _border(self) -> float:
        """Pixels by which the edit's border may differ from the mask's."""
        return max(1.0, self.config.band * min(self._image.shape[:2]))

    def _box(self, mask: Mask) -> tuple[slice, slice]:
        """The part of a frame that an edit of the mask can reach."""
        margin = int(2 * self._border()) + 16
        x1, y1, x2, y2 = map(int, mask_box(mask))
        return (
            slice(max(0, y1 - margin), y2 + 1 + margin),
            slice(max(0, x1 - margin), x2 + 1 + margin),
        )

    def _laid(self, i: int, field: ObjectField, mask: Mask, image: Image) -> Array:
        """The layer of one object over the part of a frame that these cover, (h, w, 4)."""
        import cv2

        covered = np.clip(sample(self._covers[i], field.source_xy), 0, 1)
        width = self._border()
        depth = _depth(mask)
        # Beside the mask a pixel is the object if the frame looks there as the field says.
        seen = 1 / (1 + (cv2.blur(field.error, (3, 3)) / _TOLERANCE) ** 4)
        seen = cv2.blur(np.where(depth > 0, 1, seen).astype(np.float32), (3, 3))
        near = np.clip(3 + 2 * depth / width, 0, 1)
        inner = np.clip(depth / width, 0, 1)
        if not self._outlined:
            return self._lit(i, field, mask, image) * (seen * near)[..., None]
        followed = (inner + (1 - inner) * covered * seen) * near
        # Where the frame hardly agrees with the field, the mask alone decides.
        inside = mask.astype(np.float32)
        good = inside / (1 + (field.error / (2 * _TOLERANCE)) ** 4)
        trust = cv2.blur(good, (15, 15)) / (cv2.blur(inside, (15, 15)) + 1e-3)
        trust = np.clip(2 * trust - 0.5, 0, 1)
        alone = cv2.GaussianBlur(inside, (0, 0), 0.7)
        opacity = trust * followed + (1 - trust) * alone
        opacity *= _with_any(mask, covered > 0.5)
        return self._lit(i, field, mask, image) * opacity[..., None]

    def _lit(self, i: int, field: ObjectField, mask: Mask, image: Image) -> Array:
        """The layer at the field's places, in the light of the frame if that is asked for."""
        propagated: Array = sample(self._layers[i], field.source_xy)
        if self.config.lighting:
            before = sample(self._image, field.source_xy)
            propagated[..., :3] *= _gain(image, before, mask, field.error)
        # Brighter than white is white, in the layer as in a frame.
        propagated[..., :3] = np.minimum(propagated[..., :3], propagated[..., 3:])
        return propagated


def _gain(image: Image, before: Image, mask: Mask, error: Array) -> Array:
    """How much brighter, per channel, the object has become around every pixel: (H, W, 3)."""
    import cv2

    weight = (mask / (1 + (error / _TOLERANCE) ** 2)).astype(np.float32)
    reach = float(np.sqrt(mask.sum())) / 4 + 1
    size = (0, 0)
    step = max(1, int(reach / 4))
    small = (max(1, mask.shape[1] // step), max(1, mask.shape[0] // step))
    blurred = []
    for part in (image, before):
        product = cv2.resize(part * weight[..., None], small, interpolation=cv2.INTER_AREA)
        wide = cv2.GaussianBlur(product, size, reach / step)
        blurred.append(cv2.resize(wide, mask.shape[::-1]))
    gain: Array = np.clip((blurred[0] + 1e-2) / (blurred[1] + 1e-2), 0.25, 4).astype(np.float32)
    return gain


def _with_any(mask: Mask, wanted: Mask) -> Array:
    """0 on parts of the mask, and just around them, on which nothing wanted lies; else 1.

    Speckle of a mask far from the object looks like no place of it.
    """
    import cv2

    count, part = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    kept = np.zeros(count, bool)
    kept[np.unique(part[wanted & mask])] = True
    if kept[1:].all() or not kept[1:].any():
        return np.ones(mask.shape, np.float32)
    stray = (mask & ~kept[part]).astype(np.uint8)
    stray = cv2.dilate(stray, np.ones((3, 3), np.uint8)) > 0
    keep: Array = (~stray | (mask & kept[part])).astype(np.float32)
    return keep


def _depth(mask: Mask) -> Array:
    """Distance to the mask's border in pixels, positive inside, negative outside."""
    import cv2

    plane = np.pad(mask, 1, mode="edge").astype(np.uint8)
    # Of a mask of all pixels, OpenCV gives a distance beyond any number to reckon with.
    inside, outside = (
        np.minimum(cv2.distanceTransform(p, cv2.DIST_L2, 5), sum(plane.shape))
        for p in (plane, 1 - plane)
    )
    depth: Array = np.where(plane > 0, inside - 0.5, 0.5 - outside)[1:-1, 1:-1]
    return depth


def _extended(values: Array, mask: Mask) -> Array:
    """Values (H, W, C) on the mask; elsewhere those of the nearest pixel of the mask."""
    import cv2

    # Distances are to the nearest zero; every zero gets a label of its own.
    _, label = cv2.distanceTransformWithLabels(
        (~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    pixel = np.zeros(int(label.max()) + 1, np.int64)
    pixel[label[mask]] = np.flatnonzero(mask)
    return np.ascontiguousarray(values.reshape(-1, values.shape[2])[pixel[label]])
