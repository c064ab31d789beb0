"""The DAVIS 2016 / 2017 folder layout: which sequences there are, their frames and their masks.

    root/JPEGImages/480p/<sequence>/00000.jpg ...
    root/Annotations/480p/<sequence>/00000.png ...
    root/ImageSets/480p/val.txt or 2017/val.txt      (only read when a split is asked for)

Endings are those of any image. YouTube-VOS and MOSE have no folder of a resolution, and annotate
some of the frames alone:

    root/JPEGImages/<sequence>/00000.jpg ...
    root/Annotations/<sequence>/00000.png 00005.png ...

Both editions of DAVIS share a layout. DAVIS 2016 masks are 0/255, DAVIS 2017 masks hold object ids
in a palette and 255 where no object is judged. Which edition a mask belongs to is its `year`:

- `2016`: every nonzero pixel is the one object, also in a 2017 mask, whose objects merge;
- `2017`: values are ids, 255 is background;
- None: a mask whose only nonzero value is 255 is of 2016, another of 2017.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from warpkit.checks import InputError, is_file, one_of, require, suggest
from warpkit.io.frames import few_names, frame_files, image_files, natural_key
from warpkit.io.images import open_image
from warpkit.io.masks import read_labels
from warpkit.io.text import read_lines

__all__ = [
    "DAVIS_YEARS",
    "DavisSequence",
    "masks_by_stem",
    "read_davis",
    "read_davis_labels",
    "read_davis_split",
    "read_davis_year",
]

_log = logging.getLogger("warpkit")

DAVIS_YEARS = ("2016", "2017")


@dataclass(frozen=True)
class DavisSequence:
    """An annotated clip, from its first annotated frame to its last.

    Attributes:
        name: the folder's name.
        frame_paths: the frames in order.
        mask_paths: the annotations in the same order, the first frame's among them.
        year: how the annotations are read, `2016` or `2017`; None goes by the first of them.
    """

    name: str
    frame_paths: tuple[Path, ...]
    mask_paths: tuple[Path, ...]
    year: str | None = None

    def __post_init__(self) -> None:
        _check_year(self.year)
        names = self.annotated
        require(
            len(names) == len(self.mask_paths) > 0 and names[0] == 0,
            f"sequence '{self.name}' must have masks that belong to frames, in their order, and one"
            f" of the first; got {len(self.frame_paths)} frames and {len(self.mask_paths)} masks",
        )

    @property
    def annotated(self) -> list[int]:
        """The positions of the annotated frames."""
        stems = {path.stem for path in self.mask_paths}
        return [n for n, path in enumerate(self.frame_paths) if path.stem in stems]

    def __len__(self) -> int:
        return len(self.frame_paths)

    def known_year(self) -> str:
        """The year, `2016` or `2017`, of all annotations of the clip.

        The first annotation decides where none was given: it holds every object, while a later one
        may hold nothing but 255.
        """
        return self.year or read_davis_year(self.mask_paths[0])

    def labels(self) -> Iterator[npt.NDArray[np.uint8]]:
        """The true object ids (H, W) of every annotated frame in order, one read at a time."""
        year = self.known_year()
        return (read_davis_labels(path, year=year) for path in self.mask_paths)


def _check_year(year: str | None) -> None:
    if year is not None:
        one_of(year, DAVIS_YEARS, "DAVIS year")


def read_davis(
    root: Path | str,
    *,
    resolution: str = "480p",
    split: str | None = None,
    sequences: Sequence[str] | None = None,
    year: str | None = None,
) -> tuple[list[DavisSequence], list[str]]:
    """List the sequences of a DAVIS folder.

    Args:
        root: the folder that holds `JPEGImages` and `Annotations`.
        resolution: the folder below those two, `480p` or `Full-Resolution`; where there is none
            and sequences lie in `JPEGImages` itself, these are read.
        split: a list below `ImageSets` without its ending, such as `2017/val` or `480p/val`;
            None takes every sequence that has frames or annotations.
        sequences: keep only these names, in this order.
        year: `2016` or `2017`, how the annotations are to be read; None goes by each clip's first.

    Returns:
        The complete sequences, sorted by name unless `sequences` orders them, and one line for
        every sequence that cannot be used, saying why.

    Raises:
        InputError: if the layout is not there, a split or a name is unknown, or nothing is usable.
    """
    _check_year(year)
    root = Path(root)
    sparse = _is_flat(root / "JPEGImages", resolution)
    below = "." if sparse else resolution
    frames_root = root / "JPEGImages" / below
    masks_root = root / "Annotations" / below
    for folder in (frames_root, masks_root):
        require(
            folder.is_dir(),
            f"{root} is not a DAVIS folder: {folder} is missing;"
            " expected JPEGImages/<resolution>/<sequence> and Annotations/<resolution>/<sequence>,"
            " or both without <resolution>",
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
            folders = frames_root / name, masks_root / name
            complete.append(_read_sequence(name, *folders, year, sparse=sparse))
        except InputError as error:
            problems.append(str(error))
    require(bool(complete), f"no usable sequence in {root}: {'; '.join(problems) or 'it is empty'}")
    return complete, problems


def _is_flat(frames: Path, resolution: str) -> bool:
    """Whether sequences lie in `JPEGImages` itself."""
    if (frames / resolution).is_dir() or not frames.is_dir():
        return False
    return any(image_files(folder) for folder in frames.iterdir() if folder.is_dir())


def _read_sequence(
    name: str, frames: Path, masks: Path, year: str | None, *, sparse: bool
) -> DavisSequence:
    """One sequence; raises `InputError` with the reason if frames and masks do not pair up."""
    found, left_out = frame_files(frames)
    if left_out:
        _log.info("%s: left out, since not a frame: %s", frames, few_names(left_out))
    frame_by_stem = {path.stem: path for path in found}
    mask_by_stem = masks_by_stem(masks)
    require(bool(frame_by_stem), f"sequence '{name}' has no frames in {frames}")
    require(bool(mask_by_stem), f"sequence '{name}' has no masks in {masks}")
    for have, lack, what, where in (
        (frame_by_stem, mask_by_stem, "mask", masks),
        (mask_by_stem, frame_by_stem, "frame", frames),
    ):
        if sparse and what == "mask":
            continue
        missing = sorted(have.keys() - lack.keys())
        require(
            not missing,
            f"sequence '{name}' lacks the {what} of {len(missing)} of its {len(have)}"
            f" items ({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}) in {where}",
        )
    stems = sorted(frame_by_stem, key=natural_key)
    annotated = [stem for stem in stems if stem in mask_by_stem]
    stems = stems[stems.index(annotated[0]) : stems.index(annotated[-1]) + 1]
    return DavisSequence(
        name,
        tuple(frame_by_stem[stem] for stem in stems),
        tuple(mask_by_stem[stem] for stem in annotated),
        year,
    )


def masks_by_stem(folder: Path) -> dict[str, Path]:
    """The masks of a folder by the names of their frames; of several kinds of file PNG counts."""
    files = sorted(image_files(folder), key=lambda path: path.suffix.lower() == ".png")
    return {path.stem: path for path in files}


def read_davis_split(root: Path | str, split: str) -> list[str]:
    """The sequence names of a list below `ImageSets`, in its order.

    Reads both forms: one name a line (2017, and 2016 as reissued) and the original 2016 form, one
    line `/JPEGImages/480p/<sequence>/00000.jpg /Annotations/...` for every frame.

    Raises:
        InputError: if there is no such list, or it is empty.
    """
    folder = Path(root) / "ImageSets"
    path = folder / f"{split}.txt"
    if not is_file(path):
        known = sorted(str(p.relative_to(folder).with_suffix("")) for p in folder.rglob("*.txt"))
        raise InputError(
            f"no split '{split}' in {folder}: it has {', '.join(known) or 'no lists'};"
            " leave the split out to take every sequence"
        )
    names: dict[str, None] = {}
    for line in read_lines(path):
        # A backslash is no part of a sequence's name: Windows tools write frames so.
        frame = line.split()[0].replace("\\", "/")
        names[Path(frame).parent.name if "/" in frame else frame] = None
    require(bool(names), f"the split {path} is empty")
    return list(names)


def read_davis_labels(path: Path | str, *, year: str | None = None) -> npt.NDArray[np.uint8]:
    """Object ids (H, W) of one annotation, 0 = background.

    A DAVIS 2016 mask (0/255, one object) gives ids 0 and 1. In a DAVIS 2017 mask 255 marks void
    pixels, which the official semi-supervised evaluation counts as background.

    Args:
        path: a mask file.
        year: `2016` or `2017`; None goes by the values of this mask alone.

    Raises:
        InputError: for an unknown year, or as `warpkit.io.masks.read_labels`.
    """
    _check_year(year)
    values = _read_values(Path(path))
    if (year or _year_of(values)) == "2016":
        return (values > 0).astype(np.uint8)
    values[values == 255] = 0
    return values


def read_davis_year(path: Path | str) -> str:
    """`2016` if the only nonzero value of a mask is 255, else `2017`.

    Raises:
        InputError: as `warpkit.io.masks.read_labels`.
    """
    return _year_of(_read_values(Path(path)))


def _year_of(values: npt.NDArray[np.uint8]) -> str:
    has_ids = ((values > 0) & (values < 255)).any()
    return "2016" if values.max() == 255 and not has_ids else "2017"


def _read_values(path: Path) -> npt.NDArray[np.uint8]:
    """The values (H, W) of a mask as they are stored.

    `read_labels` makes object 1 of a gray mask that holds one nonzero value. Here the value tells
    void from objects, and object 2 stays object 2 in a frame that object 1 has left.
    """
    image = open_image(path)
    if image.mode == "P":
        palette = np.array(image.getpalette("RGB") or [0, 0, 0], np.uint8).reshape(-1, 3)
        if (palette != palette[:, :1]).any():
            return np.array(image)
        image = image.convert("L")  # a gray ramp: its levels, whatever their order
    gray = np.array(image) if image.mode in ("L", "I", "I;16", "I;16B", "I;16L") else None
    if image.mode == "RGB":
        colors = np.array(image)
        gray = colors[..., 0] if (colors == colors[..., :1]).all() else None
    if gray is not None and gray.max() <= 255 and ((gray == 0) | (gray == gray.max())).all():
        return gray.astype(np.uint8)
    return read_labels(path)
