"""Where a method puts the points of annotated pairs: one `PairPrediction` per pair."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from warpkit.checks import InputError, check_same_size, require
from warpkit.io.images import read_image
from warpkit.io.pairs import AnnotatedPair
from warpkit.match.matcher import Matcher
from warpkit.match.points import match_points
from warpkit.types import Describer, DescriptorMap

__all__ = ["THRESHOLDS", "PairPrediction", "Threshold", "predict_pairs"]

Threshold = Literal["image", "box"]
THRESHOLDS: tuple[Threshold, ...] = ("image", "box")


@dataclass(frozen=True, eq=False)
class PairPrediction:
    """Where a method puts the source points of one pair in the target image.

    Attributes:
        pair: the annotated pair.
        predicted: float32 (N, 2), pixels of the target image; NaN where there is no match.
        height: height of the target image in pixels.
        width: width of the target image in pixels.
        seconds: what the prediction took, None where nobody measured it.
    """

    pair: AnnotatedPair
    predicted: npt.NDArray[np.float32]
    height: int
    width: int
    seconds: float | None = None

    def __post_init__(self) -> None:
        check_same_size(
            self.predicted, self.pair.target_points, "the predicted points", "the true points"
        )
        require(
            self.height > 0 and self.width > 0,
            f"the target image needs a positive size, got {self.height} x {self.width}",
        )

    def length(self, threshold: Threshold) -> float:
        """L in pixels: the longer side of the target image or of the target box."""
        if threshold == "image":
            return max(self.height, self.width)
        x1, y1, x2, y2 = self.pair.target_box
        return max(x2 - x1, y2 - y1)


def predict_pairs(
    describer: Describer,
    pairs: Sequence[AnnotatedPair],
    *,
    matcher: Matcher | None = None,
    subpixel: bool = False,
    batch: int = 8,
    keep_bytes: int = 2**30,
    problems: list[str] | None = None,
) -> Iterator[PairPrediction]:
    """Match the source points of every pair to the target image, lazily and in order.

    The query is the descriptor at the exact (sub-pixel) point. Every image is described once for
    all the pairs that hold it and forgotten after the last of them, so pairs sorted by folder
    need the memory of one folder.

    Args:
        describer: turns images into descriptor maps.
        pairs: what to predict.
        matcher: the engine; None takes the default of `match_points`.
        subpixel: refine every match by a window soft-argmax; published numbers do without.
        batch: pairs whose images are described together.
        keep_bytes: most memory of maps kept for later pairs; an image whose map had to go is
            described again.
        problems: a list that gets one line for every pair whose image cannot be read, which is
            then left out; None makes it an error.

    Yields:
        One prediction per pair.

    Raises:
        InputError: an image that cannot be read, without `problems`.
    """
    require(batch > 0, f"batch must be positive, got {batch}")
    pending = Counter(path for pair in pairs for path in _images(pair))
    maps: dict[Path, DescriptorMap] = {}
    broken: dict[Path, InputError] = {}
    for start in range(0, len(pairs), batch):
        started = time.perf_counter()
        group = pairs[start : start + batch]
        missing = dict.fromkeys(path for pair in group for path in _images(pair))
        pixels = {}
        for path in missing:
            if path not in maps and path not in broken:
                try:
                    pixels[path] = read_image(path)
                except InputError as error:
                    if problems is None:
                        raise
                    broken[path] = error
        if pixels:
            maps.update(zip(pixels, describer.describe(list(pixels.values())), strict=True))
        found = []
        for pair in group:
            reasons = [broken[path] for path in _images(pair) if path in broken]
            if reasons and problems is not None:
                problems.append(f"pair {pair.source_path} -> {pair.target_path}: {reasons[0]}")
            else:
                source, target = maps[pair.source_path], maps[pair.target_path]
                found.append((pair, _match(source, target, pair, matcher, subpixel), target))
            for path in _images(pair):
                pending[path] -= 1
                if pending[path] == 0:
                    maps.pop(path, None)
        held = sum(_bytes(described) for described in maps.values())
        for path in list(maps):
            if held <= keep_bytes:
                break
            held -= _bytes(maps.pop(path))
        seconds = (time.perf_counter() - started) / max(1, len(found))
        for pair, predicted, target in found:
            yield PairPrediction(pair, predicted, target.height, target.width, seconds)


def _images(pair: AnnotatedPair) -> tuple[Path, Path]:
    return pair.source_path, pair.target_path


def _bytes(described: DescriptorMap) -> int:
    return described.data.element_size() * described.data.nelement()


def _match(
    source: DescriptorMap,
    target: DescriptorMap,
    pair: AnnotatedPair,
    matcher: Matcher | None,
    subpixel: bool,
) -> npt.NDArray[np.float32]:
    """Best target points (N, 2); NaN where there is none."""
    # Data sets put some points on or just past the border; a map is constant out there.
    edge = np.array([source.width, source.height], np.float32) - 0.5
    points = np.clip(pair.source_points, np.float32(-0.5), edge)
    matches = match_points(source, target, points, matcher=matcher, subpixel=subpixel)
    best = matches.target_xy[:, 0].clone()
    best[~matches.valid[:, 0]] = torch.nan
    return best.cpu().numpy()
