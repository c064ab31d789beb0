"""The samples that ship with the package, small enough for a test."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import warpkit
from warpkit import demo
from warpkit.render import RenderedFrame

__all__ = ["use_small_samples"]


def use_small_samples(
    folder: Path, files: Path, clip: list[RenderedFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let the demo, and what shows the same, take samples from a new folder.

    Args:
        folder: gets the photographs at 80 pixels in width, and `clip` with three masks, an edited
            first frame and the right edit of frame 4.
        files: of `conftest`, for the video of `clip`.
    """
    for path in demo.PHOTOGRAPHS.rglob("*.jpg"):
        small = folder / "photographs" / path.relative_to(demo.PHOTOGRAPHS)
        small.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as photograph:
            photograph.reduce(photograph.width // 80).save(small)
    (folder / "fish/masks").mkdir(parents=True)
    shutil.copyfile(files / "clip.mp4", folder / "fish.mp4")
    for t in range(0, 6, demo.STRIDE):
        warpkit.write_labels(folder / f"fish/masks/{t:05d}.png", clip[t].labels)
    for t in (0, 4):
        edited = np.where(clip[t].labels[..., None] > 0, 255 - clip[t].image, clip[t].image)
        warpkit.write_image(folder / f"fish/edited_{t:05d}.png", edited)
    shipped = demo.SAMPLES
    for name in ("SAMPLES", "PHOTOGRAPHS", "SOURCE", "TARGET"):
        monkeypatch.setattr(demo, name, folder / getattr(demo, name).relative_to(shipped))
