"""A synthesis that takes a second, of generated pictures or of photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from warpkit.describe.options import ModelOptions
from warpkit.synthesize.config import (
    FilterConfig,
    GenerationConfig,
    MaskConfig,
    PairLabelConfig,
    QualityConfig,
    SplitConfig,
)
from warpkit.synthesize.run import SynthesizeSettings, run_synthesize

OPTIONS = ModelOptions(model="tiny", device="cpu", size=32)


def settings(**changes) -> SynthesizeSettings:
    """Two pairs a chunk of generated variants at 32 pixels; about 0.3 s a chunk on one core."""
    values = {
        "pairs": 6,
        "batch": 2,
        "generation": GenerationConfig(steps=2, guidance=1, variant="image"),
        "masks": MaskConfig(kind="whole"),
        "labels": PairLabelConfig(
            points=8,
            least=1,
            # Pictures of 32 pixels after two steps are noise: hardly anything is coherent in them.
            filters=FilterConfig(cycle=0, ratio=None, coherence=0.9),
        ),
        "quality": QualityConfig(images=2, sheets=1),
        "splits": SplitConfig(val=0.2, test=0.2),
    }
    return SynthesizeSettings(**{**values, **changes})


def write_photos(root: Path, names: list[str], each: int = 2) -> Path:
    """Smooth noise, `each` pictures in every folder."""
    generator = np.random.default_rng(0)
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(each):
            small = Image.fromarray(generator.integers(0, 256, (6, 7, 3), np.uint8))
            small.resize((40, 32), Image.Resampling.BICUBIC).save(root / name / f"{number}.png")
    return root


def made(root: Path, output: Path, pairs: int, **changes) -> dict:
    """Known warps of photographs, all in one split; the facts of the run."""
    config = settings(
        images=root,
        pairs=pairs,
        known_warps=True,
        quality=QualityConfig(images=0, sheets=1),
        **{"splits": SplitConfig(val=0, test=0), **changes},
    )
    return run_synthesize(output, settings=config, options=OPTIONS)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """An image with something in every place."""
    coarse = np.random.default_rng(seed).integers(0, 255, (height // 4, width // 4, 3), np.uint8)
    return np.ascontiguousarray(coarse.repeat(4, axis=0).repeat(4, axis=1))


def disc(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return (y - height / 2) ** 2 + (x - width * 0.45) ** 2 < (0.28 * height) ** 2
