"""Parts of the coherent solver against what they shorten."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from coherent_maps import random_map

from warpkit.coherent import CoherentConfig, FieldTask, coherent_field, coherent_fields
from warpkit.coherent.assignment import OUTSIDE, Candidates
from warpkit.coherent.config import Mirror
from warpkit.coherent.levels import UNIT
from warpkit.coherent.nodes import make_nodes, region_of
from warpkit.coherent.pairs import _principal
from warpkit.coherent.windows import tiled_products, whole_products
from warpkit.coords import pixel_grid
from warpkit.match.cores import own_cores
from warpkit.types import DescriptorMap


def test_tiles_give_the_products_of_all_with_all() -> None:
    maps = [random_map(90, 130, channels=12, seed=seed) for seed in (1, 2)]
    nodes = [
        make_nodes([m], [region_of(None, height=m.height, width=m.width, outlined=False)], nodes=21)
        for m in maps
    ]
    rows, columns = nodes[0].size
    generator = torch.Generator().manual_seed(0)
    # Windows of two layers; some are far off, and some lie beyond the border.
    corner = torch.randint(-9, 25, (1, 2, rows * columns, 2), generator=generator)
    whole, tiled = (f(*nodes, corner, 5) for f in (whole_products, tiled_products))
    assert torch.allclose(whole, tiled, atol=1e-5)
    # And one by hand: the window's third column and second row.
    x, y = (corner[0, 1, 30] + torch.tensor([2, 1])).tolist()
    place = nodes[1].descriptors[
        0, :, min(max(y, 0), nodes[1].size[0] - 1), min(max(x, 0), nodes[1].size[1] - 1)
    ]
    own = nodes[0].descriptors[0].flatten(1)[:, 30]
    assert float(whole[0, 1, 30, 1, 2]) == pytest.approx(float(own @ place), abs=1e-5)


@pytest.mark.parametrize("tau", [0.05, 0.01])
@pytest.mark.parametrize("layers", [1, 3])
def test_candidates_weigh_scores_and_distance(layers: int, tau: float) -> None:
    generator = torch.Generator().manual_seed(4)
    score = torch.rand(2, layers, 7, 5, 6, generator=generator) - 0.5
    score[0, :, 2, :, 3] = OUTSIDE
    score[0, :, 2, 2, 4] = -1.2  # bad, but a candidate
    score[1, :, 4] = OUTSIDE  # nothing at all
    cosine = torch.rand(score.shape, generator=generator)
    field = 6 * torch.rand(2, 3, 7, 2, generator=generator)
    # Every layer and node has a rectangle of its own; one rectangle serves all layers alone.
    first = torch.randint(0, 3, (2, 2, layers, 7, 1), generator=generator)
    x, y = torch.arange(6).float() + first[0], torch.arange(5).float() + first[1]
    theta, limit = 0.8, 1.5
    found = Candidates(score, cosine, x, y, temperature=tau).expect(field, theta=theta, limit=limit)
    for b, k, i in ((0, 0, 2), (1, 2, 6), (0, 1, 0)):
        one = score[b, min(k, layers - 1), i].double()
        u, v = (axis[b, min(k, layers - 1), i].double() for axis in (x, y))
        apart = (u - field[b, k, i, 0]) ** 2 + (v - field[b, k, i, 1])[:, None] ** 2
        near = torch.exp(-theta * apart / UNIT**2 / tau) + max(
            math.exp(-theta * limit / tau), 1e-30
        )
        weight = torch.exp(one / tau) * near * (one > OUTSIDE)
        total = weight.sum()
        place = torch.stack([(weight * u).sum(), (weight * v[:, None]).sum()]) / total
        assert torch.allclose(found.place[b, k, i].double(), place, atol=1e-4)
        alike = (weight * cosine[b, min(k, layers - 1), i]).sum() / total
        assert float(found.cosine[b, k, i]) == pytest.approx(float(alike), abs=1e-5)
        assert float(found.energy[b, k, i]) == pytest.approx(float(tau * total.log()), abs=1e-5)
    # Without a candidate a node stays where its field leads, and says nothing.
    assert torch.equal(found.place[1, :, 4], field[1, :, 4])
    assert float(found.cosine[1, :, 4].abs().max()) == 0


def test_nodes_cover_a_mask_exactly() -> None:
    m = random_map(100, 160, channels=8)
    mask = torch.zeros(100, 160, dtype=torch.bool)
    mask[31:78, 40:103] = True
    mask[50:52, 20:40] = True
    nodes = make_nodes([m], [region_of(mask, height=100, width=160, outlined=True)], nodes=83)
    # Squares of one pixel: each is in or out.
    assert float(nodes.weight.sum() * nodes.pitch**2) == pytest.approx(int(mask.sum()), rel=0.01)


def test_a_mirrored_region_is_the_mirrored_masks() -> None:
    mask = torch.zeros(90, 120, dtype=torch.bool)
    mask[10:70, 5:44] = True
    mask[20:40, 44:71] = True
    turned = region_of(mask, height=90, width=120, outlined=True).mirrored(120)
    again = region_of(mask.flip(1), height=90, width=120, outlined=True)
    assert turned.mask is not None and torch.equal(turned.mask, mask.flip(1))
    assert turned.box == again.box
    assert turned.planes is not None and again.planes is not None
    assert torch.allclose(turned.planes, again.planes, atol=1e-3)


def test_principal_directions_keep_products() -> None:
    generator = torch.Generator().manual_seed(1)
    spectrum = 0.9 ** torch.arange(60).float()
    rows = torch.randn(500, 60, generator=generator) * spectrum
    basis = _principal((rows.T @ rows)[None], 20)[0]
    assert torch.allclose(basis.T @ basis, torch.eye(20), atol=1e-5)
    exact = torch.linalg.eigh(rows.T @ rows).eigenvectors[:, -20:]
    kept, most = (float(((rows @ b) ** 2).sum()) for b in (basis, exact))
    assert kept > 0.995 * most


def test_nodes_of_many_images_are_those_of_each() -> None:
    """Images of two grids, whole, masked, and masked by an outline; padding takes no part."""
    maps = [random_map(100, 160), random_map(100, 160, seed=1), random_map(60, 90, seed=2)]
    mask = torch.zeros(100, 160, dtype=torch.bool)
    mask[31:78, 40:103] = True
    small = torch.zeros(60, 90, dtype=torch.bool)
    small[5:30, 50:80] = True
    regions = [
        region_of(None, height=100, width=160, outlined=False),
        region_of(mask, height=100, width=160, outlined=False),
        region_of(small, height=60, width=90, outlined=True),
        region_of(mask, height=100, width=160, outlined=True),
    ]
    maps.append(maps[0])
    together = make_nodes(maps, regions, nodes=17)
    for i, (at, region) in enumerate(zip(maps, regions, strict=True)):
        alone = make_nodes([at], [region], nodes=17)
        h, w = alone.size
        for name in ("descriptors", "weight", "rim"):
            one, many = getattr(alone, name)[0], getattr(together, name)[i]
            assert torch.allclose(many[..., :h, :w], one, atol=1e-6)
            assert not bool(many[..., h:, :].any()) and not bool(many[..., w:].any())
        for name in ("origin", "pitch", "edge"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[i])


def test_cores_keep_the_order_and_the_callers_threads() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with own_cores(torch.device("cpu"), most=2) as cores:

            def threads() -> int:
                return torch.get_num_threads()

            def beside() -> list[int]:
                assert not torch.is_grad_enabled()
                return cores.beside([threads, threads, lambda: 7])

            assert torch.get_num_threads() == 2
            assert cores.each([beside]) == [[1, 1, 7]]
            assert cores.each([lambda k=k: k for k in range(9)]) == list(range(9))
            with pytest.raises(ValueError, match="said"):
                cores.each([lambda: int("said")])
        assert torch.get_num_threads() == 2
        # Threads to come have their share again.
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)


def test_one_core_and_two_give_one_result() -> None:
    source, target = random_map(90, 130), random_map(90, 130, seed=1)
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(coherent_fields([FieldTask(source, target)])[0])
            found += coherent_fields([FieldTask(source, target)] * 2)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one.source_xy, found[0].source_xy) for one in found)
    assert all(one.quality == found[0].quality for one in found)


@pytest.mark.parametrize("size", [(2, 300), (900, 2), (7, 900), (1200, 9)])
@pytest.mark.parametrize("mirror", ["never", "auto"])
def test_pictures_thinner_than_a_cell_have_a_field(size: tuple[int, int], mirror: Mirror) -> None:
    """Their cells are square, as a network's are, and reach beyond the picture's short side."""
    height, width = size
    rows, columns = (64, 1) if height > width else (1, 64)
    data = torch.randn(12, rows, columns, generator=torch.Generator().manual_seed(0))
    cell = max(size) / 64
    picture = DescriptorMap(data, height, width, cell, cell)
    turned = replace(picture, data=data.flip(2))
    config = CoherentConfig(mirror=mirror)
    found = coherent_field(picture, picture, mirrored=turned, config=config)
    away = found.warp(fill=True).source_xy - pixel_grid(height=height, width=width)
    assert float(away.norm(dim=2).mean()) < 0.01 * max(size)
