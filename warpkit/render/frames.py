"""Frames of a clip with exact labels and exact correspondences to frame 0."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from warpkit.checks import check_points, require
from warpkit.coords import pixel_to_grid
from warpkit.render.motion import Array
from warpkit.render.scene import ClipSpec
from warpkit.render.scenery import SCENERIES
from warpkit.render.textures import grain

__all__ = [
    "RenderedFrame",
    "render_frame",
    "render_image",
    "render_tracks",
    "true_motion",
]

_SHADOW_OFFSET = (0.022, 0.035)  # world units
_SHADOW_BLUR = 0.05  # drawing units
_BAND_SAMPLES = 12_000  # colour samples painted at a time
_CACHED_BANDS = 512  # of scenery, at most about 150 MB


@dataclass(frozen=True, eq=False)
class RenderedFrame:
    """One frame and the truth about it.

    Convention: `(x, y)` pixels, pixel centres at integers. The coordinates are exact to float32
    rounding (every motion has an analytic inverse); they are given for every pixel, seen or not,
    and may lie outside the frame.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        labels: uint8 (H, W), object id at the pixel's centre, 0 = no object.
        source_xy: float32 (H, W, 2), where the point seen at this pixel is in frame 0.
        visible: bool (H, W), that point is seen in frame 0: inside it and not occluded.
        target_xy: float32 (H, W, 2), where the point seen at this pixel OF FRAME 0 is in this
            frame.
        target_visible: bool (H, W), that point is seen in this frame.
    """

    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    source_xy: npt.NDArray[np.float32]
    visible: npt.NDArray[np.bool_]
    target_xy: npt.NDArray[np.float32]
    target_visible: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Points:
    """Points on what is front-most: layer (0 = scenery, n = objects[n - 1]), material x and y."""

    layer: npt.NDArray[np.int64]
    x: Array
    y: Array


def _pixels(spec: ClipSpec, samples: int, rows: range | None = None) -> tuple[Array, Array]:
    """Coordinates of `samples` x `samples` regular samples in every pixel, flat, row-major."""
    first, end = (rows.start, rows.stop) if rows else (0, spec.height)
    down = pixel_to_grid(np.arange(first * samples, end * samples), samples)
    columns = pixel_to_grid(np.arange(spec.width * samples), samples)
    y, x = np.meshgrid(down, columns, indexing="ij")
    return x.ravel(), y.ravel()


def _to_world(spec: ClipSpec, x: Array, y: Array, seconds: float) -> tuple[Array, Array]:
    u = (x - (spec.width - 1) / 2) / spec.height
    v = (y - (spec.height - 1) / 2) / spec.height
    return spec.camera.inverse(u, v, seconds)


def _front(spec: ClipSpec, x: Array, y: Array, seconds: float) -> _Points:
    """What is front-most at frame coordinates x, y."""
    world_x, world_y = _to_world(spec, x, y, seconds)
    front = _Points(np.zeros(x.shape, dtype=np.int64), world_x.copy(), world_y.copy())
    for number, layer in enumerate(spec.objects, start=1):
        u, v = layer.inverse(world_x, world_y, seconds)
        covered = layer.covers(u, v)
        front.layer[covered] = number
        front.x[covered] = u[covered]
        front.y[covered] = v[covered]
    return front


def _at(
    spec: ClipSpec, points: _Points, seconds: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Where n material points are at a time, frame coordinates (n, 2), and whether seen (n,)."""
    u, v = points.x.copy(), points.y.copy()
    for number, layer in enumerate(spec.objects, start=1):
        on = points.layer == number
        u[on], v[on] = layer.forward(u[on], v[on], seconds)
    u, v = spec.camera.forward(u, v, seconds)
    x = u * spec.height + (spec.width - 1) / 2
    y = v * spec.height + (spec.height - 1) / 2
    inside = (x >= -0.5) & (x <= spec.width - 0.5) & (y >= -0.5) & (y <= spec.height - 0.5)
    # A point is hidden by a layer in front of its own; its own layer covers it by construction,
    # so comparing layers (and not asking its own again) is safe from rounding at the outline.
    seen = inside & (_front(spec, x, y, seconds).layer <= points.layer)
    return np.stack([x, y], axis=-1).astype(np.float32), seen


def _shadow(spec: ClipSpec, x: Array, y: Array, front: _Points, seconds: float) -> Array:
    """Brightness factor from the shadows of the objects in front of each point."""
    factor = np.ones(x.shape)
    world_x, world_y = _to_world(spec, x, y, seconds)
    for label in sorted({layer.label for layer in spec.objects} - {0}):
        parts = [
            (number, layer)
            for number, layer in enumerate(spec.objects, start=1)
            if layer.label == label
        ]
        behind = np.flatnonzero(front.layer < parts[0][0])
        gap = np.full(len(behind), np.inf)
        for _, layer in parts:
            u, v = layer.inverse(
                world_x[behind] - _SHADOW_OFFSET[0], world_y[behind] - _SHADOW_OFFSET[1], seconds
            )
            gap = np.minimum(gap, layer.distance(u, v, margin=_SHADOW_BLUR))
        factor[behind] *= 1.0 - spec.light.shadow * np.clip(0.5 - gap / (2 * _SHADOW_BLUR), 0, 1)
    return factor


def _image(spec: ClipSpec, seconds: float, *, edited: bool) -> npt.NDArray[np.uint8]:
    # A band's arrays stay in the processor's cache.
    rows = max(1, _BAND_SAMPLES // (spec.width * spec.supersampling**2))
    bands = [range(y, min(y + rows, spec.height)) for y in range(0, spec.height, rows)]
    scenery = spec.without_objects(seconds)
    with ThreadPoolExecutor(os.cpu_count(), "render") as pool:
        image = np.concatenate(
            list(pool.map(lambda rows: _band(spec, scenery, rows, seconds, edited=edited), bands))
        )
    across = (np.arange(spec.width) - (spec.width - 1) / 2) / spec.height
    gain = spec.light.gain.at(seconds) + spec.light.slope.at(seconds) * across
    warmth = spec.light.warmth.at(seconds)
    image *= gain[None, :, None] * np.array([1 + warmth, 1.0, 1 - warmth])
    result: npt.NDArray[np.uint8] = np.clip(np.rint(image * 255.0), 0, 255).astype(np.uint8)
    return result


def _band(spec: ClipSpec, scenery: ClipSpec, rows: range, seconds: float, *, edited: bool) -> Array:
    """Colours (len(rows), W, 3) of some rows of pixels, before the light."""
    samples = spec.supersampling
    x, y = _pixels(spec, samples, rows)
    front = _front(spec, x, y, seconds)
    colours = _scenery(scenery, rows).copy()
    for number, layer in enumerate(spec.objects, start=1):
        on = front.layer == number
        if on.any():
            colours[on] = layer.colours(front.x[on], front.y[on], edited=edited)
    if spec.light.shadow > 0:
        colours *= _shadow(spec, x, y, front, seconds)[:, None]
    return colours.reshape(len(rows), samples, spec.width, samples, 3).mean(axis=(1, 3))


@lru_cache(maxsize=_CACHED_BANDS)
def _scenery(spec: ClipSpec, rows: range) -> Array:
    """Colours (N, 3) of a clip's scenery alone; the same for all frames of a camera at rest."""
    x, y = _to_world(spec, *_pixels(spec, spec.supersampling, rows), 0.0)
    return SCENERIES[spec.scenery](x, y, grain(spec.seed))


def render_frame(spec: ClipSpec, t: int, *, edited: bool = False) -> RenderedFrame:
    """Frame `t` of a clip with its labels and its correspondences to frame 0.

    Args:
        spec: the clip.
        t: frame number, 0 to `spec.frames - 1`.
        edited: paint the objects in their edited styles; everything but colour stays the same, so
            `render_frame(spec, 0, edited=True)` is the edited first frame and the later edited
            frames are what a perfect propagation gives.

    Raises:
        InputError: if the clip has no such frame.
    """
    _check_frame(spec, t)
    seconds = t / spec.frame_rate
    x, y = _pixels(spec, 1)
    here, first = _front(spec, x, y, seconds), _front(spec, x, y, 0.0)
    source_xy, visible = _at(spec, here, 0.0)
    target_xy, target_visible = _at(spec, first, seconds)
    size = (spec.height, spec.width)
    label_of = np.array([0, *(layer.label for layer in spec.objects)], dtype=np.uint8)
    return RenderedFrame(
        image=_image(spec, seconds, edited=edited),
        labels=label_of[here.layer].reshape(size),
        source_xy=source_xy.reshape(*size, 2),
        visible=visible.reshape(size),
        target_xy=target_xy.reshape(*size, 2),
        target_visible=target_visible.reshape(size),
    )


def render_image(spec: ClipSpec, t: int, *, edited: bool = False) -> npt.NDArray[np.uint8]:
    """The picture of `render_frame` alone, uint8 (H, W, 3), which is quicker."""
    _check_frame(spec, t)
    return _image(spec, t / spec.frame_rate, edited=edited)


def _check_frame(spec: ClipSpec, t: int) -> None:
    require(
        0 <= t < spec.frames,
        f"clip '{spec.name}' has frames 0 to {spec.frames - 1}, got {t}",
    )


def true_motion(
    spec: ClipSpec, t: int, other: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Where the points seen in one frame of a clip are in another one.

    Args:
        t: frame number of the frame whose pixels are asked for.
        other: frame number in which they are looked for.

    Returns:
        `(x, y)` pixels float32 (H, W, 2), and bool (H, W) where that point is seen there.

    Raises:
        InputError: if the clip has no such frame.
    """
    _check_frame(spec, t)
    _check_frame(spec, other)
    x, y = _pixels(spec, 1)
    there, seen = _at(spec, _front(spec, x, y, t / spec.frame_rate), other / spec.frame_rate)
    return there.reshape(spec.height, spec.width, 2), seen.reshape(spec.height, spec.width)


def render_tracks(
    spec: ClipSpec, points: npt.ArrayLike, *, frame: int = 0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Where the points seen in one frame are in every frame of a clip, and whether seen there.

    Args:
        spec: the clip.
        points: (N, 2), `(x, y)` pixels of that frame.
        frame: its number.

    Returns:
        float32 (N, T, 2), exact to rounding and also given where not seen, perhaps outside the
        frame; bool (N, T).

    Raises:
        InputError: no such frame, or points outside it.
    """
    _check_frame(spec, frame)
    xy = check_points(points, height=spec.height, width=spec.width).astype(np.float64)
    front = _front(spec, xy[:, 0], xy[:, 1], frame / spec.frame_rate)
    found = [_at(spec, front, t / spec.frame_rate) for t in range(spec.frames)]
    return np.stack([at for at, _ in found], axis=1), np.stack([seen for _, seen in found], axis=1)
