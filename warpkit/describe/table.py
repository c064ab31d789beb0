"""The table of models: an alias, the backbone behind it, the aggregator that belongs to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from warpkit.checks import InputError, exists, is_dir, is_file, require, suggest
from warpkit.describe.model_file import ModelConfig
from warpkit.describe.published import PUBLISHED_AGGREGATORS, published_aggregator
from warpkit.features.model_sources import RELEASES
from warpkit.features.registry import backbone_names
from warpkit.features.single_file import is_single_file
from warpkit.features.tiny import TINY_WEIGHTS
from warpkit.io.config import load_config

__all__ = ["EMBEDDED", "MODELS", "ModelPreset", "aggregator_path", "is_model_file", "resolve_model"]

_OWN_AGGREGATORS = {
    name: TINY_WEIGHTS.with_name(f"{name}-aggregator.safetensors")
    for name in ("tiny", "efficientnet-lite0")
}
EMBEDDED = frozenset({"embedded", *_OWN_AGGREGATORS})
"""Models that come with the package: small, and there without a download."""

_TERM = re.compile(r"(?:(\d+(?:\.\d*)?|\.\d+)\*)?(.+)")


@dataclass(frozen=True)
class ModelPreset:
    """A model as users name it.

    Attributes:
        name: what the user wrote.
        backbone: name in the backbone registry.
        options: options of the backbone's factory.
        aggregator: local file, or the alias of a published aggregator.
        trained_on: what the aggregator was trained on, as error messages should say it.
        parts: models that it combines and their shares of the similarity; empty for a single one,
            and then `backbone` and what follows it are unused.
        part_sizes: input sides in pixels of those parts that take another than their own.
        config: what a model file says beyond that; None for an alias that has only an aggregator.
        grid: side of the usual input in pixels, and pixels of it per cell, where that is known
            before anything is loaded.
        summary, licence, size: for `warpkit models`.
    """

    name: str
    backbone: str
    options: Mapping[str, Any] = field(default_factory=dict)
    aggregator: Path | str | None = None
    trained_on: str = ""
    parts: tuple[tuple[str, float], ...] = ()
    part_sizes: Mapping[str, int] = field(default_factory=dict)
    config: ModelConfig | None = None
    grid: tuple[int, int] | None = None
    summary: str = ""
    licence: str = ""
    size: str = ""

    def single(self) -> ModelPreset:
        """This model, if it is a single one.

        Raises:
            InputError: it combines several.
        """
        require(
            not self.parts,
            f"'{self.name}' combines {' and '.join(name for name, _ in self.parts)}: name one of"
            " them here",
        )
        return self

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
                " FILE (train it with `warpkit train aggregator`), or stack its raw layers by a"
                " model file (configs/paper/sd-layer-4.yaml shows one)"
            )
        return aggregator_path(self.aggregator, local_files_only=local_files_only)


def aggregator_path(name: Path | str, *, local_files_only: bool = False) -> Path:
    """An aggregator's file: a path, or an alias whose aggregator it is.

    Raises:
        InputError: a published aggregator that is neither in the cache nor reachable.
    """
    if isinstance(name, str) and not exists(name):
        if name in PUBLISHED_AGGREGATORS:
            return published_aggregator(name, local_files_only=local_files_only)
        if name in _OWN_AGGREGATORS:
            return _OWN_AGGREGATORS[name]
    return Path(name)


def _published(alias: str, model: str, summary: str) -> ModelPreset:
    release = RELEASES[model]
    known = PUBLISHED_AGGREGATORS.get(alias)
    return ModelPreset(
        name=alias,
        backbone=release.family,
        options={"model": model},
        aggregator=alias if known else None,
        trained_on=model,
        grid=(512, 8),
        summary=summary,
        licence=release.licence,
        size=f"{release.gigabytes} GB",
    )


def _raw(alias: str, summary: str, **settings: Any) -> ModelPreset:
    """A model whose raw layers are its descriptor, unless an aggregator is given."""
    release = RELEASES[alias]
    return ModelPreset(
        name=alias,
        backbone=release.family,
        options={"model": alias},
        trained_on=alias,
        config=ModelConfig(backbone=alias, **settings),
        summary=summary,
        licence=release.licence,
        size=f"{release.gigabytes} GB",
    )


MODELS: dict[str, ModelPreset] = {
    preset.name: preset
    for preset in (
        ModelPreset(
            name="embedded",
            backbone="",
            # Chosen on birds of species that the aggregators had not seen: docs/embedded-model.md.
            parts=(("efficientnet-lite0", 0.85), ("tiny", 0.15)),
            part_sizes={"tiny": 80},
            grid=(256, 4),
            summary="the default: the two models below together, runs on a laptop CPU",
            licence="CC BY-NC 4.0 (weights)",
            size="in the package",
        ),
        ModelPreset(
            name="efficientnet-lite0",
            backbone="efficientnet-lite0",
            aggregator=_OWN_AGGREGATORS["efficientnet-lite0"],
            trained_on="efficientnet-lite0",
            grid=(256, 4),
            summary="EfficientNet-Lite0 with an aggregator of its own",
            licence="Apache-2.0 (network), CC BY-NC 4.0 (aggregator)",
            size="in a package of its own, 17 MB",
        ),
        ModelPreset(
            name="tiny",
            backbone="tiny",
            aggregator=_OWN_AGGREGATORS["tiny"],
            trained_on="tiny",
            grid=(128, 2),
            summary="a small diffusion model with its aggregator; generates, too",
            licence="CC BY-NC 4.0 (weights)",
            size="in the package",
        ),
        _published("sd15", "sd15", "Stable Diffusion 1.5, 50 steps (the paper)"),
        _published("sd15-onestep", "sd15", "Stable Diffusion 1.5, one step"),
        _published("sd21", "sd21", "Stable Diffusion 2.1-base, 50 steps"),
        _published("sd21-v", "sd21-v", "Stable Diffusion 2.1 (v-prediction), no aggregator"),
        _published("sd14", "sd14", "Stable Diffusion 1.4, no aggregator"),
        _published("sd13", "sd13", "Stable Diffusion 1.3, no aggregator"),
        _raw("dino", "DINO ViT-S/8, keys of block 9", layers=("block.9.key",)),
        _raw("dinov2", "DINOv2 ViT-B/14, tokens of block 11", layers=("block.11.token",), size=518),
    )
}


def resolve_model(model: str) -> ModelPreset:
    """Find what a user means: alias, model file, registered backbone, weights, hub id, or several
    of them joined by `+`.

    Raises:
        InputError: none of these; names the aliases and the nearest one.
    """
    if model in MODELS:
        return MODELS[model]
    if is_model_file(model):
        return _from_file(model)
    if "+" in model and not exists(model):
        return ModelPreset(name=model, backbone="", parts=_parts(model), trained_on=model)
    if model in backbone_names():
        return ModelPreset(name=model, backbone=model, trained_on=model)
    looks_like_hub_id = model.count("/") == 1 and not model.startswith((".", "/", "~"))
    require(
        is_dir(model) or is_single_file(model) or looks_like_hub_id,
        f"unknown model '{model}': expected one of {', '.join(MODELS)}, a model file (.yaml), the"
        " folder of a diffusers or transformers model, a .safetensors file, or a hub id such as"
        f" owner/name.{suggest(model, MODELS)}",
    )
    return ModelPreset(
        name=model, backbone=_family(model), options={"model": model}, trained_on=model
    )


def _parts(model: str) -> tuple[tuple[str, float], ...]:
    """Parts and shares of `A+B` or `0.7*A+0.3*B`."""
    found = []
    for term in model.split("+"):
        parsed = _TERM.fullmatch(term.strip())
        require(
            parsed is not None,
            f"model '{model}': expected names joined by +, with shares if they are not equal, such"
            " as 0.7*sd15-onestep+0.3*dinov2",
        )
        share, name = cast("re.Match[str]", parsed).groups()
        resolve_model(name).single()
        found.append((name, float(share) if share else 1.0))
    return tuple(found)


def is_model_file(model: str) -> bool:
    """Whether a user names a model file (see `ModelConfig`)."""
    return Path(model).suffix in (".yaml", ".yml")


def _family(model: str) -> str:
    """Which loader a folder or hub id wants: DINO's say so by their configuration or name."""
    folder = Path(model)
    if is_dir(folder):
        top = (folder / "config.json").is_file() and not (folder / "unet").is_dir()
        return "vit" if top else "stable-diffusion"
    return "vit" if "dino" in folder.name.lower() else "stable-diffusion"


def _from_file(path: str) -> ModelPreset:
    config = load_config(ModelConfig, path)
    require(
        not is_model_file(config.backbone),
        f"{path}: its backbone is a model file itself ({config.backbone}): name the model in it",
    )
    base = resolve_model(config.backbone).single()
    aggregator = config.aggregator
    known = (
        aggregator is None or aggregator in PUBLISHED_AGGREGATORS or aggregator in _OWN_AGGREGATORS
    )
    require(
        known or is_file(str(aggregator)),
        f"{path}: no aggregator checkpoint at {aggregator}; expected a file or one of"
        f" {', '.join(PUBLISHED_AGGREGATORS)}",
    )
    return ModelPreset(
        name=Path(path).stem,
        backbone=base.backbone,
        options={**base.options, **config.factory_options()},
        aggregator=aggregator,
        trained_on=base.trained_on,
        config=config,
    )
