"""The cache of descriptors: what it answers, what it drops, and several processes at once."""

from __future__ import annotations

import logging
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from warpkit.checks import InputError
from warpkit.describe.cache import DescriptorCache
from warpkit.describe.extractor import Extractor
from warpkit.describe.load import load_extractor
from warpkit.io.tensors import write_tensors
from warpkit.types import DescriptorMap

Image = np.ndarray


def picture(seed: int) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8)


def described(seed: int = 0, side: int = 8) -> DescriptorMap:
    data = torch.randn(4, side, side, generator=torch.Generator().manual_seed(seed))
    return DescriptorMap.covering(data, height=30, width=50)


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def test_a_map_comes_back_in_half_precision(tmp_path: Path) -> None:
    cache = DescriptorCache(tmp_path / "cache")
    key = cache.key("digest", picture(0))
    assert cache.find(key) is None
    added = cache.add(key, described())
    found = DescriptorCache(tmp_path / "cache").find(key)
    assert found is not None
    assert torch.equal(found.data, described().data.half().float())
    assert torch.equal(found.data, added.data)
    assert (found.height, found.width) == (30, 50)
    assert (found.cell_height, found.cell_width) == (30 / 8, 50 / 8)
    assert len(files(tmp_path)) == 1


def test_a_key_is_of_the_pixels_the_shape_and_the_digest() -> None:
    image = picture(0)
    other = image.copy()
    other[-1, -1, -1] ^= 1
    keys = {
        DescriptorCache.key("a", image),
        DescriptorCache.key("b", image),
        DescriptorCache.key("a", other),
        DescriptorCache.key("a", image.reshape(48, 40, 3)),
    }
    assert len(keys) == 4
    assert DescriptorCache.key("a", np.asfortranarray(image)) == DescriptorCache.key("a", image)


@pytest.mark.parametrize("damage", ["cut", "empty", "bit", "text"])
def test_a_damaged_file_is_reported_removed_and_made_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = DescriptorCache(tmp_path)
    cache.add("ab", described())
    (path,) = files(tmp_path)
    raw = bytearray(path.read_bytes())
    if damage == "bit":
        raw[-1] ^= 4
    path.write_bytes({"cut": raw[:-9], "empty": b"", "bit": raw, "text": b"no tensors"}[damage])
    with caplog.at_level(logging.WARNING, "warpkit"):
        assert cache.find("ab") is None
    assert f"{path} are damaged" in caplog.text
    assert (files(tmp_path), cache.damaged) == ([], 1)
    cache.add("ab", described())
    assert cache.find("ab") is not None


def test_the_least_recently_used_maps_go_when_the_folder_is_full(tmp_path: Path) -> None:
    maps = [described(seed, side=32) for seed in range(6)]
    size = 4 * 32 * 32 * 2
    cache = DescriptorCache(tmp_path, limit_gb=4.8 * size / 1e9)
    for number, one in enumerate(maps[:4]):
        cache.add(f"{number}0", one)
        os.utime(cache._path(f"{number}0"), (number, number))
    assert cache.find("00") is not None  # used last from here on
    cache.add("40", maps[4])
    left = sum(path.stat().st_size for path in files(tmp_path))
    assert left <= 4.8 * size
    kept = {path.stem for path in files(tmp_path)}
    assert {"00", "40"} <= kept
    assert "10" not in kept
    assert cache.find("10") is None


def test_a_folder_that_cannot_be_written_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = DescriptorCache(tmp_path / "file")
    with caplog.at_level(logging.WARNING, "warpkit"):
        for key in ("ab", "cd"):
            assert torch.equal(cache.add(key, described()).data, described().data.half().float())
    assert caplog.text.count("cannot be kept") == 1


def test_a_limit_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="positive size, got 0"):
        DescriptorCache(tmp_path, limit_gb=0)


def _hammer(folder: str, seed: int, bad: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    cache = DescriptorCache(folder, limit_gb=20 * 4 * 64 * 2 / 1e9)
    generator = np.random.default_rng(seed)
    for number in generator.integers(0, 40, 200).tolist():
        found = cache.find(f"{number:02d}")
        if found is None:
            found = cache.add(f"{number:02d}", described(number))
        if not torch.equal(found.data, described(number).data.half().float()):
            bad.put(number)
    bad.put(("damaged", cache.damaged))


def test_processes_share_a_folder_while_it_is_evicted(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    bad = context.Queue()
    processes = [context.Process(target=_hammer, args=(str(tmp_path), s, bad)) for s in range(4)]
    for process in processes:
        process.start()
    results = [bad.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert results == [("damaged", 0)] * 4
    assert bad.empty()
    assert not list(tmp_path.rglob(".*"))


# --- the extractor with a cache -----------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    batches: list[int] = []
    aggregate = Extractor.aggregate

    def counting(self: Extractor, inputs: torch.Tensor) -> torch.Tensor:
        batches.append(len(inputs))
        return aggregate(self, inputs)

    monkeypatch.setattr(Extractor, "aggregate", counting)
    return batches


def test_the_extractor_describes_a_picture_once(tmp_path: Path, counted: list[int]) -> None:
    images = [picture(0), picture(1), picture(0)]
    plain = load_extractor("tiny", device="cpu", size=32).describe(images)
    counted.clear()
    first = load_extractor("tiny", device="cpu", size=32, cache=DescriptorCache(tmp_path))
    maps = first.describe(images)
    assert counted == [2]
    again = load_extractor("tiny", device="cpu", size=32, cache=DescriptorCache(tmp_path))
    maps_again = again.describe([picture(1), picture(2), picture(0)])
    assert counted == [2, 1]
    for one, reference in zip(maps, plain, strict=True):
        torch.testing.assert_close(one.data, reference.data, rtol=2e-3, atol=1e-3)
    assert torch.equal(maps[1].data, maps_again[0].data)
    assert torch.equal(maps[2].data, maps_again[2].data)
    assert again.cache is not None
    assert (again.cache.found, again.cache.added) == (2, 1)


def test_another_configuration_is_not_answered(tmp_path: Path, counted: list[int]) -> None:
    def extractor(**options: object) -> Extractor:
        given = {"size": 32, "cache": DescriptorCache(tmp_path), "device": "cpu"} | options
        return load_extractor("tiny", **given)  # type: ignore[arg-type]

    others = [
        extractor(),
        extractor(size=48),
        extractor(fit="stretch"),
        extractor(prompt=load_extractor("tiny", device="cpu").backbone.conditioner.classes[0]),  # type: ignore[attr-defined]
        extractor(),
        extractor(),
    ]
    # Loads share the weights in tests: this one gets some of its own.
    layer = others[4].backbone.unet.conv_in  # type: ignore[attr-defined]
    layer.weight = torch.nn.Parameter(layer.weight.detach() + 1e-3)
    others[5].network.mixing_weights.data[0] += 0.01
    assert len({one.digest() for one in others}) == len(others)
    for one in others:
        one.describe([picture(0)])
    assert counted == [1] * len(others)
    extractor(batch_size=1).describe([picture(0)])
    assert len(counted) == len(others)


def test_files_of_the_same_content_are_the_same_bytes(tmp_path: Path) -> None:
    metadata = {name: f"für {name}" for name in ("width", "height", "config", "image", "key")}
    tensors = {"b": torch.arange(5.0), "a": torch.arange(3).half()}
    for name in ("one", "two"):
        write_tensors(tmp_path / name, tensors, dict(reversed(metadata.items())))
        metadata = dict(reversed(metadata.items()))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with safe_open(str(tmp_path / "one"), framework="pt") as file:
        assert file.metadata() == metadata
        assert all(torch.equal(file.get_tensor(name), tensors[name]) for name in tensors)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
