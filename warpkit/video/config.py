"""What a propagation is told, and what it gives for a frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from warpkit.arrays import Image
from warpkit.checks import require
from warpkit.describe.options import TaskSettings
from warpkit.io.config import flat
from warpkit.match.settings import MatchFilters
from warpkit.propagate import (
    EditConfig,
    EditFit,
    EditLayer,
    LabelConfig,
    PointConfig,
    TrackedPoints,
)

__all__ = ["FrameResult", "PropagateSettings"]

EditMode = Literal["track", "rigid", "affine", "planar", "free", "backward-warp", "forward-warp"]


@dataclass(frozen=True, kw_only=True)
class PropagateSettings(TaskSettings):
    """How things are propagated through a clip.

    Attributes:
        mode: `label` propagates masks with context frames; `backward-warp` and `forward-warp` (the
            paper's way) warp the first frame's masks, by the dense field of descriptors.
        edit_mode: how an edit is propagated. `rigid`, `affine` and `planar` move it as one flat
            part: moved, turned and resized; sheared as well; seen in perspective. `free` bends it
            with the object, by a smooth field from frame to frame. `track` takes, for every object,
            what explains the frames best. `backward-warp` and `forward-warp` (the paper's way, its
            holes filled backward) use the dense field of descriptors alone.
        edit: settings of `track`, and how an edit is blended.
        label: settings of label propagation.
        filters: which matches of dense fields count (of both warps).
        point: settings of point tracking.
        cuts: what to do where a new scene begins: `restart` goes on from the annotated frames
            alone, without the last predictions, `stop` ends the run before it, `ignore` does not
            look for scenes.
        cut_threshold: how different two frames must be for that, 0 to 1.
        chunk: frames described together; by default 4 on a CPU and 16 on a GPU.
    """

    mode: Literal["label", "backward-warp", "forward-warp"] = "label"
    edit_mode: EditMode = "track"
    edit: EditConfig = field(default_factory=EditConfig)
    label: LabelConfig = field(default_factory=LabelConfig)
    filters: MatchFilters = flat(MatchFilters(max_pairs=4e8))
    point: PointConfig = field(default_factory=PointConfig)
    cuts: Literal["restart", "stop", "ignore"] = "restart"
    cut_threshold: float = 0.35
    chunk: int | None = None

    def __post_init__(self) -> None:
        require(
            self.chunk is None or self.chunk >= 1,
            f"chunk must be at least 1 frame, got {self.chunk}",
        )
        require(
            0 < self.cut_threshold <= 1,
            f"cut_threshold must lie between 0 and 1, got {self.cut_threshold}",
        )

    @property
    def threshold(self) -> float | None:
        """How different two frames of different scenes are; None does not look for scenes."""
        return None if self.cuts == "ignore" else self.cut_threshold


@dataclass(frozen=True, eq=False)
class FrameResult:
    """What was propagated to one frame.

    Attributes:
        position: 0 for the first frame.
        labels: uint8 (H, W), object ids, or None if nothing was labelled.
        confidence: float32 (H, W) in [0, 1], or None like `labels`.
        edited: uint8 (H, W, 3), the frame with the edit on it, or None without an edit.
        points: where the points are, or None without points.
        layer: the edit alone, or None without an edit; where it lies exactly as in `edited`, unless
            that is blended by `poisson`.
        fits: by object, how its edit was propagated; empty without an edit and for the first frame,
            and where the dense field of descriptors alone is used.
        given: whether the labels are an annotation rather than propagated.
        cut: whether a new scene begins with this frame.
        agreement: float32 (K, n) on the CPU, how far the evidence for the labels of every object
            agrees, in the columns of `warpkit.propagate.agreement.AGREEMENTS`, or None.
        held: float32 (K,), of a given frame, how much of every object the grid holds (see
            `warpkit.propagate.held`), or None.
    """

    position: int
    labels: npt.NDArray[np.uint8] | None
    confidence: npt.NDArray[np.float32] | None
    edited: Image | None
    points: TrackedPoints | None
    layer: EditLayer | None = None
    given: bool = False
    cut: bool = False
    fits: Mapping[int, EditFit] = field(default_factory=dict)
    agreement: torch.Tensor | None = None
    held: torch.Tensor | None = None

    @property
    def frame_confidence(self) -> float | None:
        """Mean confidence of the pixels shown as objects; 0 where none is shown."""
        if self.labels is None or self.confidence is None:
            return None
        inside = self.labels > 0
        return float(self.confidence[inside].mean()) if inside.any() else 0.0
