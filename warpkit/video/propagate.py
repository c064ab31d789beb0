"""Propagate masks, an edit and points from a clip's annotated frames to the others, in memory.

In: frames one after another. Out: one `FrameResult` per frame. Memory does not grow with the clip;
only the frames between two annotated ones are held together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from warpkit.arrays import Image
from warpkit.checks import require
from warpkit.match.matcher import Matcher
from warpkit.propagate import EditLayer
from warpkit.types import Describer
from warpkit.video.clip import MemoryClip
from warpkit.video.config import FrameResult, PropagateSettings
from warpkit.video.driver import propagate_clip
from warpkit.video.inputs import ClipInputs
from warpkit.video.propagation import Propagation
from warpkit.video.store import Store

__all__ = ["propagate"]


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
    """Propagate masks, an edit and points through a clip.

    What is given is checked at the call, for which the first frame is read; the others are read
    as results are asked for. The frames up to the next annotated one are held in memory.

    Args:
        images: uint8 RGB frames (H, W, 3).
        describer: what describes images, e.g. `warpkit.load("tiny")`.
        labels: uint8 (H, W), object ids of the first frame.
        edit: a layer over the first frame.
        points: (N, 2), pixels of the first frame.
        annotations: uint8 (H, W), object ids of further frames by position, 0 for the first.
        settings: how to propagate.
        matcher: matching engine of the dense fields; None picks one.

    Returns:
        One `FrameResult` per frame in order, annotated ones included; with `settings.cuts` "stop"
        none from the first frame of a new scene on.

    Raises:
        InputError: no frames, nothing to propagate, or inputs that do not fit the frames.
    """
    settings = settings or PropagateSettings()
    clip = MemoryClip(images, settings.threshold)
    require(clip.has(0), "the clip has no frames")
    first = clip.one(0).image
    given = ClipInputs.checked(
        first, labels=labels, annotations=annotations, edit=edit, points=points, mode=settings.mode
    )
    run = Propagation(first, given, describer=describer, settings=settings, matcher=matcher)
    return (result for _, result in propagate_clip(run, clip, Store()))
