"""What a run of backbone training starts from: a UNet with random weights, or with given ones."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from warpkit.checks import InputError, require
from warpkit.features.tiny import TINY_WEIGHTS, UnetConfig, build_unet, load_unet
from warpkit.train.backbone_config import BackboneTrainConfig

__all__ = ["averaged_unet", "starting_unet"]

_log = logging.getLogger("warpkit")

_SHAPE: dict[str, Any] = {
    "channels": (64, 96, 128, 192),
    "blocks": 2,
    "attention_levels": (2, 3),
    "groups": 16,
}


def starting_unet(
    config: BackboneTrainConfig, classes: tuple[str, ...]
) -> tuple[nn.Module, UnetConfig, Path | None]:
    """The UNet to train, its configuration, and the file its weights came from.

    Raises:
        InputError: a shape that cannot be built, one that `initial` does not have, or crops that
            do not suit it.
    """
    stated = {name: getattr(config, name) for name in _SHAPE if getattr(config, name) is not None}
    path = config.initial
    if path is None:
        shape = _SHAPE | stated
        found = UnetConfig(**shape, head=min(32, *shape["channels"]), classes=classes)
    else:
        if str(path) == "tiny" and not path.exists():
            path = TINY_WEIGHTS
        start, given = load_unet(path)
        for name, value in stated.items():
            require(
                getattr(given, name) == value,
                f"{path} cannot be the start of this run: its {name} is {getattr(given, name)}, the"
                f" configuration says {value}; leave {name} out to take that of the start",
            )
        found = dataclasses.replace(given, classes=classes)
    if config.beta_end is not None:
        found = dataclasses.replace(found, beta_end=config.beta_end)
    multiple = found.factor * 2 ** (len(found.channels) - 1)
    for size in config.input_sizes:
        require(
            size > 0 and size % multiple == 0,
            f"crops of {size} pixels do not suit this UNet: their sides must be multiples of"
            f" {multiple}",
        )
    try:
        unet = build_unet(found)
    except ValueError as error:  # widths that the groups do not divide
        raise InputError(f"channels and groups do not go together: {error}") from error
    if path is not None:
        state = start.state_dict()
        rows = _class_rows(state["class_embedding.weight"], given.classes, classes)
        unet.load_state_dict(state | {"class_embedding.weight": rows})
    return unet, found, path


def _class_rows(rows: Tensor, known: tuple[str, ...], wanted: tuple[str, ...]) -> Tensor:
    """Class embeddings (len(wanted) + 1, C) by name; a class that is not known gets the null's."""
    null = len(known)
    index = [known.index(name) if name in known else null for name in wanted]
    new = sum(1 for row in index if row == null)
    if new:
        _log.info("new to the starting weights: %d of %d classes", new, len(wanted))
    return rows[[*index, null]]


def averaged_unet(config: UnetConfig, tensors: dict[str, Tensor]) -> nn.Module:
    """A UNet in evaluation mode whose weights ARE the given tensors: it changes as they do.

    Torch's random state stays as it is.
    """
    with torch.device("meta"):
        unet = build_unet(config)
    unet.requires_grad_(False)
    unet.load_state_dict(tensors, strict=True, assign=True)
    return unet.eval()
