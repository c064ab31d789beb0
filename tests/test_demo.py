"""The demo, on samples that are small enough for a test; and the samples that ship."""

from __future__ import annotations

import filecmp
import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Ran
from PIL import Image
from small_samples import use_small_samples

import warpkit
from warpkit import demo
from warpkit.checks import InputError
from warpkit.describe.options import ModelOptions
from warpkit.render import CLIPS, RenderedFrame, render_image
from warpkit.runs.clock import Stopwatch
from warpkit.runs.folder import OutputFolder

ROOT = Path(__file__).parents[1]
Cli = Callable[..., Ran]


def linked(page: str) -> list[str]:
    return re.findall(r'src="([^"]+)"', page)


def test_demo(
    cli: Cli,
    files: Path,
    clip: list[RenderedFrame],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    use_small_samples(tmp_path / "samples", files, clip, monkeypatch)
    monkeypatch.setattr(demo, "LEAST_FRAMES", 3)
    out = tmp_path / "out"
    ran = cli("demo", "-o", out, "--set", "frames=3")
    assert ran.code == 0, ran.err
    steps = [line for line in caplog.messages if " of 2: " in line]
    assert steps == [
        "1 of 2: the colours of one bird on another",
        "2 of 2: a mask and an edit through 3 frames of a clip",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "samples"]
    files = [path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()]
    assert not [name for name in files if "/." in f"/{name}"]
    frames = [f"{t:05d}.png" for t in (0, 2, 4)]
    # Both masks where both birds were found, none where one was in doubt; the page says which.
    found = [name for name in files if name.endswith("_mask.png")]
    assert len(found) in (0, 2)
    assert ("Both birds are found by themselves" in (out / "index.html").read_text()) == bool(found)
    assert sorted(files) == sorted(
        [
            *("index.html", "run.json", "pair/kingfisher.jpg", "pair/macaw.jpg", *found),
            *(f"pair/warp/{name}.png" for name in ("warped", "composite", "overview")),
            *("pair/warp/warp.npz", "pair/warp/run.json"),
            *("clip/fish.mp4", "clip/mask.png", "clip/edited.png", "clip/contact.png"),
            *(f"clip/propagated/{kind}/{name}" for kind in ("masks", "frames") for name in frames),
            *(f"clip/propagated/{name}.mp4" for name in ("overlay", "edited")),
            *("clip/propagated/frames.jsonl", "clip/propagated/run.json"),
            *(f"clip/propagated/report.{kind}" for kind in ("html", "json")),
            *(f"clip/propagated/{name}" for name in ("confidence.svg", "contact_sheet.png")),
        ]
    )
    page = (out / "index.html").read_text()
    # The results come first: the composite, over the target as it was, and both videos.
    assert linked(page)[:4] == [
        *("pair/warp/composite.png", "pair/macaw.jpg"),
        *("clip/propagated/overlay.mp4", "clip/propagated/edited.mp4"),
    ]
    assert all((out / name).is_file() for name in linked(page))
    assert "http" not in page  # nothing is fetched from elsewhere
    report = ran.out.splitlines()
    assert report[-1] == f"open {out / 'index.html'}"
    assert re.match(r"pair: [\d,]+ pixels warped", report[0])
    assert report[1].startswith("masks: overlap ")
    assert re.match(r"edit: colours inside the fish differ by \d.*, in frames 4$", report[2])
    record = json.loads((out / "run.json").read_text())
    assert record["report"] == report
    assert (record["config"]["frames"], record["config"]["size"]) == (3, 32)


@pytest.fixture
def unwarped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[demo._Demo]:
    """A demo whose warps are not made."""
    monkeypatch.setattr(demo, "_warp_files", lambda *_: None)
    monkeypatch.setattr(demo, "_warp_lines", lambda _: ())
    with OutputFolder(tmp_path / "out", overwrite=False) as folder:
        yield demo._Demo(folder, ModelOptions(), Stopwatch())


def test_the_page_says_where_no_bird_was_found(unwarped: demo._Demo) -> None:
    text = demo._photographs(unwarped).text
    assert text.startswith("The birds were not found for sure, so whole pictures are warped; ")
    unwarped.folder.file("pair/warp/source_mask.png").touch()
    assert demo._photographs(unwarped).text.startswith("Both birds are found by themselves; ")


def test_the_command_of_ones_own_pair_can_be_pasted(unwarped: demo._Demo) -> None:
    pair = [Path("my cat.png"), Path("b.png")]
    section = demo._own_pair(unwarped, pair, (None, Path("it's.png")))
    words = ["warp", "my cat.png", "b.png", "-o", "out", "--target-mask", "it's.png"]
    assert shlex.split(section.command) == ["warpkit", *words]


def test_own_pair(cli: Cli, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = cli(
        *("demo", files / "frames/000.png", files / "frames/006.png", "-o", out),
        *("--source-mask", files / "mask.png", "--target-mask", files / "last_mask.png"),
    )
    assert (ran.code, ran.messages) == (0, [])
    page = (out / "index.html").read_text()
    assert linked(page) == ["pair/warp/composite.png", "pair/warp/overview.png"]
    assert all((out / name).is_file() for name in linked(page))
    assert "--source-mask" in page
    assert re.match(r"pair: [\d,]+ pixels warped", ran.out)


@pytest.mark.parametrize("frames", [5, 17])
def test_frames_that_the_clip_does_not_have(frames: int) -> None:
    with pytest.raises(InputError, match=rf"^frames must lie in 6\.\.16, got {frames}$"):
        demo.DemoSettings(frames=frames)


def test_the_clip_of_the_demo_is_that_of_the_videos() -> None:
    masks = [f"fish/masks/{t:05d}.png" for t in range(0, 32, demo.STRIDE)]
    for name in ("fish.mp4", "fish/edited_00000.png", *masks):
        assert filecmp.cmp(demo.SAMPLES / name, ROOT / "videos" / name, shallow=False)
    assert len(list((demo.SAMPLES / "fish/masks").iterdir())) == demo.MOST_FRAMES
    for t in (10, 20, 30):
        perfect = render_image(CLIPS["fish"], t, edited=True)
        assert (warpkit.read_image(demo.SAMPLES / f"fish/edited_{t:05d}.png") == perfect).all()


def test_every_photograph_names_its_author_and_stays_small() -> None:
    sources = (demo.PHOTOGRAPHS / "SOURCES.md").read_text(encoding="utf-8")
    photographs = sorted(demo.PHOTOGRAPHS.rglob("*.jpg"))
    rows = dict(re.findall(r"^\| `(\S+\.jpg)` \|.*\| (CC0 1\.0|public domain) \|", sources, re.M))
    assert sorted(rows) == sorted(f"{path.parent.name}/{path.name}" for path in photographs)
    assert sum(path.stat().st_size for path in demo.SAMPLES.rglob("*") if path.is_file()) < 1e6
    for path in photographs:
        with Image.open(path) as photograph:
            assert photograph.mode == "RGB"
            assert max(photograph.size) <= 640
            assert not photograph.getexif()
