"""What a run of aggregator training starts from: the frozen backbone and the network over it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from warpkit.aggregate.checkpoint import check_fits, load_aggregator
from warpkit.aggregate.network import AggregationConfig, AggregationNetwork
from warpkit.checks import InputError, require
from warpkit.describe.table import MODELS, resolve_model
from warpkit.features.backbone import Backbone, BackboneSpec
from warpkit.features.registry import create_backbone
from warpkit.train.aggregator_config import AggregatorTrainConfig

__all__ = ["create_network", "frozen_backbone", "input_sizes", "starting_point"]

_SHAPE: dict[str, Any] = {
    "width": 128,
    "bottleneck": 48,
    "groups": 16,
    "order": "bottleneck-first",
}


def starting_point(
    config: AggregatorTrainConfig,
) -> tuple[AggregationNetwork | None, Path | None]:
    """The aggregator of `initial` and its file; None for both without it."""
    path = config.initial
    if path is None:
        return None, None
    if str(path) in MODELS and not path.exists():
        path = MODELS[str(path)].aggregator_file()
    return load_aggregator(path, model=resolve_model(config.backbone).single().trained_on), path


def frozen_backbone(
    config: AggregatorTrainConfig, device: torch.device, start: AggregationNetwork | None
) -> Backbone:
    """The backbone, recording the steps that the configuration or its starting point names.

    Raises:
        InputError: no such backbone, or it does not have these steps or weights.
    """
    preset = resolve_model(config.backbone).single()
    options: dict[str, Any] = {}
    if start is not None:
        options |= {"steps": start.config.steps, "num_steps": start.config.num_steps}
    if config.layer_steps is not None:
        options["steps"] = config.layer_steps
    if config.num_steps is not None:
        options["num_steps"] = config.num_steps
    options |= preset.options
    if config.weights is not None:
        options["weights"] = config.weights
    try:
        return create_backbone(preset.backbone, device=str(device), **options)
    except TypeError as error:  # an option that this backbone does not have
        raise InputError(
            f"backbone '{config.backbone}' does not take {', '.join(sorted(options))}: {error}"
        ) from error


def input_sizes(config: AggregatorTrainConfig, spec: BackboneSpec) -> tuple[int, ...]:
    """The sides of inputs, checked against the backbone."""
    sizes = config.sizes or (spec.size if config.size is None else config.size,)
    for size in sizes:
        require(
            size > 0 and size % spec.multiple == 0,
            f"an input of {size} pixels does not suit the backbone '{spec.name}': its sides must"
            f" be multiples of {spec.multiple}",
        )
    return sizes


def create_network(
    config: AggregatorTrainConfig, spec: BackboneSpec, start: AggregationNetwork | None
) -> AggregationNetwork:
    """A network over a backbone, with random weights or those of the starting point.

    Raises:
        InputError: the starting point is for another backbone, or of another shape than the
            configuration states.
    """
    stated = {name: getattr(config, name) for name in _SHAPE if getattr(config, name) is not None}
    if start is not None:
        check_fits(start.config, spec, checkpoint=str(config.initial))
        for name, value in stated.items():
            require(
                getattr(start.config, name) == value,
                f"{config.initial} cannot be the start of this run: its {name} is"
                f" {getattr(start.config, name)}, the configuration says {value}; leave {name} out"
                " to take that of the start",
            )
        network = AggregationNetwork(dataclasses.replace(start.config, model=spec.name))
        network.load_state_dict(start.state_dict())
        return network
    try:
        return AggregationNetwork(
            AggregationConfig(
                model=spec.name,
                layers=tuple(layer.name for layer in spec.layers),
                channels=tuple(layer.channels for layer in spec.layers),
                steps=spec.steps,
                num_steps=spec.num_steps,
                **_SHAPE | stated,
            )
        )
    except ValueError as error:  # widths that the groups do not divide
        raise InputError(f"width, bottleneck and groups do not go together: {error}") from error
