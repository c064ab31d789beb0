"""The aggregation network: layer features of all recorded steps to one descriptor map.

`D = sum_{s,l} softmax(w)_{s,l} * B_l(up(f_{l,s}))` (Diffusion Hyperfeatures, section 3.2).
Bottlenecks B_l are shared over the steps, mixing weights w are not; w is flat and step-major,
index = step * L + layer. Features arrive one step at a time and are forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from warpkit.checks import require
from warpkit.features.backbone import StepFeatures

__all__ = [
    "Accumulator",
    "AggregationConfig",
    "AggregationNetwork",
    "Bottleneck",
    "StepCheck",
    "resize",
]


@dataclass(frozen=True)
class AggregationConfig:
    """What an aggregation network is made for, and its shape.

    Attributes:
        model: name of the backbone it was trained on.
        layers: names of the L layers.
        channels: channels of the L layers.
        steps: the S recorded departing steps, clean to noisy.
        num_steps: DDIM steps of a whole run.
        width: channels of the descriptor (published: 384).
        bottleneck: channels in the middle of every B_l (published: 96).
        groups: groups of every GroupNorm (published: 32).
        order: `resize-first` brings features to the output grid before the bottleneck, as the
            published networks do; `bottleneck-first` is cheaper.
    """

    model: str
    layers: tuple[str, ...]
    channels: tuple[int, ...]
    steps: tuple[int, ...]
    num_steps: int
    width: int = 384
    bottleneck: int = 96
    groups: int = 32
    order: Literal["resize-first", "bottleneck-first"] = "resize-first"

    def __post_init__(self) -> None:
        require(
            len(self.layers) == len(self.channels) > 0 and len(self.steps) > 0,
            "an aggregation network needs as many channel counts as layers and at least one step,"
            f" got {len(self.layers)} layers, {len(self.channels)} counts, {len(self.steps)} steps",
        )


class NormConv2d(nn.Conv2d):
    """A convolution without bias followed by GroupNorm; named as the published files name it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.GroupNorm(groups, outputs)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(super().forward(x))
        return normed


class Bottleneck(nn.Module):
    """Residual bottleneck B_l: 1x1 - 3x3 - 1x1 with ReLU, 1x1 shortcut where widths differ."""

    def __init__(self, inputs: int, middle: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.conv1 = NormConv2d(inputs, middle, 1, groups)
        self.conv2 = NormConv2d(middle, middle, 3, groups)
        self.conv3 = NormConv2d(middle, outputs, 1, groups)
        self.shortcut = NormConv2d(inputs, outputs, 1, groups) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        residual = self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return F.relu(residual + shortcut)


class AggregationNetwork(nn.Module):
    """Mixing weights and one bottleneck per layer."""

    def __init__(self, config: AggregationConfig) -> None:
        super().__init__()
        self.config = config
        # One extra level of nesting, because the published state dicts have it.
        self.bottleneck_layers = nn.ModuleList(
            nn.Sequential(Bottleneck(c, config.bottleneck, config.width, config.groups))
            for c in config.channels
        )
        self.mixing_weights = nn.Parameter(torch.ones(len(config.steps) * len(config.layers)))

    def mixing(self) -> Tensor:
        """softmax(w) as (S, L), steps from clean to noisy."""
        return self.mixing_weights.softmax(0).reshape(len(self.config.steps), -1)

    def accumulator(self, grid: tuple[int, int]) -> Accumulator:
        """A running sum over steps for descriptor maps of `grid` = (h, w) cells."""
        return Accumulator(self, grid)

    def forward(self, steps: Iterable[StepFeatures], grid: tuple[int, int]) -> Tensor:
        """Descriptors (B, width, h, w) of a whole run; holds one step's maps at a time.

        Raises:
            InputError: a recorded step or layer is missing, or has other channels.
        """
        total = self.accumulator(grid)
        for step in steps:
            total.add(step)
            del step  # otherwise its maps would live on while the next step is computed
        return total.result()


class StepCheck:
    """Tells whether the steps added so far are those that an aggregator was made for."""

    def __init__(self, config: AggregationConfig) -> None:
        self._config = config
        self._seen: set[int] = set()

    def add(self, features: StepFeatures) -> None:
        """Note a step, in any order (generation runs from noisy to clean).

        Raises:
            InputError: a step that was not expected, a layer that is missing or of other width.
        """
        config = self._config
        require(
            0 <= features.entry < len(config.steps) and features.entry not in self._seen,
            f"step entry {features.entry} was not expected: the aggregator has"
            f" {len(config.steps)} entries and takes each once",
        )
        self._seen.add(features.entry)
        for name, channels in zip(config.layers, config.channels, strict=True):
            require(
                name in features.maps and features.maps[name].shape[1] == channels,
                f"the aggregator expects layer '{name}' with {channels} channels, the backbone"
                f" gave {[(k, v.shape[1]) for k, v in features.maps.items()]}",
            )

    def complete(self) -> None:
        """Raise unless every recorded step was added."""
        expected = len(self._config.steps)
        require(
            len(self._seen) == expected,
            f"the aggregator needs {expected} recorded steps, got {len(self._seen)}",
        )


class Accumulator:
    """Adds step after step, in any order."""

    def __init__(self, network: AggregationNetwork, grid: tuple[int, int]) -> None:
        self._network, self._grid = network, grid
        self._mixing = network.mixing()
        self._sum: Tensor | None = None
        self._check = StepCheck(network.config)

    def add(self, features: StepFeatures) -> None:
        """Add one step's layers, each weighted by its mixing weight."""
        self._check.add(features)
        config = self._network.config
        for position, name in enumerate(config.layers):
            x = features.maps[name].to(self._mixing.dtype)
            bottleneck = self._network.bottleneck_layers[position]
            if config.order == "resize-first":
                x = bottleneck(resize(x, self._grid))
            else:
                x = resize(bottleneck(x), self._grid)
            x = x * self._mixing[features.entry, position]
            self._sum = x if self._sum is None else self._sum + x

    def result(self) -> Tensor:
        """The descriptor map (B, width, h, w).

        Raises:
            InputError: not every recorded step was added.
        """
        self._check.complete()
        assert self._sum is not None
        return self._sum


def resize(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """A map (B, C, h, w) at another size (bilinear, `align_corners=False`)."""
    if tuple(x.shape[-2:]) == grid:
        return x
    return F.interpolate(x, size=grid, mode="bilinear", align_corners=False)
