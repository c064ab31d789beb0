"""Make the finished examples that the page opens with, by today's program.

    python examples/make_page_examples.py             # after a picture was replaced
    python examples/make_page_examples.py --renders   # draws the inputs anew: the project's clips
    python examples/make_page_examples.py --photographs FOLDER   # takes in pairs of photographs

Each folder in `warpkit/app/example_files` is an example; they are offered in the order of their
names (a number before the name is not shown), and the page opens with the first. What a person puts
there is `source.jpg` and `target.jpg`, `source_mask.png` and `target_mask.png` (without them the
objects are found), and for the tab Video `clip.mp4` and `clip_mask.png`. Everything else is written
here: `composite.jpg`, masks that were found (`source_found.png`), `tracked.mp4`, and `example.json`
with figures, matched points, and hashes of the inputs that all of it was made from.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image as PilImage
from scripts import errors_in_one_line

from warpkit.app.examples import EXAMPLES, RECORD, input_hashes
from warpkit.describe.options import ModelOptions
from warpkit.image.match import run_match
from warpkit.image.warp import run_warp
from warpkit.image.warp_words import warp_words
from warpkit.io.masks import read_labels, write_labels
from warpkit.io.video import VideoWriter
from warpkit.io.whole import write_json
from warpkit.match.farthest import farthest_points
from warpkit.render import CLIPS, render_frame
from warpkit.types import Describer
from warpkit.video.run import run_propagate

# Clips of the project, and the one of the tab Video, of which every second frame is taken.
_RENDERS, _VIDEO, _FRAMES, _STRIDE = ("fish", "turtle", "butterfly", "jellyfish"), "fish", 12, 2
# Pairs in a folder of photographs, source first; they come before the clips.
_PHOTOGRAPHS = {
    "bird": ("bird/kingfisher.jpg", "bird/macaw.jpg"),
    "wrasse": ("fish/wrasse.jpg", "fish/porgy.jpg"),
}
_SCALE = 2  # of the pictures: a picture is shown at twice the size of the clips
_JPEG: dict[str, Any] = {"quality": 86, "optimize": True}
_POINTS, _DEPTH = 6, 0.15  # and how deep they lie in the object at least, of its greatest depth


def main() -> None:
    """Make all examples."""
    parser = argparse.ArgumentParser(description="Make the examples of the page.")
    parser.add_argument("folder", nargs="?", type=Path, default=EXAMPLES, help="of the examples")
    parser.add_argument("--renders", action="store_true", help="draw the inputs anew")
    parser.add_argument(
        "--photographs", type=Path, help="copy pairs of inputs from this folder of photographs"
    )
    parser.add_argument("--model", default="embedded")
    errors_in_one_line()
    arguments = parser.parse_args()
    if arguments.renders:
        for number, name in enumerate(_RENDERS, start=1):
            draw_inputs(name, arguments.folder / f"{number}-{name}")
    if arguments.photographs is not None:
        for name, pair in _PHOTOGRAPHS.items():
            place = arguments.folder / f"0-{name}"
            place.mkdir(parents=True, exist_ok=True)
            for role, path in zip(("source", "target"), pair, strict=True):
                shutil.copyfile(arguments.photographs / path, place / f"{role}.jpg")
    options = ModelOptions(model=arguments.model, device="cpu")
    describer = options.load_extractor()
    for folder in sorted(path for path in arguments.folder.iterdir() if path.is_dir()):
        make(folder, options, describer)


def draw_inputs(name: str, folder: Path) -> None:
    """The repainted first frame of a clip as the source, a late frame as the target."""
    folder.mkdir(parents=True, exist_ok=True)
    small = CLIPS[name]
    spec = replace(small, height=_SCALE * small.height, width=_SCALE * small.width)
    for role, t in (("source", 0), ("target", 3 * spec.frames // 4)):
        frame = render_frame(spec, t, edited=role == "source")
        PilImage.fromarray(frame.image).save(folder / f"{role}.jpg", **_JPEG)
        write_labels(folder / f"{role}_mask.png", (frame.labels > 0).astype(np.uint8))
    if name != _VIDEO:
        return
    size = {"height": small.height, "width": small.width}
    with VideoWriter(folder / "clip.mp4", **size, frame_rate=Fraction(12)) as writer:
        for t in range(_FRAMES):
            frame = render_frame(small, _STRIDE * t)
            writer.write(frame.image)
            if t == 0:
                write_labels(folder / "clip_mask.png", (frame.labels > 0).astype(np.uint8))


def make(folder: Path, options: ModelOptions, describer: Describer) -> None:
    """Everything that is computed of an example."""
    masks = {
        f"{role}_mask": path
        for role in ("source", "target")
        if (path := folder / f"{role}_mask.png").is_file()
    }
    pictures = folder / "source.jpg", folder / "target.jpg"
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        result = run_warp(*pictures, place / "warp", **masks, options=options, describer=describer)
        composite = PilImage.open(place / "warp/composite.png").convert("RGB")
        composite.save(folder / "composite.jpg", **_JPEG)
        for role in ("source", "target"):
            (folder / f"{role}_found.png").unlink(missing_ok=True)
            if (place / f"warp/{role}_mask.png").is_file():
                shutil.copyfile(place / f"warp/{role}_mask.png", folder / f"{role}_found.png")
        found = masks.get("source_mask", folder / "source_found.png")
        with PilImage.open(pictures[0]) as picture:
            everything = np.ones((picture.height, picture.width), np.uint8)
        mask = read_labels(found) if found.is_file() else everything
        # Points of the rim are hard to tell from what is beside it.
        depth = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
        y, x = np.nonzero(depth >= _DEPTH * depth.max())
        inside = torch.from_numpy(np.stack([x, y], axis=1).astype(np.float32))
        chosen = inside[farthest_points(inside, _POINTS)].numpy()
        matched = run_match(*pictures, chosen, options=options, describer=describer)
        if (folder / "clip.mp4").is_file():
            run_propagate(
                folder / "clip.mp4",
                place / "video",
                mask=folder / "clip_mask.png",
                options=options,
                describer=describer,
            )
            shutil.copyfile(place / "video/overlay.mp4", folder / "tracked.mp4")
    record = {
        "model": options.model,
        "inputs": input_hashes(folder),
        "text": warp_words(result),
        "doubt": result.doubt,
        "points": matched,
    }
    write_json(folder / RECORD, record)
    print(f"{folder.name}: {record['text']}")


if __name__ == "__main__":
    main()
