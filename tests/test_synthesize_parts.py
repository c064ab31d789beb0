"""Plans, masks, filters and labels, records: each on small material made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from warpkit.checks import InputError
from warpkit.coherent import coherent_fields
from warpkit.coords import lattice_sites
from warpkit.describe import load_extractor
from warpkit.features.diffusion import DiffusionBackbone
from warpkit.image.grabcut import refine_mask
from warpkit.io.config import load_config
from warpkit.match.farthest import farthest_points
from warpkit.match.filters import affine_residual, competing_similarity, distance_ratio
from warpkit.synthesize.card import data_card
from warpkit.synthesize.config import (
    FilterConfig,
    GenerationConfig,
    PairLabelConfig,
    PairSettings,
    SlotConfig,
    SplitConfig,
)
from warpkit.synthesize.generation import Generator
from warpkit.synthesize.labels import (
    MatchCandidates,
    choose_labels,
    exact_candidates,
    filter_candidates,
    find_candidates,
    label_task,
    mask_box,
    object_side,
)
from warpkit.synthesize.masks import cluster_cells, find_mask, foreground_cells
from warpkit.synthesize.measures import (
    Measured,
    PrecisionRow,
    image_hash,
    image_problem,
    measure_image,
    pair_problem,
    precision_doubt,
    precision_rows,
    precision_table,
)
from warpkit.synthesize.plan import (
    GeneratedPlans,
    ImagePlan,
    PhotoPlans,
    list_photos,
)
from warpkit.synthesize.records import Record, decode_records, encode_records
from warpkit.synthesize.splits import split_of
from warpkit.synthesize.summary import summarise, without_duplicates
from warpkit.synthesize.warped_copy import warped_copy
from warpkit.synthesize.writers.coco import run_lengths
from warpkit.types import DescriptorMap
from warpkit.warp.known import KnownWarpConfig

NONE = SplitConfig(val=0, test=0)
OFF = dict.fromkeys(("cycle", "ratio", "flip", "coherence", "affine"))


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """An image with something in every place."""
    coarse = np.random.default_rng(seed).integers(0, 255, (height // 4, width // 4, 3), np.uint8)
    return np.ascontiguousarray(coarse.repeat(4, axis=0).repeat(4, axis=1))


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


def test_a_pair_follows_from_its_number_alone():
    config = GenerationConfig(classes=("dog", "cat"))
    few, many = GeneratedPlans(config, SplitConfig(), 3), GeneratedPlans(config, SplitConfig(), 50)
    assert [few.pair(n) for n in range(3)] == [many.pair(n) for n in range(3)]
    assert [many.pair(n).category for n in range(4)] == ["dog", "cat", "dog", "cat"]
    seeds = {end.seed for n in range(50) for end in (many.pair(n).source, many.pair(n).target)}
    assert len(seeds) == 100


def test_the_template_is_filled_with_different_values_in_a_pair():
    config = GenerationConfig(
        classes=("dog",),
        template="a {colour} {class} {place}",
        slots=(
            SlotConfig(name="colour", values=("red", "blue")),
            SlotConfig(name="place", values=("here", "there")),
        ),
        variant="prompt",
    )
    plans = GeneratedPlans(config, NONE, 40)
    prompts = set()
    for number in range(40):
        pair = plans.pair(number)
        assert pair.source.prompt != pair.target.prompt
        assert pair.source.seed == pair.target.seed
        prompts |= {pair.source.prompt, pair.target.prompt}
    assert prompts == {
        f"a {colour} dog {place}" for colour in ("red", "blue") for place in ("here", "there")
    }
    with pytest.raises(InputError, match=r"slot \{size\} has no values"):
        GeneratedPlans(GenerationConfig(template="{class} {size}"), NONE, 1)
    with pytest.raises(InputError, match="needs two different prompts a category, 'dog' has"):
        GeneratedPlans(GenerationConfig(classes=("dog",), variant="prompt"), NONE, 1)


def test_a_prompts_file_groups_by_category(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("bird\ta robin\n\nbird\ta wren\na red car\n", encoding="utf-8")
    plans = GeneratedPlans(GenerationConfig(prompts=path), NONE, 8)
    found = {(plans.pair(n).category, plans.pair(n).source.prompt) for n in range(8)}
    assert {category for category, _ in found} == {"bird", "a red car"}
    assert {prompt for category, prompt in found if category == "bird"} <= {"a robin", "a wren"}
    path.write_text("\n")
    with pytest.raises(InputError, match="holds no prompt"):
        GeneratedPlans(GenerationConfig(prompts=path), NONE, 8)


def test_photographs_are_paired_once_and_stay_in_one_split(tmp_path):
    for name in ("a/1.jpg", "a/2.png", "a/3.jpg", "b/1.jpg", "b/2.jpg", "top.jpg", "a/x.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    photos = list_photos(tmp_path)
    assert photos == {
        "a": ["a/1.jpg", "a/2.png", "a/3.jpg"],
        "b": ["b/1.jpg", "b/2.jpg"],
        tmp_path.name: ["top.jpg"],
    }
    plans = PhotoPlans(photos, NONE, 10, seed=0)
    pairs = [plans.pair(n) for n in range(len(plans))]
    assert sorted(sorted((p.source.path, p.target.path)) for p in pairs) == [
        ["a/1.jpg", "a/2.png"],
        ["a/1.jpg", "a/3.jpg"],
        ["a/2.png", "a/3.jpg"],
        ["b/1.jpg", "b/2.jpg"],
    ]
    many = {"c": [f"{n}.jpg" for n in range(60)]}
    plans = PhotoPlans(many, SplitConfig(val=0.3, test=0.3), 40, seed=1)
    where: dict[str, set[str]] = {}
    for number in range(40):
        pair = plans.pair(number)
        for end in (pair.source, pair.target):
            where.setdefault(end.path, set()).add(pair.split)
    assert all(len(splits) == 1 for splits in where.values())
    assert set().union(*where.values()) == {"train", "val", "test"}
    with pytest.raises(InputError, match="no two photographs of one category and split"):
        PhotoPlans({"a": ["1.jpg"]}, NONE, 3, seed=0)


def test_shares_of_splits():
    shares = [split_of(str(n), SplitConfig(val=0.2, test=0.1)) for n in range(2000)]
    assert abs(shares.count("val") - 400) < 80
    assert abs(shares.count("test") - 200) < 60


# filters


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


def disc(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return (y - height / 2) ** 2 + (x - width * 0.45) ** 2 < (0.28 * height) ** 2


def test_the_object_in_the_middle_is_found():
    truth = disc(48, 64)
    image = np.where(truth[..., None], [200, 60, 40], [40, 90, 160]).astype(np.uint8)
    rng = np.random.default_rng(0)
    image = (image + rng.integers(-8, 8, image.shape)).clip(0, 255).astype(np.uint8)
    blocks = image.reshape(12, 4, 16, 4, 3).mean((1, 3)) / 255 - 0.5
    at = DescriptorMap.covering(torch.tensor(blocks).permute(2, 0, 1).float(), height=48, width=64)
    for iterations, least in ((0, 0.7), (3, 0.97)):
        mask = find_mask(image, at, clusters=2, iterations=iterations)
        overlap = (mask & truth).sum() / (mask | truth).sum()
        assert overlap > least
    assert np.array_equal(find_mask(image, at, clusters=2), find_mask(image, at, clusters=2))


def test_refining_leaves_an_image_without_edges_alone():
    mask = disc(40, 40)
    assert refine_mask(np.full((40, 40, 3), 90, np.uint8), mask).any()
    assert np.array_equal(refine_mask(noise(8, 8), np.ones((8, 8), bool)), np.ones((8, 8), bool))


def test_clusters_and_foreground():
    data = torch.zeros(3, 8, 8)
    data[0] = 1
    data[0, 2:6, 2:6], data[1, 2:6, 2:6] = 0, 1
    labels = cluster_cells(data, 2)
    assert len(labels.unique()) == 2
    found = foreground_cells(labels)
    assert found[2:6, 2:6].all()
    assert found.sum() == 16


# quality


def test_images_that_show_nothing():
    assert image_problem(np.full((16, 16, 3), 7, np.uint8)) == "flat image"
    one = np.zeros((40, 40, 3), np.uint8)
    one[:4, :4] = 255
    assert image_problem(one) == "image of one colour"
    image = noise(40, 40)
    assert image_problem(image) is None
    assert pair_problem(image, image, exact=True) == "the same image twice"
    near = image.copy()
    near[0, 0] ^= 1
    assert pair_problem(image, near, exact=True) is None
    assert pair_problem(image, near, exact=False) == "the same image twice"
    assert pair_problem(image, noise(40, 40, seed=1), exact=False) is None
    ramp = np.tile(np.arange(0, 90, 10, np.uint8)[None, :, None], (8, 1, 3))
    assert image_hash(ramp) == "ff" * 8
    assert image_hash(ramp[:, ::-1].copy()) == "00" * 8


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


def record(name: str = "0000001", **changes) -> Record:
    meta = {
        "status": "kept",
        "reason": None,
        "category": "dog",
        "folder": "dog",
        "split": "train",
        "source": {"hash": "00", "prompt": "dog"},
        "target": {"hash": "01"},
        "filters": {"candidates": 9, "cycle": 4},
        "source_points": [[1.5, 2.0]],
    }
    return Record(name, {**meta, **changes}, {"source.jpg": b"abc", "source_mask.png": b""})


def test_records_are_read_back_as_written_and_always_the_same_bytes():
    data = encode_records([record(), record("0000002", category="ä")])
    assert data == encode_records([record(), record("0000002", category="ä")])
    read = decode_records(data, "here")
    assert [(r.id, r.meta, r.files) for r in read] == [
        (r.id, r.meta, r.files) for r in (record(), record("0000002", category="ä"))
    ]
    with pytest.raises(InputError, match="here is not a whole tar of records"):
        decode_records(data[:700], "here")


def test_later_duplicates_are_dropped_and_counted():
    records = [record(), record("0000002"), record("0000003", target={"hash": "02"})]
    summary = summarise(without_duplicates(records))
    assert summary.kept == ["0000001", "0000003"]
    assert summary.dropped == {"duplicate of an earlier pair": 1}
    assert summary.matches == {"candidates": 27, "cycle": 12}
    assert summary.prompts == {"dog": 2}


def test_the_card_names_categories_of_which_nothing_was_kept():
    made = [record(), record("0000002", status="dropped", reason="too dark", category="newt")]

    def card(records: list[Record]) -> str:
        return data_card(
            summarise(records), configuration="", sources={}, formats=["dhf"], rows=[], images=0
        )

    assert summarise(made).facts()["categories"] == {"dog": 1, "newt": 0}
    assert "Categories: dog 1. No pair was kept of: newt.\n" in card(made)
    assert "Categories: dog 1.\n" in card(made[:1])
    many = [
        record(f"{n:07d}", status="dropped", reason="dark", category=f"c{n}") for n in range(53)
    ]
    assert " and 3 more.\n" in card([*made[:1], *many])


def test_run_lengths_go_down_the_columns():
    mask = np.array([[1, 0], [1, 1], [0, 1]], bool)
    assert run_lengths(mask) == {"size": [3, 2], "counts": [0, 2, 2, 2]}
    assert run_lengths(~mask)["counts"] == [2, 2, 2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GenerationConfig(guidance=0.5), "guidance is 1"),
        (lambda: GenerationConfig(strength=1.0), "strength is a share"),
        (lambda: GenerationConfig(eta=1.5), "eta lies between 0 and 1, got 1.5"),
        (lambda: FilterConfig(ratio=-1), "filters.ratio must be 0 or more"),
        (lambda: FilterConfig(similarity=2), "filters.similarity is a cosine"),
        (lambda: PairLabelConfig(points=3, least=4), r"least must lie in 1\.\.points"),
        (lambda: SplitConfig(val=0.6, test=0.4), "shares that leave some for training"),
        (lambda: PairSettings(batch=0), "batch must be at least one"),
        (lambda: SlotConfig(name="class", values=("a",)), "no slot name"),
    ],
)
def test_settings_that_mean_nothing(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_fresh_noise_is_asked_for_by_image(monkeypatch) -> None:
    asked = []

    def generate(self, prompts, latent, **named):
        asked.append((named["eta"], list(named["seeds"])))
        return torch.rand(len(latent), 3, 32, 32)

    monkeypatch.setattr(DiffusionBackbone, "generate", generate)
    extractor = load_extractor("tiny", device="cpu", size=32)
    config = GenerationConfig(steps=2, eta=0.5, variant="image", features="image")
    generator = Generator(extractor, config)
    plans = [ImagePlan(prompt="dog", seed=3), ImagePlan(prompt="car", seed=8)]
    made = generator.generate(plans)
    generator.vary([replace(plan, seed=plan.seed + 1, strength=0.5) for plan in plans], made)
    assert asked == [(0.5, [3, 8]), (0.5, [4, 9])]


def test_a_part_generates_on_its_own_canvas_and_describes_on_another() -> None:
    """The UNet of `embedded` reads at 80 pixels and was trained at 128: here 20 and 32."""
    extractor = load_extractor("embedded", device="cpu", size=64)
    (found,) = Generator(extractor, GenerationConfig(steps=2)).generate(
        [ImagePlan(prompt="dog", seed=0)]
    )
    assert found.image.shape == (32, 32, 3)
    assert found.descriptors.data.shape == (256, 16, 16)


def test_a_former_key_says_what_to_give_in_its_place(tmp_path):
    (tmp_path / "set.yaml").write_text("labels: {filters: {mutual: true}}", encoding="utf-8")
    with pytest.raises(InputError) as refused:
        load_config(PairSettings, tmp_path / "set.yaml")
    assert "unknown key 'labels.filters.mutual'" in str(refused.value)
    assert "give 'labels.filters.cycle: 0' in its place" in str(refused.value)
