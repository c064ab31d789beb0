"""From what a user names to a backbone and what aggregates its features, fitted to each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from warpkit.aggregate.checkpoint import check_fits, load_aggregator
from warpkit.aggregate.network import AggregationNetwork
from warpkit.aggregate.pruning import kept_entries, restrict
from warpkit.aggregate.stack import LayerStack, stack_config
from warpkit.checks import InputError
from warpkit.describe.model_file import ModelConfig
from warpkit.describe.table import ModelPreset, aggregator_path
from warpkit.features.backbone import Backbone
from warpkit.features.registry import create_backbone

__all__ = ["Aggregator", "assemble"]

Aggregator = AggregationNetwork | LayerStack


def assemble(
    preset: ModelPreset,
    *,
    device: str,
    aggregator: str | Path | None,
    options: Mapping[str, Any],
) -> tuple[Backbone, Aggregator]:
    """Build both halves of a model.

    Args:
        aggregator: a checkpoint or alias in place of the preset's own.
        options: of the backbone's factory; they win over the preset's.

    Raises:
        InputError: something is missing, or the halves are made for different models.
    """
    config = preset.single().config or ModelConfig(backbone=preset.backbone)
    options = {**preset.options, **options}
    if aggregator is None and preset.aggregator is None and preset.config is not None:
        stated = {
            name: getattr(config, name)
            for name in ("steps", "num_steps", "layers")
            if getattr(config, name) is not None
        }
        if preset.backbone == "stable-diffusion":  # one clean call, unless the file says more
            stated = {"steps": (0,), "num_steps": 1, **stated}
        backbone = _create(preset, device, {**stated, **options})
        return backbone, LayerStack(stack_config(backbone.spec))
    path = _checkpoint(preset, aggregator, bool(options.get("local_files_only", False)))
    whole = load_aggregator(path, model=preset.trained_on)
    if config.stop_after is None and config.top is None and not config.raw:
        backbone = _fitting(preset, device, whole, path, {**_facets(preset, whole), **options})
        return backbone, whole
    entries = kept_entries(whole, stop_after=config.stop_after, top=config.top)
    network = restrict(whole, entries)
    some = len(network.config.layers) < len(whole.config.layers)
    wanted = {"layers": network.config.layers} if some else _facets(preset, network)
    backbone = _fitting(preset, device, network, path, {**wanted, **options})
    if not config.raw:
        return backbone, network
    steps = {whole.config.steps[step]: step for step, _ in entries}
    layers = {whole.config.layers[layer]: layer for _, layer in entries}
    kept = [
        (s, k)
        for s, step in enumerate(network.config.steps)
        for k, layer in enumerate(network.config.layers)
        if (steps[step], layers[layer]) in entries
    ]
    width = sum(network.config.channels[k] for _, k in kept)
    return backbone, LayerStack(dataclasses.replace(network.config, width=width), kept)


def _checkpoint(preset: ModelPreset, given: str | Path | None, local_files_only: bool) -> Path:
    if given is None:
        return preset.aggregator_file(local_files_only=local_files_only)
    return aggregator_path(str(given), local_files_only=local_files_only)


def _facets(preset: ModelPreset, network: AggregationNetwork) -> dict[str, Any]:
    """The layers that a vision transformer is to record: any facet may have been trained on."""
    names = network.config.layers
    facets = preset.backbone == "vit" and all(name.startswith("block.") for name in names)
    return {"layers": names} if facets else {}


def _fitting(
    preset: ModelPreset,
    device: str,
    network: AggregationNetwork,
    path: Path,
    options: Mapping[str, Any],
) -> Backbone:
    recorded: dict[str, Any] = {
        "steps": network.config.steps,
        "num_steps": network.config.num_steps,
    }
    if preset.backbone == "vit":  # it has one step; a checkpoint of another model is told so below
        recorded = {}
    backbone = _create(preset, device, {**recorded, **options})
    check_fits(network.config, backbone.spec, checkpoint=str(path))
    return backbone


def _create(preset: ModelPreset, device: str, options: Mapping[str, Any]) -> Backbone:
    try:
        return create_backbone(preset.backbone, device=device, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise InputError(
            f"model '{preset.name}' does not take all of {', '.join(sorted(options))}: {error}"
        ) from error
