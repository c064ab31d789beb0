"""The coarse level in plain loops: one layer of one problem. Slow, to read and to test against.

In: nodes of one pair and an affine motion to begin with. Out: for every target node the source node
it shows. The symbols are those of docs/warping.md.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from warpkit.coherent.levels import UNIT, Level

__all__ = ["solve_layer_slowly"]

Array = npt.NDArray[np.float64]


def solve_layer_slowly(
    target: Array,
    source: Array,
    affine: Array,
    reliability: Array,
    level: Level,
    *,
    unexplained: float,
    layer_temperature: float,
) -> Array:
    """Rounds of assignment and smoothing, node by node.

    Args:
        target: (C, h, w), unit descriptors of target nodes, all of which take part.
        source: (C, hs, ws), the same of source nodes.
        affine: (3, 2), `[x, y, 1] @ affine` leads from target to source nodes.
        reliability: (h * w,), how far the evidence of a target node counts.
        level: the settings.
        unexplained: what a layer may cost more than the nearest neighbour.
        layer_temperature: of the choice between the layer and none.

    Returns:
        (h * w, 2), source nodes (x, y), nodes in row-major order.
    """
    h, w = target.shape[1:]
    x = [(i % w, i // w) for i in range(h * w)]
    y = [(j % source.shape[2], j // source.shape[2]) for j in range(source[0].size)]
    t, s = target.reshape(len(target), -1), source.reshape(len(source), -1)
    cosine = t.T @ s
    hub = [np.sort(cosine[:, j])[::-1][:10].mean() for j in range(len(y))]
    score = cosine - level.hubs * np.array(hub)
    side = max(max(p[0] for p in y), max(p[1] for p in y), 1)
    tau = level.temperature

    def base_of(a: Array) -> Array:
        return np.array([[px, py, 1.0] @ a for px, py in x])

    base = base_of(affine)
    u = base
    for k in range(level.rounds):
        theta, sigma = level.schedule(k)
        v, conf, free = np.zeros_like(u), np.zeros(len(x)), np.zeros(len(x))
        nearest = np.zeros(len(x))
        for i in range(len(x)):
            best = score[i].max()
            p = np.exp((score[i] - best) / tau)
            nearest[i] = best + tau * math.log(p.sum())
            for j in range(len(y)):
                d2 = (y[j][0] - u[i, 0]) ** 2 + (y[j][1] - u[i, 1]) ** 2
                near = math.exp(-theta * d2 / UNIT**2 / tau)
                p[j] *= near + max(math.exp(-theta * level.limit / tau), 1e-30)
            free[i] = best + tau * math.log(p.sum())
            p /= p.sum()
            v[i] = p @ np.array(y, float)
            conf[i] = p @ cosine[i]
        layer = _near(x, free, np.ones(len(x)), 1.0)
        none = _near(x, nearest - unexplained, np.ones(len(x)), 1.0)
        share = 1 / (1 + np.exp((none - layer) / layer_temperature))
        weight = reliability * conf.clip(min=0) ** 4 * share
        if 2 * k < level.rounds:
            far = np.linalg.norm(base - v, axis=1) / (0.2 * side)
            affine = _fit(np.array(x, float), v, weight * np.exp(-(far**2)))
            base = base_of(affine)
        u = base + np.stack([_near(x, (v - base)[:, c], weight, sigma) for c in (0, 1)], axis=1)
    return u


def _near(x: list[tuple[int, int]], values: Array, weight: Array, sigma: float) -> Array:
    """Weighted Gaussian mean of values around every node, 1e-3 of weight on zero."""
    radius = max(1, int(3 * sigma + 0.5))
    steps = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2)).sum()
    found = []
    for px, py in x:
        total, mass = 0.0, 0.0
        for (qx, qy), value, sure in zip(x, values, weight, strict=True):
            if max(abs(qx - px), abs(qy - py)) <= radius:
                g = math.exp(-((qx - px) ** 2 + (qy - py) ** 2) / (2 * sigma**2)) / steps**2
                total, mass = total + g * sure * value, mass + g * sure
        found.append(total / (mass + 1e-3))
    return np.array(found)


def _fit(x: Array, to: Array, weight: Array) -> Array:
    """Weighted affine fit (3, 2), scale 1 where nothing is known."""
    share = weight / weight.sum()
    centre, image = share @ x, share @ to
    ridge = 1e-4 * np.eye(2)
    normal = (x - centre).T @ ((x - centre) * share[:, None]) + ridge
    linear = np.linalg.solve(normal, (x - centre).T @ ((to - image) * share[:, None]) + ridge)
    return np.vstack([linear, image - centre @ linear])
