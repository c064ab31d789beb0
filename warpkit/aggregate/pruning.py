"""Parts of an aggregation network: early stopping, and the entries of the greatest weight.

Source: Diffusion Hyperfeatures, section 4 (early stopping; Ours-Pruned, SD-Layer-Pruned).
"""

from __future__ import annotations

import dataclasses

import torch

from warpkit.aggregate.network import AggregationNetwork
from warpkit.checks import require

__all__ = ["kept_entries", "restrict"]


def kept_entries(
    network: AggregationNetwork, *, stop_after: int | None = None, top: int | None = None
) -> list[tuple[int, int]]:
    """The entries (position of the step, position of the layer) that are kept, in their order.

    Args:
        stop_after: the diffusion ends after this many steps; later entries go.
        top: of the others this many of the greatest mixing weight stay; ties go to the earlier one.

    Raises:
        InputError: nothing would be left, or there are fewer entries.
    """
    config = network.config
    require(
        stop_after is None or 0 < stop_after <= config.num_steps,
        f"stop_after must lie in 1..{config.num_steps}, the aggregator's steps, got {stop_after}",
    )
    last = config.num_steps if stop_after is None else stop_after
    steps = [entry for entry, step in enumerate(config.steps) if step < last]
    require(
        len(steps) > 0,
        f"no step is recorded in the first {stop_after}: the aggregator's are {list(config.steps)}",
    )
    entries = [(step, layer) for step in steps for layer in range(len(config.layers))]
    if top is None:
        return entries
    require(
        0 < top <= len(entries),
        f"top must lie in 1..{len(entries)}, the aggregator's entries, got {top}",
    )
    weights = network.mixing().detach().cpu()
    order = sorted(entries, key=lambda entry: -float(weights[entry]))[:top]
    return sorted(order)


def restrict(network: AggregationNetwork, entries: list[tuple[int, int]]) -> AggregationNetwork:
    """The network over some of its entries, with the steps and layers alone that they need.

    The kept mixing weights keep their proportions; their sum is 1 again. So the descriptor has the
    direction of the kept part of the sum, and another length, which no cosine sees.
    """
    config = network.config
    steps = sorted({step for step, _ in entries})
    layers = sorted({layer for _, layer in entries})
    smaller = AggregationNetwork(
        dataclasses.replace(
            config,
            steps=tuple(config.steps[step] for step in steps),
            layers=tuple(config.layers[layer] for layer in layers),
            channels=tuple(config.channels[layer] for layer in layers),
        )
    )
    with torch.no_grad():
        weights = network.mixing_weights.detach().reshape(len(config.steps), -1)
        kept = torch.full((len(steps), len(layers)), -torch.inf, dtype=weights.dtype)
        for step, layer in entries:
            kept[steps.index(step), layers.index(layer)] = weights[step, layer].cpu()
        smaller.mixing_weights.copy_(kept.flatten())
        for position, layer in enumerate(layers):
            smaller.bottleneck_layers[position].load_state_dict(
                network.bottleneck_layers[layer].state_dict()
            )
    smaller.requires_grad_(False)
    return smaller.to(network.mixing_weights.device).eval()
