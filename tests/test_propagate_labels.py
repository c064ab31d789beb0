"""Label propagation: affinity against its definition, and masks that must follow known motion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from warpkit.checks import InputError
from warpkit.coords import grid_to_pixel, sample_descriptors
from warpkit.propagate.affinity import (
    CellMatches,
    _search_masked,
    blend_cells,
    nearest_cells,
    principal_directions,
    reference_cells,
    with_colour,
)
from warpkit.propagate.cell_values import may_take_values, propagate_values
from warpkit.propagate.coverage import (
    cell_colours,
    cell_coverage,
    finer_grid,
    one_hot,
    soft_at_pixels,
)
from warpkit.propagate.label_config import LabelConfig
from warpkit.propagate.labels import Annotation, LabelPropagator
from warpkit.types import DescriptorMap


def plain(**settings: object) -> LabelConfig:
    """Settings that compare descriptors alone and need no image."""
    return LabelConfig(
        **(
            {"annotated_bias": 0.0, "colour": 0.0, "sharpen": 0.0, "context": 7, "top_k": 5}
            | {"ridge": 0.0, "ridge_similarity": 0.0}
            | settings
        )
    )


def unit_cells(seed: int, h: int, w: int, channels: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randn(h, w, channels, generator=generator, dtype=torch.float64)
    return F.normalize(cells, dim=2)


def texture(h: int, w: int, seed: int = 0, channels: int = 24) -> torch.Tensor:
    """Random descriptors (C, h, w): no two cells are alike."""
    return torch.randn(channels, h, w, generator=torch.Generator().manual_seed(seed))


def at(cells: torch.Tensor, cell: int = 2) -> DescriptorMap:
    _, h, w = cells.shape
    return DescriptorMap.covering(cells, height=h * cell, width=w * cell)


def moved(cells: torch.Tensor, t: int) -> DescriptorMap:
    """Everything moves one cell right and half a cell down per frame; what leaves comes back at
    the other side, so that no cell is new.
    """
    return at(cells.roll((t // 2, t), dims=(1, 2)))


@pytest.mark.parametrize(
    ("h", "w", "frames", "window", "k"),
    [(7, 11, 3, (2, 3), 5), (17, 19, 2, (4, 4), 7), (9, 30, 1, (1, 1), 15), (5, 8, 3, (40, 2), 4)],
)
def test_fast_affinity_is_the_reference(h, w, frames, window, k):
    query, *keys = (unit_cells(seed, h, w) for seed in range(frames + 3))
    windows = [None, window, None, *[window] * (frames - 1)]
    fast = nearest_cells(query, keys, windows, k=k)
    slow = reference_cells(query, keys, windows, k=k)
    assert torch.equal(fast.index, slow.index)
    torch.testing.assert_close(fast.similarity, slow.similarity, rtol=0, atol=1e-12)
    # What a GPU does, of some queries only.
    asked = torch.rand(h, w, generator=torch.Generator().manual_seed(3)) < 0.7
    masked = _search_masked(query, keys, windows, k, asked)
    assert torch.equal(masked.index, slow.index[asked.flatten()])
    torch.testing.assert_close(
        masked.similarity, slow.similarity[asked.flatten()], rtol=0, atol=1e-12
    )


def test_nothing_asked_for_finds_nothing():
    query = unit_cells(0, 5, 9)
    found = _search_masked(query, [query], [None], 3, torch.zeros(5, 9, dtype=torch.bool))
    assert found.index.shape == (0, 3)


def test_fast_affinity_with_fewer_keys_than_k():
    query, key = unit_cells(0, 5, 9), unit_cells(1, 5, 9)
    fast = nearest_cells(query, [key], [(1, 1)], k=7)
    slow = reference_cells(query, [key], [(1, 1)], k=7)
    assert torch.equal(fast.similarity.isinf(), slow.similarity.isinf())
    assert (~fast.similarity[0].isinf()).sum() == 4  # a corner sees 2 x 2 cells
    values = torch.randn(45, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(
        blend_cells(fast, values, temperature=0.1), blend_cells(slow, values, temperature=0.1)
    )


@pytest.mark.parametrize("windows", [[None, (3, 4), (3, 4)], [(3, 4)] * 3, [None, None, (1, 1)]])
def test_values_are_carried_as_by_the_reference(windows):
    """Cells that are not searched for take nothing by the definition either."""
    h, w, k, temperature = 19, 29, 5, 0.1
    # Neighbours are alike; the right half looks like the object here and there.
    v, u = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    waves = [torch.sin(v / 5 + n) + torch.cos(u / (4 + n) - n) for n in range(6)]
    base = F.normalize(torch.stack(waves, dim=-1).double(), dim=2)
    query, *keys = (F.normalize(base + 0.05 * unit_cells(n, h, w), dim=2) for n in range(4))
    values = [torch.zeros(h * w, 2, dtype=torch.float64) for _ in keys]
    for n, part in enumerate(values):
        planes = part.view(h, w, 2)
        planes[4:9, 3 + n : 9 + n, 0] = 0.7
        planes[12:15, 20:24, 1] = 1e-9  # however little
    found = propagate_values(query, keys, windows, values, k=k, temperature=temperature)
    matches = reference_cells(query, keys, windows, k=k)
    true = blend_cells(matches, torch.cat(values), temperature=temperature)
    torch.testing.assert_close(found, true, rtol=0, atol=1e-12)
    asked = may_take_values(query, keys, windows, values, k=k).flatten()
    taken = (torch.cat(values)[matches.index] > 0).flatten(1).any(dim=1)
    assert not (taken & ~asked).any()
    assert taken.sum() <= asked.sum() < 0.6 * h * w


def test_everything_is_searched_for_where_too_few_keys_are_near():
    query, key = unit_cells(0, 9, 11), unit_cells(1, 9, 11)
    values = torch.zeros(99, 1, dtype=torch.float64)
    values[40] = 1
    assert may_take_values(query, [key], [None], [values], k=26).all()
    assert may_take_values(query, [key], [None], [values.new_ones(99, 1)], k=3).all()


def test_colour_is_a_distance_beside_the_cosine():
    generator = torch.Generator().manual_seed(0)
    units = [unit_cells(seed, 5, 7) for seed in (0, 1)]
    colours = [torch.rand(5, 7, 3, generator=generator, dtype=torch.float64) for _ in range(2)]
    query, _ = with_colour(units[0], colours[0], weight=0.7)
    _, key = with_colour(units[1], colours[1], weight=0.7)
    scores = query.flatten(0, 1) @ key.flatten(0, 1).T
    apart = (colours[0].view(-1, 1, 3) - colours[1].view(1, -1, 3)).square().sum(dim=-1)
    expected = units[0].flatten(0, 1) @ units[1].flatten(0, 1).T - 0.7 * apart
    # Up to a number for each query, which no choice among its keys depends on.
    difference = scores - expected
    torch.testing.assert_close(difference, difference[:, :1].expand_as(difference))


def test_colour_tells_apart_what_descriptors_do_not():
    flat = DescriptorMap.covering(torch.ones(4, 6, 8), height=12, width=16)
    image = np.full((12, 16, 3), 60, np.uint8)
    labels = np.zeros((12, 16), np.uint8)
    labels[4:8, 4:8] = 3
    image[labels > 0] = (200, 60, 40)
    moved = np.roll(image, 4, axis=1)
    propagator = LabelPropagator(plain(colour=2.0, temperature=0.01, top_k=3), [3])
    propagator.annotate(flat, labels, image)
    assert np.array_equal(propagator.step(flat, moved).labels, np.roll(labels, 4, axis=1))


@pytest.mark.parametrize("colour", [0.0, 1.0])
def test_annotated_cells_win_over_predictions_by_their_bias(colour):
    known, later = texture(5, 7), texture(5, 7)
    # The prediction of the second frame is a little more similar to the third than the annotation.
    later = later + 0.1 * texture(5, 7, seed=1)
    labels = np.zeros((10, 14), np.uint8)
    labels[:4] = 1
    image = np.full((10, 14, 3), 90, np.uint8)
    shares = []
    for bias in (0.0, 0.5):
        config = plain(annotated_bias=bias, colour=colour, top_k=1, temperature=0.01)
        propagator = LabelPropagator(config, [1])
        propagator.annotate(at(known), labels, image)
        propagator.step(at(later), image)
        propagator._recent[0].soft.zero_()  # a prediction that went wrong
        shares.append(propagator.step(at(later), image).labels)
    assert not shares[0].any()
    assert np.array_equal(shares[1], labels)


def test_sharpened_masks_end_at_the_edge_inside_a_cell():
    cells = texture(8, 12)
    frame = at(cells, cell=8)
    image = np.full((64, 96, 3), 40, np.uint8)
    labels = np.zeros((64, 96), np.uint8)
    labels[19:45, 37:67] = 5  # no side on a border of cells of 8 pixels
    image[labels > 0] = (210, 160, 60)
    errors = []
    for sharpen in (0.0, 0.1):
        propagator = LabelPropagator(plain(temperature=0.01, sharpen=sharpen), [5])
        propagator.annotate(frame, labels, image)
        result = propagator.step(frame, image)
        errors.append(int((result.labels != labels).sum()))
        assert set(np.unique(result.labels)) == {0, 5}
    assert errors[1] < 0.5 * errors[0]


def test_frames_need_their_images_unless_nothing_looks_at_them():
    frame = at(texture(6, 7))
    labels = np.ones((12, 14), dtype=np.uint8)
    for settings in ({"colour": 1.0}, {"sharpen": 0.1}):
        propagator = LabelPropagator(plain(**settings), [1])
        with pytest.raises(
            InputError, match="give every frame's image, or set colour, objectness and sharpen"
        ):
            propagator.annotate(frame, labels)
        with pytest.raises(InputError, match="frame's image"):
            propagator.annotate(frame, labels, np.zeros((12, 15, 3), np.uint8))
    assert not plain().needs_images


def test_a_finer_grid_is_the_map_between_its_cells():
    frame = DescriptorMap(texture(5, 7), height=21, width=27, cell_height=4.2, cell_width=4)
    fine = finer_grid(frame, 3)
    assert fine.grid_size == (15, 21)
    assert (fine.cell_height, fine.cell_width) == (4.2 / 3, 4 / 3)
    v, u = torch.meshgrid(torch.arange(15.0), torch.arange(21.0), indexing="ij")
    xy = torch.stack(
        [grid_to_pixel(u, fine.cell_width), grid_to_pixel(v, fine.cell_height)], dim=-1
    )
    torch.testing.assert_close(
        F.normalize(fine.data.flatten(1).T, dim=1), sample_descriptors(frame, xy.reshape(-1, 2))
    )
    assert finer_grid(frame, 1) is frame


@pytest.mark.parametrize("harden", [False, True])
def test_refined_labels_follow_finer_borders_and_resume(harden):
    # Smooth descriptors, so that what lies between cells is told apart.
    cells = F.interpolate(texture(5, 7)[None], size=(11, 17), mode="bicubic")[0]
    frame = at(cells, cell=4)
    labels = np.zeros((44, 68), np.uint8)
    labels[9:31, 13:43] = 1
    errors = []
    for refine in (1, 4):
        propagator = LabelPropagator(
            plain(refine=refine, temperature=0.001, top_k=1, harden=harden), [1]
        )
        propagator.annotate(frame, labels)
        errors.append(int((propagator.step(frame).labels != labels).sum()))
        second = propagator.step(frame)
        again = LabelPropagator(propagator.config, [1])
        again.annotate(frame, labels)
        again.step(frame)
        resumed = LabelPropagator(propagator.config, [1])
        resumed.restore(again.state(), [frame], [Annotation(frame, labels)])
        assert np.array_equal(resumed.step(frame).labels, second.labels)
        assert second.soft.shape == (1, 11 * refine, 17 * refine)
    assert errors[1] < errors[0]


def test_mean_colours_of_cells():
    image = np.zeros((2, 4, 3), np.uint8)
    image[:, 2:] = 255
    grid = DescriptorMap.covering(torch.ones(1, 1, 2), height=2, width=4)
    torch.testing.assert_close(
        cell_colours(image, grid), torch.tensor([[[0.0, 0, 0], [1.0, 0, 0]]]), rtol=0, atol=1e-3
    )


def test_reference_prefers_the_earlier_frame_and_the_lower_cell():
    query = torch.ones(1, 2, 1)
    found = reference_cells(query, [query, query], [None, None], k=3)
    assert found.index.tolist() == [[0, 1, 2], [0, 1, 2]]


def test_blend_weights_are_the_renormalised_exponentials():
    matches = CellMatches(torch.tensor([[1.0, 0.9]]), torch.tensor([[2, 0]]))
    values = torch.tensor([[0.0], [7.0], [1.0]])
    blended = blend_cells(matches, values, temperature=0.1)
    assert blended.item() == pytest.approx(np.e / (np.e + 1))


def test_coverage_is_the_share_of_the_area():
    plane = torch.tensor([[[1.0, 1.0, 0.0]] * 2])
    tiled = DescriptorMap.covering(torch.ones(1, 1, 2), height=2, width=3)
    torch.testing.assert_close(cell_coverage(plane, tiled), torch.tensor([[[1.0, 1 / 3]]]))
    # Cells of two pixels over three: of the second cell only the part on the image counts.
    over = DescriptorMap(torch.ones(1, 1, 2), height=2, width=3, cell_height=2, cell_width=2)
    torch.testing.assert_close(cell_coverage(plane, over), torch.tensor([[[1.0, 0.0]]]))


def test_coverage_of_several_objects_sums_to_at_most_one():
    labels = np.random.default_rng(0).integers(0, 4, (13, 21)).astype(np.uint8)
    grid = DescriptorMap(torch.ones(1, 4, 7), height=13, width=21, cell_height=3.5, cell_width=3.1)
    soft = cell_coverage(one_hot(labels, [1, 2, 3]), grid)
    assert soft.shape == (3, 4, 7)
    assert soft.sum(dim=0).max() <= 1 + 1e-6
    assert soft[0].mean() == pytest.approx((labels == 1).mean(), abs=0.05)


def test_soft_labels_are_interpolated_between_cell_centres():
    # Centres at x = 0.5 and 2.5: pixel 1 is a quarter of the way, pixel 2 three quarters.
    grid = DescriptorMap(torch.ones(1, 1, 2), height=2, width=5, cell_height=2, cell_width=2)
    row = soft_at_pixels(torch.tensor([[[0.0, 1.0]]]), grid)[0, 0]
    torch.testing.assert_close(row, torch.tensor([0.0, 0.25, 0.75, 1.0, 1.0]))


@pytest.mark.parametrize("harden", [False, True])
def test_masks_of_two_objects_follow_the_motion(harden):
    cells = texture(11, 17)
    labels = np.zeros((22, 34), dtype=np.uint8)
    labels[4:12, 4:10] = 7
    labels[4:10, 10:16] = 2  # touches the first object
    propagator = LabelPropagator(plain(temperature=0.01, harden=harden), [7, 2])
    propagator.annotate(moved(cells, 0), labels)
    for t in range(1, 9):
        result = propagator.step(moved(cells, t))
        expected = np.roll(labels, (2 * (t // 2), 2 * t), axis=(0, 1))
        assert np.array_equal(result.labels, expected), t
        assert result.labels.dtype == np.uint8
        assert result.confidence.dtype == np.float32
        assert result.confidence.shape == (22, 34)
        assert 0 <= result.confidence.min() <= result.confidence.max() <= 1.00001
        assert result.soft.shape == (2, 11, 17)


def test_confidence_is_low_at_the_edge_of_an_object():
    labels = np.zeros((22, 34), dtype=np.uint8)
    labels[:, 16:] = 1
    propagator = LabelPropagator(plain(temperature=0.01), [1])
    frame = at(texture(11, 17))
    propagator.annotate(frame, labels)
    row = propagator.step(frame).confidence[10]
    # The edge lies between cells 7 and 8: the pixels beside it are at 1/4 and 3/4.
    np.testing.assert_allclose(row[[4, 15, 16, 28]], [1, 0.5, 0.5, 1], atol=1e-3)


def test_an_odd_image_that_the_cells_do_not_tile():
    cells = texture(12, 24)
    frame = DescriptorMap(cells, height=23, width=47, cell_height=2, cell_width=2)
    labels = np.zeros((23, 47), dtype=np.uint8)
    labels[10:, 30:] = 1
    propagator = LabelPropagator(plain(temperature=0.01), [1])
    propagator.annotate(frame, labels)
    assert np.array_equal(propagator.step(frame).labels, labels)


def test_an_object_that_leaves_is_absent_and_is_found_again_when_it_returns():
    # Channels of their own: world and thing never look alike.
    world = torch.cat([texture(11, 17), torch.zeros(24, 11, 17)])
    thing = torch.cat([torch.zeros(24, 4, 4), texture(4, 4, seed=1)])

    def frame(place: tuple[int, int] | None) -> tuple[DescriptorMap, np.ndarray]:
        cells, labels = world.clone(), np.zeros((22, 34), dtype=np.uint8)
        if place is not None:
            v, u = place
            cells[:, v : v + 4, u : u + 4] = thing
            labels[2 * v : 2 * v + 8, 2 * u : 2 * u + 8] = 5
        return at(cells), labels

    config = plain(context=2, temperature=0.01, top_k=3)
    propagator = LabelPropagator(config, [5])
    propagator.annotate(*frame((5, 1)))
    places = [(5, 2), (5, 3), None, None, None, None, (2, 12), (3, 12)]
    for place in places:
        descriptors, expected = frame(place)
        assert np.array_equal(propagator.step(descriptors).labels, expected), place

    # With a window in the annotated frame too, the object is out of reach when it returns.
    windowed = LabelPropagator(replace(config, window_annotated=True, radius=0.1), [5])
    windowed.annotate(*frame((5, 1)))
    for place in [None, None, None, (2, 12)]:
        result = windowed.step(frame(place)[0])
    assert not result.labels[4:12, 24:32].any()


def test_a_second_annotated_frame_is_never_forgotten():
    empty, late = texture(11, 17), texture(11, 17, seed=3)
    first, second = np.zeros((22, 34), dtype=np.uint8), np.zeros((22, 34), dtype=np.uint8)
    first[4:10, 4:10] = 1
    second[12:18, 20:30] = 2
    propagator = LabelPropagator(plain(context=1, temperature=0.01), [1, 2])
    propagator.annotate(at(empty), first)
    propagator.annotate(at(late), second)
    for _ in range(3):
        assert np.array_equal(propagator.step(at(empty)).labels, first)
    assert np.array_equal(propagator.step(at(late)).labels, second)


def test_weak_evidence_is_absence_and_rescaling_does_not_bring_it_back():
    # Every cell resembles all ten cells of the annotated frame alike; one of them is object.
    flat = DescriptorMap.covering(torch.ones(1, 1, 10), height=2, width=20)
    labels = np.zeros((2, 20), dtype=np.uint8)
    labels[:, :2] = 1
    for rescale in (False, True):
        config = plain(top_k=10, min_evidence=0.2, rescale=rescale)
        propagator = LabelPropagator(config, [1])
        propagator.annotate(flat, labels)
        result = propagator.step(flat)
        assert not result.labels.any()
        assert not result.soft.any()
        assert not propagator.state()["soft"].any()
    believing = LabelPropagator(replace(config, min_evidence=0.05), [1])
    believing.annotate(flat, labels)
    result = believing.step(flat)
    torch.testing.assert_close(result.soft, torch.full((1, 1, 10), 0.1))
    assert result.labels.all()


def test_rescaling_keeps_an_object_thinner_than_a_cell():
    frame = at(texture(11, 17), cell=4)
    labels = np.zeros((44, 68), dtype=np.uint8)
    labels[:, 32] = 1  # a quarter of the cells of column 8
    shown = {}
    for rescale in (False, True):
        propagator = LabelPropagator(plain(temperature=0.01, rescale=rescale), [1])
        propagator.annotate(frame, labels)
        shown[rescale] = propagator.step(frame).labels
    assert not shown[False].any()
    assert np.flatnonzero(shown[True].any(axis=0)).tolist() == [32, 33, 34, 35]


def test_the_radius_is_a_part_of_the_short_side_on_any_grid():
    config = plain(radius=0.25)
    propagator = LabelPropagator(config, [1])
    fine = DescriptorMap.covering(torch.ones(1, 40, 60), height=80, width=120)
    coarse = DescriptorMap.covering(torch.ones(1, 8, 24), height=80, width=120)
    assert propagator._window(fine) == (10, 10)
    assert propagator._window(coarse) == (2, 4)
    assert LabelPropagator(plain(radius=1e-6), [1])._window(fine) == (1, 1)


def test_memory_does_not_grow_with_the_clip():
    frame = at(texture(6, 7))
    labels = np.zeros((12, 14), dtype=np.uint8)
    labels[2:8, 2:8] = 1
    propagator = LabelPropagator(plain(context=3), [1])
    propagator.annotate(frame, labels)
    kept = []
    for _ in range(6):
        propagator.step(frame)
        kept.append(len(propagator.state()["soft"]))
    assert kept == [1, 2, 3, 3, 3, 3]
    alone = LabelPropagator(plain(context=0), [1])
    alone.annotate(frame, labels)
    alone.step(frame)
    assert alone.state()["soft"].shape == (0, 1, 6, 7)


@pytest.mark.parametrize("harden", [False, True])
@pytest.mark.parametrize("stop", [0, 2, 6])
def test_a_resumed_run_is_bit_for_bit_the_same(stop, harden):
    cells = texture(11, 17)
    noise = texture(11, 17, seed=9)
    frames = [at(moved(cells, t).data + 0.5 * noise.roll(t, 1)) for t in range(10)]
    labels = np.zeros((22, 34), dtype=np.uint8)
    labels[5:17, 11:25] = 1
    labels[9:13, 13:20] = 4
    config = plain(context=3, harden=harden)

    whole = LabelPropagator(config, [1, 4])
    whole.annotate(frames[0], labels)
    expected = [whole.step(frame) for frame in frames[1:]]

    broken = LabelPropagator(config, [1, 4])
    broken.annotate(frames[0], labels)
    for frame in frames[1 : 1 + stop]:
        broken.step(frame)
    state = {name: value.clone() for name, value in broken.state().items()}
    again = LabelPropagator(config, [1, 4])
    again.restore(state, frames[1 : 1 + stop][-3:], [Annotation(frames[0], labels)])
    for t in range(1 + stop, 10):
        result = again.step(frames[t])
        assert torch.equal(result.soft, expected[t - 1].soft)
        assert np.array_equal(result.labels, expected[t - 1].labels)
        assert np.array_equal(result.confidence, expected[t - 1].confidence)


def test_restoring_what_does_not_belong_together_is_an_error():
    frame = at(texture(6, 7))
    labels = np.zeros((12, 14), dtype=np.uint8)
    labels[2:8, 2:8] = 1
    propagator = LabelPropagator(plain(context=3), [1])
    with pytest.raises(InputError, match="no frame is annotated: there is no state"):
        propagator.state()
    propagator.annotate(frame, labels)
    propagator.step(frame)
    state = propagator.state()
    with pytest.raises(InputError, match="holds 1 frame, 2 were given"):
        propagator.restore(state, [frame, frame], [Annotation(frame, labels)])
    with pytest.raises(InputError, match=r"of the objects \[1\], this run of \[2\]"):
        LabelPropagator(plain(), [2]).restore(state, [frame], [Annotation(frame, labels)])
    other = at(texture(5, 7))
    with pytest.raises(InputError, match="kept state is on a grid"):
        LabelPropagator(plain(), [1]).restore(state, [other], [Annotation(other, labels[:10])])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((12, 14), dtype=np.int64), "must be a uint8 array"),
        (np.zeros((12, 13), dtype=np.uint8), "labels are 12 x 13 .* frame is 12 x 14"),
        (np.full((12, 14), 9, dtype=np.uint8), r"hold the ids \[9\]"),
    ],
)
def test_labels_that_do_not_fit_are_an_error(labels, message):
    propagator = LabelPropagator(plain(), [1])
    with pytest.raises(InputError, match=message):
        propagator.annotate(at(texture(6, 7)), labels)


def test_other_bad_input_is_an_error():
    frame = at(texture(6, 7))
    with pytest.raises(InputError, match="call annotate before step"):
        LabelPropagator(plain(), [1]).step(frame)
    propagator = LabelPropagator(plain(), [1])
    propagator.annotate(frame, np.ones((12, 14), dtype=np.uint8))
    with pytest.raises(InputError, match="all frames of a clip must agree"):
        propagator.step(at(texture(7, 7)))
    for ids in ([], [0], [3, 3], [256]):
        with pytest.raises(InputError, match="object ids must be different numbers"):
            LabelPropagator(plain(), ids)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("context", -1),
        ("top_k", 0),
        ("temperature", 0.0),
        ("radius", 0.0),
        ("min_evidence", 1.5),
        ("colour", -0.1),
        ("refine", 0),
        ("annotated_bias", -0.1),
        ("sharpen", 0.6),
        ("sharpen_smoothing", 0.0),
    ],
)
def test_impossible_settings_are_an_error(field, value):
    with pytest.raises(InputError, match=field):
        plain(**{field: value})


def test_principal_directions_keep_products_best() -> None:
    """A descriptor that lives in few directions is compared exactly by as many of them."""
    generator = torch.Generator().manual_seed(3)
    few = torch.linalg.qr(torch.randn(20, 4, generator=generator)).Q  # (20, 4)
    cells = F.normalize(torch.randn(6, 7, 4, generator=generator), dim=2) @ few.T
    directions = principal_directions(cells, 4)
    assert directions.shape == (20, 4)
    torch.testing.assert_close(directions.T @ directions, torch.eye(4))
    rows = cells.flatten(0, 1)
    torch.testing.assert_close(rows @ directions @ (rows @ directions).T, rows @ rows.T)


def test_fewer_channels_propagate_alike_and_are_used() -> None:
    """24 random channels: all of them, as many directions, and too few to tell cells apart."""
    cells = texture(9, 11)
    labels = np.zeros((18, 22), np.uint8)
    labels[4:10, 6:14] = 1
    results = []
    for channels in (0, 24, 23, 1):
        propagator = LabelPropagator(plain(channels=channels, top_k=1), [1])
        propagator.annotate(at(cells), labels)
        results.append(propagator.step(moved(cells, 1)).labels)
    assert (results[0] == results[1]).all()
    assert (results[0] == results[2]).mean() > 0.9
    assert (results[0] == results[3]).mean() < 0.95


def test_a_kept_state_goes_on_with_the_same_directions() -> None:
    cells = texture(9, 11)
    labels = np.zeros((18, 22), np.uint8)
    labels[4:10, 6:14] = 1
    frames = [moved(cells, t) for t in range(4)]
    whole = LabelPropagator(plain(channels=6), [1])
    whole.annotate(frames[0], labels)
    whole.step(frames[1])
    whole.step(frames[2])
    resumed = LabelPropagator(plain(channels=6), [1])
    resumed.restore(whole.state(), frames[1:3], [Annotation(frames[0], labels)])
    assert torch.equal(whole.step(frames[3]).soft, resumed.step(frames[3]).soft)
