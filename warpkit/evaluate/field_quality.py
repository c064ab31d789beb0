"""How good coherent fields are over many pairs: the figures of each pair, and their means.

In: `FieldQuality` of solved pairs. Out: what is kept beside predictions, and columns of reports.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from warpkit.checks import InputError, require
from warpkit.coherent.quality import FieldQuality

__all__ = ["PairQuality", "mean_quality"]


@dataclass(frozen=True)
class PairQuality:
    """The figures of one pair's coherent field; see `FieldQuality` for what they mean.

    Attributes:
        cosine: mean cosine along the field.
        inside: share of pixels whose place lies inside the source's mask.
        consistent: share of pixels that the way back returns to.
        inverse_error: mean distance to which the way back leads, pixels of the image that the
            field covers: of keypoints that is the pair's source, of dense warps the target.
        folds: percent of cells that are turned over.
        sd_log_j: standard deviation of the logarithm of the area scale.
        mirrored: whether the other image was taken mirrored.
        taken: whether `auto` took the field and not the pixels; None where it had no choice.
    """

    cosine: float
    inside: float
    consistent: float
    inverse_error: float
    folds: float
    sd_log_j: float
    mirrored: bool
    taken: bool | None = None

    @classmethod
    def of(cls, quality: FieldQuality, *, taken: bool | None = None) -> PairQuality:
        """The figures of a solved field."""
        return cls(
            cosine=quality.cosine,
            inside=quality.inside,
            consistent=quality.consistent,
            inverse_error=quality.inverse_error,
            folds=quality.folds,
            sd_log_j=quality.sd_log_j,
            mirrored=quality.mirrored,
            taken=taken,
        )

    @classmethod
    def from_json(cls, item: Any, what: str) -> PairQuality:
        """The figures as `to_json` wrote them.

        Raises:
            InputError: `what` is no such object.
        """
        try:
            read = cls(**item)
        except TypeError as error:
            raise InputError(f"{what} must be an object with the figures of a field") from error
        for name, value in asdict(read).items():
            truth = name in ("mirrored", "taken")
            good = isinstance(value, bool) if truth else _is_number(value)
            good = good or (name == "taken" and value is None)
            kind = "true or false" if truth else "a number"
            require(good, f"{what}: '{name}' must be {kind}, got {value!r}")
        return read

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def mean_quality(found: Iterable[PairQuality | None]) -> dict[str, Any] | None:
    """Means over the pairs that have a field; None where none has.

    Returns:
        The attributes of `PairQuality`, `mirrored` and `taken` as shares of the pairs (`taken` None
        where no pair had a choice), and `pairs`, their number.
    """
    listed = [quality.to_json() for quality in found if quality is not None]
    if not listed:
        return None
    means: dict[str, Any] = {"pairs": len(listed)}
    for name in listed[0]:
        known = [item[name] for item in listed if item[name] is not None]
        means[name] = float(np.mean(known)) if known else None
    return means
