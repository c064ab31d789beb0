"""Hypercolumns: the layers of any backbone, normalised and stacked. Aggregation without training.

Source: Hariharan et al., CVPR 2015. A control: what a network's raw features can do by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from warpkit.checks import check_image, one_of, require
from warpkit.coords import FitMode, plan_fit
from warpkit.features.backbone import Backbone
from warpkit.types import DescriptorMap

__all__ = ["Hypercolumns"]


class Hypercolumns:
    """A describer that stacks the layers of all recorded steps, each of unit length.

    Layers are resized (bilinear, `align_corners=False`) to the grid of the finest one. Every layer
    of every step has the same weight in the cosine of two descriptors.

    Args:
        backbone: yields layer features.
        name: short name for reports.
        size: side of the model's input in pixels; None takes the backbone's.
        layers: names of the layers to stack; None takes all.
        fit: how images are brought to that size; None is the backbone's way.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        name: str,
        size: int | None = None,
        layers: Sequence[str] | None = None,
        fit: FitMode | None = None,
    ) -> None:
        require(size is None or size > 0, f"size must be positive, got {size}")
        known = [layer.name for layer in backbone.spec.layers]
        for layer in layers or ():
            one_of(layer, known, "layer")
        require(layers is None or len(layers) > 0, "give at least one layer to stack")
        self.backbone = backbone
        self.layers = tuple(known if layers is None else layers)
        self._name = name
        self.size = backbone.spec.size if size is None else size
        self.fit: FitMode = fit or backbone.spec.fit

    @property
    def name(self) -> str:
        """Short name for reports."""
        return self._name

    def describe(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[DescriptorMap]:
        """One map for every uint8 RGB image (H, W, 3); its channels are those of its layers."""
        return [self._describe(check_image(image)) for image in images]

    @torch.no_grad()
    def _describe(self, image: npt.NDArray[np.uint8]) -> DescriptorMap:
        spec = self.backbone.spec
        fit = plan_fit(
            height=image.shape[0],
            width=image.shape[1],
            size=self.size,
            multiple=spec.multiple,
            mode=self.fit,
            side=cast(Literal["short", "long"], spec.side),
        )
        pixels = torch.tensor(image).permute(2, 0, 1)[None]
        inputs = fit.apply(pixels.to(self.backbone.device).float() / 255)
        layers = [
            F.normalize(features.maps[name].float(), dim=1)
            for features in self.backbone.features(inputs)
            for name in self.layers
        ]
        grid = max((layer.shape[-2:] for layer in layers), key=lambda size: size[0] * size[1])
        resized = [
            layer
            if layer.shape[-2:] == grid
            else F.interpolate(layer, size=grid, mode="bilinear", align_corners=False)
            for layer in layers
        ]
        return fit.descriptor_map(torch.cat(resized, dim=1)[0])
