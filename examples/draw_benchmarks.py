"""Draw the plots of docs/benchmarks.md from its tables, so that both say the same.

    python examples/draw_benchmarks.py -o docs/images

Writes `bench-cpu.png` and `bench-h200.png`: time against pixels, of the page's first two tables.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from scripts import errors_in_one_line

from warpkit.checks import require
from warpkit.io.images import write_image
from warpkit.viz.timings import plot_timings

PAGE = Path(__file__).parents[1] / "docs/benchmarks.md"
PLOTS = {"bench-cpu.png": "Two cores", "bench-h200.png": "One H200"}
TIMES = ("FAISS flat", "torch float32", "torch float16", "`grid`")

Point = tuple[str, str, int, float, bool]


def main() -> None:
    """Read the tables and write the plots."""
    parser = argparse.ArgumentParser(description="Draw the plots of docs/benchmarks.md.")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/images"))
    errors_in_one_line()
    arguments = parser.parse_args()
    text = PAGE.read_text(encoding="utf-8")
    for name, start in PLOTS.items():
        title = f"Matching every pixel of one image in another: {start[0].lower()}{start[1:]}"
        points = times_of_table(text, start)
        write_image(arguments.output / name, plot_timings(points, title))
        print(f"{name}: {len(points)} times")


def times_of_table(text: str, start: str) -> list[Point]:
    """Panel, line, pixels, seconds and whether they are estimated, of the table below a line.

    Args:
        text: the page.
        start: how the line above the table begins.
    """
    found = re.search(rf"^{re.escape(start)}.*?\n\n((?:\|.*\n)+)", text, re.M)
    require(found is not None, f"{PAGE}: no table below a line that begins with '{start}'")
    assert found is not None
    head, _, *rows = ([c.strip() for c in row.split("|")[1:-1]] for row in found[1].splitlines())
    points: list[Point] = []
    for row in rows:
        cells = dict(zip(head, row, strict=True))
        width, height = map(int, cells["images"].split(" x "))
        for name in TIMES:
            if name in cells:
                value = cells[name].strip("*")
                seconds = float(value.removeprefix("about ").replace(",", ""))
                estimated = value.startswith("about")
                points.append((cells["maps"], name.strip("`"), width * height, seconds, estimated))
    return points


if __name__ == "__main__":
    main()
