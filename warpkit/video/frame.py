"""`warpkit frame`: one frame of a video as a picture, to paint a mask or an edit on.

In: a video or a folder of frames, and a moment. Out: an image file.
"""

from __future__ import annotations

from pathlib import Path

from warpkit.io.frames import open_frames
from warpkit.io.images import write_image
from warpkit.io.moments import frame_at
from warpkit.runs.folder import check_result_file

__all__ = ["run_frame"]


def run_frame(
    path: Path | str, output: Path | str, *, at: str = "0", overwrite: bool = False
) -> int:
    """Write one frame of a video or a folder of frames as a picture.

    Args:
        output: the file to write, `.png` without loss.
        at: the moment; see `warpkit.io.moments`.

    Returns:
        The frame's index.

    Raises:
        InputError: a video, a moment or a file that cannot be used.
    """
    check_result_file(output, overwrite=overwrite, inputs=[path])
    frames = open_frames(path)
    index = frame_at(frames, at)
    write_image(Path(output), frames.read(index).image)
    return index
