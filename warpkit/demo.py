"""The demo: one photograph's object on another's, and a mask and an edit through a clip.

In: nothing, or the user's own pair. Out: a folder with pictures, videos and an `index.html` that
shows the results first. The clip is rendered, so that masks and edit are scored against the truth.
"""

from __future__ import annotations

import html
import logging
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from warpkit.arrays import Image
from warpkit.checks import require
from warpkit.describe.options import ModelOptions, TaskSettings
from warpkit.evaluate.baselines import copy_first_labels
from warpkit.evaluate.jaccard import score_sequence
from warpkit.image.warp import WarpResult, run_warp
from warpkit.image.warp_words import warp_words
from warpkit.io.images import read_image, write_image
from warpkit.io.masks import read_labels
from warpkit.io.whole import write_json
from warpkit.runs.clock import Stopwatch
from warpkit.runs.folder import OutputFolder, run_record
from warpkit.types import Describer
from warpkit.video.run import run_propagate
from warpkit.viz import panel

__all__ = ["CLIP", "PHOTOGRAPHS", "SAMPLES", "STRIDE", "DemoSettings", "run_demo"]

_log = logging.getLogger("warpkit")

# What the demo shows ships with the package.
SAMPLES = Path(__file__).parent / "samples"
PHOTOGRAPHS, CLIP = SAMPLES / "photographs", "fish"
SOURCE, TARGET = PHOTOGRAPHS / "bird/kingfisher.jpg", PHOTOGRAPHS / "bird/macaw.jpg"
STRIDE = 2
LEAST_FRAMES, MOST_FRAMES = 6, 16  # frames 0, 2, ... 10 of the clip, or up to 30


@dataclass(frozen=True, kw_only=True)
class DemoSettings(TaskSettings):
    """What the demo shows.

    Attributes:
        frames: how many frames of the clip, of which it takes every second one. The right edit is
            known of frames 0, 10, 20 and 30.
    """

    frames: int = MOST_FRAMES

    def __post_init__(self) -> None:
        require(
            LEAST_FRAMES <= self.frames <= MOST_FRAMES,
            f"frames must lie in {LEAST_FRAMES}..{MOST_FRAMES}, got {self.frames}",
        )


def run_demo(
    output: Path | str,
    *,
    images: Sequence[Path] = (),
    source_mask: Path | None = None,
    target_mask: Path | None = None,
    settings: DemoSettings | None = None,
    options: ModelOptions | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Run the main jobs and leave a page to open.

    Args:
        images: none, or the user's own pair.

    Returns:
        The report, line by line.

    Raises:
        InputError: not two images, images that cannot be read, or a folder that holds something.
    """
    settings, options = settings or DemoSettings(), options or ModelOptions()
    require(
        len(images) in (0, 2), f"give no image, or a pair: source and target; got {len(images)}"
    )
    require(
        bool(images) or (source_mask is None and target_mask is None),
        "masks belong to a pair of your own: give source and target as well, or no mask",
    )
    clock = Stopwatch()
    with OutputFolder(output, overwrite=overwrite) as folder:
        if images:
            job = _Demo(folder, options, clock)
            sections = [_own_pair(job, images, (source_mask, target_mask))]
        else:
            with clock.stage("load model"):
                job = _Demo(folder, options, clock, options.load_extractor())
            _log.info("1 of 2: the colours of one bird on another")
            sections = [_photographs(job)]
            _log.info("2 of 2: a mask and an edit through %d frames of a clip", settings.frames)
            sections.append(_clip(job, settings.frames))
        report = [line for section in sections for line in section.lines]
        times = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in clock.seconds.items())
        report += [f"times: {times}", f"open {Path(output) / 'index.html'}"]
        page = _page(sections, times)
        folder.file("index.html").write_text(page, encoding="utf-8")
        _name_final_paths(folder, Path(output))
        record = run_record("demo", (options, settings), clock.seconds, {"report": report})
        write_json(folder.file("run.json"), record)
    return report


def _name_final_paths(folder: OutputFolder, output: Path) -> None:
    """Let the records of the single jobs name where their files will be."""
    here = folder.file("index.html").parent
    for record in here.rglob("run.json"):
        text = record.read_text(encoding="utf-8").replace(str(here), str(output))
        record.write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class _Demo:
    """What every part of the demo needs."""

    folder: OutputFolder
    options: ModelOptions
    clock: Stopwatch
    describer: Describer | None = None


@dataclass(frozen=True)
class _Section:
    """One part of the page: what it is about, and what was measured.

    Files are relative to the page and have captions. `results` are shown at its top; of a picture
    that has one, `before` is what the pointer over it shows.
    """

    title: str
    text: str
    results: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, str], ...]
    lines: tuple[str, ...]
    command: str
    before: str | None = None


def _warp_files(
    job: _Demo, source: Path, target: Path, masks: tuple[Path | None, Path | None] = (None, None)
) -> WarpResult:
    with job.clock.stage("warp the pair"):
        return run_warp(
            source,
            target,
            job.folder.file("pair/warp"),
            source_mask=masks[0],
            target_mask=masks[1],
            options=job.options,
            describer=job.describer,
        )


def _warp_lines(result: WarpResult) -> tuple[str, ...]:
    line = f"pair: {warp_words(result)}"
    return (line,) if result.doubt is None else (line, result.doubt)


def _own_pair(
    job: _Demo, images: Sequence[Path], masks: tuple[Path | None, Path | None]
) -> _Section:
    result = _warp_files(job, images[0], images[1], masks)
    command = ["warpkit", "warp", str(images[0]), str(images[1]), "-o", "out"]
    for flag, mask in zip(("--source-mask", "--target-mask"), masks, strict=True):
        command += [] if mask is None else [flag, str(mask)]
    return _Section(
        "Your pair",
        "Objects without a mask are found by themselves. Another one: warpkit mask IMAGE --box or"
        " --point says which, and --source-mask and --target-mask take what it writes.",
        (("pair/warp/composite.png", f"{images[0].name} on {images[1].name}"),),
        (("pair/warp/overview.png", "both with the outlines of their objects, and the field"),),
        _warp_lines(result),
        shlex.join(command),
    )


def _photographs(job: _Demo) -> _Section:
    """Warp one sample photograph's object onto another's."""
    source, target = (f"pair/{photograph.name}" for photograph in (SOURCE, TARGET))
    shutil.copyfile(SOURCE, job.folder.file(source))
    shutil.copyfile(TARGET, job.folder.file(target))
    result = _warp_files(job, job.folder.file(source), job.folder.file(target))
    found = job.folder.file("pair/warp/source_mask.png").is_file()
    birds = "Both birds are found by themselves; every pixel of the macaw is matched to one of the"
    if not found:
        birds = (
            "The birds were not found for sure, so whole pictures are warped; every pixel of the"
        )
        birds += " macaw's picture is matched to one of the picture of the"
    return _Section(
        "Two photographs",
        f"{birds} kingfisher, so that neighbours stay neighbours, and takes its colour.",
        (
            (
                "pair/warp/composite.png",
                "the kingfisher's plumage on the macaw: hold the pointer over it to see the macaw",
            ),
        ),
        (
            (source, "source: a kingfisher (Frank-2.0, CC0)"),
            (target, "target: a scarlet macaw (Dcoetzee, CC0)"),
            ("pair/warp/overview.png", "both with the outlines of their objects, and the field"),
        ),
        _warp_lines(result),
        f"warpkit warp {source} {target} -o out",
        before=target,
    )


def _clip(job: _Demo, count: int) -> _Section:
    """Propagate the first mask and an edit of the first frame through the sample clip."""
    for name, sample in (
        ("fish.mp4", f"{CLIP}.mp4"),
        ("mask.png", f"{CLIP}/masks/00000.png"),
        ("edited.png", f"{CLIP}/edited_00000.png"),
    ):
        shutil.copyfile(SAMPLES / sample, job.folder.file(f"clip/{name}"))
    results = job.folder.file("clip/propagated")
    frames = range(0, STRIDE * count, STRIDE)
    with job.clock.stage("propagate the clip"):
        run_propagate(
            job.folder.file("clip/fish.mp4"),
            results,
            mask=job.folder.file("clip/mask.png"),
            edit=job.folder.file("clip/edited.png"),
            end=frames.stop,
            stride=STRIDE,
            options=job.options,
            describer=job.describer,
        )
    with job.clock.stage("score"):
        truth = [read_labels(SAMPLES / CLIP / f"masks/{t:05d}.png") for t in frames]
        predicted = [read_labels(results / f"masks/{t:05d}.png") for t in frames]
        ours = score_sequence(predicted, truth, all_frames=True)
        copies = copy_first_labels(truth[0], frames=count)
        copied = score_sequence(copies, truth, all_frames=True)
        assert ours.J is not None and copied.J is not None
        perfect = _repainted(frames)
        edited = {t: read_image(results / f"frames/{t:05d}.png") for t in perfect}
        later = [t for t in perfect if t > 0]
        off = [_difference(edited[t], perfect[t], truth[frames.index(t)] > 0) for t in later]
        tiles = [(f"edit, frame {t}", image) for t, image in edited.items()]
        tiles += [(f"as rendered, frame {t}", image) for t, image in perfect.items()]
        sheet = panel(tiles, columns=len(perfect), height=160)
        write_image(job.folder.file("clip/contact.png"), sheet)
    return _Section(
        "A clip",
        "The mask and the repainted fish of the first frame, propagated through the clip. The clip"
        " is rendered, so that the right masks and a perfect edit are known.",
        (
            ("clip/propagated/overlay.mp4", "the first frame's mask in every frame"),
            ("clip/propagated/edited.mp4", "the first frame's edit in every frame"),
        ),
        (("clip/contact.png", "the propagated edit above the renderer's own"),),
        (
            f"masks: overlap {ours.J:.3f} with the true ones (intersection over union; the first"
            f" mask copied to every frame: {copied.J:.3f})",
            f"edit: colours inside the fish differ by {np.mean(off):.1f} of 255 from the"
            f" renderer's own, in frames {', '.join(map(str, later))}",
        ),
        f"warpkit propagate clip/fish.mp4 --stride {STRIDE} --mask clip/mask.png"
        " --edit clip/edited.png -o out",
    )


def _repainted(frames: Sequence[int]) -> dict[int, Image]:
    """Those frames of the clip whose perfect edit is known."""
    files = {t: SAMPLES / CLIP / f"edited_{t:05d}.png" for t in frames}
    return {t: read_image(file) for t, file in files.items() if file.is_file()}


def _difference(image: Image, other: Image, inside: npt.NDArray[np.bool_]) -> float:
    """Mean absolute difference of colours where `inside`."""
    return float(np.abs(image.astype(np.int16) - other)[inside].mean())


def _figure(file: str, caption: str, before: str | None = None) -> str:
    name, words = html.escape(file), html.escape(caption)
    if file.endswith(".mp4"):
        media = f'<video src="{name}" controls loop muted autoplay playsinline></video>'
    else:
        media = f'<img src="{name}" alt="{words}">'
    if before is not None:
        media += f'<img class="before" src="{html.escape(before)}" alt="the target as it was">'
    return f"<figure><div>{media}</div><figcaption>{words}</figcaption></figure>"


def _page(sections: Sequence[_Section], times: str) -> str:
    """A page without scripts or outside requests: results at its top, then each part."""
    results = "".join(
        _figure(file, caption, section.before)
        for section in sections
        for file, caption in section.results
    )
    parts = []
    for section in sections:
        figures = "".join(_figure(file, caption) for file, caption in section.files)
        lines = "".join(f"<li>{html.escape(line)}</li>" for line in section.lines)
        parts.append(
            f"<section><h2>{html.escape(section.title)}</h2><p>{html.escape(section.text)}</p>"
            f"<pre>{html.escape(section.command)}</pre><ul>{lines}</ul>"
            f'<div class="row">{figures}</div></section>'
        )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>warpkit demo</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 1rem auto; padding: 0 1rem;
  color: #1c2330; }}
h1 {{ margin: 0 0 .5rem; font-size: 1.6rem; }}
h2 {{ margin: 2rem 0 .5rem; }}
figure {{ margin: 0; }}
figure > div {{ position: relative; }}
img, video {{ display: block; max-width: 100%; border-radius: 4px; }}
figcaption {{ color: #5a6472; font-size: .9rem; }}
.results {{ display: grid; gap: 1rem; }}
.results img, .results video {{ width: 100%; }}
.results .before {{ position: absolute; inset: 0; opacity: 0; transition: opacity .2s; }}
.results figure:only-child img {{ width: auto; max-height: 75vh; }}
.results div:hover > .before {{ opacity: 1; }}
@media (min-width: 50rem) {{
  .results {{ grid-template-columns: 1.75fr 1fr; }}
  .results figure:first-child {{ grid-row: 1 / 3; }}
  .results figure:only-child {{ grid-column: 1 / 3; }}
}}
.row {{ display: flex; flex-wrap: wrap; gap: 1rem; }}
.row figure:not(:last-child) img {{ max-height: 17rem; }}
pre {{ background: #f2f4f7; padding: .6rem .8rem; border-radius: 4px; overflow-x: auto; }}
</style>
<h1>warpkit demo</h1>
<div class="results">{results}</div>
{"".join(parts)}
<p>Times on this machine: {html.escape(times)}.</p>
</html>
"""
