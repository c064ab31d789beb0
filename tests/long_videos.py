"""A video that takes long."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import warpkit


def long_video(path: Path) -> Path:
    """A frame a minute for two hours."""
    with warpkit.VideoWriter(path, height=16, width=16, frame_rate=1) as writer:
        for time in range(0, 7201, 60):
            writer.write(np.zeros((16, 16, 3), np.uint8), time=time)
    return path
