"""Dense fields, backward warping and blending."""

from __future__ import annotations

import logging
import math
from dataclasses import fields

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from warpkit.checks import InputError
from warpkit.coords import pixel_grid, sample_descriptors, scale_points
from warpkit.match.filters import inside_mask, refine_subpixel
from warpkit.match.matcher import create_matcher
from warpkit.match.settings import MatchFilters
from warpkit.types import DescriptorMap, Matches, Warp
from warpkit.warp import backward_warp, blend, dense_warp, dense_warps


def random_map(h: int, w: int, *, height: int, width: int, seed: int = 0, channels: int = 12):
    generator = torch.Generator().manual_seed(seed)
    data = torch.randn(channels, h, w, generator=generator)
    return DescriptorMap.covering(data, height=height, width=width)


def position_map(*, height: int, width: int, roll: int = 0) -> DescriptorMap:
    """Descriptors that vary smoothly and uniquely with the relative position in the image."""
    grid = (pixel_grid(height=height, width=width) + 0.5) / torch.tensor([width, height])
    if roll:
        grid = grid.roll(roll, dims=1)
    angle = grid * (0.9 * math.pi)
    data = torch.stack(
        [angle[..., 0].cos(), angle[..., 0].sin(), angle[..., 1].cos(), angle[..., 1].sin()]
    )
    return DescriptorMap.covering(data, height=height, width=width)


def random_mask(height: int, width: int, *, share: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 1, 4, 5, generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear")[0, 0]
    return smooth <= smooth.flatten().quantile(share)


def test_identity_field():
    descriptors = random_map(11, 17, height=11, width=17)
    warp = dense_warp(descriptors, descriptors)
    assert torch.equal(warp.source_xy, pixel_grid(height=11, width=17))
    assert warp.valid.all()
    torch.testing.assert_close(warp.similarity, torch.ones(11, 17))
    assert (warp.source_height, warp.source_width) == (11, 17)


@pytest.mark.parametrize("engine", ["reference", "faiss", "grid"])
def test_field_is_the_best_candidate_inside_the_masks(engine):
    source = random_map(5, 4, height=13, width=11)
    target = random_map(6, 7, height=9, width=15, seed=1)
    source_mask = random_mask(13, 11, share=0.4, seed=2)
    target_mask = random_mask(9, 15, share=0.6, seed=3)
    warp = dense_warp(
        source,
        target,
        source_mask=source_mask,
        target_mask=target_mask,
        matcher=create_matcher(engine),
    )
    assert torch.equal(warp.valid, target_mask)
    assert inside_mask(source_mask, warp.source_xy[target_mask]).all()
    assert warp.source_xy[~target_mask].eq(0).all()
    assert warp.similarity[~target_mask].eq(0).all()
    query = sample_descriptors(target, pixel_grid(height=9, width=15)[target_mask])
    key = sample_descriptors(source, pixel_grid(height=13, width=11)[source_mask])
    best = (query @ key.T).max(dim=1).values
    torch.testing.assert_close(warp.similarity[target_mask], best, atol=1e-6, rtol=0)


def test_filters_reject_pixels():
    # All of the target looks like source pixel (0, 0); only one of its pixels can be mutual.
    source = random_map(3, 4, height=3, width=4)
    flat = source.data[:, :1, :1].expand(-1, 5, 6)
    target = DescriptorMap.covering(flat, height=5, width=6)
    mutual = dense_warp(source, target, filters=MatchFilters(mutual=True))
    assert mutual.valid.sum() == 1
    assert mutual.valid[0, 0]
    near = dense_warp(source, target, filters=MatchFilters(cycle_distance=2.0))
    distance = pixel_grid(height=5, width=6).norm(dim=-1)
    assert torch.equal(near.valid, distance <= 2.0)
    assert near.similarity[~near.valid].eq(0).all()


def test_min_similarity_holds_for_every_valid_pixel():
    source = random_map(4, 5, height=20, width=25)
    target = random_map(4, 5, height=20, width=25, seed=1)
    for max_pairs in (1e9, 3e4):
        every = coarse_warp(source, target, max_pairs=max_pairs)
        some = coarse_warp(source, target, max_pairs=max_pairs, min_similarity=0.6)
        assert torch.equal(some.valid, every.similarity >= 0.6)
        assert 0 < some.valid.sum() < 500


def coarse_warp(source: DescriptorMap, target: DescriptorMap, **options) -> Warp:
    """Only engines that compare all pairs are limited by `max_pairs`."""
    names = {item.name for item in fields(MatchFilters)}
    filters = MatchFilters(**{name: options.pop(name) for name in names & options.keys()})
    return dense_warp(
        source, target, matcher=create_matcher("reference"), filters=filters, **options
    )


@pytest.mark.parametrize("size", [(37, 52), (41, 29), (24, 24)])
def test_coarse_identity_is_still_exact(size, caplog):
    height, width = size
    descriptors = random_map(height, width, height=height, width=width)
    with caplog.at_level(logging.DEBUG, logger="warpkit"):
        warp = coarse_warp(descriptors, descriptors, max_pairs=(height * width) ** 2 / 60)
    assert "one site for 3 rows and columns" in caplog.text
    # A match is a lattice site; what lies between is interpolated or shifted back to the pixel.
    torch.testing.assert_close(
        warp.source_xy, pixel_grid(height=height, width=width), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(warp.similarity, torch.ones(size), atol=1e-4, rtol=0)


def test_factor_is_the_smallest_that_fits(caplog):
    descriptors = position_map(height=20, width=30)
    with caplog.at_level(logging.DEBUG, logger="warpkit"):
        coarse_warp(descriptors, descriptors, max_pairs=600**2)
    assert caplog.text == ""
    with caplog.at_level(logging.DEBUG, logger="warpkit"):
        coarse_warp(descriptors, descriptors, max_pairs=600**2 - 1)
    assert "one site for 2 rows and columns (150 x 150 sites" in caplog.text


def test_coarse_field_between_different_sizes():
    source, target = position_map(height=60, width=90), position_map(height=41, width=57)
    warp = coarse_warp(source, target, max_pairs=3e5)
    truth = scale_points(
        pixel_grid(height=41, width=57), from_height=41, from_width=57, to_height=60, to_width=90
    )
    step = 4  # the lattices of this search
    assert (warp.source_xy - truth).norm(dim=-1).max() < step
    assert (warp.source_xy - truth).norm(dim=-1).mean() < step / 3


def test_coarse_field_does_not_interpolate_across_a_jump():
    # The target is the source moved around by half its width: the field jumps at column 30.
    source, target = position_map(height=30, width=60), position_map(height=30, width=60, roll=30)
    warp = coarse_warp(source, target, max_pairs=1.3e5)
    truth = (pixel_grid(height=30, width=60)[..., 0] - 30) % 60
    error = (warp.source_xy[..., 0] - truth).abs()
    assert error[:, 3:-3].min(dim=0).values.max() < 3
    # Next to the jump a pixel may belong to either side, but never to what lies between.
    either = torch.minimum(error, 60 - error)
    assert either.max() < 4


@pytest.mark.parametrize("seed", range(8))
def test_coarse_invariants(seed):
    """Whatever the masks: valid is the target mask and every match lies inside the source mask."""
    source = random_map(5, 6, height=34, width=68, seed=seed)
    target = random_map(6, 5, height=51, width=38, seed=seed + 100)
    source_mask = random_mask(34, 68, share=[0.02, 0.2, 0.7][seed % 3], seed=seed)
    target_mask = random_mask(51, 38, share=[0.5, 0.05][seed % 2], seed=seed + 50)
    target_mask[:, 7] = True  # thin: most lattices miss it
    pairs = float(source_mask.sum()) * float(target_mask.sum())
    for part in (3, 40, 700):
        warp = coarse_warp(
            source,
            target,
            source_mask=source_mask,
            target_mask=target_mask,
            max_pairs=max(4000.0, pairs / part),
        )
        assert torch.equal(warp.valid, target_mask)
        assert inside_mask(source_mask, warp.source_xy[target_mask]).all()
        cosine = (
            sample_descriptors(source, warp.source_xy[target_mask])
            * sample_descriptors(target, pixel_grid(height=51, width=38)[target_mask])
        ).sum(dim=1)
        torch.testing.assert_close(warp.similarity[target_mask], cosine, atol=1e-5, rtol=0)


def test_coarse_mutual_rejects_whole_sites():
    source = random_map(3, 4, height=3, width=4)
    flat = source.data[:, :1, :1].expand(-1, 20, 24)
    target = DescriptorMap.covering(flat, height=20, width=24)
    warp = coarse_warp(source, target, mutual=True, max_pairs=500)
    rows, columns = torch.nonzero(warp.valid, as_tuple=True)
    assert 1 < len(rows) < 100  # the block of the first lattice site
    assert rows.max() < 8
    assert columns.max() < 8


@pytest.mark.parametrize("engine", ["grid", "reference"])
@pytest.mark.parametrize("max_pairs", [4e9, 4000])
def test_subpixel_fields_are_refined_matches(engine, max_pairs):
    source, target = position_map(height=20, width=31), position_map(height=17, width=26)
    source_mask = random_mask(20, 31, share=0.6, seed=1)
    target_mask = random_mask(17, 26, share=0.5, seed=2)
    options = {
        "source_mask": source_mask,
        "target_mask": target_mask,
        "matcher": create_matcher(engine),
    }
    coarse = dense_warp(source, target, filters=MatchFilters(max_pairs=max_pairs), **options)
    filters = MatchFilters(max_pairs=max_pairs, subpixel=True)
    fine = dense_warp(source, target, filters=filters, **options)
    assert torch.equal(fine.valid, target_mask)
    assert inside_mask(source_mask, fine.source_xy[target_mask]).all()
    rows = Matches(
        pixel_grid(height=17, width=26)[target_mask],
        coarse.source_xy[target_mask][:, None],
        coarse.similarity[target_mask][:, None],
        torch.ones(int(target_mask.sum()), 1, dtype=torch.bool),
    )
    refined = refine_subpixel(rows, target, source, target_mask=source_mask)
    found = fine.source_xy[target_mask]
    torch.testing.assert_close(found, refined.target_xy[:, 0], atol=2e-3, rtol=0)
    torch.testing.assert_close(
        fine.similarity[target_mask], refined.similarity[:, 0], atol=1e-5, rtol=0
    )
    assert (fine.source_xy != coarse.source_xy).any()


@pytest.mark.parametrize("engine", ["grid", "faiss"])
def test_many_targets_are_single_warps(engine):
    source = random_map(5, 4, height=13, width=11)
    targets = [
        random_map(*grid, height=size[0], width=size[1], seed=seed)
        for seed, (grid, size) in enumerate(
            [((6, 7), (9, 15)), ((6, 7), (9, 15)), ((3, 3), (8, 7))]
        )
    ]
    mask = random_mask(13, 11, share=0.5, seed=4)
    matcher = create_matcher(engine)
    filters = MatchFilters(min_similarity=0.4)
    options = {"source_mask": mask, "matcher": matcher, "filters": filters}
    warps = dense_warps(source, targets, **options)
    assert len(warps) == 3
    for target, warp in zip(targets, warps, strict=True):
        single = dense_warp(source, target, **options)
        assert torch.equal(warp.valid, single.valid)
        assert 0 < warp.valid.sum() < warp.valid.numel()
        assert torch.equal(warp.source_xy, single.source_xy)
        torch.testing.assert_close(warp.similarity, single.similarity)


def test_bad_input_is_named():
    descriptors = random_map(3, 4, height=6, width=8)
    with pytest.raises(InputError, match=r"max_pairs is 0\.5 but even the coarsest"):
        coarse_warp(descriptors, descriptors, max_pairs=0.5)
    with pytest.raises(InputError, match="source_mask is empty"):
        dense_warp(descriptors, descriptors, source_mask=torch.zeros(6, 8, dtype=torch.bool))
    with pytest.raises(InputError, match="target_mask is 8 x 6"):
        dense_warp(descriptors, descriptors, target_mask=torch.ones(8, 6, dtype=torch.bool))


# Backward warping


def warp_to(points: list[list[float]], *, source_height: int, source_width: int) -> Warp:
    """A warp whose target is one row of pixels that take the given source points."""
    xy = torch.tensor(points)[None]
    size = (1, len(points))
    return Warp(
        xy, torch.ones(size), torch.ones(size, dtype=torch.bool), source_height, source_width
    )


def test_backward_identity_both_ways():
    image = torch.rand(3, 7, 5, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(7, 5, dtype=torch.bool)
    valid[2, 3] = False
    warp = Warp(pixel_grid(height=7, width=5), valid.float(), valid, 7, 5)
    for mode in ("bilinear", "nearest"):
        assert torch.equal(backward_warp(image, warp, interpolation=mode), image * valid)


def test_backward_hand_computed():
    image = torch.tensor([[[0.0, 4.0, 8.0], [16.0, 20.0, 24.0]]])
    points = [[0.25, 0.0], [0.5, 0.5], [2.4, 1.2], [-0.4, 0.5], [1.5, 0.0]]
    warp = warp_to(points, source_height=2, source_width=3)
    torch.testing.assert_close(
        backward_warp(image, warp)[0, 0], torch.tensor([1.0, 10.0, 24.0, 8.0, 6.0])
    )
    nearest = backward_warp(image, warp, interpolation="nearest")[0, 0]
    assert nearest.tolist() == [0, 20, 24, 16, 8]  # halves round up


def test_backward_takes_nothing_from_outside_the_mask():
    image = torch.tensor([[[1.0, torch.nan, 3.0], [torch.inf, 100.0, 5.0]]])
    mask = torch.tensor([[True, False, True], [False, False, True]])
    warp = warp_to(
        [[0.25, 0.25], [1.75, 0.0], [1.75, 0.75], [2.0, 0.5]], source_height=2, source_width=3
    )
    # (0.25, 0.25) sees only pixel (0, 0); (1.75, 0.75) mixes 3 and 5 by 0.25 : 0.75.
    expected = torch.tensor([1.0, 3.0, 4.5, 4.0])
    torch.testing.assert_close(backward_warp(image, warp, source_mask=mask)[0, 0], expected)


def test_backward_mask_normalised_is_the_loop():
    generator = torch.Generator().manual_seed(5)
    image = torch.rand(2, 6, 9, generator=generator)
    mask = torch.rand(6, 9, generator=generator) < 0.6
    xy = torch.rand(60, 2, generator=generator) * torch.tensor([9, 6]) - 0.5
    xy = xy[inside_mask(mask, xy)]
    out = backward_warp(
        image, warp_to(xy.tolist(), source_height=6, source_width=9), source_mask=mask
    )
    for i, (x, y) in enumerate(xy.tolist()):
        x, y = min(max(x, 0.0), 8.0), min(max(y, 0.0), 5.0)
        value, total = torch.zeros(2), 0.0
        for row in range(6):
            for column in range(9):
                share = max(0.0, 1 - abs(x - column)) * max(0.0, 1 - abs(y - row))
                if mask[row, column] and share > 0:
                    value += share * image[:, row, column]
                    total += share
        torch.testing.assert_close(out[:, 0, i], value / total, atol=1e-5, rtol=0)


def test_backward_bad_input_is_named():
    warp = warp_to([[0.0, 0.0], [1.0, 0.0]], source_height=2, source_width=3)
    with pytest.raises(InputError, match=r"reads a float source \(C, 2, 3\), got torch.uint8"):
        backward_warp(torch.zeros(3, 2, 3, dtype=torch.uint8), warp)
    with pytest.raises(InputError, match="unknown interpolation 'linear'"):
        backward_warp(torch.zeros(3, 2, 3), warp, interpolation="linear")  # type: ignore[arg-type]
    mask = torch.tensor([[True, False, True], [True, True, True]])
    with pytest.raises(InputError, match="1 valid pixels of the warp lead outside source_mask"):
        backward_warp(torch.zeros(3, 2, 3), warp, source_mask=mask)
    with pytest.raises(InputError, match=r"source_mask must be a bool tensor \(2, 3\)"):
        backward_warp(torch.zeros(3, 2, 3), warp, source_mask=mask.float())


# Blending

MODES = ["paste", "feather", "poisson"]


def images(height: int = 33, width: int = 46) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    target, warped = generator.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    return target, warped


def blob_masks() -> dict[str, np.ndarray]:
    inner, border, two, corner, tiny = np.zeros((5, 33, 46), dtype=bool)
    inner[7:20, 9:30] = True
    inner[7:10, 9:14] = False
    border[:15, 20:] = True
    border[25:, :] = True
    two[3:14, 3:15] = True
    two[18:30, 25:43] = True
    corner[:9, :9] = True
    corner[-1, -1] = True
    tiny[5, 5] = tiny[9:11, 9:11] = tiny[20, :] = True
    return {
        "inner": inner,
        "border": border,
        "two": two,
        "corner": corner,
        "tiny": tiny,
        "none": np.zeros((33, 46), dtype=bool),
        "all": np.ones((33, 46), dtype=bool),
    }


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", list(blob_masks()))
def test_the_target_outside_valid_is_untouched(mode, name):
    (target, warped), valid = images(), blob_masks()[name]
    before = (target.copy(), warped.copy(), valid.copy())
    out = blend(target, warped, valid, mode=mode)
    assert out.dtype == np.uint8
    assert np.array_equal(out[~valid], target[~valid])
    assert valid.sum() == 0 or not np.array_equal(out, target)
    for now, then in zip((target, warped, valid), before, strict=True):
        assert np.array_equal(now, then)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", list(blob_masks()))
def test_blending_an_image_with_itself_changes_nothing(mode, name):
    target, _ = images()
    out = blend(target, target.copy(), blob_masks()[name], mode=mode)
    # Poisson solves in floats and truncates; everything else is exact.
    assert np.abs(out.astype(int) - target).max() <= (1 if mode == "poisson" else 0)


def test_paste_takes_the_warped_pixels():
    (target, warped), valid = images(), blob_masks()["two"]
    assert np.array_equal(blend(target, warped, valid)[valid], warped[valid])
    # Invalid pixels of the warped image do not matter.
    black = np.where(valid[..., None], warped, np.uint8(0))
    for mode in MODES:
        expected = blend(target, warped, valid, mode=mode)
        assert np.array_equal(blend(target, black, valid, mode=mode), expected)


def test_feather_hand_computed():
    target = np.zeros((9, 12, 3), dtype=np.uint8)
    warped = np.full((9, 12, 3), 200, dtype=np.uint8)
    valid = np.zeros((9, 12), dtype=bool)
    valid[:, 4:] = True  # one vertical edge; the image border is none
    out = blend(target, warped, valid, mode="feather", feather_width=3)
    assert (out[:, :, 1] == [0, 0, 0, 0, 50, 100, 150, 200, 200, 200, 200, 200]).all()
    sharp = blend(target, warped, valid, mode="feather", feather_width=0)
    assert np.array_equal(sharp, blend(target, warped, valid))


@pytest.mark.parametrize("box", [(6, 21, 8, 30), (6, 20, 8, 31), (0, 12, 0, 15), (18, 33, 29, 46)])
def test_poisson_puts_the_warped_gradients_in_their_place(box):
    top, bottom, left, right = box
    target = np.full((33, 46, 3), 90, dtype=np.uint8)
    warped = np.full((33, 46, 3), 160, dtype=np.uint8)
    row, column = (top + bottom) // 2, (left + right) // 2
    warped[row, column] = (255, 160, 160)
    valid = np.zeros((33, 46), dtype=bool)
    valid[top:bottom, left:right] = True
    valid[top, left] = False  # the mask does not fill its box
    out = blend(target, warped, valid, mode="poisson").astype(int)
    # The uniform difference vanishes; the red dot stays a red dot at its pixel.
    assert np.unravel_index(out[..., 0].argmax(), (33, 46)) == (row, column)
    assert out[row, column, 0] - 90 == pytest.approx(95, abs=8)
    assert np.abs(out[..., 2] - 90).max() <= 1


def test_poisson_pastes_what_is_too_small_to_solve():
    (target, warped), valid = images(), blob_masks()["tiny"]
    out = blend(target, warped, valid, mode="poisson")
    assert np.array_equal(out[valid], warped[valid])


def test_blend_bad_input_is_named():
    target, warped = images()
    valid = np.ones((33, 46), dtype=bool)
    with pytest.raises(InputError, match=r"unknown blend mode 'poison': .*Did you mean 'poisson'"):
        blend(target, warped, valid, mode="poison")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"target is 33 x 46 .* but warped is 32 x 46"):
        blend(target, warped[:-1], valid)
    with pytest.raises(InputError, match="valid is 46 x 33"):
        blend(target, warped, valid.T)
    with pytest.raises(InputError, match="feather_width must not be negative"):
        blend(target, warped, valid, mode="feather", feather_width=-1)
