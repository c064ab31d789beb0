"""PCK: the percentage of keypoints found within `alpha * L` pixels of their true place.

Prediction and scoring are apart: `warpkit.evaluate.predict` yields one `PairPrediction` per pair,
`score_pairs` counts. L is the longer side of the TARGET image or of the target object's box.

PCK-dagger also asks that a point lies nearer to its own true place than to that of any other point
of its pair, so that one place answers for one point alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from warpkit.checks import require
from warpkit.evaluate.bootstrap import bootstrap_mean
from warpkit.evaluate.predict import THRESHOLDS, PairPrediction, Threshold

__all__ = ["ALPHAS", "PckReport", "correct_points", "own_points", "pck", "score_pairs"]

ALPHAS = (0.05, 0.1, 0.15)

_BLOCK = 512  # predicted points that are compared with all true ones at once

Averaging = Literal["per_point", "per_image"]
# One value for every alpha, threshold and averaging.
PckTable = dict[float, dict[Threshold, dict[Averaging, float]]]
IntervalTable = dict[float, dict[Threshold, dict[Averaging, tuple[float, float]]]]


def correct_points(
    predicted: npt.NDArray[np.floating[Any]],
    truth: npt.NDArray[np.floating[Any]],
    *,
    length: float,
    alpha: float,
) -> npt.NDArray[np.bool_]:
    """Which predicted points lie within `alpha * length` of the truth, the limit included.

    Args:
        predicted: (N, 2) pixels; a row that is not finite is a wrong point.
        truth: (N, 2) pixels of the same image.
        length: L in pixels.
        alpha: tolerance as a fraction of L.

    Returns:
        bool (N,).
    """
    require(
        predicted.ndim == 2 and predicted.shape == truth.shape and predicted.shape[1] == 2,
        f"predicted and true points must both be (N, 2), got {predicted.shape} and {truth.shape}",
    )
    require(length > 0 and alpha > 0, f"length and alpha must be positive: {length}, {alpha}")
    offset = predicted.astype(np.float64) - truth.astype(np.float64)
    # A limit such as 0.29 * 100 is rounded down by a bit that no one means.
    return np.hypot(offset[:, 0], offset[:, 1]) <= alpha * length * (1 + 1e-12)


def own_points(
    predicted: npt.NDArray[np.floating[Any]], truth: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.bool_]:
    """Which predicted points have no other point's true place nearer than their own.

    A correct point counts for PCK-dagger only if it is one of these. Ties count, so that points
    annotated at one place do not exclude each other.

    Args:
        predicted: (N, 2) pixels; a row that is not finite is none of these.
        truth: (N, 2) pixels of the same image, all annotated points of the pair.

    Returns:
        bool (N,).

    Source: Aygün and Mac Aodha, "Demystifying Unsupervised Semantic Correspondence Estimation",
    ECCV 2022, PCK with a dagger; as `correct_kps_analyze` of the authors' code counts it.
    """
    places, wanted = predicted.astype(np.float64), truth.astype(np.float64)
    mine = np.hypot(*(places - wanted).T)
    own = np.isfinite(mine)
    # In blocks: pairs of dense sets have thousands of points.
    for start in range(0, len(places), _BLOCK):
        rows = slice(start, start + _BLOCK)
        away = np.hypot(*(places[rows, None] - wanted[None]).transpose(2, 0, 1))
        own[rows] &= mine[rows] <= away.min(axis=1)
    return own


def pck(
    predicted: npt.NDArray[np.floating[Any]],
    truth: npt.NDArray[np.floating[Any]],
    *,
    length: float,
    alpha: float,
) -> float:
    """The percentage of `correct_points`: 0 to 100."""
    require(len(truth) > 0, "PCK needs at least one point")
    return 100 * float(correct_points(predicted, truth, length=length, alpha=alpha).mean())


@dataclass(frozen=True, eq=False)
class PckReport:
    """PCK in percent, over all pairs and per category.

    Attributes:
        pck: `pck[alpha]["image" | "box"]["per_point" | "per_image"]`. Per point pools all points
            (what Diffusion Hyperfeatures publishes), per image averages the pairs' own PCK.
        interval: the same with a 95 % bootstrap interval over pairs, (low, high).
        pck_dagger: the same as `pck`, of the correct points that are `own_points`.
        pairs: number of pairs.
        points: number of points.
        per_category: the same of every category.
    """

    pck: PckTable
    interval: IntervalTable
    pck_dagger: PckTable
    pairs: int
    points: int
    per_category: dict[str, PckReport]

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for reports; alphas become text such as "0.1"."""

        def named(table: PckTable | IntervalTable) -> dict[str, Any]:
            return {str(alpha): value for alpha, value in table.items()}

        report: dict[str, Any] = {
            "pck": named(self.pck),
            "interval": named(self.interval),
            "pck_dagger": named(self.pck_dagger),
            "pairs": self.pairs,
            "points": self.points,
        }
        if self.per_category:
            report["per_category"] = {
                name: part.to_json() for name, part in self.per_category.items()
            }
        return report


def score_pairs(
    predictions: Iterable[PairPrediction],
    *,
    alphas: Sequence[float] = ALPHAS,
    seed: int = 0,
    resamples: int = 1000,
) -> PckReport:
    """Count the correct points of all pairs.

    Args:
        predictions: one per pair.
        alphas: tolerances as fractions of L.
        seed: seeds the bootstrap.
        resamples: number of bootstrap resamples.
    """
    listed = list(predictions)
    require(bool(listed), "there are no pairs to score")
    require(bool(alphas), "give at least one alpha")
    by_category: dict[str, list[PairPrediction]] = {}
    for prediction in listed:
        by_category.setdefault(prediction.pair.category, []).append(prediction)
    parts = {
        name: _score(part, alphas, seed, resamples) for name, part in sorted(by_category.items())
    }
    return _score(listed, alphas, seed, resamples, parts)


def _score(
    predictions: list[PairPrediction],
    alphas: Sequence[float],
    seed: int,
    resamples: int,
    per_category: dict[str, PckReport] | None = None,
) -> PckReport:
    points = np.array([len(p.pair) for p in predictions])
    own = [own_points(p.predicted, p.pair.target_points) for p in predictions]
    table: PckTable = {}
    interval: IntervalTable = {}
    dagger: PckTable = {}
    for alpha in alphas:
        table[alpha], interval[alpha], dagger[alpha] = {}, {}, {}
        for threshold in THRESHOLDS:
            right = [
                correct_points(
                    p.predicted, p.pair.target_points, length=p.length(threshold), alpha=alpha
                )
                for p in predictions
            ]
            each = np.array([100 * good.mean() for good in right])
            table[alpha][threshold] = _means(each, points)
            interval[alpha][threshold] = {
                "per_point": bootstrap_mean(each, weights=points, seed=seed, n=resamples),
                "per_image": bootstrap_mean(each, seed=seed, n=resamples),
            }
            both = [100 * (good & mine).mean() for good, mine in zip(right, own, strict=True)]
            dagger[alpha][threshold] = _means(np.array(both), points)
    return PckReport(
        table, interval, dagger, len(predictions), int(points.sum()), per_category or {}
    )


def _means(
    each: npt.NDArray[np.floating[Any]], points: npt.NDArray[np.int_]
) -> dict[Averaging, float]:
    return {
        "per_point": float(np.average(each, weights=points)),
        "per_image": float(each.mean()),
    }
