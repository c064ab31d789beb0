"""Masks kept between runs: each sequence propagated once by each method.

A folder of masks is named by the content of all that the masks depend on, appears when it is whole,
and holds a manifest of its files.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warpkit.arrays import Image, Labels
from warpkit.checks import InputError, OutputError, require
from warpkit.datasets.davis import DavisSequence, read_davis_labels
from warpkit.evaluate.commands.shared import method_file_name
from warpkit.evaluate.prediction_cache import ContentHashes, method_digest
from warpkit.io.images import read_image
from warpkit.io.masks import write_labels
from warpkit.io.whole import Partial, write_json
from warpkit.runs.clock import Stopwatch
from warpkit.runs.progress import Bar

__all__ = ["MaskMethod", "propagated_masks"]


@dataclass(frozen=True)
class MaskMethod:
    """A row: its name, all that makes its answers, and how it propagates the first labels."""

    name: str
    identity: Callable[[], dict[str, Any]]
    propagate: Callable[[Iterable[Image], Labels, int], Iterator[Labels]]


def propagated_masks(
    method: MaskMethod,
    sequences: Sequence[DavisSequence],
    store: Path,
    hashes: ContentHashes,
    problems: list[str],
    year: str | None,
) -> tuple[dict[str, Path], float | None]:
    """Folders of the method's masks by sequence, and its mean seconds a frame.

    A folder is named by the content of all that its masks depend on, and appears when it is whole.
    """
    base = store / f"{method_file_name(method.name)}-{method_digest(method.identity())}"
    done: dict[str, Path] = {}
    seconds = 0.0
    frames = 0
    total = sum(map(len, sequences))
    with Bar(total=total, desc=method.name, unit="frame", leave=False) as bar:
        for sequence in sequences:
            try:
                folder = base / f"{sequence.name}-{_sequence_digest(sequence, hashes, year)}"
                spent = _whole(folder, sequence)
                if spent is None:
                    shutil.rmtree(folder, ignore_errors=True)
                    spent = _propagate(method, sequence, folder, year, bar.update)
                else:
                    bar.update(len(sequence))
                done[sequence.name] = folder
                seconds += spent
                frames += len(sequence)
            except InputError as error:
                if isinstance(error, OutputError):
                    raise
                problems.append(f"{method.name}: sequence '{sequence.name}': {error}")
    require(bool(done), f"{method.name} finished no sequence: {problems[-1] if problems else ''}")
    return done, seconds / frames


def _sequence_digest(sequence: DavisSequence, hashes: ContentHashes, year: str | None) -> str:
    digest = hashlib.sha256(str(year).encode())
    for path in (*sequence.frame_paths, sequence.mask_paths[0]):
        digest.update(f"{path.stem} {hashes(path)}\n".encode(errors="backslashreplace"))
    return digest.hexdigest()[:24]


_MANIFEST = "manifest.json"


def _whole(folder: Path, sequence: DavisSequence) -> float | None:
    """The seconds that the kept masks of a sequence took; None unless all are there, unchanged."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        files = {f"{path.stem}.png" for path in sequence.mask_paths}
        hashes = ContentHashes()
        if set(manifest["masks"]) == files and all(
            hashes(folder / name) == known for name, known in manifest["masks"].items()
        ):
            return float(manifest["seconds"])
    except (OSError, ValueError, LookupError, TypeError):  # InputError is a ValueError
        pass
    return None


def _propagate(
    method: MaskMethod,
    sequence: DavisSequence,
    folder: Path,
    year: Any,
    advance: Callable[[int], Any],
) -> float:
    """Write the masks of one sequence into `folder`, which appears when all are there.

    Returns:
        The seconds they took.
    """
    first = read_davis_labels(sequence.mask_paths[0], year=year)
    images = map(read_image, sequence.frame_paths)
    clock = Stopwatch()
    place = Partial(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        place.partial.mkdir()
    except OSError as error:
        raise OutputError(f"cannot keep masks in {folder.parent}: {error.strerror}") from error
    try:
        labels = method.propagate(images, first, len(sequence))
        annotated = set(sequence.annotated)
        for position, path in enumerate(sequence.frame_paths):
            with clock.stage("propagate"):
                propagated = next(labels)
            if position in annotated:
                write_labels(place.partial / f"{path.stem}.png", propagated)
            advance(1)
        seconds = clock.seconds["propagate"]
        hashes = ContentHashes()
        masks = {path.name: hashes(path) for path in sorted(place.partial.glob("*.png"))}
        write_json(place.partial / _MANIFEST, {"seconds": seconds, "masks": masks})
        try:
            place.publish()
        except OSError:
            # Another run may have put its own there meanwhile; it is as good.
            if _whole(folder, sequence) is None:
                raise
        return seconds
    finally:
        place.discard()
