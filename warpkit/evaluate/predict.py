"""Where a method puts the points of annotated pairs: one `PairPrediction` per pair."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from warpkit.checks import InputError, check_same_size, one_of, require
from warpkit.coherent import (
    FIELDS,
    CoherentConfig,
    FieldName,
    match_points_coherent,
    points_config,
)
from warpkit.datasets.pair import AnnotatedPair, Box
from warpkit.evaluate.field_quality import PairQuality
from warpkit.io.images import read_image
from warpkit.match.matcher import Matcher
from warpkit.match.points import match_points
from warpkit.match.settings import MatchFilters
from warpkit.types import Describer, DescriptorMap, Matches

__all__ = ["BOX_MARGIN", "THRESHOLDS", "PairPrediction", "Threshold", "point_mask", "predict_pairs"]

Threshold = Literal["image", "box"]
THRESHOLDS: tuple[Threshold, ...] = ("image", "box")

BOX_MARGIN = 0.12
"""By how much of its longer side the extent of annotated points grows on every side."""

# An image, and whether it is mirrored left-right.
_Key = tuple[Path, bool]


@dataclass(frozen=True, eq=False)
class PairPrediction:
    """Where a method puts the source points of one pair in the target image.

    Attributes:
        pair: the annotated pair.
        predicted: float32 (N, 2), pixels of the target image; NaN where there is no match.
        height: height of the target image in pixels.
        width: width of the target image in pixels.
        seconds: what the prediction took, None where nobody measured it.
        quality: of the coherent field; None where there is none.
    """

    pair: AnnotatedPair
    predicted: npt.NDArray[np.float32]
    height: int
    width: int
    seconds: float | None = None
    quality: PairQuality | None = None

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


def check_scored_filters(filters: MatchFilters, field: FieldName) -> None:
    """Raise unless every point is answered: an evaluation may refine matches, and drops none."""
    require(
        filters == MatchFilters(subpixel=filters.subpixel),
        "an evaluation scores every match: of the filters it takes subpixel alone",
    )
    require(
        field == "nearest" or not filters.subpixel,
        f"'subpixel' refines nearest neighbours: leave it out with the field '{field}'",
    )


def predict_pairs(
    describer: Describer,
    pairs: Sequence[AnnotatedPair],
    *,
    matcher: Matcher | None = None,
    filters: MatchFilters | None = None,
    field: FieldName = "nearest",
    coherent: CoherentConfig | None = None,
    boxes: bool = False,
    batch: int = 8,
    keep_bytes: int = 2**30,
    problems: list[str] | None = None,
) -> Iterator[PairPrediction]:
    """Match the source points of every pair to the target image, lazily and in order.

    The query is the descriptor at the exact (sub-pixel) point. Every image is described once for
    all the pairs that hold it and forgotten after the last of them, so pairs sorted by folder
    need the memory of one folder. A coherent field also sees the mirrored targets, which are
    described and forgotten in the same way.

    Args:
        describer: turns images into descriptor maps.
        pairs: what to predict.
        matcher: the engine; None takes the default of `match_points`.
        filters: whether matches are refined; published numbers do without. None rejects any.
        field: `nearest`, the most similar pixel of every point; `coherent`, one smooth field a
            pair; `auto`, the better of the two by what coherence costs.
        coherent: how fields are solved.
        boxes: candidates lie in `point_mask` of both images. This uses the annotation of the
            target: such numbers compare with one another alone.
        batch: pairs whose images are described together.
        keep_bytes: most memory of maps kept for later pairs; an image whose map had to go is
            described again.
        problems: a list that gets one line for every pair whose image cannot be read, which is
            then left out; None makes it an error.

    Yields:
        One prediction per pair.

    Raises:
        InputError: an image that cannot be read, without `problems`; filters that reject, or
            that refine a field, which knows no whole pixels.
    """
    require(batch > 0, f"batch must be positive, got {batch}")
    one_of(field, FIELDS, "field")
    filters = filters or MatchFilters()
    check_scored_filters(filters, field)
    coherent = coherent or points_config()
    mirrored = field != "nearest" and coherent.mirror != "never"
    pending = Counter(key for pair in pairs for key in _keys(pair, mirrored))
    maps: dict[_Key, DescriptorMap] = {}
    broken: dict[Path, InputError] = {}
    for start in range(0, len(pairs), batch):
        started = time.perf_counter()
        group = pairs[start : start + batch]
        missing = dict.fromkeys(key for pair in group for key in _keys(pair, mirrored))
        pixels: dict[_Key, npt.NDArray[np.uint8]] = {}
        for path, flip in missing:
            if (path, flip) not in maps and path not in broken:
                try:
                    # A mirrored image comes after the image itself, if that is missing too.
                    plain = pixels.get((path, False))
                    image = read_image(path) if plain is None else plain
                except InputError as error:
                    if problems is None:
                        raise
                    broken[path] = error
                else:
                    pixels[path, flip] = np.ascontiguousarray(image[:, ::-1]) if flip else image
        if pixels:
            maps.update(zip(pixels, describer.describe(list(pixels.values())), strict=True))
        found = []
        for pair in group:
            reasons = [broken[path] for path in _images(pair) if path in broken]
            if reasons and problems is not None:
                problems.append(f"pair {pair.source_path} -> {pair.target_path}: {reasons[0]}")
            else:
                source, target = maps[pair.source_path, False], maps[pair.target_path, False]
                masks = _masks(pair, source, target) if boxes else (None, None)
                quality = None
                if field == "nearest":
                    places = _match(source, target, pair, matcher, filters, masks[1])
                else:
                    other = maps[pair.target_path, True] if mirrored else None
                    places, quality = _solve((source, target, other), pair, masks, field, coherent)
                found.append((pair, places, target, quality))
            for key in _keys(pair, mirrored):
                pending[key] -= 1
                if pending[key] == 0:
                    maps.pop(key, None)
        held = sum(_bytes(described) for described in maps.values())
        for key in list(maps):
            if held <= keep_bytes:
                break
            held -= _bytes(maps.pop(key))
        seconds = (time.perf_counter() - started) / max(1, len(found))
        for pair, places, target, quality in found:
            yield PairPrediction(pair, places, target.height, target.width, seconds, quality)


def point_mask(
    points: npt.NDArray[np.floating[Any]], box: Box, *, height: int, width: int
) -> npt.NDArray[np.bool_]:
    """Where annotated points are: their extent, grown by `BOX_MARGIN` of its longer side.

    Args:
        points: (N, 2), (x, y) pixels.
        box: of the object, taken instead of the extent of a single place.
        height: of the image.
        width: of the image.

    Returns:
        bool (height, width), every pixel that the grown extent touches.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    if not (high > low).any():
        low, high = np.array(box[:2]), np.array(box[2:])
    margin = BOX_MARGIN * (high - low).max()
    limit = np.array([width, height]) - 1
    # A pixel reaches half a pixel from its centre; points may lie past the border.
    x1, y1 = np.clip(np.floor(low - margin + 0.5), 0, limit).astype(int)
    x2, y2 = np.clip(np.floor(high + margin + 0.5), 0, limit).astype(int)
    mask = np.zeros((height, width), bool)
    mask[y1 : y2 + 1, x1 : x2 + 1] = True
    return mask


def _images(pair: AnnotatedPair) -> tuple[Path, Path]:
    return pair.source_path, pair.target_path


def _keys(pair: AnnotatedPair, mirrored: bool) -> tuple[_Key, ...]:
    """The maps that a pair needs."""
    plain = ((pair.source_path, False), (pair.target_path, False))
    return (*plain, (pair.target_path, True)) if mirrored else plain


def _bytes(described: DescriptorMap) -> int:
    return described.data.element_size() * described.data.nelement()


def _masks(
    pair: AnnotatedPair, source: DescriptorMap, target: DescriptorMap
) -> tuple[Tensor, Tensor]:
    """The masks of `point_mask` of both images, on the device of their maps."""
    ends = (
        (source, pair.source_points, pair.source_box),
        (target, pair.target_points, pair.target_box),
    )
    first, second = (
        torch.from_numpy(point_mask(points, box, height=at.height, width=at.width)).to(
            at.data.device
        )
        for at, points, box in ends
    )
    return first, second


def _inside(source: DescriptorMap, pair: AnnotatedPair) -> npt.NDArray[np.float32]:
    """The source points; data sets put some on or just past the border, where a map is constant."""
    edge = np.array([source.width, source.height], np.float32) - 0.5
    return np.clip(pair.source_points, np.float32(-0.5), edge)


def _match(
    source: DescriptorMap,
    target: DescriptorMap,
    pair: AnnotatedPair,
    matcher: Matcher | None,
    filters: MatchFilters,
    target_mask: Tensor | None,
) -> npt.NDArray[np.float32]:
    """Best target points (N, 2); NaN where there is none."""
    matches = match_points(
        source,
        target,
        _inside(source, pair),
        target_mask=target_mask,
        matcher=matcher,
        filters=filters,
    )
    return _places(matches)


def _solve(
    maps: tuple[DescriptorMap, DescriptorMap, DescriptorMap | None],
    pair: AnnotatedPair,
    masks: tuple[Tensor | None, Tensor | None],
    field: FieldName,
    config: CoherentConfig,
) -> tuple[npt.NDArray[np.float32], PairQuality]:
    """Target points (N, 2) through the field of a pair, and how good it is."""
    source, target, mirrored = maps
    found = match_points_coherent(
        source,
        target,
        _inside(source, pair),
        mirrored=mirrored,
        source_mask=masks[0],
        target_mask=masks[1],
        field=field,
        config=config,
    )
    taken = found.chosen == "coherent" if field == "auto" else None
    return _places(found.matches), PairQuality.of(found.field.quality, taken=taken)


def _places(matches: Matches) -> npt.NDArray[np.float32]:
    best = matches.target_xy[:, 0].clone()
    best[~matches.valid[:, 0]] = torch.nan
    return best.cpu().numpy()
