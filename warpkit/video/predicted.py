"""What overlap with the truth every mask of a run promises, and which correction promises most.

In: the rows of `frames.jsonl`. Out: predicted J (intersection over union) per frame and object on
an absolute scale, why it is low, and the frame whose annotation would gain most.

J is predicted as the most that the grid can hold of the object at its size, times a logistic
regression on `INPUTS`, fitted on sequences with truth: `warpkit.video.calibration` holds it, and
`examples/calibrate_report.py` writes that.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from warpkit.propagate.agreement import AGREEMENTS
from warpkit.runs.frame_rows import Row
from warpkit.video.calibration import COEFFICIENTS, CONSTANT, FADING, LISTED

__all__ = ["INPUTS", "Assessment", "Correction", "assess", "ceiling", "inputs_of", "predict"]

INPUTS = (
    *(name for name in AGREEMENTS if name != "ways"),
    *("shrinkage", "pieces", "distance", "change"),
)
"""What J is predicted from: the agreements; the logarithm of the annotated frame's area in that of
the frame where the object shrank; the share of its pixels off its largest piece; the logarithm of
the frames to the annotated one; the standard deviation of the area's logarithm over the frames
around. `growth` and `held` (by the grid, in the annotated frame) come beside them."""

Inputs = dict[str, float]

# An input this many standard deviations from its mean is as bad as it can be.
_FAR = 3.0
# Powers of the growth and the shrinkage of an area by which what is lost of it changes less.
_GROWING, _SHRINKING = 0.5, 1.0
# Log odds that an input takes from J before it is a reason.
_WEIGHS = 0.1
# What an absent object counts as where corrections are weighed: it may be hidden, or lost.
_ABSENT = 0.5
# Growth and shrinkage that are told, as ratios; overlap of both ways below which that is.
_TOLD, _WAYS = 1.6, 0.6
_CEILING = 0.7  # of J, below which it is told
_AROUND = 8  # frames before and after, whose areas are compared
_MOST = 3  # reasons of a frame


def inputs_of(rows: Sequence[Row]) -> list[dict[str, Inputs]]:
    """The inputs of every object that is shown in a frame, by its id; none in annotated frames.

    The annotated frame of an object is the nearest one that shows it.
    """
    given = [n for n, row in enumerate(rows) if row.get("given")]
    found = []
    for n, row in enumerate(rows):
        one: dict[str, Inputs] = {}
        for i, measured in row.get("agreement", {}).items():
            known = [g for g in given if i in rows[g]["area"]]
            if row.get("given") or i not in row["area"] or not known:
                continue  # nothing to compare with
            nearest = min(known, key=lambda g: abs(g - n))
            change = math.log(row["area"][i] / rows[nearest]["area"][i])
            one[i] = {
                **measured,
                "growth": max(change, 0.0),
                "shrinkage": max(-change, 0.0),
                "pieces": 1 - row["largest_piece"][i],
                "distance": math.log(abs(nearest - n)),
                "held": rows[nearest].get("held", {}).get(i, 1.0),
            }
        found.append(one)
    for n, one in enumerate(found):
        for i, inputs in one.items():
            inputs["change"] = _change(found, n, i)
    return found


def _change(found: Sequence[Mapping[str, Inputs]], n: int, i: str) -> float:
    """How much the area's logarithm varies over the frames around that show the object."""
    around = [one[i] for one in found[max(0, n - _AROUND) : n + _AROUND + 1] if i in one]
    return float(np.std([one["growth"] - one["shrinkage"] for one in around]))


def predict(inputs: Inputs) -> float:
    """The predicted J of an object in a frame; an input that is missing takes its mean."""
    odds = CONSTANT + sum(_contribution(name, inputs) for name in COEFFICIENTS)
    return ceiling(inputs) / (1 + math.exp(-odds))


def ceiling(inputs: Inputs) -> float:
    """The most that J can be: what the grid holds of the object in the annotated frame, at the size
    that it has now. What is lost is a rim, or lines, which do not grow and shrink as areas do.
    """
    lost = 1 / max(inputs["held"], 1e-3) - 1
    change = _GROWING * inputs["growth"] - _SHRINKING * inputs["shrinkage"]
    return 1 / (1 + lost * math.exp(-change))


def _contribution(name: str, inputs: Inputs) -> float:
    """Log odds that an input adds to those of the mean frame."""
    mean, spread, _, coefficient = COEFFICIENTS[name]
    away = (inputs.get(name, mean) - mean) / spread
    return coefficient * min(max(away, -_FAR), _FAR)


_WORDS: dict[str, Callable[[float], str]] = {
    "decided": lambda value: "many cells are undecided",
    "model": lambda value: "much looks like object and is not in the mask, or the other way",
    "look": lambda value: "labels and network disagree",
    "lead": lambda value: "what lies around it looks alike",
    "found": lambda value: f"{100 * value:.0f} % of the annotated object is found again",
    "alike": lambda value: "it looks unlike the annotated object",
    "pieces": lambda value: f"{100 * value:.0f} % of it in pieces apart",
    "distance": lambda value: f"{math.exp(value):.0f} frames from the annotated one",
}
_BAD_HIGH = {"pieces", "distance"}


def reasons(inputs: Inputs) -> list[str]:
    """Why J may be low, in words: the change of its size first, then what weighs most."""
    found = []
    change = inputs["growth"] - inputs["shrinkage"]
    if abs(change) > math.log(_TOLD):
        verb = "grows" if change > 0 else "shrinks"
        found.append(f"{verb} to {math.exp(change):.2g} times the annotated size")
    if inputs.get("ways", 1.0) < _WAYS:
        found.append("the ways from both annotated frames disagree")
    if ceiling(inputs) < _CEILING:
        found.append(f"parts thinner than the grid: no more than {ceiling(inputs):.2f} can be had")
    weighed = []
    for name, words in _WORDS.items():
        if name in inputs:
            value, (_, spread, good, coefficient) = inputs[name], COEFFICIENTS[name]
            away = (value - good) / spread
            worse = away > 0 if name in _BAD_HIGH else away < 0
            if worse and coefficient * away < -_WEIGHS:
                weighed.append((coefficient * away, words(value)))
    found += [words for _, words in sorted(weighed)]
    return found[:_MOST]


@dataclass(frozen=True)
class Assessment:
    """What a run promises.

    Attributes:
        predicted: J of the objects shown in every frame, by id; empty in annotated frames, and
            where nothing was measured.
        mean: over all of them; None without any.
        listed: numbers of the frames in which an object's is under `LISTED`.
        reasons: for every frame, in words; of the object whose J is predicted to be lowest.
        correction: the annotation that would gain most; None where no frame is listed.
    """

    predicted: tuple[dict[str, float], ...]
    mean: float | None
    listed: tuple[int, ...]
    reasons: tuple[tuple[str, ...], ...]
    correction: Correction | None

    @property
    def sentence(self) -> str:
        """The whole in one line; empty where nothing is predicted."""
        words = []
        if self.mean is not None:
            words.append(f"predicted mean J {self.mean:.2f}")
            if self.correction is None:
                words.append(f"no frame is predicted to be under {LISTED:.2f}")
        if self.correction is not None:
            first = self.correction
            why = f": {', '.join(first.reasons)}" if first.reasons else ""
            words.append(f"annotate frame {first.frame} first, for about {first.gain:+.2f}{why}")
        return "; ".join(words)


def assess(rows: Sequence[Row]) -> Assessment:
    """Predict J of every object in every frame, and choose the first correction."""
    predicted, why, listed = [], [], []
    for row, inputs in zip(rows, inputs_of(rows), strict=True):
        values = {i: round(predict(one), 4) for i, one in inputs.items()}
        predicted.append(values)
        worst = min(values, key=lambda i: values[i], default=None)
        several = len(row.get("area", {})) > 1
        prefix = f"object {worst}: " if several else ""
        told = [] if worst is None else [prefix + reason for reason in reasons(inputs[worst])]
        gone = row.get("absent", []) if row.get("agreement") else []
        why.append((*told, *(f"object {i} is gone" for i in gone)))
        if worst is not None and values[worst] < LISTED:
            listed.append(row["frame"])
    known = [value for values in predicted for value in values.values()]
    mean = round(statistics.fmean(known), 4) if known else None
    correction = best_correction(rows, predicted, why)
    return Assessment(tuple(predicted), mean, tuple(listed), tuple(why), correction)


@dataclass(frozen=True)
class Correction:
    """The annotation of a frame.

    Attributes:
        frame: its number.
        gain: what it would add to the clip's mean J, as far as that can be predicted.
        reasons: why, in words.
    """

    frame: int
    gain: float
    reasons: tuple[str, ...]


def best_correction(
    rows: Sequence[Row], predicted: Sequence[Mapping[str, float]], why: Sequence[Sequence[str]]
) -> Correction | None:
    """The frame whose annotation would gain most; None where no object's J is predicted to be low.

    An annotation reaches the frames up to the next annotated ones and the next scenes on both
    sides, and lifts J there to what it was so far from an annotated frame in the calibration,
    where it is lower. An object that is not shown, hidden or lost, counts as half right.

    Args:
        predicted: J of the objects shown in every frame, by id.
        why: reasons for every frame.
    """
    losses = [
        [*values.values(), *([_ABSENT] * len(row["absent"]) if row.get("agreement") else [])]
        for row, values in zip(rows, predicted, strict=True)
    ]
    best: tuple[float, int] | None = None
    for reached in _stretches(rows):
        places = np.array([n for n in reached for _ in losses[n]])
        values = np.array([value for n in reached for value in losses[n]])
        for n in reached:
            if losses[n] and min(losses[n]) < LISTED:
                gain = float((_once_annotated(np.abs(places - n)) - values).clip(min=0).sum())
                if best is None or gain > best[0]:
                    best = gain, n
    if best is None or best[0] <= 0:
        return None
    gain, n = best
    mean = gain / sum(map(len, losses))
    return Correction(rows[n]["frame"], round(mean, 4), tuple(why[n]))


def _stretches(rows: Sequence[Row]) -> list[list[int]]:
    """The positions of frames that an annotation among them reaches, in order."""
    found: list[list[int]] = [[]]
    for n, row in enumerate(rows):
        if row.get("given") or row.get("cut"):
            found.append([])
        if not row.get("given"):
            found[-1].append(n)
    return [reached for reached in found if reached]


def _once_annotated(distance: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """J to be expected so many frames from an annotated one, which itself has 1."""
    start, fade = FADING
    expected = (start - fade * np.log(np.maximum(distance, 1))).clip(min=0)
    return np.asarray(np.where(distance == 0, 1.0, expected))
