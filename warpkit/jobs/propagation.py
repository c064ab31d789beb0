"""Carry masks, an edit and points from a clip's first frame to the later ones, in memory.

In: frames one after another. Out: one `FrameResult` per frame. Memory does not grow with the clip.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from warpkit.checks import check_image, check_points, check_same_size, require
from warpkit.jobs.options import ModelOptions, check_filters
from warpkit.match.matcher import Matcher
from warpkit.propagate import (
    Annotation,
    EditLayer,
    LabelConfig,
    LabelFrame,
    LabelPropagator,
    carry_edit,
    carry_labels_many,
    composite,
)
from warpkit.propagate.points import TrackedPoints, carry_points
from warpkit.types import Describer, DescriptorMap

_log = logging.getLogger("warpkit")

__all__ = ["FrameResult", "PropagateConfig", "Propagation", "propagate"]

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class PropagateConfig(ModelOptions):
    """How things are carried through a clip.

    Attributes:
        mode: `label` propagates masks with context frames; `gather` and `splat` carry them from
            the first frame alone, backward or (the paper's way) forward.
        edit_mode: how an edit is carried.
        label: settings of label propagation.
        max_pairs: largest number of descriptor pairs that the engines `faiss` and `reference`
            compare for a dense field; above it they match on a coarser lattice of pixels.
        min_similarity: of a carried edit's matches; None keeps all.
        point_cycle: a point is visible if its way back ends within so many pixels.
        point_similarity: a point is visible if its match has at least this cosine.
        chunk: frames described together.
    """

    mode: Literal["label", "gather", "splat"] = "label"
    edit_mode: Literal["gather", "splat"] = "gather"
    label: LabelConfig = field(default_factory=LabelConfig)
    max_pairs: float = 4e8
    min_similarity: float | None = None
    point_cycle: float = 8.0
    point_similarity: float = 0.5
    chunk: int = 4

    def __post_init__(self) -> None:
        check_filters(cycle_distance=self.point_cycle, min_similarity=self.point_similarity)
        check_filters(cycle_distance=None, min_similarity=self.min_similarity)
        require(self.chunk >= 1, f"chunk must be at least 1 frame, got {self.chunk}")


@dataclass(frozen=True, eq=False)
class FrameResult:
    """What was carried to one frame.

    Attributes:
        position: 0 for the first frame.
        labels: uint8 (H, W), object ids, or None if nothing was labelled.
        confidence: float32 (H, W) in [0, 1], or None like `labels`.
        edited: uint8 (H, W, 3), the frame with the edit on it, or None without an edit.
        points: where the points are, or None without points.
    """

    position: int
    labels: npt.NDArray[np.uint8] | None
    confidence: npt.NDArray[np.float32] | None
    edited: Image | None
    points: TrackedPoints | None


class Propagation:
    """A propagation under way: the first frame is given, the others follow in chunks.

    Args:
        first: uint8 RGB (H, W, 3), the annotated frame.
        describer: what describes images, e.g. `warpkit.load("tiny")`.
        labels: uint8 (H, W), object ids of the first frame, 0 = background.
        edit: a layer over the first frame. Without labels its own region is propagated, and the
            edit lands only there.
        points: (N, 2), pixels of the first frame.
        config: how to carry; the model options of it are not used here.
        matcher: matching engine of the dense fields; None picks one.

    Raises:
        InputError: nothing to carry, or inputs that do not fit the frame.
    """

    def __init__(
        self,
        first: Image,
        *,
        describer: Describer,
        labels: npt.NDArray[np.uint8] | None = None,
        edit: EditLayer | None = None,
        points: npt.ArrayLike | None = None,
        config: PropagateConfig | None = None,
        matcher: Matcher | None = None,
    ) -> None:
        self.config = config or PropagateConfig()
        check_image(first, "the first frame")
        height, width = first.shape[:2]
        require(
            labels is not None or edit is not None or points is not None,
            "nothing to propagate: give a mask, an edit or points of the first frame",
        )
        if labels is not None:
            require(
                isinstance(labels, np.ndarray) and labels.ndim == 2 and labels.dtype == np.uint8,
                "labels must be a uint8 array (height, width) of object ids",
            )
            check_same_size(labels, first, "the mask", "the first frame")
            require(bool((labels > 0).any()), "the mask is empty (no pixel is set)")
        if edit is not None:
            require(
                (edit.height, edit.width) == (height, width),
                f"the edit is {edit.height} x {edit.width} (height x width) but the first frame is"
                f" {height} x {width}: they must agree",
            )
            if labels is not None:
                edit = _inside(edit, labels > 0)
            require(
                bool((edit.alpha > 0).any()),
                "the edit changes nothing in the first frame"
                + ("" if labels is None else " inside the mask"),
            )
        self._describer, self._matcher = describer, matcher
        self._edit = edit
        self._points = None if points is None else check_points(points, height=height, width=width)
        self._masked = labels is not None
        if labels is None and edit is not None:
            solid = edit.alpha > 0.5
            labels = (solid if solid.any() else edit.alpha > 0).astype(np.uint8)
        self._first_image = first
        self._first_labels = labels
        self._first = describer.describe([first])[0]
        self._position = 0
        self._labels: LabelPropagator | None = None
        if labels is not None:
            self.object_ids = [int(i) for i in np.unique(labels) if i > 0]
            if self.config.mode == "label":
                self._labels = LabelPropagator(self.config.label, self.object_ids)
                self._labels.annotate(self._first, labels, first)

    def first_result(self) -> FrameResult:
        """The first frame as it was given."""
        labels = self._first_labels
        edited = None if self._edit is None else composite(self._first_image, self._edit)
        points = None
        if self._points is not None:
            count = len(self._points)
            points = TrackedPoints(
                self._points, np.ones(count, np.bool_), np.ones(count, np.float32)
            )
        confidence = None if labels is None else np.ones(labels.shape, np.float32)
        return FrameResult(0, labels, confidence, edited, points)

    def advance(self, images: Sequence[Image]) -> list[FrameResult]:
        """Carry everything to the next frames.

        Raises:
            InputError: a frame of another size than the first.
        """
        for image in images:
            check_same_size(image, self._first_image, "a frame", "the first frame")
        found = self.describe(images)
        results = []
        for image, frame, labelled in zip(images, found, self._label(images, found), strict=True):
            self._position += 1
            results.append(self._carry(image, frame, labelled))
        return results

    def _label(
        self, images: Sequence[Image], frames: Sequence[DescriptorMap]
    ) -> Sequence[LabelFrame | None]:
        """The labels of the next frames, None if there are none to carry."""
        if self._labels is not None:
            pairs = zip(frames, images, strict=True)
            return [self._labels.step(frame, image) for frame, image in pairs]
        if self._first_labels is None:
            return [None] * len(frames)
        return carry_labels_many(
            self._first_labels,
            self.object_ids,
            self._first,
            frames,
            mode="splat" if self.config.mode == "splat" else "gather",
            matcher=self._matcher,
            max_pairs=self.config.max_pairs,
        )

    def _carry(
        self, image: Image, found: DescriptorMap, labelled: LabelFrame | None
    ) -> FrameResult:
        config = self.config
        edited = None
        if self._edit is not None:
            assert labelled is not None and self._first_labels is not None
            layer = carry_edit(
                self._edit,
                self._first,
                found,
                mode=config.edit_mode,
                # Without a mask every pixel of the first frame competes for the edit's region.
                first_mask=self._first_labels > 0 if self._masked else None,
                frame_mask=labelled.labels > 0,
                matcher=self._matcher,
                max_pairs=config.max_pairs,
                min_similarity=config.min_similarity,
            )
            edited = composite(image, layer)
        points = None
        if self._points is not None:
            points = carry_points(
                self._points,
                self._first,
                found,
                cycle_distance=config.point_cycle,
                min_similarity=config.point_similarity,
                matcher=self._matcher,
            )
        return FrameResult(
            self._position,
            None if labelled is None else labelled.labels,
            None if labelled is None else labelled.confidence,
            edited,
            points,
        )

    def describe(self, images: Sequence[Image]) -> list[DescriptorMap]:
        """Descriptors of frames as `advance` uses them."""
        return self._describer.describe(images)

    @property
    def context_length(self) -> int:
        """How many of the last frames a resumed propagation needs again."""
        return 0 if self._labels is None else self.config.label.context

    def state(self) -> dict[str, torch.Tensor]:
        """What a later process needs to go on exactly, beside the last frames' images."""
        return {} if self._labels is None else self._labels.state()

    def restore(
        self,
        state: dict[str, torch.Tensor],
        context: Sequence[DescriptorMap],
        images: Sequence[Image],
        position: int,
    ) -> None:
        """Go on after `position`, as if every frame up to it had been carried here.

        Args:
            state: from `state`.
            context: descriptors of the last frames, oldest first, as many as the state holds.
            images: the images of these frames.
        """
        self._position = position
        if self._labels is not None:
            assert self._first_labels is not None
            known = Annotation(self._first, self._first_labels, self._first_image)
            self._labels.restore(state, context, [known], images)


def _inside(edit: EditLayer, mask: npt.NDArray[np.bool_]) -> EditLayer:
    """The part of an edit inside the mask: later frames can show no other."""
    outside = float(edit.alpha[~mask].sum() / max(float(edit.alpha.sum()), 1e-6))
    if outside > 0.05:
        _log.warning(
            "%.0f %% of the edit lies outside the mask and is left out; without a mask all of it"
            " is carried",
            100 * outside,
        )
    return EditLayer(edit.premultiplied * mask[..., None].astype(np.float32))


def propagate(
    images: Iterable[Image],
    *,
    describer: Describer,
    labels: npt.NDArray[np.uint8] | None = None,
    edit: EditLayer | None = None,
    points: npt.ArrayLike | None = None,
    config: PropagateConfig | None = None,
    matcher: Matcher | None = None,
) -> Iterator[FrameResult]:
    """Carry masks, an edit and points of the first frame through a clip.

    Args:
        images: uint8 RGB frames (H, W, 3), the annotated one first; read as they are needed.
        describer: what describes images, e.g. `warpkit.load("tiny")`.
        labels: uint8 (H, W), object ids of the first frame.
        edit: a layer over the first frame.
        points: (N, 2), pixels of the first frame.
        config: how to carry; the model options of it are not used here.
        matcher: matching engine of the dense fields; None picks one.

    Yields:
        One `FrameResult` per frame, the first included.

    Raises:
        InputError: no frames, nothing to carry, or inputs that do not fit the frames.
    """
    frames = iter(images)
    first = next(frames, None)
    require(first is not None, "the clip has no frames")
    assert first is not None
    run = Propagation(
        first,
        describer=describer,
        labels=labels,
        edit=edit,
        points=points,
        config=config,
        matcher=matcher,
    )
    yield run.first_result()
    while chunk := list(itertools.islice(frames, run.config.chunk)):
        yield from run.advance(chunk)
