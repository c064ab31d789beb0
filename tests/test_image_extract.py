"""Extraction: one safetensors file per image, with everything needed to use it."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Ran
from safetensors import safe_open

import warpkit
from warpkit.describe.extractor import Extractor
from warpkit.describe.options import ModelOptions
from warpkit.image.extract import ExtractSettings, run_extract
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
        torch.testing.assert_close(data, found.data, rtol=1e-4, atol=1e-5)
        assert (metadata["height"], metadata["width"]) == ("48", "80")
        assert float(metadata["cell_height"]) == found.cell_height
        assert float(metadata["cell_width"]) == found.cell_width
        assert metadata["image"] == str(files / f"frames/{path}.png")
        config = json.loads(metadata["config"])
        assert (config["model"], config["size"], config["half"]) == ("tiny", 32, False)
    record = json.loads((out / "run.json").read_text())
    assert record["config"] == config
    assert record["inputs"] == [str(image) for image in images]


def test_a_folder_stands_for_its_images(cli: Cli, files: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    frame = warpkit.read_image(files / "frames/000.png")
    for name in ("b.JPG", "a.png", "c.webp", "deeper/d.png"):
        warpkit.write_image(folder / name.lower(), frame)
    (folder / "b.jpg").rename(folder / "b.JPG")
    (folder / "._a.png").write_bytes(b"of another system")
    (folder / "notes.txt").write_text("no image")
    out = tmp_path / "out"
    ran = cli("extract", folder, files / "frames/001.png", "-o", out)
    assert (ran.code, ran.messages) == (0, [])
    written = [out / f"{name}.safetensors" for name in ("a", "b", "c", "001")]
    assert ran.out.splitlines() == [str(path) for path in written]
    _, metadata = read(written[1])
    assert metadata["image"] == str(folder / "b.JPG")

    empty = cli("extract", folder / "deeper", tmp_path / "none", "-o", tmp_path / "no")
    assert empty.code == 2 and "none" in empty.err
    (tmp_path / "none").mkdir()
    empty = cli("extract", folder / "deeper", tmp_path / "none", "-o", tmp_path / "no")
    assert empty.code == 2 and empty.messages == [
        f"warpkit extract: {tmp_path / 'none'} is a folder without images: name images, or a"
        " folder of them"
    ]
    warpkit.write_image(folder / "a.jpg", frame)
    twice = cli("extract", folder, "-o", tmp_path / "no")
    assert twice.code == 2 and "several images are called 'a'" in twice.err
    assert not (tmp_path / "no").exists()


def test_half_and_fit(cli: Cli, files: Path, tmp_path: Path) -> None:
    image = files / "frames/000.png"
    assert cli("extract", image, "-o", tmp_path / "whole").code == 0
    assert cli("extract", image, "--half", "-o", tmp_path / "half").code == 0
    assert cli("extract", image, "--fit", "stretch", "-o", tmp_path / "stretch").code == 0
    whole, _ = read(tmp_path / "whole/000.safetensors")
    half, _ = read(tmp_path / "half/000.safetensors")
    stretch, metadata = read(tmp_path / "stretch/000.safetensors")
    assert half.dtype == torch.float16
    torch.testing.assert_close(half, whole.half(), atol=0, rtol=0)
    assert stretch.shape[1] == stretch.shape[2]
    assert json.loads(metadata["config"])["fit"] == "stretch"
    height, width = stretch.shape[1:]
    assert float(metadata["cell_height"]) * height == 48
    assert float(metadata["cell_width"]) * width == 80


def test_a_bad_last_image_leaves_nothing(cli: Cli, files: Path, tmp_path: Path) -> None:
    ran = cli("extract", files / "frames/000.png", files / "text.png", "-o", tmp_path / "out")
    assert ran.code == 2
    assert list(tmp_path.iterdir()) == []


OPTIONS = ModelOptions(device="cpu", model="tiny", size=32, batch_size=4)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Fourteen pictures of two sizes, no two alike."""
    folder = tmp_path_factory.mktemp("many")
    generator = np.random.default_rng(0)
    for i in range(14):
        size = (40, 48, 3) if i % 3 else (48, 40, 3)
        warpkit.write_image(folder / f"{i:02d}.png", generator.integers(0, 256, size, np.uint8))
    return sorted(folder.iterdir())


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images every call of the extractor got."""
    calls: list[int] = []
    describe = Extractor.describe

    def counted(self: Extractor, images: list[np.ndarray]) -> list[warpkit.DescriptorMap]:
        calls.append(len({image.tobytes() for image in images}))
        return describe(self, images)

    monkeypatch.setattr(Extractor, "describe", counted)
    return calls


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


@pytest.fixture(scope="module")
def unbroken(many: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run without a break."""
    out = tmp_path_factory.mktemp("unbroken") / "out"
    run_extract(many, out, options=OPTIONS)
    return contents(out)


def test_images_of_one_size_share_batches(
    many: list[Path], tmp_path: Path, described: list[int], unbroken: dict[str, bytes]
) -> None:
    written = run_extract(many, tmp_path / "out", options=OPTIONS)
    assert described == [4, 1, 4, 4, 1]
    assert [path.stem for path in written] == [f"{i:02d}" for i in range(14)]
    assert contents(tmp_path / "out") == unbroken


def test_a_stopped_run_goes_on_and_ends_with_the_same_files(
    many: list[Path],
    tmp_path: Path,
    described: list[int],
    unbroken: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from warpkit.image.extract import _Extraction

    write, written = _Extraction._write, []

    def stop_at_seventh(self: _Extraction, path: Path, *rest: object) -> None:
        if len(written) == 6:
            raise KeyboardInterrupt
        write(self, path, *rest)
        written.append(path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(_Extraction, "_write", stop_at_seventh)
        run_extract(many, tmp_path / "out", options=OPTIONS)
    assert not (tmp_path / "out").exists()
    described.clear()
    run_extract(many, tmp_path / "out", options=OPTIONS)
    # Six were finished: the batches of four and one, and one of the next four.
    assert described == [3, 4, 1]
    assert contents(tmp_path / "out") == unbroken
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert (record["described"], record["found_finished"]) == (8, 6)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_killed_run_goes_on_and_ends_with_the_same_files(
    many: list[Path], tmp_path: Path, described: list[int], unbroken: dict[str, bytes]
) -> None:
    script = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from warpkit.describe.options import ModelOptions\n"
        "from warpkit.image import extract as job\n"
        "write = job._Extraction._write\n"
        "def slow(*given):\n"
        "    write(*given)\n"
        "    import time; time.sleep(0.2)\n"
        "job._Extraction._write = slow\n"
        "options = ModelOptions(device='cpu', model='tiny', size=32, batch_size=4)\n"
        "job.run_extract(sys.argv[2:], sys.argv[1], options=options)\n"
    )
    out = tmp_path / "out"
    environment = {**os.environ, "PYTHONPATH": str(Path(warpkit.__file__).parents[1])}
    command = [sys.executable, "-c", script, str(out), *map(str, many)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 120
        while len(list(tmp_path.glob(".warpkit-partial*/*.safetensors"))) < 3:
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    finished = len(list(tmp_path.glob(".warpkit-partial*/[!.]*.safetensors")))
    assert 3 <= finished < len(many)
    run_extract(many, out, options=OPTIONS)
    assert sum(described) == len(many) - finished
    assert contents(out) == unbroken


def test_what_was_finished_otherwise_is_described_again(
    many: list[Path],
    tmp_path: Path,
    described: list[int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Another configuration, another picture under the same name, a damaged file."""
    images = [tmp_path / path.name for path in many[1:3]]
    for path, copy in zip(many[1:3], images, strict=True):
        copy.write_bytes(path.read_bytes())
    out = tmp_path / "out"

    def stopped(settings: ExtractSettings | None = None) -> None:
        described.clear()
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("warpkit.image.extract.run_record", _interrupt)
            run_extract(images, out, settings=settings, options=OPTIONS)

    stopped()
    assert described == [2]
    stopped()
    assert described == []
    stopped(ExtractSettings(half=True))
    assert described == [2]
    stopped()
    assert described == [2]
    warpkit.write_image(images[0], 255 - warpkit.read_image(images[0]))
    stopped()
    assert described == [1]
    (partial,) = tmp_path.glob(f".warpkit-partial*/{images[1].stem}.safetensors")
    partial.write_bytes(partial.read_bytes()[:100])
    with caplog.at_level(logging.WARNING, "warpkit"):
        stopped()
    assert described == [1]
    assert f"{partial} is damaged" in caplog.text


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_model_that_is_not_there_leaves_nothing(cli: Cli, files: Path, tmp_path: Path) -> None:
    ran = cli("extract", files / "frames/000.png", "--model", "tinny", "-o", tmp_path / "out")
    assert ran.code == 2
    assert list(tmp_path.iterdir()) == []
