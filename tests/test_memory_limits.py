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
from warpkit.propagate import LabelConfig
from warpkit.propagate.labels import label_memory
from warpkit.render import RenderedFrame
from warpkit.runs import memory
from warpkit.types import DescriptorMap

Cli = Callable[..., Ran]
Tree = Callable[[Path], dict[str, bytes | None]]


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 200_000_000)


def test_the_memory_of_label_propagation_by_hand() -> None:
    described = DescriptorMap.covering(torch.zeros(10, 6, 8), height=60, width=80)
    config = LabelConfig(top_k=3, context=2, channels=4, refine=1)
    # 48 cells: context of 1 + 2 frames of 4 + 4 channels, 12 cells with a label, 3 keys of 12 bytes
    expected = 48 * (4 * (3 * 8 + 12) + 36)
    found = label_memory(config, described, share=0.25, annotated=1, frames=9)
    assert found == expected
    # 768 cells of 4 x 4 finer maps, which are made twice; most cells show an object; short clip
    finer = LabelConfig(top_k=10**9, context=50, channels=0, refine=4)
    expected = 768 * (4 * (2 * 10 + 3 * 14) + 12 * 3 * 768)
    assert label_memory(finer, described, share=0.7, annotated=2, frames=1) == expected


@pytest.mark.parametrize("setting", ["label.refine=16", "label.context=100000"])
def test_propagate_refuses_and_leaves_everything_as_it_was(
    cli: Cli, files: Path, tmp_path: Path, tree: Tree, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda: 500_000)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    before = tree(tmp_path)
    told = (files / "clip.mp4", "--mask", files / "mask.png", "-o", tmp_path / "out")
    ran = cli("propagate", *told, "--overwrite", "--set", setting)
    assert ran.code == 2 and tree(tmp_path) == before
    (message,) = ran.messages
    assert message.startswith("warpkit propagate: label propagation needs ")
    assert "GB of memory, 0.0 GB are free: lower label.refine" in message


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
