"""Matchers agree with the reference, and keypoint matching finds what it should."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from warpkit.checks import InputError
from warpkit.coords import lattice_sites, point_sites, sample_descriptors
from warpkit.match import matcher, reference
from warpkit.match.matcher import (
    Matcher,
    Neighbours,
    create_matcher,
    matcher_names,
    register_matcher,
)
from warpkit.match.points import candidate_sites, default_matcher, match_points
from warpkit.match.settings import MatchFilters
from warpkit.types import DescriptorMap, Sites

ENGINES = ["reference", "faiss", "grid"]


def random_map(h: int, w: int, *, height: int, width: int, channels: int = 7, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    data = torch.randn(channels, h, w, generator=generator)
    return DescriptorMap.covering(data, height=height, width=width)


def row_map(rows: list[list[float]]) -> DescriptorMap:
    """One descriptor per pixel of an image one row high."""
    return DescriptorMap.covering(torch.tensor(rows).T[:, None], height=1, width=len(rows))


def pixels(descriptors: DescriptorMap, mask: torch.Tensor | None = None) -> Sites:
    return lattice_sites(height=descriptors.height, width=descriptors.width, mask=mask)


@pytest.mark.parametrize("engine", ENGINES)
def test_hand_computed_neighbours(engine):
    query = row_map([[2.0, 0.0], [0.0, 0.0], [-3.0, 4.0]])
    key = row_map([[0.0, 5.0], [0.0, 0.0], [1.0, 1.0], [-1.0, 0.0]])
    found = create_matcher(engine).search(query, key, pixels(query), pixels(key), k=4)
    # The zero key (1) is never chosen, the zero query finds nothing, three keys are left for k=4.
    assert found.index.tolist() == [[2, 0, 3, -1], [-1, -1, -1, -1], [0, 3, 2, -1]]
    half = 0.5**0.5
    expected = [[half, 0, -1, 0], [0, 0, 0, 0], [0.8, 0.6, 0.2 * half, 0]]
    torch.testing.assert_close(found.similarity, torch.tensor(expected))
    assert found.index.dtype == torch.int64
    assert found.similarity.dtype == torch.float32
    assert found.found.sum() == 6


@pytest.mark.parametrize("engine", ENGINES)
def test_ties_take_the_lowest_key_index(engine):
    query = row_map([[1.0, 0.0]])
    key = row_map([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    search = create_matcher(engine).search
    assert search(query, key, pixels(query), pixels(key), k=5).index.tolist() == [[1, 3, 4, 0, 2]]
    assert search(query, key, pixels(query), pixels(key)).index.tolist() == [[1]]


@pytest.mark.parametrize("k", [1, 3])
def test_blocks_do_not_change_the_result(monkeypatch, k):
    query = random_map(3, 4, height=7, width=9)
    # Constant columns make many ties, some across blocks.
    data = random_map(3, 5, height=9, width=11, seed=1).data[:, :1, :1].expand(7, 3, 5)
    key = DescriptorMap.covering(data, height=9, width=11)
    engine = create_matcher("reference")
    whole = engine.search(query, key, pixels(query), pixels(key), k=k)
    monkeypatch.setattr(reference, "_KEY_FLOATS", 7 * 10)
    monkeypatch.setattr(reference, "_SCORE_FLOATS", 60)
    blocks = engine.search(query, key, pixels(query), pixels(key), k=k)
    torch.testing.assert_close(blocks.similarity, whole.similarity)
    one_hot = DescriptorMap.covering(torch.ones(1, 3, 5), height=9, width=11)
    same = engine.search(one_hot, one_hot, pixels(one_hot), pixels(one_hot), k=k)
    assert (same.index == torch.arange(k)).all()


@pytest.mark.parametrize("engine", ["faiss", "grid"])
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("masked", [False, True])
def test_engines_agree_with_the_reference(engine, k, masked):
    query = random_map(5, 8, height=23, width=37)
    key = random_map(9, 4, height=31, width=17, seed=1)
    generator = torch.Generator().manual_seed(2)
    query_mask = torch.rand(23, 37, generator=generator) < 0.3 if masked else None
    key_mask = torch.rand(31, 17, generator=generator) < 0.4 if masked else None
    queries, keys = pixels(query, query_mask), pixels(key, key_mask)
    truth = create_matcher("reference").search(query, key, queries, keys, k=k)
    found = create_matcher(engine).search(query, key, queries, keys, k=k)
    assert (found.similarity - truth.similarity).abs().max() < 1e-6
    # Where the indices differ, the scores at those indices tie.
    rows = sample_descriptors(query, queries.xy) @ sample_descriptors(key, keys.xy).T
    gap = rows.gather(1, truth.index) - rows.gather(1, found.index)
    assert gap[found.index != truth.index].abs().le(1e-6).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_no_usable_key_finds_nothing(engine):
    query = random_map(2, 3, height=4, width=6)
    broken = torch.zeros(7, 2, 3)
    broken[:, 1, 2] = torch.nan
    key = DescriptorMap.covering(broken, height=2, width=3)
    found = create_matcher(engine).search(query, key, pixels(query), pixels(key), k=2)
    assert (found.index == -1).all()
    assert (found.similarity == 0).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_maps_that_do_not_fit_are_named(engine):
    small, large = random_map(2, 3, height=4, width=6), random_map(2, 3, height=4, width=6)
    other = random_map(2, 3, height=4, width=6, channels=5)
    search = create_matcher(engine).search
    with pytest.raises(InputError, match="query map has 7 channels but the key map has 5"):
        search(small, other, pixels(small), pixels(other))
    with pytest.raises(InputError, match="k must be at least 1, got 0"):
        search(small, large, pixels(small), pixels(large), k=0)


def test_registry_names_are_known_before_their_modules_are_loaded():
    assert matcher_names()[:3] == ENGINES
    with pytest.raises(InputError, match=r"unknown matcher 'fais': .*Did you mean 'faiss'"):
        create_matcher("fais")


def test_a_new_matcher_is_one_class(monkeypatch):
    monkeypatch.setattr(matcher, "_CLASSES", dict(matcher._CLASSES))

    @register_matcher("first")
    class First(Matcher):
        def search(self, query, key, queries, keys, *, k=1):
            index = torch.zeros(len(queries), k, dtype=torch.int64)
            return Neighbours(index, torch.ones(len(queries), k))

    assert "first" in matcher_names()
    assert isinstance(create_matcher("first"), First)
    assert First.name == "first"
    # The same class again, as after a reload, takes its place; another one does not.
    assert register_matcher("first")(First) is First
    for other in (
        type("Second", (First,), {"__module__": __name__}),
        type("First", (First,), {"__module__": "elsewhere", "__qualname__": First.__qualname__}),
    ):
        with pytest.raises(InputError, match="a matcher named 'first' is registered already"):
            register_matcher("first")(other)
    assert isinstance(create_matcher("first"), First)


def test_missing_faiss_says_how_to_get_it(monkeypatch):
    create_matcher("faiss")
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match="pip install faiss-cpu"):
        create_matcher("faiss")


def test_default_matcher_depends_on_what_is_asked():
    descriptors = random_map(2, 3, height=4, width=6)
    assert default_matcher(descriptors).name == "grid"
    assert default_matcher(descriptors, queries=64).name == "reference"
    assert default_matcher(descriptors, queries=65).name == "grid"
    large = random_map(1, 1, height=1024, width=2048, channels=16)
    assert default_matcher(large, queries=3).name == "reference"
    larger = replace(large, data=torch.ones(17, 1, 1) / 17**0.5)
    assert default_matcher(larger, queries=3).name == "grid"
    assert default_matcher(descriptors, queries=3, k=2).name == "reference"
    assert default_matcher(descriptors, queries=5000, k=2).name == "faiss"


def test_neighbours_are_validated():
    with pytest.raises(ValueError, match="Neighbours must hold int64 index"):
        Neighbours(torch.zeros(3, 1), torch.zeros(3, 1))


def shifted_pair() -> tuple[DescriptorMap, DescriptorMap]:
    """A random map per pixel, and the same moved by 4 pixels to the right and 2 down."""
    source = random_map(13, 19, height=13, width=19, channels=16)
    return source, DescriptorMap.covering(
        torch.roll(source.data, (2, 4), dims=(1, 2)), height=13, width=19
    )


def test_points_of_a_shifted_image():
    source, target = shifted_pair()
    matches = match_points(source, target, [[3, 2], [0, 0], [14, 10]])
    assert matches.target_xy[:, 0].tolist() == [[7, 4], [4, 2], [18, 12]]
    assert matches.source_xy.tolist() == [[3, 2], [0, 0], [14, 10]]
    torch.testing.assert_close(matches.similarity, torch.ones(3, 1))
    assert matches.valid.all()


def test_points_are_read_between_pixels():
    # Descriptors turn by 10 degrees a pixel: x = 2.25 is nearest to target pixel 2, then 3.
    angle = torch.deg2rad(10 * torch.arange(8.0))
    data = torch.stack([angle.cos(), angle.sin()])[:, None]
    descriptors = DescriptorMap.covering(data, height=1, width=8)
    matches = match_points(descriptors, descriptors, np.array([[2.25, 0.0]]), k=2)
    assert matches.target_xy[0].tolist() == [[2, 0], [3, 0]]
    turned = torch.deg2rad(torch.tensor([2.5, 7.5])).cos()
    torch.testing.assert_close(matches.similarity[0], turned, atol=1e-4, rtol=0)
    refined = match_points(
        descriptors, descriptors, [[2.25, 0.0]], filters=MatchFilters(subpixel=True)
    )
    assert abs(float(refined.target_xy[0, 0, 0]) - 2.25) < 0.1


def test_target_mask_restricts_the_candidates():
    source, target = shifted_pair()
    mask = torch.zeros(13, 19, dtype=torch.bool)
    mask[8:, 3:9] = True
    matches = match_points(source, target, [[3, 2], [4, 8]], target_mask=mask)
    assert matches.target_xy[1, 0].tolist() == [8, 10]
    x, y = matches.target_xy[0, 0].long()
    assert mask[y, x]


def test_mutual_and_cycle_reject_what_does_not_lead_back():
    source, target = shifted_pair()
    both = MatchFilters(mutual=True, cycle_distance=0.5)
    assert match_points(source, target, [[3, 2], [18.4, 12.2]], filters=both).valid.all()
    away = torch.zeros(13, 19, dtype=torch.bool)
    away[:, 6:] = True  # the way back may not reach (3, 2) any more
    points = [[3, 2], [9, 5]]
    for filters in (MatchFilters(mutual=True), MatchFilters(cycle_distance=2.5)):
        matches = match_points(source, target, points, source_mask=away, filters=filters)
        assert matches.valid[:, 0].tolist() == [False, True]
    loose = match_points(
        source, target, points, source_mask=away, filters=MatchFilters(cycle_distance=30.0)
    )
    assert loose.valid.all()


def test_min_similarity_and_missing_candidates_are_not_valid():
    source = row_map([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    target = row_map([[1.0, 0.0], [0.6, 0.8], [0.0, 0.0]])
    matches = match_points(
        source, target, [[0, 0], [1, 0], [2, 0]], k=3, filters=MatchFilters(min_similarity=0.7)
    )
    assert matches.valid.tolist() == [[True, False, False], [True, False, False], [False] * 3]
    assert matches.target_xy[2].eq(0).all()


def test_bad_points_and_masks_are_named():
    source, target = shifted_pair()
    with pytest.raises(InputError, match=r"\(19, 3\) lies outside the image of 19 x 13"):
        match_points(source, target, torch.tensor([[19.0, 3.0]]))
    with pytest.raises(InputError, match="target_mask is 4 x 5"):
        match_points(source, target, [[1, 1]], target_mask=torch.ones(4, 5, dtype=torch.bool))
    with pytest.raises(InputError, match="target_mask is empty"):
        match_points(source, target, [[1, 1]], target_mask=torch.zeros(13, 19, dtype=torch.bool))
    with pytest.raises(InputError, match=r"target_mask must be a bool tensor .*float32"):
        match_points(source, target, [[1, 1]], target_mask=torch.ones(13, 19))


def test_candidates_round_into_the_mask():
    # 68 / 14 columns put sites halfway between pixels, where float32 and float64 round apart.
    descriptors = random_map(1, 7, height=1, width=68)
    mask = (torch.arange(68) % 2 == 0)[None]
    for colour in (mask, ~mask):
        sites = candidate_sites(descriptors, colour, factor=5)
        assert colour[0, torch.floor(sites.xy[:, 0] + 0.5).long()].all()
    sites = candidate_sites(descriptors, factor=5)
    assert sites.lattice == (1, 14)
    assert point_sites(sites.xy).index is None
