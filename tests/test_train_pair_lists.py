"""Annotated pair lists as training pairs: exact labels, bounded memory, every kind of list."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from pair_folders import SIZES, write_ramps, write_spair
from PIL import Image
from torch import Tensor

from warpkit.checks import InputError
from warpkit.coords import plan_fit, sample_bilinear
from warpkit.datasets.pair import AnnotatedPair
from warpkit.datasets.synth import read_synth
from warpkit.io.config import load_config
from warpkit.train import views
from warpkit.train.aggregator_config import AggregatorTrainConfig
from warpkit.train.pair_lists import (
    AnnotatedPairs,
    ImageCache,
    PairListConfig,
    digest,
    read_pair_list,
)


@pytest.fixture
def ramps(tmp_path: Path) -> Path:
    return write_ramps(tmp_path / "ramps", SIZES)


@pytest.fixture
def plain_colours(monkeypatch) -> None:
    monkeypatch.setattr(views, "photometric_jitter", lambda images, **_: images)


def colours(images: Tensor, xy: Tensor) -> Tensor:
    return torch.stack([sample_bilinear(i * 250, p) for i, p in zip(images, xy, strict=True)])


@pytest.mark.parametrize("view", ["random", "stretch"])
@pytest.mark.parametrize("cache", [1.0, 0.0])
def test_labels_are_exact(plain_colours, ramps, view, cache):
    pairs, _ = read_synth(ramps)
    source = AnnotatedPairs(tuple(pairs), device="cpu", view=view, side=56, cache=cache)
    batch = source.draw(16, size=48, generator=torch.Generator().manual_seed(0))
    assert batch.source.shape == batch.target.shape == (16, 3, 48, 48)
    assert batch.source_xy.shape == batch.target_xy.shape == (16, 6, 2)
    # Pairs 0 and 2 have six points, pair 1 has five.
    assert {5, 6} >= set(batch.valid.sum(1).tolist())
    here, there = colours(batch.source, batch.source_xy), colours(batch.target, batch.target_xy)
    # A pixel is 3 to 6 levels.
    assert float((here - there).abs()[batch.valid].max()) < 1.5


def test_stretched_inputs_are_those_of_the_extractor(ramps):
    pairs, _ = read_synth(ramps)
    source = AnnotatedPairs((pairs[0],), device="cpu", view="stretch")
    batch = source.draw(2, size=32, generator=torch.Generator().manual_seed(0))
    array = np.asarray(Image.open(pairs[0].source_path))
    fit = plan_fit(height=60, width=80, size=32, multiple=16, mode="stretch")
    inputs = fit.apply(torch.tensor(array).permute(2, 0, 1)[None].float() / 255)
    assert torch.equal(batch.source[1:], inputs)
    expected = (torch.from_numpy(pairs[0].source_points) + 0.5) * torch.tensor([0.4, 32 / 60]) - 0.5
    torch.testing.assert_close(batch.source_xy[0], expected)
    assert bool(batch.valid.all())


def test_flips_mirror_both_views_and_are_off_by_default(plain_colours, ramps):
    pairs, _ = read_synth(ramps)

    def mirrored(**options) -> list[Tensor]:
        source = AnnotatedPairs(tuple(pairs), device="cpu", **options)
        batch = source.draw(24, size=32, generator=torch.Generator().manual_seed(0))
        return [image[:, 0].diff(dim=2).mean((1, 2)) < 0 for image in (batch.source, batch.target)]

    assert not bool(torch.cat(mirrored()).any())
    source, target = mirrored(flip=0.5)
    assert torch.equal(source, target)
    assert 6 < int(source.sum()) < 18


def test_draws_depend_on_the_generator_alone(ramps):
    pairs, _ = read_synth(ramps)

    def draw(source: AnnotatedPairs, seed: int) -> Tensor:
        return source.draw(3, size=16, generator=torch.Generator().manual_seed(seed)).target

    warm = AnnotatedPairs(tuple(pairs), device="cpu")
    first = draw(warm, 0)
    draw(warm, 1)
    torch.manual_seed(3)
    assert torch.equal(draw(warm, 0), first)
    assert torch.equal(draw(AnnotatedPairs(tuple(pairs), device="cpu", cache=0.0), 0), first)


def test_points_on_and_beyond_the_border_count_as_on_it(ramps):
    pair = read_synth(ramps)[0][0]
    edge = np.array([[80, 60], [-0.9, 3]], np.float32)
    boundary = AnnotatedPair(
        pair.source_path, pair.target_path, edge, edge, pair.source_box, pair.target_box, "x"
    )
    batch = AnnotatedPairs((boundary,), device="cpu", view="stretch").draw(
        1, size=32, generator=torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(batch.source_xy[0, 0], torch.tensor([31.5, 31.5]))
    assert float(batch.source_xy[0, 1, 0]) == -0.5


def test_the_cache_is_bounded_and_forgets_the_oldest(ramps):
    cache = ImageCache(side=32, limit=2 * 3 * 32 * 43)
    first, size = cache.get(ramps / "0.png")
    assert first.shape == (3, 32, 43)
    assert size == (60, 80)
    for name in ("2.png", "0.png", "1.png"):
        cache.get(ramps / name)
        assert cache.held <= cache.limit
    assert [path.name for path in cache._images] == ["0.png", "1.png"]
    assert cache.get(ramps / "0.png")[0] is first
    # Small images are not enlarged.
    assert ImageCache(side=500, limit=0).get(ramps / "2.png")[0].shape == (3, 64, 64)


# Lists


def test_every_kind_of_list_is_read(ramps, tmp_path):
    by_folder = read_pair_list(PairListConfig(synth=ramps))
    moved = tmp_path / "elsewhere.json"
    moved.write_bytes((ramps / "pairs.json").read_bytes())
    by_file = read_pair_list(PairListConfig(json=moved, images=ramps))
    beside = read_pair_list(PairListConfig(json=ramps / "pairs.json"))
    assert len(by_folder) == 3
    assert digest(by_folder) == digest(by_file) == digest(beside)
    assert digest(by_folder[:2]) != digest(by_folder)

    spair = write_spair(tmp_path / "SPair-71k")
    (pair,) = read_pair_list(PairListConfig(spair=spair))
    assert pair.source_points.tolist() == [[3, 4], [20, 11]]
    with pytest.raises(InputError, match="val is missing"):
        read_pair_list(PairListConfig(spair=spair, split="val"))


def test_what_is_left_out_is_said_once(ramps, caplog):
    path = ramps / "pairs.json"
    items = json.loads(path.read_text(encoding="utf-8"))
    items[0]["source_path"] = "gone.png"
    items[1]["source_points"][0] = [900, 3]
    path.write_text(json.dumps(items), encoding="utf-8")
    with caplog.at_level(logging.WARNING, "warpkit"):
        pairs = read_pair_list(PairListConfig(synth=ramps))
    assert [len(pair) for pair in pairs] == [4, 6]
    (record,) = caplog.records
    assert record.getMessage().startswith("2 problems in the pair list, the first: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pairs: [{count: 2}]", r"a pair list is one of json: FILE .*got none of them"),
        ("pairs: [{json: a, synth: b}]", "one of json: FILE .*got json and synth"),
        ("pairs: [{synth: a, images: b}]", "'images' belongs to json, not to synth"),
        ("pairs: [{json: a, split: val}]", "'split' belongs to spair, not to json"),
        ("pairs: [{json: a, count: 0}]", "count must be at least one pair per step, got 0"),
        ("pairs: [{json: a, flip: 2}]", "flip is a probability from 0 to 1, got 2"),
        ("pairs: [{json: a, view: stretch, flip: 0.5}]", "stretch shows whole images as they are"),
        ("pairs: [{json: a, cache: -1}]", "cache is 0 or more gigabytes, got -1"),
        ("pairs: [{jsn: a}]", r"unknown key 'pairs\[0\].jsn'.*did you mean 'pairs\[0\].json'"),
    ],
)
def test_a_wrong_list_is_one_line(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        load_config(AggregatorTrainConfig, path)
    assert "\n" not in str(caught.value)
