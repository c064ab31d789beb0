"""How certain a mean is: the percentile bootstrap."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from warpkit.checks import require

__all__ = ["bootstrap_mean"]

# Resamples are drawn in blocks of at most this many indices, so that memory stays small.
BLOCK = 2_000_000


def bootstrap_mean(
    values: npt.ArrayLike,
    *,
    seed: int,
    n: int = 1000,
    weights: npt.ArrayLike | None = None,
) -> tuple[float, float]:
    """The 95 % interval of a (weighted) mean under resampling with replacement.

    Resample the independent units: image pairs, not the points within them. PCK per point is the
    mean of the pairs' PCK weighted by their numbers of points.

    Args:
        values: (N,) one value per unit.
        seed: seeds the draws.
        n: number of resamples.
        weights: (N,) positive weights; None weighs all alike.

    Returns:
        The 2.5th and the 97.5th percentile of the resampled means.
    """
    x = np.asarray(values, dtype=np.float64)
    w = np.ones_like(x) if weights is None else np.asarray(weights, dtype=np.float64)
    require(
        x.ndim == 1 and len(x) > 0 and w.shape == x.shape and bool((w > 0).all()),
        f"bootstrap needs values (N,) with N >= 1 and as many positive weights, got {x.shape} and"
        f" {w.shape}",
    )
    require(n > 0, f"bootstrap needs at least one resample, got {n}")
    generator = np.random.default_rng(seed)
    rows = max(1, BLOCK // len(x))
    means = []
    for start in range(0, n, rows):
        drawn = generator.integers(len(x), size=(min(rows, n - start), len(x)))
        means.append((w[drawn] * x[drawn]).sum(axis=1) / w[drawn].sum(axis=1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)
