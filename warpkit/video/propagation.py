"""Propagate masks, an edit and points through the stretches of a clip, chunk by chunk.

In: the annotations, then frames in chunks. Out: one `FrameResult` per frame. Who reads the frames
and keeps the results is for `warpkit.video.driver`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from warpkit.arrays import Image, Labels
from warpkit.checks import check_same_size, require
from warpkit.describe.extractor import describe_checked
from warpkit.features.foreground import ForegroundModel
from warpkit.match.matcher import Matcher
from warpkit.propagate import (
    Annotation,
    LabelFrame,
    LabelPropagator,
    warp_labels_many,
)
from warpkit.propagate.agreement import merge_agreement
from warpkit.propagate.held import held_by_grid
from warpkit.propagate.label_decision import decide_labels, finer_evidence
from warpkit.propagate.objectness import BoxLook
from warpkit.propagate.passes import Stretch, merge_soft
from warpkit.propagate.points import PointTracker, TrackedPoints
from warpkit.runs.clock import Stopwatch
from warpkit.types import Describer, DescriptorMap
from warpkit.video.config import FrameResult, PropagateSettings
from warpkit.video.edits import PropagatedEdit
from warpkit.video.inputs import ClipInputs
from warpkit.video.stretches import require_label_memory, stretches_of

__all__ = ["Propagation"]


class Propagation:
    """A propagation under way: stretch by stretch, and within one in chunks of frames.

    Usage: for every stretch of `stretches`, in order: `begin` it backward and `propagate_back` its
    frames from the last to the first, if an annotated frame follows; then `begin` it forward and
    `advance` through its frames. `known_result` gives the annotated frames between stretches.

    Args:
        first: uint8 RGB (H, W, 3), the first frame.
        given: what is propagated, checked against it.
        describer: what describes images, e.g. `warpkit.load("tiny")`.
        settings: how to propagate.
        matcher: matching engine of the dense fields; None picks one.
        frames: about how many the clip has, where that is known.

    Raises:
        InputError: label propagation needs more memory than there is.

    Attributes:
        clock: seconds by stage so far: `describe`, `labels`, `edit`, `points`.
        chunk: frames that are described together.
    """

    def __init__(
        self,
        first: Image,
        given: ClipInputs,
        *,
        describer: Describer,
        settings: PropagateSettings,
        matcher: Matcher | None = None,
        frames: int | None = None,
    ) -> None:
        self.settings, self.annotations = settings, given.annotations
        self._describer, self._matcher = describer, matcher
        self._points, self._positions = given.points, given.positions
        masks = given.annotations.values()
        self.object_ids = sorted({int(i) for mask in masks for i in np.unique(mask)} - {0})
        self._first_image = first
        self.clock = Stopwatch()
        self._first = self.describe([first])[0]
        require_label_memory(
            given,
            settings,
            cells=self._first.data[0].numel(),
            channels=self._first.channels,
            frames=frames,
            device=self._first.data.device,
        )
        self.chunk = self.settings.chunk or (16 if self._first.data.is_cuda else 4)
        self._edit: PropagatedEdit | None = None
        if given.edit is not None:
            self._edit = PropagatedEdit(
                given.edit,
                first,
                self.annotations[0],
                self._first,
                outlined=given.outlined,
                settings=self.settings,
                matcher=matcher,
            )
        self._tracker: PointTracker | None = None
        if self._points is not None:
            self._tracker = self.new_tracker()
            self.join(self._tracker, 0, self._first, first)
        self._look_at_box: BoxLook | None = None
        if given.annotations and settings.mode == "label" and settings.label.objectness > 0:
            self._look_at_box = ForegroundModel(self._first.data.device).at_box
        self._position = 0
        self._stretch: Stretch | None = None
        self._labels: LabelPropagator | None = None

    def stretches(self) -> list[Stretch]:
        """The parts of the clip between annotated frames, in order; the last one is open."""
        return stretches_of(self.annotations)

    def known_result(
        self, position: int, image: Image | None = None, *, cut: bool = False
    ) -> FrameResult:
        """An annotated frame, or the first one, as it was given.

        Args:
            image: uint8 RGB (H, W, 3), the frame; not needed for the first.
            cut: whether a new scene begins with it, for points; labels are known there.
        """
        labels = self.annotations.get(position)
        confidence = None if labels is None else np.ones(labels.shape, np.float32)
        if position > 0:
            assert image is not None
            assert labels is not None
            assert confidence is not None
            check_same_size(image, self._first_image, "a frame", "the first frame")
            needed = self._edit is not None or self._follows(position)
            found = self.describe([image])[0] if needed else None
            frame = LabelFrame(labels, confidence, torch.zeros(0))
            if self._edit is not None:
                self._edit.begin(at_first=False)
            known = self._advance(position, image, found, frame, given=True, points_cut=cut)
            return replace(known, held=self._held(labels, image))
        edited = None if self._edit is None else self._edit.first()
        layer = None if self._edit is None else self._edit.layer
        points = None if self._tracker is None else self._tracker.now
        held = None if labels is None else self._held(labels, self._first_image)
        return FrameResult(
            0, labels, confidence, edited, points, layer, labels is not None, held=held
        )

    def _held(self, labels: Labels, image: Image) -> torch.Tensor | None:
        """What the grid holds of an annotated frame, where labels go over it."""
        if self.settings.mode != "label":
            return None
        ids = self.object_ids
        return held_by_grid(labels, self._first, image, ids, self.settings.label)

    def begin(
        self, stretch: Stretch, images: Mapping[int, Image], *, backward: bool = False
    ) -> None:
        """Start on a stretch.

        Args:
            images: uint8 RGB (H, W, 3), the frames of `stretch.known`; the first is not needed.
            backward: from the annotated frame after it, for `propagate_back`.
        """
        self._stretch, self._position = stretch, stretch.first
        self._labels = None
        anchor = stretch.after if backward else stretch.before
        if self.settings.mode == "label" and stretch.known and anchor is not None:
            self._labels = LabelPropagator(
                self.settings.label, self.object_ids, look=self._look_at_box
            )
            for known in self._annotated(images):
                self._labels.annotate(known.descriptors, known.labels, known.image)
        if self._edit is not None and not backward:
            self._begin_edit(self._edit, stretch, images)

    def _begin_edit(
        self, edit: PropagatedEdit, stretch: Stretch, images: Mapping[int, Image]
    ) -> None:
        """Each stretch begins at its annotated frame, so that it depends on no earlier one."""
        before = stretch.before or 0
        edit.begin(at_first=before == 0)
        if before > 0:
            image = images[before]
            edit.step(image, self.annotations[before], self.describe([image])[0])

    def _annotated(self, images: Mapping[int, Image]) -> list[Annotation]:
        assert self._stretch is not None
        known = []
        for position in self._stretch.known:
            image = self._first_image if position == 0 else images[position]
            found = self._first if position == 0 else self.describe([image])[0]
            known.append(Annotation(found, self.annotations[position], image))
        return known

    def propagate_back(
        self, images: Sequence[Image], cuts: Sequence[bool] | None = None
    ) -> dict[str, torch.Tensor]:
        """Soft labels of the frames before those propagated backward last.

        Args:
            images: in the order of the clip; they are propagated from the last to the first.
            cuts: for each, whether a new scene begins with the frame after it.

        Returns:
            `soft` (n, K, h, w) and how far their evidence agreed, `agreement` (n, K, A), both in
            the order of the clip.
        """
        assert self._labels is not None, "begin the stretch backward first"
        found = self.describe(images)
        soft, agreement = [], []
        with self.clock.stage("labels"):
            for n in reversed(range(len(images))):
                if cuts is not None and cuts[n]:
                    self._labels.forget()
                soft.append(self._labels.propagate(found[n], images[n])[0])
                assert self._labels.agreement is not None
                agreement.append(self._labels.agreement)
        return {"soft": torch.stack(soft[::-1]), "agreement": torch.stack(agreement[::-1])}

    def advance(
        self,
        images: Sequence[Image],
        backward: Mapping[str, torch.Tensor] | None = None,
        cuts: Sequence[bool] | None = None,
    ) -> list[FrameResult]:
        """Propagate everything to the next frames of the stretch.

        Args:
            backward: what `propagate_back` gave for these frames, or for more from the same on;
                needed if an annotated frame follows.
            cuts: for each frame, whether a new scene begins with it: there only the annotated
                frames remain as context.

        Raises:
            InputError: a frame of another size than the first.
        """
        for image in images:
            check_same_size(image, self._first_image, "a frame", "the first frame")
        last = self._position + len(images) - 1
        needed = self._stretch_is_forward or self._edit is not None or self._follows(last)
        found: Sequence[DescriptorMap | None] = (
            self.describe(images) if needed else [None] * len(images)
        )
        results = []
        cuts = [False] * len(images) if cuts is None else cuts
        with self.clock.stage("labels"):
            labelled = self._label(images, found, backward, cuts)
        for image, frame, labels, cut in zip(images, found, labelled, cuts, strict=True):
            results.append(self._advance(self._position, image, frame, labels, cut=cut))
            self._position += 1
        return results

    def _follows(self, position: int) -> bool:
        """Whether a point is given in a frame up to there."""
        return bool((self._positions <= position).any())

    def new_tracker(self) -> PointTracker:
        """A tracker of all points, which none has joined."""
        return PointTracker(self.settings.point, len(self._positions), self._matcher)

    def point_positions(self, before: int | None) -> list[int]:
        """The positions of frames that points are given in, in order, up to before one of them."""
        given = {int(p) for p in self._positions}
        return sorted(p for p in given if before is None or p < before)

    def join(
        self, tracker: PointTracker, position: int, found: DescriptorMap, image: Image
    ) -> None:
        """Let the points of a frame join."""
        which = np.flatnonzero(self._positions == position)
        if len(which):
            assert self._points is not None
            tracker.join(which, self._points[which], found, image)

    @property
    def _stretch_is_forward(self) -> bool:
        assert self._stretch is not None, "begin a stretch first"
        return self._stretch.before is not None

    def _label(
        self,
        images: Sequence[Image],
        frames: Sequence[DescriptorMap | None],
        backward: Mapping[str, torch.Tensor] | None,
        cuts: Sequence[bool],
    ) -> Sequence[LabelFrame | None]:
        """The labels of the next frames, None if there are none to propagate."""
        if not self.annotations:
            return [None] * len(frames)
        if self.settings.mode != "label":
            return warp_labels_many(
                self.annotations[0],
                self.object_ids,
                self._first,
                [frame for frame in frames if frame is not None],
                mode=self.settings.mode,
                matcher=self._matcher,
                filters=self.settings.filters,
            )
        assert self._stretch is not None
        require(
            (backward is None) == (self._stretch.after is None),
            "labels propagated backward are needed exactly where an annotated frame follows",
        )
        labelled = []
        for n, (frame, image) in enumerate(zip(frames, images, strict=True)):
            soft = agreement = finer = None
            if backward is not None:
                soft = backward["soft"][n].to(self._first.data.device)
                agreement = backward["agreement"][n]
            if self._labels is not None:
                assert frame is not None
                if cuts[n]:
                    self._labels.forget()
                ahead, finer = self._labels.propagate(frame, image)
                found = self._labels.agreement
                assert found is not None
                share = self._stretch.share(self._position + n)
                if soft is None or agreement is None:
                    soft, agreement = ahead, found
                else:
                    agreement = merge_agreement((ahead, found), (soft, agreement), share=share)
                    soft = merge_soft(ahead, soft, share=share)
            assert soft is not None
            # All frames have the layout of the first.
            config, layout = self.settings.label, self._first
            if self._labels is None and self._look_at_box is not None:
                finer = finer_evidence(soft, layout, image, config, self._look_at_box)
            decided = decide_labels(soft, layout, image, self.object_ids, config, finer)
            labelled.append(replace(decided, agreement=agreement))
        return labelled

    def _advance(
        self,
        position: int,
        image: Image,
        found: DescriptorMap | None,
        labelled: LabelFrame | None,
        *,
        given: bool = False,
        cut: bool = False,
        points_cut: bool = False,
    ) -> FrameResult:
        layer = edited = points = None
        if self._edit is not None:
            assert labelled is not None
            assert found is not None
            with self.clock.stage("edit"):
                if cut:
                    self._edit.begin(at_first=False)
                layer, edited = self._edit.step(image, labelled.labels, found)
        if self._tracker is not None:
            if found is not None and position > 0:  # those of the first frame joined at the start
                with self.clock.stage("points"):
                    self._tracker.step(found, image, cut=cut or points_cut)
                    self.join(self._tracker, position, found, image)
            points = self._tracker.now
        return FrameResult(
            position,
            None if labelled is None else labelled.labels,
            None if labelled is None else labelled.confidence,
            edited,
            points,
            layer,
            given=given,
            cut=cut,
            fits={} if self._edit is None else self._edit.fits,
            agreement=None if labelled is None else labelled.agreement,
        )

    def describe(self, images: Sequence[Image]) -> list[DescriptorMap]:
        """Descriptors of frames as `advance` uses them."""
        with self.clock.stage("describe"):
            found = describe_checked(self._describer, images)
            if found and found[0].data.is_cuda:
                torch.cuda.synchronize(found[0].data.device)  # or its time counts as another's
        return found

    def state(self) -> dict[str, torch.Tensor]:
        """What a later process needs to go on exactly, beside the last frames' images."""
        labels = {} if self._labels is None else self._labels.state()
        return labels | ({} if self._edit is None else self._edit.state())

    def restore(
        self,
        labels: Mapping[str, torch.Tensor],
        context: Sequence[DescriptorMap],
        images: Sequence[Image],
        known: Mapping[int, Image],
        position: int,
    ) -> None:
        """Go on in the stretch begun as if its frames up to `position` had been propagated here.

        Args:
            labels: what `state` gave, as far as it is about labels.
            context: descriptors of the frames of its `soft`, in the order propagated.
            images: uint8 RGB (H, W, 3), these frames.
            known: as in `begin`.
            position: of the frame that `advance` meets next.
        """
        self._position = position
        if self._labels is not None:
            ids = {"object_ids": torch.tensor(self.object_ids)}
            self._labels.restore(ids | dict(labels), context, self._annotated(known), images)

    def restore_edit(self, state: Mapping[str, torch.Tensor], image: Image) -> None:
        """Let the edit go on from what `state` gave.

        Args:
            image: uint8 RGB (H, W, 3), the frame propagated last.
        """
        if self._edit is not None:
            self._edit.restore(state, image)

    def restore_points(
        self,
        now: TrackedPoints | None,
        last: Image,
        joined: Mapping[int, tuple[Image, DescriptorMap | None]],
    ) -> None:
        """Let the points go on.

        Args:
            now: where they are in the frame propagated last.
            last: uint8 RGB (H, W, 3), that frame.
            joined: by position the frames whose points have joined, with their descriptors; None
                where they are described alone.
        """
        if self._tracker is None:
            return
        self._tracker = self.new_tracker()
        for position, (image, found) in joined.items():
            if found is None:
                found = self._first if position == 0 else self.describe([image])[0]
            self.join(self._tracker, position, found, image)
        if now is not None:
            self._tracker.restore(now, last)
