"""The DAVIS 2016 / 2017 folder layout: which sequences there are, their frames and their masks.

    root/JPEGImages/480p/<sequence>/00000.jpg ...
    root/Annotations/480p/<sequence>/00000.png ...
    root/ImageSets/.../val.txt                       (only read when a split is asked for)

Both editions share it. DAVIS 2016 masks are 0/255, DAVIS 2017 masks hold object ids in a palette.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from warpkit.checks import InputError, require, suggest
from warpkit.io.masks import read_labels

__all__ = ["DavisSequence", "read_davis", "read_davis_labels", "read_davis_split"]


@dataclass(frozen=True)
class DavisSequence:
    """One fully annotated clip.

    Attributes:
        name: the folder's name.
        frame_paths: the frames in order.
        mask_paths: the annotation of every frame, in the same order.
    """

    name: str
    frame_paths: tuple[Path, ...]
    mask_paths: tuple[Path, ...]

    def __post_init__(self) -> None:
        require(
            len(self.frame_paths) == len(self.mask_paths) > 0,
            f"sequence '{self.name}' must have one mask for every frame, got"
            f" {len(self.frame_paths)} frames and {len(self.mask_paths)} masks",
        )

    def __len__(self) -> int:
        return len(self.frame_paths)


def read_davis(
    root: Path | str,
    *,
    resolution: str = "480p",
    split: str | None = None,
    sequences: Sequence[str] | None = None,
) -> tuple[list[DavisSequence], list[str]]:
    """List the sequences of a DAVIS folder.

    Args:
        root: the folder that holds `JPEGImages` and `Annotations`.
        resolution: the folder below those two, `480p` or `Full-Resolution`.
        split: a list below `ImageSets` without its ending, such as `2017/val` or `480p/val`;
            None takes every sequence that has frames or annotations.
        sequences: keep only these names, in this order.

    Returns:
        The complete sequences, sorted by name unless `sequences` orders them, and one line for
        every sequence that cannot be used, saying why.

    Raises:
        InputError: if the layout is not there, a split or a name is unknown, or nothing is usable.
    """
    root = Path(root)
    frames_root = root / "JPEGImages" / resolution
    masks_root = root / "Annotations" / resolution
    for folder in (frames_root, masks_root):
        require(
            folder.is_dir(),
            f"{root} is not a DAVIS folder: {folder} is missing;"
            " expected JPEGImages/<resolution>/<sequence> and Annotations/<resolution>/<sequence>",
        )
    present = sorted(
        {p.name for top in (frames_root, masks_root) for p in top.iterdir() if p.is_dir()}
    )
    names = present if split is None else read_davis_split(root, split)
    if sequences is not None:
        for name in sequences:
            require(
                name in names,
                f"unknown sequence '{name}' in {root}: it has {', '.join(names)}."
                f"{suggest(name, names)}",
            )
        names = list(sequences)

    complete: list[DavisSequence] = []
    problems: list[str] = []
    for name in names:
        try:
            complete.append(_read_sequence(name, frames_root / name, masks_root / name))
        except InputError as error:
            problems.append(str(error))
    require(bool(complete), f"no usable sequence in {root}: {'; '.join(problems) or 'it is empty'}")
    return complete, problems


def _read_sequence(name: str, frames: Path, masks: Path) -> DavisSequence:
    """One sequence; raises `InputError` with the reason if frames and masks do not pair up."""
    frame_by_stem = {p.stem: p for p in sorted(frames.glob("*.jpg")) + sorted(frames.glob("*.png"))}
    mask_by_stem = {p.stem: p for p in sorted(masks.glob("*.png"))}
    require(bool(frame_by_stem), f"sequence '{name}' has no frames in {frames}")
    require(bool(mask_by_stem), f"sequence '{name}' has no masks in {masks}")
    for have, lack, what, where in (
        (frame_by_stem, mask_by_stem, "mask", masks),
        (mask_by_stem, frame_by_stem, "frame", frames),
    ):
        missing = sorted(have.keys() - lack.keys())
        require(
            not missing,
            f"sequence '{name}' lacks the {what} of {len(missing)} of its {len(have)}"
            f" items ({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}) in {where}",
        )
    stems = sorted(frame_by_stem)
    return DavisSequence(
        name, tuple(frame_by_stem[s] for s in stems), tuple(mask_by_stem[s] for s in stems)
    )


def read_davis_split(root: Path | str, split: str) -> list[str]:
    """The sequence names of a list below `ImageSets`, in its order.

    Reads both forms: one name a line (2017, and 2016 as reissued) and the original 2016 form, one
    line `/JPEGImages/480p/<sequence>/00000.jpg /Annotations/...` for every frame.

    Raises:
        InputError: if there is no such list, or it is empty.
    """
    folder = Path(root) / "ImageSets"
    path = folder / f"{split}.txt"
    if not path.is_file():
        known = sorted(str(p.relative_to(folder).with_suffix("")) for p in folder.rglob("*.txt"))
        raise InputError(
            f"no split '{split}' in {folder}: it has {', '.join(known) or 'no lists'};"
            " leave the split out to take every sequence"
        )
    names: dict[str, None] = {}
    for line in path.read_text().splitlines():
        if words := line.split():
            names[Path(words[0]).parent.name if "/" in words[0] else words[0]] = None
    require(bool(names), f"the split {path} is empty")
    return list(names)


def read_davis_labels(path: Path | str) -> npt.NDArray[np.uint8]:
    """Object ids (H, W) of one annotation, 0 = background.

    A DAVIS 2016 mask (0/255, one object) gives ids 0 and 1. In a DAVIS 2017 mask 255 marks void
    pixels, which the official semi-supervised evaluation counts as background.
    """
    labels = read_labels(path)
    if not ((labels > 0) & (labels < 255)).any():
        return (labels == 255).astype(np.uint8)
    return np.where(labels == 255, 0, labels).astype(np.uint8)
