"""Raw layers as a descriptor: each resized to the output grid, then stacked. No training.

The paper's SD-Layer-4, SD-Concat-All, SD-Layer-Pruned, DINO and DINOv2.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from warpkit.aggregate.network import AggregationConfig, resize
from warpkit.checks import require
from warpkit.features.backbone import BackboneSpec, StepFeatures

__all__ = ["LayerStack", "stack_config"]


def stack_config(spec: BackboneSpec) -> AggregationConfig:
    """The configuration of a stack over everything that a backbone records."""
    channels = tuple(layer.channels for layer in spec.layers)
    return AggregationConfig(
        model=spec.name,
        layers=tuple(layer.name for layer in spec.layers),
        channels=channels,
        steps=spec.steps,
        num_steps=spec.num_steps,
        width=sum(channels) * len(spec.steps),
    )


class LayerStack(nn.Module):
    """Stacks features step by step, layers of a step in their order.

    Args:
        config: steps, layers and channels; what is said of bottlenecks means nothing here.
        entries: the pairs (position of the step, position of the layer) to stack; None takes all.
    """

    def __init__(
        self, config: AggregationConfig, entries: list[tuple[int, int]] | None = None
    ) -> None:
        super().__init__()
        self.config = config
        every = [(s, k) for s in range(len(config.steps)) for k in range(len(config.layers))]
        self.entries = every if entries is None else entries
        # Among the tensors, since they tell one stack from another.
        self.register_buffer("stacked", torch.tensor(self.entries))

    def forward(self, steps: Iterable[StepFeatures], grid: tuple[int, int]) -> Tensor:
        """Descriptors float32 (B, sum of channels, h, w) of a whole run.

        Raises:
            InputError: a recorded step or layer is missing.
        """
        found: dict[tuple[int, int], Tensor] = {}
        for step in steps:
            for entry in self.entries:
                name = self.config.layers[entry[1]]
                if entry[0] == step.entry and name in step.maps:
                    # A copy: a backbone may write its next step into the same memory.
                    kept = resize(step.maps[name], grid).to(torch.float32, copy=True)
                    found[entry] = kept
            del step
        require(
            len(found) == len(self.entries),
            f"{len(self.entries)} maps are to be stacked, the backbone gave {len(found)} of them",
        )
        return torch.cat([found[entry] for entry in self.entries], dim=1)
