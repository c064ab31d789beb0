"""Extraction: one safetensors file per image, with everything needed to use it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from conftest import Ran
from safetensors import safe_open

import warpkit
from warpkit.render import RenderedFrame

Cli = Callable[..., Ran]


def read(path: Path) -> tuple[torch.Tensor, dict[str, str]]:
    with safe_open(str(path), framework="pt") as file:
        assert list(file.keys()) == ["descriptors"]
        return file.get_tensor("descriptors"), file.metadata()


def test_files_of_the_command(
    cli: Cli, files: Path, tmp_path: Path, model: warpkit.Model, clip: list[RenderedFrame]
) -> None:
    images = [files / "frames/002.png", files / "frames/000.png"]
    out = tmp_path / "out"
    ran = cli("extract", *images, "-o", out)
    assert (ran.code, ran.messages) == (0, [])
    assert ran.out.splitlines() == [str(out / "002.safetensors"), str(out / "000.safetensors")]
    assert sorted(path.name for path in out.iterdir()) == [
        *("000.safetensors", "002.safetensors", "run.json"),
    ]
    for path, frame in (("002", clip[2]), ("000", clip[0])):
        data, metadata = read(out / f"{path}.safetensors")
        found = model.describe([frame.image])[0]
        assert data.dtype == torch.float32
        assert torch.equal(data, found.data)
        assert (metadata["height"], metadata["width"]) == ("48", "80")
        assert float(metadata["cell_height"]) == found.cell_height
        assert float(metadata["cell_width"]) == found.cell_width
        assert metadata["image"] == str(files / f"frames/{path}.png")
        config = json.loads(metadata["config"])
        assert (config["model"], config["size"], config["half"]) == ("tiny", 32, False)
    record = json.loads((out / "run.json").read_text())
    assert record["config"] == config
    assert record["inputs"] == [str(image) for image in images]


def test_half_and_fit(cli: Cli, files: Path, tmp_path: Path) -> None:
    image = files / "frames/000.png"
    assert cli("extract", image, "-o", tmp_path / "whole").code == 0
    assert cli("extract", image, "--half", "-o", tmp_path / "half").code == 0
    assert cli("extract", image, "--fit", "squash", "-o", tmp_path / "squash").code == 0
    whole, _ = read(tmp_path / "whole/000.safetensors")
    half, _ = read(tmp_path / "half/000.safetensors")
    squash, metadata = read(tmp_path / "squash/000.safetensors")
    assert half.dtype == torch.float16
    torch.testing.assert_close(half, whole.half(), atol=0, rtol=0)
    assert squash.shape[1] == squash.shape[2]
    assert json.loads(metadata["config"])["fit"] == "squash"
    height, width = squash.shape[1:]
    assert float(metadata["cell_height"]) * height == 48
    assert float(metadata["cell_width"]) * width == 80


def test_a_bad_last_image_leaves_nothing(cli: Cli, files: Path, tmp_path: Path) -> None:
    ran = cli("extract", files / "frames/000.png", files / "text.png", "-o", tmp_path / "out")
    assert ran.code == 2
    assert list(tmp_path.iterdir()) == []
