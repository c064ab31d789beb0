"""The object of an image by itself, or from a box or points: no mask has to be painted.

In: an image, perhaps hints. Out: a mask, how sure it is, and what is doubtful about it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.arrays import Image, Mask, mask_box
from warpkit.checks import InputError, check_image, check_points, require
from warpkit.features.foreground import HINTS, ForegroundModel, Region, around_box
from warpkit.features.registry import resolve_device

__all__ = [
    "SURE",
    "ForegroundModel",
    "FoundObject",
    "Hints",
    "NothingFoundError",
    "box_mask",
    "check_box",
    "check_hints",
    "find_object",
    "load_foreground",
    "mask_doubts",
    "mask_pieces",
    "nothing_found",
]

# Least and most pixels of the longer side at which the whole image is looked at, what was found
# there, the same again with its box as a hint, and the region of a box that was given; between them
# twice the image's own pixels.
_WHOLE, _NEAR, _TOLD, _BOXED = (288, 288), (288, 448), (448, 448), (320, 640)
# Weights of nearer looks within their regions: of the first, and of one that follows another.
_FIRST, _SECOND = 0.75, 0.5
_DISC = 0.025  # radius of a point's disc as a share of the long side, as in training
_CRUMB = 0.05  # of the largest piece; smaller ones are left out

SURE = 0.7
"""Agreement of the looks from which a mask is not called doubtful."""


class NothingFoundError(InputError):
    """A picture was looked at, and no object was found in it.

    Any other `InputError` of a finder says that it could not look.

    Args:
        what: was not found.
        advice: what helps, the rest of the message.
    """

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(what + advice)
        self.what = what


@dataclass(frozen=True)
class Hints:
    """Where the object is.

    Convention: `(x, y)` pixels, centres at integers; a box is `(x1, y1, x2, y2)` with both corners
    inside.

    Attributes:
        box: around the whole object.
        points: on the object.
        background: points off it.
    """

    box: tuple[float, float, float, float] | None = None
    points: tuple[tuple[float, float], ...] = ()
    background: tuple[tuple[float, float], ...] = ()

    def __bool__(self) -> bool:
        return self.box is not None or bool(self.points) or bool(self.background)


@dataclass(frozen=True, eq=False)
class FoundObject:
    """An object that was found.

    Attributes:
        mask: bool (H, W).
        agreement: in [0, 1], the mean intersection over union of the single looks (the image
            whole and nearer, some mirrored) with the mask.
        doubts: what speaks against the mask, a phrase each; empty where nothing does.
    """

    mask: Mask
    agreement: float
    doubts: tuple[str, ...]


def nothing_found() -> NothingFoundError:
    """What is raised where the most prominent object, or that of hints, is not found."""
    return NothingFoundError(
        "no object was found",
        ": give a box around it (x1,y1,x2,y2) or a point on it (x,y), or paint its mask",
    )


def load_foreground(device: str = "auto") -> ForegroundModel:
    """The network that finds objects, for many images.

    Args:
        device: auto, cpu, cuda, cuda:N or mps.

    Raises:
        InputError: no such device, or the classifier's packages are not installed.
    """
    return ForegroundModel(resolve_device(device))


def check_box(box: Sequence[float], *, height: int, width: int) -> tuple[float, ...]:
    """A box that has pixels in the image, cut to it.

    Raises:
        InputError: not four numbers, or nothing of it inside.
    """
    require(
        len(box) == 4 and bool(np.isfinite(np.asarray(box, float)).all()),
        f"a box is four numbers x1, y1, x2, y2, got {list(box)}",
    )
    left, top = (max(0.0, float(value)) for value in box[:2])
    right, bottom = min(width - 1.0, float(box[2])), min(height - 1.0, float(box[3]))
    require(
        right > left and bottom > top,
        f"the box {', '.join(f'{value:g}' for value in box)} has no pixels inside the image of"
        f" {width} x {height} (width x height): give x1, y1 left of and above x2, y2",
    )
    return left, top, right, bottom


def check_hints(hints: Hints, *, height: int, width: int) -> tuple[float, ...] | None:
    """The box of hints that lie in an image, cut to it.

    Raises:
        InputError: a box or points that do not.
    """
    for name, points in (("points", hints.points), ("background", hints.background)):
        if points:
            check_points(points, height=height, width=width, name=name)
    return None if hints.box is None else check_box(hints.box, height=height, width=width)


def find_object(
    image: Image, hints: Hints | None = None, *, model: ForegroundModel | None = None
) -> FoundObject:
    """Find the object of an image, or the one that hints name.

    The image is looked at whole, then nearer around what was found, at last with the box of that as
    a hint; with a box, around it alone. Half of the looks are at the mirrored image, and a weighted
    mean decides.

    Args:
        image: uint8 RGB (H, W, 3).
        hints: where the object is; None finds the most prominent one.
        model: loaded before; None loads it, on the CPU.

    Raises:
        InputError: a box or points that do not lie in the image.
        NothingFoundError: there is no object in it.
    """
    image = check_image(image)
    height, width = image.shape[:2]
    hints = hints or Hints()
    box = check_hints(hints, height=height, width=width)
    model = model or load_foreground("cpu")
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    # The network is trained with a box or with points, and never with points off the object alone.
    seen: list[_Seen] = []
    if box is not None or not hints.points:
        seen.append(_see(model, pixels, Hints(box=hints.box), box))
    if hints.points or hints.background:
        points = hints.points or (_deepest(seen[0].mean, hints.background),)
        pointed = Hints(points=points, background=hints.background)
        seen = [*(seen if box else ()), _see(model, pixels, pointed, box)]
    mean = torch.stack([one.mean for one in seen]).mean(dim=0)
    mask = mask_pieces((mean > 0).numpy(), at=hints.points, off=hints.background)
    if box is not None:
        mask &= box_mask(box, height=height, width=width)
    if not mask.any():
        raise nothing_found()
    agreement = float(np.mean([one.agreement(mask) for one in seen]))
    return FoundObject(mask, agreement, mask_doubts(mask, agreement, box, hints.background))


@dataclass(frozen=True, eq=False)
class _Seen:
    """What the looks at an image found under one kind of hint.

    Attributes:
        looks: a region of the image, and logits (h, w) of a look at it.
        mean: logits (H, W) of all looks together.
    """

    looks: list[tuple[Region, Tensor]]
    mean: Tensor

    def agreement(self, mask: Mask) -> float:
        """Mean intersection over union of the single looks with a mask."""
        shares = []
        for region, look in self.looks:
            expected, found = mask[region], (look > 0).numpy()
            shares.append((expected & found).sum() / max(1, (expected | found).sum()))
        return float(np.mean(shares))


def _see(
    model: ForegroundModel, pixels: Tensor, hints: Hints, box: tuple[float, ...] | None
) -> _Seen:
    """All looks under hints: at the box, or at the whole image and nearer at what is found there.

    The last ones are told, as a box, where those before found the object.
    """
    height, width = pixels.shape[-2:]
    planes = _planes(hints, box, height=height, width=width)
    if box is not None:
        region = around_box(box, height=height, width=width)
        boxed = _looks(model, pixels, planes, region, _BOXED)
        mean = torch.full((height, width), -math.inf)
        mean[region] = _mean(boxed)
        return _Seen(boxed, mean)
    looks = _looks(model, pixels, planes, (slice(0, height), slice(0, width)), _WHOLE)
    mean = _mean(looks)
    # Points are learnt at the scale of whole images: nearer looks are told a box only.
    for told, weight in [(True, _FIRST)] if hints else [(False, _FIRST), (True, _SECOND)]:
        found = _extent(mean, hints.points)
        if told:
            planes = _planes(Hints(box=found), found, height=height, width=width)
        region = around_box(found, height=height, width=width)
        # One is seen as it is and the other mirrored: both of each are no better, and take twice as
        # long.
        near = _looks(model, pixels, planes, region, _TOLD if told else _NEAR, (told,))
        mean[region] = (1 - weight) * mean[region] + weight * _mean(near)
        looks += near
    return _Seen(looks, mean)


def _deepest(logits: Tensor, background: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The place `(x, y)` farthest inside what is found, and from points that are off it."""
    import cv2

    found = (logits > 0).numpy()
    found = found if found.any() else (logits >= logits.max()).numpy()
    height, width = found.shape
    y, x = np.mgrid[:height, :width]
    inside = cv2.distanceTransform(np.pad(found.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    for at_x, at_y in background:
        inside = np.minimum(inside, np.hypot(x - at_x, y - at_y))
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    return float(column), float(row)


def _planes(hints: Hints, box: tuple[float, ...] | None, *, height: int, width: int) -> Tensor:
    """The hints as planes (1, 4, H, W), as the network is trained with them."""
    planes = torch.zeros(1, len(HINTS), height, width)
    if not hints:
        return planes
    y, x = np.mgrid[:height, :width]
    radius = _DISC * max(height, width)
    for plane, points in enumerate((hints.points, hints.background)):
        for at_x, at_y in points:
            disc = (x - at_x) ** 2 + (y - at_y) ** 2 <= max(radius, 0.5) ** 2
            planes[0, plane][torch.from_numpy(disc)] = 1
    if hints.box is not None and box is not None:
        inside = box_mask(box, height=height, width=width)
        planes[0, HINTS.index("box")] = torch.from_numpy(inside).float() * 2 - 1
    planes[0, HINTS.index("given")] = 1
    return planes


def box_mask(box: Sequence[float], *, height: int, width: int) -> Mask:
    """What lies in a box: bool (H, W)."""
    y, x = np.mgrid[:height, :width]
    inside: Mask = (x >= box[0]) & (x <= box[2]) & (y >= box[1]) & (y <= box[3])
    return inside


def _looks(
    model: ForegroundModel,
    pixels: Tensor,
    planes: Tensor,
    region: Region,
    sides: tuple[int, int],
    mirrored: tuple[bool, ...] = (False, True),
) -> list[tuple[Region, Tensor]]:
    """Looks at a region whose longer side is brought into a range: one as it is, one mirrored.

    Args:
        mirrored: whether each look is.
    """
    pixels, planes = pixels[(..., *region)], planes[(..., *region)]
    height, width = pixels.shape[-2:]
    longer = max(height, width)
    scale = min(max(2 * longer, sides[0]), sides[1]) / longer
    step = model.multiple
    size = tuple(max(2 * step, step * round(n * scale / step)) for n in (height, width))
    image = F.interpolate(pixels, size=size, mode="bilinear", antialias=True)
    hints = F.adaptive_max_pool2d(planes, size) if scale < 1 else F.interpolate(planes, size=size)
    ways = [(image.flip(3), hints.flip(3)) if way else (image, hints) for way in mirrored]
    images, planes = (torch.cat(one) for one in zip(*ways, strict=True))
    seen = F.interpolate(model.logits(images, planes).cpu(), size=(height, width), mode="bicubic")
    return [
        (region, look.flip(1) if way else look)
        for look, way in zip(seen[:, 0], mirrored, strict=True)
    ]


def _mean(looks: list[tuple[Region, Tensor]]) -> Tensor:
    return torch.stack([look for _, look in looks]).mean(dim=0)


def _extent(
    logits: Tensor, points: Sequence[tuple[float, float]]
) -> tuple[float, float, float, float]:
    """The box of what is found at points, or of the largest piece."""
    found = (logits > 0).numpy()
    if not found.any():  # the likeliest part: the nearer look may be surer
        found = (logits >= logits.flatten().quantile(0.97)).numpy()
    return mask_box(mask_pieces(found, share=1.0, at=points))


def mask_pieces(
    mask: Mask,
    *,
    share: float = _CRUMB,
    at: Sequence[tuple[float, float]] = (),
    off: Sequence[tuple[float, float]] = (),
) -> Mask:
    """The connected pieces that points lie on, else those of at least a share of the largest.

    A piece with a point of `off` goes, if another one stays.
    """
    import cv2

    _, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if len(areas) == 0:
        return mask
    asked = {int(pieces[pixel]) for pixel in _pixels_at(at, mask)} - {0}
    large = {int(piece) for piece in 1 + np.flatnonzero(areas >= share * areas.max())}
    chosen = asked or large
    left = chosen - {int(pieces[pixel]) for pixel in _pixels_at(off, mask)}
    kept: Mask = np.isin(pieces, list(left or chosen))
    return kept


def _pixels_at(points: Sequence[tuple[float, float]], mask: Mask) -> list[tuple[int, int]]:
    """Row and column of the pixel that each point lies in, edges of the image included."""
    height, width = mask.shape
    return [
        (min(max(round(y), 0), height - 1), min(max(round(x), 0), width - 1)) for x, y in points
    ]


def mask_doubts(
    mask: Mask,
    agreement: float,
    box: tuple[float, ...] | None,
    background: Sequence[tuple[float, float]] = (),
) -> tuple[str, ...]:
    """What speaks against a mask (see `FoundObject`)."""
    doubts = []
    if any(mask[pixel] for pixel in _pixels_at(background, mask)):
        doubts.append("it holds a point that is said to be off the object")
    share = float(mask.mean())
    sides = [mask[0], mask[-1], mask[:, 0], mask[:, -1]]
    if agreement < SURE:
        doubts.append(f"zoomed and mirrored views agree on {100 * agreement:.0f} % of it only")
    if all(side.any() for side in sides) and box is None:
        doubts.append("it touches all four sides of the image")
    if share < 0.005 and box is None:
        doubts.append(f"it is {100 * share:.1f} % of the image")
    if box is not None:
        filled = float(mask.sum() / box_mask(box, height=mask.shape[0], width=mask.shape[1]).sum())
        if not 0.15 <= filled <= 0.97:
            doubts.append(f"it fills {100 * filled:.0f} % of the box")
    return tuple(doubts)
