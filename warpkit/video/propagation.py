"""Carry masks, an edit and points from a clip's annotated frames to the others, in memory.

In: frames one after another. Out: one `FrameResult` per frame. Memory does not grow with the clip;
only the frames between two annotated ones are held together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import torch

from warpkit.checks import require
from warpkit.match.matcher import Matcher
from warpkit.propagate import EditLayer
from warpkit.propagate.cuts import CutFinder
from warpkit.propagate.passes import Stretch
from warpkit.types import Describer
from warpkit.video.carrier import Propagation
from warpkit.video.config import FrameResult, PropagateSettings

__all__ = ["FrameResult", "PropagateSettings", "Propagation", "propagate"]

Image = npt.NDArray[np.uint8]


class _Clip:
    """Frames of an iterator by position: read when asked for, dropped when done with."""

    def __init__(self, images: Iterable[Image], settings: PropagateSettings) -> None:
        self._images = iter(images)
        self._held: dict[int, Image] = {}
        self._count = 0
        self._finder: CutFinder | None = None
        if settings.cuts != "ignore":
            self._finder = CutFinder(threshold=settings.cut_threshold)
        self._cuts: set[int] = set()

    def has(self, position: int) -> bool:
        """Whether the clip is so long."""
        while self._count <= position:
            image = next(self._images, None)
            if image is None:
                return False
            self._held[self._count] = image
            if self._finder is not None and self._finder.next(image):
                self._cuts.add(self._count)
            self._count += 1
        return True

    def image(self, position: int) -> Image:
        require(
            self.has(position),
            f"there is no frame {position} to annotate: the clip has {self._count} frames",
        )
        return self._held[position]

    def between(self, first: int, stop: int) -> list[Image]:
        return [self._held[p] for p in range(first, stop) if self.has(p)]

    def cuts(self, first: int, count: int) -> list[bool]:
        """Whether a new scene begins with each of the frames from a position on."""
        return [p in self._cuts for p in range(first, first + count)]

    def drop(self, before: int, keep: Iterable[int]) -> None:
        for position in [p for p in self._held if p < before and p not in keep]:
            del self._held[position]


def propagate(
    images: Iterable[Image],
    *,
    describer: Describer,
    labels: npt.NDArray[np.uint8] | None = None,
    edit: EditLayer | None = None,
    points: npt.ArrayLike | None = None,
    annotations: Mapping[int, npt.NDArray[np.uint8]] | None = None,
    settings: PropagateSettings | None = None,
    matcher: Matcher | None = None,
) -> Iterator[FrameResult]:
    """Carry masks, an edit and points through a clip.

    Args:
        images: uint8 RGB frames (H, W, 3); read as they are needed. The frames up to the next
            annotated one are held in memory.
        describer: what describes images, e.g. `warpkit.load("tiny")`.
        labels: uint8 (H, W), object ids of the first frame.
        edit: a layer over the first frame.
        points: (N, 2), pixels of the first frame.
        annotations: uint8 (H, W), object ids of further frames by position, 0 for the first.
        settings: how to carry; the model options of it are not used here.
        matcher: matching engine of the dense fields; None picks one.

    Yields:
        One `FrameResult` per frame in order, annotated ones included; with `settings.cuts` "stop"
        none from the first frame of a new scene on.

    Raises:
        InputError: no frames, nothing to carry, or inputs that do not fit the frames.
    """
    settings = settings or PropagateSettings()
    clip = _Clip(images, settings)
    require(clip.has(0), "the clip has no frames")
    run = Propagation(
        clip.image(0),
        describer=describer,
        labels=labels,
        edit=edit,
        points=points,
        annotations=annotations,
        settings=settings,
        matcher=matcher,
    )
    position = 0
    for stretch in run.stretches():
        for given in range(position, stretch.first):
            yield run.known_result(given, clip.image(given))
        known = {place: clip.image(place) for place in stretch.known}
        back = _carried_back(run, stretch, clip, known)
        run.begin(stretch, known)
        position = stretch.first
        while stretch.stop is None or position < stretch.stop:
            end = position + run.chunk
            end = end if stretch.stop is None else min(end, stretch.stop)
            chunk = clip.between(position, end)
            if not chunk:
                break
            cuts = clip.cuts(position, len(chunk))
            if run.settings.cuts == "stop" and any(cuts):
                count = cuts.index(True)
                if count:
                    soft = back.pop(position, None)
                    soft = None if soft is None else soft[:count]
                    yield from run.advance(chunk[:count], soft)
                return
            yield from run.advance(chunk, back.pop(position, None), cuts)
            position += len(chunk)
            clip.drop(position, run.annotations)


def _carried_back(
    run: Propagation, stretch: Stretch, clip: _Clip, known: Mapping[int, Image]
) -> dict[int, torch.Tensor]:
    """Soft labels from the annotated frame after a stretch, by the first position of a chunk."""
    if stretch.stop is None:
        return {}
    run.begin(stretch, known, backward=True)
    found = {}
    for start in reversed(range(stretch.first, stretch.stop, run.chunk)):
        images = clip.between(start, min(start + run.chunk, stretch.stop))
        found[start] = run.carry_back(images, clip.cuts(start + 1, len(images)))
    return found
