"""Put the clip of `warpkit demo` into the package: copies from videos/, and the perfect edit.

    python examples/make_samples.py

Writes `warpkit/samples/fish.mp4`, its masks and edited first frame as they lie in videos/ (every
second frame's mask: the demo takes every second frame), and `fish/repainted.mp4`, the clip as the
renderer paints it with a repainted fish. The photographs beside them are not made: see SOURCES.md.
"""

from __future__ import annotations

import argparse
import shutil
from fractions import Fraction
from pathlib import Path

from scripts import errors_in_one_line

from warpkit.demo import CLIP, SAMPLES, STRIDE
from warpkit.io.video import VideoWriter
from warpkit.render import CLIPS, render_image

VIDEOS = Path(__file__).parents[1] / "videos"


def main() -> None:
    """Copy and render."""
    parser = argparse.ArgumentParser(description="Put the demo's clip into the package.")
    parser.add_argument("-o", "--output", type=Path, default=SAMPLES)
    parser.add_argument("--frames", type=int, default=CLIPS[CLIP].frames, help="to render")
    errors_in_one_line()
    arguments = parser.parse_args()
    spec, folder = CLIPS[CLIP], arguments.output / CLIP
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(VIDEOS / f"{CLIP}.mp4", arguments.output / f"{CLIP}.mp4")
    shutil.copyfile(VIDEOS / CLIP / "edited_00000.png", folder / "edited_00000.png")
    for t in range(0, spec.frames, STRIDE):
        shutil.copyfile(VIDEOS / CLIP / f"masks/{t:05d}.png", folder / f"masks/{t:05d}.png")
    with VideoWriter(
        folder / "repainted.mp4",
        height=spec.height,
        width=spec.width,
        frame_rate=Fraction(spec.frame_rate, STRIDE),
        crf=16,
        overwrite=True,
    ) as video:
        for t in range(0, arguments.frames, STRIDE):
            video.write(render_image(spec, t, edited=True))
    print(f"{CLIP} in {arguments.output}")


if __name__ == "__main__":
    main()
