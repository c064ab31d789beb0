"""Measure propagation by stage: `warpkit bench propagate`.

In: a clip with its first mask (by default a rendered one). Out: a folder with `bench.json` and
`bench.md`: seconds a frame of every stage and peak memory, of masks, edits and points.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from warpkit.bench.match import parse_size
from warpkit.checks import one_of, require
from warpkit.describe.options import ModelOptions, TaskSettings
from warpkit.features.registry import resolve_device
from warpkit.io.frames import open_frames
from warpkit.io.images import write_image
from warpkit.io.masks import read_labels, write_labels
from warpkit.io.whole import write_json, write_text, written_together
from warpkit.render import CLIPS, render_frame
from warpkit.runs.clock import Stopwatch
from warpkit.runs.folder import OutputFolder, check_result_file, run_record
from warpkit.runs.machine import machine
from warpkit.runs.memory import PeakMemory
from warpkit.video.run import run_propagate

__all__ = ["BenchPropagateSettings", "PropagateRow", "run_bench_propagate"]

_TASKS = ("mask", "edit", "points")
_POINTS = 16


@dataclass(frozen=True, kw_only=True)
class BenchPropagateSettings(TaskSettings):
    """What is measured.

    Attributes:
        sizes: sizes of the rendered clip, pixels of a square's side or `WIDTHxHEIGHT`.
        frames: of the rendered clip, or of the given one from its start.
        tasks: what is propagated: `mask`, `edit` (with its mask), `points` (16 of the object).
    """

    sizes: tuple[str, ...] = ("854x480",)
    frames: int = 16
    tasks: tuple[str, ...] = _TASKS

    def __post_init__(self) -> None:
        require(self.frames >= 2, f"frames must be at least 2, got {self.frames}")
        require(len(self.sizes) > 0, "sizes is empty: give at least one size to measure")
        for name in self.tasks:
            one_of(name, _TASKS, "task")
        for size in self.sizes:
            parse_size(size)


@dataclass(frozen=True)
class PropagateRow:
    """One measurement.

    Attributes:
        task: `mask`, `edit` or `points`.
        device: where the model ran.
        size: [height, width] of the frames.
        frames: how many.
        seconds_per_frame: wall clock, from the first frame read to the last file written, without
            loading the model.
        cpu_seconds_per_frame: processor time for the same, of all cores together: unlike wall
            clock, it hardly depends on what else the machine does.
        stages: seconds a frame of `decode`, `describe`, `labels`, `edit`, `points`, `write` and
            `videos`. Decoding and writing go on beside the rest, so the sum may be more.
        memory_mb: most memory taken above that before the run, in MB; null where unknown.
    """

    task: str
    device: str
    size: tuple[int, int]
    frames: int
    seconds_per_frame: float
    cpu_seconds_per_frame: float
    stages: dict[str, float]
    memory_mb: float | None


def run_bench_propagate(
    output: Path | str,
    *,
    clip: Sequence[Path] = (),
    json_file: Path | None = None,
    settings: BenchPropagateSettings | None = None,
    options: ModelOptions | None = None,
    overwrite: bool = False,
) -> str:
    """Time propagation and write `bench.json` and `bench.md` into a folder.

    Args:
        clip: none, or a video (or folder of frames) and the mask of its first frame.
        json_file: a second place for the JSON.

    Returns:
        The table in Markdown.

    Raises:
        InputError: a clip without a mask, or what `OutputFolder` refuses.
    """
    settings, options = settings or BenchPropagateSettings(), options or ModelOptions()
    require(
        len(clip) in (0, 2),
        f"bench propagate takes a video and the mask of its first frame or none, got {len(clip)}",
    )
    if json_file is not None:
        check_result_file(json_file, overwrite=overwrite, inputs=clip)
    clock, rows = Stopwatch(), []
    with (
        written_together(json_file) as (second,),
        OutputFolder(output, overwrite=overwrite, inputs=clip) as folder,
        tempfile.TemporaryDirectory() as scratch,
    ):
        places = [(Path(clip[0]), Path(clip[1]))] if clip else []
        for size in () if clip else settings.sizes:
            with clock.stage("render"):
                places.append(_rendered(Path(scratch), size, settings.frames))
        for number, (video, mask) in enumerate(places):
            for task in settings.tasks:
                out = Path(scratch) / f"out-{number}-{task}"
                with clock.stage("warm up"):
                    _run(video, mask, out, task, options, frames=2)
                with clock.stage("measure"):
                    rows.append(_run(video, mask, out, task, options, frames=settings.frames))
        table = _table(rows)
        facts: dict[str, Any] = {
            "clip": [str(path) for path in clip] or "rendered clip 'fish'",
            "machine": machine(options.load_extractor().device),
            "rows": [asdict(row) for row in rows],
        }
        record = run_record("bench propagate", (options, settings), clock.seconds, facts)
        write_json(folder.file("bench.json"), record)
        write_text(folder.file("bench.md"), table + "\n")
        if second is not None:
            write_json(second, record)
    return table


def _rendered(scratch: Path, size: str, frames: int) -> tuple[Path, Path]:
    """A rendered clip as a folder of frames, and the mask of the first."""
    height, width = parse_size(size)
    spec = replace(CLIPS["fish"], height=height, width=width, supersampling=1)
    require(frames <= spec.frames, f"the rendered clip has {spec.frames} frames, not {frames}")
    folder = scratch / f"clip-{width}x{height}"
    folder.mkdir()
    for t in range(frames):
        frame = render_frame(spec, t)
        write_image(folder / f"{t:05d}.png", frame.image)
        if t == 0:
            write_labels(scratch / f"mask-{width}x{height}.png", frame.labels)
    return folder, scratch / f"mask-{width}x{height}.png"


def _run(
    video: Path,
    mask: Path,
    out: Path,
    task: str,
    options: ModelOptions,
    *,
    frames: int,
) -> PropagateRow:
    given: dict[str, Any] = {"mask": mask, "colormap": task == "edit"}
    if task == "points":
        inside = np.argwhere(read_labels(mask) > 0)[:, ::-1].astype(np.float32)
        chosen = np.linspace(0, len(inside) - 1, _POINTS).round().astype(int)
        given = {"points": inside[chosen]}
    device = resolve_device(options.device)
    with PeakMemory(device) as peak:
        describer = options.load_extractor()  # its memory counts, its time does not
        started = time.process_time()
        run_propagate(
            video,
            out,
            end=frames,
            options=options,
            overwrite=True,
            describer=describer,
            **given,
        )
        processor = time.process_time() - started
    record = _record(out)
    seconds = sum(record["timings"].values())
    stages = record["stages"]
    selected = open_frames(video, end=frames)
    return PropagateRow(
        task=task,
        device=device.type,
        size=(selected.height, selected.width),
        frames=record["frames"],
        seconds_per_frame=round(seconds / record["frames"], 4),
        cpu_seconds_per_frame=round(processor / record["frames"], 4),
        stages={name: round(spent / record["frames"], 4) for name, spent in stages.items()},
        memory_mb=None if peak.megabytes is None else round(peak.megabytes, 1),
    )


def _record(out: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return record


def _table(rows: Sequence[PropagateRow]) -> str:
    stages = list(dict.fromkeys(name for row in rows for name in row.stages))
    head = ["task", "frames", "seconds a frame", "CPU seconds", *stages, "memory, MB"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [
            row.task,
            f"{row.frames} of {row.size[1]} x {row.size[0]}",
            f"{row.seconds_per_frame:.3f}",
            f"{row.cpu_seconds_per_frame:.3f}",
            *(f"{row.stages[name]:.3f}" if name in row.stages else "" for name in stages),
            "" if row.memory_mb is None else f"{row.memory_mb:,.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
