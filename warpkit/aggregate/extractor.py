"""The extractor: photographs in, one descriptor map each out.

Backbone and aggregator behind one call, with resizing, batching and padding taken care of.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.aggregate.assembly import Aggregator, assemble
from warpkit.aggregate.checkpoint import check_fits
from warpkit.aggregate.combined import CombinedExtractor
from warpkit.aggregate.model_config import check_load_size
from warpkit.aggregate.models import ModelPreset, resolve_model
from warpkit.checks import check_image, require
from warpkit.coords import Fit, FitMode, plan_fit
from warpkit.features.backbone import Backbone
from warpkit.types import DescriptorMap

__all__ = ["Extractor", "load_extractor"]


# Far beyond any use; it keeps a mistyped size from asking for all memory there is.
_LARGEST = 4096


class Extractor:
    """Images to descriptor maps.

    Attributes:
        backbone: yields layer features.
        network: aggregates them, or stacks them as they are.
        load_size: side to which images are reduced before they are enlarged to the canvas (the
            paper's evaluation: 224); None brings them to the canvas at once.
    """

    def __init__(
        self,
        backbone: Backbone,
        network: Aggregator,
        *,
        name: str | None = None,
        size: int | None = None,
        fit: FitMode | None = None,
        load_size: int | None = None,
        batch_size: int = 8,
    ) -> None:
        check_fits(network.config, backbone.spec, checkpoint="the aggregator")
        require(batch_size > 0, f"batch_size must be positive, got {batch_size}")
        self.backbone = backbone
        self.network = network.to(backbone.device)
        self._name = name or backbone.spec.name
        self.size = backbone.spec.size if size is None else size
        require(
            self.size <= _LARGEST,
            f"size must be at most {_LARGEST} pixels (memory grows as its square), got {self.size}",
        )
        self.fit: FitMode = fit or backbone.spec.fit
        check_load_size(load_size, self.fit)
        self.load_size = load_size
        self.batch_size = batch_size

    @property
    def name(self) -> str:
        return self._name

    @property
    def device(self) -> torch.device:
        return self.backbone.device

    def resized(self, size: int) -> Extractor:
        """The same model on a canvas of another side in pixels."""
        return Extractor(
            self.backbone,
            self.network,
            name=self._name,
            size=size,
            fit=self.fit,
            load_size=self.load_size,
            batch_size=self.batch_size,
        )

    def plan(self, *, height: int, width: int) -> Fit:
        """How an image of this size is brought to the backbone's canvas."""
        spec = self.backbone.spec
        return plan_fit(
            height=height,
            width=width,
            size=self.size,
            multiple=spec.multiple,
            mode=self.fit,
            side=cast(Literal["short", "long"], spec.side),
        )

    def describe(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[DescriptorMap]:
        """Describe images of any sizes; images of one size share a batch.

        Args:
            images: uint8 RGB arrays (H, W, 3).

        Returns:
            One `DescriptorMap` per image in order, float32 on the backbone's device. A single
            image gives the same map as the same image within a batch, up to float rounding.

        Raises:
            InputError: something that is no image.
        """
        maps: dict[int, DescriptorMap] = {}
        by_size: dict[tuple[int, int], list[int]] = {}
        for position, image in enumerate(images):
            check_image(image, f"image {position}")
            by_size.setdefault((image.shape[0], image.shape[1]), []).append(position)
        for (height, width), positions in by_size.items():
            fit = self.plan(height=height, width=width)
            for start in range(0, len(positions), self.batch_size):
                batch = positions[start : start + self.batch_size]
                canvas = self._canvas(_to_tensor([images[i] for i in batch], self.device), fit)
                for position, descriptors in zip(batch, self.aggregate(canvas), strict=True):
                    maps[position] = fit.descriptor_map(descriptors)
        return [maps[position] for position in range(len(images))]

    def _canvas(self, images: Tensor, fit: Fit) -> Tensor:
        """Images (B, 3, H, W) on the canvas of a fit, by way of `load_size` if there is one."""
        if self.load_size is None:
            return fit.apply(images)
        reduced = plan_fit(
            height=fit.height, width=fit.width, size=self.load_size, multiple=1, mode="squash"
        )
        enlarged = F.interpolate(
            reduced.apply(images),
            size=(fit.content_height, fit.content_width),
            mode="bilinear",
            align_corners=False,
        )
        rest = (0, fit.canvas_width - fit.content_width, 0, fit.canvas_height - fit.content_height)
        return F.pad(enlarged, rest, mode="replicate") if any(rest) else enlarged

    @torch.no_grad()
    def aggregate(self, canvas: Tensor) -> Tensor:
        """Canvases (B, 3, H, W) in [0, 1] to descriptors (B, C, H / stride, W / stride)."""
        stride = self.backbone.spec.output_stride
        grid = (canvas.shape[-2] // stride, canvas.shape[-1] // stride)
        descriptors: Tensor = self.network(self.backbone.features(canvas), grid)
        return descriptors


def _to_tensor(images: Sequence[npt.NDArray[np.uint8]], device: torch.device) -> Tensor:
    stacked = torch.from_numpy(np.stack(images)).to(device)
    return stacked.permute(0, 3, 1, 2).float() / 255


def load_extractor(
    model: str = "embedded",
    *,
    device: str = "auto",
    aggregator: str | Path | None = None,
    size: int | None = None,
    fit: FitMode | None = None,
    batch_size: int = 8,
    **options: Any,
) -> Extractor | CombinedExtractor:
    """Load a model with its aggregator, ready to describe images.

    Args:
        model: `embedded` (the default, with the package) or its parts `efficientnet-lite0` and
            `tiny`, `sd15`, `sd15-onestep`, `sd21`, `dino`, `dinov2`,
            a model file (`FILE.yaml`, see `ModelConfig`), the folder of a diffusers or transformers
            model, a single safetensors file, a hub id, the name of a registered backbone, or
            several joined by `+` (`0.7*sd15-onestep+0.3*dinov2`; equal shares without numbers).
        device: `auto`, `cpu`, `cuda`, `cuda:N`, `mps`.
        aggregator: checkpoint file, or the alias of a published one; by default the one that
            belongs to the model.
        size: side of the backbone's canvas in pixels; of a combined model's first part, and the
            others keep their proportion to it.
        fit: `pad` keeps the aspect ratio, `squash` resizes to a square as the paper does.
        options: passed to the backbone's factory (single models only).

    Raises:
        InputError: unknown or missing model, or an aggregator made for another one.

    Example:
        >>> import numpy as np
        >>> extractor = load_extractor("tiny", device="cpu")
        >>> extractor.describe([np.zeros((128, 128, 3), np.uint8)])[0].data.shape
        torch.Size([128, 64, 64])
    """
    preset = resolve_model(model)
    if preset.parts:
        require(
            aggregator is None and not options,
            f"'{model}' combines models that have aggregators and options of their own: give"
            " --aggregator and backbone options with a single model",
        )
        return _load_combined(preset, device=device, size=size, fit=fit, batch_size=batch_size)
    backbone, network = assemble(preset, device=device, aggregator=aggregator, options=options)
    config = preset.config
    if config is not None:
        size = config.size if size is None else size
        # Another fit asked for leaves the paper's way of loading, which is a squash.
        load_size = config.load_size if fit in (None, "squash") else None
        fit = fit or config.fit
    else:
        load_size = None
    return Extractor(
        backbone,
        network,
        name=preset.name,
        size=size,
        fit=fit,
        load_size=load_size,
        batch_size=batch_size,
    )


def _load_combined(
    preset: ModelPreset, *, device: str, size: int | None, fit: FitMode | None, batch_size: int
) -> CombinedExtractor:
    parts: list[Extractor] = []
    for name, _ in preset.parts:
        part = load_extractor(name, device=device, fit=fit, batch_size=batch_size)
        parts.append(cast(Extractor, part))
    if size is not None:
        usual = parts[0].size
        parts = [part.resized(max(1, round(part.size * size / usual))) for part in parts]
    return CombinedExtractor(parts, [share for _, share in preset.parts], name=preset.name)
