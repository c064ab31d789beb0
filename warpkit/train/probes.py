"""What a backbone can do while it is trained: PCK of its raw features, held-out loss, samples.

Probes look at the averaged weights. They draw from generators of their own and change nothing in
the training: a run with and one without them end with the same weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from warpkit.checks import OutputError, one_of, require
from warpkit.describe.hypercolumns import Hypercolumns
from warpkit.evaluate.generation import evenly_spaced, sample_grid
from warpkit.features.codecs import UnshuffleCodec
from warpkit.features.tiny import UnetConfig, unet_backbone
from warpkit.io.images import write_image
from warpkit.train.backbone_config import BackboneTrainConfig
from warpkit.train.images import ImageStore, centre_views
from warpkit.train.pair_lists import digest
from warpkit.train.validation import scored_pairs, validation_pck

__all__ = ["LEVELS", "Finding", "Probes", "held_out_loss", "write_samples"]

LEVELS = (20, 100, 300, 500, 700, 900)
"""Timesteps at which the diffusion loss of held-out images is measured."""

_BATCH = 64


@dataclass(frozen=True)
class Finding:
    """What one look found.

    Attributes:
        figures: by name, for the log.
        validation: the PCK that decides which weights are the best; None without such pairs.
        samples: the grid of samples, uint8 RGB; None where none are asked for.
    """

    figures: dict[str, float]
    validation: float | None
    samples: npt.NDArray[np.uint8] | None


class Probes:
    """The probes of a run.

    Args:
        unet: with the averaged weights, in evaluation mode.
        held_out: images that are not trained on, on the UNet's device; may be none.

    Raises:
        InputError: pairs, layers or classes that are not there.
    """

    def __init__(
        self,
        config: BackboneTrainConfig,
        unet: nn.Module,
        unet_config: UnetConfig,
        held_out: ImageStore,
    ) -> None:
        self.config, self.held_out, self.size = config, held_out, config.input_sizes[0]
        self.unet, self.unet_config = unet, unet_config
        self.pairs = () if config.validation is None else scored_pairs(config.validation)
        self.describers = self._describers()
        self.classes: tuple[str, ...] = ()
        if config.samples is not None:
            asked = config.samples.classes
            for name in asked:
                one_of(name, unet_config.classes, "class")
            self.classes = asked or evenly_spaced(unet_config.classes, config.samples.count)

    def _describers(self) -> dict[str, Hypercolumns]:
        """By name in the log; the first one decides."""
        validation = self.config.validation
        if validation is None:
            return {}
        size = self.size if validation.size is None else validation.size
        backbone = unet_backbone(self.unet, self.unet_config, size=size)
        names = [layer.name for layer in backbone.spec.layers]
        chosen = validation.layers or tuple(range(len(names)))
        require(
            max(chosen) < len(names),
            f"validation.layers names layer {max(chosen)}, but this UNet's decoder has"
            f" {len(names)} layers",
        )
        stacks = {"validation": chosen}
        if validation.each:
            stacks |= {f"validation/layer{i}": (i,) for i in chosen}
        return {
            name: Hypercolumns(
                backbone, name=name, layers=[names[i] for i in layers], fit=validation.fit
            )
            for name, layers in stacks.items()
        }

    @property
    def content(self) -> str | None:
        """What tells these pairs from others, wherever their images lie."""
        validation = self.config.validation
        if validation is None:
            return None
        how = (validation.size, validation.fit, validation.layers, validation.each)
        return f"{digest(self.pairs)} {how}"

    def due(self, done: int) -> bool:
        """Whether to look after `done` steps."""
        every = self.config.probe_every
        return every > 0 and (done % every == 0 or done == self.config.steps)

    def __call__(self) -> Finding:
        """Look at the weights as they are now."""
        figures = {name: validation_pck(d, self.pairs) for name, d in self.describers.items()}
        if len(self.held_out) > 0:
            losses = held_out_loss(self.unet, self.unet_config, self.held_out, size=self.size)
            figures["held_out"] = sum(losses.values()) / len(losses)
            figures |= {f"held_out/t{level}": loss for level, loss in losses.items()}
        return Finding(figures, figures.get("validation"), self._samples())

    def _samples(self) -> npt.NDArray[np.uint8] | None:
        samples = self.config.samples
        if samples is None:
            return None
        backbone = unet_backbone(self.unet, self.unet_config, num_steps=samples.steps)
        return sample_grid(
            backbone,
            self.classes,
            seeds=samples.seeds,
            size=self.size,
            guidance=samples.guidance,
            pag_scale=samples.pag_scale,
            skip=samples.skip,
            eta=samples.eta,
        )


@torch.no_grad()
def held_out_loss(
    unet: nn.Module, config: UnetConfig, images: ImageStore, *, size: int
) -> dict[int, float]:
    """Mean squared error of the predicted noise, without a class, at each of `LEVELS`.

    The images' centre squares; noise from CPU generators, so that it is the same on every machine.

    Args:
        images: on the UNet's device.
        size: side of the squares in pixels.
    """
    device = images.pixels.device
    codec = UnshuffleCodec(config.factor)
    alphas = config.schedule().alphas_cumprod
    losses = dict.fromkeys(LEVELS, 0.0)
    for start in range(0, len(images), _BATCH):
        index = torch.arange(start, min(start + _BATCH, len(images)), device=device)
        latent = codec.encode(centre_views(images, index, size=size))
        null = torch.full_like(index, len(config.classes))
        for level in LEVELS:
            generator = torch.Generator().manual_seed((level << 32) + start)
            noise = torch.randn(latent.shape, generator=generator).to(device)
            alpha_bar = float(alphas[level])
            noisy = alpha_bar**0.5 * latent + (1 - alpha_bar) ** 0.5 * noise
            t = torch.full_like(index, level)
            epsilon = unet(noisy, t, None, class_labels=null, return_dict=False)[0]
            error = F.mse_loss(epsilon, noise, reduction="none").mean((1, 2, 3))
            losses[level] += float(error.sum()) / len(images)
    return losses


def write_samples(folder: Path, done: int, grid: npt.NDArray[np.uint8]) -> None:
    """Write a grid as `samples/step-NNNNNN.png` below a run's folder.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        (folder / "samples").mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}") from error
    write_image(folder / "samples" / f"step-{done:06d}.png", grid)
