"""A pretrained classifier whose features a decoder layer learns to predict (training time only).

EfficientNet-Lite0 (Apache-2.0 weights by Google), from two small packages of the `train` extra.
Nothing of it is kept in the trained model.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from warpkit.features.efficientnet import STAGES, EfficientNetBackbone

__all__ = ["AlignmentHead", "Teacher", "alignment_loss"]

_BLOCKS = (10, 15)
"""Last blocks of strides 16 and 32."""


class Teacher(nn.Module):
    """EfficientNet-Lite0's stride-16 and stride-32 features, standardised per channel."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, *, size: int = 256) -> None:
        super().__init__()
        self.backbone = EfficientNetBackbone(device=torch.device("cpu"), blocks=_BLOCKS)
        self.net = self.backbone.net  # a submodule, so that `to` moves it
        self.size = size
        self.channels = tuple(STAGES[block][0] for block in _BLOCKS)
        total = sum(self.channels)
        self.register_buffer("mean", torch.zeros(total, 1, 1))
        self.register_buffer("deviation", torch.ones(total, 1, 1))

    @torch.no_grad()
    def raw(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, H) in [0, 1] to features (B, 432, size / 16, size / 16)."""
        x = F.interpolate(images, size=self.size, mode="bilinear", align_corners=False)
        (features,) = self.backbone.features(x)
        fine, coarse = features.maps.values()
        coarse = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        return torch.cat([fine, coarse], dim=1)

    @torch.no_grad()
    def calibrate(self, batches: list[Tensor]) -> None:
        """Set the standardisation from some image batches."""
        features = torch.cat([self.raw(images).float() for images in batches])
        self.mean.copy_(features.mean((0, 2, 3))[:, None, None])
        self.deviation.copy_(features.std((0, 2, 3))[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """Standardised features (B, 432, g, g)."""
        return (self.raw(images) - self.mean) / self.deviation


class AlignmentHead(nn.Module):
    """1x1 convolutions from one decoder layer to the teacher's features; not kept."""

    def __init__(self, channels: int, outputs: int, hidden: int = 512) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.SiLU(), nn.Conv2d(hidden, outputs, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        predicted: Tensor = self.layers(features)
        return predicted


def alignment_loss(predicted: Tensor, target: Tensor, groups: tuple[int, ...]) -> Tensor:
    """1 - cosine per cell and channel group, averaged over both: (B,).

    The target is resized to the prediction's grid.
    """
    if target.shape[-2:] != predicted.shape[-2:]:
        target = F.interpolate(
            target, size=predicted.shape[-2:], mode="bilinear", align_corners=False
        )
    losses = [
        1 - F.cosine_similarity(p.float(), t.float(), dim=1).mean((1, 2))
        for p, t in zip(predicted.split(groups, 1), target.split(groups, 1), strict=True)
    ]
    return torch.stack(losses).mean(0)
