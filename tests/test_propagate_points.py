"""Points followed: exactly along a known motion, hidden and found again, both ways, restored."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from warpkit.checks import InputError
from warpkit.evaluate.baselines import RgbPatches
from warpkit.evaluate.commands.tapvid import follow_points
from warpkit.propagate import PointConfig, PointTracker

HEIGHT, WIDTH = 72, 96
SHIFT = np.array([25, 20])
STEP = np.array([2.3, -1.4])  # pixels a frame
POINTS = np.array([[30, 40], [50.5, 45.25], [20, 60]], np.float32)


def texture() -> np.ndarray:
    random = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
    return cv2.resize(random, (200, 160), interpolation=cv2.INTER_CUBIC)


def moving(count: int) -> list[np.ndarray]:
    """A texture that moves by STEP a frame."""
    ground = texture()
    frames = []
    for t in range(count):
        x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
        x, y = x - STEP[0] * t + 60, y - STEP[1] * t + 40
        frames.append(
            cv2.remap(ground, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)
        )
    return frames


def follow(images: list[np.ndarray], queries: list[int], config: PointConfig | None = None):
    describer = RgbPatches(size=36)
    maps = describer.describe(images)
    return follow_points(images, maps, np.array(queries), POINTS, config or PointConfig())


def true_places(count: int, queries: list[int]) -> np.ndarray:
    time = np.arange(count)[None, :, None] - np.array(queries)[:, None, None]
    return POINTS[:, None] + time * STEP


@pytest.mark.parametrize("queries", [[0, 0, 0], [4, 0, 7], [7, 7, 7]])
def test_a_known_motion_from_any_frame(queries: list[int]) -> None:
    xy, seen = follow(moving(8), queries)
    error = np.linalg.norm(xy - true_places(8, queries), axis=2)
    assert seen.all()
    assert error.max() < 0.7
    for n, query in enumerate(queries):
        np.testing.assert_array_equal(xy[n, query], POINTS[n])


def test_hidden_and_found_again() -> None:
    images = moving(8)
    for t in (3, 4, 5):  # a plate over the first point alone
        x, y = np.rint(POINTS[0] + t * STEP).astype(int)
        images[t][y - 8 : y + 9, x - 8 : x + 9] = (255, 0, 255)
    xy, seen = follow(images, [0, 0, 0])
    assert seen[0].tolist() == [True] * 3 + [False] * 3 + [True] * 2
    assert seen[2].all()
    found = np.linalg.norm(xy - true_places(8, [0, 0, 0]), axis=2)[0, 6:]
    assert found.max() < 2.5  # as exact as the descriptors' cells
    _, unseen = follow(images, [0, 0, 0], PointConfig(found_similarity=1.0))
    assert not unseen[0, 3:].any()


def test_across_a_cut_only_descriptors_count() -> None:
    images = moving(2)
    images[1] = np.roll(images[0], (20, 25), axis=(0, 1))
    maps = RgbPatches(size=36).describe(images)
    tracker = PointTracker(PointConfig(), 3)
    tracker.join(np.arange(3), POINTS, maps[0], images[0])
    now = tracker.step(maps[1], images[1], cut=True)
    jumped = np.linalg.norm(now.xy - (POINTS + SHIFT), axis=1)
    inside = ((POINTS + SHIFT) < (WIDTH - 8, HEIGHT - 8)).all(axis=1)
    assert inside.sum() >= 1
    assert jumped[inside].max() < 2
    assert now.visible[inside].all()


def test_restored_goes_on_bit_for_bit() -> None:
    images = moving(6)
    maps = RgbPatches(size=36).describe(images)

    def start() -> PointTracker:
        tracker = PointTracker(PointConfig(), 3)
        tracker.join(np.arange(3), POINTS, maps[0], images[0])
        return tracker

    whole = start()
    results = [whole.step(maps[t], images[t]) for t in range(1, 6)]
    again = start()
    again.restore(results[2], images[3])
    for t in (4, 5):
        now = again.step(maps[t], images[t])
        np.testing.assert_array_equal(now.xy, results[t - 1].xy)
        np.testing.assert_array_equal(now.visible, results[t - 1].visible)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flow_error": -1}, "flow_error must be 0 or more"),
        ({"colour": float("nan")}, "colour must be 0 or more"),
        ({"similarity": 2}, "similarity is a cosine"),
    ],
)
def test_bad_settings(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PointConfig(**change)
