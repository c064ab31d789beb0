"""Edits that follow their objects: a layer of the first frame laid over frame after frame.

In: frames, their object labels and descriptors, in order. Out: the layer over each frame. Every
object has its own field (`object_fields`), so objects that cross keep their edits apart, and the
edit ends where the field says that the object ends, as long as that is near the mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from warpkit.arrays import Image, Labels, Mask, mask_box
from warpkit.checks import check_image, one_of, require, usable_array
from warpkit.coords import pixel_grid, pixel_to_grid
from warpkit.propagate.cell_matches import ObjectCells
from warpkit.propagate.edit_laying import (
    TOLERANCE,
    continued,
    depth_in,
    light_gain,
    shrunk_sample,
    with_any,
)
from warpkit.propagate.edit_models import EDIT_MODELS, EditFit, EditModel, EditModels, LaidEdit
from warpkit.propagate.edits import EditLayer
from warpkit.propagate.flow import flow_between, grey_of
from warpkit.propagate.object_fields import (
    ObjectField,
    ObjectTracker,
    sample,
)
from warpkit.propagate.plane_search import SeenObject, suggested_maps
from warpkit.types import DescriptorMap

__all__ = ["EditConfig", "EditTracker"]

Array = npt.NDArray[np.float32]

_FAINT = 0.02  # opacity that is none
_BEYOND = 2.0  # pixels of the first frame that a flat edit goes on behind the object's border
_STATE = "edit."
_FREELY = LaidEdit({"free": 1.0}, {}, np.zeros((0, 2)), 1.0)


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
        models: what the edit of an object may be moved by: `rigid`, `affine` and `planar` as one
            flat part, `free` by the object's smooth field. Of several the one is taken that
            explains the frames best for its freedom.

    Attributes:
        fits: how the edit of every object in sight was propagated to the frame seen last.

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
        models: Sequence[EditModel] = EDIT_MODELS,
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
        # An object without an edit is not followed.
        masks = {i: mask for i, mask in masks.items() if layer.alpha[mask].any()}
        self._masks = masks
        self._covers = {i: mask.astype(np.float32) for i, mask in masks.items()}
        self._depths = {i: depth_in(mask) for i, mask in masks.items()}
        self._layers = {
            i: continued(layer.premultiplied, mask) if outlined else layer.premultiplied
            for i, mask in masks.items()
        }
        self._image = image
        described = self._covering(descriptors)
        self._seen = {
            i: SeenObject(self._first, self._shrunk(mask), described) for i, mask in masks.items()
        }
        self._trackers = {
            i: ObjectTracker(
                self._first,
                self._seen[i].mask,
                self._cells(descriptors, image, mask),
                described,
            )
            for i, mask in (masks.items() if "free" in models else ())
        }
        grey = grey_of(image)
        self._models = {
            i: EditModels(
                grey, self._start, (layer.alpha > 0) & mask, mask if outlined else None, models
            )
            for i, mask in (masks.items() if set(models) != {"free"} else ())
        }
        self.fits: dict[int, EditFit] = {}

    def step(self, image: Image, labels: Labels, descriptors: DescriptorMap) -> EditLayer:
        """The layer over the next frame.

        Args:
            image: uint8 RGB (H, W, 3).
            labels: uint8 (H, W), its objects; the edit lands nowhere far from them.
            descriptors: of the frame.
        """
        image, labels = check_image(image, "a frame"), usable_array(labels)
        small, grey = self._small(image)
        before, self._grey = self._grey, grey
        back = None
        if self._trackers and before is not None:
            back = flow_between(grey, before)
        described = self._covering(descriptors)
        whole = grey_of(image) if self._models else grey
        total = np.zeros((*labels.shape, 4), np.float32)
        self.fits = {}
        for i in self._masks:
            mask = labels == i
            shrunk = self._shrunk(mask)
            field = None
            if i in self._trackers:
                cells = self._cells(descriptors, image, mask)
                field = self._trackers[i].step(small, shrunk, cells, described, back)
            laid = _FREELY
            models = self._models.get(i)
            if models is not None and not mask.any():
                models.hide()
            elif models is not None:
                places = None if field is None else field.source_xy
                other = SeenObject(small, shrunk, described)
                search = partial(suggested_maps, self._seen[i], other, models.part, places)
                self.fits[i], laid = models.step(whole, mask, grey, before, search, places)
            elif field is not None:
                self.fits[i] = EditFit("free", None, False)
            if not mask.any() or not laid.shares or ("free" in laid.shares and field is None):
                continue
            box = self._box(mask, laid)
            free = mask[box] | (labels[box] == 0)
            total[box] += self._laid(i, laid, field, mask, image, box) * free[..., None]
        return EditLayer(np.clip(total, 0, 1))

    def begin(self, *, at_first: bool) -> None:
        """Forget the frames seen: go on behind the first frame, or somewhere else in the clip."""
        self._grey = self._start if at_first else None
        for tracker in self._trackers.values():
            tracker.field = tracker.places if at_first else None
        for models in self._models.values():
            models.begin(at_first=at_first)

    def state(self) -> dict[str, torch.Tensor]:
        """What `restore` needs beside the last frame: of every object in sight, a field (h, w, 2),
        and some numbers about its models.
        """
        fields = {
            f"{_STATE}{i}": torch.from_numpy(tracker.field)
            for i, tracker in self._trackers.items()
            if tracker.field is not None
        }
        return fields | {
            f"{_STATE}{i}.{name}": tensor
            for i, models in self._models.items()
            for name, tensor in models.state().items()
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
        for i, models in self._models.items():
            start = f"{_STATE}{i}."
            models.restore(
                {k.removeprefix(start): v for k, v in state.items() if k[: len(start)] == start}
            )

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

    def _box(self, mask: Mask, laid: LaidEdit) -> tuple[slice, slice]:
        """The part of a frame that an edit of the mask can reach."""
        margin = int(2 * self._border()) + 16
        x1, y1, x2, y2 = map(int, mask_box(mask))
        height, width = mask.shape
        if not self._outlined:  # a flat part knows better where it is
            for corners in laid.corners():
                left, top = corners.min(axis=0).clip(0, (width - 1, height - 1)).astype(int)
                right, bottom = corners.max(axis=0).clip(0, (width - 1, height - 1)).astype(int)
                x1, y1, x2, y2 = min(x1, left), min(y1, top), max(x2, right), max(y2, bottom)
        return (
            slice(max(0, y1 - margin), min(height, y2 + 1 + margin)),
            slice(max(0, x1 - margin), min(width, x2 + 1 + margin)),
        )

    def _laid(
        self,
        i: int,
        laid: LaidEdit,
        field: ObjectField | None,
        mask: Mask,
        image: Image,
        box: tuple[slice, slice],
    ) -> Array:
        """The layer of one object over the part of a frame in a box, (h, w, 4)."""
        mask, image = mask[box], image[box]
        free, opacity = None, np.zeros(mask.shape, np.float32)
        if "free" in laid.shares:
            assert field is not None
            grown = self._grown(field)
            free = ObjectField(grown.source_xy[box], grown.error[box])
            opacity = self._free_opacity(i, free, mask)
        if laid.flat == 0:
            assert free is not None
            return self._lit(i, free, mask, image) * opacity[..., None]
        y, x = np.mgrid[box].astype(np.float32)
        grid = np.dstack([x, y])
        places = laid.places(grid, None if free is None else free.source_xy)
        flat = self._flat_opacity(i, places, mask) * laid.opacity
        opacity = laid.flat * flat + (1 - laid.flat) * opacity
        # What is around the edit alone tells its light.
        part = self._models[i].part.astype(np.float32)
        near = sample(part, pixel_to_grid(places, 1 / self._scale)) > 0
        flattened = ObjectField(places, np.where(near, 0, 1).astype(np.float32))
        return self._lit(i, flattened, mask, image, shrinks=True) * opacity[..., None]

    def _flat_opacity(self, i: int, places: Array, mask: Mask) -> Array:
        """How much of a flat edit is to be seen at every pixel, (h, w)."""
        import cv2

        if not self._outlined:
            return np.ones(mask.shape, np.float32)
        inside = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7)
        inside = np.where(inside > _FAINT, inside, 0)
        if self._models[i].whole:
            return np.asarray(inside * with_any(mask, sample(self._covers[i], places) > 0.5))
        # Behind the border of the object in the first frame it goes on for a little.
        beyond = sample(self._depths[i], places) + _BEYOND
        return np.asarray(inside * np.clip(beyond, 0, 1), np.float32)

    def _free_opacity(self, i: int, field: ObjectField, mask: Mask) -> Array:
        """How much of an edit along the smooth field is to be seen at every pixel, (h, w)."""
        import cv2

        covered = np.clip(sample(self._covers[i], field.source_xy), 0, 1)
        width = self._border()
        depth = depth_in(mask)
        # Beside the mask a pixel is the object if the frame looks there as the field says.
        seen = 1 / (1 + (cv2.blur(field.error, (3, 3)) / TOLERANCE) ** 4)
        seen = cv2.blur(np.where(depth > 0, 1, seen).astype(np.float32), (3, 3))
        near = np.clip(3 + 2 * depth / width, 0, 1)
        inner = np.clip(depth / width, 0, 1)
        if not self._outlined:
            return np.asarray(seen * near, np.float32)
        followed = (inner + (1 - inner) * covered * seen) * near
        # Where the frame hardly agrees with the field, the mask alone decides.
        inside = mask.astype(np.float32)
        good = inside / (1 + (field.error / (2 * TOLERANCE)) ** 4)
        trust = cv2.blur(good, (15, 15)) / (cv2.blur(inside, (15, 15)) + 1e-3)
        trust = np.clip(2 * trust - 0.5, 0, 1)
        alone = cv2.GaussianBlur(inside, (0, 0), 0.7)
        opacity = trust * followed + (1 - trust) * alone
        return np.asarray(opacity * with_any(mask, covered > 0.5))

    def _lit(
        self, i: int, field: ObjectField, mask: Mask, image: Image, *, shrinks: bool = False
    ) -> Array:
        """The layer at the field's places, in the light of the frame if that is asked for."""
        layer = self._layers[i]
        propagated: Array = (
            shrunk_sample(layer, field.source_xy) if shrinks else sample(layer, field.source_xy)
        )
        if self.config.lighting:
            before = sample(self._image, field.source_xy)
            propagated[..., :3] *= light_gain(image, before, mask, field.error)
        # Brighter than white is white, in the layer as in a frame.
        propagated[..., :3] = np.minimum(propagated[..., :3], propagated[..., 3:])
        return propagated
