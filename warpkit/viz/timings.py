"""The plot of measured times against the size of the problem."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from warpkit.viz.palette import OBJECT_COLORS

__all__ = ["plot_timings"]


def plot_timings(
    points: Sequence[tuple[str, int, float, bool]], title: str
) -> npt.NDArray[np.uint8]:
    """A plot of time against pixels, both logarithmic, one line a name.

    Args:
        points: name of the line, pixels of the target, seconds, and whether they are extrapolated
            (drawn hollow).
        title: above the plot.

    Returns:
        uint8 RGB (H, W, 3).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    names = list(dict.fromkeys(name for name, *_ in points))
    styles = ("-", "--", ":")
    for number, name in enumerate(names):
        line = sorted(point[1:] for point in points if point[0] == name)
        colour = OBJECT_COLORS[number % len(OBJECT_COLORS)] / 255
        x, y, extrapolated = (list(column) for column in zip(*line, strict=True))
        style = styles[number // len(OBJECT_COLORS) % len(styles)]
        axes.plot(x, y, style, color=colour, label=name, linewidth=1.6)
        for a, b, hollow in zip(x, y, extrapolated, strict=True):
            axes.plot(a, b, "o", color=colour, markerfacecolor="white" if hollow else colour)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("target pixels")
    axes.set_ylabel("seconds for all of them (hollow: extrapolated)")
    axes.set_title(title, fontsize=10)
    axes.grid(True, which="major", color="0.88")
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
