"""What the tests of pair readers share: small images, text files, pairs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from warpkit.datasets.pair import AnnotatedPair

WIDTH, HEIGHT = 40, 30


def make_image(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    return path


def write_text(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def stems(pairs: list[AnnotatedPair]) -> list[tuple[str, str]]:
    return [(pair.source_path.stem, pair.target_path.stem) for pair in pairs]


def make_pair(folder: Path, **changes: Any) -> AnnotatedPair:
    fields: dict[str, Any] = {
        "source_path": folder / "a.png",
        "target_path": folder / "sub/b.png",
        "source_points": np.array([[1, 2], [3.25, 4], [39, 29]], np.float32),
        "target_points": np.array([[5, 6], [0.1, 8], [9, 10]], np.float32),
        "source_box": (0, 0, 9, 9),
        "target_box": (1, 2.5, 12, 11),
        "category": "cät",
    }
    return AnnotatedPair(**{**fields, **changes})


def assert_matches(pattern: str, text: str) -> None:
    assert re.search(pattern, text), f"{pattern!r} is not in {text!r}"
