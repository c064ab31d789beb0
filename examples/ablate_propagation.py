"""What each setting of label propagation does to J and F on annotated clips: a Markdown table.

    python examples/ablate_propagation.py DAVIS --model tiny -o table.md

The first rows leave out parts of the defaults (`LabelConfig`); from "context alone" on, every row
changes one setting of that one, so rows compare with it. Every
frame is described once per model and size; a row that is in the output's `.jsonl` already is not
run again, so a stopped run goes on. `--steps N` adds a row with N calls of a diffusion model, mixed
by an aggregator that was trained on them (`warpkit train aggregator --set layer_steps=[0,1,2]`).
"""

import argparse
import hashlib
import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from scripts import errors_in_one_line

from warpkit.datasets.davis import DavisSequence, read_davis, read_davis_labels
from warpkit.describe.extractor import Extractor
from warpkit.describe.load import load_extractor
from warpkit.evaluate.jaccard import SequenceScore, score_sequence
from warpkit.features.foreground import ForegroundModel
from warpkit.io.images import read_image
from warpkit.io.whole import write_text
from warpkit.propagate import LabelConfig, LabelPropagator
from warpkit.types import DescriptorMap

DEFAULTS = LabelConfig()
# The labels of the context alone: what the settings before them are compared on.
CONTEXT = replace(DEFAULTS, ridge=0, ridge_similarity=0, objectness=0, top_k=15, colour=2)
ROWS: list[tuple[str, LabelConfig]] = [("defaults", DEFAULTS)]
ROWS += [("no look at objects", replace(DEFAULTS, objectness=0))]
ROWS += [("no model of objects", replace(DEFAULTS, ridge=0, ridge_similarity=0))]
ROWS += [("its scores in similarities alone", replace(DEFAULTS, ridge=0))]
ROWS += [("its scores beside labels alone", replace(DEFAULTS, ridge_similarity=0))]
ROWS += [("neither model nor look", replace(DEFAULTS, ridge=0, ridge_similarity=0, objectness=0))]
ROWS += [("context alone", CONTEXT)]
ROWS += [(f"context {n}", replace(CONTEXT, context=n)) for n in (0, 2, 4, 14)]
ROWS += [(f"top-k {k}", replace(CONTEXT, top_k=k)) for k in (5, 10, 30)]
ROWS += [(f"temperature {t}", replace(CONTEXT, temperature=t)) for t in (0.05, 0.2)]
ROWS += [(f"window {r}", replace(CONTEXT, radius=r)) for r in (0.1, 0.15, 0.3)]
ROWS += [("annotated frame windowed", replace(CONTEXT, window_annotated=True))]
ROWS += [(f"annotated bias {b:g}", replace(CONTEXT, annotated_bias=b)) for b in (0, 0.05, 0.2, 0.4)]
ROWS += [(f"colour {c:g}", replace(CONTEXT, colour=c)) for c in (0, 0.5, 1, 4)]
ROWS += [(f"{c or 'all'} channels", replace(CONTEXT, channels=c)) for c in (0, 32, 64)]
ROWS += [(f"sharpening {s:g}", replace(CONTEXT, sharpen=s)) for s in (0, 0.0125, 0.05)]
ROWS += [("neither colour nor sharpening", replace(CONTEXT, colour=0, sharpen=0))]
ROWS += [("context of decided labels", replace(CONTEXT, harden=True))]
ROWS += [("rescaled", replace(CONTEXT, rescale=True))]
FINER = ("grid x 2 in each direction", replace(CONTEXT, refine=2))


def score(
    sequence: DavisSequence, maps: list[DescriptorMap], config: LabelConfig
) -> tuple[SequenceScore, float]:
    """The score of one sequence and the seconds a frame, descriptors excluded."""
    year = sequence.known_year()
    first = read_davis_labels(sequence.mask_paths[0], year=year)
    ids = [int(i) for i in np.unique(first) if i > 0]
    device = maps[0].data.device
    look = ForegroundModel(device).at_box if config.objectness else None
    propagator = LabelPropagator(config, ids, look=look)
    images = [read_image(path) for path in sequence.frame_paths]
    started = time.perf_counter()
    propagator.annotate(maps[0], first, images[0])
    steps = zip(maps[1:], images[1:], strict=True)
    labels = [first, *(propagator.step(found, image).labels for found, image in steps)]
    seconds = (time.perf_counter() - started) / len(labels)
    return score_sequence(labels, sequence.labels()), seconds


def described(extractor: Extractor, sequence: DavisSequence) -> list[DescriptorMap]:
    """Descriptors of every frame."""
    maps: list[DescriptorMap] = []
    for start in range(0, len(sequence.frame_paths), 4):
        images = [read_image(path) for path in sequence.frame_paths[start : start + 4]]
        maps += extractor.describe(images)
    return maps


def main() -> None:
    """Score every row and print the table."""
    parser = argparse.ArgumentParser(description="Ablation of label propagation.")
    parser.add_argument("root", type=Path, help="folder with JPEGImages and Annotations")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.md")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--aggregator", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--sizes", type=int, nargs="+", help="input sizes; the first is default")
    parser.add_argument("--steps", type=int, help="also so many calls of a diffusion model")
    parser.add_argument("--steps-aggregator", type=Path, help="that reads these steps")
    parser.add_argument("--finer", action="store_true", help="also a grid twice as fine (slow)")
    parser.add_argument("--sequences", nargs="+")
    parser.add_argument("--rows", nargs="+", help="names of rows, such as 'top-k 5'")
    errors_in_one_line()
    args = parser.parse_args()
    if (args.steps is None) != (args.steps_aggregator is None):
        parser.error("--steps and --steps-aggregator, one that was trained on them, go together")
    rows = [*ROWS, *([FINER] if args.finer else [])]
    if args.rows:
        rows = [row for row in rows if row[0] in args.rows]
    sequences, problems = read_davis(args.root, sequences=args.sequences, year=None)
    for problem in problems:
        print(f"left out: {problem}")

    runs: list[tuple[dict[str, object], list[tuple[str, LabelConfig]]]] = []
    sizes = args.sizes or [None]
    runs.append(({"size": sizes[0], "aggregator": args.aggregator}, rows))
    for size in sizes[1:]:
        given = {"size": size, "aggregator": args.aggregator}
        runs.append((given, [(f"input {size}", CONTEXT)]))
    if args.steps:
        name = f"{args.steps} inversion steps"
        taken = {"size": sizes[0], "steps": tuple(range(args.steps)), "num_steps": 50}
        taken["aggregator"] = args.steps_aggregator
        runs.append((taken, [(name, CONTEXT)]))

    log = args.output.with_suffix(".jsonl")
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    known = [json.loads(line) for line in lines]
    results = {}
    names = []
    for options, chosen in runs:
        extractor = None
        # Rows count as known if they were made by the same model, aggregator, size and steps; rows
        # of an earlier version do not say what made them.
        by = ", ".join([args.model, *(f"{key} {named(value)}" for key, value in options.items())])
        results |= {(r["row"], r["sequence"]): r for r in known if r.get("by") == by}
        for sequence in sequences:
            todo = [row for row in chosen if (row[0], sequence.name) not in results]
            if not todo:
                continue
            extractor = extractor or load_extractor(args.model, device=args.device, **options)
            maps = described(extractor, sequence)
            for name, config in todo:
                found, seconds = score(sequence, maps, config)
                result = {
                    "by": by,
                    "row": name,
                    "sequence": sequence.name,
                    "J": found.per_object[:, 0].tolist(),
                    "F": found.per_object[:, 1].tolist(),
                    "seconds": seconds,
                    "config": asdict(config),
                }
                results[name, sequence.name] = result
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(result) + "\n")
                print(f"{name}, {sequence.name}: J {found.J:.3f} F {found.F:.3f}", flush=True)
        names += [name for name, _ in chosen]
    write_text(args.output, table(args.model, names, [s.name for s in sequences], results))
    print(args.output.read_text(encoding="utf-8"))


def named(value: object) -> str:
    """An option; a file by its content."""
    if isinstance(value, Path):
        return hashlib.sha256(value.read_bytes()).hexdigest()[:12]
    return str(value)


def table(model: str, names: list[str], sequences: list[str], results: dict) -> str:
    """Means over objects, and J&F of every sequence."""
    lines = [
        f"| {model} | J | F | J&F | seconds a frame | {' | '.join(sequences)} |",
        "|" + "---|" * (5 + len(sequences)),
    ]
    for name in names:
        rows = [results[name, sequence] for sequence in sequences]
        region = [value for row in rows for value in row["J"]]
        border = [value for row in rows for value in row["F"]]
        each = [f"{(np.mean(row['J']) + np.mean(row['F'])) / 2:.3f}" for row in rows]
        cells = [f"{np.mean(region):.3f}", f"{np.mean(border):.3f}"]
        cells += [f"{(np.mean(region) + np.mean(border)) / 2:.3f}"]
        cells += [f"{np.mean([row['seconds'] for row in rows]):.2f}", *each]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
