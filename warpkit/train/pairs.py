"""Labelled training pairs: known warps of single images, annotated keypoints, contour pairs.

A source draws a `PairBatch` for a step; sources are mixed by how many pairs each gives a step.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from warpkit.checks import InputError, require, suggest
from warpkit.coords import grid_to_pixel, pixel_grid, sample_bilinear, sample_nearest
from warpkit.io.images import read_image
from warpkit.train.images import ImageStore, read_index
from warpkit.train.views import Views, draw_views, look, sample_images
from warpkit.warp.known import KnownWarpConfig, photometric_jitter, random_fields

__all__ = ["ContourPairs", "KeypointPairs", "PairBatch", "PairSource", "WarpPairs", "join"]


@dataclass(frozen=True, eq=False)
class PairBatch:
    """B labelled pairs of square images.

    Attributes:
        source: float (B, 3, size, size) in [0, 1].
        target: float (B, 3, size, size).
        source_xy: (B, P, 2), pixels of `source`.
        target_xy: (B, P, 2), pixels of `target`.
        valid: bool (B, P).
    """

    source: Tensor
    target: Tensor
    source_xy: Tensor
    target_xy: Tensor
    valid: Tensor

    def rows(self, index: Sequence[int]) -> PairBatch:
        """Some of the pairs, maybe none."""
        chosen = torch.tensor(list(index), dtype=torch.long, device=self.valid.device)
        return PairBatch(
            self.source[chosen],
            self.target[chosen],
            self.source_xy[chosen],
            self.target_xy[chosen],
            self.valid[chosen],
        )


def join(batches: Sequence[PairBatch]) -> PairBatch:
    """One batch from several; shorter point lists are padded as invalid."""
    most = max(batch.valid.shape[1] for batch in batches)

    def padded(tensor: Tensor) -> Tensor:
        missing = most - tensor.shape[1]
        shape = (tensor.shape[0], missing, *tensor.shape[2:])
        return torch.cat([tensor, tensor.new_zeros(shape)], dim=1)

    return PairBatch(
        torch.cat([b.source for b in batches]),
        torch.cat([b.target for b in batches]),
        torch.cat([padded(b.source_xy) for b in batches]),
        torch.cat([padded(b.target_xy) for b in batches]),
        torch.cat([padded(b.valid) for b in batches]),
    )


class PairSource(Protocol):
    """Draws labelled pairs; every draw depends on the generator alone."""

    def draw(self, count: int, *, size: int, generator: torch.Generator) -> PairBatch:
        """`count` pairs of `size` x `size` images."""
        ...


class WarpPairs:
    """Two views of one image, one of them bent by a random known warp: exact labels.

    Args:
        background: probability that the object of an image with a contour stands before another
            image in the bent view; such a pair is labelled on the object alone.
        points: labels a pair.
    """

    def __init__(
        self,
        store: ImageStore,
        config: KnownWarpConfig,
        points: int = 128,
        background: float = 0.0,
    ) -> None:
        require(
            background == 0 or any(contour is not None for contour in store.contours),
            "a replaced background needs object contours, and these images have none",
        )
        self.store, self.config, self.points = store, config, points
        self.background = background

    def draw(self, count: int, *, size: int, generator: torch.Generator) -> PairBatch:
        store, device = self.store, self.store.pixels.device
        index = torch.randint(0, len(store), (count,), generator=generator, device=device)
        pixels, sizes = store.pixels[index], store.sizes[index]
        height, width = sizes.float().unbind(1)
        boxes = torch.stack([width * 0.3, height * 0.3, width * 0.7, height * 0.7], dim=1)

        def views() -> Views:
            return draw_views(
                sizes, boxes, size=size, zoom=(0.6, 1.0), rotation=0, flip=0, generator=generator
            )

        source_view, target_view = views(), views()
        fields = random_fields(
            count, height=size, width=size, config=self.config, generator=generator, device=device
        )
        xy = target_view.to_image(fields.reshape(count, -1, 2))
        target = sample_images(pixels, sizes, xy.reshape(count, size, size, 2))
        on_object = torch.ones(count, size * size, dtype=torch.bool, device=device)
        if self.background > 0:
            target, on_object = self._before_others(target, index, xy, size, generator)
        target = photometric_jitter(target, strength=0.6, generator=generator)
        source = look(pixels, sizes, source_view, generator)

        pick = torch.randint(
            0, size * size, (count, self.points), generator=generator, device=device
        )
        image_xy = torch.gather(xy, 1, pick[..., None].expand(-1, -1, 2))
        source_xy = source_view.to_view(image_xy)
        target_xy = torch.stack([pick % size, pick // size], dim=-1).float()
        on_image = (image_xy >= 0).all(-1) & (image_xy <= sizes.flip(1)[:, None] - 1).all(-1)
        valid = on_image & source_view.contains(source_xy) & on_object.gather(1, pick)
        return PairBatch(source, target, source_xy, target_xy, valid)

    def _before_others(
        self, views: Tensor, index: Tensor, xy: Tensor, size: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Some of the objects in `views` before other images.

        Args:
            views: (B, 3, size, size), what images `index` show at `xy`.
            xy: (B, size * size, 2), image pixels.

        Returns:
            The views, and where labels may lie: bool (B, size * size).
        """
        store, device = self.store, views.device
        count = len(index)
        behind = torch.randint(0, len(store), (count,), generator=generator, device=device)
        chosen = torch.rand(count, generator=generator, device=device) < self.background
        sizes = store.sizes[behind]
        boxes = torch.cat([sizes.flip(1) * 0.3, sizes.flip(1) * 0.7], dim=1)
        other = draw_views(
            sizes, boxes, size=size, zoom=(0.6, 1.0), rotation=0, flip=0.5, generator=generator
        )
        grid = pixel_grid(height=size, width=size, device=device).reshape(1, -1, 2)
        place = other.to_image(grid.expand(count, -1, 2)).reshape(count, size, size, 2)
        scenes = sample_images(store.pixels[behind], sizes, place)
        _, _, height, width = store.pixels.shape
        opacity = torch.ones(count, size * size, device=device)
        for row, (image, wanted) in enumerate(zip(index.tolist(), chosen.tolist(), strict=True)):
            contour = store.contours[image]
            if wanted and contour is not None:
                mask = contour_mask(contour, height=height, width=width).to(device)
                opacity[row] = sample_bilinear(mask[None].float(), xy[row])[:, 0]
        alpha = opacity.reshape(count, 1, size, size)
        return alpha * views + (1 - alpha) * scenes, opacity > 0.5


def contour_mask(contour: npt.NDArray[np.float32], *, height: int, width: int) -> Tensor:
    """The pixels inside a contour (P, 2): bool (height, width)."""
    import cv2

    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.round(contour).astype(np.int32)], 1)
    return torch.from_numpy(mask).bool()


class KeypointPairs:
    """Pairs of annotated images of one group or any two, labelled where both show a keypoint.

    Reads a folder with a `*.json` index of `parts` and `items`: file, species, w, h (pixels that
    box and kps refer to), box (x1, y1, x2, y2), kps (parts, 2) and vis (parts,).
    """

    def __init__(
        self,
        root: Path,
        *,
        groups: Sequence[int],
        device: torch.device | str,
        side: int = 144,
        same_group: float = 0.5,
    ) -> None:
        indices = sorted(root.glob("*.json"))
        require(len(indices) == 1, f"{root} must hold one JSON index, found {len(indices)}")
        content = read_index(indices[0], "parts")
        parts = [str(part) for part in content["parts"]]
        self.mirrored = torch.tensor(_mirrored_parts(parts, indices[0]), device=device)
        require(
            all("species" in item for item in content["items"]),
            f"{indices[0]}: every item needs a 'species'",
        )
        items = [item for item in content["items"] if item["species"] in groups]
        # A single image of its group has no partner there.
        species = [item["species"] for item in items]
        items = [item for item in items if species.count(item["species"]) > 1]
        require(len(items) > 1, f"{indices[0]} has no two images of one species of {list(groups)}")
        images, sizes, boxes, points, visible = [], [], [], [], []
        for item in items:
            file, numbers = _annotation(item, len(parts), indices[0])
            image = Image.fromarray(read_image(root / file))
            scale = side / min(image.size)
            new = (round(image.width * scale), round(image.height * scale))
            images.append(np.asarray(image.resize(new, Image.Resampling.LANCZOS)))
            factor = np.array([new[0] / numbers["w"], new[1] / numbers["h"]], np.float32)
            sizes.append((new[1], new[0]))
            boxes.append(numbers["box"] * np.tile(factor, 2))
            points.append(grid_to_pixel(numbers["kps"], factor))
            visible.append(numbers["vis"] != 0)
        height, width = max(s[0] for s in sizes), max(s[1] for s in sizes)
        pixels = torch.zeros(len(items), 3, height, width, dtype=torch.uint8)
        for i, array in enumerate(images):
            pixels[i, :, : array.shape[0], : array.shape[1]] = torch.tensor(array).permute(2, 0, 1)
        self.pixels = pixels.to(device)
        self.sizes = torch.tensor(sizes, device=device)
        self.boxes = torch.tensor(np.stack(boxes), device=device)
        self.points = torch.tensor(np.stack(points), device=device)
        self.visible = torch.tensor(np.stack(visible), device=device)
        self.group = torch.tensor([item["species"] for item in items], device=device)
        self.same_group = same_group

    def draw(self, count: int, *, size: int, generator: torch.Generator) -> PairBatch:
        device = self.pixels.device
        total = len(self.pixels)

        def pick(choices: Tensor) -> Tensor:
            """One index a row of a bool (count, total) table."""
            return torch.multinomial(choices.float(), 1, generator=generator)[:, 0]

        everything = torch.ones(count, total, device=device)
        first = pick(everything)
        same = torch.rand(count, 1, generator=generator, device=device) < self.same_group
        group = self.group[first][:, None] == self.group
        other = torch.arange(total, device=device) != first[:, None]
        second = pick((group | ~same) & other)

        def show(index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            views = draw_views(
                self.sizes[index],
                self.boxes[index],
                size=size,
                zoom=(0.6, 1.0),
                rotation=15,
                flip=0.5,
                generator=generator,
            )
            # In a mirrored view a left wing is a right wing.
            order = torch.where(
                views.flip[:, None], self.mirrored, torch.arange(len(self.mirrored), device=device)
            )
            points = torch.gather(self.points[index], 1, order[..., None].expand(-1, -1, 2))
            visible = torch.gather(self.visible[index], 1, order)
            xy = views.to_view(points)
            image = look(self.pixels[index], self.sizes[index], views, generator)
            return image, xy, visible & views.contains(xy)

        source, source_xy, seen = show(first)
        target, target_xy, also = show(second)
        return PairBatch(source, target, source_xy, target_xy, seen & also)


def _annotation(
    item: Mapping[str, Any], parts: int, index: Path
) -> tuple[str, dict[str, npt.NDArray[np.float32]]]:
    """File and numbers of an annotated image, checked."""
    shapes = {"w": (), "h": (), "box": (4,), "kps": (parts, 2), "vis": (parts,)}
    file = item.get("file")
    require(isinstance(file, str), f"{index}: an item of 'items' has no 'file'")
    numbers = {}
    for key, shape in shapes.items():
        require(key in item, f"{index}: the item of {file} has no '{key}'")
        try:
            numbers[key] = np.asarray(item[key], np.float32)
        except (TypeError, ValueError) as error:
            raise InputError(f"{index}: '{key}' of {file} must be numbers") from error
        require(
            numbers[key].shape == shape and bool(np.isfinite(numbers[key]).all()),
            f"{index}: '{key}' of {file} must be finite numbers of shape {shape}, got shape"
            f" {numbers[key].shape}",
        )
    require(
        bool(min(numbers["w"], numbers["h"]) > 0),
        f"{index}: 'w' and 'h' of {file} must be positive, got {item['w']} and {item['h']}",
    )
    return str(file), numbers


_SIDES = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
_SIDE = re.compile(rf"(?<![A-Za-z])({'|'.join(_SIDES)})(?![A-Za-z])")


def _mirrored_parts(parts: Sequence[str], index: Path) -> list[int]:
    """For every part the index of the part it becomes in a mirror."""
    swapped = [_SIDE.sub(lambda side: _SIDES[side[0]], part) for part in parts]
    for part, name in zip(parts, swapped, strict=True):
        require(
            name in parts, f"{index}: part '{part}' has no mirrored partner '{name}' in 'parts'"
        )
    return [parts.index(name) for name in swapped]


class ContourPairs:
    """Two images of one class, labelled by box-normalised position inside both contours.

    A weak label: it holds for classes photographed from one side (motorbikes, aeroplanes, faces).
    """

    def __init__(self, store: ImageStore, classes: Sequence[str], points: int = 64) -> None:
        for name in classes:
            require(
                name in store.classes,
                f"no class '{name}' in the images{suggest(name, store.classes)}",
            )
        wanted = {store.classes.index(name) for name in classes}
        labels = store.labels.tolist()
        chosen = [
            i
            for i, contour in enumerate(store.contours)
            if contour is not None and labels[i] in wanted
        ]
        # A single image of its class has no partner.
        having = [labels[i] for i in chosen]
        chosen = [i for i in chosen if having.count(labels[i]) > 1]
        require(len(chosen) > 1, f"no two contours of one class among {list(classes)}")
        _, _, height, width = store.pixels.shape
        masks, boxes = [], []
        for i in chosen:
            contour = store.contours[i]
            assert contour is not None
            masks.append(contour_mask(contour, height=height, width=width))
            boxes.append([*contour.min(0), *contour.max(0)])
        device = store.pixels.device
        self.store = store
        self.index = torch.tensor(chosen, device=device)
        self.masks = torch.stack(masks).to(device)
        self.boxes = torch.tensor(np.array(boxes), device=device)
        self.labels = store.labels[self.index]
        self.points = points

    def draw(self, count: int, *, size: int, generator: torch.Generator) -> PairBatch:
        device = self.index.device
        total = len(self.index)
        first = torch.randint(0, total, (count,), generator=generator, device=device)
        allowed = (self.labels[first][:, None] == self.labels) & (
            torch.arange(total, device=device) != first[:, None]
        )
        second = torch.multinomial(allowed.float(), 1, generator=generator)[:, 0]
        unit = torch.rand(count, self.points, 2, generator=generator, device=device)
        flip = torch.rand(count, generator=generator, device=device) < 0.5

        def show(which: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            box = self.boxes[which]
            xy = box[:, None, :2] + unit * (box[:, None, 2:] - box[:, None, :2])
            inside = torch.stack(
                [sample_nearest(m, p) for m, p in zip(self.masks[which], xy, strict=True)]
            )
            pixels = self.store.pixels[self.index[which]]
            sizes = self.store.sizes[self.index[which]]
            drawn = draw_views(
                sizes, box, size=size, zoom=(0.6, 1.0), rotation=15, flip=0, generator=generator
            )
            # Both views are mirrored together: position is all that labels these pairs.
            views = Views(size, drawn.centre, drawn.side, drawn.angle, flip)
            view_xy = views.to_view(xy)
            image = look(pixels, sizes, views, generator)
            return image, view_xy, inside & views.contains(view_xy)

        source, source_xy, seen = show(first)
        target, target_xy, also = show(second)
        return PairBatch(source, target, source_xy, target_xy, seen & also)
