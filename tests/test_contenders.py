"""One or a few points in photographs of many megapixels: the same matches, from few pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from warpkit.coords import lattice_sites, sample_descriptors
from warpkit.match import points as points_module
from warpkit.match.grid.contenders import contending_pixels
from warpkit.match.grid.engine import GridMatcher
from warpkit.match.matcher import create_matcher
from warpkit.match.points import match_points
from warpkit.match.settings import MatchFilters
from warpkit.types import DescriptorMap


def _random(channels: int, h: int, w: int, seed: int) -> Tensor:
    return torch.randn(channels, h, w, generator=torch.Generator().manual_seed(seed))


def _smooth(channels: int, h: int, w: int, seed: int) -> Tensor:
    coarse = _random(channels, 3, 4, seed)[None]
    return torch.nn.functional.interpolate(coarse, (h, w), mode="bicubic")[0]


def _with_holes(channels: int, h: int, w: int, seed: int) -> Tensor:
    data = _smooth(channels, h, w, seed)
    data[:, ::3, ::4] = 0
    return data


def _opposite(channels: int, h: int, w: int, seed: int) -> Tensor:
    sign = torch.ones(h, w)
    sign[::2] = -1
    return _smooth(channels, h, w, seed) * sign


MAPS = {
    "random": (_random, (9, 7, 9), 61, 83),
    "smooth": (_smooth, (6, 9, 12), 90, 121),
    "holes": (_with_holes, (6, 9, 12), 75, 100),
    "opposite": (_opposite, (5, 8, 6), 64, 50),
    "one row": (_smooth, (5, 1, 8), 31, 90),
    "one cell": (_random, (4, 1, 1), 13, 17),
    "cells below a pixel": (_random, (4, 20, 30), 11, 13),
}


def _pair(kind: str) -> tuple[DescriptorMap, DescriptorMap]:
    make, grid, height, width = MAPS[kind]
    maps = [
        DescriptorMap.covering(make(*grid, seed), height=height, width=width) for seed in (1, 2)
    ]
    # The border cells of a padded map reach beyond the image.
    target = DescriptorMap(maps[1].data, height, width, height / (grid[1] - 0.4), width / grid[2])
    return maps[0], target


def _mask(height: int, width: int) -> Tensor:
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[height // 3 : height // 3 + 5, width // 5 : -2] = True
    return mask


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", MAPS)
def test_the_best_pixel_is_among_the_contenders(kind: str, masked: bool) -> None:
    source, target = _pair(kind)
    mask = _mask(target.height, target.width) if masked else None
    scale = torch.tensor([source.width - 1.0, source.height - 1.0])
    xy = torch.rand(20, 2, generator=torch.Generator().manual_seed(3)) * scale
    every = lattice_sites(height=target.height, width=target.width, mask=mask)
    scores = sample_descriptors(source, xy) @ sample_descriptors(target, every.xy).T
    assert every.index is not None
    for i in range(len(xy)):
        found = contending_pixels(source, target, xy[i : i + 1], mask)
        assert found.index is not None and found.lattice == (target.height, target.width)
        place = torch.searchsorted(every.index, found.index)
        assert torch.equal(every.index[place], found.index)  # candidates alone, in order
        assert torch.equal(every.xy[place], found.xy)
        best = set(torch.nonzero(scores[i] >= scores[i].max() - 4e-7)[:, 0].tolist())
        if bool(sample_descriptors(source, xy[i : i + 1]).any()):
            assert best <= set(place.tolist())


def test_a_point_without_direction_asks_for_next_to_nothing() -> None:
    source, target = _pair("smooth")
    empty = DescriptorMap.covering(torch.zeros_like(source.data), height=90, width=121)
    assert len(contending_pixels(empty, target, torch.tensor([[5.0, 5.0]]))) < 300
    matches = match_points(empty, target, [[5.0, 5.0]], matcher=create_matcher("grid"))
    assert not matches.valid.any()


FILTERS = {
    "plain": MatchFilters(),
    "subpixel": MatchFilters(subpixel=True),
    "mutual": MatchFilters(mutual=True, subpixel=True),
    "cycle": MatchFilters(cycle_distance=9.0),
    "similar": MatchFilters(min_similarity=0.9),
}


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("kind", ["random", "smooth", "opposite"])
def test_few_points_match_as_many_do(
    kind: str, filters: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, other = _pair(kind)
    # Alike enough for some to find their way back.
    target = replace(other, data=source.data + 0.01 * other.data)
    scale = torch.tensor([source.width - 1.0, source.height - 1.0])
    xy = torch.rand(23, 2, generator=torch.Generator().manual_seed(5)) * scale
    masks = [None, _mask(target.height, target.width)]
    for mask in masks:
        matcher = create_matcher("reference")
        how: dict[str, Any] = {"target_mask": mask, "filters": FILTERS[filters]}
        expected = match_points(source, target, xy, matcher=matcher, **how)
        with monkeypatch.context() as patch:
            patch.setattr(points_module, "_LARGE", 0)
            patch.setattr(points_module, "_FEW", 7)
            patch.setattr(type(matcher), "exhaustive", False)
            found = match_points(source, target, xy, matcher=matcher, **how)
        assert torch.equal(found.source_xy, expected.source_xy)
        assert torch.equal(found.valid, expected.valid)
        torch.testing.assert_close(found.target_xy, expected.target_xy, atol=1e-3, rtol=0)
        torch.testing.assert_close(found.similarity, expected.similarity, atol=1e-6, rtol=0)
        assert mask is not None or bool(expected.valid.any())


class _Counting(GridMatcher):
    """The engine, and how many candidates it was given."""

    def __init__(self) -> None:
        self.candidates: list[int] = []

    def search(self, *problem: Any, k: int = 1) -> Any:
        self.candidates.append(len(problem[-1]))
        return create_matcher("reference").search(*problem, k=k)


@pytest.mark.parametrize(
    ("height", "width"), [(3000, 4000), (6000, 8000), (1100, 9000)], ids=["12", "48", "wide"]
)
def test_a_point_in_many_megapixels_searches_a_hundredth_of_them(height: int, width: int) -> None:
    data = torch.nn.functional.interpolate(_random(16, 9, 12, 1)[None], (48, 64), mode="bicubic")[0]
    source = DescriptorMap.covering(data, height=480, width=640)
    target = DescriptorMap.covering(data, height=height, width=width)
    matcher = _Counting()
    filters = MatchFilters(subpixel=True, cycle_distance=2.0)
    matches = match_points(source, target, [[200.25, 111.0]], matcher=matcher, filters=filters)
    # Of one field of descriptors, in two sizes.
    there = [(200.25 + 0.5) * width / 640 - 0.5, (111 + 0.5) * height / 480 - 0.5]
    assert matches.target_xy[0, 0].tolist() == pytest.approx(there, abs=max(height, width) / 4000)
    assert bool(matches.valid.all())
    assert len(matcher.candidates) == 2
    assert max(matcher.candidates) < height * width / 100


def test_more_points_than_are_worth_it_share_one_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called: list[str] = []

    def noted(name: str) -> Callable[..., Any]:
        original = getattr(points_module, name)

        def run(*arguments: Any) -> Any:
            called.append(name)
            return original(*arguments)

        return run

    for name in ("_match", "_match_few"):
        monkeypatch.setattr(points_module, name, noted(name))
    monkeypatch.setattr(points_module, "_LARGE", 0)
    monkeypatch.setattr(points_module, "_MOST_APART", 4)
    source, target = _pair("smooth")
    for count, name in ((4, "_match_few"), (5, "_match")):
        called.clear()
        match_points(source, target, torch.rand(count, 2) * 50, matcher=_Counting())
        assert called == [name]
    called.clear()
    match_points(source, target, [[3.0, 4.0]], matcher=create_matcher("reference"))
    match_points(source, target, [[3.0, 4.0]], k=2)
    assert called == ["_match", "_match"]
