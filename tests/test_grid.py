"""The grid engine gives what comparing all pairs gives: on the CPU, and as Triton kernels."""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from warpkit.checks import InputError
from warpkit.coords import bilinear_corners, bilinear_weights, corner_nodes, lattice_sites
from warpkit.match.grid import cpu as grid_cpu
from warpkit.match.grid import engine as grid_engine
from warpkit.match.grid import refine as grid_refine
from warpkit.match.grid.plan import BlockShape, GridNodes, plan_sites
from warpkit.match.matcher import Neighbours, create_matcher
from warpkit.match.pair import PairMatches, Window, search_many, search_pair
from warpkit.types import DescriptorMap, Sites

TIE = 1e-6
HAS_TRITON = importlib.util.find_spec("triton") is not None


@pytest.fixture(
    params=[
        "numba",
        pytest.param(
            "triton", marks=pytest.mark.skipif(not HAS_TRITON, reason="triton is not installed")
        ),
    ]
)
def loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The compiled loops, or the GPU's kernels in Triton's interpreter (see conftest.py)."""
    if request.param == "triton":
        from warpkit.match.grid import triton as grid_triton

        monkeypatch.setattr(grid_triton, "DEVICE", "cpu")
        monkeypatch.setattr(grid_engine, "_loops", lambda device, k: grid_triton)
    return request.param


def random_map(h, w, *, height, width, channels=7, seed=0, dtype=torch.float32) -> DescriptorMap:
    generator = torch.Generator().manual_seed(seed)
    data = torch.randn(channels, h, w, generator=generator).to(dtype)
    return DescriptorMap.covering(data, height=height, width=width)


def pixels(item: DescriptorMap, mask: Tensor | None = None) -> Sites:
    return lattice_sites(height=item.height, width=item.width, mask=mask)


def exact_rows(item: DescriptorMap, sites: Sites) -> tuple[Tensor, Tensor]:
    """Unit descriptors in float64, and how far their four nodes cancel (1: not at all)."""
    h, w = item.grid_size
    corner, fraction = bilinear_corners(item, sites.xy)
    nodes, weights = corner_nodes(corner, h=h, w=w), bilinear_weights(fraction)
    four = item.data.double().flatten(1).T[nodes]  # (N, 4, C)
    row = (four * weights[..., None]).sum(1)
    parts = (four.norm(dim=2) * weights).sum(1)
    length = row.norm(dim=1)
    return F.normalize(row, dim=1, eps=1e-12), parts / length.clamp(min=1e-300)


def assert_exact(
    found: Neighbours, query: DescriptorMap, key: DescriptorMap, queries: Sites, keys: Sites
) -> None:
    """No key of `keys` scores more than a tie above the one found, rank by rank.

    Rounding grows where nodes cancel: by 4 it may do so before the tie becomes wider.
    """
    query_rows, query_stretch = exact_rows(query, queries)
    key_rows, key_stretch = exact_rows(key, keys)
    scores = query_rows @ key_rows.T
    usable = [rows.norm(dim=1) > 0.5 for rows in (query_rows, key_rows)]
    scores[~usable[0]] = -torch.inf
    scores[:, ~usable[1]] = -torch.inf
    tie = TIE
    if all(part.any() for part in usable):
        grown = query_stretch[usable[0]].max() * key_stretch[usable[1]].max()
        tie *= max(1.0, float(grown) / 4)
    k = found.index.shape[1]
    best = scores.sort(dim=1, descending=True).values[:, :k]
    best = F.pad(best, (0, k - best.shape[1]), value=-torch.inf)
    assert torch.equal(found.found, best > -torch.inf)
    own = scores.gather(1, found.index.clamp(min=0)).masked_fill(~found.found, 0)
    best = best.masked_fill(~found.found, 0)
    assert (best - own).abs().max() <= tie
    assert (found.similarity - own).abs().max() <= tie
    for row in found.index:
        chosen = row[row >= 0]
        assert len(chosen.unique()) == len(chosen)


SIZES = st.tuples(st.integers(1, 6), st.integers(1, 6))
IMAGES = st.tuples(st.integers(1, 23), st.integers(1, 23))
KINDS = ["rough", "smooth", "opposed", "constant", "holes", "tiled", "blocky", "scaled"]


@st.composite
def maps(draw: st.DrawFn, channels: int) -> DescriptorMap:
    """Maps as they occur, and as they should not."""
    (h, w), (height, width) = draw(SIZES), draw(IMAGES)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(KINDS))
    data = torch.randn(channels, h, w, generator=generator)
    if kind == "smooth":
        coarse = torch.randn(1, channels, 2, 2, generator=generator)
        data = F.interpolate(coarse, size=(h, w), mode="bilinear")[0] + 1
    elif kind == "opposed":
        sign = torch.where(torch.rand(h, w, generator=generator) < 0.5, -1.0, 1.0)
        data = data[:, :1, :1] * sign + 0.3 * data
    elif kind == "constant":
        data = data[:, :1, :1].expand(channels, h, w).clone()
    elif kind == "holes":
        data[:, torch.rand(h, w, generator=generator) < 0.4] = 0
        if draw(st.booleans()):
            data[:, 0, 0] = torch.nan
    elif kind == "tiled":
        data = data[:, :1].expand(channels, h, w).clone()
    elif kind == "blocky":
        data = data[:, [0] * h][:, :, [0] * (w - w // 2) + [w // 2] * (w // 2)]
    elif kind == "scaled":
        data = data * 10 ** (6 * torch.rand(h, w, generator=generator) - 3)
    item = DescriptorMap.covering(data, height=height, width=width)
    if draw(st.booleans()):  # a part of a padded input: cells do not tile the image
        item = DescriptorMap(data, height, width, 1.3 * height / h, 0.9 * width / w)
    return item


@st.composite
def sites_of(draw: st.DrawFn, item: DescriptorMap) -> Sites | None:
    """All pixels, some of them or points between them; well-conditioned ones.

    Where nodes cancel to an eighth and less, float32 has lost a digit of the descriptor itself, in
    the reference as well: what is exact there is a matter of taste.
    """
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["all", "mask", "points"]))
    sites = pixels(item)
    if kind == "mask":
        mask = torch.rand(item.height, item.width, generator=generator) < 0.3
        if not mask.any():
            return None
        sites = pixels(item, mask)
    elif kind == "points":
        size = torch.tensor([item.width, item.height])
        sites = Sites(torch.rand(9, 2, generator=generator) * size - 0.5)
    row, cancelled = exact_rows(item, sites)
    good = ~((cancelled > 8) & (row.norm(dim=1) > 0.5))
    return Sites(sites.xy[good]) if good.any() else None


@given(data=st.data(), channels=st.integers(1, 9), k=st.sampled_from([1, 1, 3]))
@settings(max_examples=200, deadline=None)
def test_the_engine_is_exact(data: st.DataObject, channels: int, k: int) -> None:
    query, key = data.draw(maps(channels)), data.draw(maps(channels))
    queries, keys = data.draw(sites_of(query)), data.draw(sites_of(key))
    if queries is None or keys is None:
        return
    found = create_matcher("grid").search(query, key, queries, keys, k=k)
    assert_exact(found, query, key, queries, keys)


@pytest.mark.skipif(not HAS_TRITON, reason="triton is not installed")
@given(data=st.data(), channels=st.integers(1, 9))
@settings(max_examples=12, deadline=None)
def test_the_kernels_are_exact(data: st.DataObject, channels: int) -> None:
    from warpkit.match.grid import triton as grid_triton

    query, key = data.draw(maps(channels)), data.draw(maps(channels))
    queries, keys = data.draw(sites_of(query)), data.draw(sites_of(key))
    if queries is None or keys is None:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid_triton, "DEVICE", "cpu")
        patch.setattr(grid_engine, "_loops", lambda device, k: grid_triton)
        found = create_matcher("grid").search(query, key, queries, keys)
    assert_exact(found, query, key, queries, keys)


@pytest.mark.parametrize(
    ("grids", "sizes"),
    [
        (((2, 3), (4, 3)), ((11, 13), (14, 10))),  # not square, ratios that are no integers
        (((1, 2), (3, 2)), ((5, 4), (41, 38))),  # many pixels to a cell: several blocks
        (((1, 4), (5, 1)), ((9, 23), (21, 9))),  # one row, one column
        (((1, 1), (4, 5)), ((6, 5), (4, 5))),  # one node; a node for every pixel
        (((2, 3), (2, 3)), ((13, 10), (11, 17))),  # one grid size: planned together on a GPU
    ],
)
def test_backends_are_exact_at_odd_sizes(loops, grids, sizes):
    query, key = (
        random_map(*grid, height=size[0], width=size[1], seed=seed)
        for seed, (grid, size) in enumerate(zip(grids, sizes, strict=True))
    )
    found = create_matcher("grid").search(query, key, pixels(query), pixels(key))
    assert_exact(found, query, key, pixels(query), pixels(key))


def test_masks_leave_candidates_out(loops):
    query = random_map(3, 4, height=13, width=18)
    key = random_map(4, 3, height=19, width=14, seed=1)
    mask = torch.zeros(19, 14, dtype=torch.bool)
    mask[2:5, 3:12] = mask[15, 13] = True
    queries, keys = pixels(query, torch.ones(13, 18, dtype=torch.bool).tril()), pixels(key, mask)
    found = create_matcher("grid").search(query, key, queries, keys)
    assert_exact(found, query, key, queries, keys)
    assert found.index.max() < len(keys) == int(mask.sum())


def test_constant_maps_take_the_lowest_index(loops):
    """Every key ties with every other, whatever rounding does to each."""
    generator = torch.Generator().manual_seed(3)
    for channels in (1, 5):
        direction = torch.randn(channels, 1, 1, generator=generator)
        key = DescriptorMap.covering(direction.expand(-1, 4, 5), height=21, width=26)
        query = DescriptorMap.covering(direction.expand(-1, 3, 3), height=14, width=11)
        found = create_matcher("grid").search(query, key, pixels(query), pixels(key))
        assert found.index.eq(0).all()
        torch.testing.assert_close(found.similarity, torch.ones(154, 1))


def test_duplicates_take_the_lowest_index_as_the_reference_does(loops):
    """The left half of the key image stands again in its right half."""
    half = random_map(4, 3, height=16, width=12).data
    key = DescriptorMap.covering(torch.cat([half, half], dim=2), height=16, width=24)
    query = random_map(3, 3, height=10, width=11, seed=1)
    # Away from the seam both halves hold the same descriptors bit for bit.
    mask = torch.zeros(16, 24, dtype=torch.bool)
    mask[:, 3:9] = mask[:, 15:21] = True
    keys = pixels(key, mask)
    found = create_matcher("grid").search(query, key, pixels(query), keys)
    truth = create_matcher("reference").search(query, key, pixels(query), keys)
    assert (keys.xy[found.index[:, 0], 0] < 12).all()
    assert torch.equal(found.index, truth.index)


def test_sites_at_one_place_are_all_candidates(loops):
    """Beyond the outermost node a map is constant: whole blocks have one descriptor and tie."""
    query = random_map(2, 3, height=20, width=28, channels=5)
    key = random_map(3, 2, height=36, width=28, channels=5, seed=1)
    generator = torch.Generator().manual_seed(0)
    queries, keys = pixels(query, torch.rand(20, 28, generator=generator) < 0.02), pixels(key)
    found = create_matcher("grid").search(query, key, queries, keys)
    assert_exact(found, query, key, queries, keys)


def test_zero_and_broken_descriptors_never_match(loops):
    query = random_map(3, 3, height=9, width=9, channels=4)
    query.data[:, 1, 1] = 0
    key = random_map(3, 4, height=9, width=12, channels=4, seed=1)
    key.data[:, 0] = 0
    key.data[1, 2, 3] = torch.nan
    key.data[1, 2, 0] = torch.inf
    found = create_matcher("grid").search(query, key, pixels(query), pixels(key))
    truth = create_matcher("reference").search(query, key, pixels(query), pixels(key))
    assert torch.equal(found.index, truth.index)
    assert found.index[4 * 9 + 4] == -1  # the centre of the zero node
    assert found.similarity.isfinite().all()
    usable = (found.index >= 0)[:, 0]
    assert (found.index[usable] >= 12).all()  # row 0 of the key image is zero


@pytest.mark.parametrize("empty", [(True, False), (False, True), (True, True)])
def test_a_map_without_any_descriptor_finds_nothing(loops, empty):
    items = [random_map(3, 4, height=7, width=9, seed=seed) for seed in range(2)]
    for item, zero in zip(items, empty, strict=True):
        item.data.mul_(0 if zero else 1)
    found = create_matcher("grid").search_pair(
        *items, *map(pixels, items), homes=pixels(items[0]), window=Window()
    )
    assert found.forward.index.eq(-1).all()
    assert found.returned.eq(-1).all()
    assert found.refined.xy.eq(0).all()


def test_opposite_descriptors_have_a_match(loops):
    """All cosines are negative: the bound takes the smallest stretch."""
    query = random_map(3, 3, height=9, width=10, channels=6)
    query.data.abs_()
    key = random_map(3, 3, height=11, width=9, channels=6, seed=1)
    key.data.abs_().neg_()
    found = create_matcher("grid").search(query, key, pixels(query), pixels(key))
    assert (found.similarity < 0).all()
    assert_exact(found, query, key, pixels(query), pixels(key))


def test_half_precision_maps_are_read_in_float32(loops):
    query = random_map(2, 3, height=7, width=8, dtype=torch.float16)
    key = random_map(3, 2, height=9, width=7, seed=1, dtype=torch.float16)
    found = create_matcher("grid").search(query, key, pixels(query), pixels(key))
    full = create_matcher("grid").search(query.float(), key.float(), pixels(query), pixels(key))
    assert torch.equal(found.index, full.index)
    assert torch.equal(found.similarity, full.similarity)


def test_bands_do_not_change_the_result(loops, monkeypatch):
    query = random_map(3, 2, height=5, width=4)
    key = random_map(2, 3, height=4, width=6, seed=1)
    search = create_matcher("grid").search_pair
    arguments = (query, key, pixels(query), pixels(key))
    whole = search(*arguments, homes=pixels(query), window=Window())
    for floats in (1, 60):  # one row or three of six at once
        monkeypatch.setattr(grid_engine, "_BAND_FLOATS", floats)
        monkeypatch.setattr(grid_engine, "_KEPT_FLOATS", 0)
        bands = search(*arguments, homes=pixels(query), window=Window())
        assert_same_pair(bands, whole)


def assert_same_pair(one: PairMatches, other: PairMatches) -> None:
    assert torch.equal(one.forward.index, other.forward.index)
    torch.testing.assert_close(one.forward.similarity, other.forward.similarity)
    assert one.returned is not None
    assert other.returned is not None
    assert torch.equal(one.returned, other.returned)
    assert one.refined is not None
    assert other.refined is not None
    torch.testing.assert_close(one.refined.xy, other.refined.xy, atol=2e-4, rtol=0)
    torch.testing.assert_close(one.refined.similarity, other.refined.similarity)


@pytest.mark.parametrize("masked", [False, True])
def test_a_pair_is_what_separate_searches_find(loops, masked):
    """Forward, way back and refinement from one set of products, against the generic path."""
    query = random_map(2, 3, height=6, width=8, channels=16)
    query.data[:, 0, 0] = 0  # some queries find nothing
    key = random_map(3, 2, height=8, width=7, channels=16, seed=1)
    mask = torch.rand(8, 7, generator=torch.Generator().manual_seed(0)) < 0.5
    keys = pixels(key, mask if masked else None)
    homes = pixels(query, torch.ones(6, 8, dtype=torch.bool).triu())
    options = {"homes": homes, "window": Window(radius=2, temperature=0.05)}
    queries = pixels(query)
    found = search_pair(create_matcher("grid"), query, key, queries, keys, **options)
    truth = search_pair(create_matcher("reference"), query, key, queries, keys, **options)
    assert (found.forward.index < 0).any()
    assert_same_pair(found, truth)
    # One query needs other products for the way back.
    queries = Sites(torch.tensor([[4.3, 3.0]]))
    found = search_pair(create_matcher("grid"), query, key, queries, keys, **options)
    truth = search_pair(create_matcher("reference"), query, key, queries, keys, **options)
    assert_same_pair(found, truth)


@pytest.mark.parametrize("k", [1, 3])
def test_compiled_windows_are_the_readable_ones(k, monkeypatch):
    query = random_map(4, 5, height=13, width=19, channels=16)
    key = random_map(5, 4, height=17, width=14, channels=16, seed=1)
    arguments = (query, key, pixels(query), pixels(key))
    fast = create_matcher("grid").search_pair(*arguments, k=k, window=Window()).refined
    monkeypatch.setattr(grid_cpu, "refine_band", grid_refine.refine_band)
    slow = create_matcher("grid").search_pair(*arguments, k=k, window=Window()).refined
    assert fast.xy.shape == (247, k, 2)
    torch.testing.assert_close(fast.xy, slow.xy, atol=1e-4, rtol=0)
    torch.testing.assert_close(fast.similarity, slow.similarity)


def test_windows_need_pixels():
    item = random_map(2, 3, height=6, width=8)
    points = Sites(torch.tensor([[1.5, 2.0]]))
    with pytest.raises(InputError, match="refined among the pixels of an image"):
        create_matcher("grid").search_pair(item, item, points, points, window=Window())
    with pytest.raises(InputError, match="radius must be at least 1 pixel, got 0"):
        Window(radius=0)
    with pytest.raises(InputError, match="temperature must be positive, got 0"):
        Window(temperature=0)


def test_many_images_against_one(loops, monkeypatch):
    monkeypatch.setattr(grid_cpu, "TOGETHER", 2)
    key = random_map(3, 2, height=11, width=10)
    sizes = [((2, 3), (7, 8)), ((2, 3), (8, 5)), ((3, 1), (5, 6)), ((2, 3), (6, 7))]
    items = [
        random_map(*grid, height=size[0], width=size[1], seed=seed)
        for seed, (grid, size) in enumerate(sizes, 1)
    ]
    queries = [(item, pixels(item)) for item in items]
    queries[1] = (items[1], Sites(torch.tensor([[3.2, 1.0], [0.0, 0.0]])))
    together = search_many(create_matcher("grid"), queries, key, pixels(key))
    single = search_many(create_matcher("reference"), queries, key, pixels(key))
    for one, other in zip(together, single, strict=True):
        assert torch.equal(one.index, other.index)
        torch.testing.assert_close(one.similarity, other.similarity)
    other = random_map(3, 4, height=11, width=13, channels=5)
    with pytest.raises(InputError, match="has 5 channels but the key map has 7"):
        search_many(create_matcher("grid"), [*queries, (other, pixels(other))], key, pixels(key))


def test_the_plan_states_every_site_and_bounds_it():
    item = random_map(4, 5, height=29, width=37, channels=6)
    nodes = GridNodes.of([item])
    sites = pixels(item, torch.rand(29, 37, generator=torch.Generator().manual_seed(0)) < 0.7)
    plan = plan_sites(nodes, [item], [sites], [BlockShape(spacing=3, most=5)])
    assert plan.site.sort().values.equal(torch.arange(len(sites)))
    around = plan.rows_of_sites(0, len(sites))
    rows = (plan.coefficient[..., None] * nodes.unit[around]).sum(1)
    truth, stretch = exact_rows(item, Sites(sites.xy[plan.site]))
    torch.testing.assert_close(rows, truth.float())
    torch.testing.assert_close(plan.coefficient.sum(1), stretch.float())
    sizes = plan.block_sites.diff()
    assert sizes.min() >= 1
    assert sizes.max() <= 5
    directions = torch.randn(50, 6, generator=torch.Generator().manual_seed(1)).double()
    scores = directions @ truth.T
    for block, (start, stop) in enumerate(zip(plan.block_sites, plan.block_sites[1:])):  # noqa: B905
        members = slice(int(start), int(stop))
        cell = int(plan.block_cell[block])
        assert plan.cell_blocks[cell] <= block < plan.cell_blocks[cell + 1]
        assert plan.block_first[block] == plan.site[members].min()
        assert plan.site[members].equal(plan.site[members].sort().values)
        four = nodes.unit[plan.cell_nodes[cell].long()].double()
        corners = plan.block_corners[block].double() @ four
        best = scores[:, members].max(dim=1).values
        for ends, limits in ((four, plan.cell_stretch[cell]), (corners, plan.block_stretch[block])):
            largest = (directions @ ends.T).max(dim=1).values
            bound = largest * torch.where(largest > 0, *limits.double())
            assert (bound >= best - 1e-6).all()
    first = [int(plan.site[plan.block_sites[b] :].numel()) for b in plan.cell_blocks[:-1]]
    assert first == sorted(first, reverse=True)


def test_reduced_precision_of_torch_is_not_taken(monkeypatch):
    """What a training script sets for speed must not reach the scores."""
    query, key = (
        random_map(6, 6, height=20, width=20),
        random_map(6, 6, height=20, width=20, seed=1),
    )
    engines = [create_matcher(name) for name in ("grid", "reference")]
    before = [engine.search(query, key, pixels(query), pixels(key)) for engine in engines]
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            after = [engine.search(query, key, pixels(query), pixels(key)) for engine in engines]
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one.index, other.index)
        assert torch.equal(one.similarity, other.similarity)


def test_threads_do_not_change_the_result():
    query = random_map(6, 7, height=61, width=70)
    key = random_map(7, 6, height=66, width=60, seed=1)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append(create_matcher("grid").search(query, key, pixels(query), pixels(key)))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0].index, results[1].index)


def test_a_gpu_without_triton_falls_back_aloud(monkeypatch, caplog):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with caplog.at_level(logging.INFO, logger="warpkit"):
        assert grid_engine._loops(torch.device("cuda"), 1) is None
    assert "needs the package triton on a GPU" in caplog.text
    monkeypatch.setattr(grid_engine, "_loops", lambda device, k: None)
    item = random_map(3, 4, height=9, width=8)
    found = create_matcher("grid").search_pair(
        item, item, pixels(item), pixels(item), homes=pixels(item), window=Window()
    )
    truth = create_matcher("reference").search(item, item, pixels(item), pixels(item))
    assert torch.equal(found.forward.index, truth.index)
    assert found.returned.equal(truth.index)  # the same search, the other way round
    assert found.refined is not None


def test_missing_numba_says_how_to_get_it(monkeypatch):
    monkeypatch.delattr("warpkit.match.grid.cpu")
    monkeypatch.setitem(sys.modules, "warpkit.match.grid.cpu", None)
    item = random_map(2, 3, height=4, width=6)
    with pytest.raises(InputError, match="pip install numba"):
        create_matcher("grid").search(item, item, pixels(item), pixels(item))


def test_compilation_is_told(tmp_path: Path, caplog):
    def loop_with(**stats):
        return SimpleNamespace(
            py_func=SimpleNamespace(__name__="search"), stats=SimpleNamespace(**stats)
        )

    calls = []
    with caplog.at_level(logging.INFO, logger="warpkit"):
        fresh = loop_with(cache_path=str(tmp_path), cache_misses={"sig": 1}, cache_hits={})
        grid_cpu._compile(fresh, lambda: calls.append(1))
        assert "compiling the matching loop search for this processor" in caplog.text
        assert f"and kept it in {tmp_path}" in caplog.text
        caplog.clear()
        (tmp_path / "loops.search-1.py311.nbi").touch()
        loaded = loop_with(cache_path=str(tmp_path), cache_misses={}, cache_hits={"sig": 1})
        grid_cpu._compile(loaded, lambda: calls.append(2))
        assert caplog.text == ""
        grid_cpu._compile(
            loop_with(cache_path=None, cache_misses={}, cache_hits={}), lambda: calls.append(3)
        )
        assert "for this process" in caplog.text
    assert calls == [1, 2, 3]


def test_arrays_are_not_copied_needlessly():
    item = random_map(3, 4, height=9, width=8)
    plan = plan_sites(GridNodes.of([item]), [item], [pixels(item)], [grid_cpu.KEYS])
    arrays = grid_cpu._arrays(plan)
    assert np.shares_memory(arrays.coefficient, plan.coefficient.numpy())
    assert all(array.flags.c_contiguous for array in arrays)
