"""The embedded model's UNet as diffusers builds it, which the project's own must equal."""

from __future__ import annotations

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from warpkit.features.tiny import UnetConfig

__all__ = ["diffusers_unet"]


def diffusers_unet(config: UnetConfig) -> UNet2DConditionModel:
    """A `UNet2DConditionModel` without cross-attention, randomly initialised."""
    depth = len(config.channels)
    attends = [level in config.attention_levels for level in range(depth)]
    return UNet2DConditionModel(
        in_channels=3 * config.factor**2,
        out_channels=3 * config.factor**2,
        layers_per_block=config.blocks,
        block_out_channels=config.channels,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        mid_block_type="UNetMidBlock2D",
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        norm_num_groups=config.groups,
        attention_head_dim=config.head,
        num_class_embeds=len(config.classes) + 1,
    )
