"""Whether a diffusion backbone generates: grids of samples, and images to noise and back.

In: a diffusion backbone. Out: a labelled picture to look at, and PSNR.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from warpkit.checks import require
from warpkit.features.diffusion import DiffusionBackbone
from warpkit.viz import panel

__all__ = ["evenly_spaced", "sample_grid"]

T = TypeVar("T")

_BATCH = 16


def evenly_spaced(names: Sequence[T], count: int) -> tuple[T, ...]:
    """At most `count` of the names, evenly over their order, the first always among them."""
    require(count > 0, f"count must be at least one name, got {count}")
    count = min(count, len(names))
    return tuple(names[i * len(names) // count] for i in range(count))


def sample_grid(
    backbone: DiffusionBackbone,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int] = (0, 1),
    size: int = 128,
    guidance: float = 4.0,
    pag_scale: float = 0.0,
    skip: int = 0,
    eta: float = 0.0,
    columns: int = 8,
    height: int | None = None,
) -> npt.NDArray[np.uint8]:
    """Generate an image for every prompt and seed, and lay them out with their labels.

    A seed means the same noise for every prompt and on every machine. Nothing is drawn from torch's
    own random state.

    Args:
        backbone: its `schedule.num_steps` DDIM steps are run.
        prompts: class names or texts.
        seeds: images a prompt, side by side.
        size: side of the generated images in pixels.
        guidance: scale of classifier-free guidance; 1 runs without.
        pag_scale: of perturbed-attention guidance; 0 runs without.
        skip: noisiest steps to leave out.
        eta: 0 is DDIM, 1 ancestral sampling, see `DiffusionBackbone.generate`.
        columns: at most this many images a row; a row never ends within a prompt.
        height: of an image in the grid; None is `size`.

    Returns:
        uint8 RGB.
    """
    require(len(prompts) > 0 and len(seeds) > 0, "give at least one prompt and one seed")
    jobs = [(prompt, seed) for prompt in prompts for seed in seeds]
    tiles: list[tuple[str, npt.NDArray[np.uint8]]] = []
    for start in range(0, len(jobs), _BATCH):
        batch = jobs[start : start + _BATCH]
        drawn = [seed for _, seed in batch]
        images = backbone.generate(
            [prompt for prompt, _ in batch],
            backbone.noise(drawn, height=size, width=size),
            guidance_scale=guidance,
            pag_scale=pag_scale,
            skip=skip,
            eta=eta,
            seeds=drawn,
        )
        arrays = (images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        tiles += [(f"{p}, {s}", image) for (p, s), image in zip(batch, arrays, strict=True)]
    per_row = len(seeds) * max(1, columns // len(seeds))
    return panel(tiles, columns=per_row, height=height or max(16, size))
