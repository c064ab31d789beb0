"""Score folders of predicted masks against a DAVIS data set, sequences in parallel.

In: `warpkit.datasets.davis.DavisSequence`s and a folder of mask PNGs for each. Out: a
`DavisReport`, and a line for everything that was not scored.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from warpkit.checks import InputError, require
from warpkit.datasets.davis import DavisSequence, read_davis_labels, read_davis_year
from warpkit.evaluate.jaccard import (
    DavisReport,
    SequenceScore,
    mean_sequence_scores,
    score_sequence,
)
from warpkit.runs.progress import Bar

__all__ = ["score_davis"]


def score_davis(
    sequences: Sequence[DavisSequence],
    predictions: Mapping[str, Path | str],
    *,
    all_frames: bool = False,
    workers: int | None = None,
) -> tuple[DavisReport, list[str], list[str]]:
    """Score one folder of masks per sequence.

    A prediction belongs to the annotation of the same name without its ending. Its values are the
    object ids of the first annotation, or any nonzero value if the annotations are of 2016. Other
    PNGs in the folder are not read.

    Several workers are new processes that import the main module: a script that calls this needs
    `if __name__ == "__main__":`, or `workers=1`.

    Args:
        sequences: the true masks.
        predictions: folder of mask PNGs by the sequence's name.
        all_frames: score every frame; else the official frames, 2 to N - 1.
        workers: processes; None takes one per CPU, 1 works in this process. The result is the same.

    Returns:
        The report; a line for every sequence that is left out (predictions missing, unreadable or
        of another size); and a note for every scored folder with PNGs that belong to no frame. All
        in the order of `sequences`.

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
        predicted = (read_davis_labels(path, year=year) for path in paths)
        score = score_sequence(predicted, sequence.labels(), all_frames=all_frames)
    except InputError as error:
        return None, f"sequence '{sequence.name}': {error}", ""
    note = f"sequence '{sequence.name}': {extra} PNGs in {folder} belong to no frame, not read"
    return score, "", note if extra else ""


def _pair_up(sequence: DavisSequence, folder: Path | None) -> tuple[list[Path], int]:
    """The prediction of every annotation, and how many further PNGs there are."""
    require(folder is not None, "it has no predictions")
    assert folder is not None
    require(folder.is_dir(), f"the folder of its predictions, {folder}, is missing")
    by_stem = {path.stem: path for path in folder.glob("[!.]*.png")}
    stems = [path.stem for path in sequence.mask_paths]
    missing = [stem for stem in stems if stem not in by_stem]
    require(
        not missing,
        f"{folder} lacks {len(missing)} of its {len(stems)} frames"
        f" ({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''})",
    )
    return [by_stem[stem] for stem in stems], len(by_stem) - len(stems)
