"""Edited clips against the truth: colour error inside the object, flicker along the true motion.

In: edited frames, the renderer's own re-textured frames, object masks and true motion. Out: numbers
in [0, 1] of the colour range. `flow_edits` is the baseline to beat: chained optical flow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from warpkit.checks import check_image, check_same_size
from warpkit.evaluate.baselines import flow_places
from warpkit.propagate.edits import EditLayer, composite
from warpkit.propagate.object_fields import sample

__all__ = ["edit_error", "flicker", "flow_edits"]

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def flow_edits(images: Iterable[Image], layer: EditLayer) -> Iterator[Image]:
    """An edit of the first frame propagated by chained optical flow, as `flow_labels` does masks.

    Args:
        images: uint8 RGB frames (H, W, 3), read one at a time.
        layer: over the first frame.

    Yields:
        Every frame with the edit on it, the first included.
    """
    for image, first_xy in flow_places(images, height=layer.height, width=layer.width):
        moved = np.clip(sample(layer.premultiplied, first_xy), 0, 1)
        yield composite(image, EditLayer(moved))


def edit_error(edited: Image, truth: Image, mask: Mask) -> float | None:
    """Mean absolute colour error inside the object, 0 to 1; None where it is not seen.

    Args:
        edited: uint8 (H, W, 3), the frame with the propagated edit.
        truth: uint8 (H, W, 3), the frame as a perfect edit makes it.
        mask: bool (H, W), the true object.
    """
    check_image(edited, "the edited frame")
    check_image(truth, "the true frame")
    check_same_size(edited, truth, "the edited frame", "the true frame")
    check_same_size(edited, mask, "the edited frame", "the mask")
    if not mask.any():
        return None
    return float(np.abs(edited[mask].astype(np.float64) - truth[mask]).mean() / 255)


def flicker(
    before: Image, frame: Image, before_xy: npt.NDArray[np.float32], seen: Mask
) -> float | None:
    """Mean absolute colour difference of neighbouring frames along the motion, 0 to 1.

    Args:
        before: uint8 (H, W, 3), the frame before.
        frame: uint8 (H, W, 3), the frame.
        before_xy: float32 (H, W, 2), where every pixel was one frame before.
        seen: bool (H, W), the pixels that count: on the object, and seen in both frames.

    Returns:
        None if no pixel counts.
    """
    check_image(before, "the frame before")
    check_image(frame, "the frame")
    check_same_size(before, frame, "the frame before", "the frame")
    check_same_size(frame, seen, "the frame", "the mask")
    if not seen.any():
        return None
    moved = sample(before.astype(np.float32), before_xy)
    return float(np.abs(frame[seen] - moved[seen]).mean() / 255)
