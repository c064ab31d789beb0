"""The fast path of the aggregation network for inference: the same descriptors, less work.

`AggregationNetwork.forward` is the readable reference. Three things change, none of them the
function: a 1x1 convolution commutes with bilinear resizing, so where features are resized before
the bottleneck its two entry convolutions run as one on the small map (their 480 channels are
resized instead of up to 1280); where features are resized after it, maps of one size are summed
over layers and steps, and resized once; and the weights are read in the precision of the features,
while group norms accumulate, and the sum runs, in float32.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.aggregate.network import (
    AggregationNetwork,
    Bottleneck,
    StepCheck,
    resize,
)
from warpkit.features.backbone import StepFeatures

__all__ = ["StreamingAggregator"]


class StreamingAggregator:
    """Adds step after step of one run; make a new one for the next run.

    Args:
        network: read once; later changes of its weights are not seen.
        grid: (h, w) cells of the descriptor map.
        dtype: precision of the convolutions.
    """

    def __init__(
        self, network: AggregationNetwork, grid: tuple[int, int], *, dtype: torch.dtype
    ) -> None:
        config = network.config
        self._check = StepCheck(config)
        self._grid, self._dtype = grid, dtype
        self._resize_first = config.order == "resize-first"
        self._names = config.layers
        self._mixing: list[list[float]] = network.mixing().tolist()
        self._layers = [
            _FusedBottleneck(layer[0], dtype)  # type: ignore[index]
            for layer in network.bottleneck_layers
        ]
        self._sums: dict[tuple[int, int], Tensor] = {}

    @torch.no_grad()
    def add(self, features: StepFeatures) -> None:
        """Add one step's layers, each weighted by its mixing weight.

        Raises:
            InputError: a step that was not expected, a layer that is missing or of other width.
        """
        self._check.add(features)
        grid = self._grid if self._resize_first else None
        for name, layer, weight in zip(
            self._names, self._layers, self._mixing[features.entry], strict=True
        ):
            if weight == 0:  # pruned
                continue
            x = layer(features.maps[name].to(self._dtype), grid)
            size = (x.shape[-2], x.shape[-1])
            if size not in self._sums:
                self._sums[size] = torch.zeros_like(x, dtype=torch.float32)
            self._sums[size].add_(x, alpha=weight)

    @torch.no_grad()
    def result(self) -> Tensor:
        """The descriptor map, float32 (B, width, h, w).

        Raises:
            InputError: not every recorded step was added.
        """
        self._check.complete()
        first, *others = (resize(total, self._grid) for total in self._sums.values())
        for other in others:
            first = first + other
        return first

    def run(self, steps: Iterable[StepFeatures]) -> Tensor:
        """The descriptors of a whole run; holds one step's maps at a time."""
        for step in steps:
            self.add(step)
            del step  # otherwise its maps would live on while the next step is computed
        return self.result()


class _FusedBottleneck:
    """A bottleneck whose two 1x1 entry convolutions are one."""

    def __init__(self, bottleneck: Bottleneck, dtype: torch.dtype) -> None:
        entry = [bottleneck.conv1.weight]
        if bottleneck.shortcut is not None:
            entry.append(bottleneck.shortcut.weight)
        self._entry = torch.cat([weight.detach() for weight in entry]).to(dtype)
        self._middle = bottleneck.conv1.out_channels
        self._conv2 = bottleneck.conv2.weight.detach().to(dtype)
        self._conv3 = bottleneck.conv3.weight.detach().to(dtype)
        norms = [bottleneck.conv1.norm, bottleneck.conv2.norm, bottleneck.conv3.norm]
        if bottleneck.shortcut is not None:
            norms.append(bottleneck.shortcut.norm)
        self._norms = [
            (
                norm.num_groups,
                norm.weight.detach().to(dtype),
                norm.bias.detach().to(dtype),
                norm.eps,
            )
            for norm in norms
        ]

    def __call__(self, x: Tensor, grid: tuple[int, int] | None) -> Tensor:
        """B_l of (B, C, h, w), resized to `grid` before its first norm where one is given."""
        entry = F.conv2d(x, self._entry)
        if grid is not None:
            entry = resize(entry, grid)
        inner = F.relu_(self._norm(0, entry[:, : self._middle]))
        inner = F.relu_(self._norm(1, F.conv2d(inner, self._conv2, padding=1)))
        inner = self._norm(2, F.conv2d(inner, self._conv3))
        if len(self._norms) > len((0, 1, 2)):
            return F.relu_(inner.add_(self._norm(3, entry[:, self._middle :])))
        return F.relu_(inner.add_(x if grid is None else resize(x, grid)))

    def _norm(self, which: int, x: Tensor) -> Tensor:
        groups, weight, bias, epsilon = self._norms[which]
        return F.group_norm(x, groups, weight, bias, epsilon)
