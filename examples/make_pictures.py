"""Make every picture of README and docs anew whose inputs changed: `make gallery`.

    python examples/make_pictures.py
    python examples/make_pictures.py --only gallery readme      # these, changed or not
    python examples/make_pictures.py --record synthesis         # made already, by its commands
    python examples/make_pictures.py --list                     # what has changed

Beside the pictures lies `docs/images/pictures.json`, which says what each group was made from: a
hash of its inputs, of the pictures, and the `results` of the program on a few small inputs.
`tests/test_pictures.py` fails when one of them is not as it is there.

Inputs of a group are the bytes of its scripts, of the pictures, clips, configurations and weights
that they read, and the default settings of the tasks that they run. The code below is not: it may
be moved and reworded. What it computes is, by `small_results`.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scripts import errors_in_one_line

from warpkit import MatchSettings, PropagateSettings, WarpSettings
from warpkit.demo import CLIP, SAMPLES, SOURCE, STRIDE, TARGET
from warpkit.describe.options import ModelOptions
from warpkit.image.inspect import run_inspect
from warpkit.image.match import run_match
from warpkit.image.warp import run_warp
from warpkit.io.images import read_image, write_image
from warpkit.io.whole import write_json
from warpkit.synthesize.config import PairSettings
from warpkit.video.run import run_propagate

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs/images"
RECORD = IMAGES / "pictures.json"

EXAMPLES, WEIGHTS = "examples", "warpkit/weights"
TINY = (f"{WEIGHTS}/tiny-unet.safetensors", f"{WEIGHTS}/tiny-aggregator.safetensors")
EMBEDDED = (*TINY, f"{WEIGHTS}/efficientnet-lite0-aggregator.safetensors")
FOREGROUND = f"{WEIGHTS}/foreground-head.safetensors"
CLASSES = ("airplanes", "Faces", "Motorbikes", "car", "dog", "cat", "Leopards", "n03394916")

# Results of `small_results` are means of this many rows and columns of blocks, 0 to 255.
BLOCKS = 6, 8
# Blocks differ by less between machines, and by more where the eye sees a difference.
SAME = 4


@dataclass(frozen=True)
class Group:
    """Pictures that are made together.

    Attributes:
        commands: what makes them, as arguments of Python; `{out}` is an empty folder.
        pictures: files of docs/images that appear, by what they are called in `{out}`.
        inputs: files and folders below the project that they are made from.
        settings: default settings that count.
        results: those of `small_results` that concern them.
        page: a document that is made as well, by what it is called in `{out}`.
    """

    commands: tuple[tuple[str, ...], ...]
    pictures: dict[str, str]
    inputs: tuple[str, ...]
    settings: tuple[Any, ...] = ()
    results: tuple[str, ...] = ()
    page: str | None = None


def _script(name: str, *arguments: str) -> tuple[str, ...]:
    return (f"{EXAMPLES}/{name}", *arguments)


_GALLERY = (
    *("photographs.png", "warp.png", "splat.png", "matches.png", "scored.png", "similarity.png"),
    *("contact_sheet.png", "confidence.svg", "mixing.png", "pca.png"),
)
_TASKS = (ModelOptions(), WarpSettings(), PropagateSettings(), MatchSettings())

GROUPS = {
    "readme": Group(
        commands=(_script("make_readme_pictures.py", "-o", "{out}"),),
        pictures={name: name for name in ("photographs.jpg", "propagation.gif")},
        inputs=(f"{EXAMPLES}/make_readme_pictures.py", "warpkit/samples", *EMBEDDED, FOREGROUND),
        settings=_TASKS,
        results=("warp", "propagate"),
    ),
    "gallery": Group(
        commands=(_script("make_gallery.py", "-o", "{out}"),),
        pictures={f"gallery/{name}": f"images/gallery/{name}" for name in _GALLERY},
        inputs=(f"{EXAMPLES}/make_gallery.py", "warpkit/samples", *EMBEDDED, FOREGROUND),
        settings=_TASKS,
        results=("warp", "propagate", "match", "inspect"),
        page="gallery.md",
    ),
    "cells": Group(
        commands=(_script("draw_surviving_cells.py", "-o", "{out}/surviving-cells.png"),),
        pictures={"surviving-cells.png": "surviving-cells.png"},
        inputs=(f"{EXAMPLES}/draw_surviving_cells.py", *TINY),
    ),
    "samples": Group(
        commands=(
            _script(
                *("generate.py", "-o", "{out}", "--height", "96", "--count", "4"),
                *("--classes", *CLASSES),
            ),
        ),
        pictures={"samples.png": "samples.png"},
        inputs=(f"{EXAMPLES}/generate.py", TINY[0]),
    ),
    "synthesis": Group(  # some ten minutes of processor time
        commands=(
            ("-m", "warpkit", "synthesize", "-c", "configs/synth_tiny.yaml", "-o", "{out}/synth"),
            _script("draw_synthesis.py", "{out}/synth", "-o", "{out}"),
        ),
        pictures={name: name for name in ("synth-sheet.png", "synth-precision.png")},
        inputs=("configs/synth_tiny.yaml", f"{EXAMPLES}/draw_synthesis.py", *EMBEDDED),
        settings=(PairSettings(),),
    ),
    "benchmarks": Group(
        commands=(_script("draw_benchmarks.py", "-o", "{out}"),),
        pictures={name: name for name in ("bench-cpu.png", "bench-h200.png")},
        inputs=(f"{EXAMPLES}/draw_benchmarks.py", "docs/benchmarks.md"),
    ),
}


def main() -> None:
    """Make what has to be made, and say what."""
    parser = argparse.ArgumentParser(description="Make the pictures of README and docs.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--only", nargs="+", choices=GROUPS, help="these, changed or not")
    what.add_argument("--record", nargs="+", choices=GROUPS, help="pictures as they are there")
    what.add_argument("--list", action="store_true", help="print what has changed, make nothing")
    errors_in_one_line()
    arguments = parser.parse_args()
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    results = small_results()
    changed = stale(record, results)
    for name in arguments.only or arguments.record or changed:
        print(f"{name}: {changed.get(name, 'asked for')}", flush=True)
        if arguments.list:
            continue
        if not arguments.record:
            make(GROUPS[name])
        record[name] = facts(GROUPS[name], results)
        write_json(RECORD, {known: record[known] for known in GROUPS if known in record})
    if not (changed or arguments.only or arguments.record):
        print("every picture is as today's program makes it")


def stale(record: dict[str, Any], results: dict[str, list[str]]) -> dict[str, str]:
    """The groups that have to be made anew, each with the reason.

    Args:
        record: what `pictures.json` says.
        results: of `small_results`, today.
    """
    reasons: dict[str, str] = {}
    for name, group in GROUPS.items():
        known = record.get(name)
        if known is None:
            reasons[name] = "was never made"
        elif known["inputs"] != inputs_hash(group):
            reasons[name] = "an input changed (scripts, pictures, weights or default settings)"
        elif known["pictures"] != picture_hashes(group):
            reasons[name] = "a picture is not the one that was made"
        elif known.get("results", {}).keys() != set(group.results):
            reasons[name] = "what is computed for it was never recorded"
        elif any(differ(known["results"][one], results[one]) for one in group.results):
            reasons[name] = "the program computes something else"
    return reasons


def differ(before: list[str], now: list[str]) -> bool:
    """Whether small results are not the same to the eye."""
    if list(map(len, before)) != list(map(len, now)):
        return True
    values = [np.frombuffer(bytes.fromhex("".join(rows)), np.uint8) for rows in (before, now)]
    return bool(np.abs(values[0].astype(int) - values[1]).max() > SAME)


def inputs_hash(group: Group) -> str:
    """Of the files that pictures are made from, and of default settings."""
    found = hashlib.sha256()
    for name in group.inputs:
        path = ROOT / name
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for file in files:
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            found.update(f"{file.relative_to(ROOT).as_posix()} {content}\n".encode())
    for settings in group.settings:
        values = json.dumps(dataclasses.asdict(settings), sort_keys=True, default=str)
        found.update(f"{type(settings).__name__} {values}\n".encode())
    found.update(json.dumps(group.commands).encode())
    return found.hexdigest()


def picture_hashes(group: Group) -> dict[str, str]:
    """Of the pictures as they are, and of the page that goes with them; empty for what is not."""
    files = {name: IMAGES / name for name in group.pictures}
    if group.page is not None:
        files[group.page] = ROOT / "docs" / group.page
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for name, path in files.items()
    }


def make(group: Group) -> None:
    """Make the pictures of a group and put them into docs."""
    with tempfile.TemporaryDirectory() as folder:
        for command in group.commands:
            filled = [part.format(out=folder) for part in command]
            subprocess.run([sys.executable, *filled], cwd=ROOT, check=True)
        for name, place in group.pictures.items():
            (IMAGES / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(folder) / place, IMAGES / name)
        if group.page is not None:
            shutil.copyfile(Path(folder) / group.page, ROOT / "docs" / group.page)


def facts(group: Group, results: dict[str, list[str]]) -> dict[str, Any]:
    """From what the pictures of a group were made, as `pictures.json` has it."""
    known: dict[str, Any] = {"inputs": inputs_hash(group), "pictures": picture_hashes(group)}
    mine = {name: results[name] for name in group.results}
    return known | ({"results": mine} if mine else {})


def small_results() -> dict[str, list[str]]:
    """What the program makes today of small inputs, by task: mean colours of blocks, one text per
    picture.

    Two photographs warped, objects found by themselves; a mask and an edit three frames on; a point
    matched; and what a model sees. By the models of the gallery on little pictures, in seconds.
    """
    options = ModelOptions(device="cpu", size=96)
    describer = options.load_extractor()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for photograph in (SOURCE, TARGET):
            small = _smaller(read_image(photograph), 3)
            write_image(folder / f"{photograph.stem}.png", small)
        pair = [folder / f"{photograph.stem}.png" for photograph in (SOURCE, TARGET)]
        run_warp(*pair, folder / "warp", options=options, describer=describer)
        out = run_propagate(
            SAMPLES / f"{CLIP}.mp4",
            folder / "clip",
            mask=SAMPLES / CLIP / "masks/00000.png",
            edit=SAMPLES / CLIP / "edited_00000.png",
            end=4 * STRIDE,
            stride=STRIDE,
            options=options,
            describer=describer,
        )
        drawn = {name: folder / f"{name}.png" for name in ("picture", "similarity")}
        height, width = read_image(pair[0]).shape[:2]
        middle = [[width // 2, height // 2]]
        run_match(*pair, middle, **drawn, options=options, describer=describer)
        single = ModelOptions(model="tiny", device="cpu", size=96)
        shown = {
            "warp": [folder / "warp/composite.png", folder / "warp/overview.png"],
            "propagate": [out / "frames" / f"{3 * STRIDE:05d}.png", out / "contact_sheet.png"],
            "match": [*drawn.values()],
            "inspect": run_inspect(pair[1:], folder / "inspect", options=single),
        }
        return {
            task: [_blocks(read_image(path)) for path in paths] for task, paths in shown.items()
        }


def _smaller(image: np.ndarray, times: int) -> np.ndarray:
    """Means of `times` x `times` pixels."""
    height, width = (side // times for side in image.shape[:2])
    blocks = image[: height * times, : width * times].reshape(height, times, width, times, 3)
    return blocks.mean(axis=(1, 3)).round().astype(np.uint8)


def _blocks(image: np.ndarray) -> str:
    """Mean colours of the BLOCKS of an image, row by row, as hexadecimal bytes."""
    rows = np.array_split(image.astype(float), BLOCKS[0])
    blocks = [block for row in rows for block in np.array_split(row, BLOCKS[1], axis=1)]
    return b"".join(bytes(b.mean(axis=(0, 1)).round().astype(np.uint8)) for b in blocks).hex()


if __name__ == "__main__":
    main()
