"""The decoder layers of a Stable Diffusion, known without its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from warpkit.checks import InputError, first_line, require
from warpkit.features.model_sources import release_name
from warpkit.features.single_file import unet_config
from warpkit.features.taps import decoder_taps

__all__ = ["decoder_layers"]


def decoder_layers(model: str) -> dict[str, int]:
    """Names and channels of a model's decoder layers, deepest first.

    Args:
        model: an alias or hub id of a published Stable Diffusion, or a diffusers folder.

    Raises:
        InputError: neither of these, or an unreadable configuration.
    """
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    folder = Path(model)
    alias = release_name(model)
    require(
        folder.is_dir() or (alias is not None and alias.startswith("sd")),
        f"the layers of '{model}' are not known here: expected an alias such as sd15, or the folder"
        " of a diffusers model",
    )
    try:
        config: Any = (
            UNet2DConditionModel.load_config(folder / "unet")
            if folder.is_dir()
            else unet_config(1024 if str(alias).startswith("sd2") else 768)
        )
        with torch.device("meta"):
            unet: Any = UNet2DConditionModel.from_config(config)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"'{model}' is no diffusers model: {first_line(error)}") from error
    modules = dict(unet.named_modules())
    return {name: int(modules[name].out_channels) for name in decoder_taps(unet)}
