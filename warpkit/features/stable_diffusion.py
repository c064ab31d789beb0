"""Stable Diffusion as a backbone: by alias, folder, single file or hub id, online or offline.

Loading is `stable_diffusion_parts.py` and `single_file.py`; where models live is
`model_sources.py`.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from warpkit.features.codecs import TextConditioner, VaeCodec
from warpkit.features.ddim import DdimSchedule, Prediction
from warpkit.features.diffusion import DiffusionBackbone
from warpkit.features.diffusion_settings import DiffusionSettings, Mode, recorded_steps
from warpkit.features.model_sources import find_file, find_source
from warpkit.features.registry import register_backbone
from warpkit.features.single_file import is_single_file, load_single_file
from warpkit.features.stable_diffusion_parts import (
    Parts,
    check_family,
    load_folder,
    load_unet_weights,
)
from warpkit.features.unet_calls import resolve_acceleration

__all__ = ["load_parts", "stable_diffusion_backbone"]

_log = logging.getLogger("warpkit")


def load_parts(
    model: str,
    dtype: torch.dtype,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    prediction: Prediction | None = None,
) -> Parts:
    """The parts of a model, checked to be of this family, on the CPU.

    Args:
        model: alias, diffusers folder, single safetensors file or hub id.
        prediction: what the UNet predicts; needed only for a single file of Stable Diffusion 2.x,
            which does not say.

    Raises:
        InputError: the model cannot be found, or is not of this family.
    """
    if is_single_file(model):
        parts, name = load_single_file(Path(model), dtype, prediction=prediction), model
    else:
        source = find_source(model, revision=revision, local_files_only=local_files_only)
        parts, name = load_folder(source.folder, dtype, name=source.name), source.name
    check_family(parts, name)
    _log.info("loaded %s in %s", name, dtype)
    return parts


@register_backbone("stable-diffusion")
def stable_diffusion_backbone(
    *,
    device: torch.device,
    model: str = "sd15",
    steps: tuple[int, ...] | None = None,
    num_steps: int = 50,
    layers: tuple[str, ...] | None = None,
    mode: Mode = "inversion",
    timestep: int | None = None,
    seed: int = 0,
    prompt: str = "",
    size: int = 512,
    unet: str | None = None,
    prediction: Prediction | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
    dtype: torch.dtype | None = None,
    acceleration: str = "auto",
) -> DiffusionBackbone:
    """Stable Diffusion 1.x or 2.x with the paper's time steps.

    Args:
        model: alias (`sd13`, `sd14`, `sd15`, `sd21`, `sd21-v`), diffusers folder, single
            safetensors file or hub id.
        steps: recorded departing steps; by default the paper's 11 of 50.
        num_steps: DDIM steps T; 1 gives the one-step variant.
        layers: the layers to record; by default all 12 of the decoder.
        mode, timestep, seed: see `DiffusionSettings`.
        unet: weights for the UNet alone that replace the model's (CleanDIFT): a file, or
            `owner/repository/file` on the hub.
        prediction: see `load_parts`.
        local_files_only: never touch the network.
        dtype: weights' dtype; by default float16 on a GPU, float32 on the CPU.
        acceleration: how the networks are called, see `warpkit.features.unet_calls`.

    Raises:
        InputError: the model cannot be found, or is not of this family.
    """
    how = resolve_acceleration(acceleration, device)
    dtype = dtype or (torch.float32 if device.type == "cpu" else torch.float16)
    parts = load_parts(
        model, dtype, revision=revision, local_files_only=local_files_only, prediction=prediction
    )
    if unet is not None:
        path = find_file(unet, what="the UNet's weights", local_files_only=local_files_only)
        load_unet_weights(parts.unet, path)
    for part in (parts.unet, parts.vae, parts.text_encoder):
        part.requires_grad_(False)
        part.eval().to(device)
    scheduler = parts.scheduler
    return DiffusionBackbone(
        name=model,
        unet=parts.unet,
        codec=VaeCodec(parts.vae, compiled=how == "compile"),
        conditioner=TextConditioner(parts.tokenizer, parts.text_encoder),
        schedule=DdimSchedule(
            num_steps=num_steps,
            train_steps=int(scheduler["num_train_timesteps"]),
            beta_start=float(scheduler["beta_start"]),
            beta_end=float(scheduler["beta_end"]),
            prediction=prediction or scheduler["prediction_type"],
        ),
        settings=DiffusionSettings(
            steps=recorded_steps(num_steps) if steps is None else steps,
            prompt=prompt,
            layers=layers,
            mode=mode,
            timestep=timestep,
            seed=seed,
        ),
        size=size,
        output_stride=8,
        side="long",
        acceleration=how,
    )
