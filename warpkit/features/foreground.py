"""Foreground from a classifier's layers: which pixels belong to the object, with or without hints.

A small head over the frozen strides of EfficientNet-Lite0, coarse to fine. It is trained by
`warpkit train foreground`; its weights ship in `warpkit/weights`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from warpkit.checks import InputError
from warpkit.features.efficientnet import STAGES, EfficientNetBackbone
from warpkit.io.tensors import read_tensors, write_tensors

__all__ = [
    "FOREGROUND_WEIGHTS",
    "HINTS",
    "POINT_RADIUS",
    "ForegroundHead",
    "ForegroundModel",
    "around_box",
    "load_foreground_head",
    "save_foreground_head",
    "stage_maps",
]

Box = Sequence[float]
Image = npt.NDArray[np.uint8]
Region = tuple[slice, slice]
"""Rows and columns of an image."""

FOREGROUND_WEIGHTS = Path(__file__).parents[1] / "weights" / "foreground-head.safetensors"

HINTS = ("object", "background", "box", "given")
"""Planes of hints: discs around points on the object and off it (1, else 0), the box (1 inside, -1
outside, 0 everywhere without one), and 1 everywhere if there is any hint."""

POINT_RADIUS = 0.025
"""Of a disc around a point, share of the longer side."""

# Margin around a box that is looked at, as a share of its longer side.
_MARGIN = 0.2
# Pixels of the longer side of a box with its margin when it is looked at once; smaller ones are
# enlarged, though not more than so many times.
_BOX_SIDE, _ENLARGED = 320, 4
_GROUPS = 8
# Dilation of the depthwise convolutions at each stride, coarsest first.
_DILATIONS = {15: (1, 1), 10: (1, 2, 1), 4: (1, 1), 2: (1,)}
_COARSE = 10  # after this block an auxiliary output is trained


class _Separable(nn.Module):
    """A residual block: depthwise 5 x 5, then two 1 x 1 convolutions.

    Source: Liu et al., A ConvNet for the 2020s, CVPR 2022.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            channels,
            channels,
            5,
            padding=2 * dilation,
            dilation=dilation,
            groups=channels,
            bias=False,
        )
        self.norm = nn.GroupNorm(_GROUPS, channels)
        self.expand = nn.Conv2d(channels, 2 * channels, 1)
        self.project = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.project(F.gelu(self.expand(self.norm(self.depthwise(x)))))
        return x + change


class ForegroundHead(nn.Module):
    """Logits of the object from the outputs of the classifier's blocks, and from hints.

    Args:
        width: channels inside.
    """

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.lateral = nn.ModuleDict()
        self.hint = nn.ModuleDict()
        self.mixing = nn.ModuleDict()
        for block, dilations in _DILATIONS.items():
            channels = STAGES[block][0]
            self.lateral[str(block)] = nn.Sequential(
                nn.GroupNorm(_GROUPS, channels), nn.Conv2d(channels, width, 1)
            )
            self.hint[str(block)] = nn.Conv2d(len(HINTS), width, 3, padding=1)
            self.mixing[str(block)] = nn.Sequential(*(_Separable(width, d) for d in dilations))
        self.whole = nn.Linear(STAGES[max(STAGES)][0], width)
        self.coarse = nn.Conv2d(width, 1, 1)
        self.fine = nn.Conv2d(width, 1, 1)

    def forward(self, maps: Mapping[int, Tensor], hints: Tensor) -> tuple[Tensor, Tensor]:
        """Logits at stride 4 and, for training, at stride 16.

        Args:
            maps: output (B, C, H / stride, W / stride) of every block of `STAGES`.
            hints: float (B, 4, H, W), planes as `HINTS` names them.

        Returns:
            (B, 1, H / 4, W / 4) and (B, 1, H / 16, W / 16); above 0 is object.
        """
        deepest = maps[max(STAGES)].float()
        x = self.whole(deepest.mean(dim=(2, 3)))[..., None, None]
        coarse = x
        for block in _DILATIONS:
            # On the CPU the gradient of a group norm needs this; `contiguous` leaves 1 x 1 cells.
            values = maps[block].float().clone(memory_format=torch.contiguous_format)
            size = values.shape[2], values.shape[3]
            if block != max(STAGES):
                x = F.interpolate(x, size=size, mode="bilinear")
            name = str(block)
            x = x + self.lateral[name](values) + self.hint[name](F.adaptive_avg_pool2d(hints, size))
            x = self.mixing[name](x)
            if block == _COARSE:
                coarse = self.coarse(x)
        return self.fine(x), coarse


class ForegroundModel:
    """The classifier's layers and the head.

    Args:
        device: where both compute.
        weights: of the head; see `load_foreground_head`.

    Raises:
        InputError: the classifier's packages are not installed, or the head's file cannot be read.
    """

    multiple = 32
    """Height and width of what it is given are multiples of this."""

    def __init__(self, device: torch.device, weights: Path = FOREGROUND_WEIGHTS) -> None:
        self.backbone = EfficientNetBackbone(device=device, shared=True)
        self.head = load_foreground_head(weights).to(device)

    def logits(self, images: Tensor, hints: Tensor) -> Tensor:
        """Logits of the object at stride 4.

        Args:
            images: float RGB in [0, 1], (B, 3, H, W), sides multiples of 32.
            hints: float (B, 4, H, W); see `HINTS`.

        Returns:
            float (B, 1, H / 4, W / 4), above 0 where the object is more likely than not.
        """
        with torch.no_grad():
            fine: Tensor = self.head(
                stage_maps(self.backbone, images), hints.to(self.backbone.device)
            )[0]
        return fine

    def at_box(self, image: Image, box: Box) -> tuple[Region, Tensor]:
        """One look at a box: logits of the object in it at the pixels of the box and a margin.

        Args:
            image: uint8 RGB (H, W, 3).
            box: `(x1, y1, x2, y2)`, pixels whose centres are at integers, both corners inside.

        Returns:
            The rows and columns looked at, and float (rows, columns) on the model's device.
        """
        region = around_box(box, height=image.shape[0], width=image.shape[1])
        part = torch.tensor(image[region], device=self.backbone.device)
        pixels = part.permute(2, 0, 1)[None].float() / 255
        hints = _box_hints(box, region).to(pixels)
        height, width = part.shape[:2]
        scale = min(_ENLARGED, _BOX_SIDE / max(height, width))
        step = self.multiple
        size = tuple(max(2 * step, step * round(n * scale / step)) for n in (height, width))
        pixels = F.interpolate(pixels, size=size, mode="bilinear", antialias=True)
        hints = F.adaptive_max_pool2d(hints, size) if scale < 1 else F.interpolate(hints, size=size)
        seen = F.interpolate(self.logits(pixels, hints), size=(height, width), mode="bicubic")
        return region, seen[0, 0]


def around_box(box: Box, *, height: int, width: int) -> Region:
    """Rows and columns of a box `(x1, y1, x2, y2)` with a margin, within an image."""
    margin = _MARGIN * (1 + max(box[2] - box[0], box[3] - box[1]))
    left, top = (max(0, int(value - margin)) for value in box[:2])
    right, bottom = (int(value + margin) + 2 for value in box[2:])
    return slice(top, min(height, bottom)), slice(left, min(width, right))


def _box_hints(box: Box, region: Region) -> Tensor:
    """The planes (1, 4, rows, columns) of a box alone, within a region of the image."""
    y, x = (torch.arange(part.start, part.stop) for part in region)
    rows, columns = (y >= box[1]) & (y <= box[3]), (x >= box[0]) & (x <= box[2])
    planes = torch.zeros(1, len(HINTS), len(y), len(x))
    planes[0, HINTS.index("box")] = (rows[:, None] & columns[None]).float() * 2 - 1
    planes[0, HINTS.index("given")] = 1
    return planes


def stage_maps(backbone: EfficientNetBackbone, images: Tensor) -> dict[int, Tensor]:
    """What `ForegroundHead` takes: the outputs of every block of `STAGES`, without gradients.

    Args:
        images: float RGB in [0, 1], (B, 3, H, W), sides multiples of 32.
    """
    (step,) = backbone.features(images)
    return {block: step.maps[f"blocks.{block}"] for block in STAGES}


def save_foreground_head(path: Path, head: ForegroundHead, **facts: object) -> None:
    """Write a head's weights in half precision.

    Args:
        facts: about its training, written as metadata.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {name: value.half() for name, value in head.state_dict().items()}
    write_tensors(path, tensors, {name: str(fact) for name, fact in facts.items()})


def load_foreground_head(path: Path = FOREGROUND_WEIGHTS) -> ForegroundHead:
    """A head from its weights, frozen, in evaluation mode, on the CPU.

    Raises:
        InputError: the file is missing, damaged, or of another network.
    """
    try:
        tensors, _ = read_tensors(path)
        head = ForegroundHead(width=len(tensors["whole.bias"]))
        head.load_state_dict({name: value.float() for name, value in tensors.items()})
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(
            f"{path}: not the weights of a foreground head that can be read: give a file that"
            " `warpkit train foreground` wrote"
        ) from error
    return head.eval().requires_grad_(False)
