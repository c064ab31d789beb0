"""What a foreground head says of stored pictures: its IoU on held-out contours, pseudo-labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.coords import grid_to_pixel, normalise, pixel_grid, pixel_to_grid
from warpkit.evaluate.generation import evenly_spaced
from warpkit.evaluate.jaccard import region_similarity
from warpkit.features.foreground import HINTS
from warpkit.train.foreground_config import LabelRound
from warpkit.train.hints import box_hints
from warpkit.train.images import ImageStore
from warpkit.train.scenes import MaskedPictures
from warpkit.train.views import sample_images

__all__ = ["HeldOutScores", "pseudo_labels", "score_held_out", "stored_logits"]

_MULTIPLE = 32
_BATCH = 32
_SHOWN = 12
_OBJECT = 127  # masks above this are object
_SURE = 0.85  # probability; its complement is as sure of the background

Predict = Callable[[Tensor, Tensor], Tensor]
"""Images (B, 3, H, W) in [0, 1] and hints (B, 4, H, W) to logits at stride 4, (B, 1, h, w)."""


@torch.no_grad()
def stored_logits(
    predict: Predict, store: ImageStore, *, size: int, masks: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits of the object in stored pixels, of every picture and of its mirror image.

    Args:
        size: about the longer side that a picture is resized to, in pixels.
        masks: uint8 (N, H, W); where given, the box around each mask is the hint.

    Yields:
        Some of the rows, int64 (B,), and float (B, 2, H, W): as seen, and as seen mirrored and
        mirrored back. Beyond a picture the values are those of its border.
    """
    device = store.pixels.device
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, (height, width) in enumerate(store.sizes.tolist()):
        scale = size / max(height, width) / _MULTIPLE
        sides = (max(1, round(side * scale)) * _MULTIPLE for side in (height, width))
        groups[next(sides), next(sides)].append(row)
    _, _, full_height, full_width = store.pixels.shape
    stored = pixel_grid(height=full_height, width=full_width, device=device)
    for (height, width), members in groups.items():
        grid = pixel_grid(height=height, width=width, device=device)
        size_xy = torch.tensor([width, height], device=device)
        for rows in torch.tensor(members, device=device).split(_BATCH):
            sizes = store.sizes[rows]
            cell = size_xy / sizes.flip(1)[:, None, None]  # input pixels in one stored pixel
            seen = sample_images(store.pixels[rows], sizes, pixel_to_grid(grid, cell))
            hints = seen.new_zeros(len(rows), len(HINTS), height, width)
            if masks is not None:
                planes = masks[rows][:, None]
                hints = box_hints(sample_images(planes, sizes, pixel_to_grid(grid, cell)))
            found = predict(seen, hints)
            mirrored = predict(seen.flip(3), hints.flip(3)).flip(3)
            places = grid_to_pixel(stored, cell)  # input pixels
            yield (
                rows,
                F.grid_sample(
                    torch.cat([found, mirrored], dim=1).float(),
                    normalise(places, height=height, width=width),
                    padding_mode="border",
                    align_corners=False,
                ),
            )


class HeldOutScores(NamedTuple):
    """What `score_held_out` found.

    Attributes:
        figures: mean and median IoU without a hint, and the mean with the true box, by name.
        picture: some of the pictures above their found and their true objects, uint8 RGB.
    """

    figures: dict[str, float]
    picture: npt.NDArray[np.uint8]


def score_held_out(predict: Predict, held_out: MaskedPictures, *, size: int) -> HeldOutScores:
    """IoU of found masks with contours, each in its picture's own pixels.

    The logits of a picture and of its mirror image are averaged.

    Args:
        held_out: all pictures of their store, in its order.
        size: see `stored_logits`.
    """
    store, truth = held_out.store, (held_out.masks > _OBJECT).cpu().numpy()
    free = _found(predict, store, size, None)
    boxed = _found(predict, store, size, held_out.masks)
    sizes = store.sizes.tolist()

    def scores(found: npt.NDArray[np.bool_]) -> list[float]:
        return [
            region_similarity(mask[:h, :w], true[:h, :w])
            for mask, true, (h, w) in zip(found, truth, sizes, strict=True)
        ]

    alone = scores(free)
    figures = {
        "held_out/iou": float(np.mean(alone)),
        "held_out/iou_median": float(np.median(alone)),
        "held_out/iou_box": float(np.mean(scores(boxed))),
    }
    columns = []
    for row in evenly_spaced(range(len(store)), _SHOWN):
        picture = store.pixels[row].permute(1, 2, 0).cpu().numpy()
        dimmed = [np.where(mask[row, :, :, None], picture, picture // 4) for mask in (free, truth)]
        columns.append(np.concatenate([picture, *dimmed]))
    return HeldOutScores(figures, np.concatenate(columns, axis=1))


def _found(
    predict: Predict, store: ImageStore, size: int, masks: Tensor | None
) -> npt.NDArray[np.bool_]:
    """Found masks (N, H, W)."""
    found = np.zeros((len(store), *store.pixels.shape[2:]), np.bool_)
    for rows, logits in stored_logits(predict, store, size=size, masks=masks):
        found[rows.cpu().numpy()] = (logits.mean(1) > 0).cpu().numpy()
    return found


def pseudo_labels(
    predict: Predict, store: ImageStore, criteria: LabelRound, *, size: int
) -> MaskedPictures:
    """The pictures whose object is found for sure, maybe none, with the mean probabilities.

    Args:
        size: see `stored_logits`.
    """
    device = store.pixels.device
    _, _, height, width = store.pixels.shape
    y, x = torch.arange(height, device=device), torch.arange(width, device=device)
    kept, masks = (
        [torch.zeros(0, dtype=torch.int64, device=device)],
        [torch.zeros(0, height, width, dtype=torch.uint8, device=device)],
    )
    for rows, logits in stored_logits(predict, store, size=size):
        h, w = store.sizes[rows][:, :, None, None].unbind(1)
        valid = ((y[:, None] < h) & (x < w)).float()
        both = logits.sigmoid() * valid[:, None]
        probability = both.mean(1)
        extent = valid.sum((1, 2))
        object_area = (probability > 0.5).float().sum((1, 2))
        between = (probability > 1 - _SURE) & (probability < _SURE)
        unsure = between.float().sum((1, 2)) / object_area.clamp(min=1)
        disagreement = (both[:, 0] - both[:, 1]).abs().sum((1, 2)) / extent
        area = object_area / extent
        low, high = criteria.area
        sure = (unsure < criteria.unsure) & (disagreement < criteria.disagreement)
        sure &= (area >= low) & (area <= high)
        kept.append(rows[sure])
        masks.append((probability[sure] * 255).round().to(torch.uint8))
    rows = torch.cat(kept)
    return MaskedPictures(store, rows, torch.cat(masks), torch.ones(len(rows), device=device))
