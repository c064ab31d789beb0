"""The embedded model: a small class-conditional diffusion UNet over pixel-unshuffled RGB.

Trained by `warpkit train backbone`; its weights ship in `warpkit/weights`. It runs through the same
loop, taps and aggregator as Stable Diffusion.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from warpkit.checks import InputError, is_file, require
from warpkit.features.codecs import ClassConditioner, UnshuffleCodec
from warpkit.features.ddim import DdimSchedule
from warpkit.features.diffusion import DiffusionBackbone
from warpkit.features.diffusion_settings import DiffusionSettings, Mode
from warpkit.features.model_sources import find_file
from warpkit.features.registry import register_backbone
from warpkit.features.small_unet import SmallUnet
from warpkit.io.tensors import read_tensors, write_tensors

__all__ = [
    "TINY_WEIGHTS",
    "UnetConfig",
    "build_unet",
    "load_unet",
    "parse_unet_config",
    "save_unet",
    "tiny_backbone",
    "unet_backbone",
]

TINY_WEIGHTS = Path(__file__).parents[1] / "weights" / "tiny-unet.safetensors"


@dataclass(frozen=True)
class UnetConfig:
    """Architecture of a small diffusion UNet.

    Attributes:
        channels: width of each resolution level, finest first.
        blocks: residual blocks per encoder level (the decoder has one more).
        attention_levels: levels (0 = finest) with self-attention.
        factor: pixel-unshuffle factor of the codec.
        groups: groups of every GroupNorm.
        head: channels per attention head.
        classes: class names; one null class is added after them.
        beta_start, beta_end: of the `scaled_linear` noise schedule it was trained with; Stable
            Diffusion's are the defaults.
    """

    channels: tuple[int, ...] = (64, 96, 128, 192)
    blocks: int = 2
    attention_levels: tuple[int, ...] = (2, 3)
    factor: int = 2
    groups: int = 16
    head: int = 32
    classes: tuple[str, ...] = field(default=("object",))
    beta_start: float = 0.00085
    beta_end: float = 0.012

    def schedule(self, num_steps: int = 50) -> DdimSchedule:
        """Its noise schedule, cut into `num_steps` DDIM steps."""
        return DdimSchedule(num_steps, beta_start=self.beta_start, beta_end=self.beta_end)


def parse_unet_config(raw: Mapping[str, Any]) -> UnetConfig:
    """A configuration from its JSON form, where tuples are lists."""
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
    return UnetConfig(**values)


def build_unet(config: UnetConfig) -> nn.Module:
    """The UNet of a configuration, randomly initialised.

    Raises:
        ValueError: the groups do not divide the channels.
    """
    return SmallUnet(
        in_channels=3 * config.factor**2,
        channels=config.channels,
        blocks=config.blocks,
        attention_levels=config.attention_levels,
        groups=config.groups,
        head=config.head,
        classes=len(config.classes) + 1,
    )


def save_unet(path: Path, unet: nn.Module, config: UnetConfig, **record: Any) -> None:
    """Write weights (half precision) and configuration into one safetensors file, in one step.

    Args:
        record: JSON-able facts about the training, kept in the file's metadata.
    """
    tensors = {name: value.half().contiguous().cpu() for name, value in unet.state_dict().items()}
    metadata = {"unet": json.dumps(asdict(config)), "record": json.dumps(record)}
    write_tensors(path, tensors, metadata)


def load_unet(path: Path, device: torch.device | str = "cpu") -> tuple[nn.Module, UnetConfig]:
    """Read a file written by `save_unet`, in float32.

    Raises:
        InputError: the file is missing or not such a file.
    """
    require(is_file(path), f"no embedded-model weights at {path}")
    try:
        stored, metadata = read_tensors(path)
        require("unet" in metadata, f"{path} holds no warpkit UNet (no 'unet' in its metadata)")
        raw: dict[str, Any] = json.loads(metadata["unet"])
        tensors = {name: tensor.float() for name, tensor in stored.items()}
    except SafetensorError as error:
        raise InputError(f"{path} is not a readable safetensors file: {error}") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: its metadata 'unet' is no JSON: {error}") from error
    try:
        config = parse_unet_config(raw)
    except TypeError as error:
        raise InputError(
            f"{path} was written by another version of warpkit: its configuration does not read"
            f" here ({error})"
        ) from error
    with torch.device("meta"):
        unet = build_unet(config)
    try:
        unet.load_state_dict(tensors, strict=True, assign=True)
    except RuntimeError as error:
        detail = "; ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise InputError(f"{path} does not match its own configuration: {detail}") from error
    unet.requires_grad_(False)
    return unet.eval().to(device), config


@register_backbone("tiny")
def tiny_backbone(
    *,
    device: torch.device,
    weights: Path | str = TINY_WEIGHTS,
    unet: str | None = None,
    local_files_only: bool = False,
    steps: tuple[int, ...] = (0,),
    num_steps: int = 50,
    layers: tuple[str, ...] | None = None,
    mode: Mode = "inversion",
    timestep: int | None = None,
    seed: int = 0,
    prompt: str = "",
    size: int = 128,
    acceleration: str = "auto",
) -> DiffusionBackbone:
    """The embedded model. By default one call at the clean input (departing step 0).

    Args:
        weights: a file of `warpkit train backbone`.
        unet: the same, as a model file names it, in place of `weights`: a file, or
            `owner/repository/file` on the hub.
        local_files_only: never touch the network for it.

    Raises:
        InputError: both `weights` and `unet` are given, or the file is missing or no such file.
    """
    if unet is not None:
        require(
            Path(weights) == TINY_WEIGHTS,
            f"give the UNet as weights or as unet, not both: got {weights} and {unet}",
        )
        weights = find_file(unet, what="the weights of the UNet", local_files_only=local_files_only)
    network, config = load_unet(Path(weights), device)
    # Convolutions are faster so, on a CPU too.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    settings = DiffusionSettings(
        steps=steps, prompt=prompt, layers=layers, mode=mode, timestep=timestep, seed=seed
    )
    return unet_backbone(
        network, config, settings, num_steps=num_steps, size=size, acceleration=acceleration
    )


def unet_backbone(
    unet: nn.Module,
    config: UnetConfig,
    settings: DiffusionSettings | None = None,
    *,
    num_steps: int = 50,
    size: int = 128,
    acceleration: str = "none",
) -> DiffusionBackbone:
    """A UNet of `build_unet` as a backbone; it reads the UNet's weights as they are at each call.

    Args:
        settings: what is recorded and how images are read; by default one call at the clean input.
        num_steps: DDIM steps of a whole run.
        size: default side of the model's input in pixels.
        acceleration: how the UNet is called (see `DiffusionBackbone`).
    """
    codec = UnshuffleCodec(config.factor)
    device = next(unet.parameters()).device
    return DiffusionBackbone(
        name="tiny",
        unet=unet,
        codec=codec,
        conditioner=ClassConditioner(config.classes, device),
        schedule=config.schedule(num_steps),
        settings=settings or DiffusionSettings(steps=(0,)),
        size=size,
        output_stride=codec.factor,
        acceleration=acceleration,
    )
