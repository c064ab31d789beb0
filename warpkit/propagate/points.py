"""Points followed through a clip, frame by frame in either direction, with visibility.

In: points of a frame, then the frames after it (or before it, going back), each with its image and
descriptors. Out: where the points are in every frame, and whether they are seen.

Two sources are combined. Dense optical flow from frame to frame is exact to a part of a pixel, but
loses a point that is hidden and drifts. The match of the point's own descriptor, taken in the frame
where it was given, does neither, but is only as exact as the descriptor's grid. So a point follows
the flow while the flow there and back agree and the place still resembles the query; otherwise it
waits, unseen, until its descriptor's match leads back to it. Memory does not grow with the clip.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from warpkit.arrays import Image
from warpkit.checks import check_image, check_points, require
from warpkit.coords import sample_bilinear, sample_descriptors
from warpkit.match.matcher import Matcher
from warpkit.match.points import match_points
from warpkit.match.settings import MatchFilters
from warpkit.propagate.flow import flow_between, grey_of
from warpkit.types import DescriptorMap

__all__ = ["PointConfig", "PointTracker", "TrackedPoints"]


@dataclass(frozen=True)
class PointConfig:
    """How points are followed; docs/video.md says what the defaults reach.

    Attributes:
        flow: whether points follow the optical flow; False matches every frame with the query's
            alone.
        flow_error: the flow there and back may miss by so much, as a part of the short side.
        similarity: a place resembles the query if its cosine is at least this.
        colour: and its colour differs from the query's by at most this (CIELAB, lightness
            100 = 1).
        cycle: a match finds a lost point again if its way back ends so near, as a part of the
            short side.
        found_similarity: and if its cosine is at least this.
    """

    flow: bool = True
    flow_error: float = 0.01
    similarity: float = 0.5
    colour: float = 0.25
    cycle: float = 0.02
    found_similarity: float = 0.7

    def __post_init__(self) -> None:
        for name in ("flow_error", "colour", "cycle"):
            value = getattr(self, name)
            require(0 <= value < float("inf"), f"{name} must be 0 or more, got {value}")
        for name in ("similarity", "found_similarity"):
            value = getattr(self, name)
            require(-1 <= value <= 1, f"{name} is a cosine between -1 and 1, got {value}")


@dataclass(frozen=True, eq=False)
class TrackedPoints:
    """Where points are in one frame.

    Attributes:
        xy: float32 (N, 2), pixels of the frame; also given where not visible.
        visible: bool (N,), whether the point is seen.
        similarity: float32 (N,), cosine of the place and the query.
    """

    xy: npt.NDArray[np.float32]
    visible: npt.NDArray[np.bool_]
    similarity: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Query:
    """Points given in one frame."""

    which: npt.NDArray[np.int64]  # places among all points
    xy: npt.NDArray[np.float32]
    descriptors: DescriptorMap
    rows: Tensor  # (n, C), unit
    colours: npt.NDArray[np.float32]  # (n, 3)


class PointTracker:
    """Follows `count` points; they join when the frame that they were given in comes.

    Usage: for every frame, `step` it, then `join` the points given in it.
    """

    def __init__(self, config: PointConfig, count: int, matcher: Matcher | None = None) -> None:
        self.config, self._matcher = config, matcher
        self._queries: list[_Query] = []
        self._before: Image | None = None  # grey
        self.now = TrackedPoints(
            np.zeros((count, 2), np.float32),
            np.zeros(count, np.bool_),
            np.zeros(count, np.float32),
        )

    def join(
        self,
        which: npt.NDArray[np.int64],
        points: npt.ArrayLike,
        descriptors: DescriptorMap,
        image: Image,
    ) -> None:
        """Start on points given in the frame stepped last (or the first one).

        Args:
            which: int (n,), their places among all points.
            points: (n, 2), pixels of the frame.
            descriptors: of the frame.
            image: uint8 RGB (H, W, 3), the frame.
        """
        xy = check_points(points, height=descriptors.height, width=descriptors.width)
        image = check_image(image, "a frame")
        self._queries.append(self._query(which, xy, descriptors, image))
        self._before = grey_of(image)
        places, seen, alike = (v.copy() for v in self._values())
        places[which], seen[which], alike[which] = xy, True, 1
        self.now = TrackedPoints(places, seen, alike)

    def restore(self, now: TrackedPoints, image: Image) -> None:
        """Go on as if all points that have joined had been followed to a frame.

        Args:
            now: what `step` gave for it.
            image: uint8 RGB (H, W, 3), the frame.
        """
        self.now, self._before = now, grey_of(check_image(image, "a frame"))

    def step(self, descriptors: DescriptorMap, image: Image, *, cut: bool = False) -> TrackedPoints:
        """Follow all points that have joined into the next frame.

        Args:
            descriptors: of that frame.
            image: uint8 RGB (H, W, 3), that frame.
            cut: whether it is of another scene than the one before: then points are found by
                their descriptors alone.
        """
        image = check_image(image, "a frame")
        grey, before = grey_of(image), self._before
        self._before = grey
        places, seen, alike = (v.copy() for v in self._values())
        flows = None
        if self.config.flow and self._queries and before is not None and not cut:
            flows = flow_between(before, grey), flow_between(grey, before)
        lab = _lab(image)
        for query in self._queries:
            which = query.which
            old = replace(
                self.now,
                xy=places[which],
                visible=seen[which],
                similarity=alike[which],
            )
            found = self._follow(query, old, descriptors, lab, flows)
            places[which], seen[which], alike[which] = found.xy, found.visible, found.similarity
        self.now = TrackedPoints(places, seen, alike)
        return self.now

    def _values(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
        return self.now.xy, self.now.visible, self.now.similarity

    def _query(
        self,
        which: npt.NDArray[np.int64],
        xy: npt.NDArray[np.float32],
        descriptors: DescriptorMap,
        image: Image,
    ) -> _Query:
        rows = sample_descriptors(descriptors, torch.from_numpy(xy))
        return _Query(which, xy, descriptors, rows, _sample(_lab(image), xy))

    def _follow(
        self,
        query: _Query,
        old: TrackedPoints,
        frame: DescriptorMap,
        lab: npt.NDArray[np.float32],
        flows: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None,
    ) -> TrackedPoints:
        if flows is None:
            return self._matched(query, np.arange(len(query.xy)), frame)
        config, short = self.config, min(frame.height, frame.width)
        forth, back = flows
        moved = old.xy + _sample(forth, old.xy)
        missed = np.linalg.norm(moved + _sample(back, moved) - old.xy, axis=1)
        size = np.array([frame.width, frame.height])
        inside = ((moved >= -0.5) & (moved <= size - 0.5)).all(axis=1)
        xy = moved.clip(-0.5, size - 0.5).astype(np.float32)
        similarity = self._similarity(query, frame, xy)
        visible = inside & old.visible & (missed <= config.flow_error * short)
        visible &= (similarity >= config.similarity) & self._resembles(query.colours, lab, xy)
        lost = np.flatnonzero(~visible)
        if len(lost):
            # A lost point is found again where its descriptor matches, not where the flow took it.
            match = self._matched(query, lost, frame)
            found = match.visible & self._resembles(query.colours[lost], lab, match.xy)
            again = lost[found]
            xy[again], similarity[again] = match.xy[found], match.similarity[found]
            visible[again] = True
        return TrackedPoints(xy, visible, similarity)

    def _matched(
        self, query: _Query, which: npt.NDArray[np.int64], frame: DescriptorMap
    ) -> TrackedPoints:
        """The matches of some of a query's points, seen where the way back ends near."""
        match = match_points(
            query.descriptors,
            frame,
            torch.from_numpy(query.xy[which]),
            matcher=self._matcher,
            filters=MatchFilters(
                cycle_distance=self.config.cycle * min(frame.height, frame.width),
                min_similarity=self.config.found_similarity,
                subpixel=True,
            ),
        )
        return TrackedPoints(
            match.target_xy[:, 0].float().cpu().numpy(),
            match.valid[:, 0].cpu().numpy(),
            match.similarity[:, 0].float().cpu().numpy(),
        )

    def _resembles(
        self,
        colours: npt.NDArray[np.float32],
        lab: npt.NDArray[np.float32],
        xy: npt.NDArray[np.float32],
    ) -> npt.NDArray[np.bool_]:
        away = np.linalg.norm(_sample(lab, xy) - colours, axis=1)
        return np.asarray(away <= self.config.colour)

    def _similarity(
        self, query: _Query, frame: DescriptorMap, xy: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        there = sample_descriptors(frame, torch.from_numpy(xy))
        value: npt.NDArray[np.float32] = (query.rows * there).sum(dim=1).float().cpu().numpy()
        return value


def _lab(image: Image) -> npt.NDArray[np.float32]:
    """CIELAB with lightness 100 = 1, smoothed over a pixel or two: (H, W, 3)."""
    import cv2

    smooth = cv2.GaussianBlur(image, (5, 5), 1.0)
    return np.asarray(cv2.cvtColor(smooth.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) / 100)


def _sample(values: npt.NDArray[np.float32], xy: npt.NDArray[np.float32]) -> Any:
    """Bilinear values (N, C) of a map (H, W, C) at pixels (N, 2)."""
    planes = torch.from_numpy(values).permute(2, 0, 1)
    return sample_bilinear(planes, torch.from_numpy(xy.astype(np.float32))).numpy()
