"""`warpkit propagate`: what it writes, that Python gives the same, and how it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from conftest import Ran
from media_files import encoded

import warpkit
from warpkit.io.frames import FolderFrames
from warpkit.io.video_frames import VideoFrames
from warpkit.render import RenderedFrame
from warpkit.video.config import PropagateSettings
from warpkit.video.run import run_propagate

Cli = Callable[..., Ran]
Tree = Callable[[Path], dict[str, bytes | None]]

NAMES = [f"{t:05d}.png" for t in range(7)]


def names(folder: Path) -> list[str]:
    """Every file below the folder, hidden ones too."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in found)


REPORT = ("confidence.svg", "contact_sheet.png", "report.html", "report.json")


def listing(*files: str, **folders: list[str]) -> list[str]:
    """What a run leaves: its report, and what is named."""
    return sorted(
        [*REPORT, *files, *(f"{key}/{name}" for key, found in folders.items() for name in found)]
    )


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "frames.jsonl").read_text().splitlines()]


def assert_refused(ran: Ran, *expected: str) -> None:
    assert ran.code == 2
    assert len(ran.messages) == 1, ran.messages
    for text in expected:
        assert text in ran.messages[0]


@pytest.mark.parametrize("mode", ["label", "backward-warp", "forward-warp"])
@pytest.mark.parametrize("video", ["clip.mp4", "frames"])
def test_mask(
    cli: Cli, files: Path, tmp_path: Path, model: warpkit.Model, mode: str, video: str
) -> None:
    out = tmp_path / "deep" / "out"
    mask = files / "mask.png"
    ran = cli("propagate", files / video, "--mask", mask, "--mode", mode, "-o", out)
    assert (ran.code, ran.messages) == (0, [])
    assert str(out) in ran.out
    expected = listing("frames.jsonl", "overlay.mp4", "run.json", masks=NAMES)
    assert names(out) == expected
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]

    frames = warpkit.open_frames(files / video)
    results = list(
        model.propagate(
            (frame.image for frame in frames),
            labels=warpkit.read_labels(mask),
            settings=PropagateSettings(mode=mode),
        )
    )
    for name, result, row in zip(NAMES, results, rows(out), strict=True):
        labels = warpkit.read_labels(out / "masks" / name)
        assert np.array_equal(labels, result.labels)
        assert row["frame"] == result.position
        assert sum(row["area"].values()) == (labels > 0).sum()
    overlay = warpkit.open_frames(out / "overlay.mp4")
    assert (overlay.height, overlay.width, overlay.count) == (48, 80, 7)
    assert overlay.frame_rate == frames.frame_rate

    record = json.loads((out / "run.json").read_text())
    assert (record["command"], record["frames"]) == ("propagate", 7)
    assert record["config"]["mode"] == mode
    assert record["config"]["label"]["top_k"] == PropagateSettings().label.top_k
    assert set(record["timings"]) == {"load model", "propagate", "write report"}
    assert set(record["stages"]) == {"decode", "describe", "labels", "videos", "write"}
    assert record["inputs"]["video"]["path"] == str(files / video)


def test_two_objects_keep_their_ids(cli: Cli, files: Path, tmp_path: Path) -> None:
    labels = warpkit.read_labels(files / "mask.png") * 2
    labels[:8, :12] = 9
    warpkit.write_labels(tmp_path / "two.png", labels)
    out = tmp_path / "out"
    ran = cli("propagate", files / "frames", "--mask", tmp_path / "two.png", "-o", out)
    assert ran.code == 0
    assert np.array_equal(warpkit.read_labels(out / "masks/00000.png"), labels)
    for name in NAMES:
        assert set(np.unique(warpkit.read_labels(out / "masks" / name))) <= {0, 2, 9}


@pytest.mark.parametrize("edit", ["layer.png", "edited.png"])
@pytest.mark.parametrize("edit_mode", ["track", "rigid", "free", "backward-warp", "forward-warp"])
def test_edit_with_mask(
    cli: Cli, files: Path, tmp_path: Path, clip: list[RenderedFrame], edit: str, edit_mode: str
) -> None:
    out = tmp_path / "out"
    ran = cli(
        *("propagate", files / "frames", "--mask", files / "mask.png"),
        *("--edit", files / edit, "--edit-mode", edit_mode, "-o", out),
    )
    assert (ran.code, ran.messages) == (0, [])
    videos = ("edited.mp4", "overlay.mp4")
    assert names(out) == listing("frames.jsonl", "run.json", *videos, masks=NAMES, frames=NAMES)
    for name, frame in zip(NAMES, clip, strict=True):
        shown = (warpkit.read_labels(out / "masks" / name) > 0).astype(np.uint8)
        if "warp" not in edit_mode:  # its border may differ from the mask's by a little
            shown = cv2.dilate(shown, np.ones((5, 5), np.uint8))
        away = shown == 0
        assert away.any()
        edited = warpkit.read_image(out / "frames" / name)
        assert np.array_equal(edited[away], frame.image[away])
    if edit == "layer.png":
        first = warpkit.read_image(out / "frames/00000.png")
        assert (first[clip[0].labels > 0] == (20, 220, 40)).all()
    assert warpkit.open_frames(out / "edited.mp4").count == 7
    models = [row["edit"]["1"]["model"] for row in rows(out) if "edit" in row]
    assert len(models) == (0 if "warp" in edit_mode else 6)
    assert edit_mode not in ("rigid", "free") or set(models) == {edit_mode}
    counts = json.loads((out / "run.json").read_text())["edit"].get("1", {}).get("frames", {})
    assert counts == {model: models.count(model) for model in models}


def test_edit_alone(
    cli: Cli, files: Path, tmp_path: Path, model: warpkit.Model, clip: list[RenderedFrame]
) -> None:
    """Without a mask the edit's own region is propagated; there is nothing to overlay."""
    out = tmp_path / "out"
    ran = cli("propagate", files / "frames", "--edit", files / "layer.png", "-o", out)
    assert (ran.code, ran.messages) == (0, [])
    assert names(out) == listing(
        "edited.mp4", "frames.jsonl", "run.json", masks=NAMES, frames=NAMES
    )
    layer = warpkit.EditLayer.from_rgba(warpkit.read_rgba(files / "layer.png"))
    results = model.propagate([frame.image for frame in clip], edit=layer)
    for name, result in zip(NAMES, results, strict=True):
        assert np.array_equal(warpkit.read_image(out / "frames" / name), result.edited)


def test_colormap(cli: Cli, files: Path, tmp_path: Path, clip: list[RenderedFrame]) -> None:
    out = tmp_path / "out"
    mask = files / "mask.png"
    ran = cli("propagate", files / "clip.mp4", "--mask", mask, "--colormap", "-o", out)
    assert (ran.code, ran.messages) == (0, [])
    videos = ("edited.mp4", "overlay.mp4")
    assert names(out) == listing("frames.jsonl", "run.json", *videos, masks=NAMES, frames=NAMES)
    first = warpkit.read_image(out / "frames/00000.png")
    original = warpkit.open_frames(files / "clip.mp4").read(0).image
    inside = clip[0].labels > 0
    assert np.array_equal(first[~inside], original[~inside])
    assert len(np.unique(first[inside], axis=0)) > 50


@pytest.mark.parametrize("points", ["40,20;10.5,30", "points.json"])
def test_points(
    cli: Cli, files: Path, tmp_path: Path, clip: list[RenderedFrame], points: str
) -> None:
    given = files / points if points.endswith(".json") else points
    ran = cli("propagate", files / "frames", "--points", given, "-o", tmp_path / "out")
    assert (ran.code, ran.messages) == (0, [])
    tracked = ("points.csv", "points.json", "points.npz")
    assert names(tmp_path / "out") == listing("frames.jsonl", "run.json", *tracked)
    tracks = json.loads((tmp_path / "out/points.json").read_text())
    assert tracks["frames"] == list(range(7))
    assert np.shape(tracks["tracks"]) == (2, 7, 2)
    assert np.shape(tracks["visible"]) == (2, 7)
    first = [track[0] for track in tracks["tracks"]]
    assert first == (
        json.loads(given.read_text()) if isinstance(given, Path) else [[40, 20], [10.5, 30]]
    )
    assert [visible[0] for visible in tracks["visible"]] == [True, True]
    assert [row["frame"] for row in rows(tmp_path / "out")] == list(range(7))


def test_selected_frames_keep_their_numbers(cli: Cli, files: Path, tmp_path: Path) -> None:
    """The annotation belongs to the first selected frame."""
    out = tmp_path / "out"
    ran = cli(
        *("propagate", files / "clip.mp4", "--mask", files / "mask.png", "-o", out),
        *("--start", 1, "--end", 6, "--stride", 2),
    )
    assert (ran.code, ran.messages) == (0, [])
    kept = ["00001.png", "00003.png", "00005.png"]
    assert names(out) == listing("frames.jsonl", "overlay.mp4", "run.json", masks=kept)
    assert [row["frame"] for row in rows(out)] == [1, 3, 5]
    mask = warpkit.read_labels(files / "mask.png")
    assert np.array_equal(warpkit.read_labels(out / "masks/00001.png"), mask)


def test_a_clip_of_one_frame(cli: Cli, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = cli("propagate", files / "frames", "--mask", files / "mask.png", "-o", out, "--end", 1)
    assert (ran.code, ran.messages) == (0, [])
    kept = ["00000.png"]
    assert names(out) == listing("frames.jsonl", "overlay.mp4", "run.json", masks=kept)


@pytest.mark.parametrize(("height", "width"), [(31, 47), (80, 26)])
def test_odd_and_upright_clips(cli: Cli, tmp_path: Path, height: int, width: int) -> None:
    generator = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for t in range(3):
        image = generator.integers(0, 256, (height, width, 3), np.uint8)
        warpkit.write_image(tmp_path / f"in/{t}.png", image)
    labels = np.zeros((height, width), np.uint8)
    labels[height // 4 : height // 2, width // 4 : width // 2] = 1
    warpkit.write_labels(tmp_path / "mask.png", labels)
    ran = cli(
        *("propagate", tmp_path / "in", "--mask", tmp_path / "mask.png", "--colormap"),
        *("-o", tmp_path / "out"),
    )
    assert (ran.code, ran.messages) == (0, [])
    assert warpkit.read_labels(tmp_path / "out/masks/00002.png").shape == (height, width)
    for video in ("overlay.mp4", "edited.mp4"):
        frames = warpkit.open_frames(tmp_path / "out" / video)
        assert (frames.height, frames.width, frames.count) == (height, width, 3)


def test_bad_clips(cli: Cli, files: Path, tmp_path: Path, tree: Tree) -> None:
    content = (files / "clip.mp4").read_bytes()
    (tmp_path / "headless.mp4").write_bytes(content[len(content) // 2 :])
    (tmp_path / "nothing.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed").mkdir()
    shutil.copy(files / "frames/000.png", tmp_path / "mixed/0.png")
    shutil.copy(files / "narrow.png", tmp_path / "mixed/1.png")

    with av.open(str(tmp_path / "frameless.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "yuv420p"
        container.start_encoding()
    before = tree(tmp_path)
    for video, expected in (
        ("headless.mp4", ["not a readable video"]),
        ("nothing.mp4", ["not a readable video"]),
        ("frameless.mp4", ["frameless.mp4", "no video stream"]),
        ("text.mp4", ["not a readable video"]),
        ("empty", ["the folder holds no images"]),
        ("mixed", ["all frames must have one size", "48 x 80", "48 x 60"]),
        ("no.mp4", ["no such file or folder"]),
    ):
        mask = ("--mask", files / "mask.png")
        ran = cli("propagate", tmp_path / video, *mask, "-o", tmp_path / "out")
        assert_refused(ran, "warpkit propagate: ", *expected)
        assert tree(tmp_path) == before, video
    ran = cli("propagate", files / "mask.png", "--points", "1,1", "-o", tmp_path / "out")
    assert_refused(ran, "expected a video or a folder of images", "single image")
    assert tree(tmp_path) == before


def test_a_frame_that_breaks_in_the_middle(
    cli: Cli, files: Path, tmp_path: Path, tree: Tree, clip: list[RenderedFrame]
) -> None:
    """Sizes come from the headers; that the pixels are missing shows only when it is its turn."""
    (tmp_path / "in").mkdir()
    for t, frame in enumerate(clip):
        warpkit.write_image(tmp_path / f"in/{t}.jpg", frame.image)
    content = (tmp_path / "in/5.jpg").read_bytes()
    (tmp_path / "in/5.jpg").write_bytes(content[: int(0.8 * len(content))])
    before = tree(tmp_path)
    ran = cli("propagate", tmp_path / "in", "--mask", files / "mask.png", "-o", tmp_path / "out")
    assert_refused(ran, "5.jpg", "damaged or cut short")
    assert tree(tmp_path) == before


def test_frames_that_share_a_time_are_written_in_order(
    cli: Cli, files: Path, tmp_path: Path, clip: list[RenderedFrame]
) -> None:
    """At 2000 frames a second the clock of Matroska, 1 ms, gives neighbours one time."""
    path = encoded(tmp_path / "fast.mkv", clip, "ffv1", "bgr0", rate=2000)
    ran = cli("propagate", path, "--mask", files / "mask.png", "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert len(list(warpkit.open_frames(tmp_path / "out/overlay.mp4"))) == len(clip)


def masks_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "masks").iterdir())}


@pytest.fixture(scope="module")
def true_masks(tmp_path_factory: pytest.TempPathFactory, clip: list[RenderedFrame]) -> Path:
    folder = tmp_path_factory.mktemp("truth")
    for t, frame in enumerate(clip):
        warpkit.write_labels(folder / f"{t}.png", frame.labels)
    return folder


@pytest.mark.parametrize("video", ["clip.mp4", "frames"])
def test_masks_of_several_frames(
    cli: Cli, files: Path, true_masks: Path, tmp_path: Path, model: warpkit.Model, video: str
) -> None:
    given = {1: true_masks / "1.png", 5: true_masks / "5.png"}
    flags = [f"--mask={index}={path}" for index, path in given.items()]
    ran = cli("propagate", files / video, *flags, "-o", tmp_path / "out")
    assert (ran.code, ran.messages) == (0, [])
    assert names(tmp_path / "out") == listing(
        "frames.jsonl", "overlay.mp4", "run.json", masks=NAMES
    )
    results = model.propagate(
        [frame.image for frame in warpkit.open_frames(files / video)],
        annotations={index: warpkit.read_labels(path) for index, path in given.items()},
    )
    for name, result, row in zip(NAMES, results, rows(tmp_path / "out"), strict=True):
        assert np.array_equal(warpkit.read_labels(tmp_path / "out/masks" / name), result.labels)
        assert row["given"] == (result.position in given)
        assert row["frame_confidence"] == pytest.approx(result.frame_confidence, abs=1e-4)


def test_a_correction_redoes_only_what_it_changes(
    cli: Cli, files: Path, true_masks: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    command = ["propagate", files / "frames"]
    for index in (0, 2, 5):
        command += ["--mask", f"{index}={true_masks / f'{index}.png'}"]
    fix = ["--mask", f"3={true_masks / '3.png'}"]
    out = tmp_path / "out"
    assert cli(*command, "-o", out).code == 0
    assert cli(*command, *fix, "-o", tmp_path / "fresh").code == 0
    assert cli(*command, *fix, "-o", out).code == 2  # never by accident
    # What is kept is copied: a mark on it stays.
    marked = warpkit.read_labels(out / "masks/00001.png")
    marked[:3, :3] = 1
    warpkit.write_labels(out / "masks/00001.png", marked)
    caplog.clear()
    ran = cli(*command, *fix, "--update", "-o", out)
    assert ran.code == 0, ran.err
    assert "kept from the finished run: 2 of 7 frames" in caplog.text
    before, after = masks_of(tmp_path / "fresh"), masks_of(out)
    assert [name for name in NAMES if before[name] != after[name]] == ["00001.png"]
    assert np.array_equal(warpkit.read_labels(out / "masks/00001.png"), marked)
    assert rows(out) == rows(tmp_path / "fresh")


def test_an_update_with_a_model_file(
    cli: Cli, files: Path, true_masks: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tmp_path / "model.yaml"
    model.write_text("backbone: tiny\naggregator: tiny\n")
    command = ["propagate", files / "frames", "--model", model, "--end", 4]
    command += ["--mask", f"0={true_masks / '0.png'}", "--mask", f"2={true_masks / '2.png'}"]
    fix = ("--mask", f"3={true_masks / '3.png'}", "--update", "-o", tmp_path / "out")
    assert cli(*command, "-o", tmp_path / "out").code == 0
    caplog.clear()
    ran = cli(*command, *fix)
    assert ran.code == 0, ran.err
    assert "kept from the finished run: 1 of 4 frames" in caplog.text
    model.write_text("backbone: tiny\naggregator: tiny\nprompt: car\n")
    assert_refused(cli(*command, *fix), "changes masks alone", "(model: other content)")


def test_an_update_of_something_else_is_refused(
    cli: Cli, files: Path, true_masks: Path, tmp_path: Path, tree: Tree
) -> None:
    mask = ("--mask", true_masks / "0.png")
    ran = cli("propagate", files / "frames", *mask, "--update", "-o", tmp_path / "none")
    assert_refused(ran, "changes the masks of a finished run", "holds none")
    out = tmp_path / "out"
    assert cli("propagate", files / "frames", *mask, "-o", out).code == 0
    before = tree(tmp_path)
    more = ("--mask", f"4={true_masks / '4.png'}", "--update", "-o", out)
    ran = cli("propagate", files / "frames", *mask, *more, "--set", "label.top_k=3")
    assert_refused(ran, "masks alone", "(label.top_k: ", " then, 3 now)", "--overwrite")
    ran = cli("propagate", files / "frames", *mask, *more, "--end", 6)
    assert_refused(ran, "(end: null then, 6 now)")
    assert tree(tmp_path) == before


def test_masks_of_frames_that_are_not_there(
    cli: Cli, files: Path, true_masks: Path, tmp_path: Path
) -> None:
    mask = true_masks / "1.png"
    frames = ("propagate", files / "frames", "-o", tmp_path / "out")
    assert_refused(cli(*frames, "--mask", f"7={mask}"), "no frame is called '7'")
    stride = ("--stride", 2, "--mask", f"3={mask}")
    assert_refused(cli(*frames, *stride), "frame 3", "stride 2")
    twice = ("--mask", files / "mask.png", "--mask", f"0={mask}")
    assert_refused(cli(*frames, *twice), "frame 0 has two masks")
    assert not (tmp_path / "out").exists()


def test_an_object_that_is_gone_is_reported(
    cli: Cli, files: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = ("--set", "label.min_evidence=1", "--set", "label.temperature=10")
    mask = ("--mask", files / "mask.png", "--set", "label.top_k=400")
    ran = cli("propagate", files / "frames", *mask, *settings, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert [row["absent"] for row in rows(tmp_path / "out")] == [[], *[[1]] * 6]
    assert rows(tmp_path / "out")[3]["frame_confidence"] == 0
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert record["absent"] == {"1": [[1, 6]]}
    assert "object 1 is absent from frames 1 to 6" in caplog.text


@pytest.mark.parametrize("video", ["clip.mp4", "frames"])
def test_every_frame_is_decoded_once_and_described_once(
    files: Path,
    tmp_path: Path,
    model: warpkit.Model,
    monkeypatch: pytest.MonkeyPatch,
    video: str,
) -> None:
    """Masks, an edit and points together, videos included; the report's own pictures apart."""
    decoded: list[int] = []
    described: list[bytes] = []

    def counted_iteration(self: VideoFrames, real: Any = VideoFrames.__iter__) -> Iterator[Any]:
        for frame in real(self):
            decoded.append(frame.index)
            yield frame

    def counted_read(self: Any, index: int, real: Any = FolderFrames.read) -> Any:
        decoded.append(index)
        return real(self, index)

    def refused(self: Any, index: int) -> Any:
        raise AssertionError(f"frame {index} of a video is sought alone")

    monkeypatch.setattr(VideoFrames, "__iter__", counted_iteration)
    monkeypatch.setattr(VideoFrames, "read", refused)
    monkeypatch.setattr(FolderFrames, "read", counted_read)
    monkeypatch.setattr("warpkit.video.run.write_quality", lambda *_, **__: None)

    class Counting:
        name = "counting"

        def describe(self, batch: list[np.ndarray]) -> list[warpkit.DescriptorMap]:
            described.extend(image.tobytes() for image in batch)
            return model.describe(batch)

    out = tmp_path / "out"
    run_propagate(
        files / video,
        out,
        mask=files / "mask.png",
        edit=files / "layer.png",
        points=np.array([[20.0, 15.0], [40.0, 30.0]], np.float32),
        export=["png", "ffv1", "coco"],
        describer=Counting(),
    )
    assert decoded == list(range(7))
    assert len(described) == len(set(described)) == 7
    assert {"overlay.mp4", "edited.mp4", "points.json", "masks.json", "cutout.mkv"} <= set(
        names(out)
    )
