"""Score folders of predicted masks against a DAVIS data set, sequences in parallel.

In: `warpkit.datasets.davis.DavisSequence`s and a folder of mask PNGs for each. Out: a
`DavisReport`, and a line for everything that was not scored.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from warpkit.arrays import Labels
from warpkit.checks import InputError, counted, require
from warpkit.datasets.davis import (
    DavisSequence,
    masks_by_stem,
    read_davis_labels,
    read_davis_year,
)
from warpkit.evaluate.jaccard import (
    DavisReport,
    SequenceScore,
    mean_sequence_scores,
    score_sequence,
)
from warpkit.runs.frame_rows import ROWS, read_rows, result_file
from warpkit.runs.progress import Bar

__all__ = ["prediction_files", "score_davis"]


def score_davis(
    sequences: Sequence[DavisSequence],
    predictions: Mapping[str, Path | str],
    *,
    all_frames: bool = False,
    workers: int | None = None,
) -> tuple[DavisReport, list[str], list[str]]:
    """Score one folder of masks per sequence.

    A prediction belongs to the annotation of the same name without its ending; `prediction_files`
    says which files these are. Its values are the object ids of the first annotation, or any
    nonzero value if the annotations are of 2016. Other files in the folder are not read.

    Several workers are new processes that import the main module: a script that calls this needs
    `if __name__ == "__main__":`, or `workers=1`.

    Args:
        sequences: the true masks.
        predictions: folder of masks by the sequence's name.
        all_frames: score every frame; else the official frames, 2 to N - 1.
        workers: processes; None takes one per CPU, 1 works in this process. The result is the same.

    Returns:
        The report; a line for every sequence that is left out (predictions missing, unreadable or
        of another size); and a note for every scored folder with masks that belong to no frame or
        ids that no annotation has. All in the order of `sequences`.

    Raises:
        InputError: if two sequences share a name or none can be scored.
    """
    names = [sequence.name for sequence in sequences]
    require(len(set(names)) == len(names), "two sequences have the same name")
    require(workers is None or workers >= 1, f"workers must be at least 1 process, got {workers}")
    folders = [None if n not in predictions else Path(predictions[n]) for n in names]
    rules = [all_frames] * len(names)
    bar = functools.partial(Bar, total=len(names), desc="score", unit="sequence", leave=False)
    processes = min(workers or os.cpu_count() or 1, len(names))
    if processes <= 1:
        results = list(bar(map(_score_folder, sequences, folders, rules)))
    else:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            results = list(bar(pool.map(_score_folder, sequences, folders, rules)))

    problems = [problem for _, problem, _ in results if problem]
    notes = [note for _, _, note in results if note]
    scores = {n: score for n, (score, *_) in zip(names, results, strict=True) if score is not None}
    require(bool(scores), f"no sequence could be scored: {'; '.join(problems) or 'there is none'}")
    return mean_sequence_scores(scores), problems, notes


def _score_folder(
    sequence: DavisSequence, folder: Path | None, all_frames: bool
) -> tuple[SequenceScore | None, str, str]:
    """The score or None, why there is none, and a note; texts are empty where nothing is to say."""
    try:
        paths, extra = _pair_up(sequence, folder)
        year = sequence.known_year()
        require(
            year == "2016" or read_davis_year(paths[0]) == "2017",
            f"{paths[0]} is a 0/255 mask but the annotations hold object ids: write their ids, or"
            " read the annotations as one object with year 2016",
        )
        predicted, true = set[int](), set[int]()
        ours = _watched((read_davis_labels(path, year=year) for path in paths), predicted)
        score = score_sequence(ours, _watched(sequence.labels(), true), all_frames=all_frames)
    except InputError as error:
        return None, f"sequence '{sequence.name}': {error}", ""
    notes = [f"{counted(extra, 'mask')} in {folder} without a frame, not read"] if extra else []
    if strange := predicted - true - {0}:
        notes.append(
            f"the predictions hold {_listed(strange)}, which count for nothing: the annotations"
            f" hold {_listed(score.objects)}"
        )
    if later := true - set(score.objects) - {0}:
        notes.append(f"{_listed(later)}: after the first annotation, not scored")
    return score, "", f"sequence '{sequence.name}': {'; '.join(notes)}" if notes else ""


def _watched(labels: Iterable[Labels], seen: set[int]) -> Iterator[Labels]:
    """Labels as they are; their values are added to those seen."""
    for one in labels:
        seen |= {int(value) for value in np.unique(one)}
        yield one


def _listed(ids: Iterable[int]) -> str:
    first, *others = sorted(ids)
    more = f", ... ({len(others) + 1} of them)" if len(others) > 4 else ""
    return f"id{'s' if others else ''} {', '.join(map(str, [first, *others[:4]]))}{more}"


def prediction_files(folder: Path) -> dict[str, Path]:
    """The masks of a sequence by the names of their frames.

    They lie in the folder, or in `masks/` of one that `warpkit propagate` filled, whose table says
    which frame each is of.
    """
    if (folder / ROWS).is_file():
        folder = folder / "masks"
    table = folder.with_name(ROWS)
    if folder.name != "masks" or not table.is_file():
        return masks_by_stem(folder)
    files = {row["name"]: folder / result_file(row) for row in read_rows(table)}
    return {name: path for name, path in files.items() if path.is_file()}


def _pair_up(sequence: DavisSequence, folder: Path | None) -> tuple[list[Path], int]:
    """The prediction of every annotation, and how many masks belong to no frame."""
    require(folder is not None, "it has no predictions")
    assert folder is not None
    require(folder.is_dir(), f"the folder of its predictions, {folder}, is missing")
    by_stem = prediction_files(folder)
    stems = [path.stem for path in sequence.mask_paths]
    missing = [stem for stem in stems if stem not in by_stem]
    require(
        not missing,
        f"{folder} lacks {len(missing)} of its {len(stems)} frames"
        f" ({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''})",
    )
    frames = {path.stem for path in sequence.frame_paths}
    return [by_stem[stem] for stem in stems], len(by_stem.keys() - frames)
