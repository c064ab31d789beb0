"""A training folder of small pictures, some of them with the contour of their object."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["rectangle", "write_outlined", "write_pictures"]


def rectangle(x: int, y: int, width: int, height: int) -> list[list[float]]:
    """The outline of a block of pixels, as an index holds it."""
    left, right, top, bottom = x - 0.5, x + width - 0.5, y - 0.5, y + height - 0.5
    return [[left, right, right, left], [top, top, bottom, bottom]]


def write_pictures(
    root: Path, pictures: list[tuple[npt.NDArray[np.uint8], list[list[float]] | None]]
) -> Path:
    """One shard of pictures, every other one of the same class, and their index."""
    root.mkdir(parents=True, exist_ok=True)
    blobs, items = [], []
    for j, (picture, contour) in enumerate(pictures):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        blobs.append(np.frombuffer(buffer.getvalue(), np.uint8))
        items.append({"shard": 0, "j": j, "y": j % 2, "poly": contour})
    offsets = np.cumsum([0, *map(len, blobs)])
    np.savez(root / "train_00.npz", blob=np.concatenate(blobs), off=offsets)
    index = {"items": items, "classes": [["made", "light"], ["made", "dark"]]}
    (root / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return root


def write_outlined(root: Path, outlined: int = 6, plain: int = 4) -> Path:
    """Noise with a flat block in it, 33 x 40 pixels; the last `plain` ones without its outline."""
    generator = np.random.default_rng(0)
    pictures = []
    for i in range(outlined + plain):
        picture = generator.integers(0, 256, (33, 40, 3), dtype=np.uint8)
        x, y = int(generator.integers(2, 14)), int(generator.integers(2, 10))
        picture[y : y + 18, x : x + 20] = generator.integers(0, 256, 3)
        pictures.append((picture, rectangle(x, y, 20, 18) if i < outlined else None))
    return write_pictures(root, pictures)
