"""Render the demo clips of videos/: movies, exact masks and edited first frames.

    python examples/render_videos.py -o videos
    python examples/render_videos.py -o DIR --clips fish beetle --frames 8

Writes, for every clip, `<name>.mp4`, `<name>/masks/00000.png`... (object ids, DAVIS palette) and
`<name>/edited_00000.png` (the movie's first frame with its objects repainted). Nothing outside the
output folder is touched.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scripts import errors_in_one_line

from warpkit.io.frames import open_frames
from warpkit.io.images import write_image
from warpkit.io.masks import write_labels
from warpkit.io.video import VideoWriter
from warpkit.render import CLIPS, ClipSpec, render_frame


def edited_first_frame(spec: ClipSpec, movie: Path) -> npt.NDArray[np.uint8]:
    """The movie's own first frame with the repainted objects in it.

    Compression changes colours a little everywhere. Painting on the decoded frame, as a person
    would, keeps the difference between the two pictures to the edit itself.
    """
    plain, edited = render_frame(spec, 0).image, render_frame(spec, 0, edited=True).image
    changed = (plain != edited).any(axis=2, keepdims=True)
    return np.where(changed, edited, open_frames(movie).read(0).image)


def write_clip(spec: ClipSpec, folder: Path) -> None:
    """Write one clip, its masks and its edited first frame into a folder."""
    movie, masks = folder / f"{spec.name}.mp4", folder / spec.name / "masks"
    masks.mkdir(parents=True, exist_ok=True)
    with VideoWriter(
        movie,
        height=spec.height,
        width=spec.width,
        frame_rate=Fraction(spec.frame_rate),
        codec="h264",
        crf=16,
        overwrite=True,
    ) as video:
        for t in range(spec.frames):
            frame = render_frame(spec, t)
            video.write(frame.image)
            write_labels(masks / f"{t:05d}.png", frame.labels)
    write_image(folder / spec.name / "edited_00000.png", edited_first_frame(spec, movie))


def main() -> None:
    """Render the chosen clips."""
    parser = argparse.ArgumentParser(description="Render the demo clips.")
    parser.add_argument("-o", "--output", type=Path, default=Path("videos"), help="folder to fill")
    parser.add_argument("--clips", nargs="+", choices=sorted(CLIPS), default=list(CLIPS))
    parser.add_argument("--frames", type=int, help="only the first so many frames of each clip")
    errors_in_one_line()
    arguments = parser.parse_args()
    for name in arguments.clips:
        spec = CLIPS[name]
        if arguments.frames is not None:
            spec = replace(spec, frames=min(arguments.frames, spec.frames))
        print(f"{name}: {spec.width} x {spec.height}, {spec.frames} frames")
        write_clip(spec, arguments.output)


if __name__ == "__main__":
    main()
