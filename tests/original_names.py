"""A model of diffusers under the names of the original code, as single files have them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}


def _unet_names() -> dict[str, str]:
    """Beginnings of names: those of diffusers to the original ones, four levels of two blocks."""
    names = dict(_UNET)
    for i in range(4):
        for j in range(2):
            names[f"down_blocks.{i}.resnets.{j}"] = f"input_blocks.{3 * i + j + 1}.0"
            names[f"down_blocks.{i}.attentions.{j}"] = f"input_blocks.{3 * i + j + 1}.1"
        names[f"down_blocks.{i}.downsamplers.0.conv"] = f"input_blocks.{3 * i + 3}.0.op"
        for j in range(3):
            names[f"up_blocks.{i}.resnets.{j}"] = f"output_blocks.{3 * i + j}.0"
            names[f"up_blocks.{i}.attentions.{j}"] = f"output_blocks.{3 * i + j}.1"
        place = 1 if i == 0 else 2
        names[f"up_blocks.{i}.upsamplers.0.conv"] = f"output_blocks.{3 * i + 2}.{place}.conv"
    return names


def _unet(state: dict[str, Tensor]) -> dict[str, Tensor]:
    names = _unet_names()
    renamed = {}
    for key, value in state.items():
        start = max((n for n in names if key.startswith(f"{n}.")), key=len)
        rest = key[len(start) + 1 :]
        if "resnets" in start:
            part, dot, kind = rest.rpartition(".")
            rest = f"{_RESNET[part]}{dot}{kind}"
        renamed[f"model.diffusion_model.{names[start]}.{rest}"] = value
    return renamed


def _vae(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        name = key.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        name = re.sub(r"down_blocks\.(\d)\.resnets\.", r"down.\1.block.", name)
        name = name.replace("down_blocks.", "down.").replace("downsamplers.0", "downsample")
        name = re.sub(r"up_blocks\.(\d)\.resnets\.", lambda m: f"up.{3 - int(m[1])}.block.", name)
        name = re.sub(r"up_blocks\.(\d)\.", lambda m: f"up.{3 - int(m[1])}.", name)
        name = name.replace("upsamplers.0", "upsample")
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        if "mid_block.attentions.0" in name:
            name = name.replace("mid_block.attentions.0", "mid.attn_1")
            for ours, theirs in (("group_norm", "norm"), ("to_out.0", "proj_out")):
                name = name.replace(ours, theirs)
            name = re.sub(r"to_([qkv])", r"\1", name)
            if value.ndim == 2:  # linear layers were 1 x 1 convolutions
                value = value[..., None, None]
        renamed[f"first_stage_model.{name}"] = value
    return renamed


def save_single_file(path: Path, *, unet: Any, vae: Any, text_encoder: Any) -> Path:
    """Write three parts of a model of diffusers as one original checkpoint (1.x)."""
    text = {
        f"cond_stage_model.transformer.text_model.{k.removeprefix('text_model.')}": v
        for k, v in text_encoder.state_dict().items()
    }
    tensors = {**_unet(unet.state_dict()), **_vae(vae.state_dict()), **text}
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, path)
    return path
