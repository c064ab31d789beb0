"""The parts of a Stable Diffusion model, read from a diffusers folder; only those that are used.

UNet, VAE, tokenizer, text encoder and the noise schedule that the model states.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from warpkit.checks import InputError, first_line, require

__all__ = ["Parts", "check_family", "load_folder", "load_unet_weights"]

# Epsilon where a model does not say, as diffusers has it.
_SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "epsilon",
}


@dataclass(frozen=True)
class Parts:
    """What the method needs of a model.

    Attributes:
        tokenizer: turns prompts into tokens.
        scheduler: the noise schedule, as diffusers writes it down.
    """

    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler: Mapping[str, Any]


def load_folder(folder: Path, dtype: torch.dtype, *, name: str) -> Parts:
    """Read a folder in the layout of diffusers; the network is never touched.

    Raises:
        InputError: a part is missing, unreadable or of another family.
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from transformers import CLIPTextModel, CLIPTokenizer

    def part(cls: Any, where: str, **options: Any) -> Any:
        with _reading(name, where), warnings.catch_warnings():
            # diffusers passes the hub client arguments that it no longer takes.
            warnings.filterwarnings("ignore", message="The `.*` argument is .*ignored")
            return cls.from_pretrained(
                str(folder), subfolder=where, local_files_only=True, **options
            )

    def network(cls: Any, where: str) -> Any:
        loaded, info = part(cls, where, dtype=dtype, output_loading_info=True)
        missing = sorted(info["missing_keys"])
        require(  # they would be random
            not missing,
            f"'{name}' lacks {len(missing)} weights of its part '{where}', such as"
            f" {''.join(missing[:1])}",
        )
        return loaded

    unet_class = ""
    with _reading(name, "unet"):
        unet_class = str(UNet2DConditionModel.load_config(folder / "unet").get("_class_name"))
    require(
        unet_class == "UNet2DConditionModel",
        f"'{name}' is no Stable Diffusion 1.x or 2.x: its denoiser is a {unet_class}, expected a"
        " UNet2DConditionModel",
    )
    with _reading(name, "scheduler"):
        scheduler: Any = DDIMScheduler.load_config(
            str(folder), subfolder="scheduler", local_files_only=True
        )
    return Parts(
        unet=network(UNet2DConditionModel, "unet"),
        vae=network(AutoencoderKL, "vae"),
        text_encoder=network(CLIPTextModel, "text_encoder"),
        tokenizer=part(CLIPTokenizer, "tokenizer"),
        scheduler=_SCHEDULE | dict(scheduler),
    )


@contextmanager
def _reading(name: str, part: str) -> Iterator[None]:
    """Turn what a missing or broken part leads to into one line that names it."""
    try:
        yield
    except InputError:
        raise
    # What the libraries raise for missing, cut or foreign files.
    except (
        *(OSError, ValueError, LookupError, TypeError, RuntimeError),
        *(AttributeError, NotImplementedError, SafetensorError),
    ) as error:
        raise InputError(
            f"'{name}': its part '{part}' is missing or cannot be read ({first_line(error)});"
            " expected the folders unet, vae, text_encoder, tokenizer and scheduler of a diffusers"
            " model"
        ) from error


def check_family(parts: Parts, name: str) -> None:
    """Raise unless the parts are those of a text-to-image Stable Diffusion 1.x or 2.x."""
    unet, vae, encoder = parts.unet.config, parts.vae.config, parts.text_encoder.config
    require(
        unet.in_channels == vae.latent_channels,
        f"'{name}' is no text-to-image Stable Diffusion: its UNet takes {unet.in_channels}"
        f" channels, its VAE gives {vae.latent_channels}",
    )
    require(
        unet.addition_embed_type is None and unet.cross_attention_dim == encoder.hidden_size,
        f"'{name}' is no Stable Diffusion 1.x or 2.x: its UNet attends to"
        f" {unet.cross_attention_dim} channels, its text encoder gives"
        f" {encoder.hidden_size}; Stable Diffusion XL and later are not supported",
    )
    schedule = parts.scheduler.get("beta_schedule", "scaled_linear")
    require(
        schedule == "scaled_linear" and not parts.scheduler.get("rescale_betas_zero_snr", False),
        f"'{name}' uses the beta schedule '{schedule}'"
        + (" rescaled to zero terminal SNR" if schedule == "scaled_linear" else "")
        + ": Diffusion Hyperfeatures needs 'scaled_linear'",
    )


def load_unet_weights(unet: Any, path: Path) -> None:
    """Replace every weight of a UNet by those of a file, such as a noise-free one (CleanDIFT).

    Args:
        path: safetensors (or a PyTorch state dict) with the names that diffusers uses, for the
            UNet alone.

    Raises:
        InputError: unreadable, or weights of another architecture.
    """
    state = _state_dict(path)
    own = unet.state_dict()
    missing = [key for key in own if key not in state]
    left = [key for key in state if key not in own]
    require(
        not missing and not left,
        f"{path} holds no weights for this UNet: {len(missing)} of its {len(own)} tensors are"
        f" missing{_such(missing)}, {len(left)} are unknown to it{_such(left)}; expected the state"
        " dict of a diffusers UNet of the same model",
    )
    for key, value in state.items():
        require(
            value.shape == own[key].shape,
            f"{path} is for another UNet: '{key}' is {tuple(value.shape)} there,"
            f" {tuple(own[key].shape)} in the model",
        )
    unet.load_state_dict(state, strict=True)


def _such(keys: list[str]) -> str:
    return f" (such as {keys[0]})" if keys else ""


def _state_dict(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(str(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, LookupError, EOFError) as error:
        raise InputError(f"{path} is not a readable state dict: {first_line(error)}") from error
    require(
        isinstance(content, dict) and all(isinstance(v, Tensor) for v in content.values()),
        f"{path} is no state dict: expected names and tensors alone",
    )
    return dict(content)
