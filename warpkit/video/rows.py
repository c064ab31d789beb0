"""What `frames.jsonl` says of a frame.

In: a frame and its result. Out: its row: areas, confidence, what the evidence for the labels says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from warpkit.arrays import Mask
from warpkit.io.frame import Frame
from warpkit.propagate.agreement import AGREEMENTS
from warpkit.runs.frame_rows import Row
from warpkit.video.config import FrameResult

__all__ = ["frame_row", "largest_piece"]


def frame_row(frame: Frame, result: FrameResult, object_ids: Sequence[int], file: str) -> Row:
    """One line of `frames.jsonl`: of every object its area, mean confidence, share of the largest
    piece, agreement of the evidence, what the grid holds; who is absent, cuts.

    Args:
        object_ids: of all objects of the clip.
        file: name of the frame's results.
    """
    row: Row = {"frame": frame.index, "name": frame.name, "time": str(frame.time), "file": file}
    if result.cut:
        row["cut"] = True
    if result.fits:
        row["edit"] = {
            str(i): {"model": fit.model}
            | ({} if fit.agreement is None else {"agreement": fit.agreement})
            | ({"lost": True} if fit.lost else {})
            for i, fit in result.fits.items()
        }
    if result.labels is not None and result.confidence is not None:
        ids = [int(i) for i in np.unique(result.labels) if i > 0]
        inside = {i: result.labels == i for i in ids}
        row["area"] = {str(i): int(inside[i].sum()) for i in ids}
        row["confidence"] = {
            str(i): round(float(result.confidence[inside[i]].mean()), 4) for i in ids
        }
        row["frame_confidence"] = round(result.frame_confidence or 0.0, 4)
        row["largest_piece"] = {str(i): round(largest_piece(inside[i]), 4) for i in ids}
        row["absent"] = [i for i in object_ids if i not in ids]
        row["given"] = result.given
        if result.held is not None:
            pairs = zip(object_ids, result.held.tolist(), strict=True)
            row["held"] = {str(i): round(value, 4) for i, value in pairs if i in inside}
    if result.agreement is not None:
        row["agreement"] = {
            str(i): {
                name: round(value, 4)
                for name, value in zip(AGREEMENTS, values, strict=True)
                if not np.isnan(value)
            }
            for i, values in zip(object_ids, result.agreement.tolist(), strict=True)
        }
    return row


def largest_piece(mask: Mask) -> float:
    """The share of a mask (H, W) in its largest connected piece, diagonals included; 0 if empty."""
    import cv2

    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return float(areas.max() / areas.sum()) if len(areas) else 0.0
