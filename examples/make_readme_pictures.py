"""Make the README's pictures from a demo folder: a strip of the edit, a moving preview.

    warpkit demo -o warpkit-demo
    python examples/make_readme_pictures.py warpkit-demo -o docs/images

Writes `edit.png` (the repainted first frame and what became of the edit later) and
`propagation.gif` (the propagated mask beside the propagated edit).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
from scripts import errors_in_one_line

from warpkit.io.frames import open_frames
from warpkit.io.images import read_image, write_image
from warpkit.io.masks import read_labels
from warpkit.viz import overlay_labels, panel


def main() -> None:
    """Read what `warpkit demo` propagated, write two pictures."""
    parser = argparse.ArgumentParser(description="Make the README's pictures.")
    parser.add_argument("demo", type=Path, help="folder written by `warpkit demo`")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/images"))
    parser.add_argument("--shown", type=int, default=4, help="frames in the strip")
    parser.add_argument("--height", type=int, default=160, help="of each frame, in pixels")
    errors_in_one_line()
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    clip = open_frames(arguments.demo / "clip" / "clip.mp4")
    results = arguments.demo / "clip" / "propagated"
    edited = [read_image(path) for path in sorted((results / "frames").glob("*.png"))]
    labels = [read_labels(path) for path in sorted((results / "masks").glob("*.png"))]

    chosen = np.linspace(0, len(edited) - 1, arguments.shown).round().astype(int).tolist()
    tiles = [("first frame, repainted" if t == 0 else f"frame {t}", edited[t]) for t in chosen]
    write_image(arguments.output / "edit.png", panel(tiles, height=arguments.height))

    moving = [
        panel(
            [("mask", overlay_labels(frame.image, mask)), ("edit", image)],
            height=arguments.height,
        )
        for frame, mask, image in zip(clip, labels, edited, strict=True)
    ]
    milliseconds = round(1000 / float(clip.frame_rate))
    path = arguments.output / "propagation.gif"
    imageio.imwrite(path, np.stack(moving), duration=milliseconds, loop=0)
    print(f"{path}: {len(moving)} frames, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
