"""Whether generated images show what they were asked for: a classifier's answer.

In: labelled photographs, then images. Out: the share of them whose class the classifier names. It
is a linear layer over EfficientNet-Lite0's pooled last features, trained on the photographs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.features.backbone import Backbone
from warpkit.train.images import ImageStore, centre_views

__all__ = ["Recogniser", "Recognition"]

_BATCH = 128


@dataclass(frozen=True)
class Recognition:
    """Shares of images, 0 to 1, whose class is the classifier's first answer, or among five."""

    top1: float
    top5: float


class Recogniser:
    """A linear classifier over the pooled last layer of a backbone.

    Args:
        backbone: a frozen classifier, such as `efficientnet-lite0`.
        photographs: to train on; their centre squares are seen, as they are and mirrored.
        held_out: photographs to test it on.
        size: side in pixels at which images are seen.
        steps: of the training, with all photographs in each.
    """

    def __init__(
        self,
        backbone: Backbone,
        photographs: ImageStore,
        held_out: ImageStore,
        *,
        size: int = 128,
        steps: int = 300,
    ) -> None:
        self.backbone, self.classes, self.size = backbone, photographs.classes, size
        seen = torch.cat([self._of_store(photographs, mirrored=way) for way in (False, True)])
        labels = photographs.labels.to(seen.device).repeat(2)
        self._mean, self._spread = seen.mean(0), seen.std(0) + 1e-6
        self._layer = torch.nn.Linear(seen.shape[1], len(self.classes), device=seen.device)
        torch.nn.init.zeros_(self._layer.weight)
        torch.nn.init.zeros_(self._layer.bias)
        optimiser = torch.optim.AdamW(self._layer.parameters(), lr=0.03, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        seen = (seen - self._mean) / self._spread
        with torch.enable_grad():
            for _ in range(steps):
                loss = F.cross_entropy(self._layer(seen), labels)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
        tested = self._of_store(held_out, mirrored=False)
        self.held_out = self._recognition(tested, held_out.labels)

    @torch.no_grad()
    def _of_store(self, store: ImageStore, *, mirrored: bool) -> Tensor:
        found: list[Tensor] = []
        for start in range(0, len(store), _BATCH):
            index = torch.arange(start, min(start + _BATCH, len(store)))
            views = centre_views(store, index.to(store.pixels.device), size=self.size)
            found.append(self._features(views.flip(-1) if mirrored else views))
        return torch.cat(found)

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        taps = next(iter(self.backbone.features(images.to(self.backbone.device)))).maps
        return taps[self.backbone.spec.layers[-1].name].float().mean((-2, -1))

    @torch.no_grad()
    def _recognition(self, features: Tensor, labels: Tensor) -> Recognition:
        scores = self._layer((features - self._mean) / self._spread)
        best = scores.topk(min(5, len(self.classes)), dim=1).indices
        right = best == labels.to(best.device)[:, None]
        return Recognition(float(right[:, 0].float().mean()), float(right.any(1).float().mean()))

    def __call__(self, images: Tensor, classes: list[str]) -> Recognition:
        """How many images (B, 3, H, W) in [0, 1] are taken for the class that was asked for.

        Args:
            classes: B names.
        """
        labels = torch.tensor([self.classes.index(name) for name in classes])
        sized = F.interpolate(images, size=(self.size, self.size), mode="bilinear", antialias=True)
        parts = [self._features(sized[i : i + _BATCH]) for i in range(0, len(sized), _BATCH)]
        return self._recognition(torch.cat(parts), labels)
