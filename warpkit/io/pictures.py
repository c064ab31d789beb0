"""Pictures with all that their files hold: 16 bits a channel, opacity, a colour profile.

In: an image file. Out: `StoredPicture`, and back, without loss.
"""

from __future__ import annotations

import io
import logging
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage
from PIL import ImageCms

from warpkit.checks import check_image, require, usable_array
from warpkit.io.images import is_deep, open_image, rgba_of, save_whole, write_image
from warpkit.io.whole import written_whole

__all__ = ["Levels", "StoredPicture", "read_picture", "with_colors_of", "write_picture"]

_log = logging.getLogger("warpkit")

Levels = npt.NDArray[np.unsignedinteger[Any]]
"""Channels of 8 or 16 bits."""

# What EXIF may ask for (CIPA DC-008, 4.6.5): as it is, mirrored, turned.
_TURNS: tuple[Callable[[Levels], Levels], ...] = (
    lambda a: a,
    lambda a: a[:, ::-1],
    lambda a: a[::-1, ::-1],
    lambda a: a[::-1],
    lambda a: a.swapaxes(0, 1),
    lambda a: np.rot90(a, -1),
    lambda a: np.rot90(a, 2).swapaxes(0, 1),
    lambda a: np.rot90(a),
)


@dataclass(frozen=True, eq=False)
class StoredPicture:
    """An image as it is stored, upright.

    Attributes:
        rgb: uint8 (H, W, 3), as `read_image` gives it.
        alpha: uint8 (H, W), opacity; None: opaque everywhere.
        deep: uint16 (H, W, 4), RGB and alpha, where there are 16 bits.
        profile: ICC profile of the RGB values; None: sRGB, or unknown.
        name: what messages call it.
    """

    rgb: npt.NDArray[np.uint8]
    alpha: npt.NDArray[np.uint8] | None = None
    deep: npt.NDArray[np.uint16] | None = None
    profile: bytes | None = None
    name: str = "the picture"

    @classmethod
    def of(cls, image: object, name: str = "image") -> StoredPicture:
        """The picture that a user's array makes.

        Args:
            image: uint8 or uint16 (H, W, 3) or, with alpha, (H, W, 4).

        Raises:
            InputError: for another type, dtype or shape.
        """
        array = usable_array(image)
        if not isinstance(array, np.ndarray) or array.ndim != 3 or array.shape[2] not in (3, 4):
            return cls(check_image(array, name))  # which says what is wrong
        deep = _with_alpha(array) if array.dtype == np.uint16 else None
        if deep is not None:
            array = ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
        rgb, alpha = _parts(array)
        return cls(check_image(rgb, name), alpha, deep, name=name)

    @property
    def colors(self) -> Levels:
        """RGB (H, W, 3), with all bits that there are."""
        return self.rgb if self.deep is None else self.deep[..., :3]

    @property
    def channels(self) -> Levels:
        """RGB (H, W, 3), or with alpha (H, W, 4), with all bits that there are."""
        alpha = self.opacity
        return self.colors if alpha is None else np.dstack([self.colors, alpha])

    @property
    def opacity(self) -> Levels | None:
        """(H, W), in the bits of `colors`; None: opaque everywhere."""
        if self.alpha is None or self.deep is None:
            return self.alpha
        return self.deep[..., 3]


def _parts(array: Levels) -> tuple[Levels, Levels | None]:
    """RGB, and alpha unless that is opaque everywhere."""
    if array.shape[2] == 3:
        return array, None
    alpha = np.ascontiguousarray(array[..., 3])
    return np.ascontiguousarray(array[..., :3]), None if alpha.min(initial=255) == 255 else alpha


def _with_alpha(array: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    if array.shape[2] == 4:
        return array
    return np.dstack([array, np.full(array.shape[:2], 65535, np.uint16)])


def read_picture(path: str | Path) -> StoredPicture:
    """Read an image file with all that it holds.

    16 bits are kept of PNG and TIFF. A profile is kept where it is one of RGB values.

    Raises:
        InputError: as `read_rgba`.
    """
    path = Path(path)
    image = open_image(path)
    rgba = rgba_of(image, path)
    profile = image.info.get("icc_profile")
    if image.mode == "CMYK" or not profile or profile[16:20] != b"RGB ":
        profile = None
    return StoredPicture(*_parts(rgba), _read_deep(path, image, rgba), profile, str(path))


def _read_deep(
    path: Path, image: PilImage.Image, rgba: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint16] | None:
    """16 bits a channel, (H, W, 4), of a file that has them."""
    if image.mode.startswith("I"):
        gray: npt.NDArray[np.uint16] = np.asarray(image).astype(np.uint16)
        return _with_alpha(np.dstack([gray, gray, gray])) if int(gray.max()) > 255 else None
    if image.format not in ("PNG", "TIFF") or not is_deep(path):
        return None
    import cv2

    stored = np.frombuffer(path.read_bytes(), np.uint8)
    found: Any = cv2.imdecode(stored, cv2.IMREAD_UNCHANGED)
    if found is not None and found.dtype == np.uint16 and found.ndim == 3:
        found = found[..., [2, 1, 0, 3][: found.shape[2]]]
        for turn in _TURNS:
            each = turn(found)
            deep = _with_alpha(np.ascontiguousarray(each))
            # Both readers must agree on what is where; Pillow takes the upper 8 bits.
            if deep.shape == rgba.shape and ((deep >> 8) == rgba).all():
                return deep
    _log.warning("%s: the lower 8 of its 16 bits cannot be read: it is taken as of 8", path)
    return None


def write_picture(path: str | Path, levels: Levels, profile: bytes | None = None) -> None:
    """Write a PNG of 8 or 16 bits a channel with a colour profile.

    Args:
        path: a name that ends in `.png`.
        levels: uint8 or uint16 (H, W, 3) or (H, W, 4).
        profile: ICC profile of the values.

    Raises:
        InputError: for another suffix, or a file that cannot be written.
    """
    path = Path(path)
    require(path.suffix.lower() == ".png", f"{path}: pictures are written as .png only")
    if levels.dtype == np.uint8:
        if profile is None:
            write_image(path, levels)
        else:
            save_whole(PilImage.fromarray(levels), path, format="PNG", icc_profile=profile)
        return
    import cv2

    order = [2, 1, 0, 3][: levels.shape[2]]
    data = cv2.imencode(".png", np.ascontiguousarray(levels[..., order]))[1].tobytes()
    if profile is not None:
        # OpenCV writes no profiles: the chunk goes behind the header (PNG specification, 11.3.2.3).
        content = b"iCCP" + b"ICC profile\0\0" + zlib.compress(profile)
        head, crc = struct.pack(">I", len(content) - 4), struct.pack(">I", zlib.crc32(content))
        data = data[:33] + head + content + crc + data[33:]
    with written_whole(path) as partial:
        partial.write_bytes(data)


def with_colors_of(
    picture: StoredPicture, other: StoredPicture
) -> tuple[StoredPicture, str | None]:
    """A picture in the colour space of another one.

    A picture without a profile counts as sRGB, as browsers take it. Values are converted in 8 bits;
    of 16 the lower ones are kept as they are.

    Returns:
        The picture, its profile the other's; and a line where one of both has no profile.
    """
    said = None
    if _described(picture.profile) == _described(other.profile):
        return picture, None
    for each, rest in ((picture, other), (other, picture)):
        if each.profile is None:
            said = (
                f"{each.name} has no colour profile, {rest.name} has one"
                f" ({_described(rest.profile)}): the first is taken as sRGB"
            )
    try:
        rgb = ImageCms.profileToProfile(
            PilImage.fromarray(picture.rgb),
            _opened(picture.profile),
            _opened(other.profile),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError) as error:
        return picture, (
            f"the colours of {picture.name} are taken as they are stored: its colour profile and"
            f" that of {other.name} do not fit together ({error})"
        )
    assert rgb is not None
    moved, deep = np.array(rgb), picture.deep
    if deep is not None:
        change = 257 * (moved.astype(np.int32) - picture.rgb)
        colors = (deep[..., :3] + change).clip(0, 65535).astype(np.uint16)
        deep = np.dstack([colors, deep[..., 3]])
    return replace(picture, rgb=moved, deep=deep, profile=other.profile), said


def _opened(profile: bytes | None) -> ImageCms.ImageCmsProfile:
    if profile is None:
        return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    return ImageCms.ImageCmsProfile(io.BytesIO(profile))


def _described(profile: bytes | None) -> str:
    """A profile's description; sRGB is one by any of its names."""
    if profile is None:
        return "sRGB"
    try:
        text = ImageCms.getProfileDescription(_opened(profile)).strip()
    except (ImageCms.PyCMSError, OSError):
        return "an unreadable profile"
    return "sRGB" if "srgb" in text.lower() else text or "a profile without a name"
