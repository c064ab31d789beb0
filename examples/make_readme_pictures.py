"""Make the README's pictures: objects of photographs on others, and a moving preview of a clip.

    python examples/make_readme_pictures.py -o docs/images

Writes `photographs.jpg` (source, target and composite of pairs that ship in warpkit/samples, each
by `warpkit warp SOURCE TARGET` without options) and `propagation.gif` (the propagated mask beside
the propagated edit, of the clip that `warpkit demo` shows).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
from scripts import errors_in_one_line

from warpkit.arrays import Image
from warpkit.demo import CLIP, MOST_FRAMES, PHOTOGRAPHS, SAMPLES, STRIDE
from warpkit.describe.options import ModelOptions
from warpkit.image.warp import run_warp
from warpkit.io.frames import open_frames
from warpkit.io.images import read_image, write_image
from warpkit.types import Describer
from warpkit.video.run import run_propagate
from warpkit.viz import panel

PAIRS = (
    ("bird", "kingfisher", "macaw"),
    ("livestock", "cow", "pig"),
    ("fish", "wrasse", "porgy"),
)


def main() -> None:
    """Warp, propagate, and write two pictures."""
    parser = argparse.ArgumentParser(description="Make the README's pictures.")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/images"))
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--size", type=int, help="side of the model's input")
    parser.add_argument("--frames", type=int, default=MOST_FRAMES, help="of the clip")
    parser.add_argument("--height", type=int, default=200, help="of each picture, in pixels")
    errors_in_one_line()
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    options = ModelOptions(model=arguments.model, device="cpu", size=arguments.size)
    describer = options.load_extractor()
    with tempfile.TemporaryDirectory() as name:
        photographs = warped_photographs(Path(name), options, describer, arguments.height)
        moving = propagated(Path(name), options, describer, arguments.frames, arguments.height)
    write_image(arguments.output / "photographs.jpg", photographs)
    path = arguments.output / "propagation.gif"
    rate = open_frames(SAMPLES / f"{CLIP}.mp4").frame_rate / STRIDE
    milliseconds = 10 * round(100 / float(rate))  # GIF counts hundredths of a second
    imageio.imwrite(path, np.stack(moving), duration=milliseconds, loop=0)
    print(f"{path}: {len(moving)} frames, {path.stat().st_size / 1e6:.1f} MB")


def warped_photographs(
    folder: Path, options: ModelOptions, describer: Describer, height: int
) -> Image:
    """A row a pair: source, target, and the source's object on the target's."""
    tiles = []
    for category, source, target in PAIRS:
        pair = [PHOTOGRAPHS / category / f"{name}.jpg" for name in (source, target)]
        out = folder / f"{source}-{target}"
        run_warp(*pair, out, options=options, describer=describer)
        tiles += [
            (name, read_image(path)) for name, path in zip((source, target), pair, strict=True)
        ]
        tiles += [(f"{source} on {target}", read_image(out / "composite.png"))]
    return panel(tiles, columns=3, height=height)


def propagated(
    folder: Path, options: ModelOptions, describer: Describer, count: int, height: int
) -> list[Image]:
    """The mask and the edit of the clip's first frame in every frame, side by side."""
    out = run_propagate(
        SAMPLES / f"{CLIP}.mp4",
        folder / CLIP,
        mask=SAMPLES / CLIP / "masks/00000.png",
        edit=SAMPLES / CLIP / "edited_00000.png",
        end=count * STRIDE,
        stride=STRIDE,
        options=options,
        describer=describer,
    )
    shown = zip(open_frames(out / "overlay.mp4"), open_frames(out / "edited.mp4"), strict=True)
    return [
        panel([("mask", mask.image), ("edit", edit.image)], height=height) for mask, edit in shown
    ]


if __name__ == "__main__":
    main()
