"""Carry masks, an edit and points through the stretches of a clip, chunk by chunk.

In: the annotations, then frames in chunks. Out: one `FrameResult` per frame. Who reads the frames
and keeps the results is for the caller: `warpkit.jobs.propagation` in memory, `warpkit.jobs.video`
in files.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from warpkit.checks import check_image, check_points, check_same_size, require
from warpkit.jobs.propagation_config import FrameResult, PropagateConfig
from warpkit.match.matcher import Matcher
from warpkit.propagate import (
    Annotation,
    EditLayer,
    LabelFrame,
    LabelPropagator,
    carry_edit,
    carry_labels_many,
    composite,
)
from warpkit.propagate.labels import decide_labels
from warpkit.propagate.passes import Stretch, merge_soft, plan_stretches
from warpkit.propagate.points import TrackedPoints, carry_points
from warpkit.types import Describer, DescriptorMap

__all__ = ["Propagation"]

_log = logging.getLogger("warpkit")

Image = npt.NDArray[np.uint8]


class Propagation:
    """A propagation under way: stretch by stretch, and within one in chunks of frames.

    Usage: for every stretch of `stretches`, in order: `begin` it backward and `carry_back` its
    frames from the last to the first, if an annotated frame follows; then `begin` it forward and
    `advance` through its frames. `known_result` gives the annotated frames between stretches.

    Args:
        first: uint8 RGB (H, W, 3), the first frame.
        describer: what describes images, e.g. `warpkit.load("tiny")`.
        labels: uint8 (H, W), object ids of the first frame, 0 = background.
        edit: a layer over the first frame. Without labels its own region is propagated, and the
            edit lands only there.
        points: (N, 2), pixels of the first frame.
        annotations: object ids of further frames, by position (0 is the first frame). What holds
            no object there is background: such a frame says that an object is absent.
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
        annotations: Mapping[int, npt.NDArray[np.uint8]] | None = None,
        config: PropagateConfig | None = None,
        matcher: Matcher | None = None,
    ) -> None:
        self.config = config or PropagateConfig()
        check_image(first, "the first frame")
        height, width = first.shape[:2]
        given = dict(annotations or {})
        if labels is not None:
            require(0 not in given, "give the first frame's labels once, not in annotations too")
            given[0] = labels
        require(
            bool(given) or edit is not None or points is not None,
            "nothing to propagate: give a mask, an edit or points of the first frame",
        )
        for position, mask in given.items():
            _check_annotation(position, mask, first)
        require(
            not given or any(bool(mask.any()) for mask in given.values()),
            "the mask is empty (no pixel is set)",
        )
        require(
            set(given) <= {0} or self.config.mode == "label",
            f"mode {self.config.mode} carries masks from the first frame alone: use mode label for"
            " annotations of other frames",
        )
        if edit is not None:
            require(
                (edit.height, edit.width) == (height, width),
                f"the edit is {edit.height} x {edit.width} (height x width) but the first frame is"
                f" {height} x {width}: they must agree",
            )
            require(
                0 in given or not given,
                "an edit belongs to the first frame: give the first frame's mask too, or no mask",
            )
            if given:
                edit = _inside(edit, given[0] > 0)
            require(
                bool((edit.alpha > 0).any()),
                "the edit changes nothing in the first frame"
                + (" inside the mask" if given else ""),
            )
        self._describer, self._matcher = describer, matcher
        self._edit = edit
        self._points = None if points is None else check_points(points, height=height, width=width)
        self._masked = bool(given)
        if not given and edit is not None:
            solid = edit.alpha > 0.5
            given[0] = (solid if solid.any() else edit.alpha > 0).astype(np.uint8)
        self.annotations = {position: given[position] for position in sorted(given)}
        self.object_ids = sorted({int(i) for mask in given.values() for i in np.unique(mask)} - {0})
        self._first_image = first
        self._first = describer.describe([first])[0]
        self._position = 0
        self._stretch: Stretch | None = None
        self._labels: LabelPropagator | None = None

    def stretches(self) -> list[Stretch]:
        """The parts of the clip between annotated frames, in order; the last one is open."""
        if not self.annotations:  # points alone come from the first frame
            return [Stretch(1, None, 0, None, ())]
        return plan_stretches({position: self._shown(position) for position in self.annotations})

    def _shown(self, position: int) -> set[int]:
        return {int(i) for i in np.unique(self.annotations[position])} - {0}

    def known_result(self, position: int, image: Image | None = None) -> FrameResult:
        """An annotated frame, or the first one, as it was given.

        Args:
            image: uint8 RGB (H, W, 3), the frame; not needed for the first.
        """
        labels = self.annotations.get(position)
        confidence = None if labels is None else np.ones(labels.shape, np.float32)
        if position > 0:
            assert image is not None
            assert labels is not None
            assert confidence is not None
            check_same_size(image, self._first_image, "a frame", "the first frame")
            needed = self._edit is not None or self._points is not None
            found = self.describe([image])[0] if needed else None
            frame = LabelFrame(labels, confidence, torch.zeros(0))
            return self._carry(position, image, found, frame, given=True)
        edited = None if self._edit is None else composite(self._first_image, self._edit)
        points = None
        if self._points is not None:
            count = len(self._points)
            points = TrackedPoints(
                self._points, np.ones(count, np.bool_), np.ones(count, np.float32)
            )
        return FrameResult(0, labels, confidence, edited, points, given=labels is not None)

    def begin(
        self, stretch: Stretch, images: Mapping[int, Image], *, backward: bool = False
    ) -> None:
        """Start on a stretch.

        Args:
            images: uint8 RGB (H, W, 3), the frames of `stretch.known`; the first is not needed.
            backward: from the annotated frame after it, for `carry_back`.
        """
        self._stretch, self._position = stretch, stretch.first
        self._labels = None
        anchor = stretch.after if backward else stretch.before
        if self.config.mode == "label" and stretch.known and anchor is not None:
            self._labels = LabelPropagator(self.config.label, self.object_ids)
            for known in self._annotated(images):
                self._labels.annotate(known.descriptors, known.labels, known.image)

    def _annotated(self, images: Mapping[int, Image]) -> list[Annotation]:
        assert self._stretch is not None
        known = []
        for position in self._stretch.known:
            image = self._first_image if position == 0 else images[position]
            found = self._first if position == 0 else self.describe([image])[0]
            known.append(Annotation(found, self.annotations[position], image))
        return known

    def carry_back(self, images: Sequence[Image]) -> torch.Tensor:
        """Soft labels of the frames before those carried back last.

        Args:
            images: in the order of the clip; they are carried from the last to the first.

        Returns:
            float (n, K, h, w), in the order of the clip.
        """
        assert self._labels is not None, "begin the stretch backward first"
        found = self.describe(images)
        soft = [
            self._labels.carry(frame, image)
            for frame, image in zip(reversed(found), reversed(images), strict=True)
        ]
        return torch.stack(soft[::-1])

    def advance(
        self, images: Sequence[Image], backward: torch.Tensor | None = None
    ) -> list[FrameResult]:
        """Carry everything to the next frames of the stretch.

        Args:
            backward: float (n, K, h, w), what `carry_back` gave for these frames; needed if an
                annotated frame follows.

        Raises:
            InputError: a frame of another size than the first.
        """
        for image in images:
            check_same_size(image, self._first_image, "a frame", "the first frame")
        needed = self._stretch_is_forward or self._edit is not None or self._points is not None
        found: Sequence[DescriptorMap | None] = (
            self.describe(images) if needed else [None] * len(images)
        )
        results = []
        labelled = self._label(images, found, backward)
        for image, frame, labels in zip(images, found, labelled, strict=True):
            results.append(self._carry(self._position, image, frame, labels))
            self._position += 1
        return results

    @property
    def _stretch_is_forward(self) -> bool:
        assert self._stretch is not None, "begin a stretch first"
        return self._stretch.before is not None

    def _label(
        self,
        images: Sequence[Image],
        frames: Sequence[DescriptorMap | None],
        backward: torch.Tensor | None,
    ) -> Sequence[LabelFrame | None]:
        """The labels of the next frames, None if there are none to carry."""
        if not self.annotations:
            return [None] * len(frames)
        if self.config.mode != "label":
            return carry_labels_many(
                self.annotations[0],
                self.object_ids,
                self._first,
                [frame for frame in frames if frame is not None],
                mode=self.config.mode,
                matcher=self._matcher,
                max_pairs=self.config.max_pairs,
            )
        assert self._stretch is not None
        require(
            (backward is None) == (self._stretch.after is None),
            "labels carried back are needed exactly where an annotated frame follows",
        )
        labelled = []
        for n, (frame, image) in enumerate(zip(frames, images, strict=True)):
            soft = None if backward is None else backward[n].to(self._first.data.device)
            if self._labels is not None:
                assert frame is not None
                ahead = self._labels.carry(frame, image)
                share = self._stretch.share(self._position + n)
                soft = ahead if soft is None else merge_soft(ahead, soft, share=share)
            assert soft is not None
            # All frames have the layout of the first.
            labelled.append(
                decide_labels(soft, self._first, image, self.object_ids, self.config.label)
            )
        return labelled

    def _carry(
        self,
        position: int,
        image: Image,
        found: DescriptorMap | None,
        labelled: LabelFrame | None,
        *,
        given: bool = False,
    ) -> FrameResult:
        config = self.config
        edited = None
        if self._edit is not None:
            assert labelled is not None
            assert found is not None
            layer = carry_edit(
                self._edit,
                self._first,
                found,
                mode=config.edit_mode,
                # Without a mask every pixel of the first frame competes for the edit's region.
                first_mask=self.annotations[0] > 0 if self._masked else None,
                frame_mask=labelled.labels > 0,
                matcher=self._matcher,
                max_pairs=config.max_pairs,
                min_similarity=config.min_similarity,
            )
            edited = composite(image, layer)
        points = None
        if self._points is not None:
            assert found is not None
            points = carry_points(
                self._points,
                self._first,
                found,
                cycle_distance=config.point_cycle,
                min_similarity=config.point_similarity,
                matcher=self._matcher,
            )
        return FrameResult(
            position,
            None if labelled is None else labelled.labels,
            None if labelled is None else labelled.confidence,
            edited,
            points,
            given,
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
        soft: torch.Tensor,
        context: Sequence[DescriptorMap],
        images: Sequence[Image],
        known: Mapping[int, Image],
        position: int,
    ) -> None:
        """Go on in the stretch begun as if its frames up to `position` had been carried here.

        Args:
            soft: float (n, K, h, w), labels kept for the last frames, in the order carried.
            context: descriptors of these frames.
            images: uint8 RGB (H, W, 3), these frames.
            known: as in `begin`.
            position: of the frame that `advance` meets next.
        """
        self._position = position
        if self._labels is not None:
            state = {"object_ids": torch.tensor(self.object_ids), "soft": soft}
            self._labels.restore(state, context, self._annotated(known), images)


def _check_annotation(position: int, labels: npt.NDArray[np.uint8], first: Image) -> None:
    name = "the mask" if position == 0 else f"the mask of frame {position}"
    require(
        isinstance(labels, np.ndarray) and labels.ndim == 2 and labels.dtype == np.uint8,
        ("labels" if position == 0 else name)
        + " must be a uint8 array (height, width) of object ids",
    )
    check_same_size(labels, first, name, "the first frame")


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
