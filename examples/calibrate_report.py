"""Fit what J the report of a propagation predicts, on annotated clips: `calibration.py`.

    python examples/calibrate_report.py DAVIS [DAVIS ...] -o warpkit/video/calibration.py

Every sequence is propagated from its first frame. What is measured on the way and the true J are
kept in `--kept FILE.jsonl`, so that a stopped run goes on and `--kept` alone is fitted in a second.
Printed, leaving out one sequence at a time: mean true and predicted J of each, the mean error of a
frame and of a clip, and how many poor (J under 0.5) and good frames (over 0.75) are listed.
"""

import argparse
import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from scripts import errors_in_one_line

import warpkit
from warpkit.checks import require
from warpkit.datasets.davis import DavisSequence, read_davis
from warpkit.evaluate.jaccard import region_similarity
from warpkit.io.frame import Frame
from warpkit.io.images import read_image
from warpkit.io.whole import write_text
from warpkit.video.predicted import INPUTS, ceiling, inputs_of
from warpkit.video.rows import frame_row

PENALTY = 0.01  # of squared coefficients, beside a mean cross entropy of 1 a frame
FAR = 3.0  # standard deviations beyond which an input says no more, as in `predicted`
POOR, GOOD = 0.5, 0.75
Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Clip:
    """A sequence: inputs (n, len(INPUTS)), true J, the most it can be and frames since, (n,)."""

    name: str
    x: Array
    y: Array
    most: Array
    distance: Array


@dataclass(frozen=True)
class Fit:
    """Means and spreads of the inputs, their coefficients, and a constant: J over the most."""

    mean: Array
    spread: Array
    coefficients: Array
    constant: float

    def predict(self, clip: Clip) -> Array:
        """J of every row of inputs."""
        odds = _scaled(clip.x, self.mean, self.spread) @ self.coefficients + self.constant
        return np.asarray(clip.most / (1 + np.exp(-odds)))


def _scaled(x: Array, mean: Array, spread: Array) -> Array:
    return np.asarray(np.nan_to_num((x - mean) / spread).clip(-FAR, FAR))


def fit(clips: Sequence[Clip]) -> Fit:
    """Ridge logistic regression of J, in which every sequence counts the same."""
    x = np.concatenate([clip.x for clip in clips])
    y = np.concatenate([(clip.y / clip.most).clip(0, 1) for clip in clips])
    weight = np.concatenate([np.full(len(c.y), 1 / len(c.y)) for c in clips]) / len(clips)
    known = np.isfinite(x) * weight[:, None]
    mean = (known * np.nan_to_num(x)).sum(axis=0) / known.sum(axis=0).clip(1e-12)
    square = (known * np.nan_to_num(x - mean) ** 2).sum(axis=0) / known.sum(axis=0).clip(1e-12)
    spread = np.sqrt(square).clip(1e-3)
    rows = np.column_stack([_scaled(x, mean, spread), np.ones(len(x))])
    penalty = PENALTY * np.diag([1.0] * x.shape[1] + [0.0])
    found = np.zeros(rows.shape[1])
    for _ in range(20):  # Newton's method
        p = 1 / (1 + np.exp(-rows @ found))
        slope = rows.T @ (weight * (p - y)) + penalty @ found
        bend = (rows * (weight * p * (1 - p))[:, None]).T @ rows + penalty
        found -= np.linalg.solve(bend, slope)
    return Fit(mean, spread, found[:-1], float(found[-1]))


def measured(model: warpkit.Model, sequence: DavisSequence) -> dict[str, Any]:
    """The rows of a sequence as a run would keep them, and the true J of its objects."""
    truth = dict(zip(sequence.annotated, sequence.labels(), strict=True))
    images = [read_image(path) for path in sequence.frame_paths]
    ids = [int(i) for i in np.unique(truth[0]) if i > 0]
    rows, scores = [], []
    for result in model.propagate(images, labels=truth[0]):
        n, labels = result.position, result.labels
        assert labels is not None
        frame = Frame(n, images[n], Fraction(n), f"{n:05d}")
        rows.append(frame_row(frame, result, ids, f"{n:05d}.png"))
        known = ids if n in truth else []
        scores.append({str(i): float(region_similarity(labels == i, truth[n] == i)) for i in known})
    return {"name": sequence.name, "rows": rows, "J": scores}


def clip_of(kept: dict[str, Any]) -> Clip:
    """What was kept, as arrays: every object in every frame that shows it."""
    x, y, most, distance = [], [], [], []
    for row, scores in zip(inputs_of(kept["rows"]), kept["J"], strict=True):
        for i in row.keys() & scores.keys():
            inputs = row[i]
            x.append([inputs.get(name, np.nan) for name in INPUTS])
            y.append(scores[i])
            most.append(ceiling(inputs))
            distance.append(np.exp(inputs["distance"]))
    return Clip(kept["name"], np.array(x), np.array(y), np.array(most), np.array(distance))


def threshold(predicted: Array, true: Array) -> float:
    """The predicted J under which frames are listed: poor ones are, good ones are not."""
    values = np.arange(0.3, 0.9, 0.005)
    poor, good = predicted[true < POOR], predicted[true > GOOD]
    require(
        min(len(poor), len(good)) > 0,
        f"{len(poor)} frames have J under {POOR}, {len(good)} over {GOOD}: what is listed lies"
        " between them, so give sequences of which some fail and some do not",
    )
    gain = [(poor < value).mean() - (good < value).mean() for value in values]
    best = values[np.isclose(gain, max(gain))]
    return float(best.mean())


def report(clips: Sequence[Clip]) -> dict[str, float]:
    """Print how well J of a left out sequence is predicted; the errors and the threshold."""
    held = [fit([c for c in clips if c is not clip]).predict(clip) for clip in clips]
    print("| sequence | true J | predicted J | error of a frame |\n|---|---|---|---|")
    for clip, p in zip(clips, held, strict=True):
        error = np.abs(p - clip.y).mean()
        print(f"| {clip.name} | {clip.y.mean():.3f} | {p.mean():.3f} | {error:.3f} |")
    p, y = np.concatenate(held), np.concatenate([clip.y for clip in clips])
    off = [abs(float(q.mean() - clip.y.mean())) for clip, q in zip(clips, held, strict=True)]
    facts = {
        "ERROR": float(np.abs(p - y).mean()),
        "CLIP_ERROR": float(np.mean(off)),
        "LISTED": threshold(p, y),
    }
    under, poor, good = p < facts["LISTED"], y < POOR, y > GOOD
    print(
        f"\nerror of a frame {facts['ERROR']:.3f}, of a clip {facts['CLIP_ERROR']:.3f} (at most"
        f" {max(off):.3f}); listed under {facts['LISTED']:.3f}: {100 * under[poor].mean():.0f} % of"
        f" {poor.sum()} frames with J under {POOR}, {100 * under[good].mean():.0f} % of"
        f" {good.sum()} over {GOOD}"
    )
    return facts


def fading(clips: Sequence[Clip]) -> tuple[float, float]:
    """J one frame from the annotated one, and what it loses with the distance's logarithm."""
    slopes = [np.polyfit(np.log(clip.distance), clip.y, 1) for clip in clips]
    fade, start = np.mean(slopes, axis=0)
    return float(start), float(-fade)


def module(clips: Sequence[Clip], facts: dict[str, float]) -> str:
    """The text of `calibration.py`."""
    all_of = fit(clips)
    x, y = np.concatenate([c.x for c in clips]), np.concatenate([c.y for c in clips])
    good = np.nanmean(x[y > GOOD], axis=0)
    columns = zip(INPUTS, all_of.mean, all_of.spread, good, all_of.coefficients, strict=True)
    table = "".join(
        f'    "{name}": ({mean:.4f}, {spread:.4f}, {best:.4f}, {weight:.4f}),\n'
        for name, mean, spread, best, weight in columns
    )
    start, fade = fading(clips)
    names = f"Fitted on {len(y)} frames of {', '.join(clip.name for clip in clips)}."
    names = textwrap.fill(names, width=99, break_on_hyphens=False)
    return f'''"""What J is predicted from: written by `examples/calibrate_report.py`.

{names}
"""

__all__ = ["CLIP_ERROR", "COEFFICIENTS", "CONSTANT", "ERROR", "FADING", "LISTED"]

COEFFICIENTS = {{
{table}}}
"""Of every input its mean, its standard deviation, its mean where J is over {GOOD}, and what a
standard deviation adds to the log odds of J in the most it can be."""

CONSTANT = {all_of.constant:.4f}
"""Log odds of J, in the most it can be, where every input is at its mean."""

ERROR, CLIP_ERROR = {facts["ERROR"]:.3f}, {facts["CLIP_ERROR"]:.3f}
"""Mean absolute error of a frame's predicted J, and of a clip's mean, in sequences left out."""

LISTED = {facts["LISTED"]:.3f}
"""Frames are listed where J is predicted to be less."""

FADING = ({start:.4f}, {fade:.4f})
"""True J in the frame beside an annotated one, and what it loses with the distance's logarithm."""
'''


def main() -> None:
    """Measure what is not kept yet, print the table, write the module."""
    parser = argparse.ArgumentParser(description="Calibration of the report.")
    parser.add_argument("roots", type=Path, nargs="*", help="folders as DAVIS has them")
    parser.add_argument("--kept", type=Path, help="file to keep what is measured in, and to read")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.py")
    errors_in_one_line()
    args = parser.parse_args()
    found: list[dict[str, Any]] = []
    if args.kept is not None and args.kept.is_file():
        found = [json.loads(line) for line in args.kept.read_text("utf-8").splitlines()]
    done = {kept["name"] for kept in found}
    todo = []
    for root in args.roots:
        sequences, problems = read_davis(root)
        todo += [sequence for sequence in sequences if sequence.name not in done]
        print("".join(f"left out: {line}\n" for line in problems), end="")
    model = warpkit.load(args.model) if todo else None
    for sequence in todo:
        assert model is not None
        found.append(measured(model, sequence))
        if args.kept is not None:
            with args.kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found[-1]) + "\n")
    require(len(found) >= 3, f"{len(found)} sequences are too few to leave one out: give DAVIS")
    clips = [clip_of(kept) for kept in sorted(found, key=lambda one: str(one["name"]))]
    facts = report(clips)
    if args.output is not None:
        write_text(args.output, module(clips, facts))


if __name__ == "__main__":
    main()
