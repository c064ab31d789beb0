"""Hashes of what a fixed set of small jobs writes: the same before and after a change that is to
change nothing.

    python examples/hash_results.py before.json
    (change the code)
    python examples/hash_results.py after.json --compare before.json

Jobs run with the model `tiny` on clips that this project renders, on one thread. Left out of the
hashes is what differs from run to run: times, memory, versions, paths.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from safetensors.torch import load_file
from scripts import errors_in_one_line

from warpkit.cli.main import main as warpkit
from warpkit.io.images import write_image
from warpkit.io.masks import write_labels
from warpkit.render import CLIPS, render_frame
from warpkit.synthesize.browse import write_rendered_set

# Keys of run.json and its like that differ from run to run.
PASSING = re.compile(
    r"(^|_)(seconds?|times?|timings?|stages|files|memory|mb|versions?|machine|host|platform|python"
    r"|torch|path|date|threads|cpu|commands?|output|argv|folder|root|cache|commit|started|finished"
    r"|fps|speed)(_|$)"
)
SKIPPED = re.compile(r"^(SHA256SUMS|state\.pt|events\..*)$")  # of files that hold times
PRINTS = ("match", "match_auto")  # jobs that print what others write
SYNTHESIS = """
pairs: 4
batch: 2
size: 32
generation: {steps: 2, guidance: 1.0, variant: image}
masks: {kind: whole}
labels: {points: 8, least: 1, filters: {cycle: 0, ratio: null, coherence: 0.9}}
quality: {images: 2, sheets: 1}
splits: {val: 0.25, test: 0.25}
"""
TRAINING = """
pairs: [{synth: pairs, count: 2}]
backbone: tiny
layer_steps: [0]
num_steps: 50
width: 16
bottleneck: 8
groups: 4
order: bottleneck-first
size: 64
steps: 3
"""


def inputs(folder: Path, names: list[str]) -> None:
    """What jobs read: a clip of eight frames with masks and an edit, and two sets."""
    spec = replace(CLIPS["fish"], height=96, width=160)
    clip, davis = folder / "clip", folder / "davis"
    clip.mkdir()
    for part in ("JPEGImages", "Annotations"):
        (davis / part / "480p/fish").mkdir(parents=True)
    for t in range(8):
        frame = render_frame(spec, 2 * t)
        write_image(clip / f"{t:05d}.png", frame.image)
        write_image(davis / f"JPEGImages/480p/fish/{t:05d}.jpg", frame.image)
        write_labels(davis / f"Annotations/480p/fish/{t:05d}.png", frame.labels)
        if t in (0, 4):
            write_labels(folder / f"mask_{t}.png", frame.labels)
    write_image(folder / "edit.png", render_frame(spec, 0, edited=True).image)
    (folder / "synthesis.yaml").write_text(SYNTHESIS)
    (folder / "training.yaml").write_text(TRAINING)
    if {"pck", "pck_auto", "train"} & set(names):
        write_rendered_set(folder / "pairs", count=4, points=6)


def jobs() -> dict[str, list[str]]:
    """Arguments of every job, by the folder that it writes."""
    first, later = "clip/00000.png", "clip/00004.png"
    masks = ["--source-mask", "mask_0.png", "--target-mask", "mask_4.png"]
    points = ["--points", "60,40;80,50"]
    tiny = ["--model", "tiny", "--device", "cpu", "--size", "64"]
    return {
        "warp": ["warp", first, later, *masks, "--guide", "60,45>70,45", *tiny],
        "warp_nearest": ["warp", first, later, *masks, "--field", "nearest", *tiny],
        "match": ["match", first, later, *points, *tiny],
        "match_auto": ["match", first, later, *points, "--field", "auto", *tiny],
        "masks": ["propagate", "clip", "--mask", "mask_0.png", "--export", "png", *tiny],
        "backward-warp": [
            "propagate",
            "clip",
            "--mask",
            "mask_0.png",
            "--mode",
            "backward-warp",
            *tiny,
        ],
        "all": [
            *("propagate", "clip", "--mask", "mask_0.png", "--mask", "4=mask_4.png"),
            *("--edit", "edit.png", *points, *tiny),
        ],
        "forward-warp": [
            *("propagate", "clip", "--edit", "edit.png", "--edit-mode", "forward-warp"),
            *tiny,
        ],
        "extract": ["extract", first, later, *tiny],
        "inspect": ["inspect", first, "--no-layers", *tiny],
        "pck": ["eval", "pck", "synth", "--root", "pairs", "--no-cache", *tiny],
        "pck_auto": [
            *("eval", "pck", "synth", "--root", "pairs", "--field", "auto", "--no-cache"),
            *tiny,
        ],
        "davis": ["eval", "davis", "--root", "davis", "--workers", "1", "--no-cache", *tiny],
        "synthesize": ["synthesize", "-c", "synthesis.yaml", "--model", "tiny", "--device", "cpu"],
        "train": ["train", "aggregator", "-c", "training.yaml"],
    }


def steady(value: Any) -> Any:
    """JSON without what differs from run to run."""
    if isinstance(value, dict):
        return {k: steady(v) for k, v in value.items() if not PASSING.search(k.lower())}
    if isinstance(value, str):
        return value.replace(str(Path.cwd()), "")
    return [steady(v) for v in value] if isinstance(value, list) else value


def digest(path: Path) -> str:
    """Of a file's content, without what differs from run to run."""
    sha = hashlib.sha256()
    if path.suffix in (".json", ".jsonl"):
        for part in (
            path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        ):
            sha.update(json.dumps(steady(json.loads(part)), sort_keys=True).encode())
    elif path.suffix == ".safetensors":
        for name, tensor in sorted(load_file(path).items()):
            sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            sha.update(tensor.numpy().tobytes())
    elif path.suffix == ".npz":
        with np.load(path) as arrays:
            for name in sorted(arrays.files):
                array = np.ascontiguousarray(arrays[name])
                sha.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    else:
        sha.update(path.read_bytes())
    return sha.hexdigest()[:16]


def run_jobs(folder: Path, names: list[str]) -> dict[str, str]:
    """Run jobs in a folder; hashes of their files by `job/file`."""
    found = {}
    os.chdir(folder)
    inputs(folder, names)
    for name in names:
        arguments = jobs()[name]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = warpkit([*arguments, *(() if name in PRINTS else ("-o", f"out/{name}"))])
        if code:
            sys.exit(f"{name}: exit code {code}\n{printed.getvalue()}")
        out = Path("out", name)
        if name in PRINTS:
            out.mkdir(parents=True)
            (out / "printed.txt").write_text(printed.getvalue())
        files = sorted(p for p in out.rglob("*") if p.is_file() and not SKIPPED.search(p.name))
        print(f"{name}: {len(files)} files")
        found |= {str(file.relative_to("out")): digest(file) for file in files}
    return found


def main() -> None:
    """Run, write, compare."""
    parser = argparse.ArgumentParser(description="Hash what a fixed set of small jobs writes.")
    parser.add_argument("output", type=Path, help="JSON file to write")
    parser.add_argument("--compare", type=Path, help="JSON file of an earlier run")
    parser.add_argument("--jobs", default=",".join(jobs()), help="the only ones, comma-separated")
    errors_in_one_line()
    arguments = parser.parse_args()
    chosen = arguments.jobs.split(",")
    if unknown := set(chosen) - jobs().keys():
        parser.error(
            f"no job is called {', '.join(sorted(unknown))}: there are {', '.join(jobs())}"
        )
    output = arguments.output.resolve()
    earlier = None if arguments.compare is None else json.loads(arguments.compare.read_text())
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = run_jobs(Path(folder).resolve(), chosen)
        os.chdir(output.parent)
    output.write_text(json.dumps(found, indent=1) + "\n")
    if earlier is not None:
        names = sorted(earlier.keys() | found.keys())
        other = [name for name in names if earlier.get(name) != found.get(name)]
        print("\n".join(other) or f"all {len(found)} files are the same")
        sys.exit(1 if other else 0)


if __name__ == "__main__":
    main()
