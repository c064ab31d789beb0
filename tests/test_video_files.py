"""`warpkit propagate` of files that are not as they say: what there is is kept, in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import Ran
from media_files import lying, tracks, unknown

import warpkit
from warpkit.io.frames import open_frames
from warpkit.render import RenderedFrame

Cli = Callable[..., Ran]
Tree = Callable[[Path], dict[str, bytes | None]]


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "frames.jsonl").read_text().splitlines()]


def masks_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "masks").iterdir())}


def refused(ran: Ran, *expected: str) -> None:
    assert (ran.code, len(ran.messages)) == (2, 1), ran.messages
    for text in expected:
        assert text in ran.messages[0]


@pytest.mark.parametrize("announced", [90, 4])
def test_a_header_that_lies_about_the_frames(
    cli: Cli,
    files: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    clip: list[RenderedFrame],
    announced: int,
) -> None:
    """All frames that are there are used, of these any can be annotated, and updated."""
    for t in (4, 6):
        warpkit.write_labels(tmp_path / f"{t}.png", clip[t].labels)
    path = lying(tmp_path / "v.avi", clip, announced)
    masks = ("--mask", files / "mask.png", "--mask", f"6={tmp_path / '6.png'}")
    ran = cli("propagate", path, *masks, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert [row["frame"] for row in rows(tmp_path / "out")] == list(range(7))
    held = f"{path}: the header announces {announced} frames, but the file holds 7: these are used"
    assert caplog.text.count(held) == 1
    assert open_frames(tmp_path / "out/overlay.mp4").count == 7
    beyond = cli("propagate", path, "--mask", f"7={files / 'mask.png'}", "-o", tmp_path / "no")
    refused(beyond, "of frame 7, which is not among the frames taken", "7 frames)")
    if announced < 7:
        return
    more = (*masks, "--mask", f"4={tmp_path / '4.png'}")
    update = cli("propagate", path, *more, "-o", tmp_path / "out", "--update")
    assert update.code == 0, update.err
    assert cli("propagate", path, *more, "-o", tmp_path / "fresh").code == 0
    assert masks_of(tmp_path / "out") == masks_of(tmp_path / "fresh")


def test_a_clip_that_is_cut_short(
    cli: Cli, files: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = (files / "clip.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: int(0.7 * len(content))])
    task = ("--mask", files / "mask.png", "-o", tmp_path / "out")
    ran = cli("propagate", tmp_path / "cut.mp4", *task)
    assert ran.code == 0, ran.err
    there = len(rows(tmp_path / "out"))
    assert 0 < there < 7
    assert f"announces 7 frames, but the file holds {there}" in caplog.text
    whole = ("--mask", files / "mask.png", "--end", there, "-o", tmp_path / "whole")
    assert cli("propagate", files / "clip.mp4", *whole).code == 0
    assert masks_of(tmp_path / "out") == masks_of(tmp_path / "whole")


def test_a_mask_behind_the_end_is_refused_before_the_work(
    cli: Cli, files: Path, tmp_path: Path, tree: Tree
) -> None:
    """Matroska does not say how many frames there are."""
    path = tmp_path / "v.mkv"
    with warpkit.VideoWriter(path, height=48, width=80, frame_rate=12, codec="ffv1") as writer:
        for frame in open_frames(files / "clip.mp4"):
            writer.write(frame.image)
    mask = ("--mask", files / "mask.png")
    before = tree(tmp_path)
    for more in (("--mask", f"7={files / 'last_mask.png'}"), ("--points", "0:5,5;9:5,5")):
        ran = cli("propagate", path, *mask, *more, "-o", tmp_path / "out")
        refused(ran, f"there is no frame {more[1][0] if 'mask' in more[0] else 9}")
        assert tree(tmp_path) == before


def test_sound_that_no_decoder_knows(
    cli: Cli, files: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is found out before the work, and said once for both videos."""
    path = unknown(tracks(tmp_path / "v.mp4", ["aac"]), b"ac-4")
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 10:30] = 1
    warpkit.write_labels(tmp_path / "mask.png", mask)
    task = ("--mask", tmp_path / "mask.png", "--colormap", "-o", tmp_path / "out")
    ran = cli("propagate", path, *task)
    assert ran.code == 0, ran.err
    assert caplog.text.count("cannot be used") == 1
    for name in ("overlay.mp4", "edited.mp4"):
        with av.open(tmp_path / "out" / name) as container:
            assert [stream.type for stream in container.streams] == ["video"]
            assert sum(1 for _ in container.decode(video=0)) == 10
