"""What a method must beat: answers that need no learned feature.

Masks: the first mask repeated, and optical flow. Points: the same relative place, and matching of
raw colour patches.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from warpkit.checks import check_image, check_same_size, require
from warpkit.coords import pixel_grid, plan_fit, sample_nearest, scale_points
from warpkit.datasets.pair import AnnotatedPair
from warpkit.evaluate.predict import PairPrediction
from warpkit.io.images import image_size
from warpkit.types import DescriptorMap

__all__ = [
    "Hog",
    "RgbPatches",
    "copy_first_labels",
    "flow_field",
    "flow_labels",
    "flow_places",
    "identity_points",
    "predict_identity",
]


_BINS = 9


def copy_first_labels(
    first: npt.NDArray[np.uint8], *, frames: int
) -> Iterator[npt.NDArray[np.uint8]]:
    """The labels (H, W) of the first frame, once for every frame."""
    for _ in range(frames):
        yield first.copy()


def flow_labels(
    images: Iterable[npt.NDArray[np.uint8]], first: npt.NDArray[np.uint8]
) -> Iterator[npt.NDArray[np.uint8]]:
    """The first labels propagated by dense optical flow (OpenCV DIS, medium preset).

    The flow from frame t to frame t - 1 tells for every pixel of frame t where it was one frame
    before. These steps are chained (bilinear, clamped at the border) into the place in the first
    frame, and the first labels are read there, nearest pixel. Chaining coordinates instead of
    label images keeps motion under half a pixel a frame, which repeated rounding would lose.

    Args:
        images: uint8 RGB frames (H, W, 3), read one at a time.
        first: object ids (H, W) of the first frame.

    Yields:
        Object ids (H, W) of every frame, the first included.
    """
    labels = torch.tensor(first)
    height, width = first.shape
    for _, first_xy in flow_places(images, height=height, width=width):
        nearest = sample_nearest(labels, torch.from_numpy(first_xy).reshape(-1, 2))
        yield nearest.reshape(height, width).numpy()


def flow_places(
    images: Iterable[npt.NDArray[np.uint8]], *, height: int, width: int
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]]:
    """Every frame with the places of its pixels in the first one, by chained optical flow.

    Args:
        images: uint8 RGB frames (H, W, 3), read one at a time.
        height, width: size that the frames must have.

    Yields:
        `(frame, float32 (H, W, 2))`, the first frame included.
    """
    import cv2

    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    here = pixel_grid(height=height, width=width).numpy()
    first_xy, before = here, None
    for image in images:
        check_same_size(check_image(image), here[..., 0], "a frame", "the first frame")
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if before is not None:
            displacement: Any = flow.calc(grey, before, None)  # type: ignore[call-overload]
            previous_xy = here + displacement
            first_xy = cv2.remap(
                first_xy,
                previous_xy[..., 0],
                previous_xy[..., 1],
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
        before = grey
        yield image, first_xy


def flow_field(
    source: npt.NDArray[np.uint8], target: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float32]:
    """The backward field of dense optical flow (OpenCV DIS, medium preset), in one step.

    A source of another size is resized to the target's for the flow, and its points are scaled
    back.

    Args:
        source: uint8 RGB (Hs, Ws, 3).
        target: uint8 RGB (H, W, 3).

    Returns:
        float32 (H, W, 2): for every target pixel the source pixel it shows.
    """
    import cv2

    height, width = check_image(target, "target").shape[:2]
    source_height, source_width = check_image(source, "source").shape[:2]
    grey = cv2.cvtColor(target, cv2.COLOR_RGB2GRAY)
    other = cv2.cvtColor(source, cv2.COLOR_RGB2GRAY)
    if (source_height, source_width) != (height, width):
        other = cv2.resize(other, (width, height), interpolation=cv2.INTER_AREA)
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    displacement: Any = flow.calc(grey, other, None)  # type: ignore[call-overload]
    there = pixel_grid(height=height, width=width).numpy() + displacement
    return (
        scale_points(
            torch.from_numpy(there.reshape(-1, 2)),
            from_height=height,
            from_width=width,
            to_height=source_height,
            to_width=source_width,
        )
        .numpy()
        .reshape(height, width, 2)
    )


def identity_points(
    points: npt.NDArray[np.float32],
    *,
    source_height: int,
    source_width: int,
    target_height: int,
    target_width: int,
) -> npt.NDArray[np.float32]:
    """Points (N, 2) of the source image at the same relative place of the target image."""
    return scale_points(
        torch.tensor(points),
        from_height=source_height,
        from_width=source_width,
        to_height=target_height,
        to_width=target_width,
    ).numpy()


def predict_identity(pairs: Iterable[AnnotatedPair]) -> Iterator[PairPrediction]:
    """Predict the same relative place for every point of every pair."""
    sizes: dict[Path, tuple[int, int]] = {}
    for pair in pairs:
        started = time.perf_counter()
        for path in (pair.source_path, pair.target_path):
            if path not in sizes:
                sizes[path] = image_size(path)
        source_height, source_width = sizes[pair.source_path]
        height, width = sizes[pair.target_path]
        predicted = identity_points(
            pair.source_points,
            source_height=source_height,
            source_width=source_width,
            target_height=height,
            target_width=width,
        )
        yield PairPrediction(pair, predicted, height, width, time.perf_counter() - started)


class Hog:
    """A describer without learning: histograms of oriented gradients (Dalal and Triggs, 2005).

    The image is resized so that its short side has `size` pixels; a descriptor holds the four
    histograms (9 unsigned orientations, cells of 8 x 8 pixels) of the block about its place,
    normalised together (L2-Hys), one block every 8 pixels.
    """

    name = "hog"
    _cell = 8

    def __init__(self, *, size: int = 256) -> None:
        require(
            size > 0 and size % self._cell == 0,
            f"size must be a positive multiple of {self._cell}, got {size}",
        )
        self.size = size

    def describe(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[DescriptorMap]:
        """One map of 36 channels for every uint8 RGB image (H, W, 3)."""
        return [self._describe(check_image(image)) for image in images]

    def _describe(self, image: npt.NDArray[np.uint8]) -> DescriptorMap:
        height, width = image.shape[:2]
        cell = self._cell
        fit = plan_fit(height=height, width=width, size=self.size, multiple=cell)
        pixels = torch.tensor(image).permute(2, 0, 1)[None]
        inputs = F.pad(fit.apply(pixels.float() / 255), (1, 1, 1, 1), mode="replicate")[0]
        across = inputs[:, 1:-1, 2:] - inputs[:, 1:-1, :-2]
        down = inputs[:, 2:, 1:-1] - inputs[:, :-2, 1:-1]
        # Of the three colours the one that changes most.
        magnitude, strongest = torch.hypot(across, down).max(0)
        angle = torch.atan2(down, across).gather(0, strongest[None])[0]
        # Unsigned orientations; a pixel votes for the two nearest of nine, by nearness.
        place = (angle / math.pi * _BINS - 0.5) % _BINS
        low = place.floor()
        votes = torch.zeros(_BINS, *magnitude.shape)
        votes.scatter_add_(0, (low.long() % _BINS)[None], (magnitude * (1 - place + low))[None])
        votes.scatter_add_(0, ((low.long() + 1) % _BINS)[None], (magnitude * (place - low))[None])
        # Half a cell more on each side centres blocks of 2 x 2 cells on the cells of the grid.
        half = cell // 2
        padded = F.pad(votes[None], (half, half, half, half), mode="replicate")
        cells = F.avg_pool2d(padded, cell)
        h, w = cells.shape[-2:]
        blocks = F.unfold(cells, 2).reshape(-1, h - 1, w - 1)
        clipped = F.normalize(blocks, dim=0, eps=1e-5).clamp(max=0.2)
        return fit.descriptor_map(F.normalize(clipped, dim=0, eps=1e-5))


class RgbPatches:
    """A describer without learning: the colours of a small patch around every cell.

    The image is resized (antialiased) so that its short side has `size` cells; a cell's descriptor
    holds the `patch` x `patch` colours around it, in [-1, 1], borders repeated.
    """

    def __init__(self, *, size: int = 128, patch: int = 5) -> None:
        require(size > 0, f"size must be positive, got {size}")
        require(patch > 0 and patch % 2 == 1, f"patch must be odd and positive, got {patch}")
        self.size = size
        self.patch = patch

    @property
    def name(self) -> str:
        """Short name for reports."""
        return f"rgb-{self.patch}x{self.patch}"

    def describe(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[DescriptorMap]:
        """One map of `3 * patch * patch` channels for every uint8 RGB image (H, W, 3)."""
        return [self._describe(check_image(image)) for image in images]

    def _describe(self, image: npt.NDArray[np.uint8]) -> DescriptorMap:
        height, width = image.shape[:2]
        fit = plan_fit(height=height, width=width, size=self.size, multiple=1)
        pixels = torch.tensor(image).permute(2, 0, 1)[None]
        cells = fit.apply(pixels.float() / 127.5 - 1)
        h, w = cells.shape[-2:]
        margin = self.patch // 2
        padded = F.pad(cells, (margin, margin, margin, margin), mode="replicate")
        patches = F.unfold(padded, self.patch).reshape(-1, h, w)
        return DescriptorMap.covering(patches, height=height, width=width)
