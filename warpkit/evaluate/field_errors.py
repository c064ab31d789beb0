"""Dense warps against exact truth: end-point error and PCK of every pixel.

A field gives for each TARGET pixel the SOURCE point it shows; its error at a pixel is the distance
of that point from the true one, in source pixels. L is the longer side of the source image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from warpkit.arrays import Image
from warpkit.checks import require
from warpkit.evaluate.bootstrap import bootstrap_mean
from warpkit.evaluate.field_quality import PairQuality
from warpkit.evaluate.keypoints import ALPHAS

__all__ = ["FieldError", "FieldReport", "FieldTruth", "field_error", "score_fields"]


@dataclass(frozen=True, eq=False)
class FieldTruth:
    """An image pair whose dense correspondence is known.

    Attributes:
        name: of the pair, for reports.
        category: what the pair is counted under.
        source: uint8 (Hs, Ws, 3).
        target: uint8 (H, W, 3).
        source_xy: float32 (H, W, 2), true source point of every target pixel.
        known: bool (H, W), the pixels that are scored.
        source_mask: bool (Hs, Ws), the source object; None where the set has no such mask.
        target_mask: bool (H, W), the target object; None where the set has no such mask.
    """

    name: str
    category: str
    source: Image
    target: Image
    source_xy: npt.NDArray[np.float32]
    known: npt.NDArray[np.bool_]
    source_mask: npt.NDArray[np.bool_] | None = None
    target_mask: npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        size = self.target.shape[:2]
        require(
            self.source_xy.shape == (*size, 2) and self.known.shape == size,
            f"{self.name}: the truth must cover the target of {size[0]} x {size[1]}, got"
            f" {self.source_xy.shape} and {self.known.shape}",
        )
        require(bool(self.known.any()), f"{self.name}: no pixel has a known correspondence")
        require(
            bool(np.isfinite(self.source_xy[self.known]).all()),
            f"{self.name}: the truth must be finite where it is known",
        )
        for mask, image in ((self.source_mask, self.source), (self.target_mask, self.target)):
            require(
                mask is None or mask.shape == image.shape[:2],
                f"{self.name}: a mask must have the size of its image,"
                f" {image.shape[0]} x {image.shape[1]} (height x width)",
            )


@dataclass(frozen=True, eq=False)
class FieldError:
    """The errors of one predicted field.

    Attributes:
        category: of the pair.
        distance: float64 (N,), source pixels, of the N scored pixels; inf where the field has no
            prediction.
        length: L in source pixels.
        seconds: what the prediction took, None where nobody measured it.
        valid: how many scored pixels the field itself calls valid, N at most; None where it fills
            none and those with a prediction are valid.
        quality: of the coherent field; None where there is none.
    """

    category: str
    distance: npt.NDArray[np.float64]
    length: float
    seconds: float | None = None
    valid: int | None = None
    quality: PairQuality | None = None

    @property
    def covered(self) -> npt.NDArray[np.bool_]:
        """Which scored pixels have a prediction: bool (N,)."""
        return np.isfinite(self.distance)


def field_error(
    truth: FieldTruth,
    source_xy: npt.NDArray[np.floating[Any]],
    shown: npt.NDArray[np.bool_],
    *,
    seconds: float | None = None,
    valid: npt.NDArray[np.bool_] | None = None,
    quality: PairQuality | None = None,
) -> FieldError:
    """Compare a predicted field with the truth.

    Args:
        truth: what is right.
        source_xy: (H, W, 2), the prediction.
        shown: bool (H, W), where it holds.
        seconds: what it took.
        valid: bool (H, W), where the method holds it to be right; None for `shown`.
        quality: of the coherent field.
    """
    require(
        source_xy.shape == truth.source_xy.shape
        and all(part.shape == truth.known.shape for part in (shown, valid) if part is not None),
        f"{truth.name}: the predicted field must be {truth.source_xy.shape}, got"
        f" {source_xy.shape} and {shown.shape}",
    )
    away = source_xy[truth.known].astype(np.float64) - truth.source_xy[truth.known]
    distance = np.hypot(away[:, 0], away[:, 1])
    distance[~shown[truth.known] | ~np.isfinite(distance)] = np.inf
    return FieldError(
        truth.category,
        distance,
        max(truth.source.shape[:2]),
        seconds,
        None if valid is None else int(valid[truth.known].sum()),
        quality,
    )


@dataclass(frozen=True)
class FieldReport:
    """Dense accuracy over pairs.

    Attributes:
        epe: mean end-point error over all pixels with a prediction, source pixels.
        epe_median: their median.
        coverage: percent of the scored pixels that have a prediction.
        valid: percent of the scored pixels that the method itself calls valid; less than `coverage`
            where it also fills others.
        pck: `pck[alpha]["per_point" | "per_image"]`, percent; a pixel without a prediction is
            wrong. Per point pools all pixels, per image averages pairs.
        interval: the 95 % bootstrap interval of `pck`, over pairs.
        epe_interval: the same of `epe`.
        pairs: number of pairs.
        pixels: number of scored pixels.
        per_category: the same of every category.
    """

    epe: float | None
    epe_median: float | None
    coverage: float
    valid: float
    pck: dict[float, dict[str, float]]
    interval: dict[float, dict[str, tuple[float, float]]]
    epe_interval: tuple[float, float] | None
    pairs: int
    pixels: int
    per_category: dict[str, FieldReport]

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for reports; alphas become text such as "0.1"."""
        report: dict[str, Any] = {
            "epe": self.epe,
            "epe_median": self.epe_median,
            "epe_interval": self.epe_interval,
            "coverage": self.coverage,
            "valid": self.valid,
            "pck": {str(alpha): value for alpha, value in self.pck.items()},
            "interval": {str(alpha): value for alpha, value in self.interval.items()},
            "pairs": self.pairs,
            "pixels": self.pixels,
        }
        if self.per_category:
            report["per_category"] = {
                name: part.to_json() for name, part in self.per_category.items()
            }
        return report


def score_fields(
    errors: Iterable[FieldError],
    *,
    alphas: Sequence[float] = ALPHAS,
    seed: int = 0,
    resamples: int = 1000,
) -> FieldReport:
    """Average the errors of all pairs.

    Args:
        errors: one per pair.
        alphas: tolerances as fractions of L, the limit included.
        seed: seeds the bootstrap.
        resamples: number of bootstrap resamples.
    """
    listed = list(errors)
    require(bool(listed), "there are no fields to score")
    require(bool(alphas), "give at least one alpha")
    by_category: dict[str, list[FieldError]] = {}
    for error in listed:
        by_category.setdefault(error.category, []).append(error)
    parts = {
        name: _score(part, alphas, seed, resamples, {})
        for name, part in sorted(by_category.items())
    }
    return _score(listed, alphas, seed, resamples, parts if len(parts) > 1 else {})


def _score(
    errors: list[FieldError],
    alphas: Sequence[float],
    seed: int,
    resamples: int,
    per_category: dict[str, FieldReport],
) -> FieldReport:
    sizes = np.array([len(error.distance) for error in errors])
    table: dict[float, dict[str, float]] = {}
    interval: dict[float, dict[str, tuple[float, float]]] = {}
    for alpha in alphas:
        right = [e.distance <= alpha * e.length * (1 + 1e-12) for e in errors]
        each = np.array([100 * pixels.mean() for pixels in right])
        table[alpha] = {
            "per_point": float(np.average(each, weights=sizes)),
            "per_image": float(each.mean()),
        }
        interval[alpha] = {
            "per_point": bootstrap_mean(each, weights=sizes, seed=seed, n=resamples),
            "per_image": bootstrap_mean(each, seed=seed, n=resamples),
        }
    covered = [error.distance[error.covered] for error in errors]
    found = np.concatenate(covered)
    some = [part for part in covered if len(part)]
    return FieldReport(
        epe=float(found.mean()) if len(found) else None,
        epe_median=float(np.median(found)) if len(found) else None,
        coverage=100 * len(found) / float(sizes.sum()),
        valid=100 * sum(_valid(error) for error in errors) / float(sizes.sum()),
        pck=table,
        interval=interval,
        epe_interval=bootstrap_mean(
            [part.mean() for part in some],
            weights=[len(part) for part in some],
            seed=seed,
            n=resamples,
        )
        if some
        else None,
        pairs=len(errors),
        pixels=int(sizes.sum()),
        per_category=per_category,
    )


def _valid(error: FieldError) -> int:
    return int(error.covered.sum()) if error.valid is None else error.valid
