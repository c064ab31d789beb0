"""Image files in, uint8 RGB arrays out, and back.

Every kind of picture people have becomes one thing: uint8 (H, W, 3), upright, RGB. Files are
written whole or not at all: into a temporary file beside the target, which is then renamed.
Embedded colour profiles are not applied; `io.pictures` keeps them, and 16 bits a channel.
"""

from __future__ import annotations

import contextlib
import io
import logging
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, JpegImagePlugin, TiffImagePlugin

from warpkit.checks import (
    InputError,
    check_file,
    check_image,
    is_dir,
    require,
    usable_array,
)
from warpkit.io.foreign_images import png_without_texts, unreadable_kind
from warpkit.io.tiff_parts import check_parts
from warpkit.io.whole import written_whole

__all__ = [
    "IMAGE_SUFFIXES",
    "check_target",
    "encode_image",
    "image_mode",
    "image_size",
    "is_deep",
    "is_lossy",
    "open_image",
    "picture_count",
    "read_image",
    "read_rgba",
    "rgba_of",
    "save_whole",
    "saved_like",
    "write_image",
]

_log = logging.getLogger("warpkit")

T = TypeVar("T")

# Pillow knows more formats; some of them start other programs (EPS) or are never frames (PDF).
_FORMATS = (
    *("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "AVIF"),
    *("JPEG2000", "TGA"),
)
IMAGE_SUFFIXES = frozenset(
    (
        *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".mpo", ".webp", ".tif", ".tiff", ".bmp"),
        *(".dib", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".tga"),
    )
)
_DEEP_GRAY = ("I;16", "I;16B", "I;16L", "I;16N", "I")
# What Pillow's decoders raise for damaged files besides OSError.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG"},
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".webp": {"format": "WEBP", "lossless": True, "exact": True},
}
_QUALITIES = (50, 75, 80, 90)  # usual ones of files that do not tell theirs


def _open(path: Path, data: bytes | None = None) -> Image.Image:
    """The image with its header read, its pixels not yet decoded; of the file, or its `data`."""
    check_file(path)
    require(not is_dir(path), f"{path}: expected an image file, this is a folder")
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]
    try:
        with warnings.catch_warnings():
            # Damaged metadata is no obstacle as long as the pixels can be read.
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(path if data is None else io.BytesIO(data), formats=formats)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path}: the image has more than {Image.MAX_IMAGE_PIXELS} pixels, the limit for one"
            " image: scale it down first"
        ) from error
    except Image.UnidentifiedImageError as error:
        kind = unreadable_kind(path)
        floats = "; images of floats have no fixed white" if kind and "floats" in kind else ""
        raise InputError(
            f"{path}: not an image that can be read{f': it is {kind}' if kind else ''}{floats};"
            " expected PNG, JPEG, WebP, TIFF, BMP, GIF, PPM or AVIF of 8 or 16 bits (convert"
            " others, such as HEIC, first)"
        ) from error
    except _DAMAGE as error:
        rest = _without_texts(path, data, error)
        if rest is not None:
            return _open(path, rest)
        raise InputError(f"{path}: the image cannot be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The first line of an error's text."""
    text = (getattr(error, "strerror", None) or str(error)).strip()
    return text.splitlines()[0] if text else type(error).__name__


@contextlib.contextmanager
def _without_exif() -> Iterator[None]:
    """Where damaged EXIF costs the orientation alone, which the caller then misses."""
    with warnings.catch_warnings(), contextlib.suppress(*_DAMAGE):
        warnings.simplefilter("ignore")
        yield


def open_image(path: str | Path) -> Image.Image:
    """The first picture of an image file, decoded and turned upright, in its own Pillow mode.

    Raises:
        InputError: if there is no such file, or it is a folder, not an image, damaged or cut
            short, or too large.
    """

    def decoded(image: Image.Image) -> Image.Image:
        kind = image.format
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            check_parts(image)
        image.load()
        upright = None
        with _without_exif():
            upright = ImageOps.exif_transpose(image)
        if upright is None:
            _log.warning("%s: its EXIF is damaged: it is taken upright as it is stored", path)
            upright = image.copy()
        upright.format = kind
        return upright

    return _read(Path(path), decoded, "the image is damaged or cut short ({}): get a whole copy")


def _read(path: Path, use: Callable[[Image.Image], T], damage: str, data: bytes | None = None) -> T:
    """What `use` makes of the opened image; `damage` says that it cannot, with the reason."""
    try:
        with _open(path, data) as image:
            return use(image)
    except InputError:
        raise
    except _DAMAGE as error:
        rest = _without_texts(path, data, error)
        if rest is not None:
            return _read(path, use, damage, rest)
        raise InputError(f"{path}: {damage.format(_reason(error))}") from error


def _without_texts(path: Path, data: bytes | None, error: Exception) -> bytes | None:
    """A PNG to be tried again: texts and profiles beyond Pillow's limit are no obstacle."""
    return png_without_texts(path) if data is None and isinstance(error, ValueError) else None


def is_lossy(image: Image.Image, path: str | Path) -> bool:
    """Whether what `open_image` gave was compressed so that its values may have changed.

    AVIF always counts: its header does not say.
    """
    if image.format in ("JPEG", "MPO", "AVIF"):
        return True
    if image.format == "TIFF":
        return image.info.get("compression") in ("jpeg", "tiff_jpeg", "webp")
    if image.format not in ("WEBP", "JPEG2000"):
        return False
    data = Path(path).read_bytes()
    if image.format == "WEBP":
        return b"VP8 " in data and b"VP8L" not in data
    # Coding style (ISO/IEC 15444-1, A.6.1): 0 is the irreversible transform.
    style = data.find(b"\xff\x52", data.find(b"\xff\x4f\xff\x51"))
    return style >= 0 and data[style + 13 : style + 14] == b"\0"


def picture_count(path: str | Path) -> int:
    """How many pictures an image file holds: frames of an animation, pages of a TIFF.

    Raises:
        InputError: as `open_image`, as far as the header shows it.
    """
    return _read(
        Path(path),
        lambda image: int(getattr(image, "n_frames", 1)),
        "the image header is damaged: {}",
    )


def image_size(path: str | Path) -> tuple[int, int]:
    """Upright `(height, width)` of an image file from its header, without decoding pixels.

    Raises:
        InputError: as `open_image`, as far as the header shows it.
    """

    def upright_size(image: Image.Image) -> tuple[int, int]:
        width, height = image.size
        orientation = 1
        with _without_exif():
            orientation = image.getexif().get(0x0112, 1)
        # Pillow's TIFF reader already states the upright size.
        turned = orientation in (5, 6, 7, 8) and image.format != "TIFF"
        return (width, height) if turned else (height, width)

    return _read(Path(path), upright_size, "the image header is damaged: {}")


def image_mode(path: str | Path) -> str:
    """Pillow's mode of an image file from its header, such as `RGB`, `L`, `P` (indexed) or `1`.

    Raises:
        InputError: as `open_image`, as far as the header shows it.
    """
    with _open(Path(path)) as image:
        return image.mode


def is_deep(path: str | Path) -> bool:
    """Whether an image file has 16 bits a channel, from its header.

    Raises:
        InputError: as `open_image`, as far as the header shows it.
    """
    with _open(Path(path)) as image:
        return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def read_rgba(path: str | Path) -> npt.NDArray[np.uint8]:
    """Read an image with its opacity.

    Gray becomes equal channels; 16-bit gray is scaled to 8 bit (v / 257); CMYK becomes RGB; an
    animation gives its first picture. Colours under transparent pixels are kept as stored.

    Returns:
        uint8 (H, W, 4), RGB and alpha; alpha is 255 where the file holds none.

    Raises:
        InputError: if the file is missing, not an image, damaged, too large, smaller than
            2 x 2 pixels, or of floats or integers beyond 16 bit.
    """
    return rgba_of(open_image(path), Path(path))


def rgba_of(image: Image.Image, path: Path) -> npt.NDArray[np.uint8]:
    """`read_rgba` of what `open_image` gave."""
    require(
        image.mode != "F",
        f"{path}: images of floats have no fixed white: save it as an 8-bit or 16-bit image",
    )
    if image.mode in _DEEP_GRAY:
        deep = np.asarray(image).astype(np.int64)
        require(
            deep.min() >= 0 and deep.max() <= 65535,
            f"{path}: expected 8 or 16 bits a pixel, got values from {deep.min()} to"
            f" {deep.max()}: save it as an 8-bit or 16-bit image",
        )
        gray = np.rint(deep / 257).astype(np.uint8)
        array = np.stack([gray, gray, gray, np.full_like(gray, 255)], axis=-1)
    else:
        try:
            if image.mode in ("CMYK", "YCbCr", "HSV", "RGBX"):
                image = image.convert("RGB")
            array = np.array(image.convert("RGBA"))
        except ValueError as error:
            raise InputError(
                f"{path}: images of kind {image.mode} cannot be read: save it as RGB"
            ) from error
    check_image(array[..., :3], str(path))
    return array


def read_image(path: str | Path) -> npt.NDArray[np.uint8]:
    """Read an image as RGB; opacity is dropped, the stored colours are kept (see `read_rgba`).

    Returns:
        uint8 (H, W, 3), RGB, upright.

    Raises:
        InputError: as `read_rgba`.
    """
    return np.ascontiguousarray(read_rgba(path)[..., :3])


def check_target(path: Path) -> None:
    """Raise `InputError` unless a file can be made at `path`: its folder exists, it is none, and
    its name is one that a file can have.
    """
    require(not is_dir(path), f"{path}: expected a file to write, this is a folder")
    require(is_dir(path.parent), f"{path}: the folder {path.parent} does not exist: create it")
    try:
        path.lstat()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:  # such as a name that is too long
        raise InputError(f"{path}: no such file can be written: {_reason(error)}") from error


def save_whole(image: Image.Image, path: Path, **options: Any) -> None:
    """Save a Pillow image whole or not at all; what was at `path` is replaced at the end.

    Raises:
        InputError: if the folder is missing or cannot be written to.
    """
    check_target(path)
    with written_whole(path) as partial, partial.open("xb") as file:
        image.save(file, **options)


def encode_image(array: npt.NDArray[np.uint8], suffix: str) -> bytes:
    """The bytes that `write_image` would write.

    Args:
        array: uint8 (H, W) or (H, W, 3).
        suffix: `.png`, `.jpg` or `.webp`.
    """
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(buffer, **_SAVE_OPTIONS[suffix])
    return buffer.getvalue()


def saved_like(path: str | Path, array: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
    """What saving an image with loss, as a file was saved, may make of it.

    Args:
        path: an image file; of a JPEG the very same quantisation is used.
        array: uint8 (H, W, 3), RGB.

    Returns:
        uint8 (H, W, 3) each; none if files of that kind have no loss.
    """
    with _open(Path(path)) as stored:
        kind = stored.format
        if isinstance(stored, JpegImagePlugin.JpegImageFile):
            kind = "JPEG"
            same = {
                "qtables": stored.quantization,
                "subsampling": JpegImagePlugin.get_sampling(stored),
            }
            ways: list[dict[str, Any]] = [same]
        else:
            ways = [{"quality": n} for n in _QUALITIES] if kind in ("WEBP", "AVIF") else []
    copies = []
    for way in ways:
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(array)).save(buffer, format=kind, **way)
        with Image.open(buffer) as made:
            copies.append(np.array(made.convert("RGB")))
    return copies


def write_image(path: str | Path, array: npt.NDArray[np.uint8]) -> None:
    """Write an image: `.png` and `.webp` without loss, `.jpg` at quality 95.

    Args:
        array: uint8 (H, W) gray, (H, W, 3) RGB or (H, W, 4) RGB and alpha (not for `.jpg`).

    Raises:
        InputError: for another suffix, dtype or shape, or a file that cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    require(
        suffix in _SAVE_OPTIONS,
        f"{path}: cannot write images of suffix '{suffix}': use one of {', '.join(_SAVE_OPTIONS)}",
    )
    array = usable_array(array)
    require(
        isinstance(array, np.ndarray)
        and array.dtype == np.uint8
        and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4)))
        and array.size > 0,
        "an image to write must be uint8 (height, width), (height, width, 3) or"
        f" (height, width, 4), got {getattr(array, 'dtype', type(array).__name__)}"
        f" {getattr(array, 'shape', '')}",
    )
    require(
        array.ndim == 2 or array.shape[2] == 3 or not suffix.startswith(".jp"),
        f"{path}: JPEG holds no transparency: write a .png or drop the alpha channel",
    )
    save_whole(Image.fromarray(array), path, **_SAVE_OPTIONS[suffix])
