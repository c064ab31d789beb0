"""Progress: a bar on a terminal, in a log a line every ten seconds and later every minute."""

from __future__ import annotations

import ast
import io
import itertools
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import warpkit
from warpkit.runs import progress
from warpkit.runs.progress import Bar


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress, "_now", found)
    caplog.set_level(logging.INFO, logger="warpkit")
    return found


def test_a_log_gets_a_line_every_ten_seconds(
    clock: Clock, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with Bar(total=600, desc="propagate", unit="frame") as bar:
        for _ in range(60):
            clock.now += 0.5
            bar.update()
        assert bar.n == 60
    assert caplog.messages == [
        "propagate: 20 of 600 frames, about 04:50 left",
        "propagate: 40 of 600 frames, about 04:40 left",
        "propagate: 60 of 600 frames, about 04:30 left",
    ]
    assert capsys.readouterr().err == ""


def test_a_long_log_gets_a_line_a_minute(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    said = []
    with Bar(total=1000, desc="train", unit="step") as bar:
        for _ in range(1000):
            clock.now += 1
            bar.update()
            if len(caplog.messages) > len(said):
                said.append(bar.n)
    assert said[:12] == [*range(10, 101, 10), 112, 125]  # after a tenth of the time so far
    assert [after - before for before, after in itertools.pairwise(said)][-5:] == [60] * 5


def test_short_work_says_nothing_and_a_row_of_it_as_long_work(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(9):
        for _ in Bar(range(2), desc=f"method {number}", unit="pair"):
            clock.now += 2
    assert caplog.messages == [
        "method 2: 1 of 2 pairs, about 00:02 left",
        "method 4: 2 of 2 pairs",
        "method 7: 1 of 2 pairs, about 00:02 left",
    ]


def test_what_is_not_known_is_left_out(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    unknown = Bar(iter("abc"), desc="read", unit="frame")
    going_on = Bar(total=100, initial=90, desc="train", unit="step")
    outer, inner = iter(unknown), iter(Bar([1], desc="inner", unit="item", shown=False))
    next(outer)
    clock.now += 61
    next(inner)
    next(outer)
    going_on.say({"loss": "0.25"})
    clock.now += 61
    going_on.update(5)
    assert caplog.messages == [
        "read: 1 frame",
        "train: 95 of 100 steps, loss 0.25, about 01:01 left",
    ]
    clock.now += 61
    assert list(inner) == []  # counted, and not shown
    assert len(caplog.messages) == 2


def test_the_time_left_leaves_out_that_of_another_bar(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with Bar(total=11, desc="propagate", unit="frame") as bar:
        bar.update()
        for _ in Bar(range(10), desc="backward", unit="frame"):
            clock.now += 9
        for _ in range(10):
            clock.now += 2
            bar.update()
    assert [message.split(":")[0] for message in caplog.messages] == ["backward"] * 5 + [
        "propagate"
    ]
    assert caplog.messages[-1] == "propagate: 6 of 11 frames, about 00:10 left"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar(
    clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    bar = Bar(range(4), desc="warp", unit="pair")
    for _ in bar:
        clock.now += 100
        bar.say({"loss": "0.5"})
    assert bar.n == 4
    assert "4/4" in shown.getvalue() and "loss=0.5" in shown.getvalue()
    list(Bar(range(3), desc="quiet", unit="pair", shown=False))
    assert "quiet" not in shown.getvalue() and not caplog.messages


def test_every_loop_of_a_command_says_it_in_this_way() -> None:
    package = Path(warpkit.__file__).parent
    others = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "tqdm"
    ]
    assert others == ["runs/progress.py"]


@pytest.fixture
def davis(files: Path, tmp_path: Path) -> Path:
    for kind in ("JPEGImages", "Annotations"):
        (tmp_path / kind / "480p" / "c").mkdir(parents=True)
    for t in range(3):
        frame = warpkit.read_image(files / f"frames/{t:03d}.png")
        warpkit.write_image(tmp_path / f"JPEGImages/480p/c/{t:05d}.jpg", frame)
        mask = (files / "mask.png").read_bytes()
        (tmp_path / f"Annotations/480p/c/{t:05d}.png").write_bytes(mask)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "lines"),
    [
        ("propagate {files}/clip.mp4 --mask {files}/mask.png -o {out}", ["propagate: 7 of 7 fram"]),
        ("extract {files}/frames -o {out}", ["extract: 7 of 7 images"]),
        (
            "synthesize --pairs 1 --images {files}/frames --set formats=[dhf] -o {out}",
            ["synthesize: 1 of 1 pair", "known warps: 1 of 1 image"],
        ),
        (
            "eval davis --root {davis} --year 2016 --no-cache --workers 1 --model tiny --size 32",
            ["tiny: 3 of 3 frames", "score: 1 of 1 sequence"],
        ),
    ],
    ids=["propagate", "extract", "synthesize", "eval davis"],
)
def test_commands_tell_a_log(
    command: str,
    lines: list[str],
    cli: Callable[..., object],
    clock: Clock,
    files: Path,
    davis: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "_EVERY", (0.0, 0.0))
    told = [part.format(files=files, davis=davis, out=davis / "out") for part in command.split()]
    cli(*told, small=told[0] != "eval")
    for line in lines:
        assert any(message.startswith(line) for message in caplog.messages), caplog.messages
