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

# Files of masks by the index of a frame, as text by what a user calls it, or by their own path
# where their name has to tell.
MasksByFrame = (
    Mapping[int, Path]
    | Mapping[int, Path | str]
    | Mapping[Path, Path | str]
    | Mapping[int | str | Path, Path | str]
)

_log = logging.getLogger("warpkit")


def parse_masks(texts: Sequence[str]) -> dict[int | str | Path, Path | str]:
    """Mask files by frame from `FRAME=FILE`, and by their own path from `FILE`; see `by_index`.

    Raises:
        InputError: two masks of one frame.
    """
    masks: dict[int | str | Path, Path | str] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        named = bool(equals and name and file)
        if named and not re.fullmatch("[0-9]+", name):
            named = not is_file(text) and is_file(file)  # a file's name may hold a =
        frame = name if named else Path(text)
        require(
            frame not in masks, f"{frame} is given two masks: write --mask FRAME=PNG for others"
        )
        masks[frame] = Path(file if named else text)
    return masks


def by_index(masks: MasksByFrame, frames: Frames, *, start: int = 0) -> dict[int, Path | str]:
    """Masks by the index of their frame; says where a name is not the index.

    A text is what a user calls a frame, a number or a file's name (`Frames.find`). A file under
    its own path is of the first frame, or of a later one whose name or number is that of the mask.

    Args:
        start: index of the first frame taken.

    Raises:
        InputError: a name that no frame has, or two masks of one frame.
    """
    found: dict[int, Path | str] = {}
    for name, path in masks.items():
        own = frames.named(name.stem) if isinstance(name, Path) else None
        if isinstance(name, Path):
            index = max(start, own or 0)
        else:
            index = name if isinstance(name, int) else frames.find(name)
        file = Path(frames.called(index)).stem
        require(
            index not in found,
            f"frame {file if isinstance(name, Path) else name} has two masks: {found.get(index)}"
            f" and {path}: write --mask FRAME=PNG for those of other frames",
        )
        found[index] = path
        text, numbered = name.stem if isinstance(name, Path) else str(name), _is_number(file, index)
        # A frame that was named for sure needs no words.
        sure = not text.isdecimal() or (_is_number(text, index) and numbered)
        if index == own != start or (isinstance(name, str) and not sure):
            which = "" if numbered else f" (number {index}, counted from 0)"
            _log.info("the mask %s is used for frame %s%s", path, file, which)
        elif isinstance(name, Path) and own != index and not (sure or _is_number(text, start)):
            _log.info(
                "the mask %s is used for the first frame, %s; if it is of another frame, write"
                " --mask FRAME=%s",
                *(path, file, path),
            )
    return found


def _is_number(name: str, number: int) -> bool:
    """Whether a name is this number, with any zeros before it."""
    return re.fullmatch("[0-9]+", name) is not None and name.lstrip("0") == str(number or "")


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
