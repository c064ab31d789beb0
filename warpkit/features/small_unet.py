"""The embedded model's UNet in plain torch: it loads without diffusers and transformers.

Its layers have the names and the order of diffusers' `UNet2DConditionModel` without
cross-attention, so that files, seeded weights and results are the same. Source: Ho et al.,
"Denoising Diffusion Probabilistic Models" (NeurIPS 2020), appendix B.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["SmallUnet"]


class SmallUnet(nn.Module):
    """A class-conditional diffusion UNet, randomly initialised.

    Args:
        in_channels: channels of the latent, in and out.
        channels: width of each resolution level, finest first.
        blocks: residual blocks per encoder level; the decoder has one more.
        attention_levels: levels (0 = finest) with self-attention.
        groups: groups of every GroupNorm.
        head: channels per attention head.
        classes: rows of the class embedding.

    Raises:
        ValueError: `groups` does not divide the width of a level.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        channels: tuple[int, ...],
        blocks: int,
        attention_levels: tuple[int, ...],
        groups: int,
        head: int,
        classes: int,
    ) -> None:
        super().__init__()
        embedding, deepest = 4 * channels[0], len(channels) - 1
        heads = [head if level in attention_levels else None for level in range(deepest + 1)]
        self.conv_in = nn.Conv2d(in_channels, channels[0], 3, padding=1)
        self.time_embedding = _TimeEmbedding(channels[0], embedding)
        self.class_embedding = _ClassEmbedding(classes, embedding)
        # Parameters are in the order of names, random weights in that of making: the middle block
        # is named last and made before the decoder.
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(channels):
            inputs = [channels[max(0, level - 1)]] + [width] * (blocks - 1)
            self.down_blocks.append(
                _DownLevel(inputs, width, embedding, groups, heads[level], down=level < deepest)
            )
        self.mid_block = _DownLevel(
            channels[-1:], channels[-1], embedding, groups, None, down=False
        )
        for level in range(deepest, -1, -1):
            width = channels[level]
            inputs = [channels[min(deepest, level + 1)]] + [width] * blocks
            skips = [width] * blocks + [channels[max(0, level - 1)]]
            inputs = [entering + skip for entering, skip in zip(inputs, skips, strict=True)]
            self.up_blocks.append(
                _UpLevel(inputs, width, embedding, groups, heads[level], up=level > 0)
            )
        self.conv_norm_out = nn.GroupNorm(groups, channels[0])
        self.conv_out = nn.Conv2d(channels[0], in_channels, 3, padding=1)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: None = None,
        class_labels: Tensor | None = None,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """The predicted noise; called as diffusers' UNets are.

        Args:
            sample: latents (B, C, h, w); h and w are multiples of 2^(levels - 1).
            timestep: integers (B,) or (1,).
            encoder_hidden_states: there are none: prompts are classes.
            class_labels: int64 (B,).
            return_dict: what is returned is a tuple.

        Returns:
            One tensor of the shape and type of `sample`.
        """
        assert class_labels is not None
        assert encoder_hidden_states is None
        assert not return_dict
        embedding = self.time_embedding(timestep.expand(len(sample)), sample.dtype)
        embedding = embedding + self.class_embedding(class_labels).to(sample.dtype)
        skips = [self.conv_in(sample)]
        for encoder in self.down_blocks:
            skips += encoder(skips[-1], embedding)
        (x,) = self.mid_block(skips[-1], embedding)
        for decoder in self.up_blocks:
            x = decoder(x, embedding, skips)
        return (self.conv_out(F.silu(self.conv_norm_out(x))),)


class _TimeEmbedding(nn.Module):
    """Timesteps as waves of falling frequency, through two layers."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.channels = channels
        self.linear_1 = nn.Linear(channels, embedding)
        self.linear_2 = nn.Linear(embedding, embedding)

    def forward(self, timestep: Tensor, dtype: torch.dtype) -> Tensor:
        """(B,) to (B, embedding) of a type."""
        half = self.channels // 2
        number = torch.arange(half, dtype=torch.float32, device=timestep.device)
        phase = timestep[:, None].float() * torch.exp(-math.log(10000) * number / half)
        waves = torch.cat([torch.cos(phase), torch.sin(phase)], dim=-1)
        waves = F.pad(waves, (0, self.channels % 2)).to(dtype)
        embedded: Tensor = self.linear_2(F.silu(self.linear_1(waves)))
        return embedded


class _ClassEmbedding(nn.Embedding):
    """A vector for every class."""

    def reset_parameters(self) -> None:
        # There is nothing to draw without a device, and PyTorch would load its compiler for it.
        if not self.weight.is_meta:
            super().reset_parameters()


class _Resnet(nn.Module):
    """A residual block that knows the timestep and the class."""

    def __init__(self, channels: int, out_channels: int, embedding: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(embedding, out_channels)
        self.norm2 = nn.GroupNorm(groups, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = (
            nn.Conv2d(channels, out_channels, 1) if channels != out_channels else None
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, channels, h, w) and (B, embedding) to (B, out_channels, h, w)."""
        shift = self.time_emb_proj(F.silu(embedding))[:, :, None, None]
        inner = self.norm2(self.conv1(F.silu(self.norm1(x))) + shift)
        inner = self.conv2(F.silu(inner))
        if self.conv_shortcut is not None:
            # As diffusers does: in another layout trained weights would differ in their last bits.
            x = self.conv_shortcut(x.contiguous() if self.training else x)
        return x + inner


class _SelfAttention(nn.Module):
    """Self-attention over all places, added to its input.

    Attributes:
        processor: called with the module and its input in place of its own computation, as the
            processors of diffusers' attention are; the three below are what such a one reads.
    """

    spatial_norm = None
    residual_connection = True
    rescale_output_factor = 1.0

    def __init__(self, channels: int, groups: int, head: int) -> None:
        super().__init__()
        self.heads = channels // head
        inner = self.heads * head
        self.group_norm = nn.GroupNorm(groups, channels)
        self.to_q = nn.Linear(channels, inner)
        self.to_k = nn.Linear(channels, inner)
        self.to_v = nn.Linear(channels, inner)
        self.to_out = nn.ModuleList([nn.Linear(inner, channels)])
        self.processor: Callable[[Any, Tensor], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) to the same shape."""
        if self.processor is not None:
            return self.processor(self, x)
        places = self.group_norm(x.flatten(2)).transpose(1, 2)
        query, key, value = (
            layer(places).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer in (self.to_q, self.to_k, self.to_v)
        )
        seen = F.scaled_dot_product_attention(query, key, value)
        seen = self.to_out[0](seen.transpose(1, 2).flatten(2))
        return seen.transpose(1, 2).reshape(x.shape) + x


class _Level(nn.Module):
    """Residual blocks of one resolution, each with self-attention behind it or none with."""

    def __init__(
        self, inputs: Sequence[int], width: int, embedding: int, groups: int, head: int | None
    ) -> None:
        super().__init__()
        self.attentions, self.resnets = nn.ModuleList(), nn.ModuleList()
        for channels in inputs:
            self.resnets.append(_Resnet(channels, width, embedding, groups))
            if head is not None:
                self.attentions.append(_SelfAttention(width, groups, head))

    def block(self, number: int, x: Tensor, embedding: Tensor) -> Tensor:
        """A residual block, and its attention."""
        x = self.resnets[number](x, embedding)
        return self.attentions[number](x) if self.attentions else x


class _DownLevel(_Level):
    """A level on the way down."""

    def __init__(self, *shape: Any, down: bool) -> None:
        super().__init__(*shape)
        self.downsamplers = nn.ModuleList([_Conv(shape[1], stride=2)] if down else [])

    def forward(self, x: Tensor, embedding: Tensor) -> list[Tensor]:
        """What every block gives, and the half-sized map."""
        outputs = []
        for number in range(len(self.resnets)):
            x = self.block(number, x, embedding)
            outputs.append(x)
        return outputs + [downsampler(x) for downsampler in self.downsamplers]


class _UpLevel(_Level):
    """A level on the way up."""

    def __init__(self, *shape: Any, up: bool) -> None:
        super().__init__(*shape)
        self.upsamplers = nn.ModuleList([_Conv(shape[1])] if up else [])

    def forward(self, x: Tensor, embedding: Tensor, skips: list[Tensor]) -> Tensor:
        """The map of the next level; takes an output of the encoder per block from the end."""
        for number in range(len(self.resnets)):
            x = self.block(number, torch.cat([x, skips.pop()], dim=1), embedding)
        for upsampler in self.upsamplers:
            # Large batches must not be interpolated with the channels last (PyTorch issue 141831).
            x = x.contiguous() if len(x) >= 64 else x
            x = upsampler(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return x


class _Conv(nn.Module):
    """The convolution of a change of resolution."""

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, h / stride, w / stride)."""
        convolved: Tensor = self.conv(x)
        return convolved
