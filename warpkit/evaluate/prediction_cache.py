"""Predictions kept between runs: computed once, scored as often as wanted.

One file of JSON lines per method, one line per pair. What a line answers is hashed from contents:
both image files and the source points, also the target's where the method is given boxes around
them; what a file answers, from all that makes the method. So a changed image, point, weight,
setting, library or line of code is never answered from the cache, a subset of the pairs or another
threshold is, and a killed run goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from warpkit.checks import InputError, OutputError
from warpkit.datasets.pair import AnnotatedPair
from warpkit.evaluate.field_quality import PairQuality
from warpkit.evaluate.predict import PairPrediction
from warpkit.evaluate.prediction_files import plain_points, point_array
from warpkit.io.images import image_size
from warpkit.runs.cache import code_digest, file_sha256

__all__ = ["ContentHashes", "PredictionCache", "code_digest", "method_digest"]


def method_digest(method: Mapping[str, Any]) -> str:
    """A hash of everything that makes a method's answers."""
    text = json.dumps(method, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class ContentHashes:
    """Hashes of files by their content, each file read once."""

    def __init__(self) -> None:
        self._known: dict[Path, str] = {}

    def __call__(self, path: Path) -> str:
        """The SHA-256 of a file.

        Raises:
            InputError: it cannot be read.
        """
        if path not in self._known:
            self._known[path] = file_sha256(path)
        return self._known[path]


class PredictionCache:
    """The predictions of one method.

    Args:
        folder: where the files are; made when something is added.
        method: all that makes the method's answers, JSON-able; `method` is its name.
        hashes: shared between caches so that every image is read once.
    """

    def __init__(
        self, folder: Path, method: Mapping[str, Any], hashes: ContentHashes | None = None
    ) -> None:
        self.path = folder / f"{method['method']}-{method_digest(method)}.jsonl"
        self._method = dict(method)
        self._hashes = hashes or ContentHashes()
        self._lines: dict[str, dict[str, Any]] = {}
        self.memory_mb: float | None = None
        if self.path.is_file():
            self._load()

    def _load(self) -> None:
        for text in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue  # the end of a killed run
            if not isinstance(line, dict):
                continue
            if isinstance(line.get("key"), str):
                self._lines[line["key"]] = line
            if isinstance(line.get("memory_mb"), int | float):
                self.memory_mb = max(self.memory_mb or 0.0, line["memory_mb"])

    def _key(self, pair: AnnotatedPair) -> str:
        digest = hashlib.sha256()
        digest.update(self._hashes(pair.source_path).encode())
        digest.update(self._hashes(pair.target_path).encode())
        digest.update(np.ascontiguousarray(pair.source_points).tobytes())
        if self._method.get("boxes"):
            digest.update(np.ascontiguousarray(pair.target_points).tobytes())
            digest.update(repr((pair.source_box, pair.target_box)).encode())
        return digest.hexdigest()[:32]

    def find(self, pair: AnnotatedPair) -> PairPrediction | None:
        """The prediction made earlier for these very images and points, or None."""
        line = self._lines.get(self._key(pair))
        if line is None:
            return None
        seconds, figures = line.get("seconds"), line.get("quality")
        try:
            predicted = point_array(line.get("predicted"), len(pair), "the cached line")
            quality = None if figures is None else PairQuality.from_json(figures, "its quality")
        except InputError:
            return None  # damaged: predicted again
        height, width = image_size(pair.target_path)
        known = seconds if isinstance(seconds, int | float) else None
        return PairPrediction(pair, predicted, height, width, known, quality)

    def add(self, prediction: PairPrediction) -> None:
        """Keep a prediction; it is in the file when this returns."""
        key = self._key(prediction.pair)
        line: dict[str, Any] = {
            "key": key,
            "predicted": plain_points(prediction.predicted),
            "seconds": prediction.seconds,
        }
        if prediction.quality is not None:
            line["quality"] = prediction.quality.to_json()
        self._lines[key] = line
        self._append(line)

    def add_memory(self, megabytes: float) -> None:
        """Keep what a run took in memory; `memory_mb` is the most of all runs."""
        self.memory_mb = max(self.memory_mb or 0.0, megabytes)
        self._append({"memory_mb": round(megabytes, 1)})

    def _append(self, line: Mapping[str, Any]) -> None:
        try:
            fresh = not self.path.exists()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                if fresh:
                    file.write(json.dumps(self._method, default=str) + "\n")
                # A killed run may have left half a line; a newline first ends it.
                file.write(("" if fresh else "\n") + json.dumps(line) + "\n")
        except OSError as error:
            raise OutputError(
                f"cannot keep predictions in {self.path.parent}: {error.strerror}; choose another"
                " folder with --cache, or --no-cache"
            ) from error
