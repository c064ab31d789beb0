"""Codecs and conditioners: where the embedded model and Stable Diffusion differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from warpkit.checks import InputError, suggest
from warpkit.features.compiling import CompiledRows

__all__ = ["ClassConditioner", "TextConditioner", "UnshuffleCodec", "VaeCodec"]


class UnshuffleCodec:
    """Pixels rearranged into channels: exact, invertible, no weights.

    RGB in [-1, 1], every `factor` x `factor` block becomes one latent pixel of
    3 * factor^2 channels.

    Attributes:
        bound: latents of images lie within -bound..bound; None where there is no such number.
    """

    bound: float | None = 1.0

    def __init__(self, factor: int = 2) -> None:
        self.factor = factor
        self.channels = 3 * factor**2

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, 3 * factor^2, H / factor, W / factor)."""
        return F.pixel_unshuffle(images * 2 - 1, self.factor)

    def decode(self, latents: Tensor) -> Tensor:
        """The inverse of `encode`, clamped to [0, 1]."""
        return ((F.pixel_shuffle(latents, self.factor) + 1) / 2).clamp(0, 1)


# Pixels that a VAE is given at once: 8 images of 512 x 512. More are no faster, and its first
# layers take about 2 KB of memory a pixel in half precision.
_VAE_PIXELS = 8 * 512 * 512


def _at_once(images: Tensor, factor: int = 1) -> int:
    """Rows of images, or of latents whose pixels have `factor` image pixels a side."""
    return max(1, _VAE_PIXELS // (images.shape[-2] * images.shape[-1] * factor**2))


class _Encoder(nn.Module):
    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae: Any = vae

    def forward(self, images: Tensor) -> Tensor:
        mode: Tensor = self.vae.encode(images).latent_dist.mode()
        return mode


class _Decoder(nn.Module):
    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae: Any = vae

    def forward(self, latents: Tensor) -> Tensor:
        images: Tensor = self.vae.decode(latents).sample
        return images


class VaeCodec:
    """A variational autoencoder read by the mode of its posterior, so that it is deterministic.

    Args:
        compiled: compile it for every size of images that comes, about 20 s each way. Parts of a
            batch that are up to half smaller share a program.
    """

    bound: float | None = None

    def __init__(self, vae: nn.Module, *, compiled: bool = False) -> None:
        self.vae = vae
        encoder, decoder = _Encoder(vae), _Decoder(vae)
        self._encoder: Callable[[Tensor], Tensor] = CompiledRows(encoder) if compiled else encoder
        self._decoder: Callable[[Tensor], Tensor] = CompiledRows(decoder) if compiled else decoder
        config: Any = vae.config
        self.channels = int(config.latent_channels)
        self.factor = 2 ** (len(config.block_out_channels) - 1)
        self.scaling = float(config.scaling_factor)

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to latents scaled as the UNet expects them."""
        return torch.cat([self._encode(part) for part in images.split(_at_once(images))])

    def _encode(self, images: Tensor) -> Tensor:
        vae: Any = self.vae
        latents = self._encoder((images * 2 - 1).to(vae.dtype)) * self.scaling
        return latents.float()

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to images in [0, 1]."""
        rows = _at_once(latents, self.factor)
        return torch.cat([self._decode(part) for part in latents.split(rows)])

    def _decode(self, latents: Tensor) -> Tensor:
        vae: Any = self.vae
        images = self._decoder((latents / self.scaling).to(vae.dtype))
        return ((images.float() + 1) / 2).clamp(0, 1)


_FEW = 6  # classes that a message lists
_LIST_CLASSES = (
    'python -c "from warpkit.features import create_backbone;'
    " print(*create_backbone('tiny').conditioner.classes)\""
)


class ClassConditioner:
    """Class names to the UNet's class embedding; the empty prompt is the null class."""

    def __init__(self, classes: Sequence[str], device: torch.device | str) -> None:
        self.classes = tuple(classes)
        self.device = torch.device(device)

    def __call__(self, prompts: Sequence[str]) -> Mapping[str, Any]:
        """`class_labels` int64 (B,), the null class being the one after the last.

        Raises:
            InputError: a prompt that is no class of the model.
        """
        null = len(self.classes)
        index = [self._index(prompt) if prompt else null for prompt in prompts]
        return {
            "encoder_hidden_states": None,
            "class_labels": torch.tensor(index, device=self.device),
        }

    def _index(self, prompt: str) -> int:
        if prompt in self.classes:
            return self.classes.index(prompt)
        begin = f"unknown class '{prompt}'.{suggest(prompt, self.classes)}"
        count = len(self.classes)
        if count <= _FEW:
            raise InputError(f"{begin} The model's classes are {', '.join(self.classes)}")
        apart = count // (_FEW + 1)
        some = self.classes[apart::apart][:_FEW]
        raise InputError(
            f"{begin} The model has {count} classes, such as {', '.join(some)}; those of the"
            f" embedded one are listed by: {_LIST_CLASSES}"
        )


class TextConditioner:
    """Prompts to the last hidden state of a CLIP text encoder."""

    def __init__(self, tokenizer: Any, text_encoder: nn.Module) -> None:
        self.tokenizer, self.text_encoder = tokenizer, text_encoder
        self._device = next(text_encoder.parameters()).device

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> Mapping[str, Any]:
        """`encoder_hidden_states` (B, tokens, width)."""
        tokens = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        encoder, ids = self.text_encoder.to(self._device), tokens.input_ids
        if self._device.type == "cuda":
            ids = ids.pin_memory()  # or the copy would wait for all that is queued
        states = encoder(ids.to(self._device, non_blocking=True))[0]
        return {"encoder_hidden_states": states}

    def release(self) -> None:
        """Free the encoder's memory on a GPU; the next prompt brings it back from the CPU."""
        self.text_encoder.to("cpu")
