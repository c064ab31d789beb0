"""Put the clip of `warpkit demo` into the package: copies from videos/, and perfect edits.

    python examples/make_samples.py

Writes `fish.mp4`, the edited first frame and the masks of every second frame as they lie in
videos/, and `edited_00010.png`, `edited_00020.png`, ...: later frames as the renderer paints them
with the edit. The photographs beside them are not made: see photographs/SOURCES.md.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from scripts import errors_in_one_line

from warpkit.demo import CLIP, MOST_FRAMES, SAMPLES, STRIDE
from warpkit.io.images import write_image
from warpkit.render import CLIPS, render_image

VIDEOS = Path(__file__).parents[1] / "videos"


def main() -> None:
    """Copy and render."""
    parser = argparse.ArgumentParser(description="Put the demo's clip into the package.")
    parser.add_argument("-o", "--output", type=Path, default=SAMPLES)
    errors_in_one_line()
    arguments = parser.parse_args()
    folder = arguments.output / CLIP
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    times = range(0, STRIDE * MOST_FRAMES, STRIDE)
    masks = [f"{CLIP}/masks/{t:05d}.png" for t in times]
    for name in (f"{CLIP}.mp4", f"{CLIP}/edited_00000.png", *masks):
        shutil.copyfile(VIDEOS / name, arguments.output / name)
    for t in times[5::5]:
        perfect = render_image(CLIPS[CLIP], t, edited=True)
        write_image(folder / f"edited_{t:05d}.png", perfect)
    print(f"{CLIP} in {arguments.output}")


if __name__ == "__main__":
    main()
