"""What several tests share: a small rendered clip, its files, the embedded model, the commands.

Nothing here depends on what the embedded model has learned.
"""

from __future__ import annotations

import copy
import gc
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from app_server import Page, served
from kept_files import set_base

import warpkit
from warpkit.cli.main import main
from warpkit.features import efficientnet, tiny
from warpkit.io.text import valid_text
from warpkit.render import CLIPS, RenderedFrame, render_frame
from warpkit.runs.progress import Bar

FRAMES, HEIGHT, WIDTH = 7, 48, 80

# An input this small describes a frame in about 20 ms on one core, by the smaller model.
_SMALL = ("--device", "cpu", "--model", "tiny", "--size", "32")
_BAR = re.compile(r"[\d?]((frame|image)/s|s/(frame|image))")

# The grid engine's GPU kernels run in Triton's interpreter; read when they are first imported.
os.environ["TRITON_INTERPRET"] = "1"
os.environ["TRITON_DEFAULT_FP_FUSION"] = "1"  # says so aloud where it is not set

# On tensors this small, threads would only wait for each other; nor in processes that tests start.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

# The classifier is read once for all tests, not for as long as somebody has it.
_CLASSIFIERS: dict[torch.device, Any] = {}
vars(efficientnet)["_SHARED"] = _CLASSIFIERS


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Imports and thousands of tests stay; nobody looks for garbage among them, again and again."""
    gc.disable()
    found = yield
    gc.freeze()
    gc.enable()
    return found


@pytest.fixture(scope="session", autouse=True)
def watched_folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every command that fails leaves what was there; see `kept_files`."""
    set_base(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session", autouse=True)
def tiny_built_once() -> Iterator[None]:
    """The UNet of `tiny` is built once per process, since hundreds of commands load it.

    Each gets modules of its own on the same weights; weights that a test wrote to are read anew.
    """
    read = tiny.load_unet
    kept: list[tuple[torch.nn.Module, tiny.UnetConfig, list[int]]] = []

    def writes(network: torch.nn.Module) -> list[int]:
        return [tensor._version for tensor in network.parameters()]

    def load(path: Path, device: torch.device | str = "cpu") -> tuple[torch.nn.Module, Any]:
        if path != tiny.TINY_WEIGHTS or torch.device(device).type != "cpu":
            return read(path, device)
        if not kept or writes(kept[0][0]) != kept[0][2]:
            network, config = read(path, device)
            network.to(memory_format=torch.channels_last)  # as the backbone does
            kept[:] = [(network, config, writes(network))]
        network, config, _ = kept[0]
        return copy.deepcopy(
            network, {id(tensor): tensor for tensor in network.parameters()}
        ), config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "load_unet", load)
        yield


@dataclass(frozen=True)
class Ran:
    """A command that ended: exit code, what it printed, and its messages without progress bars."""

    code: int
    out: str
    err: str

    @property
    def messages(self) -> list[str]:
        lines = re.split(r"[\r\n]+", self.err)
        return [line for line in lines if line.strip() and not _BAR.search(line)]


@pytest.fixture(autouse=True)
def progress_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """No command says how far it is because another one ran before it in this process."""
    monkeypatch.setattr(Bar, "_began", None)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs a command in this process, at a small size unless `small=False`."""

    def run(*arguments: object, small: bool = True) -> Ran:
        capsys.readouterr()
        command, *rest = map(str, arguments)
        code = main([command, *(_SMALL if small else ()), *rest])
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return run


@pytest.fixture(scope="session")
def model() -> warpkit.Model:
    """The embedded model on the same small input."""
    return warpkit.load("tiny", device="cpu", size=32)


@pytest.fixture(scope="session")
def clip() -> list[RenderedFrame]:
    """Seven frames of 48 x 80 with one object."""
    spec = replace(CLIPS["fish"], height=HEIGHT, width=WIDTH)
    return [render_frame(spec, t) for t in range(FRAMES)]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory, clip: list[RenderedFrame]) -> Path:
    """A folder, for reading only: `clip` as `frames/` and `clip.mp4`, and annotations of it.

    `mask.png` and `last_mask.png` belong to the first and last frame, `layer.png` is an RGBA edit
    and `edited.png` an edited copy of the first frame; `points.json` lies on the object. Bad ones:
    `empty.png`, `narrow.png` (another size), `text.png` (no image).
    """
    folder = tmp_path_factory.mktemp("files")
    (folder / "frames").mkdir()
    for t, frame in enumerate(clip):
        warpkit.write_image(folder / f"frames/{t:03d}.png", frame.image)
    with warpkit.VideoWriter(
        folder / "clip.mp4", height=HEIGHT, width=WIDTH, frame_rate=12
    ) as writer:
        for frame in clip:
            writer.write(frame.image)
    first, inside = clip[0].image, clip[0].labels > 0
    warpkit.write_labels(folder / "mask.png", clip[0].labels)
    warpkit.write_labels(folder / "last_mask.png", clip[-1].labels)
    warpkit.write_labels(folder / "empty.png", np.zeros_like(clip[0].labels))
    warpkit.write_labels(folder / "narrow.png", clip[0].labels[:, :60])
    layer = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    layer[inside] = (20, 220, 40, 255)
    warpkit.write_image(folder / "layer.png", layer)
    warpkit.write_image(folder / "edited.png", np.where(inside[..., None], 255 - first, first))
    (folder / "text.png").write_text("not an image")
    y, x = np.argwhere(inside)[[0, -1]].T
    (folder / "points.json").write_text(str([[int(x[0]), int(y[0])], [int(x[1]), int(y[1])]]))
    return folder


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page, served on this machine by its own command for all tests that talk to it."""
    with served(tmp_path_factory.mktemp("page") / "work") as found:
        yield found
    # Nothing is left when the server has ended.
    assert not found.folder.exists()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """What the page's handlers ask, without the page."""
    pytest.importorskip("gradio", reason="the page needs Gradio: pip install gradio")
    from app_service_tools import OPTIONS

    from warpkit.app.service import Service
    from warpkit.app.workspace import Workspace

    made = Service(Workspace(tmp_path_factory.mktemp("page") / "work"), OPTIONS)
    yield made
    made.close()
    assert not made.workspace.root.exists()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, for all tests that look at the page."""
    from app_browser import CHROMIUM
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def tab(page: Page, browser: Any) -> Iterator[Any]:
    """The page in a window of 1280 x 900, its example shown."""
    from app_browser import opened

    with opened(page, browser) as found:
        yield found


@pytest.fixture
def tree() -> Callable[[Path], dict[str, bytes | None]]:
    """Everything below a folder, hidden names too: bytes of files, None for folders."""

    def read(folder: Path) -> dict[str, bytes | None]:
        return {
            path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
            for path in sorted(folder.rglob("*"))
        }

    return read


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """What a test printed, as text that pytest-xdist can send: names may be no UTF-8."""
    report = yield
    report.sections = [(title, valid_text(text)) for title, text in report.sections]
    if report.failed and not str(report.longrepr).isascii():
        report.longrepr = valid_text(str(report.longrepr))
    return report
