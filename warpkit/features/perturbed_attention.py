"""A UNet whose coarsest self-attention attends to nothing, to guide generation away from.

Perturbed-attention guidance: what the network predicts when every place of an attention map sees
itself alone has lost the layout of objects; steps away from that prediction restore it. Source: Ahn
et al., "Self-Rectifying Diffusion Sampling with Perturbed-Attention Guidance" (ECCV 2024), which
found Stable Diffusion's middle block best: its coarsest one.
"""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any

from torch import Tensor, nn

from warpkit.checks import require

__all__ = ["IdentityAttention", "coarsest_self_attention", "perturbed"]


class IdentityAttention:
    """An attention processor of diffusers for which the attention map is the identity.

    The values pass as they are: queries and keys are not computed.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """(B, C, h, w) or (B, places, C) to the same shape."""
        residual, shape = hidden_states, hidden_states.shape
        if attn.spatial_norm is not None:
            hidden_states = attn.spatial_norm(hidden_states, temb)
        places = hidden_states.flatten(2).transpose(1, 2) if len(shape) == 4 else hidden_states
        if attn.group_norm is not None:
            places = attn.group_norm(places.transpose(1, 2)).transpose(1, 2)
        places = attn.to_v(places)
        for layer in attn.to_out:
            places = layer(places)
        if len(shape) == 4:
            places = places.transpose(1, 2).reshape(shape)
        if attn.residual_connection:
            places = places + residual
        result: Tensor = places / attn.rescale_output_factor
        return result


def coarsest_self_attention(unet: nn.Module) -> tuple[str, ...]:
    """Names of the modules of self-attention at the coarsest resolution that has any.

    The middle block of Stable Diffusion 1 and 2; the last encoder and the first decoder block of
    the embedded model.
    """
    depth = len(unet.down_blocks)  # type: ignore[arg-type]
    levels: dict[int, list[str]] = {}
    for name, module in unet.named_modules():
        if not hasattr(module, "processor") or name.endswith(".attn2"):  # which is to the prompt
            continue
        block, number = name.split(".")[:2]
        level = depth - 1  # the middle block's
        if block == "down_blocks":
            level = int(number)
        elif block == "up_blocks":
            level = depth - 1 - int(number)
        levels.setdefault(level, []).append(name)
    return tuple(levels[max(levels)]) if levels else ()


def perturbed(unet: nn.Module) -> nn.Module:
    """A second UNet over the very same weights, with `IdentityAttention` where it is coarsest.

    Raises:
        InputError: the UNet has no self-attention.
    """
    chosen = coarsest_self_attention(unet)
    require(
        len(chosen) > 0,
        "perturbed-attention guidance needs a UNet with self-attention, and this one has none:"
        " leave pag_scale at 0",
    )
    shared = {id(tensor): tensor for tensor in chain(unet.parameters(), unet.buffers())}
    other = copy.deepcopy(unet, shared)
    for name in chosen:
        attention: Any = other.get_submodule(name)
        attention.processor = IdentityAttention()
    return other
