"""Small folders of annotated pairs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from warpkit.coords import pixel_grid
from warpkit.datasets.dhf import write_dhf_json
from warpkit.datasets.pair import AnnotatedPair

SIZES = [(60, 80), (90, 70), (64, 64)]


def write_ramps(root: Path, sizes: list[tuple[int, int]], points: int = 6) -> Path:
    """Images whose red and green are the place within the image, paired in a ring.

    The points of a pair lie at the same places, so both images have the same colours there.
    """
    root.mkdir(parents=True, exist_ok=True)
    for i, (height, width) in enumerate(sizes):
        grid = (pixel_grid(height=height, width=width) + 0.5) / torch.tensor([width, height])
        image = torch.cat([grid, torch.zeros(height, width, 1)], dim=-1) * 250
        Image.fromarray(image.round().numpy().astype(np.uint8)).save(root / f"{i}.png")
    generator = np.random.default_rng(0)
    pairs = []
    for i in range(len(sizes)):
        ends = (i, (i + 1) % len(sizes))
        # As many points as the pair's number allows: lists of several lengths.
        unit = generator.uniform(0.3, 0.7, (points - i % 2, 2))
        xy, boxes = [], []
        for end in ends:
            side = np.array(sizes[end][::-1])
            xy.append((unit * side - 0.5).astype(np.float32))
            boxes.append((*(0.25 * side), *(0.75 * side)))
        paths = [root / f"{end}.png" for end in ends]
        pairs.append(AnnotatedPair(*paths, *xy, *boxes, "ramp"))
    write_dhf_json(root / "pairs.json", pairs, root)
    return root


def write_spair(root: Path) -> Path:
    """One training pair of two cats."""
    for name in ("a", "b"):
        (root / "JPEGImages" / "cat").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (name == "a" and "red") or "blue").save(
            root / "JPEGImages" / "cat" / f"{name}.jpg"
        )
    annotation = {
        "category": "cat",
        "src_imname": "a.jpg",
        "trg_imname": "b.jpg",
        "src_kps": [[3, 4], [20, 11]],
        "trg_kps": [[5, 6], [30, 21]],
        "src_bndbox": [1, 1, 30, 20],
        "trg_bndbox": [2, 2, 35, 25],
    }
    path = root / "PairAnnotation" / "trn" / "1-a-b:cat.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(annotation), encoding="utf-8")
    return root
