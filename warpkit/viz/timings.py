"""The plot of measured times against the size of the problem."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from warpkit.viz.palette import OBJECT_COLORS

__all__ = ["plot_timings"]

_FEW = 1000


def plot_timings(
    points: Sequence[tuple[str, str, int, float, bool]],
    title: str,
    *,
    across: str = "pixels of each image",
    up: str = "seconds for all pixels (hollow: extrapolated)",
) -> npt.NDArray[np.uint8]:
    """Plots of time against a size, both logarithmic: a panel a problem, a line a method.

    Args:
        points: title of the panel, name of the line, size, seconds, and whether the seconds are
            extrapolated (drawn hollow).
        title: above all.
        across: what the size is.
        up: what the time is of.

    Returns:
        uint8 RGB (H, W, 3).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys(panel for panel, *_ in points))
    names = list(dict.fromkeys(name for _, name, *_ in points))
    figure = Figure(figsize=(5.2 * len(panels), 5), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, panel in zip(row, panels, strict=True):
        for number, name in enumerate(names):
            line = sorted(point[2:] for point in points if point[:2] == (panel, name))
            colour = OBJECT_COLORS[number % len(OBJECT_COLORS)] / 255
            axes.plot([p for p, _, _ in line], [s for _, s, _ in line], color=colour, label=name)
            for pixels, seconds, hollow in line:
                face = "white" if hollow else colour
                axes.plot(pixels, seconds, "o", color=colour, markerfacecolor=face)
        axes.set(xscale="log", yscale="log", xlabel=across, title=panel)
        sizes = sorted({size for _, _, size, _, _ in points})
        if sizes[-1] < _FEW:  # counts, which powers of ten spell badly
            axes.set_xticks(sizes, [str(size) for size in sizes], minor=False)
            axes.set_xticks([], minor=True)
        axes.grid(True, which="major", color="0.88")
    row[0].set_ylabel(up)
    row[0].legend(fontsize=8, frameon=False)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
