"""Plans, masks, records, cards, settings: each on small material made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_synthesis import disc, noise

from warpkit.checks import InputError
from warpkit.describe import load_extractor
from warpkit.features.diffusion import DiffusionBackbone
from warpkit.image.grabcut import refine_mask
from warpkit.io.config import load_config
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
from warpkit.synthesize.masks import cluster_cells, find_mask, foreground_cells
from warpkit.synthesize.measures import (
    PrecisionRow,
    image_hash,
    image_problem,
    pair_problem,
)
from warpkit.synthesize.plan import (
    GeneratedPlans,
    ImagePlan,
    PhotoPlans,
    list_photos,
)
from warpkit.synthesize.records import Record, decode_records, encode_records
from warpkit.synthesize.run import SynthesizeSettings, run_synthesize
from warpkit.synthesize.splits import split_of
from warpkit.synthesize.summary import summarise, without_duplicates
from warpkit.synthesize.writers.coco import run_lengths
from warpkit.types import DescriptorMap

NONE = SplitConfig(val=0, test=0)


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


def test_the_card_of_a_small_set_has_the_settings_that_made_it() -> None:
    measured = [
        PrecisionRow(setting, name, None, kept, right, right, 1.0)
        for setting, name, kept, right in (
            ("no filter", "", 1.0, 0.5),
            ("cycle <= 0.2", "cycle", 0.9, 0.6),
            ("ratio <= 0.9", "ratio", 0.8, 0.7),
            ("... cycle 0.1", "", 0.7, 0.8),
            ("... ratio 0.7", "", 0.4, 0.95),
        )
    ]

    def card(pairs: int) -> str:
        summary = summarise(record(f"{n:07d}") for n in range(pairs))
        return data_card(
            summary, configuration="", sources={}, formats=["dhf"], rows=measured, images=7
        )

    small, large = card(99), card(100)
    assert [line for line in small.splitlines() if "95.0%" in line or "50.0%" in line] == [
        "| no filter | 100.0% | 50.0% | 50.0% | 100% |",
        "| ... ratio 0.7 | 40.0% | 95.0% | 95.0% | 100% |",
    ]
    assert "... cycle 0.1" in small and "`quality.md` has each filter alone" in small
    assert "cycle <= 0.2" not in small and "ratio <= 0.9" not in small
    assert all(row.setting in large for row in measured) and "quality.md" not in large


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


def test_a_part_generates_at_its_own_size_and_describes_on_another() -> None:
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


@pytest.mark.parametrize(
    ("formats", "instead"),
    [
        (("spair", "parquet", "coco"), ', or leave it out by --set "formats=[spair,coco]"'),
        (("parquet",), ""),
    ],
)
def test_parquet_without_its_package_says_how_to_go_on(
    formats, instead, monkeypatch, tmp_path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError) as refused:
        run_synthesize(tmp_path / "out", settings=SynthesizeSettings(formats=formats))
    assert str(refused.value) == (
        f"the format parquet needs pyarrow: pip install 'warpkit-hyperfeatures[synth]'{instead}"
    )
    assert not (tmp_path / "out").exists()
