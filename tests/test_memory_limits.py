"""Settings that ask for more memory than there is: refused in one line, before it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Ran

import warpkit
from warpkit.checks import InputError
from warpkit.cli import main as main_module
from warpkit.describe.options import ModelOptions
from warpkit.propagate import LabelConfig
from warpkit.propagate.label_config import label_memory
from warpkit.render import RenderedFrame
from warpkit.runs import memory

Cli = Callable[..., Ran]
Tree = Callable[[Path], dict[str, bytes | None]]


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 200_000_000)


def test_the_memory_of_label_propagation_by_hand() -> None:
    config = LabelConfig(top_k=3, context=2, channels=4, refine=1)
    # 48 cells: context of 1 + 2 frames of 4 + 4 channels, 12 cells with a label, 3 keys of 12 bytes
    expected = 48 * (4 * (3 * 8 + 12) + 36)
    found = label_memory(config, cells=48, channels=10, share=0.25, annotated=1, frames=9)
    assert found == expected
    # 768 cells of 4 x 4 finer maps, which are made twice; most cells show an object; short clip
    finer = LabelConfig(top_k=10**9, context=50, channels=0, refine=4)
    expected = 768 * (4 * (2 * 10 + 3 * 14) + 12 * 3 * 768)
    assert label_memory(finer, cells=48, channels=10, share=0.7, annotated=2, frames=1) == expected


@pytest.mark.parametrize("setting", ["label.refine=16", "label.context=100000"])
def test_propagate_refuses_and_leaves_everything_as_it_was(
    cli: Cli, files: Path, tmp_path: Path, tree: Tree, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda: 1_500_000)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    before = tree(tmp_path)
    told = (files / "clip.mp4", "--mask", files / "mask.png", "-o", tmp_path / "out")
    ran = cli("propagate", *told, "--overwrite", "--set", setting)
    assert ran.code == 2 and tree(tmp_path) == before
    (message,) = ran.messages
    assert message.startswith("warpkit propagate: label propagation needs ")
    assert "GB of memory, 0.0 GB are free: lower label.refine" in message


@pytest.mark.parametrize("model", ["tiny", "embedded", "efficientnet-lite0"])
def test_propagate_refuses_before_a_model_is_loaded(
    cli: Cli, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr(ModelOptions, "load_extractor", None)
    monkeypatch.setattr(memory, "available", lambda: 10**9)
    told = ("--model", model, "--mask", files / "mask.png", "--set", "label.refine=16")
    ran = cli("propagate", files / "clip.mp4", *told, "-o", tmp_path / "out", small=False)
    assert ran.code == 2 and "label propagation needs " in ran.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "height", "width"),
    [
        ({"model": "tiny", "size": 48}, 48, 80),
        ({"model": "tiny"}, 300, 100),
        ({"model": "efficientnet-lite0", "size": 60}, 33, 500),
        ({"model": "embedded", "size": 50, "fit": "stretch"}, 90, 31),
    ],
)
def test_cells_known_before_the_model_is_loaded(
    options: dict[str, Any], height: int, width: int
) -> None:
    asked = ModelOptions(device="cpu", **options)
    (described,) = asked.load_extractor().describe([np.zeros((height, width, 3), np.uint8)])
    known = asked.least_cells(height=height, width=width)
    assert 0 < known <= described.data[0].numel() < 40 * known


def test_cells_that_only_the_loaded_model_tells(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("backbone: tiny\n")
    for options in ({"model": str(tmp_path / "m.yaml")}, {"aggregator": tmp_path / "a.pt"}):
        assert ModelOptions(**options).least_cells(height=9, width=9) == 0


@pytest.mark.parametrize("size", [4097, 20000])
def test_an_input_too_large_is_refused_before_a_model_is_loaded(
    cli: Cli, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("warpkit.describe.load.assemble", None)
    image, out = files / "frames/000.png", ("-o", tmp_path / "out")
    amount = f"size must be at most 4096 pixels, got {size}: memory grows as its square, the input"
    amount += f" of one image alone is {12 * size * size / 1e9:.1f} GB"
    for command in (
        ("match", image, image, "--points", "3,3"),
        ("warp", image, image, *out),
        ("propagate", files / "clip.mp4", "--points", "3,3", *out),
        ("extract", image, *out),
    ):
        ran = cli(*command, "--size", size, small=False)
        assert ran.code == 2 and len(ran.messages) == 1
        assert ran.err.startswith(f"warpkit {command[0]}: ") and ran.err.endswith(amount + "\n")
    with pytest.raises(InputError, match=amount):
        warpkit.load("tiny", size=size)


def test_a_batch_that_is_more_than_the_memory_is_refused_before_it_runs(
    model: warpkit.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.zeros((48, 80, 3), np.uint8)
    (part,) = model.describer.parts  # type: ignore[attr-defined]
    spec, fit = part.backbone.spec, part.plan(height=48, width=80)
    pixels = fit.input_height * fit.input_width
    layers = sum(layer.channels * pixels / layer.stride**2 for layer in spec.layers)
    descriptors = part.network.config.width * pixels / spec.output_stride**2
    needed = int(4 * (3 * pixels + layers + descriptors))
    monkeypatch.setattr(memory, "available", lambda: 2 * needed)
    assert len(model.describe([image] * 2)) == 2
    monkeypatch.setattr(memory, "available", lambda: 2 * needed - 1)
    monkeypatch.setattr(type(part), "aggregate", None)
    words = f"a batch of 2 images of {fit.input_width} x {fit.input_height} pixels needs"
    with pytest.raises(InputError, match=words + ".*use a smaller --size or batch_size"):
        model.describe([image] * 2)


@pytest.mark.usefixtures("small_machine")
def test_what_fits_runs_and_python_hears_the_same(
    model: warpkit.Model, clip: list[RenderedFrame]
) -> None:
    images, labels = [frame.image for frame in clip[:2]], clip[0].labels
    small = warpkit.PropagateSettings(label=LabelConfig(refine=2))
    assert len(list(model.propagate(images, labels=labels, settings=small))) == 2
    large = warpkit.PropagateSettings(label=LabelConfig(refine=16))
    with pytest.raises(InputError, match=r"needs [\d.]+ GB of memory, 0.2 GB are free"):
        model.propagate(images, labels=labels, settings=large)


@pytest.mark.parametrize("free", [None, 10**12])
def test_nothing_is_refused_where_the_system_does_not_tell(
    free: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda: free)
    told: dict[str, Any] = {"device": torch.device("cpu"), "advice": "less"}
    memory.require_memory(10**11, "it", **told)
    monkeypatch.setattr(memory, "available", lambda: 10)
    memory.require_memory(10**11, "it", device=torch.device("cuda"), advice="less")
    with pytest.raises(InputError, match=r"it needs 100.0 GB of memory, 0.0 GB are free: less"):
        memory.require_memory(10**11, "it", **told)


def test_free_memory_is_between_none_and_all() -> None:
    free = memory.available()
    assert free is None or 0 < free < 2**50


def _numpy() -> None:
    np.zeros((10**6, 10**6, 16))


def _torch() -> None:
    torch.empty(2**46, dtype=torch.uint8)


def _gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.50 GiB. GPU 0 has")


@pytest.mark.parametrize(
    ("ask", "amount"),
    [(_numpy, "(116 TiB were"), (_torch, "(70,368.7 GB were"), (_gpu, "(3.5 GiB were")],
)
def test_memory_that_is_refused_by_the_system_is_one_line(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, ask: Callable[[], None], amount: str
) -> None:
    monkeypatch.setitem(main_module._COMMANDS, "demo", lambda args: ask())
    ran = cli("demo", small=False)
    assert ran.code == 2 and len(ran.messages) == 1
    assert ran.err.startswith(f"warpkit demo: out of memory {amount} asked for at once)")


def test_another_error_is_not_taken_for_it(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(args: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setitem(main_module._COMMANDS, "demo", fails)
    with pytest.raises(RuntimeError, match="shapes differ"):
        cli("demo", small=False)


def test_cached_files_of_a_control_group_are_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of 1,000 bytes 900 are taken, 800 of them by files that were read."""
    texts = {
        "/proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 8 kB\n",
        "/sys/fs/cgroup/memory.max": "1000\n",
        "/sys/fs/cgroup/memory.current": "900\n",
        "/sys/fs/cgroup/memory.stat": "anon 90\nactive_file 300\ninactive_file 500\nfile 850\n",
    }
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: texts[str(path)])
    assert memory.available() == 900
