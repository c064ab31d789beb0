"""How a diffusion backbone is run: recorded steps, prompt, the way of reading images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from warpkit.checks import one_of, require

__all__ = ["DiffusionSettings", "Mode", "recorded_steps"]

Mode = Literal["inversion", "noised", "clean"]


def recorded_steps(num_steps: int, every: int = 5) -> tuple[int, ...]:
    """Departing steps that the paper records, clean to noisy: 0, 4, 9, ..., 44, 49 of 50.

    They are `num_steps - 1 - s` for the published `save_timestep` s = 49, 45, 40, ..., 5, 0.
    """
    saved = sorted({num_steps - 1, *range(0, num_steps, every)}, reverse=True)
    return tuple(num_steps - 1 - s for s in saved)


@dataclass(frozen=True)
class DiffusionSettings:
    """How a diffusion backbone is run.

    Attributes:
        steps: recorded departing steps, clean to noisy.
        prompt: prompt of real images; the empty prompt is the paper's.
        layers: names of the layers to record, in the decoder's order; None records all.
        mode: how real images are read. `inversion` follows DDIM inversion (the paper's method).
            `noised` adds seeded noise once and takes one denoising call at each recorded step:
            generation features of a real image (the paper's Figures 3 and 9, DIFT). `clean` gives
            the clean latent with the timestep of your choice, as noise-free UNets (CleanDIFT) want.
        timestep: where the single calls of `noised` and `clean` are made, 0..train_steps - 1; by
            default at the timestep generation has at the same entry, and at a clean image's (-1).
        seed: of the noise of `noised`, which is the same for every image of one size.
    """

    steps: tuple[int, ...]
    prompt: str = ""
    layers: tuple[str, ...] | None = None
    mode: Mode = "inversion"
    timestep: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        one_of(self.mode, get_args(Mode), "mode of reading images")
        require(
            self.timestep is None or self.mode != "inversion",
            "a timestep is for the modes noised and clean; inversion has its own",
        )
        require(
            self.timestep is None or len(self.steps) == 1,
            f"with one timestep there is one recorded step, got steps {self.steps}",
        )
