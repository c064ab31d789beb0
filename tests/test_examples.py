"""Every example runs as it stands, on tiny material, and prints what it promises."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from fresh_python import FreshPython, fresh_python
from pair_folders import SIZES, write_ramps
from small_samples import use_small_samples

from warpkit.app.examples import Example, input_hashes
from warpkit.datasets.synth import read_synth
from warpkit.demo import SAMPLES
from warpkit.evaluate.jaccard import score_sequence
from warpkit.io.frames import open_frames
from warpkit.io.images import read_image, write_image
from warpkit.io.masks import read_labels, write_labels
from warpkit.io.video import VideoWriter
from warpkit.render import CLIPS, render_frame

EXAMPLES = Path(__file__).parents[1] / "examples"
AGGREGATOR = Path(__file__).parents[1] / "warpkit" / "weights" / "tiny-aggregator.safetensors"


Run = Callable[..., list[str]]


@pytest.fixture(scope="module")
def python() -> Iterator[FreshPython]:
    """Scripts in processes of their own: registries of this one stay as they are."""
    with fresh_python() as started:
        yield started


@pytest.fixture(scope="module")
def run(python: FreshPython) -> Run:
    """Lines that a script prints which ends well."""

    def lines(*arguments: str, folder: Path) -> list[str]:
        result = python(*arguments, folder=folder)
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
        return result.stdout.splitlines()

    return lines


def test_adding_a_backbone(run, tmp_path):
    lines = run(str(EXAMPLES / "add_backbone.py"), folder=tmp_path)
    assert len(lines) == 5
    assert lines[0] == "(36, 46) -> (100, 74), 0.0 px off"
    name, error = lines[-1].split(": mean error ")
    assert name == "colour-pyramid"
    assert float(error.removesuffix(" px")) < 1.0
    assert not list(tmp_path.iterdir())


def test_adding_a_matcher(run, tmp_path):
    lines = run(str(EXAMPLES / "add_matcher.py"), folder=tmp_path)
    assert lines == [
        "(10, 12) -> (48, 25)",
        "(17, 25) -> (55, 38)",
        "(24, 16) -> (62, 29)",
        "numpy: 3 of 3 matches agree with the reference",
    ]


def test_the_added_matcher_agrees_with_the_reference(run, tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(EXAMPLES)!r})
import add_matcher, torch
from warpkit.coords import lattice_sites
from warpkit.match.matcher import create_matcher, matcher_names
from warpkit.types import DescriptorMap
assert "numpy" in matcher_names()
generator = torch.Generator().manual_seed(0)
a, b = (torch.randn(6, h, w, generator=generator) for h, w in ((3, 5), (4, 3)))
a[:, 1, 1] = b[:, 0, 2] = 0
query = DescriptorMap.covering(a, height=3, width=5)
key = DescriptorMap.covering(b, height=4, width=3)
sites = [lattice_sites(height=m.height, width=m.width) for m in (query, key)]
for k in (1, 3, 20):
    toy, truth = (
        create_matcher(name).search(query, key, *sites, k=k) for name in ("numpy", "reference")
    )
    assert torch.equal(toy.index, truth.index)
    torch.testing.assert_close(toy.similarity, truth.similarity)
    print(tuple(toy.index.shape), int(toy.found.sum()))
"""
    assert run("-c", code, folder=tmp_path) == ["(15, 1) 14", "(15, 3) 42", "(15, 20) 154"]


def test_an_ablation_is_a_table_and_goes_on(run, clips, tmp_path):
    for folder in ("JPEGImages", "Annotations"):
        (tmp_path / folder / "480p" / "jellyfish").mkdir(parents=True)
    frames = open_frames(clips / "jellyfish.mp4")
    for t in range(3):
        name = f"480p/jellyfish/{t:05d}"
        write_image(tmp_path / f"JPEGImages/{name}.jpg", frames.read(t).image)
        shutil.copy(clips / f"jellyfish/masks/{t:05d}.png", tmp_path / f"Annotations/{name}.png")
    script = str(EXAMPLES / "ablate_propagation.py")
    common = (script, ".", "-o", "table.md", "--sizes", "32", "--device", "cpu", "--rows")
    # A line that does not say what made it counts for nothing.
    (tmp_path / "table.jsonl").write_text('{"row": "defaults", "sequence": "jellyfish"}\n')
    lines = run(*common, "defaults", folder=tmp_path)
    row = next(line for line in lines if line.startswith("| defaults |"))
    assert lines[0].startswith("defaults, jellyfish: J 0.")
    again = run(*common, "defaults", "top-k 5", folder=tmp_path)
    # The first row is not run a second time, and is the same.
    assert [line.split(",")[0] for line in again if ": J " in line] == ["top-k 5"]
    assert row in again
    assert (tmp_path / "table.md").read_text(encoding="utf-8").count("\n") == 4
    # Rows of another input size are not taken for these.
    others = run(*common[:5], "48", *common[6:], "defaults", folder=tmp_path)
    assert [line.split(",")[0] for line in others if ": J " in line] == ["defaults"]
    assert row not in others


def test_bad_input_is_one_line(python, tmp_path):
    script = str(EXAMPLES / "ablate_propagation.py")
    ended = python(script, "nowhere", "-o", "table.md", folder=tmp_path)
    path = f"import sys; sys.path.insert(0, {str(EXAMPLES)!r})\n"
    broken = f"{path}from scripts import errors_in_one_line as e; e(); 1 / 0"
    other = python("-c", broken, folder=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(r"error: nowhere .*\n", ended.stderr)
    assert other.returncode == 1
    assert other.stderr.startswith("Traceback")


def test_small_jobs_hash_the_same_twice_and_changes_are_named(run, python, tmp_path):
    script, chosen = str(EXAMPLES / "hash_results.py"), ("--jobs", "warp,extract")
    assert run(script, "a.json", *chosen, folder=tmp_path) == ["warp: 5 files", "extract: 3 files"]
    hashes = json.loads((tmp_path / "a.json").read_text())
    hashes["warp/warp.npz"] = "0" * 16
    (tmp_path / "a.json").write_text(json.dumps(hashes))
    again = python(script, "b.json", *chosen, "--compare", "a.json", folder=tmp_path)
    assert again.returncode == 1
    assert again.stdout.splitlines()[2:] == ["warp/warp.npz"]


def test_the_page_gets_its_examples(run, clip, files, tmp_path):
    (tmp_path / "7-squid").mkdir()
    made, script = Example(tmp_path / "7-squid"), str(EXAMPLES / "make_page_examples.py")
    shutil.copyfile(files / "clip.mp4", made.file("clip.mp4"))
    for role, frame in (("source", clip[0]), ("target", clip[-1]), ("clip", clip[0])):
        write_image(made.file(f"{role}.jpg"), frame.image)
        write_labels(made.file(f"{role}_mask.png"), frame.labels)
    (line,) = run(script, str(tmp_path), "--model", "tiny", folder=tmp_path)
    assert line == f"{made.folder.name}: {made.record['text']}"
    assert made.record["inputs"] == input_hashes(made.folder)
    x, y = np.rint(made.record["points"]["source_points"]).astype(int).T
    assert (clip[0].labels[y, x] > 0).all()
    assert read_image(made.file("composite.jpg")).shape == clip[-1].image.shape
    assert len(list(open_frames(made.file("tracked.mp4")))) == len(clip)


def test_every_example_is_run_here():
    called = r'(?:EXAMPLES / |run_here\()"(\w+\.py)"'
    named = re.findall(called, Path(__file__).read_text(encoding="utf-8"))
    # What others import is run with them; make_pictures.py has test_pictures.py, and
    # calibrate_report.py test_predicted.py.
    parts = {"edit_scores.py", "inversion.py", "make_pictures.py", "recognition.py", "scripts.py"}
    parts |= {"calibrate_report.py", "sticker_clips.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(named) | parts


@pytest.fixture(scope="module")
def clips(run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the example renders: three frames each of a clip with one object and one with two."""
    folder = tmp_path_factory.mktemp("clips")
    script, options = str(EXAMPLES / "render_videos.py"), ("-o", "videos", "--frames", "3")
    lines = run(script, *options, "--clips", "jellyfish", "balloons", folder=folder)
    assert lines == ["jellyfish: 241 x 163, 3 frames", "balloons: 320 x 192, 3 frames"]
    return folder / "videos"


def test_rendered_clips_have_exact_masks_and_an_edit(clips):
    names = sorted(path.name for path in clips.iterdir())
    assert names == ["balloons", "balloons.mp4", "jellyfish", "jellyfish.mp4"]
    frames = open_frames(clips / "jellyfish.mp4")
    assert (frames.count, frames.height, frames.width) == (3, 163, 241)
    masks = sorted((clips / "jellyfish" / "masks").iterdir())
    assert [path.name for path in masks] == ["00000.png", "00001.png", "00002.png"]
    spec = CLIPS["jellyfish"]
    assert np.array_equal(read_labels(masks[2]), render_frame(spec, 2).labels)
    # Repainted objects on the movie's own first frame.
    plain, perfect = render_frame(spec, 0).image, render_frame(spec, 0, edited=True).image
    painted = (plain != perfect).any(axis=2)
    edited = read_image(clips / "jellyfish" / "edited_00000.png")
    assert painted.any()
    assert np.array_equal(edited[painted], perfect[painted])
    assert np.array_equal(edited[~painted], frames.read(0).image[~painted])


def test_scores_of_propagation_count_every_object_once(run, clips, tmp_path):
    folder = tmp_path / "videos"
    shutil.copytree(clips, folder)
    truth = [read_labels(path) for path in sorted((folder / "jellyfish" / "masks").iterdir())]
    (folder / "short" / "masks").mkdir(parents=True)
    write_labels(folder / "short" / "masks" / "00000.png", truth[0])
    with VideoWriter(folder / "short.mp4", height=163, width=241, frame_rate=20) as video:
        video.write(read_image(folder / "jellyfish" / "edited_00000.png"))

    lines = run(str(EXAMPLES / "score_clips.py"), str(folder), folder=tmp_path)
    balloons, jellyfish, short, *means = lines
    assert short == "left out: short has 1 frame, none between the first and the last"
    copied = score_sequence([truth[0]] * 3, truth)
    assert f"copy J {copied.J:.3f} F {copied.F:.3f}" in jellyfish
    for method, mean in zip(("tiny", "copy", "DIS flow"), means, strict=True):
        two, one, all_three = (
            np.array(re.search(rf"{method} +J ([\d.]+) +F ([\d.]+)", line).groups(), float)
            for line in (balloons, jellyfish, mean)
        )
        # Two of the three objects are balloons; what is printed is rounded.
        np.testing.assert_allclose(all_three, (2 * two + one) / 3, atol=2e-3)
        assert mean.endswith("(3 objects)")


def test_scores_of_edits_stand_beside_those_of_flow(run, tmp_path):
    small = ("--frames", "3", "--height", "48", "--size", "32", "--pictures", "pictures")
    script = str(EXAMPLES / "score_edits.py")
    title, line = run(script, "--clips", "fish", "--models", "tiny", *small, folder=tmp_path)
    assert title.startswith("clip        kind   model")
    numbers = [float(n) for n in re.findall(r"[\d.]+", line.split("(")[0])]
    error, flow, ratio, *flickers, region = numbers
    assert line.startswith("fish        smooth tiny")
    assert ratio == pytest.approx(error / flow, abs=0.02)
    assert 0 < error < 20
    assert len(flickers) == 3
    assert 0.3 < region <= 1
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["fish-001.png", "fish-002.png"]
    # Input, edit, truth and flow, side by side.
    assert read_image(tmp_path / "pictures" / "fish-002.png").shape == (48, 4 * 80, 3)


def test_scores_of_stickers_name_the_models(run, tmp_path):
    small = ("--frames", "3", "--height", "120", "--samples", "1", "--size", "32")
    more = ("--models", "tiny", "--set", "edit_mode=planar", "--pictures", "pictures")
    title, *lines = run(
        str(EXAMPLES / "score_edits.py"), "--stickers", *small, *more, folder=tmp_path
    )
    assert title.startswith("motion      model")
    assert [line.split()[0] for line in lines] == ["roundabout", "turn", "still"]
    for line in lines:
        assert line.endswith("| planar 2")
        mean, largest, last = map(float, re.findall(r"\d+\.\d+", line)[:3])
        assert mean <= largest < 1.5
        assert last <= largest
    picture = read_image(tmp_path / "pictures" / "sticker-turn-tiny.png")
    assert picture.shape == (120, 2 * 213, 3)


def test_scores_of_masks_tell_what_is_shown_in_vain(run, tmp_path):
    small = ("--frames", "2", "--height", "48", "--like", "32", "--models", "tiny")
    more = ("--set", "label.min_evidence=0.1")
    script = str(EXAMPLES / "score_masks.py")
    _, line = run(script, "--clips", "balloons", *small, *more, folder=tmp_path)
    found = re.fullmatch(
        r"balloons    yes    tiny      \| ([01]\.\d+) +0 +0   -   J at height 32: ([01]\.\d+)", line
    )
    assert found
    assert all(float(number) > 0.5 for number in found.groups())


def test_rendered_pairs_are_read_back_with_exact_points(run, tmp_path):
    lines = run(
        str(EXAMPLES / "render_pairs.py"), "pairs", "--count", "2", "--points", "5", folder=tmp_path
    )
    assert lines == ["2 pairs in pairs/pairs.json"]
    pairs, problems = read_synth(tmp_path / "pairs")
    assert problems == []
    for pair in pairs:
        t = int(pair.target_path.stem)
        later = render_frame(CLIPS[pair.category], t)
        x, y = pair.source_points.T.astype(int)
        np.testing.assert_array_equal(pair.target_points, later.target_xy[y, x])
        assert (read_image(pair.target_path) == later.image).all()


def run_here(script: str, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script in this process, on what was put into modules."""
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # given back, the script sets it
    runpy.run_path(str(EXAMPLES / script), run_name="__main__")


def test_the_pictures_of_the_readme(tmp_path, files, clip, monkeypatch, capsys):
    use_small_samples(tmp_path / "samples", files, clip, monkeypatch)
    options = ("--model", "tiny", "--size", "32", "--frames", "3", "--height", "96")
    out = tmp_path / "images"
    run_here("make_readme_pictures.py", *options, "-o", str(out), monkeypatch=monkeypatch)
    assert capsys.readouterr().out.startswith(f"{out / 'propagation.gif'}: 3 frames, 0.")
    # Three rows of pictures 96 px high: titles of 11 px on one line, 6 px between.
    assert read_image(out / "photographs.jpg").shape[0] == 3 * (19 + 96 + 6) + 6
    path = out / "propagation.gif"
    assert imageio.imread(path).shape == (3, 6 + 19 + 96 + 6, 2 * 160 + 3 * 6, 3)
    facts = imageio.immeta(path)
    assert (facts["duration"], facts["loop"]) == (170, 0)  # every second of 12 a second


def test_plots_of_benchmarks_are_those_of_their_tables(tmp_path, monkeypatch, capsys):
    run_here("draw_benchmarks.py", "-o", str(tmp_path), monkeypatch=monkeypatch)
    assert capsys.readouterr().out == "bench-cpu.png: 24 times\nbench-h200.png: 24 times\n"
    found = runpy.run_path(str(EXAMPLES / "draw_benchmarks.py"))["times_of_table"]
    text = """Two cores, so:

| maps | images | FAISS flat | `grid` | faster |
|---|---|---|---|---|
| few | 30 x 20 | about 1,234 | **0.5** | 2 x |

"""
    assert found(text, "Two cores") == [
        ("few", "FAISS flat", 600, 1234.0, True),
        ("few", "grid", 600, 0.5, False),
    ]


def test_the_upper_half_of_a_contact_sheet_is_shown(run, tmp_path):
    (tmp_path / "synth/sheets").mkdir(parents=True)
    sheet = np.arange(8 * 5 * 3, dtype=np.uint8).reshape(8, 5, 3)
    write_image(tmp_path / "synth/sheets/00.png", sheet)
    write_image(tmp_path / "synth/quality.png", sheet[:2])
    assert run(str(EXAMPLES / "draw_synthesis.py"), "synth", "-o", ".", folder=tmp_path) == []
    assert (read_image(tmp_path / "synth-sheet.png") == sheet[:4]).all()
    assert (read_image(tmp_path / "synth-precision.png") == sheet[:2]).all()


def test_the_samples_of_the_demo_are_put_together(run, tmp_path):
    lines = run(str(EXAMPLES / "make_samples.py"), "-o", "samples", folder=tmp_path)
    assert lines == ["fish in samples"]
    for path in (tmp_path / "samples").rglob("*.*"):
        shipped = SAMPLES / path.relative_to(tmp_path / "samples")
        assert path.read_bytes() == shipped.read_bytes(), path.name
    assert len(list((tmp_path / "samples/fish").rglob("*.png"))) == 16 + 4


def test_the_gallery_is_made_by_a_model(tmp_path, files, clip, monkeypatch):
    use_small_samples(tmp_path / "samples", files, clip, monkeypatch)
    for name in ("fish", "turtle"):
        small = replace(CLIPS[name], height=48, width=80, supersampling=1)
        monkeypatch.setitem(CLIPS, name, small)
    options = ("--model", "tiny", "--size", "32", "--frames", "3", "-o", str(tmp_path))
    run_here("make_gallery.py", *options, monkeypatch=monkeypatch)
    page = (tmp_path / "gallery.md").read_text()
    assert "with the model `tiny`" in page
    shown = re.findall(r"!\[.*?\]\((.*?)\)", page)
    assert len(shown) == page.count("\n## ") == 10
    for name in shown:
        assert (tmp_path / name).stat().st_size > 500
    assert {Path(name).name for name in shown} == {
        path.name for path in (tmp_path / "images/gallery").iterdir()
    }
    assert re.search(r"Mean distance to the true source pixel \d+\.\d pixels, of 80", page)
    # The page that is shown has the same sections, made by the default model.
    published = (EXAMPLES.parent / "docs/gallery.md").read_text()
    assert "with the model `embedded`" in published
    assert re.findall(r"^## .*", published, re.M) == re.findall(r"^## .*", page, re.M)


def test_few_cells_survive_their_bounds(run, tmp_path):
    script = str(EXAMPLES / "draw_surviving_cells.py")
    lines = run(script, "--at", "160,90", "-o", "out/cells.png", folder=tmp_path)
    (line,) = lines
    survive, cells, pixels = map(int, re.findall(r"\d+", line))
    assert 1 <= survive < cells / 20
    assert pixels >= 4
    picture = read_image(tmp_path / "out" / "cells.png")
    assert picture.shape[1] > 2 * 300  # two tiles


def test_the_embedded_model_generates_and_inverts(run, tmp_path):
    script = str(EXAMPLES / "generate.py")
    options = ("--count", "1", "--steps", "2", "--skip", "1", "--inversion", "2")
    (line,) = run(script, "-o", "out", "--classes", "dog", *options, folder=tmp_path)
    assert re.fullmatch(r"inverted in 2 steps and generated again: PSNR -?[\d.]+ dB", line)
    # One tile of 128 and two of 256 columns, the gaps between and around them.
    assert read_image(tmp_path / "out" / "samples.png").shape[1] == 128 + 2 * 6
    assert read_image(tmp_path / "out" / "round_trip.png").shape[1] == 2 * 256 + 3 * 8


def test_pictures_of_a_folder_are_inverted(run, tmp_path):
    (tmp_path / "pictures").mkdir()
    for i in range(5):
        image = np.full((20 + i, 30, 3), 40 * i, np.uint8)
        write_image(tmp_path / "pictures" / f"{i}.png", image)
    script, folder = str(EXAMPLES / "generate.py"), str(tmp_path / "pictures")
    few = ("--steps", "1", "--skip", "0", "--inversion", "1")
    options = ("--every", "63", "--count", "1", "--size", "32", *few)
    (line,) = run(
        script, "-o", "out", *options, "--pictures", folder, "--number", "2", folder=tmp_path
    )
    assert re.fullmatch(
        r"inverted in 1 step and generated again: PSNR -?[\d.]+ dB on average over 2 pictures,"
        r" median -?[\d.]+, -?[\d.]+ to -?[\d.]+",
        line,
    )
    # Of 125 classes the first and the 64th.
    assert read_image(tmp_path / "out" / "samples.png").shape[1] == 2 * 32 + 3 * 6


def test_samples_are_scored_by_a_classifier(run, tmp_path):
    """Classes of the UNet in a training folder that has more photographs than are held out."""
    for name, level in (("ant", 40), ("dog", 200)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(4):
            image = np.full((16, 16, 3), level + i, np.uint8)
            write_image(tmp_path / "data" / name / f"{i}.png", image)
    script = str(EXAMPLES / "score_samples.py")
    options = ("--count", "1", "--held-out", "2", "--shown", "dog")
    setting = "steps=2,skip=1,guidance=2,pag_scale=1"
    held_out, line = run(
        script, "data", "-o", "out", "--setting", setting, *options, folder=tmp_path
    )
    assert re.fullmatch(r"photographs held out: [\d.]+ / 100\.0 %", held_out)
    assert re.fullmatch(r"steps 2, guidance 2, pag_scale 1, skip 1, eta 1: [\d.]+ / 100\.0 %", line)
    assert read_image(tmp_path / "out" / "samples-00.png").shape[1] == 96 + 2 * 6


def test_steps_are_compared_on_the_same_pairs(run, tmp_path):
    write_ramps(tmp_path / "mine", SIZES)
    script, aggregator = str(EXAMPLES / "compare_steps.py"), str(AGGREGATOR)
    common = ("synth", "--root", "mine", "--device", "cpu", "--size", "32")
    one, several, difference = run(
        script, *common, "--steps", "0", "1", "--layers", "5", "7", folder=tmp_path
    )
    figures = r"PCK@0\.05 [\d.]+ \[[\d.]+, [\d.]+\], PCK@0\.1 ([\d.]+) \[.*\] \(3 pairs\)"
    first = re.fullmatch(rf"raw, steps \[0\]: {figures}", one)
    second = re.fullmatch(rf"raw, steps \[0, 1\]: {figures}", several)
    gain = re.fullmatch(r"difference at 0\.1: ([-+][\d.]+) \[[-+][\d.]+, [-+][\d.]+\]", difference)
    assert float(gain[1]) == pytest.approx(float(second[1]) - float(first[1]), abs=0.11)
    lines = run(script, *common, "--aggregators", aggregator, aggregator, folder=tmp_path)
    assert lines[0].startswith(f"{aggregator}, steps [0]: PCK@0.05 ")
    assert lines[2] == "difference at 0.1: +0.0 [+0.0, +0.0]"


def test_timing_a_synthesis(run, tmp_path):
    """Times of a chunk after the first, on a Stable Diffusion of a few thousand weights."""
    options = "--small --size 64 --steps 2 --pairs 4 --batch 2 --threads 1 --device cpu"
    run(str(EXAMPLES / "time_synthesis.py"), "-o", "out", *options.split(), folder=tmp_path)
    report = json.loads((tmp_path / "out" / "time.json").read_text(encoding="utf-8"))["sd15"]
    assert (report["pairs"], report["kept"]) == (2, 2)
    assert set(report["share"]) == {"unet", "aggregator", "vae", "matching", "writing", "rest"}
    assert sum(report["share"].values()) == pytest.approx(1)
    assert report["million_pairs"]["terabytes"] > 0
