"""Training batches of the foreground head, made on the device: pictures, masks and hints.

Pictures with masks come as they are, under random affine maps, or lend their object to another
background.
"""

from __future__ import annotations

import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from warpkit.coords import grid_to_pixel, pixel_grid
from warpkit.train.foreground_config import ForegroundTrainConfig
from warpkit.train.hints import draw_hints
from warpkit.train.images import ImageStore
from warpkit.train.views import sample_images

__all__ = ["MaskedPictures", "SceneBatch", "Scenes", "contour_coverage", "contour_pictures"]

_FINER = 4  # subpixels a side that contours are drawn in
_ROTATION = 0.25  # radians at most
_STRETCH = 0.15  # logarithm of the largest change of the aspect
# Zooms: of pictures and objects, 1 fits the whole picture in; of backgrounds, 1 covers everything.
_PICTURE, _PICTURE_SHIFT = (0.7, 1.8), 0.18
_OBJECT, _OBJECT_SHIFT = (0.35, 1.5), 0.28
_SECOND, _SECOND_SHIFT = (0.3, 0.8), 0.35
_BACKGROUND = (1.0, 2.2)
_TEXTURE = (3.0, 6.0)
# What stands behind a pasted object: pictures without their object, textures; the rest is blurred.
_EMPTIED, _TEXTURES = 0.45, 0.3
_SECONDS = 0.25  # share of busy backgrounds with a second object that is not meant


@dataclass(frozen=True, eq=False)
class MaskedPictures:
    """Some pictures of a store, with masks.

    Attributes:
        store: on a device.
        rows: int64 (M,), which pictures.
        masks: uint8 (M, H, W), how much of a stored pixel is the object, 0 to 255.
        weights: float (M,), how often each is drawn, relative to the others.
    """

    store: ImageStore
    rows: Tensor
    masks: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """RGB and mask, uint8 (B, 4, H, W), and sizes (B, 2) of pictures drawn with replacement."""
        which = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        rows = self.rows[which]
        planes = torch.cat([self.store.pixels[rows], self.masks[which][:, None]], dim=1)
        return planes, self.store.sizes[rows]


def contour_coverage(
    contour: npt.NDArray[np.float32], *, height: int, width: int
) -> npt.NDArray[np.uint8]:
    """How much of every pixel lies inside a contour (P, 2): uint8 (height, width), 0 to 255."""
    mask = Image.new("L", (width * _FINER, height * _FINER))
    points = grid_to_pixel(contour, _FINER) + 0.5  # Pillow draws from the corners of pixels
    ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in points], fill=255)
    return np.asarray(mask.reduce(_FINER))


def contour_pictures(
    store: ImageStore, area: tuple[float, float] = (0.0, 1.0), workers: int = 8
) -> MaskedPictures:
    """All pictures of a store, which have contours, whose object's area lies in a range.

    Frequent classes are drawn more often than rare ones, by the square root of their size.

    Args:
        area: share of the picture.
    """
    _, _, height, width = store.pixels.shape

    def drawn(row: int) -> npt.NDArray[np.uint8]:
        contour = store.contours[row]
        assert contour is not None
        whole = np.zeros((height, width), np.uint8)
        h, w = sizes[row]
        whole[:h, :w] = contour_coverage(contour, height=h, width=w)
        return whole

    sizes: list[list[int]] = store.sizes.tolist()
    with ThreadPoolExecutor(workers) as pool:
        masks = [*pool.map(drawn, range(len(store)))]
    low, high = area
    kept = [
        row
        for row, (mask, (h, w)) in enumerate(zip(masks, sizes, strict=True))
        if low <= mask.sum(dtype=np.int64) / 255 / (h * w) <= high
    ]
    labels = store.labels.tolist()
    counts = Counter(labels[row] for row in kept)
    device = store.pixels.device
    stacked = np.stack([masks[row] for row in kept]) if kept else np.zeros((0, height, width))
    return MaskedPictures(
        store,
        torch.tensor(kept, dtype=torch.int64, device=device),
        torch.from_numpy(stacked.astype(np.uint8)).to(device),
        torch.tensor([counts[labels[row]] ** -0.5 for row in kept], device=device),
    )


@dataclass(frozen=True, eq=False)
class SceneBatch:
    """What a step learns from.

    Attributes:
        images: float (B, 3, H, W) in [0, 1].
        masks: float (B, 1, H, W) in [0, 1].
        hints: float (B, 4, H, W); see `warpkit.features.foreground.HINTS`.
    """

    images: Tensor
    masks: Tensor
    hints: Tensor


class Scenes:
    """Draws batches; every draw depends on the seed and the step alone.

    Args:
        objects: pictures with contours.
        others: pictures without; without any, backgrounds come from `objects`.
    """

    def __init__(
        self, config: ForegroundTrainConfig, objects: MaskedPictures, others: ImageStore
    ) -> None:
        self.config, self.objects = config, objects
        self.others = others if len(others) > 0 else objects.store
        self.pseudo: MaskedPictures | None = None
        """Pictures with pseudo-labels; they take their share of a batch once they are set."""

    def draw(self, step: int) -> SceneBatch:
        """The batch of a step."""
        config = self.config
        width, height = config.shapes[step % len(config.shapes)]
        device = self.others.pixels.device
        # On the CPU torch reads the lower half of a seed alone: both numbers are mixed into it.
        mixed = np.random.SeedSequence([config.seed, step]).generate_state(1, np.uint64)
        generator = torch.Generator(device).manual_seed(int(mixed[0]))
        brush = _Brush(height, width, generator)
        pseudo, whole, pasted = self._counts()
        parts = []
        if pseudo and self.pseudo is not None:
            parts.append(brush.look(*self.pseudo.draw(pseudo, generator), _PICTURE, _PICTURE_SHIFT))
        if whole:
            parts.append(brush.look(*self.objects.draw(whole, generator), _PICTURE, _PICTURE_SHIFT))
        busy = torch.rand(pasted, generator=generator, device=device) < config.busy
        if pasted:
            parts.append(self._paste(busy, brush))
        images = brush.grain(brush.jitter(torch.cat([image for image, _ in parts])))
        masks = torch.cat([mask for _, mask in parts])
        required = F.pad(busy, (pseudo + whole, 0))
        hints = draw_hints(masks, share=config.hinted, required=required, generator=generator)
        return SceneBatch(images, masks, hints)

    def _counts(self) -> tuple[int, int, int]:
        """Pictures of a batch with pseudo-labels, as they are, and pasted."""
        batch, pseudo = self.config.batch_size, 0
        if self.pseudo is not None:
            # Few labels are not repeated more often than the contours.
            share = len(self.pseudo) / (len(self.pseudo) + len(self.objects))
            pseudo = round(batch * min(self.config.pseudo, share))
        pasted = round((batch - pseudo) * self.config.pasted)
        return pseudo, batch - pseudo - pasted, pasted

    def _paste(self, busy: Tensor, brush: _Brush) -> tuple[Tensor, Tensor]:
        """Objects before other backgrounds, and their masks.

        Args:
            busy: bool (B,), whose background may hold objects of its own.
        """
        count, generator = len(busy), brush.generator
        image, mask = brush.look(*self.objects.draw(count, generator), _OBJECT, _OBJECT_SHIFT)
        soft = brush.chance(count, 0.5)
        mask = torch.where(soft, _blurred(mask, 3), mask)

        emptied = _without_object(*brush.look(*self.objects.draw(count, generator), _BACKGROUND))
        rows = torch.randint(0, len(self.others), (count,), generator=generator, device=busy.device)
        lot = brush.uniform(count)
        texture = (lot >= _EMPTIED) & (lot < _EMPTIED + _TEXTURES)
        pixels, sizes = self.others.pixels[rows], self.others.sizes[rows]
        near = brush.look(pixels, sizes, _TEXTURE)[0]
        scene = brush.look(pixels, sizes, _BACKGROUND)[0]
        background = torch.where(texture, near, _blurred(scene, 9))
        background = torch.where(lot < _EMPTIED, emptied, background)
        meant = busy[:, None, None, None]
        background = torch.where(meant, scene, background)
        result = mask * brush.jitter(image) + (1 - mask) * brush.jitter(background)

        other, cover = brush.look(*self.objects.draw(count, generator), _SECOND, _SECOND_SHIFT)
        cover = cover * (1 - mask) * (meant & brush.chance(count, _SECONDS))
        return cover * other + (1 - cover) * result, mask


@dataclass(frozen=True, eq=False)
class _Brush:
    """Draws pictures of one size."""

    height: int
    width: int
    generator: torch.Generator

    def uniform(self, count: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """(B, 1, 1, 1)."""
        device = self.generator.device
        lot = torch.rand(count, 1, 1, 1, generator=self.generator, device=device)
        return low + (high - low) * lot

    def chance(self, count: int, share: float) -> Tensor:
        """bool (B, 1, 1, 1)."""
        return self.uniform(count) < share

    def look(
        self, planes: Tensor, sizes: Tensor, zoom: tuple[float, float], shift: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """Pictures under random affine maps, the border repeated beyond each.

        Args:
            planes: uint8 (B, 3 or 4, H, W), RGB and, if need be, a mask.
            sizes: (B, 2), height and width of every picture.
            zoom: range; 1 fits the picture in, or covers everything without `shift`.
            shift: largest shift of the picture's centre, fraction of the size; without, the picture
                goes on covering everything.

        Returns:
            float (B, 3, h, w) and (B, 1 or 0, h, w) in [0, 1]; the mask is 0 beyond the picture.
        """
        xy = self._places(sizes, zoom, shift)
        size = sizes.flip(1)[:, None, None]
        inside = ((xy >= -0.5) & (xy <= size - 0.5)).all(-1)
        values = sample_images(planes, sizes, xy)
        return values[:, :3], values[:, 3:] * inside[:, None]

    def _places(self, sizes: Tensor, zoom: tuple[float, float], shift: float | None) -> Tensor:
        """What stored pixel every drawn pixel shows: (B, h, w, 2)."""
        count, device = len(sizes), sizes.device
        size = sizes.flip(1).float()[:, None, None]
        size_xy = torch.tensor([self.width, self.height], dtype=torch.float32, device=device)
        ratio = size_xy / size
        fit = ratio.amax(-1, keepdim=True) if shift is None else ratio.amin(-1, keepdim=True)
        scale = fit * self.uniform(count, math.log(zoom[0]), math.log(zoom[1])).exp()
        reach = (scale / ratio - 1) / 2 if shift is None else shift
        way = torch.cat([self.uniform(count, -1, 1), self.uniform(count, -1, 1)], dim=-1)
        centre = (size_xy - 1) / 2 + way * reach * size_xy
        grid = pixel_grid(height=self.height, width=self.width, device=device)
        x, y = (grid - centre).unbind(-1)
        angle = self.uniform(count, -_ROTATION, _ROTATION)[..., 0]
        stretch = self.uniform(count, -_STRETCH, _STRETCH).exp()[..., 0]
        mirror = torch.where(self.chance(count, 0.5), -1.0, 1.0)[..., 0]
        u = (angle.cos() * x + angle.sin() * y) / stretch * mirror
        v = angle.cos() * y - angle.sin() * x
        return torch.stack([u, v], dim=-1) / scale + (size - 1) / 2

    def jitter(self, images: Tensor) -> Tensor:
        """Random brightness, offset, saturation, white balance and contrast."""
        count = len(images)
        images = images * self.uniform(count, 0.6, 1.35) + self.uniform(count, -0.12, 0.12)
        gray = images.mean(1, keepdim=True)
        images = gray + (images - gray) * self.uniform(count, 0.2, 1.5)
        tint = torch.randn(count, 3, 1, 1, generator=self.generator, device=images.device)
        images = images * (0.06 * tint).exp()
        mean = images.mean((1, 2, 3), keepdim=True)
        return (mean + (images - mean) * self.uniform(count, 0.6, 1.4)).clamp(0, 1)

    def grain(self, images: Tensor) -> Tensor:
        """Some of the images blurred, and noise on all."""
        count = len(images)
        images = torch.where(self.chance(count, 0.15), _blurred(images, 3), images)
        noise = torch.randn(images.shape, generator=self.generator, device=images.device)
        return (images + noise * self.uniform(count, 0, 0.03)).clamp(0, 1)


def _blurred(images: Tensor, side: int) -> Tensor:
    """Means of squares, bilinear between their centres."""
    means = F.avg_pool2d(images, side, ceil_mode=True)
    return F.interpolate(means, size=images.shape[-2:], mode="bilinear")


def _without_object(images: Tensor, masks: Tensor) -> Tensor:
    """Images (B, 3, H, W) whose object is filled with what is around it, coarse to fine.

    Pull-push of Gortler et al., The Lumigraph, SIGGRAPH 1996.
    """
    weight = 1 - F.max_pool2d((masks > 0.02).float(), 13, stride=1, padding=6)
    levels = [(images * weight, weight)]
    while min(levels[-1][0].shape[-2:]) > 2:
        colours, weight = levels[-1]
        levels.append(
            (F.avg_pool2d(colours, 2, ceil_mode=True), F.avg_pool2d(weight, 2, ceil_mode=True))
        )
    filled = _ratio(*levels[-1])
    for colours, weight in levels[-2::-1]:
        wider = F.interpolate(filled, size=colours.shape[-2:], mode="bilinear")
        filled = torch.where(weight > 0.2, _ratio(colours, weight), wider)
    return filled


def _ratio(colours: Tensor, weight: Tensor) -> Tensor:
    return colours / weight.clamp(min=1e-4)
