"""Put the pictures of a synthesised set into the documentation.

    warpkit synthesize -c configs/synth_tiny.yaml -o synth
    python examples/draw_synthesis.py synth -o docs/images

Writes `synth-sheet.png` (the upper half of the first contact sheet: six pairs) and
`synth-precision.png` (precision against matches kept).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from scripts import errors_in_one_line

from warpkit.io.images import read_image, write_image


def main() -> None:
    """Read two pictures of the set, write two."""
    parser = argparse.ArgumentParser(description="Pictures of a synthesised set.")
    parser.add_argument("run", type=Path, help="folder written by `warpkit synthesize`")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/images"))
    errors_in_one_line()
    arguments = parser.parse_args()
    sheet = read_image(arguments.run / "sheets/00.png")
    write_image(arguments.output / "synth-sheet.png", sheet[: sheet.shape[0] // 2])
    curves = read_image(arguments.run / "quality.png")
    write_image(arguments.output / "synth-precision.png", curves)


if __name__ == "__main__":
    main()
