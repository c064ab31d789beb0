"""The demo: a warped pair and a propagated clip, scored against the renderer's exact truth.

In: nothing, or the user's own pair. Out: a folder with pictures, videos and an `index.html`.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from warpkit.arrays import Image
from warpkit.checks import one_of, require
from warpkit.describe.options import ModelOptions, TaskSettings
from warpkit.evaluate.baselines import copy_first_labels
from warpkit.evaluate.jaccard import score_sequence
from warpkit.image.warp import WarpResult, run_warp
from warpkit.io.images import read_image, write_image
from warpkit.io.masks import read_labels, write_labels
from warpkit.io.video import VideoWriter
from warpkit.io.whole import write_json
from warpkit.render import CLIPS, RenderedFrame, render_frame, render_image, render_pair
from warpkit.runs.clock import Stopwatch
from warpkit.runs.folder import OutputFolder, run_record
from warpkit.runs.progress import Bar
from warpkit.video.run import run_propagate
from warpkit.viz import panel

__all__ = ["DemoSettings", "run_demo"]


@dataclass(frozen=True, kw_only=True)
class DemoSettings(TaskSettings):
    """What the demo shows.

    Attributes:
        clip: which rendered clip is propagated through (see `videos/README.md`).
        frames: how many frames of it.
    """

    clip: str = "fish"
    frames: int = 24


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
    one_of(settings.clip, CLIPS, "clip")
    require(
        2 <= settings.frames <= CLIPS[settings.clip].frames,
        f"frames must lie in 2..{CLIPS[settings.clip].frames}, got {settings.frames}",
    )
    clock = Stopwatch()
    with OutputFolder(output, overwrite=overwrite) as folder:
        if images:
            sections = [_own_pair(folder, images, (source_mask, target_mask), options, clock)]
        else:
            sections = [
                _pair(folder, settings, options, clock),
                _clip(folder, settings, options, clock),
            ]
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
class _Section:
    """One part of the page: files relative to it, with captions, and what was measured."""

    title: str
    text: str
    files: tuple[tuple[str, str], ...]
    lines: tuple[str, ...]
    commands: tuple[str, ...]


def _warp_files(
    folder: OutputFolder,
    source: Path,
    target: Path,
    masks: tuple[Path | None, Path | None],
    options: ModelOptions,
    clock: Stopwatch,
) -> WarpResult:
    with clock.stage("warp the pair"):
        return run_warp(
            source,
            target,
            folder.file("pair/warp"),
            source_mask=masks[0],
            target_mask=masks[1],
            options=options,
        )


def _own_pair(
    folder: OutputFolder,
    images: Sequence[Path],
    masks: tuple[Path | None, Path | None],
    options: ModelOptions,
    clock: Stopwatch,
) -> _Section:
    result = _warp_files(folder, images[0], images[1], masks, options, clock)
    valid, shown = result.warp.valid, int((result.warped[..., 3] > 0).sum())
    similarity = float(result.warp.similarity[valid].mean()) if bool(valid.any()) else 0.0
    command = f"warpkit warp {images[0]} {images[1]} -o out"
    for flag, mask in zip(("--source-mask", "--target-mask"), masks, strict=True):
        command += "" if mask is None else f" {flag} {mask}"
    hint = (
        ""
        if masks[0] and masks[1]
        else " Masks of the objects (--source-mask, --target-mask) restrict the warp to them."
    )
    return _Section(
        "Your pair",
        f"{images[0].name} warped onto {images[1].name}.{hint}",
        (
            ("pair/warp/composite.png", "the target in the source's appearance"),
            ("pair/warp/overview.png", "inputs, field and similarity"),
        ),
        (f"pair: {shown} pixels, mean similarity {similarity:.3f}",),
        (command,),
    )


def _pair(
    folder: OutputFolder, settings: DemoSettings, options: ModelOptions, clock: Stopwatch
) -> _Section:
    """Warp a repainted object of one rendered frame onto a later frame."""
    with clock.stage("render"):
        source, target = render_pair(0, name=settings.clip, restyled=True)
    for name, frame in (("source", source), ("target", target)):
        write_image(folder.file(f"pair/{name}.png"), frame.image)
        write_labels(folder.file(f"pair/{name}_mask.png"), frame.labels)
    result = _warp_files(
        folder,
        folder.file("pair/source.png"),
        folder.file("pair/target.png"),
        (folder.file("pair/source_mask.png"), folder.file("pair/target_mask.png")),
        options,
        clock,
    )
    error = _field_error(result, source, target)
    diagonal = _box_side(target.labels > 0)
    within = 100 * float((error <= 0.1 * diagonal).mean())
    still = np.linalg.norm(_pixels(target) - target.source_xy, axis=-1)[_scored(source, target)]
    return _Section(
        "A warped pair",
        "The repainted object of an earlier frame is warped onto the same object in a later one,"
        " inside both masks, along a field that is solved whole.",
        (
            ("pair/source.png", "source"),
            ("pair/target.png", "target"),
            ("pair/warp/composite.png", "the target in the source's appearance"),
            ("pair/warp/overview.png", "inputs, field and similarity"),
        ),
        (
            f"pair: median end-point error {np.median(error):.1f} px"
            f" (no motion at all: {np.median(still):.1f} px), {within:.0f} % of the object's pixels"
            " within a tenth of its size",
        ),
        (
            "warpkit warp pair/source.png pair/target.png --source-mask pair/source_mask.png"
            " --target-mask pair/target_mask.png -o out",
        ),
    )


def _clip(
    folder: OutputFolder, settings: DemoSettings, options: ModelOptions, clock: Stopwatch
) -> _Section:
    """Propagate the first mask and an edit of the first frame through a rendered clip."""
    spec = CLIPS[settings.clip]
    truth: list[npt.NDArray[np.uint8]] = []
    repainted: list[Image] = []
    video = folder.file("clip/clip.mp4")
    with (
        clock.stage("render"),
        VideoWriter(
            video, height=spec.height, width=spec.width, frame_rate=spec.frame_rate
        ) as writer,
    ):
        for t in Bar(range(settings.frames), desc="render", unit="frame"):
            frame = render_frame(spec, t)
            writer.write(frame.image)
            truth.append(frame.labels)
            repainted.append(render_image(spec, t, edited=True))
    mask, edit = folder.file("clip/mask.png"), folder.file("clip/edit.png")
    write_labels(mask, truth[0])
    # The edit is a layer: what the repainted frame shows inside the object.
    write_image(edit, np.dstack([repainted[0], (truth[0] > 0).astype(np.uint8) * 255]))
    results = folder.file("clip/propagated")
    with clock.stage("propagate the clip"):
        run_propagate(video, results, mask=mask, edit=edit, options=options)
    predicted = [read_labels(results / f"masks/{t:05d}.png") for t in range(settings.frames)]
    ours = score_sequence(predicted, truth, all_frames=True)
    copied = score_sequence(
        copy_first_labels(truth[0], frames=settings.frames), truth, all_frames=True
    )
    assert ours.J is not None and copied.J is not None
    colour = _colour_error(results, truth, repainted)
    strip = [0, settings.frames // 3, 2 * settings.frames // 3, settings.frames - 1]
    tiles = [
        (f"propagated edit, frame {t}", read_image(results / f"frames/{t:05d}.png")) for t in strip
    ]
    tiles += [(f"true edit, frame {t}", repainted[t]) for t in strip]
    write_image(folder.file("clip/contact.png"), panel(tiles, columns=len(strip), height=160))
    return _Section(
        "A propagated clip",
        "The first frame's mask and its repainted object are propagated through the clip.",
        (
            ("clip/propagated/overlay.mp4", "the propagated mask"),
            ("clip/propagated/edited.mp4", "the propagated edit"),
            ("clip/contact.png", "the propagated edit above the renderer's own"),
        ),
        (
            f"mask: J {ours.J:.3f} against the exact masks"
            f" (copying the first mask: {copied.J:.3f})",
            f"edit: mean colour error inside the object {colour:.1f} of 255 against the renderer's"
            " own repainted clip",
        ),
        ("warpkit propagate clip/clip.mp4 --mask clip/mask.png --edit clip/edit.png -o out",),
    )


def _pixels(frame: RenderedFrame) -> npt.NDArray[np.float32]:
    height, width = frame.labels.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([x, y], axis=-1)


def _scored(source: RenderedFrame, target: RenderedFrame) -> npt.NDArray[np.bool_]:
    """Object pixels of the target whose point the source shows."""
    return (target.labels > 0) & target.visible


def _field_error(
    result: WarpResult, source: RenderedFrame, target: RenderedFrame
) -> npt.NDArray[np.float32]:
    """Distance in pixels between the field and the renderer's exact one."""
    scored = _scored(source, target) & result.warp.valid.numpy()
    found = result.warp.source_xy.numpy()
    return np.linalg.norm(found - target.source_xy, axis=-1)[scored].astype(np.float32)


def _box_side(mask: npt.NDArray[np.bool_]) -> int:
    rows, columns = np.nonzero(mask)
    return int(max(np.ptp(rows), np.ptp(columns))) + 1


def _colour_error(
    results: Path, truth: Sequence[npt.NDArray[np.uint8]], repainted: Sequence[Image]
) -> float:
    """Mean absolute colour difference inside the object, frames after the first."""
    errors = []
    for t in range(1, len(truth)):
        shown = read_image(results / f"frames/{t:05d}.png").astype(np.int16)
        inside = truth[t] > 0
        errors.append(np.abs(shown - repainted[t].astype(np.int16))[inside].mean())
    return float(np.mean(errors))


def _page(sections: Sequence[_Section], times: str) -> str:
    """A page without scripts or outside requests."""
    parts = []
    for section in sections:
        figures = []
        for file, caption in section.files:
            if file.endswith(".mp4"):
                media = f'<video src="{html.escape(file)}" controls loop muted autoplay></video>'
            else:
                media = f'<img src="{html.escape(file)}" alt="{html.escape(caption)}">'
            figures.append(
                f"<figure>{media}<figcaption>{html.escape(caption)}</figcaption></figure>"
            )
        lines = "".join(f"<li>{html.escape(line)}</li>" for line in section.lines)
        commands = "".join(f"<pre>{html.escape(line)}</pre>" for line in section.commands)
        parts.append(
            f"<section><h2>{html.escape(section.title)}</h2><p>{html.escape(section.text)}</p>"
            f"<div>{''.join(figures)}</div><ul>{lines}</ul>{commands}</section>"
        )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>warpkit demo</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c2330; }}
section > div {{ display: flex; flex-wrap: wrap; gap: 1rem; }}
figure {{ margin: 0; }}
img, video {{ max-width: 100%; border-radius: 4px; }}
figcaption {{ color: #5a6472; font-size: .9rem; }}
pre {{ background: #f2f4f7; padding: .6rem .8rem; border-radius: 4px; overflow-x: auto; }}
</style>
<h1>warpkit demo</h1>
{"".join(parts)}
<p>Times on this machine: {html.escape(times)}.</p>
</html>
"""
