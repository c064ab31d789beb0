"""A propagation that is killed or interrupted goes on and ends with the very same files.

A process of its own imports the command once and forks one child per run. In a child a signal is
sent at an exact moment (the n-th call of a function), or by the parent once so many masks exist.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Ran

import warpkit
from warpkit.propagate import LabelConfig
from warpkit.render import CLIPS, render_frame
from warpkit.runs.folder import OutputFolder

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked"),
    pytest.mark.timeout(600),  # one fixture makes all runs
]

COUNT = 12  # frames: the first one, two chunks of four, one of three

DRIVER = '''
import gc, itertools, json, os, signal, sys, time
from pathlib import Path

# Imported and read here, once for all children; nothing is computed here, so that no thread is lost
# by a fork.
import av
import cv2
import diffusers.models.unets.unet_2d_condition
import kornia.filters
import PIL.Image

import warpkit.match.reference
import warpkit.video.run
from warpkit.cli.main import main
from warpkit.features import tiny
from warpkit.io.video import VideoWriter
from warpkit.io.whole import Partial
from warpkit.runs.folder import OutputFolder

unet = tiny.load_unet(tiny.TINY_WEIGHTS)
tiny.load_unet = lambda path, device: unet


def stop_at(place, call, number):
    """Signal this process as a file of that name is asked for (`file`), is about to be put in its
    place (`publish`), or as a call ends (`enter`, `video frame`).
    """
    kind, _, pattern = place.partition(" ")
    owner, name, when = {
        "file": (OutputFolder, "file", "before"),
        "publish": (Partial, "publish", "before"),
        "enter": (OutputFolder, "__enter__", "after"),
        "video": (VideoWriter, "write", "after"),
    }[kind]
    real, calls = getattr(owner, name), itertools.count(1)

    def counted(self, *args, **kwargs):
        named = str(self.path) if kind == "publish" else str(args[0]) if args else ""
        meant = kind in ("enter", "video") or pattern in named
        mine = next(calls) if meant else 0  # several threads may call
        if mine == call and when == "before":
            os.kill(os.getpid(), number)
        result = real(self, *args, **kwargs)
        if mine == call and when == "after":
            os.kill(os.getpid(), number)
        return result

    setattr(owner, name, counted)


def run(job):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if job.get("place"):
        stop_at(job["place"], job["call"], signal.Signals[job.get("signal", "SIGKILL")])
    return main(job["arguments"])


PIL.Image.init()
gc.freeze()  # no child copies pages to look for garbage among what it was born with
codes = []
for job in json.load(sys.stdin):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = run(job)
            sys.stderr.flush()
        finally:
            os._exit(code)
    if job.get("masks"):
        folder = Path(job["folder"])
        while sum(1 for _ in folder.glob(".warpkit-partial*/masks/[0-9]*.png")) < job["masks"]:
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
            time.sleep(0.001)
        os.kill(child, signal.SIGKILL)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(codes))
'''


@dataclass(frozen=True)
class Inputs:
    """A clip of small frames and what is to be carried through it."""

    folder: Path

    def command(self) -> list[str]:
        """Mask and edit through the frames; the output is to be added."""
        given = ("mask", "mask.png"), ("edit", "layer.png")
        flags = [part for key, name in given for part in (f"--{key}", str(self.folder / name))]
        return [
            *("propagate", str(self.folder / "frames"), *flags),
            *("--device", "cpu", "--model", "tiny", "--size", "16"),
        ]


Drive = Callable[[list[dict]], list[tuple[int, str]]]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "frames").mkdir()
    spec = replace(CLIPS["fish"], height=32, width=48)
    for t in range(COUNT):
        frame = render_frame(spec, t)
        warpkit.write_image(folder / f"frames/{t:03d}.png", frame.image)
        if t in (5, 10):
            warpkit.write_labels(folder / f"mask{t}.png", frame.labels)
        if t == 0:
            warpkit.write_labels(folder / "mask.png", frame.labels)
            layer = np.dstack([255 - frame.image, (frame.labels > 0).astype(np.uint8) * 255])
            warpkit.write_image(folder / "layer.png", layer)
    return Inputs(folder)


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Drive:
    """Runs commands one after another, each in a process of its own: exit codes and output."""

    def run(jobs: list[dict]) -> list[tuple[int, str]]:
        logs = tmp_path_factory.mktemp("logs")
        jobs = [job | {"log": str(logs / str(i))} for i, job in enumerate(jobs)]
        ended = subprocess.run(
            [sys.executable, "-c", DRIVER],
            input=json.dumps(jobs),
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert ended.returncode == 0, ended.stderr
        codes = json.loads(ended.stdout)
        return [(code, Path(job["log"]).read_text()) for code, job in zip(codes, jobs, strict=True)]

    return run


def results(out: Path) -> dict[str, bytes]:
    """Every file of a finished run but `run.json`, which holds the date and times."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


# Runs of one command, each stopped where the next goes on: how, and the frame after which that is.
KILLS: dict[str, tuple[dict, str | None]] = {
    "at the start": ({"place": "enter", "call": 1}, None),
    # The file of the state is asked for once more, as a run looks for what was left.
    "first state": ({"place": "file state.s", "call": 2}, None),
    "within the first chunk": ({"place": "file masks/", "call": 4}, "0"),
    "rows without their state": ({"place": "file state.s", "call": 2}, "0"),
    "half a frame": ({"place": "file frames/", "call": 6}, "4"),
    "state not yet in place": ({"place": "publish state.s", "call": 2}, "8"),
    "last frame": ({"place": "file masks/", "call": 3}, "8"),
    # The state after the last frame is written beside it.
    "edited video": ({"place": "video frame", "call": COUNT + 7}, "8|11"),
    "after everything": ({"place": "file run.json", "call": 1}, "11"),
}
STOPS: dict[str, list[dict]] = {
    "killed everywhere": [stop for stop, _ in KILLS.values()],
    "killed from outside": [{"masks": 7}],
    "interrupted": [
        {"place": "file masks/", "call": 10, "signal": "SIGINT"},
        {"place": "video frame", "call": 5, "signal": "SIGINT"},
    ],
}


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, inputs: Inputs, drive: Drive
) -> dict[str, tuple[Path, list[tuple[int, str]]]]:
    """Per kind of stop: the output folder, and what the stopped and the following runs gave."""
    base = tmp_path_factory.mktemp("runs")
    video = base / "clip.mp4"
    with warpkit.VideoWriter(video, height=32, width=48, frame_rate=12) as writer:
        for frame in warpkit.open_frames(inputs.folder / "frames", end=COUNT):
            writer.write(frame.image)
    small = ("--device", "cpu", "--model", "tiny", "--size", "16")
    points = ("propagate", video, "--points", "20,15;9:25,14", *small)
    several = ("propagate", video, *small, "--set", "label.context=3")
    for index in (5, 10):
        mask_file = inputs.folder / f"mask{index}.png"
        several += ("--mask", f"{index}={mask_file}")
    mask = ("--mask", inputs.folder / "mask.png", "--mode", "forward-warp", "--colormap")
    forward = ("propagate", video, *mask, "--start", 1, "--stride", 2, *small)

    plan: dict[str, tuple[list[str], list[dict]]] = {"never": (inputs.command(), [{}])}
    plan |= {name: (inputs.command(), [*stops, {}]) for name, stops in STOPS.items()}
    plan |= {
        "points": ([*map(str, points)], [{}]),
        # Four chunks forward, three backward.
        "points killed": (
            [*map(str, points)],
            [
                {"place": "publish state.s", "call": 3},
                {"place": "publish points-backward", "call": 2},
                {},
            ],
        ),
        "several": ([*map(str, several)], [{}]),
        "several killed often": (
            [*map(str, several)],
            [
                {"place": "publish backward-", "call": 1},
                {"place": "publish backward-", "call": 2},
                {"place": "file masks/", "call": 8},
                {"place": "file run.json", "call": 1},
                {},
            ],
        ),
        "forward-warp": ([*map(str, forward)], [{}]),
        "forward warp killed often": (
            [*map(str, forward)],
            [*({"place": "file masks/", "call": call} for call in (3, 4, 2)), {}],
        ),
    }
    jobs = []
    for name, (arguments, stops) in plan.items():
        folder = base / name
        folder.mkdir()
        common = {"arguments": [*arguments, "-o", str(folder / "out")], "folder": str(folder)}
        jobs += [common | stop for stop in stops]
    ended = iter(drive(jobs))
    return {
        name: (base / name / "out", [next(ended) for _ in stops])
        for name, (_, stops) in plan.items()
    }


def test_uninterrupted(whole: dict) -> None:
    out, [(code, log)] = whole["never"]
    assert code == 0, log
    frames = [f"{t:05d}.png" for t in range(COUNT)]
    assert set(results(out)) == {
        *(f"masks/{name}" for name in frames),
        *(f"frames/{name}" for name in frames),
        *("frames.jsonl", "overlay.mp4", "edited.mp4"),
        *("confidence.svg", "contact_sheet.png", "report.html", "report.json"),
    }
    areas = [int((warpkit.read_labels(out / "masks" / name) > 0).sum()) for name in frames]
    assert len(set(areas)) > 3  # something happens that could come out differently


@pytest.mark.parametrize("name", STOPS)
def test_goes_on_to_the_same_result(whole: dict, name: str) -> None:
    reference = results(whole["never"][0])
    out, [*stopped, (finished, log)] = whole[name]
    for code, told in stopped:
        if name == "interrupted":
            assert code == 130
            assert told.splitlines()[-1] == (
                "warpkit propagate: interrupted; the same command goes on from here"
            )
            assert "Traceback" not in told
        else:
            assert code == -9, told
    assert finished == 0, log
    assert [path.name for path in out.parent.iterdir()] == ["out"]  # no staging folder is left
    assert set(results(out)) == set(reference)
    assert [name for name, content in results(out).items() if content != reference[name]] == []
    assert json.loads((out / "run.json").read_text())["frames"] == COUNT


@pytest.mark.parametrize("stop", KILLS)
def test_work_that_was_done_is_kept(whole: dict, stop: str) -> None:
    _, log = whole["killed everywhere"][1][list(KILLS).index(stop) + 1]
    _, last = KILLS[stop]
    if last is None:
        assert "interrupted run" not in log
    else:
        assert re.search(f"going on after frame ({last}) of an interrupted run", log)


def test_an_interrupt_keeps_what_is_under_way(whole: dict) -> None:
    """The ninth mask is the last of its chunk; frames already computed may be written after it."""
    for _, log in whole["interrupted"][1][1:]:
        assert re.search(r"going on after frame (4|8|11) of an interrupted run", log)


def test_points_alone_and_repeated_kills(whole: dict) -> None:
    """Points keep a file per chunk, labels that were carried back too; three kills are no more."""
    for name, killed in (
        ("points", "points killed"),
        ("several", "several killed often"),
        ("forward-warp", "forward warp killed often"),
    ):
        *stopped, (code, log) = whole[killed][1]
        assert {code for code, _ in stopped} == {-9}
        assert code == 0, log
        assert results(whole[name][0])
        assert results(whole[killed][0]) == results(whole[name][0])
    logs = [log for _, log in whole["points killed"][1]]
    assert "going on after frame 4 of an interrupted run" in logs[1]
    assert "going on after frame 11 of an interrupted run" in logs[2]
    logs = [log for _, log in whole["several killed often"][1]]
    assert any("going on before frame" in log for log in logs)
    assert len(list((whole["several"][0] / "masks").iterdir())) == COUNT


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged, but not how far a slow run is."""
    return [record.getMessage() for record in caplog.records if record.module != "progress"]


def stop_in_process(
    cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """Interrupt a run in this process after its sixth mask."""
    real, masks = OutputFolder.file, []

    def file(self: OutputFolder, name: str, *, private: bool = False) -> Path:
        if name.startswith("masks/"):
            masks.append(name)
            if len(masks) > 6:
                raise KeyboardInterrupt
        return real(self, name, private=private)

    with monkeypatch.context() as patch:
        patch.setattr(OutputFolder, "file", file)
        assert cli(*command, small=False).code == 130


@pytest.mark.parametrize("change", ["setting", "mask", "frame", "option", "model"])
def test_a_changed_task_drops_unfinished_work_only_when_told_to(
    cli: Callable[..., Ran],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    inputs: Inputs,
    tmp_path: Path,
    change: str,
) -> None:
    frames, mask = tmp_path / "frames", tmp_path / "mask.png"
    frames.mkdir()
    for t in range(8):
        image = warpkit.read_image(inputs.folder / f"frames/{t:03d}.png")
        warpkit.write_image(frames / f"{t:03d}.png", image)
    labels = warpkit.read_labels(inputs.folder / "mask.png")
    warpkit.write_labels(mask, labels)
    common = ["--mask", str(mask), "--device", "cpu", "--model", "tiny", "--size", "16"]
    model = tmp_path / "model.yaml"
    model.write_text("backbone: tiny\naggregator: tiny\n")
    if change == "model":
        common += ["--model", str(model)]
    # Inside the folder of frames: that results appear there does not change the frames.
    command = ["propagate", str(frames), *common, "-o", str(frames / "out")]
    stop_in_process(cli, monkeypatch, command)
    more: list[str] = []
    if change == "setting":
        more = ["--set", "label.top_k=2"]
    elif change == "option":
        more = ["--end", "7"]
    elif change == "model":
        model.write_text("backbone: tiny\naggregator: tiny\nprompt: car\n")
    elif change == "mask":
        warpkit.write_labels(mask, labels[:, ::-1])
    else:
        image = warpkit.read_image(frames / "004.png")
        warpkit.write_image(frames / "004.png", np.roll(image, 1, axis=1))
    different = {
        "setting": f"label.top_k: {LabelConfig().top_k} then, 2 now",
        "mask": "mask.0: other content",
        "frame": "video: other content",
        "option": "end: null then, 7 now",
        "model": "model: other content",
    }[change]
    refused = cli(*command, *more, small=False)
    assert refused.code == 2
    assert f"waits to be continued, but it differs ({different}):" in refused.messages[0]
    caplog.clear()
    assert cli(*command, *more, "--overwrite", small=False).code == 0
    messages = told(caplog)
    assert messages == [f"an interrupted run that differs ({different}) was dropped"]
    fresh = [*command[:-1], str(tmp_path / "fresh"), *more]
    assert cli(*fresh, small=False).code == 0
    assert results(frames / "out") == results(tmp_path / "fresh")
    assert not list(frames.glob(".warpkit*"))


def test_unchanged_task_in_the_folder_of_frames_goes_on(
    cli: Callable[..., Ran],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    inputs: Inputs,
    tmp_path: Path,
) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for t in range(8):
        image = warpkit.read_image(inputs.folder / f"frames/{t:03d}.png")
        warpkit.write_image(frames / f"{t:03d}.png", image)
    mask = str(inputs.folder / "mask.png")
    command = [
        *(
            "propagate",
            str(frames),
            "--mask",
            mask,
            "--device",
            "cpu",
            "--model",
            "tiny",
            "--size",
            "16",
        ),
        *("-o", str(frames / "out")),
    ]
    stop_in_process(cli, monkeypatch, command)
    assert not (frames / "out").exists()
    caplog.clear()
    assert cli(*command, small=False).code == 0
    messages = told(caplog)
    assert messages == ["going on after frame 4 of an interrupted run"]


@pytest.mark.parametrize(
    "mistake", [("--engine", "fiass"), ("--model", "tinny"), ("--points", "99,9"), ("--end", "0")]
)
def test_a_mistyped_option_keeps_unfinished_work(
    cli: Callable[..., Ran],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    inputs: Inputs,
    tmp_path: Path,
    mistake: tuple[str, str],
) -> None:
    command = [*inputs.command(), "--end", "8", "-o", str(tmp_path / "out")]
    stop_in_process(cli, monkeypatch, command)
    assert cli(*command, *mistake, small=False).code == 2
    caplog.clear()
    assert cli(*command, small=False).code == 0
    messages = told(caplog)
    assert messages[0] == "going on after frame 4 of an interrupted run"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_input_that_breaks_later_leaves_nothing(
    cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, inputs: Inputs, tmp_path: Path
) -> None:
    """Going on would meet the same damage again, so the unfinished work is let go."""
    frames = tmp_path / "frames"
    frames.mkdir()
    for t in range(COUNT):
        image = warpkit.read_image(inputs.folder / f"frames/{t:03d}.png")
        warpkit.write_image(frames / f"{t:03d}.jpg", image)
    content = (frames / "011.jpg").read_bytes()
    (frames / "011.jpg").write_bytes(content[: int(0.8 * len(content))])
    out = tmp_path / "out"
    mask = str(inputs.folder / "mask.png")
    common = ["--mask", mask, "--device", "cpu", "--model", "tiny", "--size", "16", "-o", str(out)]
    command = ["propagate", str(frames), *common]
    stop_in_process(cli, monkeypatch, command)
    ran = cli(*command, small=False)
    assert (ran.code, len(ran.messages)) == (2, 1)
    assert "011.jpg" in ran.messages[0]
    assert [path.name for path in tmp_path.iterdir()] == ["frames"]
