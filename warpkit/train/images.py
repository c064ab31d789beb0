"""Training images, all decoded once into one array; batches are random crops made on the device.

Two layouts are read: a folder with `index.json` and `train_NN.npz` shards of encoded files (`blob`,
`off`), and any folder with one sub-folder of pictures per class.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from warpkit.checks import InputError, require

__all__ = ["ImageStore", "crop_views", "load_images"]

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


def load_images(
    root: Path | str, *, side: int = 128, limit: int | None = None, workers: int = 16
) -> ImageStore:
    """Read a training folder (see the module's description).

    Args:
        side: length of the short side in pixels; longer images are resized to it.
        limit: read at most so many images (shards are shuffled, so any prefix is a fair sample).

    Raises:
        InputError: no images, or a shard the index names is missing.
    """
    root = Path(root)
    require(root.is_dir(), f"no training folder at {root}")
    read = _read_shards if (root / "index.json").is_file() else _read_folders
    encoded, labels, classes, contours = read(root, limit)
    require(len(encoded) > 0, f"{root} holds no training images")
    with ThreadPoolExecutor(workers) as pool:
        decoded = list(pool.map(lambda data: _decode(data, side), encoded))
    height = max(image.shape[0] for image in decoded)
    width = max(image.shape[1] for image in decoded)
    pixels = torch.zeros(len(decoded), 3, height, width, dtype=torch.uint8)
    for i, image in enumerate(decoded):
        pixels[i, :, : image.shape[0], : image.shape[1]] = torch.from_numpy(image).permute(2, 0, 1)
    sizes = torch.tensor([image.shape[:2] for image in decoded])
    return ImageStore(pixels, sizes, torch.tensor(labels), tuple(classes), tuple(contours))


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
    centre = (torch.arange(size, device=device) + 0.5) / size
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


def _decode(data: bytes, side: int) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as file:
        image = file.convert("RGB")
    scale = side / min(image.size)
    if scale != 1:
        size = (max(side, round(image.width * scale)), max(side, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    # A long side over 176/128 of the short one is cut at its centre: crops are square anyway.
    longest = side * 176 // 128
    left, top = max(0, image.width - longest) // 2, max(0, image.height - longest) // 2
    box = (left, top, left + min(image.width, longest), top + min(image.height, longest))
    return np.array(image.crop(box))


_Content = tuple[list[bytes], list[int], Sequence[str], list[npt.NDArray[np.float32] | None]]


def _read_shards(root: Path, limit: int | None) -> _Content:
    index: dict[str, Any] = json.loads((root / "index.json").read_text(encoding="utf-8"))
    items = index["items"][:limit]
    files: dict[int, tuple[bytes, npt.NDArray[np.int64]]] = {}
    for shard in sorted({item["shard"] for item in items}):
        path = root / f"train_{shard:02d}.npz"
        require(path.is_file(), f"{root / 'index.json'} names {path.name}, which is missing")
        with np.load(path) as content:
            files[shard] = (content["blob"].tobytes(), content["off"])
    encoded = []
    contours: list[npt.NDArray[np.float32] | None] = []
    for item in items:
        blob, offsets = files[item["shard"]]
        encoded.append(blob[offsets[item["j"]] : offsets[item["j"] + 1]])
        contour = item.get("poly")
        contours.append(np.asarray(contour, np.float32).T if contour else None)
    classes = [f"{name}" for _, name in index["classes"]]
    return encoded, [item["y"] for item in items], classes, contours


def _read_folders(root: Path, limit: int | None) -> _Content:
    classes = sorted(path.name for path in root.iterdir() if path.is_dir())
    files = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((root / name).rglob("*"))
        if path.suffix.lower() in _SUFFIXES
    ][:limit]
    try:
        encoded = [path.read_bytes() for path, _ in files]
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {error.strerror}") from error
    return encoded, [label for _, label in files], classes, [None] * len(files)
