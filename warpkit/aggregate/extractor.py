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
from torch import Tensor

from warpkit.aggregate.checkpoint import check_fits, load_aggregator
from warpkit.aggregate.models import ModelPreset, resolve_model
from warpkit.aggregate.network import AggregationNetwork
from warpkit.aggregate.streaming import StreamingAggregator
from warpkit.checks import check_image, require
from warpkit.coords import Fit, FitMode, plan_fit
from warpkit.features.backbone import Backbone
from warpkit.features.registry import create_backbone
from warpkit.types import DescriptorMap

__all__ = ["Extractor", "load_extractor"]


# Far beyond any use; it keeps a mistyped size from asking for all memory there is.
_LARGEST = 4096


class Extractor:
    """Images to descriptor maps.

    Attributes:
        backbone: yields layer features.
        network: aggregates them.
    """

    def __init__(
        self,
        backbone: Backbone,
        network: AggregationNetwork,
        *,
        name: str | None = None,
        size: int | None = None,
        fit: FitMode | None = None,
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
        self.batch_size = batch_size

    @property
    def name(self) -> str:
        return self._name

    @property
    def device(self) -> torch.device:
        return self.backbone.device

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
                canvas = fit.apply(_to_tensor([images[i] for i in batch], self.device))
                for position, descriptors in zip(batch, self.aggregate(canvas), strict=True):
                    maps[position] = fit.descriptor_map(descriptors)
        return [maps[position] for position in range(len(images))]

    @torch.no_grad()
    def aggregate(self, canvas: Tensor) -> Tensor:
        """Canvases (B, 3, H, W) in [0, 1] to descriptors (B, C, H / stride, W / stride)."""
        stride = self.backbone.spec.output_stride
        grid = (canvas.shape[-2] // stride, canvas.shape[-1] // stride)
        # CPUs convolve half precision slowly, and Apple GPUs were not measured.
        dtype = self.backbone.dtype if canvas.is_cuda else torch.float32
        total = StreamingAggregator(self.network, grid, dtype=dtype)
        return total.run(self.backbone.features(canvas))


def _to_tensor(images: Sequence[npt.NDArray[np.uint8]], device: torch.device) -> Tensor:
    stacked = torch.from_numpy(np.stack(images)).to(device)
    return stacked.permute(0, 3, 1, 2).float() / 255


def load_extractor(
    model: str = "tiny",
    *,
    device: str = "auto",
    aggregator: str | Path | None = None,
    size: int | None = None,
    fit: FitMode | None = None,
    batch_size: int = 8,
    **options: Any,
) -> Extractor:
    """Load a model with its aggregator, ready to describe images.

    Args:
        model: `tiny` (ships with the package), `sd15`, `sd15-onestep`, `sd21`, the folder of a
            diffusers model, a hub id, or the name of a registered backbone.
        device: `auto`, `cpu`, `cuda`, `cuda:N`, `mps`.
        aggregator: checkpoint file; by default the one that belongs to the model.
        size: side of the backbone's canvas in pixels.
        fit: `pad` keeps the aspect ratio, `squash` resizes to a square as the paper does.
        options: passed to the backbone's factory.

    Raises:
        InputError: unknown or missing model, or an aggregator made for another one.

    Example:
        >>> import numpy as np
        >>> extractor = load_extractor("tiny", device="cpu")
        >>> extractor.describe([np.zeros((128, 128, 3), np.uint8)])[0].data.shape
        torch.Size([128, 64, 64])
    """
    preset: ModelPreset = resolve_model(model)
    if aggregator is not None:
        path = Path(aggregator)
    else:
        cached_only = bool(options.get("local_files_only", False))
        path = preset.aggregator_file(local_files_only=cached_only)
    network = load_aggregator(path, model=preset.trained_on)
    backbone = create_backbone(
        preset.backbone,
        device=device,
        **{"steps": network.config.steps, "num_steps": network.config.num_steps}
        | dict(preset.options)
        | options,
    )
    check_fits(network.config, backbone.spec, checkpoint=str(path))
    return Extractor(backbone, network, name=preset.name, size=size, fit=fit, batch_size=batch_size)
