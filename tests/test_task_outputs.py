"""`warpkit propagate`: every kind of input, exports, points, scene cuts, the report, a browser."""

from __future__ import annotations

import csv
import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import av
import numpy as np
import pytest
from conftest import Ran
from file_formats import decode_rle
from PIL import Image

import warpkit
from warpkit.io.points import read_queries
from warpkit.render import RenderedFrame
from warpkit.video.report import concerns, farthest_frames

Cli = Callable[..., Ran]

HEIGHT, WIDTH = 32, 48


def picture(t: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A bright square that moves over a ramp."""
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack([60 + x, 60 + y, np.full_like(x, 90)], -1).astype(np.uint8)
    image[8:20, 10 + t : 24 + t] = (240, 220, 40)
    return image


def write_video(
    path: Path,
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    size: tuple[int, int] = (HEIGHT, WIDTH),
    times: list[int] | None = None,
    rotation: int = 0,
) -> Path:
    """Four frames, at hundredths of a second if `times` are given."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=100 if times else 10)
        stream.height, stream.width, stream.pix_fmt = *size, pixels
        if codec == "libx264":
            stream.codec_context.options = {"mbtree": "0", "bf": "0"}
        if rotation:
            stream.set_display_rotation(rotation)
        for t in range(4):
            frame = av.VideoFrame.from_ndarray(picture(t, *size), "rgb24")
            frame.pts = times[t] if times else t
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def make_input(name: str, folder: Path) -> Path:
    if name == "folder":
        (folder / "in").mkdir()
        for t in range(4):  # not padded: text order would be 0, 10, 5, 7
            warpkit.write_image(folder / "in" / f"f{[0, 5, 7, 10][t]}.png", picture(t))
        return folder / "in"
    if name == "gif":
        pictures = [Image.fromarray(picture(t)) for t in range(4)]
        pictures[0].save(folder / "a.gif", save_all=True, append_images=pictures[1:], duration=100)
        return folder / "a.gif"
    options: dict[str, dict] = {
        "mp4": {},
        "mov": {},
        "mkv": {},
        "webm": {"codec": "libvpx-vp9"},
        "avi": {"codec": "mpeg4"},
        "variable.mp4": {"times": [0, 3, 20, 21]},
        "turned.mov": {"rotation": 90, "codec": "png", "pixels": "rgb24"},
        "odd.mkv": {"codec": "ffv1", "pixels": "bgr0", "size": (33, 47)},
        "deep.mp4": {"pixels": "yuv420p10le"},
    }
    file = name if "." in name else f"clip.{name}"
    return write_video(folder / file, **options[name])


@pytest.mark.parametrize(
    "name",
    [
        *("mp4", "mov", "mkv", "webm", "avi", "gif", "folder"),
        *("variable.mp4", "turned.mov", "odd.mkv", "deep.mp4"),
    ],
)
def test_every_kind_of_input(cli: Cli, tmp_path: Path, name: str) -> None:
    clip = make_input(name, tmp_path)
    frames = warpkit.open_frames(clip)
    labels = np.zeros((HEIGHT, WIDTH) if name != "odd.mkv" else (33, 47), np.uint8)
    labels[8:20, 10:24] = 1
    if name == "turned.mov":
        labels = np.rot90(labels)
    warpkit.write_labels(tmp_path / "mask.png", labels)
    out = tmp_path / "out"
    ran = cli("propagate", clip, "--mask", tmp_path / "mask.png", "-o", out)
    assert (ran.code, ran.messages) == (0, [])
    found = warpkit.read_labels(out / "masks/00003.png")
    assert found.shape == labels.shape
    assert 0.3 < (found > 0).sum() / (labels > 0).sum() < 3
    overlay = list(warpkit.open_frames(out / "overlay.mp4"))
    assert [f.image.shape for f in overlay] == [f.image.shape for f in frames]
    # The movie keeps the times of the original, to its clock's tick.
    for made, given in zip(overlay, frames, strict=True):
        assert abs(made.time - given.time) <= Fraction(1, 500)


def test_exports(cli: Cli, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    mask = ("--mask", files / "mask.png", "--edit", files / "layer.png")
    formats = ("--export", "png,prores,ffv1,coco")
    ran = cli("propagate", files / "frames", *mask, *formats, "-o", out)
    assert (ran.code, ran.messages) == (0, [])
    names = [f"{t:05d}.png" for t in range(7)]
    masks = [warpkit.read_labels(out / "masks" / name) for name in names]
    originals = [frame.image for frame in warpkit.open_frames(files / "frames")]
    for video in ("cutout", "layer"):
        folder = out / f"{video}s"
        stills = [warpkit.read_rgba(folder / name) for name in names]
        for name, allowed in ((f"{video}.mkv", 0), (f"{video}.mov", 2)):
            with av.open(str(out / name)) as container:
                decoded = [f.to_ndarray(format="rgba") for f in container.decode(video=0)]
            for found, still in zip(decoded, stills, strict=True):
                assert np.abs(found[..., 3].astype(int) - still[..., 3]).max() <= allowed
                shown = still[..., 3] > 0
                # Editors blend colours at half the resolution at most; ffv1 keeps every one.
                assert np.abs(found.astype(int) - still)[shown].mean() <= allowed
    for still, labels, image in zip(
        [warpkit.read_rgba(out / "cutouts" / name) for name in names], masks, originals, strict=True
    ):
        assert np.array_equal(still[..., 3] == 255, labels > 0)
        assert np.array_equal(still[..., :3], image)
    data = json.loads((out / "masks.json").read_text())
    for annotation in data["annotations"]:
        labels = masks[annotation["image_id"]]
        mask_found = decode_rle(annotation["segmentation"])
        assert np.array_equal(mask_found, labels == annotation["category_id"])
    shown = sum(len(np.unique(labels)) - 1 for labels in masks)
    assert len(data["annotations"]) == shown
    # The layer over the frame is the edited frame.
    still = warpkit.read_rgba(out / "layers/00003.png").astype(float)
    opacity = still[..., 3:] / 255
    edited = still[..., :3] * opacity + originals[3] * (1 - opacity)
    assert np.abs(edited - warpkit.read_image(out / "frames/00003.png")).max() <= 1.5


def test_layers_are_no_results_unless_asked_for(cli: Cli, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    edit = ("--edit", files / "layer.png", "--export", "ffv1")
    assert cli("propagate", files / "frames", *edit, "-o", out).code == 0
    assert sorted(p.name for p in out.iterdir() if "layer" in p.name) == ["layer.mkv"]
    ran = cli("propagate", files / "frames", *edit[:2], "--export", "gif", "-o", tmp_path / "no")
    assert ran.code == 2
    assert "unknown export 'gif': expected one of png, prores, ffv1, coco" in ran.messages[0]


def test_sound_of_the_original(cli: Cli, files: Path, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.height, video.width, video.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        sound = container.add_stream("aac", rate=16_000, layout="mono")
        for t in range(8):
            frame = av.VideoFrame.from_ndarray(picture(t), "rgb24")
            frame.pts = t
            container.mux(video.encode(frame))
            part = av.AudioFrame.from_ndarray(np.full((1, 1600), 900, np.int16), "s16", "mono")
            part.sample_rate, part.pts = 16_000, 1600 * t
            container.mux(sound.encode(part))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[8:20, 12:26] = 1
    warpkit.write_labels(tmp_path / "mask.png", labels)
    mask = ("--mask", tmp_path / "mask.png", "--colormap", "--start", 2, "--end", 6)
    ran = cli("propagate", path, *mask, "-o", tmp_path / "out")
    assert (ran.code, ran.messages) == (0, [])
    for name in ("overlay.mp4", "edited.mp4"):
        with av.open(str(tmp_path / "out" / name)) as container:
            assert [stream.type for stream in container.streams] == ["video", "audio"]
            sound = container.streams.audio[0]
            length = float(sound.duration * sound.time_base)
        assert length == pytest.approx(0.4, abs=0.1)


def test_points_of_any_frame(cli: Cli, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = cli("propagate", files / "clip.mp4", "--points", "40,20;3:41,21;6:30,25", "-o", out)
    assert (ran.code, ran.messages) == (0, [])
    data = json.loads((out / "points.json").read_text())
    arrays = np.load(out / "points.npz")
    assert arrays["tracks"].shape == (3, 7, 2)
    assert arrays["queries"].tolist() == [[0, 40, 20], [3, 41, 21], [6, 30, 25]]
    for n, (frame, x, y) in enumerate(arrays["queries"]):
        assert arrays["tracks"][n, int(frame)].tolist() == [x, y]
        assert arrays["visible"][n, int(frame)]
    np.testing.assert_allclose(data["tracks"], arrays["tracks"], atol=1e-3)
    assert np.array_equal(data["visible"], arrays["visible"])
    with (out / "points.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 21
    last = lines[-1]
    assert (last["point"], last["frame"], last["visible"]) == ("2", "6", "1")
    assert [float(last["x"]), float(last["y"])] == [30, 25]
    assert json.loads((out / "report.json").read_text())["points"]["count"] == 3
    ran = cli("propagate", files / "frames", "--points", "9:1,1", "-o", tmp_path / "no")
    assert (ran.code, "a point is of frame 9" in ran.messages[0]) == (2, True)


def test_point_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y,frame\n1.5,2,0\n3,4,7\n")
    (tmp_path / "a.json").write_text('[{"frame": 7, "x": 3, "y": 4}, [1, 2]]')
    np.savez(tmp_path / "a.npz", queries=[[0, 1.5, 2], [7, 3, 4]])
    for name in ("a.csv", "a.npz"):
        found = read_queries(tmp_path / name)
        assert found.frames.tolist() == [0, 7]
        assert found.xy.tolist() == [[1.5, 2], [3, 4]]
    found = read_queries(tmp_path / "a.json", start=5)
    assert found.frames.tolist() == [7, 5]
    for name, content, message in (
        ("b.csv", "a,b\n1,2\n", "must name the columns x, y"),
        ("b.json", "[[1, 2, 3, 4]]", "expected points as"),
        ("c.json", "{", "not valid JSON"),
        ("d.json", "[]", "there are no points"),
        ("e.json", "[[0.5, 1, 2]]", "a frame is a whole number"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(warpkit.InputError, match=message):
            read_queries(tmp_path / name)
    with pytest.raises(warpkit.InputError, match="no points file"):
        read_queries("none.csv")


@pytest.fixture
def two_scenes(tmp_path: Path, clip: list[RenderedFrame]) -> Path:
    (tmp_path / "two").mkdir()
    for t, frame in enumerate(clip[:5]):
        warpkit.write_image(tmp_path / f"two/{t}.png", frame.image)
    dark = np.random.default_rng(0).integers(0, 60, (6, 10, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    for t in range(5, 9):
        warpkit.write_image(tmp_path / f"two/{t}.png", dark)
    return tmp_path / "two"


@pytest.mark.parametrize("points", [False, True])
def test_a_scene_cut_stops_or_is_passed(
    cli: Cli,
    files: Path,
    tmp_path: Path,
    two_scenes: Path,
    caplog: pytest.LogCaptureFixture,
    points: bool,
) -> None:
    given = ("--points", "40,20") if points else ("--mask", files / "mask.png")
    rows = {}
    for choice in ("restart", "stop", "ignore"):
        caplog.clear()
        out = tmp_path / choice
        assert cli("propagate", two_scenes, *given, "--cuts", choice, "-o", out).code == 0
        lines = (out / "frames.jsonl").read_text().splitlines()
        rows[choice] = [json.loads(line) for line in lines]
        if not points:
            told = "a new scene begins with frame 5" in caplog.text
            assert told == (choice != "ignore")
            record = json.loads((out / "run.json").read_text())
            assert record["cuts"] == ([5] if choice == "restart" else [])
            assert len(list((out / "masks").iterdir())) == len(rows[choice])
    assert {choice: len(found) for choice, found in rows.items()} == {
        "restart": 9,
        "stop": 5,
        "ignore": 9,
    }


def test_a_cut_in_memory(model: warpkit.Model, two_scenes: Path, files: Path) -> None:
    images = [frame.image for frame in warpkit.open_frames(two_scenes)]
    labels = warpkit.read_labels(files / "mask.png")
    for choice, cut in (("restart", [5]), ("stop", []), ("ignore", [])):
        config = warpkit.PropagateSettings(cuts=choice)
        results = list(model.propagate(images, labels=labels, settings=config))
        assert [r.position for r in results if r.cut] == cut
        assert len(results) == (5 if choice == "stop" else 9)
    # Both ways between annotated frames, too.
    given = {0: labels, 8: np.zeros_like(labels)}
    results = list(model.propagate(images, annotations=given))
    assert [r.position for r in results if r.cut] == [5]


def test_frames_to_look_at_first() -> None:
    rows = [
        {
            "frame": 2 * t,
            "area": {"1": 100},
            "confidence": {"1": 0.8},
            "frame_confidence": 0.8,
            "absent": [],
            "given": t == 0,
        }
        for t in range(40)
    ]
    rows[9] |= {"frame_confidence": 0.3, "confidence": {"1": 0.3}}
    rows[18] |= {"absent": [2]}
    rows[25] |= {"area": {"1": 400}}
    rows[33] |= {"cut": True}
    found = concerns(rows)
    assert [c.frame for c in found] == [66, 36, 50, 18]
    assert found[0].reasons == ("a new scene begins",)
    assert found[1].reasons == ("object 2 is gone",)
    assert found[2].reasons == (
        "the area of object 1 goes from 100 to 400 pixels",
        "object 1 grows to 4 times its annotated size",
    )
    assert found[3].reasons == ("confidence 0.30 (median 0.80)",)
    assert [c.frame for c in concerns(rows, most=2)] == [66, 36]
    assert concerns([rows[0], *rows[1:5]]) == []


def test_a_contact_sheet_is_spread_over_a_calm_clip() -> None:
    assert farthest_frames(range(97), (0, 96), least=3) == [48]
    added = farthest_frames(range(97), (0, 96), least=9)
    assert sorted([0, *added, 96]) == list(range(0, 97, 12))
    assert farthest_frames(range(0, 200, 2), (0, 150, 160, 198), least=5) == [74]
    assert farthest_frames(range(5), (0, 4), least=8) == [2, 1, 3]
    assert farthest_frames(range(50), range(9), least=8) == []
    assert farthest_frames([7], [7], least=8) == []


def test_the_report(cli: Cli, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = cli("propagate", files / "frames", "--mask", files / "mask.png", "-o", out)
    assert ran.code == 0
    report = json.loads((out / "report.json").read_text())
    assert report["frames"] == 7
    assert 0 < report["objects"]["1"]["lowest_confidence"] <= 1
    predicted = report["predicted_J"]
    values = predicted["objects"]["1"]
    assert predicted["frames"] == list(range(7))
    assert values[0] is None and all(0 < value < 1 for value in values[1:])
    assert predicted["mean"] == pytest.approx(np.mean(values[1:]), abs=1e-4)
    below = [n for n, value in enumerate(values) if value and value < predicted["listed_below"]]
    assert predicted["listed"] == below
    assert (report["annotate_first"] is None) == (not below)
    rows = [json.loads(line) for line in (out / "frames.jsonl").read_text().splitlines()]
    assert 0 < rows[0]["held"]["1"] < 1
    assert {"decided", "model", "look", "lead", "found", "alike"} == set(rows[3]["agreement"]["1"])
    sheet = warpkit.read_image(out / "contact_sheet.png")
    assert sheet.shape[0] > 2 * 180  # nothing stands out in these seven frames: all are shown
    assert sheet.std() > 10
    page = (out / "report.html").read_text()
    assert "<polyline" in page
    assert report["summary"].startswith(f"predicted mean J {predicted['mean']:.2f}; ")
    assert report["summary"] in ran.out.splitlines()
    assert report["summary"][1:] in page
    assert "predicted J of object 1" in page
    assert 'src="contact_sheet.png"' in page


PAGE = """<!doctype html><video muted></video><script>
const video = document.querySelector("video");
video.onerror = () => { fetch("/told?error " + video.error.message); };
video.onended = () => {
  fetch(`/told?played ${video.videoWidth}x${video.videoHeight} ${video.duration.toFixed(2)}`);
};
video.src = "overlay.mp4";
video.play();
</script>"""


def test_a_result_plays_in_a_browser(cli: Cli, files: Path, tmp_path: Path) -> None:
    """The page tells a server on this machine, so that a slow machine only takes longer."""
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    browser = next(filter(None, found), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")
    out = tmp_path / "out"
    assert cli("propagate", files / "frames", "--mask", files / "mask.png", "-o", out).code == 0
    (out / "page.html").write_text(PAGE)
    told: queue.Queue[str] = queue.Queue()

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/told?"):
                told.put(unquote(self.path[len("/told?") :]))
            super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    flags = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--autoplay-policy=no-user-gesture-required", f"--user-data-dir={tmp_path / 'profile'}"),
        "--remote-debugging-port=0",  # keeps it open until it is ended
    ]
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(out))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/page.html"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen([browser, *flags, address], **quiet) as running:
            try:
                assert told.get(timeout=200) == "played 80x48 0.29"
            finally:
                running.terminate()
                server.shutdown()
