"""Labels of pairs: candidates, filters, and how many are right on known warps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_synthesis import disc, noise

from warpkit.arrays import mask_box
from warpkit.checks import InputError
from warpkit.coherent import coherent_fields
from warpkit.coords import lattice_sites
from warpkit.match.farthest import farthest_points
from warpkit.match.filters import affine_residual, competing_similarity, distance_ratio
from warpkit.synthesize.config import (
    FilterConfig,
    PairLabelConfig,
    PairSettings,
)
from warpkit.synthesize.labels import (
    MatchCandidates,
    choose_labels,
    exact_candidates,
    filter_candidates,
    find_candidates,
    label_task,
    object_side,
)
from warpkit.synthesize.measures import (
    Measured,
    PrecisionRow,
    measure_image,
    precision_doubt,
    precision_rows,
    precision_table,
)
from warpkit.synthesize.warped_copy import warped_copy
from warpkit.types import DescriptorMap
from warpkit.warp.known import KnownWarpConfig

OFF = dict.fromkeys(("cycle", "ratio", "flip", "coherence", "affine"))


def places(height: int, width: int, shift: tuple[float, float] = (0.0, 0.0)) -> DescriptorMap:
    """A map (one cell a pixel) whose descriptor says where a place is, moved by a shift."""
    y, x = torch.meshgrid(torch.arange(height) * 1.0, torch.arange(width) * 1.0, indexing="ij")
    bumps = [
        torch.exp(-(((x - shift[0] - cx) ** 2 + (y - shift[1] - cy) ** 2) / 18))
        for cy in range(0, height, 3)
        for cx in range(0, width, 3)
    ]
    return DescriptorMap.covering(torch.stack(bumps), height=height, width=width)


# plans


def test_affine_residual_finds_the_one_that_moved():
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(6.0), indexing="ij")
    source = torch.stack([x, y], dim=-1).reshape(-1, 2) * 10
    matrix = torch.tensor([[0.8, -0.3], [0.4, 1.1]])
    target = source @ matrix.T + torch.tensor([5.0, -7.0])
    assert affine_residual(source, target).max() < 1e-3
    target[13] += torch.tensor([6.0, 8.0])
    residual = affine_residual(source, target)
    assert residual[13] == pytest.approx(10, abs=0.1)
    assert torch.cat([residual[:13], residual[14:]]).max() < 0.5
    assert affine_residual(source[:4], target[:4]).isinf().all()
    with pytest.raises(InputError, match="4 neighbours or more"):
        affine_residual(source, target, neighbours=3)


def test_affine_residual_of_points_on_a_line_is_finite():
    source = torch.stack([torch.arange(8.0), torch.zeros(8)], dim=1)
    assert affine_residual(source, source * 2).max() < 1e-2


def test_competing_similarity_leaves_out_what_is_near():
    data = torch.tensor([[[1.0, 0.9, 0.0, 0.8]], [[0.0, 0.1, 1.0, 0.6]]])
    at = DescriptorMap.covering(data, height=1, width=4)
    keys = lattice_sites(height=1, width=4)
    query_xy, key_xy = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    cosine = [1.0, 0.9 / 0.82**0.5, 0.0, 0.8]
    for radius, expected in ((0.5, cosine[1]), (1.5, cosine[3])):
        found = competing_similarity(at, at, query_xy, key_xy, keys, exclusion_radius=radius)
        assert found.tolist() == pytest.approx([expected], abs=1e-6)
    none = competing_similarity(at, at, query_xy, key_xy, keys, exclusion_radius=9)
    assert none.tolist() == [-torch.inf]
    best = torch.tensor([0.9, 0.9, 1.0, 0.8])
    second = torch.tensor([0.8, -torch.inf, 1.0, 0.9])
    assert distance_ratio(best, second).tolist() == pytest.approx([0.5, 0, 1, 2], abs=1e-5)


def test_farthest_points():
    xy = torch.tensor([[0.0, 0], [5, 0], [10, 0], [6, 0], [10, 1]])
    # The mean is (6.2, 0.2): first (6, 0), then the farthest from it, and so on.
    assert farthest_points(xy, 3).tolist() == [3, 0, 4]
    assert farthest_points(xy, 2).tolist() == [3, 0]
    assert sorted(farthest_points(xy, 9).tolist()) == [0, 1, 2, 3, 4]


def candidates(**columns) -> MatchCandidates:
    count = len(next(iter(columns.values())))
    grid = torch.stack([torch.arange(count) * 2.0, (torch.arange(count) % 3) * 2.0], dim=1)
    values = {
        "source_xy": grid,
        "target_xy": grid,
        "similarity": torch.ones(count),
        "cycle": torch.zeros(count),
        "ratio": torch.zeros(count),
        "flip": torch.zeros(count),
        "coherence": torch.zeros(count),
    }
    return MatchCandidates(**{**values, **columns}, target_side=100.0)


@pytest.mark.parametrize(
    ("name", "limit", "column", "expected"),
    [
        ("similarity", 0.8, [0.9, 0.8, 0.7], [True, True, False]),
        ("cycle", 0.0, [0.0, 0.01, 0.0], [True, False, True]),  # each other's best
        ("cycle", 0.1, [0.05, 0.1, 0.2], [True, True, False]),
        ("ratio", 0.5, [0.4, 0.5, 0.6], [True, True, False]),
        ("flip", 0.1, [0.0, 0.1, 0.11], [True, True, False]),
        ("coherence", 0.1, [0.0, 0.1, 0.11], [True, True, False]),
    ],
)
def test_each_filter_alone(name, limit, column, expected):
    config = FilterConfig(**{**OFF, name: limit})
    kept, left = filter_candidates(candidates(**{name: torch.tensor(column)}), config)
    assert kept.tolist() == expected
    assert left == {"candidates": 3, name: sum(expected)}


def test_filters_run_in_order_and_are_counted():
    found = candidates(
        cycle=torch.tensor([0.0, 0, 0, 0.1, 0, 0, 0]),
        ratio=torch.tensor([0.1, 0.9, 0.1, 0.9, 0.1, 0.1, 0.1]),
    )
    config = FilterConfig(**{**OFF, "cycle": 0.0, "ratio": 0.5, "affine": 0.01})
    kept, left = filter_candidates(found, config)
    assert list(left.items()) == [("candidates", 7), ("cycle", 6), ("ratio", 5), ("affine", 5)]
    # What leads astray is gone before neighbours are asked.
    found = replace(found, coherence=torch.tensor([0.0, 0, 0, 0, 0.3, 0, 0]))
    _, left = filter_candidates(found, FilterConfig(**{**OFF, "coherence": 0.2, "affine": 0.01}))
    assert list(left.items()) == [("candidates", 7), ("coherence", 6), ("affine", 6)]
    labels = choose_labels(found, PairLabelConfig(points=2, least=1, filters=config))
    assert len(labels.source_xy) == 2
    assert kept.sum() == 5


def test_dense_matches_of_a_shift_are_found():
    source, target = places(21, 30), places(21, 30, shift=(4.0, 2.0))
    source_mask = np.zeros((21, 30), bool)
    source_mask[5:12, 6:20] = True
    target_mask = np.zeros((21, 30), bool)
    target_mask[7:14, 10:24] = True
    flipped = DescriptorMap.covering(target.data.flip(2), height=21, width=30)
    found = find_candidates(
        source, target, source_mask, target_mask, flipped=flipped, stride=2, exclusion=0.3
    )
    away = (found.target_xy - found.source_xy - torch.tensor([4.0, 2.0])).norm(dim=1)
    assert len(found) > 20
    assert away.max() < 0.3
    assert found.cycle.max() == 0  # each other's best
    assert found.flip.max() < 0.02  # a map that is mirrored exactly moves nothing
    assert found.target_side == object_side(target_mask) == 13
    assert mask_box(target_mask) == (10, 7, 23, 13)
    for xy, mask in ((found.source_xy, source_mask), (found.target_xy, target_mask)):
        x, y = (xy + 0.5).floor().long().T
        assert mask[y, x].all()


def moved_patch(at: DescriptorMap) -> DescriptorMap:
    """The map with what lies in columns 16 to 18 of rows 8 to 10 shown at row 15, and back."""
    data = at.data.clone()
    data[:, 8:11, 16:19], data[:, 15:18, 16:19] = at.data[:, 15:18, 16:19], at.data[:, 8:11, 16:19]
    return replace(at, data=data)


def test_coherence_is_the_distance_from_the_motion_of_the_whole():
    """All move by (4, 2), two patches of the target have changed places: 7 pixels."""
    source, target = places(27, 36), moved_patch(places(27, 36, shift=(4.0, 2.0)))
    masks = np.zeros((2, 27, 36), bool)
    masks[0, 3:18, 5:25] = True
    masks[1, 5:20, 9:29] = True
    (field,) = coherent_fields([label_task(source, target, *masks)])
    found = find_candidates(source, target, *masks, field=field, stride=1)
    assert found.target_side == 19
    truth = found.source_xy + torch.tensor([4.0, 2.0])
    inside = ((truth >= 12) & (truth <= torch.tensor([26, 17]))).all(dim=1)
    astray = (found.target_xy - truth).norm(dim=1) > 5
    assert int((astray & inside).sum()) >= 8
    assert found.coherence[inside & ~astray].max() < 0.1
    assert found.coherence[inside & astray].tolist() == pytest.approx(
        [7 / 19] * int((astray & inside).sum()), abs=0.08
    )
    # Without a field nothing is known of it, and every match passes.
    blind = find_candidates(source, target, *masks, stride=1)
    assert not blind.coherence.any()
    assert torch.equal(blind.target_xy, found.target_xy)


def test_a_mirrored_target_is_followed():
    """A target seen from the other side, known with the map of its mirror image."""
    source = places(21, 30)
    mask = np.zeros((21, 30), bool)
    mask[4:17, 4:24] = True
    target = replace(source, data=source.data.flip(2))
    task = label_task(source, target, mask, mask[:, ::-1].copy(), flipped=source)
    (field,) = coherent_fields([task])
    found = find_candidates(source, target, mask, mask[:, ::-1].copy(), field=field, stride=2)
    x, y = found.source_xy.T
    away = (found.target_xy - torch.stack([29 - x, y], dim=1)).norm(dim=1)
    assert away.max() < 0.5
    assert found.coherence.max() < 0.06


def test_the_map_of_the_mirrored_target_is_what_the_mirrored_pose_is_solved_with():
    """Features that know left from right: another second half of the channels in a mirror image."""
    at = places(21, 30)
    mask = np.zeros((21, 30), bool)
    mask[4:17, 4:24] = True
    half = len(at.data) // 2
    turned = replace(at, data=torch.cat([at.data[:half].flip(2), at.data[half:].flip(1)]))
    task = label_task(at, turned, mask, mask[:, ::-1].copy(), flipped=at)
    (field,) = coherent_fields([task])
    assert field.quality.mirrored
    places_found, _ = field.at(torch.tensor([[8.0, 9.0], [15.0, 6.0]]))
    assert places_found.tolist() == [
        pytest.approx([21, 9], abs=0.5),
        pytest.approx([14, 6], abs=0.5),
    ]


# masks


def test_precision_counts_what_is_near_the_truth():
    found = candidates(ratio=torch.tensor([0.1, 0.2, 0.6, 0.7]))
    measured = [Measured(found, torch.tensor([0.01, 0.05, 0.08, 0.4]))]
    config = FilterConfig(**{**OFF, "ratio": 0.5})
    rows = {row.setting: row for row in precision_rows(measured, config, least=2)}
    assert (rows["no filter"].precision5, rows["no filter"].precision10) == (0.5, 0.75)
    own = rows["... ratio 0.5"]
    assert (own.kept, own.precision5, own.images) == (0.5, 1.0, 1.0)
    assert rows["ratio <= 0.4"].kept == 0.5
    assert "| ... ratio 0.5 | 50.0% | 100.0% | 100.0% | 100% |" in precision_table(
        list(rows.values())
    )
    nothing = rows["affine <= 0.2"]  # four matches say nothing of each other
    assert (nothing.kept, nothing.precision5, nothing.images) == (0, None, 0)


def test_doubt_names_a_better_setting_only_where_there_is_one():
    def doubt(*measured: tuple[str, float, float | None]) -> str | None:
        return precision_doubt(
            [
                PrecisionRow(
                    setting=setting,
                    filter="",
                    value=None,
                    kept=kept,
                    precision5=right,
                    precision10=right,
                    images=1.0,
                )
                for setting, kept, right in measured
            ]
        )

    none, own = ("no filter", 1.0, 0.5), ("... ratio 0.4", 0.2, 0.7)
    begin = "only 70.0% of the matches of known warps lie within 5 % of the object; "
    strict, nothing = ("cycle <= 0.01", 0.04, 0.953), ("flip <= 0.02", 0.0, None)
    best = "the best measured (cycle <= 0.01) has 95.3% and keeps 4.0% of all"
    assert doubt(none, strict, nothing, own) == begin + best
    assert doubt(none, nothing, own) == begin + "no measured setting reaches 90%"
    earlier = ("... cycle 0.02", 0.5, 0.8)
    best = "the best measured (the run's filters up to cycle 0.02) has 80.0% and keeps 50.0% of all"
    assert doubt(none, earlier, own) == begin + f"no measured setting reaches 90%; {best}"
    assert doubt(none, ("... ratio 0.4", 0.2, 0.9)) is None
    assert doubt(none, ("... ratio 0.4", 0.0, None)) is None
    # A run without filters is the first row, not the last that was tried.
    assert doubt(none, ("affine <= 0.01", 0.1, 0.95)).startswith("only 50.0%")


class Painted:
    """Descriptors that are the image's colours: exact as long as colours are unique."""

    name = "painted"

    def describe(self, images):
        return [
            DescriptorMap.covering(
                torch.tensor(image / 255 - 0.5).permute(2, 0, 1).float(),
                height=image.shape[0],
                width=image.shape[1],
            )
            for image in images
        ]


def test_known_warps_are_measured_against_their_field():
    y, x = np.mgrid[:40, :48]
    # Directions on a sphere: every place has its own.
    image = np.stack([x * 5, y * 6, 255 - (x + y) * 2], axis=-1).clip(0, 255).astype(np.uint8)
    mask = np.zeros((40, 48), bool)
    mask[6:34, 6:42] = True
    settings = PairSettings(
        jitter=0.0,
        warp=KnownWarpConfig(rotation=10, scale=(1, 1), translation=0.05, perspective=0, bend=0),
        labels=PairLabelConfig(stride=3),
    )
    measured = measure_image(Painted(), image, mask, settings, seed=3)
    assert measured is not None
    assert len(measured.error) > 50
    assert measured.error.median() < 0.05
    assert measured.candidates.coherence.median() < 0.05
    rows = precision_rows([measured], FilterConfig(**{**OFF, "coherence": 0.05}), least=6)
    alone, own = (row for row in rows if row.setting.endswith(("coherence <= 0.05", "nce 0.05")))
    assert (alone.filter, alone.value, own.setting) == ("coherence", 0.05, "... coherence 0.05")
    assert (alone.kept, alone.precision5) == (own.kept, own.precision5)
    bent, field, inside = warped_copy(image, settings.warp, seed=3, jitter=0.0)
    source_xy, target_xy = exact_candidates(field, inside & mask, mask, stride=5)
    assert len(source_xy) > 10
    colours = [
        pixels[tuple((xy + 0.5).floor().long().T.flip(0))].astype(int)
        for pixels, xy in ((bent, source_xy), (image, target_xy))
    ]
    assert np.abs(colours[0] - colours[1]).max() <= 12  # a pixel is 5 or 6 levels


@pytest.mark.parametrize("flip", [None, 0.2])
def test_known_warps_are_solved_with_what_a_set_has(monkeypatch, flip):
    """The mirrored image is described for the filter `flip` alone; the table needs it always."""
    tasks = []

    def counted(given):
        tasks.extend(given)
        return coherent_fields(given)

    monkeypatch.setattr("warpkit.synthesize.measures.coherent_fields", counted)
    labels = PairLabelConfig(stride=4, filters=FilterConfig(flip=flip))
    mask = disc(24, 28)
    measured = measure_image(
        Painted(), noise(24, 28), mask, PairSettings(labels=labels, jitter=0.0), seed=1
    )
    assert measured is not None
    assert measured.candidates.flip.any()
    (task,) = tasks
    assert (task.mirrored is None) == (flip is None)
    # From the bent image into the image: a field's own target is where it starts.
    assert task.source_mask.tolist() == mask.tolist()


# records
