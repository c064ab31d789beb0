"""Curves of a score against a number, panel beside panel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from warpkit.viz.palette import scale_colors

__all__ = ["plot_curves"]

_MARKS = "os^Dv*"


def plot_curves(
    points: Sequence[tuple[str, str, float, float]], title: str, *, across: str, up: str
) -> npt.NDArray[np.uint8]:
    """Plots with common axes; colours run from dark blue (first line) to yellow (last).

    Args:
        points: title of the panel, name of the line, x, y. A line of one point is a mark.
        title: above all.
        across: what x is.
        up: what y is.

    Returns:
        uint8 RGB (H, W, 3).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys(panel for panel, *_ in points))
    names = list(dict.fromkeys(name for _, name, *_ in points))
    figure = Figure(figsize=(max(8.0, 5.2 * len(panels) + 1.8), 5), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    row = figure.subplots(1, len(panels), sharey=True, sharex=True, squeeze=False)[0]
    for axes, panel in zip(row, panels, strict=True):
        for number, name in enumerate(names):
            line = sorted(point[2:] for point in points if point[:2] == (panel, name))
            if not line:
                continue
            # The lightest yellows are hard to see on white.
            share = 0.85 * number / max(1, len(names) - 1)
            axes.plot(
                [x for x, _ in line],
                [y for _, y in line],
                color=scale_colors(np.array(share)) / 255,
                marker=_MARKS[number % len(_MARKS)],
                markersize=4,
                linewidth=1.3,
                label=name,
            )
        axes.set(xlabel=across, title=panel)
        axes.grid(True, color="0.9")
    row[0].set_ylabel(up)
    handles, labels = row[0].get_legend_handles_labels()
    for axes in row[1:]:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            if label not in labels:
                handles.append(handle)
                labels.append(label)
    figure.legend(handles, labels, loc="outside right center", fontsize=8, frameon=False)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
