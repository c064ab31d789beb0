"""What a propagation is told, and what it gives for a frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from warpkit.checks import require
from warpkit.jobs.options import ModelOptions, check_filters
from warpkit.propagate import LabelConfig
from warpkit.propagate.points import TrackedPoints

__all__ = ["FrameResult", "PropagateConfig"]

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
        given: whether the labels are an annotation rather than carried.
        edited: uint8 (H, W, 3), the frame with the edit on it, or None without an edit.
        points: where the points are, or None without points.
    """

    position: int
    labels: npt.NDArray[np.uint8] | None
    confidence: npt.NDArray[np.float32] | None
    edited: Image | None
    points: TrackedPoints | None
    given: bool = False

    @property
    def frame_confidence(self) -> float | None:
        """Mean confidence of the pixels shown as objects; 0 where none is shown."""
        if self.labels is None or self.confidence is None:
            return None
        inside = self.labels > 0
        return float(self.confidence[inside].mean()) if inside.any() else 0.0
