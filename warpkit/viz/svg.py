"""Values over time as a small SVG picture, to stand in a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from warpkit.viz.palette import OBJECT_COLORS

__all__ = ["curves_svg"]

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 960, 220, 40, 24, 8


def curves_svg(
    times: Sequence[int],
    series: Mapping[str, Sequence[float | None]],
    *,
    marks: Mapping[int, str] | None = None,
) -> str:
    """Curves of values in [0, 1].

    Args:
        times: frame numbers, increasing.
        series: values by name, one per frame; None leaves a gap.
        marks: text by frame, drawn as vertical lines.

    Returns:
        An `<svg>` element.
    """
    first, last = times[0], max(times[-1], times[0] + 1)

    def x(time: float) -> float:
        return _LEFT + (time - first) / (last - first) * (_WIDTH - _LEFT - 8)

    def y(value: float) -> float:
        return _TOP + (1 - min(max(value, 0.0), 1.0)) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" xmlns="http://www.w3.org/2000/svg"'
        ' font-family="sans-serif" font-size="12">'
    ]
    parts += [
        f'<line x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{y(value):.1f}" y2="{y(value):.1f}"'
        f' stroke="#ddd"/><text x="{_LEFT - 6}" y="{y(value) + 4:.1f}"'
        f' text-anchor="end">{value:g}</text>'
        for value in (0.0, 0.5, 1.0)
    ]
    for time, anchor in ((first, "start"), (times[-1], "end")):
        parts.append(
            f'<text x="{x(time):.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">frame {time}</text>'
        )
    for time, text in (marks or {}).items():
        parts.append(
            f'<line x1="{x(time):.1f}" x2="{x(time):.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"'
            f' stroke="#888" stroke-dasharray="3 3"><title>{escape(text)}</title></line>'
        )
    for number, (name, values) in enumerate(series.items()):
        red, green, blue = OBJECT_COLORS[number % len(OBJECT_COLORS)]
        for run in _runs(times, values):
            points = " ".join(f"{x(time):.1f},{y(value):.1f}" for time, value in run)
            parts.append(
                f'<polyline points="{points}" fill="none" stroke="rgb({red},{green},{blue})"'
                f' stroke-width="2"><title>{escape(name)}</title></polyline>'
            )
    return "\n".join([*parts, "</svg>"])


def _runs(times: Sequence[int], values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """The stretches without gaps."""
    runs: list[list[tuple[int, float]]] = [[]]
    for time, value in zip(times, values, strict=True):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((time, value))
    # A single value is drawn as a short line.
    return [run if len(run) > 1 else [*run, (run[0][0], run[0][1])] for run in runs if run]
