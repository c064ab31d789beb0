"""What a user gives to be propagated through a clip, checked against its first frame.

In: labels, annotations, an edit, points. Out: `ClipInputs`, which holds only what fits.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from warpkit.arrays import Image, Labels
from warpkit.checks import check_image, check_points, check_same_size, require, usable_array
from warpkit.propagate import EditLayer
from warpkit.video.edits import usable_edit

__all__ = ["ClipInputs"]

_log = logging.getLogger("warpkit")


@dataclass(frozen=True, eq=False)
class ClipInputs:
    """What is propagated.

    Attributes:
        annotations: uint8 (H, W) object ids by position, in order; the edit's own region if there
            is an edit and no labels.
        outlined: whether the annotations outline objects, rather than where the edit is.
        edit: the part of the edit that can be propagated, or None.
        points: float32 (N, 2), pixels of their frames, or None.
        positions: int64 (N,), the position of the frame that each point is given in.
    """

    annotations: dict[int, Labels]
    outlined: bool
    edit: EditLayer | None
    points: npt.NDArray[np.float32] | None
    positions: npt.NDArray[np.int64]

    def without_points(self) -> ClipInputs:
        """The same, with no points to follow."""
        return replace(self, points=None, positions=np.zeros(0, np.int64))

    @classmethod
    def checked(
        cls,
        first: Image,
        *,
        labels: Labels | None,
        annotations: Mapping[int, Labels] | None,
        edit: EditLayer | None,
        points: npt.ArrayLike | None,
        positions: npt.NDArray[np.int64] | None = None,
        mode: str,
    ) -> ClipInputs:
        """What `Propagation` is given, in its terms.

        Args:
            positions: of the frames that the points are given in; None for the first frame.

        Raises:
            InputError: nothing to propagate, or inputs that do not fit the frame or the mode.
        """
        first = check_image(first, "the first frame")
        known = {at: usable_array(mask) for at, mask in (annotations or {}).items()}
        if labels is not None:
            require(0 not in known, "give the first frame's labels once, not in annotations too")
            known[0] = usable_array(labels)
        require(
            bool(known) or edit is not None or points is not None,
            "nothing to propagate: give a mask, an edit or points of the first frame",
        )
        for position, mask in known.items():
            _check_annotation(position, mask, first)
        require(
            not known or any(bool(mask.any()) for mask in known.values()),
            "the mask is empty (no pixel is set)",
        )
        require(
            set(known) <= {0} or mode == "label",
            f"mode {mode} propagates masks from the first frame alone: use mode label for"
            " annotations of other frames",
        )
        _tell_of_new_objects(known)
        outlined = bool(known)
        if edit is not None:
            require(
                0 in known or not known,
                "an edit belongs to the first frame: give the first frame's mask too, or no mask",
            )
            edit = usable_edit(edit, first, known[0] > 0 if known else None)
            if not known:
                solid = edit.alpha > 0.5
                known[0] = (solid if solid.any() else edit.alpha > 0).astype(np.uint8)
        if points is not None:
            points = check_points(points, height=first.shape[0], width=first.shape[1])
        if positions is None:
            positions = np.zeros(0 if points is None else len(points), np.int64)
        return cls({p: known[p] for p in sorted(known)}, outlined, edit, points, positions)


def _check_annotation(position: int, labels: Labels, first: Image) -> None:
    name = "the mask" if position == 0 else f"the mask of frame {position}"
    require(
        isinstance(labels, np.ndarray) and labels.ndim == 2 and labels.dtype == np.uint8,
        ("labels" if position == 0 else name)
        + " must be a uint8 array (height, width) of object ids",
    )
    check_same_size(labels, first, name, "the first frame")


def _tell_of_new_objects(known: Mapping[int, Labels]) -> None:
    """Say where a mask that brings a new object leaves out one that another mask holds."""
    before: set[int] = set()
    for position in sorted(known):
        here = set(np.unique(known[position]).tolist()) - {0}
        gone = sorted(before - here)
        if gone and here - before:
            _log.warning(
                "the mask of frame %d brings object %s and lacks object %s, which counts as absent"
                " from that frame: draw it in as well if it is there",
                position,
                ", ".join(map(str, sorted(here - before))),
                ", ".join(map(str, gone)),
            )
        before |= here
