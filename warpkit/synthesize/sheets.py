"""Contact sheets: pairs with their objects outlined and their labels drawn in."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage

from warpkit.synthesize.records import Record
from warpkit.synthesize.summary import doubtful
from warpkit.viz import draw_matches, overlay_labels, panel

__all__ = ["SHEET", "contact_sheet", "record_image", "record_mask"]

SHEET = 12
"""Pairs a sheet."""


def record_image(record: Record, role: str) -> npt.NDArray[np.uint8]:
    """The image of a kept pair, uint8 RGB (H, W, 3)."""
    file = io.BytesIO(record.files[record.image_name(role)])
    return np.asarray(PilImage.open(file).convert("RGB")).copy()


def record_mask(record: Record, role: str) -> npt.NDArray[np.bool_]:
    """The mask of a kept pair, bool (H, W)."""
    return np.asarray(PilImage.open(io.BytesIO(record.files[f"{role}_mask.png"]))) > 0


def contact_sheet(records: Sequence[Record], *, points: int = 12) -> npt.NDArray[np.uint8]:
    """Draw kept pairs three in a row.

    Args:
        points: labels drawn a pair, the first ones, which are spread.

    Returns:
        uint8 RGB.
    """
    tiles = []
    for record in records:
        source, target = (
            overlay_labels(
                record_image(record, role), record_mask(record, role).astype(np.uint8), alpha=0
            )
            for role in ("source", "target")
        )
        source_xy, target_xy = (
            np.array(record.meta[f"{role}_points"][:points], np.float32)
            for role in ("source", "target")
        )
        drawn = draw_matches(source, target, source_xy, target_xy, height=240)
        mark = " mask?" if doubtful(record) else ""
        tiles.append((f"{record.id}{mark} {record.meta['category']}", drawn))
    return panel(tiles, columns=3, height=240)
