"""Photographs without masks: objects that the foreground head finds, kept, named and doubted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_segmenters import save_small_segmenter
from small_synthesis import OPTIONS, settings

import warpkit
from warpkit.checks import InputError
from warpkit.features.foreground import FOREGROUND_WEIGHTS
from warpkit.features.segmenters import Segmenter, segmenter_weights
from warpkit.image.foreground import FoundObject, NothingFoundError, find_object, load_foreground
from warpkit.render import CLIPS, render_frame
from warpkit.runs.cache import file_sha256
from warpkit.synthesize import run as job
from warpkit.synthesize.config import (
    FilterConfig,
    MaskConfig,
    PairLabelConfig,
    QualityConfig,
    SplitConfig,
)
from warpkit.synthesize.pair_pipeline import PairPipeline
from warpkit.synthesize.records import encode_records
from warpkit.synthesize.run import run_synthesize
from warpkit.synthesize.sources import set_sources

HEIGHT, WIDTH = 64, 96


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """Four frames of a fish."""
    root = tmp_path_factory.mktemp("photographs")
    spec = replace(CLIPS["fish"], height=HEIGHT, width=WIDTH)
    for t in (0, 12, 24, 36):
        warpkit.write_image(root / f"{t:02d}.png", render_frame(spec, t).image)
    return root


def config(root: Path, **changes):
    values = {
        "images": root,
        "pairs": 4,
        "suffix": "png",
        "masks": MaskConfig(),
        "labels": PairLabelConfig(
            points=8, least=1, filters=FilterConfig(ratio=None, coherence=None, affine=None)
        ),
        "quality": QualityConfig(images=0, sheets=1),
        "splits": SplitConfig(val=0, test=0),
    }
    return settings(**{**values, **changes})


def test_objects_of_photographs_are_found_and_named(photographs, tmp_path, caplog):
    caplog.set_level("INFO", logger="warpkit")
    out = tmp_path / "out"
    facts = run_synthesize(out, settings=config(photographs), options=OPTIONS)
    assert facts["kept"] == 4
    assert facts["found_masks"] == 8
    network = load_foreground("cpu")
    for path in (out / "Segmentation").rglob("*.png"):
        (image,) = (out / "JPEGImages").rglob(path.name)
        expected = find_object(warpkit.read_image(image), model=network)
        np.testing.assert_array_equal(warpkit.read_mask(path), expected.mask)
    for item in json.loads((out / "pairs.json").read_text(encoding="utf-8")):
        for role in ("source", "target"):
            assert 0.7 < item["provenance"][role]["mask_agreement"] <= 1
            assert "mask_doubts" not in item["provenance"][role]
            x, y = np.floor(np.array(item[f"{role}_points"]).T + 0.5).astype(int)
            assert warpkit.read_mask(out / item[f"{role}_mask"])[y, x].all()
    card = (out / "README.md").read_text(encoding="utf-8")
    digest = file_sha256(FOREGROUND_WEIGHTS)[:12]
    assert f"- masks: found by the foreground head (weights {digest}), not by people" in card
    shares = [
        item["provenance"][role]["mask_agreement"]
        for item in json.loads((out / "pairs.json").read_text(encoding="utf-8"))
        for role in ("source", "target")
    ]
    line = (
        "found the object of 8 pictures of 4 kept pairs: mean confidence"
        f" {100 * sum(shares) / 8:.0f} %, lowest {100 * min(shares):.0f} %"
    )
    assert f"Masks: {line}. Each record" in card
    assert f"{line}; --mask none takes whole pictures" in caplog.text


def test_exact_labels_lie_on_what_was_found(photographs, tmp_path):
    asked = config(photographs, known_warps=True, pairs=3)
    facts = run_synthesize(tmp_path / "out", settings=asked, options=OPTIONS)
    assert (facts["kept"], facts["found_masks"]) == (3, 3)  # a source is its target, bent
    for item in json.loads((tmp_path / "out/pairs.json").read_text(encoding="utf-8")):
        mask = warpkit.read_mask(tmp_path / "out" / item["target_mask"])
        x, y = np.floor(np.array(item["target_points"]).T + 0.5).astype(int)
        assert mask[y, x].all()
        assert "mask_agreement" not in item["provenance"]["source"]


def test_the_same_records_whatever_was_made_before(photographs):
    asked = config(photographs, pairs=4)
    plans = [asked.plans().pair(number) for number in range(4)]
    chunks = [plans[:2], plans[2:]]
    extractor = OPTIONS.load_extractor()
    ahead = [encode_records(r) for r in PairPipeline(asked, extractor).run(chunks, ahead=True)]
    # A run that goes on, or another worker, begins with any of them.
    later = PairPipeline(asked, extractor)
    for number in (1, 0):
        assert encode_records(later.make(chunks[number])) == ahead[number]


def test_a_photograph_of_several_pairs_is_looked_at_once(photographs, monkeypatch):
    looked = []

    def find(image, _hints):
        looked.append(image)
        mask = np.zeros(image.shape[:2], bool)
        mask[20:40, 30:60] = True
        return FoundObject(mask, 0.9, ())

    monkeypatch.setattr("warpkit.synthesize.object_masks.object_finder", lambda _: find)
    asked = config(photographs, pairs=6)
    plans = [asked.plans().pair(number) for number in range(6)]
    maker = PairPipeline(asked, OPTIONS.load_extractor())
    records = [record for plan in plans for record in maker.make([plan])]
    assert len(looked) == 4
    assert {record.meta["target"]["mask_agreement"] for record in records} == {0.9}


@pytest.fixture
def doubtful(monkeypatch) -> None:
    """Finds a block everywhere, and doubts it."""

    def find(image, _hints):
        mask = np.zeros(image.shape[:2], bool)
        mask[20:40, 30:60] = True
        return FoundObject(mask, 0.75, ("it touches all four sides of the image",))

    monkeypatch.setattr("warpkit.synthesize.object_masks.object_finder", lambda _: find)


@pytest.mark.usefixtures("doubtful")
def test_doubtful_ones_are_kept_and_said(photographs, tmp_path, caplog):
    out = tmp_path / "out"
    facts = run_synthesize(out, settings=config(photographs), options=OPTIONS)
    assert facts["doubtful_masks"] == facts["kept"] == 4
    (said,) = (r.getMessage() for r in caplog.records if "doubtful" in r.getMessage())
    assert said.startswith("the found masks of 4 of 4 kept pairs are doubtful")
    assert "masks.least_trust=0.7 drops them" in said
    (item, *_) = json.loads((out / "pairs.json").read_text(encoding="utf-8"))
    doubts = ["it touches all four sides of the image"]
    assert item["provenance"]["source"]["mask_doubts"] == doubts
    coco = json.loads((out / "coco/keypoints_train.json").read_text(encoding="utf-8"))
    assert {tuple(a["mask_doubts"]) for a in coco["annotations"]} == {tuple(doubts)}
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "4 of 4 pairs have a found mask that is doubtful" in card
    assert item["id"] in card


@pytest.mark.usefixtures("doubtful")
def test_doubtful_ones_can_be_dropped(photographs, tmp_path):
    strict = config(photographs, masks=MaskConfig(least_trust=0.7))
    with pytest.raises(InputError, match=r"none of 4 pairs was kept \(doubtful mask 4\)"):
        run_synthesize(tmp_path / "out", settings=strict, options=OPTIONS)


def test_a_picture_without_an_object_drops_its_pair(photographs, monkeypatch):
    def find(image, _hints):
        raise error

    monkeypatch.setattr("warpkit.synthesize.object_masks.object_finder", lambda _: find)
    asked = config(photographs)
    maker = PairPipeline(asked, OPTIONS.load_extractor())
    error = NothingFoundError("no object was found")
    (record,) = maker.make([asked.plans().pair(0)])
    assert record.meta["reason"] == "no object found"
    # What cannot look is no picture without an object.
    error = InputError("the weights are damaged")
    with pytest.raises(InputError, match="the weights are damaged"):
        maker.make([asked.plans().pair(1)])


def test_a_segmenter_finds_what_the_category_names(photographs, tmp_path, monkeypatch):
    folder = save_small_segmenter(tmp_path / "clipseg", "clipseg")
    asked_for = set()

    def by_text(_self, image, text):
        asked_for.add(text)
        logits = torch.full(image.shape[-2:], -1.0)
        logits[20:40, 24:72] = 1
        return logits

    monkeypatch.setattr(Segmenter, "by_text", by_text)
    (tmp_path / "photos/sea").mkdir(parents=True)
    (tmp_path / "photos/sea/clown_fish").symlink_to(photographs)
    asked = config(tmp_path / "photos", masks=MaskConfig(segmenter=str(folder)), pairs=2)
    assert run_synthesize(tmp_path / "out", settings=asked, options=OPTIONS)["kept"] == 2
    assert asked_for == {"clown fish"}
    for path in (tmp_path / "out/Segmentation").rglob("*.png"):
        y, x = np.nonzero(warpkit.read_mask(path))
        assert (y.min(), y.max(), x.min(), x.max()) == (20, 39, 24, 71)
    weights = segmenter_weights(str(folder))
    line = f"found by the segmenter {weights} (licence: not known), not by people"
    assert line in (tmp_path / "out/README.md").read_text()
    monkeypatch.setattr("warpkit.synthesize.sources.segmenter_weights", lambda _: "its-name@abc")
    known = config(tmp_path / "photos", masks=MaskConfig(segmenter="sam2"))
    line = "found by the segmenter its-name@abc (licence: Apache-2.0), not by people"
    assert set_sources(known, OPTIONS)["masks"] == line
    # Other weights are another run.
    assert job._task(asked, OPTIONS)["segmenter"] == weights
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert job._task(asked, OPTIONS)["segmenter"] != weights


def test_other_weights_of_the_head_are_another_run(photographs, tmp_path, monkeypatch):
    asked = config(photographs)
    task = job._task(asked, OPTIONS)
    assert task["foreground_head"] == file_sha256(FOREGROUND_WEIGHTS)
    monkeypatch.setattr(job, "FOREGROUND_WEIGHTS", tmp_path / "other.safetensors")
    (tmp_path / "other.safetensors").write_bytes(b"other weights")
    assert job._task(asked, OPTIONS) != task
    whole = config(photographs, masks=MaskConfig(kind="whole"))
    assert "foreground_head" not in job._task(whole, OPTIONS)


def test_where_masks_come_from(photographs):
    def kind(images, **masks):
        return settings(images=images, masks=MaskConfig(**masks)).mask_kind

    assert kind(photographs) == "auto"
    assert kind(None) == "found"
    assert kind(None, kind="auto") == "auto"
    # What asks for clusters goes on to mean them.
    assert kind(photographs, clusters=4) == kind(photographs, iterations=0) == "found"
    assert kind(photographs, least_trust=0.5) == "auto"
    assert kind(photographs, kind="whole") == "whole"
    assert kind(None, segmenter="sam2") == "auto"
    with pytest.raises(InputError, match=r"masks\.segmenter belongs to masks\.kind: auto"):
        MaskConfig(kind="whole", segmenter="sam2")
    for values, message in (({"clusters": 0}, "2 or more, got 0"), ({"iterations": -1}, "got -1")):
        with pytest.raises(InputError, match=message):
            MaskConfig(kind="found", **values)
    with pytest.raises(InputError, match=r"belong to masks\.kind: found, got auto"):
        MaskConfig(kind="auto", clusters=4)


def test_a_given_mask_that_is_missing(photographs, tmp_path):
    asked = config(photographs, masks=MaskConfig(kind="given", folder=tmp_path))
    maker = PairPipeline(asked, OPTIONS.load_extractor())
    with pytest.raises(
        InputError, match=r"no mask at .*\d\d\.png: .* needs one, or masks\.kind=auto"
    ):
        maker.make([asked.plans().pair(0)])


def test_the_flag_takes_pictures_whole(cli, photographs, tmp_path):
    ran = cli(
        *("synthesize", "--images", photographs, "-o", tmp_path / "out", "--pairs", 1),
        *("--mask", "none", "--known-warps", "--set", "quality.images=0"),
        *("--set", "splits.val=0", "--set", "splits.test=0"),
    )
    assert ran.code == 0, ran.err
    record = json.loads((tmp_path / "out/run.json").read_text(encoding="utf-8"))
    assert record["config"]["masks"]["kind"] == "whole"
    assert record["found_masks"] == 0
