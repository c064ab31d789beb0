"""Masks of a clip that a user gives: which frame each is of, and what it holds.

In: files by what a user calls a frame. Out: object ids by the frame's position.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from warpkit.checks import check_same_size, is_file, require
from warpkit.io.frame import Frame, Frames
from warpkit.io.masks import read_objects
from warpkit.video.clip import FileClip

__all__ = ["MasksByFrame", "by_index", "parse_masks", "read_annotations"]

# Files of masks by the index of a frame, or as text by what a user calls it.
MasksByFrame = Mapping[int, Path] | Mapping[int, Path | str] | Mapping[int | str, Path | str]

_log = logging.getLogger("warpkit")


def parse_masks(texts: Sequence[str], *, start: int = 0) -> dict[int | str, Path]:
    """Mask files by frame from `FILE` (of frame `start`) and `FRAME=FILE`.

    A frame is what a user calls it, a number or a file's name: `Frames.find` tells which it is.

    Raises:
        InputError: two masks of one frame.
    """
    masks: dict[int | str, Path] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        named = bool(equals and name and file)
        if named and not re.fullmatch("[0-9]+", name):
            named = not is_file(text) and is_file(file)  # a file's name may hold a =
        frame = name if named else start
        require(
            frame not in masks, f"frame {frame} has two masks: write --mask FRAME=PNG for others"
        )
        masks[frame] = Path(file if named else text)
    return masks


def by_index(masks: MasksByFrame, frames: Frames) -> dict[int, Path | str]:
    """Masks by the index of their frame; says where a name is not the index.

    Raises:
        InputError: a name that no frame has, or two masks of one frame.
    """
    found: dict[int, Path | str] = {}
    for name, path in masks.items():
        index = name if isinstance(name, int) else frames.find(name)
        require(index not in found, f"frame {name} has two masks: {found.get(index)} and {path}")
        found[index] = path
        file = Path(frames.called(index)).stem
        if isinstance(name, str) and name.isdecimal() and not name == file == str(index):
            _log.info("the mask %s is of the frame that is called %s, number %d", path, file, index)
    return found


def read_annotations(
    masks: Mapping[int, Path | str], clip: FileClip, first: Frame
) -> dict[int, npt.NDArray[np.uint8]]:
    """Masks by the position of their frame among those selected.

    Raises:
        InputError: one of another size, or of a frame that is not selected, or all are empty.
    """
    found = {}
    for index, path in sorted(masks.items()):
        labels = read_objects(path)
        check_same_size(labels, first.image, f"the mask {path}", "the first frame")
        position = clip.position_of(index)
        require(
            position is not None,
            f"the mask {path} is of frame {index}, which is not among the frames taken"
            f" {clip.selection()}",
        )
        assert position is not None
        found[position] = labels
    require(
        not found or any(bool(labels.any()) for labels in found.values()),
        f"the mask {' and '.join(map(str, masks.values()))} is empty (no pixel is set)",
    )
    return found
