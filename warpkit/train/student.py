"""The model that backbone training learns with, and the float32 weights behind it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from warpkit.checks import require
from warpkit.features.taps import decoder_taps
from warpkit.train.backbone_config import BackboneTrainConfig
from warpkit.train.foreground_config import ForegroundTrainConfig
from warpkit.train.teacher import AlignmentHead

__all__ = ["MasterWeights", "Student"]

_Rates = BackboneTrainConfig | ForegroundTrainConfig


class Student(nn.Module):
    """UNet and alignment heads in one forward pass, so that one graph is compiled."""

    def __init__(self, unet: nn.Module, layers: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.unet = unet
        names = decoder_taps(unet)
        require(
            max(layers, default=0) < len(names),
            f"alignment.layers names layer {max(layers, default=0)}, but this UNet's decoder has"
            f" {len(names)} layers",
        )
        modules: dict[str, Any] = dict(unet.named_modules())
        tapped = [modules[names[i]] for i in layers]
        self.heads = nn.ModuleList(AlignmentHead(m.out_channels, outputs) for m in tapped)
        # Hooks that stay for the whole training: a compiler cannot trace hooks that come and go.
        self._taps: list[Tensor] = []
        for module in tapped:
            module.register_forward_hook(lambda _m, _i, output: self._taps.append(output))

    def forward(self, noisy: Tensor, t: Tensor, labels: Tensor) -> tuple[Tensor, list[Tensor]]:
        self._taps.clear()
        epsilon = self.unet(noisy, t, None, class_labels=labels, return_dict=False)[0]
        predicted = [head(tap) for head, tap in zip(self.heads, self._taps, strict=True)]
        return epsilon, predicted


class MasterWeights:
    """float32 master weights beside the (possibly bfloat16) model, with their running mean."""

    def __init__(self, model: nn.Module, config: _Rates, device: torch.device) -> None:
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.names = list(named)
        self.params: list[Tensor] = list(named.values())
        self.master = [p.detach().float().clone() for p in self.params]
        self.mean = [p.clone() for p in self.master]
        self.optimiser = torch.optim.AdamW(
            self.master,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=device.type == "cuda",
        )
        self.config = config

    def step(self, done: int) -> Tensor:
        """One AdamW step from the model's gradients; returns their norm."""
        for master, param in zip(self.master, self.params, strict=True):
            master.grad = None if param.grad is None else param.grad.float()
            param.grad = None
        norm = nn.utils.clip_grad_norm_(self.master, self.config.gradient_clip)
        for group in self.optimiser.param_groups:
            group["lr"] = _learning_rate(self.config, done)
        self.optimiser.step()
        # A young mean forgets faster, so that short runs are not dragged by the initialisation.
        decay = min(self.config.ema, (done + 1) / (done + 10))
        with torch.no_grad():
            torch._foreach_lerp_(self.mean, self.master, 1 - decay)
            torch._foreach_copy_(self.params, self.master)
        return norm

    def averages(self, prefix: str) -> dict[str, Tensor]:
        """The running means themselves, not copies, of the names that start so, without it."""
        return {
            name.removeprefix(prefix): mean
            for name, mean in zip(self.names, self.mean, strict=True)
            if name.startswith(prefix)
        }

    def state(self) -> dict[str, Any]:
        """What `restore` takes."""
        return {
            "master": self.master,
            "mean": self.mean,
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Become what `state` was."""
        with torch.no_grad():
            for mine, saved in zip(self.master, state["master"], strict=True):
                mine.copy_(saved)
            for mine, saved in zip(self.mean, state["mean"], strict=True):
                mine.copy_(saved)
            torch._foreach_copy_(self.params, self.master)
        self.optimiser.load_state_dict(state["optimiser"])


def _learning_rate(config: _Rates, done: int) -> float:
    if done < config.warmup:
        return config.learning_rate * (done + 1) / config.warmup
    progress = (done - config.warmup) / max(1, config.steps - config.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.learning_rate * (config.final_rate + (1 - config.final_rate) * cosine)
