"""Small aggregation networks, their features, and the formula written out independently."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.aggregate.network import AggregationConfig, AggregationNetwork
from warpkit.features.backbone import StepFeatures


def small_config(**changes: Any) -> AggregationConfig:
    values: dict[str, Any] = {
        "model": "toy",
        "layers": ("a", "b", "c", "d"),
        "channels": (6, 8, 4, 12),  # b is as wide as the output: no shortcut
        "steps": (0, 4, 9),
        "num_steps": 10,
        "width": 8,
        "bottleneck": 4,
        "groups": 2,
    }
    return AggregationConfig(**values | changes)


def small_network(**changes: Any) -> AggregationNetwork:
    """A network whose every weight is random, norms and mixing weights included."""
    network = AggregationNetwork(small_config(**changes))
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return network.eval()


SIZES = {"a": (2, 3), "b": (4, 5), "c": (7, 9), "d": (5, 13)}
GRID = (7, 9)


def small_steps(config: AggregationConfig, batch: int = 2) -> list[StepFeatures]:
    generator = torch.Generator().manual_seed(3)
    return [
        StepFeatures(
            entry,
            step,
            20 * step - 20,
            {
                name: torch.randn(batch, channels, *SIZES[name], generator=generator)
                for name, channels in zip(config.layers, config.channels, strict=True)
            },
        )
        for entry, step in enumerate(config.steps)
    ]


def bottleneck(state: dict[str, Tensor], layer: int, x: Tensor, groups: int) -> Tensor:
    """B_l from a state dict, with plain functions."""
    root = f"bottleneck_layers.{layer}.0."

    def conv_norm(name: str, x: Tensor, padding: int = 0) -> Tensor:
        x = F.conv2d(x, state[f"{root}{name}.weight"], padding=padding)
        weight, bias = state[f"{root}{name}.norm.weight"], state[f"{root}{name}.norm.bias"]
        return F.group_norm(x, groups, weight, bias)

    y = F.relu(conv_norm("conv1", x))
    y = F.relu(conv_norm("conv2", y, padding=1))
    y = conv_norm("conv3", y)
    if f"{root}shortcut.weight" in state:
        x = conv_norm("shortcut", x)
    return F.relu(y + x)


def all_at_once(
    state: dict[str, Tensor],
    maps: list[list[Tensor]],
    *,
    grid: tuple[int, int],
    groups: int,
    order: str = "resize-first",
) -> Tensor:
    """The formula over all maps, `maps[s][l]` from clean to noisy."""
    layers = len(maps[0])
    mixing = torch.softmax(state["mixing_weights"], 0)

    def up(x: Tensor) -> Tensor:
        return F.interpolate(x, size=grid, mode="bilinear", align_corners=False)

    terms = []
    for s, step in enumerate(maps):
        for index, feature in enumerate(step):
            if order == "resize-first":
                y = bottleneck(state, index, up(feature), groups)
            else:
                y = up(bottleneck(state, index, feature, groups))
            terms.append(mixing[s * layers + index] * y)
    return torch.stack(terms).sum(0)
