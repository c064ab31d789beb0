"""Carry masks, an edit and points through the stretches of a clip, chunk by chunk.

In: the annotations, then frames in chunks. Out: one `FrameResult` per frame. Who reads the frames
and keeps the results is for the caller: `warpkit.video.propagation` in memory, `warpkit.video.run`
in files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from warpkit.checks import check_same_size, require
from warpkit.match.matcher import Matcher
from warpkit.propagate import (
    Annotation,
    EditLayer,
    LabelFrame,
    LabelPropagator,
    carry_labels_many,
)
from warpkit.propagate.labels import decide_labels
from warpkit.propagate.passes import Stretch, merge_soft, plan_stretches
from warpkit.propagate.points import PointTracker
from warpkit.runs.clock import Stopwatch
from warpkit.types import Describer, DescriptorMap
from warpkit.video.config import FrameResult, PropagateSettings
from warpkit.video.edits import EditCarrier
from warpkit.video.given import Given

__all__ = ["Propagation"]

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
        settings: how to carry; the model options of it are not used here.
        matcher: matching engine of the dense fields; None picks one.

    Attributes:
        clock: seconds by stage so far: `describe`, `labels`, `edit`, `points`.
        chunk: frames that are described together.

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
        settings: PropagateSettings | None = None,
        matcher: Matcher | None = None,
    ) -> None:
        self.settings = settings or PropagateSettings()
        given = Given.checked(
            first,
            labels=labels,
            annotations=annotations,
            edit=edit,
            points=points,
            mode=self.settings.mode,
        )
        self._describer, self._matcher = describer, matcher
        self._points = given.points
        self.annotations = given.annotations
        masks = given.annotations.values()
        self.object_ids = sorted({int(i) for mask in masks for i in np.unique(mask)} - {0})
        self._first_image = first
        self.clock = Stopwatch()
        self._first = self.describe([first])[0]
        self.chunk = self.settings.chunk or (16 if self._first.data.is_cuda else 4)
        self._edit: EditCarrier | None = None
        if given.edit is not None:
            self._edit = EditCarrier(
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
            self._tracker = PointTracker(self.settings.point, len(self._points), matcher)
            self._tracker.join(np.arange(len(self._points)), self._points, self._first, first)
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
            if self._edit is not None:
                self._edit.begin(at_first=False)
            return self._carry(position, image, found, frame, given=True)
        edited = None if self._edit is None else self._edit.first()
        layer = None if self._edit is None else self._edit.layer
        points = None if self._tracker is None else self._tracker.now
        return FrameResult(0, labels, confidence, edited, points, layer, labels is not None)

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
        if self.settings.mode == "label" and stretch.known and anchor is not None:
            self._labels = LabelPropagator(self.settings.label, self.object_ids)
            for known in self._annotated(images):
                self._labels.annotate(known.descriptors, known.labels, known.image)
        if self._edit is not None and not backward:
            self._begin_edit(self._edit, stretch, images)

    def _begin_edit(self, edit: EditCarrier, stretch: Stretch, images: Mapping[int, Image]) -> None:
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

    def carry_back(
        self, images: Sequence[Image], cuts: Sequence[bool] | None = None
    ) -> torch.Tensor:
        """Soft labels of the frames before those carried back last.

        Args:
            images: in the order of the clip; they are carried from the last to the first.
            cuts: for each, whether a new scene begins with the frame after it.

        Returns:
            float (n, K, h, w), in the order of the clip.
        """
        assert self._labels is not None, "begin the stretch backward first"
        found = self.describe(images)
        soft = []
        with self.clock.stage("labels"):
            for n in reversed(range(len(images))):
                if cuts is not None and cuts[n]:
                    self._labels.forget()
                soft.append(self._labels.carry(found[n], images[n]))
        return torch.stack(soft[::-1])

    def advance(
        self,
        images: Sequence[Image],
        backward: torch.Tensor | None = None,
        cuts: Sequence[bool] | None = None,
    ) -> list[FrameResult]:
        """Carry everything to the next frames of the stretch.

        Args:
            backward: float (n, K, h, w), what `carry_back` gave for these frames; needed if an
                annotated frame follows.
            cuts: for each frame, whether a new scene begins with it: there only the annotated
                frames remain as context.

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
        cuts = [False] * len(images) if cuts is None else cuts
        with self.clock.stage("labels"):
            labelled = self._label(images, found, backward, cuts)
        for image, frame, labels, cut in zip(images, found, labelled, cuts, strict=True):
            results.append(self._carry(self._position, image, frame, labels, cut=cut))
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
        cuts: Sequence[bool],
    ) -> Sequence[LabelFrame | None]:
        """The labels of the next frames, None if there are none to carry."""
        if not self.annotations:
            return [None] * len(frames)
        if self.settings.mode != "label":
            return carry_labels_many(
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
            "labels carried back are needed exactly where an annotated frame follows",
        )
        labelled = []
        for n, (frame, image) in enumerate(zip(frames, images, strict=True)):
            soft = None if backward is None else backward[n].to(self._first.data.device)
            if self._labels is not None:
                assert frame is not None
                if cuts[n]:
                    self._labels.forget()
                ahead = self._labels.carry(frame, image)
                share = self._stretch.share(self._position + n)
                soft = ahead if soft is None else merge_soft(ahead, soft, share=share)
            assert soft is not None
            # All frames have the layout of the first.
            labelled.append(
                decide_labels(soft, self._first, image, self.object_ids, self.settings.label)
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
        cut: bool = False,
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
            assert found is not None
            with self.clock.stage("points"):
                points = self._tracker.step(found, image, cut=cut)
        return FrameResult(
            position,
            None if labelled is None else labelled.labels,
            None if labelled is None else labelled.confidence,
            edited,
            points,
            layer,
            given=given,
            cut=cut,
        )

    def describe(self, images: Sequence[Image]) -> list[DescriptorMap]:
        """Descriptors of frames as `advance` uses them."""
        with self.clock.stage("describe"):
            found = self._describer.describe(images)
            if found and found[0].data.is_cuda:
                torch.cuda.synchronize(found[0].data.device)  # or its time counts as another's
        return found

    def state(self) -> dict[str, torch.Tensor]:
        """What a later process needs to go on exactly, beside the last frames' images."""
        labels = {} if self._labels is None else self._labels.state()
        return labels | ({} if self._edit is None else self._edit.state())

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

    @property
    def needs_last_frame(self) -> bool:
        """Whether `restore_edit` must follow `restore`."""
        return self._edit is not None

    def restore_edit(self, state: dict[str, torch.Tensor], image: Image) -> None:
        """Let the edit go on from what `state` gave.

        Args:
            image: uint8 RGB (H, W, 3), the frame carried last.
        """
        if self._edit is not None:
            self._edit.restore(state, image)
