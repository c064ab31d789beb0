"""Folders of frames by their files' names: which frame a mask is of, how results are named."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import Ran
from PIL import Image

import warpkit
from warpkit.checks import InputError
from warpkit.datasets.davis import read_davis
from warpkit.evaluate.commands.davis import EvalDavisSettings, run_eval_davis
from warpkit.evaluate.davis import score_davis
from warpkit.io.frames import frame_files, open_frames
from warpkit.render import RenderedFrame
from warpkit.runs.frame_rows import read_rows, result_file
from warpkit.video.annotations import by_index, parse_masks
from warpkit.video.config import PropagateSettings
from warpkit.video.run import run_propagate

FAST = PropagateSettings(chunk=2)
FROM_1 = [f"{n:05d}.jpg" for n in range(1, 8)]
EVERY_5 = [f"{n:05d}.jpg" for n in range(0, 35, 5)]
GAPS = ["8.png", "9.png", "10.png", "12.png", "13.png", "20.png", "21.png"]
NAMED = [f"shot2_{n:03d}_v1.png" for n in (1, 2, 3, 4, 5, 6, 9)]


def write_frames(folder: Path, names: Sequence[str], clip: Sequence[RenderedFrame]) -> Path:
    folder.mkdir(parents=True)
    for name, frame in zip(names, clip, strict=True):
        Image.fromarray(frame.image).save(folder / name, quality=95)
    return folder


def write_masks(folder: Path, stems: Sequence[str], clip: Sequence[RenderedFrame]) -> Path:
    folder.mkdir(parents=True)
    for stem, frame in zip(stems, clip, strict=True):
        warpkit.write_labels(folder / f"{stem}.png", frame.labels)
    return folder


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("names", "called"),
    [
        (FROM_1, {"00004": 3, "4": 3, "00004.jpg": 3, "7": 6, "0": 0}),
        (EVERY_5, {"00010": 2, "10": 2, "5": 1, "0": 0, "4": 4}),
        (GAPS, {"8": 0, "12": 3, "21": 6, "012": 3}),
        (NAMED, {"shot2_004_v1": 3, "4": 3, "9": 6, "0": 0}),
        # No number is one of the files alone.
        (["a1.png", "b1.png", "c2.png", "d2.png", "e.png", "f.png", "g.png"], {"1": 1, "b1": 1}),
        (["1.png", "01.png", "2.png", "3.png", "4.png", "5.png", "6.png"], {"1": 1, "01": 0}),
    ],
)
def test_what_a_user_calls_a_frame(
    tmp_path: Path, clip: list[RenderedFrame], names: list[str], called: dict[str, int]
) -> None:
    frames = open_frames(write_frames(tmp_path / "f", names, clip))
    assert {name: frames.find(name) for name in called} == called
    with pytest.raises(InputError, match="no frame is called 'x'"):
        frames.find("x")


def test_a_number_that_no_file_has(
    tmp_path: Path, clip: list[RenderedFrame], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "warpkit")
    frames = open_frames(write_frames(tmp_path / "f", EVERY_5, clip))
    for name in ("00002", "7", "100", "9" * 5000):
        with pytest.raises(InputError, match=f"no frame is called '{name}'"):
            frames.find(name)
    assert by_index({"2": Path("m.png")}, frames) == {2: Path("m.png")}
    assert caplog.messages == ["the mask m.png is used for frame 00010 (number 2, counted from 0)"]


@pytest.mark.parametrize(
    ("names", "name", "index", "said"),
    [
        ([f"{n:05d}.png" for n in range(7)], "4", 4, None),  # nothing else can be meant
        ([f"{n:05d}.png" for n in range(7)], "00004", 4, None),
        ([], "4", 4, None),
        ([], "04", 4, None),
        (FROM_1, "4", 3, "the mask m.png is used for frame 00004 (number 3, counted from 0)"),
        (
            [f"{n}a.png" for n in range(7)],
            "4",
            4,
            "the mask m.png is used for frame 4a (number 4, counted from 0)",
        ),
        (FROM_1, "00004.jpg", 3, None),
    ],
)
def test_a_frame_that_could_be_another_is_said(
    tmp_path: Path,
    clip: list[RenderedFrame],
    files: Path,
    caplog: pytest.LogCaptureFixture,
    names: list[str],
    name: str,
    index: int,
    said: str | None,
) -> None:
    caplog.set_level(logging.INFO, "warpkit")
    folder = write_frames(tmp_path / "f", names, clip) if names else files / "clip.mp4"
    assert by_index({name: Path("m.png")}, open_frames(folder)) == {index: Path("m.png")}
    assert caplog.messages == ([] if said is None else [said])


def test_frames_of_a_video_are_numbers(files: Path) -> None:
    frames = open_frames(files / "clip.mp4")
    assert frames.find("004") == 4
    for name in ("x", "9" * 5000):
        with pytest.raises(InputError, match=f"a frame of a video is a number, got '{name}'"):
            frames.find(name)


def test_masks_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("m.png", "a=b.png"):
        (tmp_path / name).touch()
    found = parse_masks(["m.png", "00004=m.png", "shot_4=m.png", "7=none.png"])
    m = Path("m.png")
    assert found == {m: m, "00004": m, "shot_4": m, "7": Path("none.png")}
    assert parse_masks(["a=b.png"]) == {Path("a=b.png"): Path("a=b.png")}
    assert parse_masks(["4=a=b.png"]) == {"4": Path("a=b.png")}


@pytest.mark.parametrize(
    ("names", "key", "position"),
    [(FROM_1, "4", 3), (EVERY_5, "00020", 4), (GAPS, "12", 3)],
)
def test_a_run_of_numbered_files(
    tmp_path: Path,
    clip: list[RenderedFrame],
    model: warpkit.Model,
    caplog: pytest.LogCaptureFixture,
    names: list[str],
    key: str,
    position: int,
) -> None:
    caplog.set_level(logging.INFO, "warpkit")
    frames, stems = write_frames(tmp_path / "f", names, clip), [Path(n).stem for n in names]
    masks = write_masks(tmp_path / "m", stems, clip)
    first, later = (masks / f"{stems[n]}.png" for n in (0, position))
    out = tmp_path / "out"
    given = {"mask": {0: first, key: later}, "edit": None, "settings": FAST}
    run_propagate(frames, out, **given, export=["coco", "png"], describer=model)
    assert np.array_equal(warpkit.read_labels(out / "masks" / later.name), clip[position].labels)
    for folder in ("masks", "cutouts"):
        assert listed(out / folder) == sorted(f"{stem}.png" for stem in stems)
    images = json.loads((out / "masks.json").read_text())["images"]
    assert [(image["id"], image["file_name"]) for image in images] == list(enumerate(names))
    said = [text for text in caplog.messages if "is used for frame" in text]
    assert said == [
        f"the mask {later} is used for frame {stems[position]} (number {position}, counted from 0)"
    ]
    # What one made one can score: from the folder of results, and from that above it.
    write_frames(tmp_path / "set/JPEGImages/480p/out", names, clip)
    write_masks(tmp_path / "set/Annotations/480p/out", stems, clip)
    sequences, _ = read_davis(tmp_path / "set")
    report, problems, notes = score_davis(sequences, {"out": out}, workers=1)
    assert (problems, notes) == ([], [])
    assert report.sequences["out"].region[position].tolist() == [1]
    for predictions in (out, tmp_path, out / "masks"):
        result = run_eval_davis(
            tmp_path / "set", predictions=predictions, settings=EvalDavisSettings(workers=1)
        )
        assert result["mean"]["J"] == report.J


@pytest.mark.parametrize(
    ("names", "mask", "start", "index", "said"),
    [
        (FROM_1, "00004.png", 0, 3, "used for frame 00004 (number 3, counted from 0)"),
        (FROM_1, "4.png", 0, 3, "used for frame 00004 (number 3, counted from 0)"),
        (FROM_1, "00001.png", 0, 0, None),
        (FROM_1, "1.png", 0, 0, None),
        (FROM_1, "00000.png", 0, 0, None),
        (
            FROM_1,
            "00009.png",
            0,
            0,
            "used for the first frame, 00001; if it is of another frame, write --mask FRAME=",
        ),
        (FROM_1, "mask.png", 0, 0, None),
        (FROM_1, "00004.png", 3, 3, None),
        (FROM_1, "00004.png", 2, 3, "used for frame 00004 (number 3, counted from 0)"),
        (
            FROM_1,
            "00002.png",
            3,
            3,
            "used for the first frame, 00004; if it is of another frame, write --mask FRAME=",
        ),
        (EVERY_5, "00010.png", 0, 2, "used for frame 00010 (number 2, counted from 0)"),
        (
            EVERY_5,
            "2.png",
            0,
            0,
            "used for the first frame, 00000; if it is of another frame, write --mask FRAME=",
        ),
        (NAMED, "shot2_004_v1.png", 0, 3, "used for frame shot2_004_v1 (number 3, counted from 0)"),
        ([], "00000.png", 0, 0, None),
        ([], "mask.png", 0, 0, None),
        (
            [],
            "00004.png",
            0,
            0,
            "used for the first frame, 0; if it is of another frame, write --mask FRAME=",
        ),
        ([], "00004.png", 4, 4, None),
    ],
)
def test_a_mask_without_a_frame(
    tmp_path: Path,
    clip: list[RenderedFrame],
    files: Path,
    caplog: pytest.LogCaptureFixture,
    names: list[str],
    mask: str,
    start: int,
    index: int,
    said: str | None,
) -> None:
    caplog.set_level(logging.INFO, "warpkit")
    folder = write_frames(tmp_path / "f", names, clip) if names else files / "clip.mp4"
    path = tmp_path / mask
    assert by_index({path: path}, open_frames(folder, start=start), start=start) == {index: path}
    assert [said is not None and said in text for text in caplog.messages] == [True] * bool(said)


def test_bare_masks_of_two_frames(
    tmp_path: Path,
    clip: list[RenderedFrame],
    cli: Callable[..., Ran],
) -> None:
    frames = write_frames(tmp_path / "f", FROM_1, clip)
    masks = write_masks(tmp_path / "m", [Path(n).stem for n in FROM_1], clip)
    out, given = tmp_path / "out", ["--mask", masks / "00001.png", "--mask", masks / "00006.png"]
    assert cli("propagate", frames, *given, "-o", out).code == 0
    assert np.array_equal(warpkit.read_labels(out / "masks/00006.png"), clip[5].labels)
    record = json.loads((out / "run.json").read_text())
    assert sorted(record["inputs"]["mask"]) == ["0", "5"]
    # A mask of a frame that is left out is refused, and so are two of the first.
    ran = cli("propagate", frames, *given, "--end", 3, "-o", tmp_path / "no")
    assert (
        ran.code == 2 and "00006.png is of frame 5, which is not among the frames taken" in ran.err
    )
    given[-1] = write_masks(tmp_path / "n", ["m"], clip[:1]) / "m.png"
    ran = cli("propagate", frames, *given, "-o", tmp_path / "no")
    assert ran.code == 2 and "frame 00001 has two masks" in ran.err


def test_two_masks_of_one_frame(
    tmp_path: Path, clip: list[RenderedFrame], files: Path, model: warpkit.Model
) -> None:
    frames = write_frames(tmp_path / "f", FROM_1, clip)
    mask = files / "mask.png"
    with pytest.raises(InputError, match="frame 00004 has two masks"):
        run_propagate(frames, tmp_path / "o", mask={"4": mask, "00004": mask}, describer=model)


@pytest.mark.parametrize(
    ("names", "option", "expected"),
    [
        (NAMED, "auto", [f"{n:05d}.png" for n in range(7)]),
        (NAMED, "frames", NAMED),
        (FROM_1, "number", [f"{n:05d}.png" for n in range(7)]),
        ([f"{n:03d}.png" for n in range(7)], "auto", [f"{n:05d}.png" for n in range(7)]),
    ],
)
def test_names_of_results(
    tmp_path: Path,
    clip: list[RenderedFrame],
    files: Path,
    model: warpkit.Model,
    names: list[str],
    option: str,
    expected: list[str],
) -> None:
    frames, out = write_frames(tmp_path / "f", names, clip), tmp_path / "out"
    run_propagate(
        frames, out, mask=files / "mask.png", settings=FAST, names=option, describer=model
    )
    assert listed(out / "masks") == expected
    # The table of a run says which file is whose: it can be scored by any name.
    write_frames(tmp_path / "set/JPEGImages/480p/c", names, clip)
    write_masks(tmp_path / "set/Annotations/480p/c", [Path(n).stem for n in names], clip)
    _, problems, _ = score_davis(read_davis(tmp_path / "set")[0], {"c": out}, workers=1)
    assert problems == []


def without_files(table: Path) -> None:
    """A table of rows as it was before results could be named otherwise."""
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    table.write_text("".join(json.dumps(r | {"file": None}) + "\n" for r in rows))
    text = table.read_text().replace(', "file": null', "")
    table.write_text(text)


def test_a_finished_run_of_before_keeps_its_names(
    tmp_path: Path, clip: list[RenderedFrame], model: warpkit.Model
) -> None:
    frames = write_frames(tmp_path / "f", FROM_1, clip)
    masks = write_masks(tmp_path / "m", [Path(n).stem for n in FROM_1], clip)
    out, mask = tmp_path / "out", {0: masks / "00001.png"}
    run_propagate(frames, out, mask=mask, settings=FAST, names="number", describer=model)
    without_files(out / "frames.jsonl")
    record = json.loads((out / "run.json").read_text())
    del record["inputs"]["names"]
    (out / "run.json").write_text(json.dumps(record))
    before = {path.name: path.read_bytes() for path in (out / "masks").iterdir()}
    mask["00005"] = masks / "00005.png"
    run_propagate(frames, out, mask=mask, settings=FAST, update=True, describer=model)
    assert listed(out / "masks") == sorted(before) == [f"{n:05d}.png" for n in range(7)]
    assert np.array_equal(warpkit.read_labels(out / "masks/00004.png"), clip[4].labels)


@pytest.mark.parametrize("legacy", [False, True])
def test_an_interrupted_run_goes_on_with_its_names(
    tmp_path: Path, clip: list[RenderedFrame], files: Path, model: warpkit.Model, legacy: bool
) -> None:
    frames, out = write_frames(tmp_path / "f", FROM_1, clip), tmp_path / "out"
    given = {"mask": files / "mask.png", "settings": FAST, "describer": model}

    def stop(stage: str, done: int, total: int | None) -> None:
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_propagate(frames, out, **given, progress=stop)
    (staging,) = tmp_path.glob(".warpkit-partial*")
    if legacy:
        without_files(staging / "frames.jsonl")
        for position, name in enumerate(sorted(listed(staging / "masks"))):
            (staging / "masks" / name).rename(staging / f"masks/{position:05d}.png")
    run_propagate(frames, out, **given)
    numbers = range(7) if legacy else range(1, 8)
    assert listed(out / "masks") == [f"{n:05d}.png" for n in numbers]
    run_propagate(frames, tmp_path / "whole", **given)
    for n, whole in zip(numbers, FROM_1, strict=True):
        expected = warpkit.read_labels(tmp_path / f"whole/masks/{Path(whole).stem}.png")
        assert np.array_equal(warpkit.read_labels(out / f"masks/{n:05d}.png"), expected)


@pytest.mark.parametrize("kind", ["called", "each", "indexed", "black and white", "given", "same"])
def test_a_mask_among_the_frames_is_none(
    tmp_path: Path,
    clip: list[RenderedFrame],
    caplog: pytest.LogCaptureFixture,
    kind: str,
) -> None:
    caplog.set_level(logging.INFO, "warpkit")
    folder = write_frames(tmp_path / "f", FROM_1, clip)
    made = {
        "called": ["mask.png"],
        "each": [f"{Path(n).stem}_mask.png" for n in FROM_1],
        "indexed": ["fish.png"],
        "black and white": ["fish.bmp"],
        "given": ["00000.jpg"],
        "same": [f"{Path(n).stem}.png" for n in FROM_1],
    }[kind]
    for name in made:
        if name.endswith(".png"):
            warpkit.write_labels(folder / name, clip[0].labels)
        else:
            Image.fromarray(clip[0].labels > 0).save(folder / name)
    frames = open_frames(folder, without=[folder / made[0]] if kind == "given" else [])
    assert frames.names == [Path(name).stem for name in FROM_1]
    (said,) = caplog.messages
    assert said.startswith(f"{folder}: left out, since not a frame: {made[0]}")


def test_what_is_a_frame_though_it_looks_like_a_mask(
    tmp_path: Path, clip: list[RenderedFrame]
) -> None:
    masks = write_masks(tmp_path / "masks", [f"mask_{n}" for n in range(7)], clip)
    gray = write_frames(tmp_path / "gray", GAPS, clip)
    Image.fromarray(clip[0].labels > 0).save(gray / "10.png")  # a black title, by some tools
    mixed = write_frames(tmp_path / "mixed", [*FROM_1[:4], "00005.png", *FROM_1[5:]], clip)
    for folder in (masks, gray, mixed):
        assert [len(files) for files in frame_files(folder)] == [7, 0]


def test_mask_and_edit_in_the_folder_of_frames(
    tmp_path: Path, clip: list[RenderedFrame], files: Path, model: warpkit.Model
) -> None:
    frames, out = write_frames(tmp_path / "f", FROM_1, clip), tmp_path / "out"
    for source, name in (("mask.png", "first.png"), ("layer.png", "painted.png")):
        shutil.copy(files / source, frames / name)
    given = {"mask": frames / "first.png", "edit": frames / "painted.png", "describer": model}
    run_propagate(frames, out, **given, settings=FAST)
    assert listed(out / "frames") == listed(out / "masks") == [f"{n:05d}.png" for n in range(1, 8)]
    # Another mask is an update of the same clip.
    warpkit.write_labels(frames / "first.png", clip[1].labels)
    run_propagate(frames, out, **given, settings=FAST, update=True)
    assert np.array_equal(warpkit.read_labels(out / "masks/00001.png"), clip[1].labels)


def test_points_are_counted_from_0_and_it_is_said(
    tmp_path: Path,
    clip: list[RenderedFrame],
    cli: Callable[..., Ran],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "warpkit")
    frames = write_frames(tmp_path / "f", FROM_1, clip)
    cli("propagate", frames, "--points", "2:30,20", "-o", tmp_path / "out")
    assert "the frames of points are counted from 0" in caplog.text
    assert json.loads((tmp_path / "out/points.json").read_text())["queries"] == [[2, 30, 20]]


@pytest.mark.parametrize(
    "line",
    [
        '{"frame": "00001", "name": "a"}',
        '{"frame": 1, "name": ["a"]}',
        '{"frame": 1, "name": "a", "file": 3}',
        "[" * 100_000,
        "{",
        "[]",
    ],
)
def test_damaged_tables_of_results(tmp_path: Path, line: str) -> None:
    table = tmp_path / "frames.jsonl"
    table.write_text(f'{{"frame": 0, "name": "b", "file": "b.png"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"frames\.jsonl (is damaged|must hold)"):
        read_rows(table)
    assert [result_file(row) for row in read_rows(table, count=1)] == ["b.png"]
    with pytest.raises(InputError, match=r"^cannot read .*none\.jsonl: No such file"):
        read_rows(tmp_path / "none.jsonl")


def test_names_that_no_file_can_have() -> None:
    long = "x" * 300
    assert parse_masks([f"{long}=y"]) == {Path(f"{long}=y"): Path(f"{long}=y")}
    with pytest.raises(InputError, match="no such file or folder"):
        open_frames(long)
