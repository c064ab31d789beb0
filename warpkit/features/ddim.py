"""DDIM noise schedule and the steps of inversion and generation.

Source: DDIM (Song et al., 2021) eq. 12, with eta = 0 unless told; time steps and the departing
noise level as in Diffusion Hyperfeatures (Luo et al., 2023), whose published aggregators were
trained on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from warpkit.checks import one_of, require

__all__ = ["CLEAN", "DdimSchedule", "Prediction", "Transition", "ddim_step"]

CLEAN = -1
"""The timestep of a clean latent: alpha-bar is 1 there."""

Prediction = Literal["epsilon", "v_prediction"]


@dataclass(frozen=True)
class Transition:
    """One DDIM step: the network is evaluated at `timestep`, the latent moves to `to`."""

    step: int
    timestep: int
    to: int


@dataclass(frozen=True)
class DdimSchedule:
    """`scaled_linear` betas and leading time steps (`steps_offset = 0`).

    With the defaults the time steps are 980, 960, ..., 20, 0.
    """

    num_steps: int = 50
    train_steps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    prediction: Prediction = "epsilon"

    def __post_init__(self) -> None:
        require(
            1 <= self.num_steps <= self.train_steps,
            f"num_steps must lie in 1..{self.train_steps}, got {self.num_steps}",
        )
        one_of(self.prediction, get_args(Prediction), "prediction type")

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        """alpha-bar of every training step: float32 (train_steps,)."""
        betas = torch.linspace(self.beta_start**0.5, self.beta_end**0.5, self.train_steps) ** 2
        return torch.cumprod(1 - betas, dim=0)

    def alpha_bar(self, timestep: int) -> float:
        """alpha-bar at a timestep; exactly 1 at `CLEAN`."""
        return 1.0 if timestep == CLEAN else float(self.alphas_cumprod[timestep])

    @property
    def timesteps(self) -> tuple[int, ...]:
        """Time steps from clean to noisy: 0, 20, ..., 980."""
        stride = self.train_steps // self.num_steps
        return tuple(step * stride for step in range(self.num_steps))

    def inversion(self) -> tuple[Transition, ...]:
        """Clean to noise. The network sees the level it DEPARTS from: -1, 0, 20, ..., 960.

        A one-step run evaluates -1 alone.
        """
        departing = (CLEAN, *self.timesteps[:-1])
        pairs = zip(departing, self.timesteps, strict=True)
        return tuple(Transition(step, t, to) for step, (t, to) in enumerate(pairs))

    def generation(self) -> tuple[Transition, ...]:
        """Noise to clean: evaluated at 980, 960, ..., 0, the last step lands on `CLEAN`."""
        departing = tuple(reversed(self.timesteps))
        pairs = zip(departing, (*departing[1:], CLEAN), strict=True)
        return tuple(Transition(step, t, to) for step, (t, to) in enumerate(pairs))


def ddim_step(
    schedule: DdimSchedule,
    latent: Tensor,
    output: Tensor,
    transition: Transition,
    *,
    bound: float | None = None,
    eta: float = 0.0,
    noise: Tensor | None = None,
) -> Tensor:
    """Move a latent along one DDIM step, towards noise or towards the image.

    Args:
        latent: x_t (B, C, h, w).
        output: the network's output at x_t, epsilon or v by `schedule.prediction`.
        bound: the image that is predicted, x_0, is kept within -bound..bound, and the noise follows
            from it. Pixels have such a range; where little of the image is left, a small error of
            epsilon is a large one of x_0. Not for inversion. Source: `clip_sample` of diffusers.
        eta: 0 is deterministic, 1 has the variance of ancestral sampling (DDPM); towards the image
            only. Source: DDIM eq. 16.
        noise: standard normal, of the shape of `latent`; needed with `eta`.

    Returns:
        x_to, same shape.
    """
    a_t = schedule.alpha_bar(transition.timestep)
    a_to = schedule.alpha_bar(transition.to)
    if schedule.prediction == "epsilon":
        epsilon = output
        x0 = (latent - (1 - a_t) ** 0.5 * epsilon) / a_t**0.5
    else:
        x0 = a_t**0.5 * latent - (1 - a_t) ** 0.5 * output
        epsilon = a_t**0.5 * output + (1 - a_t) ** 0.5 * latent
    if bound is not None:
        x0 = x0.clamp(-bound, bound)
        epsilon = (latent - a_t**0.5 * x0) / (1 - a_t) ** 0.5
    if eta == 0 or transition.to == CLEAN:
        return a_to**0.5 * x0 + (1 - a_to) ** 0.5 * epsilon
    require(0 <= eta <= 1, f"eta lies between 0 (DDIM) and 1 (ancestral sampling), got {eta:g}")
    require(a_to > a_t, "fresh noise (eta) is for steps towards the image")
    require(noise is not None, f"eta {eta:g} needs noise of the latent's shape")
    assert noise is not None
    fresh = eta * ((1 - a_to) / (1 - a_t) * (1 - a_t / a_to)) ** 0.5
    return a_to**0.5 * x0 + (1 - a_to - fresh**2) ** 0.5 * epsilon + fresh * noise
