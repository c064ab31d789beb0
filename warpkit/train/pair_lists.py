"""Annotated pair lists as training pairs: DHF JSON, SPair-71k, a synthesised set.

Images are decoded when they are first drawn and kept in a cache of bounded size.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from warpkit.checks import counted, require
from warpkit.coords import plan_fit, scale_points
from warpkit.datasets.dhf import read_dhf_json
from warpkit.datasets.pair import AnnotatedPair, Box, Points
from warpkit.datasets.spair import read_spair
from warpkit.datasets.synth import read_synth
from warpkit.datasets.usable import usable_pairs
from warpkit.io.images import read_image
from warpkit.train.pairs import PairBatch
from warpkit.train.views import Views, draw_views, look

__all__ = ["AnnotatedPairs", "ImageCache", "PairList", "PairListConfig", "digest", "read_pair_list"]

_log = logging.getLogger("warpkit")


@dataclass(frozen=True, kw_only=True)
class PairList:
    """Where annotated pairs are; exactly one of `json`, `spair` and `synth`.

    Attributes:
        json: a pair list in the JSON form of Diffusion Hyperfeatures.
        images: the folder that its image paths are relative to; None is the folder it lies in.
        spair: SPair-71k's folder.
        split: of SPair-71k.
        synth: a folder with `pairs.json` and the images it names.
    """

    json: Path | None = None
    images: Path | None = None
    spair: Path | None = None
    split: Literal["train", "val", "test"] = "train"
    synth: Path | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("json", "spair", "synth") if getattr(self, name) is not None]
        require(
            len(given) == 1,
            "a pair list is one of json: FILE (with images: DIR), spair: DIR, synth: DIR; got"
            f" {' and '.join(given) or 'none of them'}",
        )
        require(
            self.images is None or self.json is not None,
            f"'images' belongs to json, not to {given[0]}: leave it out",
        )
        require(
            self.split == "train" or self.spair is not None,
            f"'split' belongs to spair, not to {given[0]}: leave it out",
        )


@dataclass(frozen=True, kw_only=True)
class PairListConfig(PairList):
    """Annotated pairs to train on.

    Attributes:
        count: pairs a step.
        view: `random` looks at the objects' boxes from random distances, with photometric jitter;
            `stretch` resizes whole images to a square and changes nothing else (the paper).
        flip: probability that both views of a pair are mirrored, together: a point stays the same
            point, but names such as left and right would not.
        cache: gigabytes of decoded images that are kept.
    """

    count: int = 1
    view: Literal["random", "stretch"] = "random"
    flip: float = 0.0
    cache: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.count > 0, f"count must be at least one pair per step, got {self.count}")
        require(0 <= self.flip <= 1, f"flip is a probability from 0 to 1, got {self.flip}")
        require(
            self.flip == 0 or self.view == "random",
            "view: stretch shows whole images as they are: leave 'flip' out",
        )
        require(self.cache >= 0, f"cache is 0 or more gigabytes, got {self.cache}")


def read_pair_list(where: PairList) -> tuple[AnnotatedPair, ...]:
    """The usable pairs of a list; what was left out is logged.

    Raises:
        InputError: no such list, or no usable pair in it.
    """
    if where.json is not None:
        pairs, problems = read_dhf_json(where.json, where.images or where.json.parent)
    elif where.spair is not None:
        pairs, problems = read_spair(where.spair, where.split)
    else:
        assert where.synth is not None  # `PairList` has checked it
        pairs, problems = read_synth(where.synth)
    pairs, more = usable_pairs(pairs)
    problems = [*problems, *more]
    if problems:
        count = counted(len(problems), "problem")
        _log.warning("%s in the pair list, the first: %s", count, problems[0])
    return tuple(pairs)


def digest(pairs: tuple[AnnotatedPair, ...]) -> str:
    """What tells these pairs from others, wherever their images lie: SHA-256 of names, sizes of
    files, points, boxes and categories.
    """
    sizes = {path: path.stat().st_size for pair in pairs for path in _paths(pair)}
    content = hashlib.sha256()
    for pair in pairs:
        names = [(path.name, sizes[path]) for path in _paths(pair)]
        content.update(repr((names, pair.source_box, pair.target_box, pair.category)).encode())
        content.update(pair.source_points.tobytes() + pair.target_points.tobytes())
    return content.hexdigest()


def _paths(pair: AnnotatedPair) -> tuple[Path, Path]:
    return pair.source_path, pair.target_path


class ImageCache:
    """Decoded images, uint8 (3, H, W) on the CPU; the least recently used go first.

    Args:
        side: longer short sides are resized to this many pixels; None keeps images as they are.
        limit: bytes that are kept; the image asked for last is held by the caller alone where it
            is larger.
    """

    def __init__(self, *, side: int | None, limit: int) -> None:
        self.side, self.limit, self.held = side, limit, 0
        self._images: OrderedDict[Path, tuple[Tensor, tuple[int, int]]] = OrderedDict()

    def get(self, path: Path) -> tuple[Tensor, tuple[int, int]]:
        """The image, and the file's own (height, width)."""
        if path in self._images:
            self._images.move_to_end(path)
            return self._images[path]
        array = read_image(path)
        height, width = array.shape[:2]
        if self.side is not None and self.side < min(height, width):
            scale = self.side / min(height, width)
            size = (round(width * scale), round(height * scale))
            array = np.asarray(Image.fromarray(array).resize(size, Image.Resampling.LANCZOS))
        entry = (torch.tensor(array).permute(2, 0, 1).contiguous(), (height, width))
        self._images[path] = entry
        self.held += entry[0].nelement()
        while self.held > self.limit:
            _, (oldest, _) = self._images.popitem(last=False)
            self.held -= oldest.nelement()
        return entry


class AnnotatedPairs:
    """Pairs of an annotated list, drawn with replacement.

    Args:
        pairs: what to draw from.
        side: short side of the images that `random` views are cut from.
    """

    def __init__(
        self,
        pairs: tuple[AnnotatedPair, ...],
        *,
        device: torch.device | str,
        view: Literal["random", "stretch"] = "random",
        flip: float = 0.0,
        side: int = 144,
        cache: float = 1.0,
    ) -> None:
        self.pairs, self.device, self.view, self.flip = pairs, device, view, flip
        self.images = ImageCache(side=side if view == "random" else None, limit=int(cache * 1e9))

    def draw(self, count: int, *, size: int, generator: torch.Generator) -> PairBatch:
        index = torch.randint(
            0, len(self.pairs), (count,), generator=generator, device=self.device
        ).tolist()
        flip = torch.rand(count, generator=generator, device=self.device) < self.flip
        drawn = [self.pairs[i] for i in index]
        sources = [(pair.source_path, pair.source_points, pair.source_box) for pair in drawn]
        targets = [(pair.target_path, pair.target_points, pair.target_box) for pair in drawn]
        show = self._stretch if self.view == "stretch" else self._random
        source, source_xy, seen = show(sources, size, flip, generator)
        target, target_xy, also = show(targets, size, flip, generator)
        return PairBatch(source, target, source_xy, target_xy, seen & also)

    def _stretch(
        self, shown: list[_Shown], size: int, flip: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Whole images stretched to a square, as the extractor with `fit="stretch"` sees them."""
        inputs, points = [], []
        for path, xy, _ in shown:
            pixels, (height, width) = self.images.get(path)
            fit = plan_fit(height=height, width=width, size=size, multiple=1, mode="stretch")
            inputs.append(fit.apply(pixels[None].to(self.device).float() / 255))
            points.append(fit.to_input(_on_image(xy, height, width)))
        input_xy, valid = _padded(points)
        return torch.cat(inputs), input_xy.to(self.device), valid.to(self.device)

    def _random(
        self, shown: list[_Shown], size: int, flip: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Random views around the boxes."""
        images, boxes, points = [], [], []
        for path, xy, box in shown:
            pixels, (height, width) = self.images.get(path)
            images.append(pixels)
            resize = {"from_height": height, "from_width": width}
            resize |= {"to_height": pixels.shape[1], "to_width": pixels.shape[2]}
            points.append(scale_points(_on_image(xy, height, width), **resize))
            corners = _on_image(np.array(box, np.float32).reshape(2, 2), height, width)
            boxes.append(scale_points(corners, **resize).flatten())
        sizes = torch.tensor([image.shape[1:] for image in images], device=self.device)
        height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
        pixels = torch.zeros(len(images), 3, height, width, dtype=torch.uint8)
        for i, image in enumerate(images):
            pixels[i, :, : image.shape[1], : image.shape[2]] = image
        drawn = draw_views(
            sizes,
            torch.stack(boxes).to(self.device),
            size=size,
            zoom=(0.6, 1.0),
            rotation=15,
            flip=0,
            generator=generator,
        )
        views = Views(size, drawn.centre, drawn.side, drawn.angle, flip)
        image_xy, valid = _padded(points)
        view_xy = views.to_view(image_xy.to(self.device))
        image = look(pixels.to(self.device), sizes, views, generator)
        return image, view_xy, valid.to(self.device) & views.contains(view_xy)


_Shown = tuple[Path, Points, Box]
"""An image file, and points and box in it."""


def _on_image(xy: Points, height: int, width: int) -> Tensor:
    """Points with those just past the border, as some data sets have them, put on it."""
    edge = np.array([width, height], np.float32) - 0.5
    return torch.from_numpy(np.clip(xy, np.float32(-0.5), edge))


def _padded(points: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Lists (P_i, 2) as (B, P, 2), and which of them are points: bool (B, P)."""
    most = max(len(xy) for xy in points)
    padded, valid = torch.zeros(len(points), most, 2), torch.zeros(len(points), most).bool()
    for i, xy in enumerate(points):
        padded[i, : len(xy)], valid[i, : len(xy)] = xy, True
    return padded, valid
