"""Stable Diffusion in one safetensors file, as fine-tunes are shared, read without a network.

The file holds the weights under the names of the original code; diffusers' own converters rename
them. What the file does not hold is known for this family: the architecture, and the tokens of the
empty prompt, which is all that real images need.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from warpkit.checks import InputError, first_line, is_file, require
from warpkit.features.ddim import Prediction
from warpkit.features.model_sources import find_source
from warpkit.features.stable_diffusion_parts import Parts

__all__ = ["EmptyPromptTokens", "is_single_file", "load_single_file", "unet_config"]

_UNET = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "down_block_types": (*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
}
_VAE = {
    "sample_size": 512,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "scaling_factor": 0.18215,
}
_TEXT = {"vocab_size": 49408, "max_position_embeddings": 77, "bos_token_id": 49406}

# By the width that the UNet attends to.
_UNETS: dict[int, dict[str, Any]] = {
    768: {"cross_attention_dim": 768, "attention_head_dim": 8},
    1024: {
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
        # Attention overflows in half precision in 2.1 for v-prediction.
        "upcast_attention": True,
    },
}
_TEXTS: dict[int, dict[str, Any]] = {
    768: {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "hidden_act": "quick_gelu",
        "eos_token_id": 49407,
        "pad_token_id": 49407,
    },
    1024: {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 23,
        "num_attention_heads": 16,
        "hidden_act": "gelu",
        "eos_token_id": 49407,
        "pad_token_id": 0,
    },
}
_TOKENIZERS = {768: ("sd15", "sd14", "sd13"), 1024: ("sd21", "sd21-v")}

_ATTENTION = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
_XL = ("conditioner.embedders.0.", "model.diffusion_model.label_emb.")
_FIRST = "model.diffusion_model.input_blocks.0.0.weight"
_IGNORED = ("position_ids", "logit_scale", "text_projection")


def is_single_file(model: str) -> bool:
    """Whether a user names a weight file rather than a folder, an alias or a hub id."""
    return Path(model).suffix in (".safetensors", ".ckpt", ".pt", ".pth", ".bin")


def unet_config(kind: int) -> dict[str, Any]:
    """The UNet's configuration of 1.x (kind 768) or 2.x (1024), as diffusers spells it."""
    return {**_UNET, **_UNETS[kind]}


def load_single_file(
    path: Path,
    dtype: torch.dtype,
    *,
    prediction: Prediction | None = None,
    sizes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Parts:
    """Read a checkpoint of Stable Diffusion 1.x or 2.x.

    Args:
        prediction: what the UNet predicts. 1.x predicts epsilon; for 2.x it must be said, since
            2.1-base (epsilon) and 2.1 (v_prediction) look alike.
        sizes: changes to the configurations `unet`, `vae` and `text_encoder`, for checkpoints of
            other widths.

    Raises:
        InputError: no such file, not safetensors, of another family, or incomplete.
    """
    from diffusers.loaders import single_file_utils as convert
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    checkpoint = _read(path)
    width, kind = _generation(checkpoint, path)
    require(
        prediction is not None or kind == 768,
        f"{path} is a Stable Diffusion 2.x, and its weights do not say what they predict: give"
        " prediction: epsilon (2.1-base, 512 px) or prediction: v_prediction (2.1, 768 px) in a"
        " model file",
    )
    changes = sizes or {}
    unet_sizes = {**unet_config(kind), "cross_attention_dim": width, **changes.get("unet", {})}
    vae_config: dict[str, Any] = {**_VAE, **changes.get("vae", {})}
    text_config: dict[str, Any] = {**_TEXT, **_TEXTS[kind], **changes.get("text_encoder", {})}
    unet: Any = UNet2DConditionModel(**unet_sizes)
    vae: Any = AutoencoderKL(**vae_config)
    encoder: Any = CLIPTextModel(CLIPTextConfig(**text_config))
    text_converter = (
        convert.convert_ldm_clip_checkpoint
        if kind == 768
        else lambda weights: convert.convert_open_clip_checkpoint(encoder, weights)
    )
    _fill(unet, lambda w: convert.convert_ldm_unet_checkpoint(w, unet.config), checkpoint, path)
    _fill(vae, lambda w: convert.convert_ldm_vae_checkpoint(w, vae.config), checkpoint, path)
    _fill(encoder, text_converter, checkpoint, path)
    for part in (unet, vae, encoder):
        part.to(dtype)
    return Parts(
        unet=unet,
        vae=vae,
        text_encoder=encoder,
        tokenizer=_tokenizer(kind, text_config),
        scheduler={
            "num_train_timesteps": 1000,
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "prediction_type": prediction or "epsilon",
        },
    )


def _read(path: Path) -> dict[str, Tensor]:
    require(is_file(path), f"no model file at {path}")
    require(
        path.suffix == ".safetensors",
        f"{path} may hold code and is not read: give the model as a .safetensors file or as a"
        " diffusers folder",
    )
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a readable safetensors file: {error}") from error


def _generation(checkpoint: Mapping[str, Tensor], path: Path) -> tuple[int, int]:
    """Width of the UNet's cross-attention, and 768 for 1.x or 1024 for 2.x."""
    require(
        not any(key.startswith(_XL) for key in checkpoint),
        f"{path} is a Stable Diffusion XL or later: only 1.x and 2.x are supported",
    )
    require(
        _FIRST in checkpoint and _ATTENTION in checkpoint,
        f"{path} is no Stable Diffusion checkpoint in one file: expected the original names"
        f" (such as {_FIRST}); weights of a UNet alone go beside a model, as unet: {path}",
    )
    channels = checkpoint[_FIRST].shape[1]
    require(
        channels == 4,
        f"{path} is no text-to-image Stable Diffusion: its UNet takes {channels} channels, its VAE"
        " gives 4",
    )
    open_clip = any(key.startswith("cond_stage_model.model.") for key in checkpoint)
    return int(checkpoint[_ATTENTION].shape[1]), 1024 if open_clip else 768


def _fill(part: Any, converter: Any, checkpoint: Mapping[str, Tensor], path: Path) -> None:
    """Load a part's weights from the checkpoint; each of them must be there."""
    name = type(part).__name__
    own = part.state_dict()
    try:
        converted: dict[str, Tensor] = converter(dict(checkpoint))
    except (LookupError, ValueError, RuntimeError, AttributeError, TypeError) as error:
        raise InputError(
            f"{path}: the weights of its {name} are incomplete ({first_line(error)})"
        ) from error
    if not any(key.startswith("text_model.") for key in own):
        converted = {key.removeprefix("text_model."): value for key, value in converted.items()}
    kept = {k: v for k, v in converted.items() if k in own or not k.endswith(_IGNORED)}
    try:
        part.load_state_dict(kept, strict=True)
    except RuntimeError as error:
        detail = textwrap.shorten(" ".join(str(error).split("\n\t")[1:]), 160, placeholder=" ...")
        raise InputError(f"{path}: its {name} is of another architecture: {detail}") from error


class EmptyPromptTokens:
    """The tokens of the empty prompt, where no vocabulary is at hand.

    Args:
        start, end, padding: token ids.
        length: tokens of a prompt.
    """

    def __init__(self, *, start: int, end: int, padding: int, length: int) -> None:
        self.model_max_length = length
        self._ids = [start, end, *[padding] * (length - 2)]

    def __call__(self, prompts: Sequence[str], **_: Any) -> SimpleNamespace:
        """`input_ids` int64 (B, length).

        Raises:
            InputError: a prompt that is not empty.
        """
        for prompt in prompts:
            require(
                not prompt,
                f"the prompt '{prompt}' needs a vocabulary, which a model in one file does not"
                " hold: download its base once (`warpkit models download sd15`, for 2.x sd21), or"
                " give the model as a diffusers folder",
            )
        return SimpleNamespace(input_ids=torch.tensor([self._ids] * len(prompts)))


def _tokenizer(kind: int, config: Mapping[str, Any]) -> Any:
    """That of the model's base if it is in the local cache, else the empty prompt alone."""
    from transformers import CLIPTokenizer

    for alias in _TOKENIZERS[kind]:
        try:
            source = find_source(alias, local_files_only=True)
        except InputError:
            continue
        if config["vocab_size"] == _TEXT["vocab_size"]:
            return CLIPTokenizer.from_pretrained(
                str(source.folder), subfolder="tokenizer", local_files_only=True
            )
    return EmptyPromptTokens(
        start=int(config["bos_token_id"]),
        end=int(config["eos_token_id"]),
        padding=int(config["pad_token_id"]),
        length=int(config["max_position_embeddings"]),
    )
