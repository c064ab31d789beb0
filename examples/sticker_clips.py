"""Rendered clips of a box like a car, of which the place of a sticker on its side is known exactly.

In: a motion and a size. Out: frames, masks of the box, and the homography from the first frame to
every other on the side that bears the sticker. A sticker whose colours say where on it they are
gives the error of whatever was propagated, by whichever way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from warpkit.coords import pixel_grid
from warpkit.propagate.edits import EditLayer

__all__ = ["MOTIONS", "BoxFrame", "coded_sticker", "render_box", "sticker_error", "text_sticker"]

Image = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.float64]

_HALF = np.array([2.0, 0.75, 0.9])  # metres: half its length, height and width
_FINE = 120  # pixels of texture in a metre
_STICKER = np.array([[0.15, -0.15], [1.25, 0.4]])  # metres from the middle of the side
_SUN = np.array([-0.5, -0.7, -0.5]) / np.linalg.norm([0.5, 0.7, 0.5])
_FRAME_RATE = 25

# Per motion at t seconds: angle about the vertical, roll (degrees), and where the box is (metres).
MOTIONS = {
    "roundabout": lambda t: (
        -30 + 85 * np.sin(0.75 * t) ** 2,
        1.2 * np.sin(5 * t),
        (3.4 * np.sin(1.1 * t - 0.9), 1.0 + 0.03 * np.sin(9 * t), 9 + 2.4 * t),
    ),
    "turn": lambda t: (
        15 - 34 * t,
        0.0,
        (2.0 - 1.5 * t, 0.9, 8.0 + 0.8 * t),
    ),
    "still": lambda t: (-20 + 0.5 * t, 0.0, (0.0, 1.0, 9.0)),
}


@dataclass(frozen=True, eq=False)
class BoxFrame:
    """One frame.

    Attributes:
        image: uint8 RGB (H, W, 3).
        mask: bool (H, W), the box.
        side: (3, 3), from metres on the side that bears the sticker to pixels.
        facing: the cosine of the angle at which that side is seen; 0 and less is not at all.
    """

    image: Image
    mask: npt.NDArray[np.bool_]
    side: Matrix
    facing: float

    @property
    def corners(self) -> Matrix:
        """The sticker's corners, (4, 2) pixels, clockwise from the top left."""
        (x1, y1), (x2, y2) = _STICKER
        corners = np.array([[[x1, y1], [x2, y1], [x2, y2], [x1, y2]]])
        return np.asarray(cv2.perspectiveTransform(corners, self.side)[0], np.float64)


def render_box(
    motion: str, frames: int, *, height: int = 480, samples: int = 2
) -> Iterator[BoxFrame]:
    """Frames of a motion, 16:9.

    Args:
        samples: per pixel, along each side.
    """
    width = round(height * 16 / 9)
    faces = {name: _painted(name) for name in ("side", "end", "top")}
    ground = _noise(7, 3 * height, 4 * width, (2, 8, 40))
    for n in range(frames):
        yield _frame(MOTIONS[motion](n / _FRAME_RATE), faces, ground, height, width, samples)


def _noise(
    seed: int, height: int, width: int, scales: tuple[float, ...]
) -> npt.NDArray[np.float32]:
    """Grey noise with detail of several sizes, about 1."""
    generator = np.random.default_rng(seed)
    total = np.zeros((height, width), np.float32)
    for scale in scales:
        small = max(2, round(height / scale)), max(2, round(width / scale))
        part = generator.standard_normal(small).astype(np.float32)
        total += cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC)
    return 1 + 0.08 * total


def _painted(name: str) -> npt.NDArray[np.float32]:
    """The texture of a face, (h, w, 3), 0 to 255."""
    across = {"side": (0, 1), "end": (2, 1), "top": (0, 2)}[name]
    width, height = (round(2 * _HALF[axis] * _FINE) for axis in across)
    face = np.full((height, width, 3), (150, 165, 185), np.float32)
    if name == "side":
        for x1, x2 in ((95, 215), (230, 340), (352, 420)):
            cv2.rectangle(face, (x1, 14), (x2, 62), (45, 52, 60), -1)
        for x in (222, 346, 84):
            cv2.line(face, (x, 8), (x, 150), (90, 100, 112), 2)
        cv2.line(face, (0, 128), (width, 128), (70, 75, 80), 5)
        for x in (90, 390):
            cv2.circle(face, (x, 152), 27, (28, 28, 30), -1)
            cv2.circle(face, (x, 152), 15, (170, 172, 175), -1)
            cv2.line(face, (x - 14, 152), (x + 14, 152), (60, 60, 60), 3)
        for x in (206, 330):
            cv2.rectangle(face, (x - 18, 74), (x, 79), (60, 66, 72), -1)
    elif name == "end":
        cv2.rectangle(face, (30, 14), (width - 30, 66), (45, 52, 60), -1)
        for x in (6, width - 26):
            cv2.rectangle(face, (x, 60), (x + 20, 110), (190, 40, 40), -1)
        cv2.rectangle(face, (70, 110), (width - 70, 135), (230, 230, 220), -1)
    seed = sum(map(ord, name))
    return face * (0.7 + 0.3 * _noise(seed, height, width, (3, 9, 60)))[..., None]


def _frame(
    pose: tuple[float, float, tuple[float, float, float]],
    faces: dict[str, npt.NDArray[np.float32]],
    ground: npt.NDArray[np.float32],
    height: int,
    width: int,
    samples: int,
) -> BoxFrame:
    yaw, roll, place = pose
    turn = (
        cv2.Rodrigues(np.radians([0.0, yaw, 0.0]))[0] @ cv2.Rodrigues(np.radians([0, 0, roll]))[0]
    )
    centre = np.array(place)
    lens = np.array(
        [[1.25 * width, 0, (width - 1) / 2], [0, 1.25 * width, (height - 1) / 2], [0, 0, 1.0]]
    )
    fine = np.array(  # between pixels and their samples: centres lie at integers on both sides
        [[samples, 0, (samples - 1) / 2], [0, samples, (samples - 1) / 2], [0, 0, 1.0]]
    )
    size = (width * samples, height * samples)
    # The camera follows the box by half.
    pan = 1.25 * width * centre[:2] / centre[2] * (0.5, 0.2)
    lens[:2, 2] -= pan
    start = (np.array(ground.shape[1::-1]) - (width, height)) / 2 + pan
    seen = ground[round(start[1]) :, round(start[0]) :][:height, :width]
    picture = cv2.resize(seen, size, interpolation=cv2.INTER_LINEAR)[..., None] * np.float32(
        [105, 110, 100]
    )
    cover = np.zeros(size[::-1], np.float32)
    side = np.eye(3)
    facing = 0.0
    for name, axis, sign in (("side", 2, -1), ("end", 0, 1), ("end", 0, -1), ("top", 1, -1)):
        right, down = {2: (0, 1), 0: (2, 1), 1: (0, 2)}[axis]
        normal, middle = np.zeros(3), np.zeros(3)
        normal[axis], middle[axis] = sign, sign * _HALF[axis]
        outward, middle = turn @ normal, turn @ middle + centre
        towards = float(-(outward @ middle) / np.linalg.norm(middle))
        to_pixel = lens @ np.column_stack([turn[:, right], turn[:, down], middle])
        if name == "side":
            side, facing = to_pixel / to_pixel[2, 2], towards
        if towards <= 0:
            continue
        texture = faces[name] * (0.55 + 0.45 * max(0.0, float(outward @ _SUN)))
        half = np.array(texture.shape[1::-1]) / 2
        metres = np.array(
            [
                [1 / _FINE, 0, (0.5 - half[0]) / _FINE],
                [0, 1 / _FINE, (0.5 - half[1]) / _FINE],
                [0, 0, 1],
            ]
        )
        matrix = fine @ to_pixel @ metres
        options = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_CONSTANT}
        share = cv2.warpPerspective(np.ones(texture.shape[:2], np.float32), matrix, size, **options)
        shown = cv2.warpPerspective(texture, matrix, size, **options)
        picture = picture * (1 - share[..., None]) + shown
        cover = np.maximum(cover, share)
    small = (width, height)
    picture = cv2.resize(picture, small, interpolation=cv2.INTER_AREA)
    cover = cv2.resize(cover, small, interpolation=cv2.INTER_AREA)
    image = np.rint(picture.clip(0, 255)).astype(np.uint8)
    return BoxFrame(image, cover > 0.5, side, facing)


def _on_sticker(frame: BoxFrame) -> npt.NDArray[np.float32]:
    """Where every pixel is on the sticker, (H, W, 2); 0 to 1 from its top left corner."""
    height, width = frame.mask.shape
    metres = cv2.perspectiveTransform(
        pixel_grid(height=height, width=width).numpy().astype(np.float64), np.linalg.inv(frame.side)
    )
    return ((metres - _STICKER[0]) / (_STICKER[1] - _STICKER[0])).astype(np.float32)


def coded_sticker(first: BoxFrame) -> EditLayer:
    """A sticker on the first frame whose red and green say where on it a pixel is."""
    place = _on_sticker(first)
    inside = ((place >= 0) & (place <= 1)).all(axis=2)
    layer = np.zeros((*first.mask.shape, 4), np.float32)
    layer[inside] = np.column_stack([place[inside], np.zeros(inside.sum()), np.ones(inside.sum())])
    return EditLayer(layer)


def text_sticker(first: BoxFrame, text: str = "WARP 42") -> EditLayer:
    """A sticker on the first frame with a word that can be read."""
    size = np.rint((_STICKER[1] - _STICKER[0]) * 4 * _FINE).astype(int)
    face = np.full((size[1], size[0], 3), (250, 215, 40), np.uint8)
    cv2.rectangle(face, (8, 8), tuple(int(v) for v in size - 9), (20, 20, 20), 8)
    cv2.putText(face, text, (28, size[1] // 2 + 40), cv2.FONT_HERSHEY_DUPLEX, 3.2, (20, 20, 20), 9)
    xy = np.float32(_on_sticker(first) * size - 0.5)
    drawn = cv2.remap(face, xy, None, cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    inside = coded_sticker(first).alpha
    return EditLayer.from_rgba(np.dstack([drawn, np.rint(255 * inside).astype(np.uint8)]))


def sticker_error(layer: EditLayer, frame: BoxFrame, *, inset: float = 0.1) -> tuple[float, float]:
    """How far the corners of a coded sticker are from where they belong.

    Args:
        layer: the propagated `coded_sticker`, over a frame.
        inset: how far inside the sticker its corners are read, of its sides.

    Returns:
        The mean error of the corners that are to be seen, as a fraction of the sticker's size, and
        the share of them that is.
    """
    errors = []
    for x, y in ((inset, inset), (1 - inset, inset), (1 - inset, 1 - inset), (inset, 1 - inset)):
        metres = _STICKER[0] + np.array([x, y]) * (_STICKER[1] - _STICKER[0])
        at = cv2.perspectiveTransform(metres[None, None], frame.side)[0].astype(np.float32)
        values = cv2.remap(layer.premultiplied, at[None], None, cv2.INTER_LINEAR)[0, 0]
        if values[3] > 0.5:
            found = values[:2] / values[3]
            errors.append(float(np.linalg.norm(found - (x, y))))
    return (float(np.mean(errors)) if errors else float("nan")), len(errors) / 4
