"""Training images, all decoded once into one array; batches are random crops made on the device.

Two layouts are read: a folder with `index.json` and `train_NN.npz` shards of encoded files (`blob`,
`off`), and any folder with one sub-folder of pictures per class.
"""

from __future__ import annotations

import io
import itertools
import struct
import zipfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from warpkit.checks import InputError, is_dir, require
from warpkit.coords import grid_to_pixel
from warpkit.io.images import read_image
from warpkit.io.text import read_json

__all__ = ["ImageStore", "centre_views", "crop_views", "load_images", "read_index"]

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


@dataclass(frozen=True, eq=False)
class ImageStore:
    """Decoded images of similar sizes, padded to one array.

    Attributes:
        pixels: uint8 (N, 3, H, W); an image occupies the top left `sizes[i]`.
        sizes: int64 (N, 2), height and width of every image.
        labels: int64 (N,), class index.
        classes: class names.
        contours: per image its object contour (P, 2) in stored pixels, or None.
    """

    pixels: Tensor
    sizes: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    contours: tuple[npt.NDArray[np.float32] | None, ...]

    def __len__(self) -> int:
        return len(self.pixels)

    def to(self, device: torch.device | str) -> ImageStore:
        """The same store with its tensors on a device."""
        return ImageStore(
            self.pixels.to(device),
            self.sizes.to(device),
            self.labels.to(device),
            self.classes,
            self.contours,
        )

    def take(self, rows: Sequence[int]) -> ImageStore:
        """The store of some of the images, with all class names."""
        index = torch.tensor(rows, dtype=torch.int64, device=self.pixels.device)
        return ImageStore(
            self.pixels[index],
            self.sizes[index],
            self.labels[index],
            self.classes,
            tuple(self.contours[row] for row in rows),
        )

    def hold_out(self, count: int) -> tuple[ImageStore, ImageStore]:
        """The store without `count` images spread evenly over it, and those.

        Raises:
            InputError: nothing would be left.
        """
        require(
            0 <= count < len(self),
            f"held_out must leave something to train on: got {count} of {len(self)} images",
        )
        if count == 0:
            return self, self.take(())
        held = [i * len(self) // count for i in range(count)]
        rest = sorted(set(range(len(self))) - set(held))
        return self.take(rest), self.take(held)


def load_images(
    root: Path | str, *, side: int = 128, limit: int | None = None, workers: int = 16
) -> ImageStore:
    """Read a training folder (see the module's description).

    Args:
        side: length of the short side in pixels that longer images are reduced to; smaller ones
            are kept as they are.
        limit: read at most this many images (shards are shuffled, so any prefix is a fair sample).

    Raises:
        InputError: no images, a broken index, a shard it names that is missing or broken, or a
            picture that cannot be read.
    """
    root = Path(root)
    require(is_dir(root), f"no training folder at {root}")
    read = _read_shards if (root / "index.json").is_file() else _read_folders
    pictures, labels, classes, contours = read(root, limit)
    require(len(pictures) > 0, f"{root} holds no training images")
    with ThreadPoolExecutor(workers) as pool:
        decoded = [
            *pool.map(lambda picture, contour: _decode(picture, side, contour), pictures, contours)
        ]
    height = max(image.shape[0] for image, _ in decoded)
    width = max(image.shape[1] for image, _ in decoded)
    pixels = torch.zeros(len(decoded), 3, height, width, dtype=torch.uint8)
    for i, (image, _) in enumerate(decoded):
        pixels[i, :, : image.shape[0], : image.shape[1]] = torch.from_numpy(image).permute(2, 0, 1)
    sizes = torch.tensor([image.shape[:2] for image, _ in decoded])
    return ImageStore(
        pixels, sizes, torch.tensor(labels), tuple(classes), tuple(moved for _, moved in decoded)
    )


def crop_views(
    store: ImageStore,
    index: Tensor,
    *,
    size: int,
    area: tuple[float, float],
    generator: torch.Generator,
) -> Tensor:
    """Random square crops, half of them flipped: float (B, 3, size, size) in [0, 1].

    Args:
        index: int64 (B,), which images.
        area: range of the crop's area as a share of the image's inscribed square.
        generator: on the store's device.
    """
    device = store.pixels.device
    heights, widths = store.sizes[index].float().unbind(1)

    def draw() -> Tensor:
        return torch.rand(len(index), generator=generator, device=device)

    share = area[0] + (area[1] - area[0]) * draw()
    crop = share.sqrt() * torch.minimum(heights, widths)
    left, top = draw() * (widths - crop), draw() * (heights - crop)
    flip = draw() < 0.5
    return _cut(store, index, left, top, crop, flip, size)


def centre_views(store: ImageStore, index: Tensor, *, size: int) -> Tensor:
    """The images' inscribed squares at their centres: float (B, 3, size, size) in [0, 1].

    Args:
        index: int64 (B,), which images.
    """
    heights, widths = store.sizes[index].float().unbind(1)
    crop = torch.minimum(heights, widths)
    flip = torch.zeros_like(index, dtype=torch.bool)
    return _cut(store, index, (widths - crop) / 2, (heights - crop) / 2, crop, flip, size)


def _cut(
    store: ImageStore,
    index: Tensor,
    left: Tensor,
    top: Tensor,
    crop: Tensor,
    flip: Tensor,
    size: int,
) -> Tensor:
    """Squares of side `crop` (B,) in stored pixels, some mirrored: (B, 3, size, size)."""
    centre = (torch.arange(size, device=index.device) + 0.5) / size
    x = left[:, None] + torch.where(flip[:, None], 1 - centre, centre) * crop[:, None]
    y = top[:, None] + centre * crop[:, None]
    _, _, full_height, full_width = store.pixels.shape
    grid = torch.stack(
        [
            (2 * x / full_width - 1)[:, None, :].expand(-1, size, -1),
            (2 * y / full_height - 1)[:, :, None].expand(-1, -1, size),
        ],
        dim=-1,
    )
    images = store.pixels[index].float() / 255
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def read_index(path: Path, *lists: str) -> dict[str, Any]:
    """The JSON object of a data folder's index, with `items` that are objects.

    Args:
        lists: further keys that must hold lists.

    Raises:
        InputError: not such a file.
    """
    content = read_json(path)
    keys = ("items", *lists)
    require(
        isinstance(content, dict) and all(isinstance(content.get(key), list) for key in keys),
        f"{path} must hold a JSON object with the lists {' and '.join(keys)}",
    )
    for position, item in enumerate(content["items"]):
        require(isinstance(item, dict), f"{path}: item {position} must be an object, got {item!r}")
    index: dict[str, Any] = content
    return index


class _Packed(NamedTuple):
    """An encoded picture in a shard."""

    name: str
    data: bytes


def _decode(
    picture: Path | _Packed, side: int, contour: npt.NDArray[np.float32] | None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32] | None]:
    """The picture as it is stored, and its contour in stored pixels."""
    if isinstance(picture, Path):
        image = Image.fromarray(read_image(picture))
    else:
        image = _unpacked(picture)
    scale = min(1.0, side / min(image.size))
    before = image.size
    if scale != 1:
        size = (max(side, round(image.width * scale)), max(side, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    # A long side over 176/128 of the short one is cut at its centre: crops are square anyway.
    longest = min(side, *image.size) * 176 // 128
    left, top = max(0, image.width - longest) // 2, max(0, image.height - longest) // 2
    box = (left, top, left + min(image.width, longest), top + min(image.height, longest))
    if contour is not None:
        if scale != 1:
            scales = np.array([image.width / before[0], image.height / before[1]], np.float32)
            contour = grid_to_pixel(contour, scales)
        contour = contour - np.array([left, top], np.float32)
    return np.array(image.crop(box)), contour


def _unpacked(picture: _Packed) -> Image.Image:
    try:
        with Image.open(io.BytesIO(picture.data)) as file:
            return file.convert("RGB")
    # What Pillow's decoders raise for damaged files.
    except (
        *(OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error),
        Image.DecompressionBombError,
    ) as error:
        raise InputError(f"{picture.name} is no picture that can be read") from error


_Content = tuple[
    Sequence[Path | _Packed], list[int], Sequence[str], list[npt.NDArray[np.float32] | None]
]


def _read_shards(root: Path, limit: int | None) -> _Content:
    path = root / "index.json"
    index = read_index(path, "classes")
    require(
        all(isinstance(pair, list) and len(pair) == 2 for pair in index["classes"]),
        f"{path}: every class must be a pair [data set, name]",
    )
    classes = [f"{name}" for _, name in index["classes"]]
    items = index["items"][:limit]
    for position, item in enumerate(items):
        require(
            all(isinstance(item.get(key), int) for key in ("shard", "j", "y"))
            and 0 <= item["y"] < len(classes),
            f"{path}: item {position} must have the numbers shard, j and y (a class below"
            f" {len(classes)})",
        )
    shards = {number: _read_shard(root, number) for number in sorted({i["shard"] for i in items})}
    pictures = []
    contours = []
    for position, item in enumerate(items):
        packed, j = shards[item["shard"]], item["j"]
        require(
            0 <= j < len(packed),
            f"{path}: item {position} is picture {j} of shard {item['shard']}, which has"
            f" {len(packed)}",
        )
        pictures.append(packed[j])
        contours.append(_contour(item.get("poly"), f"{path}: item {position}"))
    return pictures, [item["y"] for item in items], classes, contours


def _read_shard(root: Path, number: int) -> list[_Packed]:
    path = root / f"train_{number:02d}.npz"
    require(path.is_file(), f"{root / 'index.json'} names {path.name}, which is missing")
    try:
        with path.open("rb") as file, np.load(file) as content:
            blob = content["blob"].tobytes()
            offsets = content["off"].astype(np.int64).tolist()
    except (OSError, EOFError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no shard of pictures: expected `blob` and `off`") from error
    except (zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is damaged or cut short: get a whole copy") from error
    return [
        _Packed(f"{path}: picture {j}", blob[start:end])
        for j, (start, end) in enumerate(itertools.pairwise(offsets))
    ]


def _contour(poly: Any, what: str) -> npt.NDArray[np.float32] | None:
    """A contour (P, 2) from the index's lists of x and y, or None where there is none."""
    if not poly:
        return None
    try:
        contour = np.asarray(poly, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what}: poly must be two equally long lists of numbers") from error
    require(
        contour.ndim == 2 and len(contour) == 2 and bool(np.isfinite(contour).all()),
        f"{what}: poly must be two equally long lists of numbers",
    )
    return contour.T


def _read_folders(root: Path, limit: int | None) -> _Content:
    classes = sorted(path.name for path in root.iterdir() if path.is_dir())
    files = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((root / name).rglob("*"))
        if path.suffix.lower() in _SUFFIXES
    ][:limit]
    labels = [label for _, label in files]
    return [path for path, _ in files], labels, classes, [None] * len(files)
