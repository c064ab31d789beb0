"""Find where points of one image are in another: given ones, or all over its object.

In: two images and points of the first. Out: `Matches` from `match`, a JSON file from `run_match`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from warpkit.arrays import Image, Mask, mask_box
from warpkit.checks import check_points, require
from warpkit.coherent import FieldName, Mirror, match_points_coherent, points_config
from warpkit.describe.options import ModelOptions, TaskSettings
from warpkit.image.described import PairMaps, described_beside
from warpkit.image.found_masks import MaskChoice, with_found_masks
from warpkit.image.match_files import MatchFiles
from warpkit.image.pair import ImagePair, read_mask_file
from warpkit.image.segment import check_finding, object_finder
from warpkit.io.config import flat
from warpkit.io.pictures import read_picture
from warpkit.io.points import read_queries
from warpkit.match.farthest import farthest_points
from warpkit.match.filters import above_similarity
from warpkit.match.matcher import Matcher, asked_matcher
from warpkit.match.points import candidate_sites, match_points
from warpkit.match.settings import MatchFilters
from warpkit.match.similarity import similarity_map
from warpkit.types import Describer, DescriptorMap, Matches

__all__ = [
    "MatchSettings",
    "PointSimilarity",
    "match",
    "parse_points",
    "run_match",
    "similarity_at",
    "valid_rule",
]

# Without filters a match is valid where its own best match lies this near to where it started: a
# fraction of the longer side of the source's object, as the tolerance of a coherent field.
_TOLERANCE = 0.1


_DRAWN = 48  # of points all over an object


@dataclass(frozen=True, kw_only=True)
class MatchSettings(TaskSettings):
    """How points are matched.

    Attributes:
        mask: what counts of a picture without a mask: `auto` finds its object, where that is sure
            in both; `none` takes the whole picture. None is `auto` for points all over the object
            and with a segmenter, else `none`.
        segmenter: who finds it: `sam2`, `sam3`, `clipseg` or a folder of such a model; None is the
            foreground head.
        text: names it, for `sam3` and `clipseg`.
        spacing: of points all over the object: their distance in pixels; None takes a 64th of the
            source's longer side.
        field: `auto` takes a coherent field where that costs little similarity, else the most
            similar pixel; `coherent` and `nearest` always take the one.
        mirror: whether a coherent field may take the target mirrored left-right.
        filters: which matches are valid, and whether they are refined; a coherent field lies
            between pixels by itself and knows the least similarity alone. Without a filter a match
            is valid where its own best match lies within a tenth of the longer side of the source's
            object (the box of its mask, else the image) of where it started.
    """

    mask: MaskChoice | None = None
    segmenter: str | None = None
    text: str | None = None
    spacing: int | None = None
    field: FieldName = "nearest"
    mirror: Mirror = "auto"
    filters: MatchFilters = flat(MatchFilters(subpixel=True))

    def __post_init__(self) -> None:
        check_finding(self.mask, self.segmenter, self.text)
        require(
            self.spacing is None or self.spacing > 0,
            f"spacing is a distance in pixels, 1 or more, got {self.spacing}",
        )
        require(
            self.filters.max_pairs == MatchFilters.max_pairs,
            "max_pairs is of dense fields (warp, propagate): points are few and need no limit",
        )
        if self.field != "nearest":
            for name in ("mutual", "cycle_distance"):
                require(
                    not getattr(self.filters, name),
                    f"{name} belongs to nearest neighbours: add --field nearest",
                )


def valid_rule(filters: MatchFilters) -> str:
    """Which matches are valid, in words for a message."""
    asked = {
        "mutual": filters.mutual,
        f"cycle_distance {filters.cycle_distance}": filters.cycle_distance is not None,
        f"min_similarity {filters.min_similarity}": filters.min_similarity is not None,
    }
    names = [name for name, is_asked in asked.items() if is_asked]
    if names:
        return f"passed {' and '.join(names)}"
    return (
        f"matched back, they end within {100 * _TOLERANCE:.0f} % of the source object's longer side"
        " from where they began"
    )


def match(
    source: Image,
    target: Image,
    points: npt.ArrayLike | None = None,
    *,
    describer: Describer,
    source_mask: Mask | None = None,
    target_mask: Mask | None = None,
    guides: npt.ArrayLike | None = None,
    settings: MatchSettings | None = None,
    matcher: Matcher | None = None,
) -> Matches:
    """Find the best match in the target for points of the source.

    Args:
        source: uint8 RGB (Hs, Ws, 3), or with alpha (Hs, Ws, 4), which is a mask.
        target: uint8 RGB (H, W, 3), or with alpha (H, W, 4), likewise.
        points: (N, 2), `(x, y)` pixels of the source; None takes points all over its object.
        describer: what describes images, e.g. `warpkit.load("tiny")`.
        source_mask: bool (Hs, Ws), where the way back may end.
        target_mask: bool (H, W), the only pixels that are candidates.
        guides: pairs of points (G, 2, 2) that belong together, source first; with a coherent field.
        settings: how to match.
        matcher: matching engine; None picks one.

    Raises:
        InputError: images, masks or points of the wrong kind, or points outside the source.
    """
    settings = settings or MatchSettings()
    pair = ImagePair.checked(
        source,
        target,
        source_mask=source_mask,
        target_mask=target_mask,
        guides=guides,
        field=settings.field,
    )
    pair, xy = _outlined(pair, _checked_points(points, pair), settings, "cpu")
    maps = partial(pair.describe, describer, mirrored=_flipped(pair, settings))
    return _match_pair(pair, xy, maps, settings, matcher)[0]


def _outlined(
    pair: ImagePair, given: torch.Tensor | None, settings: MatchSettings, device: str
) -> tuple[ImagePair, torch.Tensor]:
    """The pair with the masks that are to be found, and the points to match."""
    if _finds(settings, given) and (pair.source_mask is None or pair.target_mask is None):
        on_source = [] if given is None else given.tolist()
        finder = object_finder(device, segmenter=settings.segmenter, text=settings.text)
        pair = with_found_masks(pair, finder, source_points=on_source, done="matched")
    return pair, _points_all_over(pair, settings.spacing) if given is None else given


def _finds(settings: MatchSettings, points: npt.ArrayLike | torch.Tensor | None) -> bool:
    """Whether objects are looked for where a mask is missing."""
    asked = points is None or settings.segmenter is not None
    return settings.mask == "auto" or (settings.mask is None and asked)


def _points_all_over(pair: ImagePair, spacing: int | None) -> torch.Tensor:
    """A lattice (N, 2) over the source's object."""
    height, width = pair.source.shape[:2]
    spacing = spacing or max(1, round(max(height, width) / 64))
    blank = DescriptorMap.covering(torch.zeros(1, 1, 1), height=height, width=width)
    return candidate_sites(blank, pair.source_mask, factor=spacing).xy


def _checked_points(points: npt.ArrayLike | None, pair: ImagePair) -> torch.Tensor | None:
    if points is None:
        return None
    height, width = pair.source.shape[:2]
    return torch.from_numpy(check_points(points, height=height, width=width))


def _flipped(pair: ImagePair, settings: MatchSettings) -> Image | None:
    """The image that is described mirrored as well."""
    return pair.target if settings.field != "nearest" and settings.mirror != "never" else None


def _match_pair(
    pair: ImagePair,
    xy: torch.Tensor,
    maps: Callable[[], PairMaps],
    settings: MatchSettings,
    matcher: Matcher | None,
) -> tuple[Matches, DescriptorMap, DescriptorMap]:
    """`match` of what was checked, and the maps of both images."""
    masks: dict[str, Any] = {"source_mask": pair.source_mask, "target_mask": pair.target_mask}
    source, target, mirrored = maps()
    filters = settings.filters
    unfiltered = not filters.looks_back and filters.min_similarity is None
    if settings.field == "nearest":
        if unfiltered:
            filters = dataclasses.replace(filters, cycle_distance=_reach(pair))
        found = match_points(source, target, xy, **masks, matcher=matcher, filters=filters)
        return found, source, target
    solved = match_points_coherent(
        source,
        target,
        xy,
        mirrored=mirrored,
        **masks,
        guides=pair.guides,
        field=settings.field,
        config=points_config(settings.mirror),
    )
    found = solved.matches
    if unfiltered:
        seen, places = target, found.target_xy[:, 0].clamp(min=0)
        if mirrored is not None and solved.chosen == "coherent" and solved.field.quality.mirrored:
            # A side that was taken for the other one is described in the mirrored image.
            seen, places = mirrored, places * places.new_tensor([-1, 1])
            places = places + places.new_tensor([target.width - 1, 0])
        back = match_points(seen, source, places, target_mask=pair.source_mask)
        off = (back.target_xy[:, 0] - found.source_xy).norm(dim=-1)
        agrees = back.valid[:, 0] & (off <= _reach(pair))
        found = dataclasses.replace(found, valid=found.valid & agrees[:, None])
    elif filters.min_similarity is not None:
        found = above_similarity(found, filters.min_similarity)
    return found, source, target


def _rounded(values: torch.Tensor, digits: int) -> list[Any]:
    """The numbers of a tensor for JSON."""
    rounded: list[Any] = values.double().round(decimals=digits).tolist()
    return rounded


def _reach(pair: ImagePair) -> float:
    """How far from a point the way back may end, in pixels of the source."""
    height, width = pair.source.shape[:2]
    if pair.source_mask is not None:
        x1, y1, x2, y2 = mask_box(pair.source_mask.numpy())
        height, width = y2 - y1 + 1, x2 - x1 + 1
    return _TOLERANCE * max(height, width)


@dataclass(frozen=True, eq=False)
class PointSimilarity:
    """One point of the source, seen from the target.

    Attributes:
        source_xy: float32 (2,), the point.
        target_xy: float32 (2,), its match.
        similarity: cosine of the two.
        map: float32 (H, W), cosine of every pixel of the target.
    """

    source_xy: npt.NDArray[np.float32]
    target_xy: npt.NDArray[np.float32]
    similarity: float
    map: npt.NDArray[np.float32]


def similarity_at(
    source: Image,
    target: Image,
    point: Sequence[float],
    *,
    describer: Describer,
    target_mask: Mask | None = None,
    settings: MatchSettings | None = None,
    matcher: Matcher | None = None,
) -> PointSimilarity:
    """The match of one point, and how alike every pixel of the target is to it.

    Args:
        source: uint8 RGB (Hs, Ws, 3), or with alpha (Hs, Ws, 4), which is a mask.
        target: uint8 RGB (H, W, 3), or with alpha (H, W, 4), likewise.
        point: `(x, y)` in pixels of the source.
        describer: what describes images.
        target_mask: bool (H, W), the only pixels that the match may be; the map is of all.
        settings: as for `match`.
        matcher: matching engine; None picks one.

    Raises:
        InputError: as `match`.
    """
    pair = ImagePair.checked(source, target, target_mask=target_mask)
    settings = settings or MatchSettings()
    pair, xy = _outlined(pair, _checked_points([point], pair), settings, "cpu")
    described = partial(pair.describe, describer, mirrored=_flipped(pair, settings))
    found, *maps = _match_pair(pair, xy, described, settings, matcher)
    seen = similarity_map(maps[0], maps[1], point)
    return PointSimilarity(
        found.source_xy[0].cpu().numpy(),
        found.target_xy[0, 0].cpu().numpy(),
        float(found.similarity[0, 0]),
        seen.cpu().numpy(),
    )


def parse_points(text: str) -> npt.NDArray[np.float32]:
    """Points from `"x,y;x,y"`, or from a file as `io.points.read_queries` reads it.

    Returns:
        float32 (N, 2).

    Raises:
        InputError: neither of these, or points of several frames.
    """
    queries = read_queries(text)
    frames = sorted(set(queries.frames.tolist()))
    require(
        len(frames) == 1,
        f"{text} holds points of the frames {', '.join(map(str, frames[:5]))}: give those of one"
        " image",
    )
    return queries.xy


def run_match(
    source: Path | str,
    target: Path | str,
    points: Sequence[Sequence[float]] | npt.NDArray[np.float32] | None = None,
    *,
    output: Path | str | None = None,
    picture: Path | str | None = None,
    similarity: Path | str | None = None,
    source_mask: Path | str | None = None,
    target_mask: Path | str | None = None,
    guides: npt.ArrayLike | None = None,
    settings: MatchSettings | None = None,
    options: ModelOptions | None = None,
    overwrite: bool = False,
    describer: Describer | None = None,
) -> dict[str, Any]:
    """Match points between two image files.

    Masks that were found are written beside `output`, as `<stem>_source_mask.png` and
    `<stem>_target_mask.png`; where `output` is replaced, one of that name that was not found again
    is removed.

    Args:
        points: `(x, y)` pixels of the source; None takes points all over its object.
        output: JSON file to write.
        picture: image file to write, with the matches drawn in; of points all over the object 48
            that are spread over it.
        similarity: image file to write, with the similarity of the first point to every pixel of
            the target.
        settings: how to match.
        options: the model, and the engine that searches nearest neighbours.
        describer: that model, where it is loaded already.

    Returns:
        `source_points`, `target_points` (to a thousandth of a pixel), `similarity`, `valid`: one
        entry per point. See `MatchSettings.filters` for what is valid.

    Raises:
        InputError: an input that cannot be used, or an output file that exists.
    """
    settings, options = settings or MatchSettings(), options or ModelOptions()
    matcher = asked_matcher(options.engine)
    require(
        matcher is None or settings.field == "nearest",
        f"the engine {options.engine} searches nearest neighbours: add --field nearest",
    )
    files = MatchFiles.checked(
        output,
        picture,
        similarity,
        images=(source, target),
        masks={"source_mask": source_mask, "target_mask": target_mask},
        finds=_finds(settings, points),
        overwrite=overwrite,
    )
    pair = ImagePair.checked(
        read_picture(source),
        read_picture(target),
        source_mask=read_mask_file(source_mask, "source mask"),
        target_mask=read_mask_file(target_mask, "target mask"),
        guides=guides,
        field=settings.field,
        names=(f"source mask {source_mask}", f"target mask {target_mask}"),
    )
    asked, given = pair, _checked_points(points, pair)
    flipped = _flipped(asked, settings)
    with described_beside(asked, options, describer, mirrored=flipped) as described:
        pair, xy = _outlined(asked, given, settings, options.device)
        found, *maps = _match_pair(pair, xy, described, settings, matcher)
    result = {
        "source_points": _rounded(found.source_xy, 3),
        "target_points": _rounded(found.target_xy[:, 0], 3),
        "similarity": _rounded(found.similarity[:, 0], 4),
        "valid": found.valid[:, 0].tolist(),
    }
    rows = torch.arange(len(xy))
    if points is None and picture is not None:
        rows = torch.nonzero(found.valid[:, 0].cpu())[:, 0]
        rows = rows[farthest_points(found.source_xy.cpu()[rows], _DRAWN)]
    names = [name for name in files.masks if getattr(pair, name) is not getattr(asked, name)]
    seen = None
    if similarity is not None:
        seen = similarity_map(maps[0], maps[1], found.source_xy[0]).cpu().numpy()
    files.write(result, pair, found, drawn=rows, similarity=seen, found_masks=names)
    return result
