"""The table of models: an alias, the backbone behind it, the aggregator that belongs to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warpkit.checks import InputError, first_line, require, suggest
from warpkit.features.registry import backbone_names
from warpkit.features.stable_diffusion import STABLE_DIFFUSION
from warpkit.features.tiny import TINY_WEIGHTS

__all__ = ["MODELS", "ModelPreset", "resolve_model"]

_PUBLISHED_REPOSITORY = "g-luo/diffusion-hyperfeatures"
_TINY_AGGREGATOR = TINY_WEIGHTS.with_name("tiny-aggregator.safetensors")


@dataclass(frozen=True)
class ModelPreset:
    """A model as users name it.

    Attributes:
        name: what the user wrote.
        backbone: name in the backbone registry.
        options: options of the backbone's factory.
        aggregator: local file, or the name of a file in the authors' hub repository.
        trained_on: what the aggregator was trained on, as error messages should say it.
        summary, licence, size: for `warpkit models`.
    """

    name: str
    backbone: str
    options: Mapping[str, Any] = field(default_factory=dict)
    aggregator: Path | str | None = None
    trained_on: str = ""
    summary: str = ""
    licence: str = ""
    size: str = ""

    def aggregator_file(self, *, local_files_only: bool = False) -> Path:
        """The aggregator on disk; a published one is fetched from the hub or its cache.

        Args:
            local_files_only: never touch the network.

        Raises:
            InputError: the model has no aggregator of its own, or it cannot be fetched.
        """
        if self.aggregator is None:
            raise InputError(
                f"model '{self.name}' has no aggregator of its own: give one with --aggregator"
                " FILE (train it with `warpkit train aggregator`)"
            )
        if isinstance(self.aggregator, Path):
            return self.aggregator
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError

        try:
            return Path(
                hf_hub_download(
                    _PUBLISHED_REPOSITORY,
                    f"weights/{self.aggregator}",
                    local_files_only=local_files_only,
                )
            )
        except (OSError, ValueError, HfHubHTTPError) as error:
            raise InputError(
                f"the aggregator of '{self.name}' ({_PUBLISHED_REPOSITORY},"
                f" weights/{self.aggregator}) is neither in the local cache nor reachable:"
                f" {first_line(error).rstrip('.')}. Download it on a connected machine and give"
                " it with --aggregator FILE"
            ) from error


def _stable_diffusion(alias: str, model: str, aggregator: str, summary: str) -> ModelPreset:
    release = STABLE_DIFFUSION[model]
    return ModelPreset(
        name=alias,
        backbone="stable-diffusion",
        options={"model": model},
        aggregator=aggregator,
        trained_on=model,
        summary=summary,
        licence=release.licence,
        size=f"{release.gigabytes} GB",
    )


MODELS: dict[str, ModelPreset] = {
    preset.name: preset
    for preset in (
        ModelPreset(
            name="tiny",
            backbone="tiny",
            aggregator=_TINY_AGGREGATOR,
            trained_on="tiny",
            summary="embedded model, ships with the package, runs on a laptop CPU",
            licence="CC BY-NC 4.0 (weights)",
            size="in the package",
        ),
        _stable_diffusion(
            "sd15", "sd15", "aggregation_network.pt", "Stable Diffusion 1.5, 50 steps (the paper)"
        ),
        _stable_diffusion(
            "sd15-onestep",
            "sd15",
            "aggregation_network_one-step.pt",
            "Stable Diffusion 1.5, one step",
        ),
        _stable_diffusion(
            "sd21",
            "sd21",
            "aggregation_network_sdv2-1.pt",
            "Stable Diffusion 2.1-base, 50 steps",
        ),
    )
}


def resolve_model(model: str) -> ModelPreset:
    """Find what a user means by a model: alias, registered backbone, folder or hub id.

    Raises:
        InputError: none of these; names the aliases and the nearest one.
    """
    if model in MODELS:
        return MODELS[model]
    if model in backbone_names():
        return ModelPreset(name=model, backbone=model, trained_on=model)
    looks_like_hub_id = model.count("/") == 1 and not model.startswith((".", "/", "~"))
    require(
        Path(model).is_dir() or looks_like_hub_id,
        f"unknown model '{model}': expected one of {', '.join(MODELS)}, the folder of a diffusers"
        f" model, or a hub id such as owner/name.{suggest(model, MODELS)}",
    )
    return ModelPreset(
        name=model, backbone="stable-diffusion", options={"model": model}, trained_on=model
    )
