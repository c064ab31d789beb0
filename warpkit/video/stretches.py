"""The stretches of a clip between annotated frames, and the memory that labels take in them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from warpkit.arrays import Labels
from warpkit.propagate.label_config import label_memory
from warpkit.propagate.passes import Stretch, plan_stretches
from warpkit.runs.memory import require_memory
from warpkit.video.config import PropagateSettings
from warpkit.video.inputs import ClipInputs

__all__ = ["require_label_memory", "stretches_of"]


def stretches_of(annotations: Mapping[int, Labels]) -> list[Stretch]:
    """The parts of a clip between its annotated frames, in order; the last one is open.

    Args:
        annotations: uint8 (H, W) object ids by position.
    """
    if not annotations:  # points alone
        return [Stretch(1, None, 0, None, ())]
    shown = {at: {int(i) for i in np.unique(mask)} - {0} for at, mask in annotations.items()}
    return plan_stretches(shown)


def require_label_memory(
    given: ClipInputs,
    settings: PropagateSettings,
    *,
    cells: int,
    channels: int,
    frames: int | None,
    device: torch.device,
) -> None:
    """Refuse label propagation that needs more memory than there is.

    Args:
        cells: of a frame's map of descriptors, at least.
        channels: of it, at least.
        frames: about how many the clip has, where that is known.

    Raises:
        InputError: names the memory.
    """
    if not given.annotations or settings.mode != "label":
        return
    needed = label_memory(
        settings.label,
        cells=cells,
        channels=channels,
        share=max(float((mask > 0).mean()) for mask in given.annotations.values()),
        annotated=max(len(stretch.known) for stretch in stretches_of(given.annotations)),
        frames=frames or 0,
    )
    require_memory(
        needed,
        "label propagation",
        device=device,
        advice="lower label.refine, label.context or label.top_k, or --size",
    )
