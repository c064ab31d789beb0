"""The one driver of a clip: stretch by stretch, backward and forward, in chunks of frames.

In: the frames (`clip`), what is propagated (`propagation`), where it is kept (`store`). Out:
every frame with its result, in order. The same loop propagates in memory and into a folder; a store
that finds the work of a killed run says how far that came, and the loop goes on from there.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing

import torch

from warpkit.arrays import Image
from warpkit.checks import counted, require
from warpkit.io.frame import Frame
from warpkit.propagate import TrackedPoints
from warpkit.propagate.passes import Stretch
from warpkit.runs.progress import Bar, ProgressCallback, no_progress
from warpkit.types import DescriptorMap
from warpkit.video.clip import Clip, Shot
from warpkit.video.config import FrameResult
from warpkit.video.propagation import Propagation
from warpkit.video.store import Store

__all__ = ["follow_back", "propagate_clip"]

_log = logging.getLogger("warpkit")
# On the way back frames are read in blocks from the end, each from the front of a video.
_BLOCK_BYTES = 256e6


def propagate_clip(
    run: Propagation, clip: Clip, store: Store, *, progress: ProgressCallback = no_progress
) -> Iterator[tuple[Frame, FrameResult]]:
    """Propagate everything to every frame.

    Args:
        progress: hears of every chunk of frames.

    Yields:
        The frames with their results, in order, but for those that `store` has already.

    Raises:
        InputError: a frame of another size than the first, or an annotated one that is not there.
    """
    store.replay(clip, progress)
    if store.done:
        _restore_points(run, clip, store)
    for stretch in run.stretches():
        for position in range(store.done, stretch.first):
            shot = _annotated(clip, position)
            results = [run.known_result(position, shot.frame.image, cut=shot.cut)]
            yield from _kept(run, clip, store, [shot.frame], results, progress)
        if stretch.stop is not None and store.done >= stretch.stop:
            ended = False  # done by the run that was interrupted
        elif store.take_over(stretch, clip, run.object_ids, progress):
            ended = stretch.stop is not None and store.done < stretch.stop
        else:
            ended = yield from _through(run, clip, store, stretch, progress)
        if ended:
            return
        for start in range(stretch.first, stretch.stop or 0, run.chunk):
            store.drop_back(start)


def _annotated(clip: Clip, position: int) -> Shot:
    with closing(clip.shots(position, position + 1)) as following:
        shot = next(following, None)
    require(
        shot is not None,
        f"there is no frame {position} to annotate: {clip.name} has fewer frames",
    )
    assert shot is not None
    return shot


def _kept(
    run: Propagation,
    clip: Clip,
    store: Store,
    frames: list[Frame],
    results: list[FrameResult],
    progress: ProgressCallback,
) -> Iterator[tuple[Frame, FrameResult]]:
    store.keep(frames, results, run.state())
    progress("propagating", store.done, clip.about)
    yield from zip(frames, results, strict=True)


def _through(
    run: Propagation, clip: Clip, store: Store, stretch: Stretch, progress: ProgressCallback
) -> Generator[tuple[Frame, FrameResult], None, bool]:
    """Propagate through a stretch, chunk by chunk; returns whether a scene cut ends the run."""
    known = {p: clip.one(p).image for p in stretch.known if p > 0}
    if stretch.stop is not None:
        _propagate_back(run, clip, store, stretch, stretch.stop, known, progress)
    run.begin(stretch, known)
    if store.done > stretch.first:
        _restore(run, clip, store, stretch, known)
    with closing(clip.shots(store.done, stretch.stop)) as following:
        while chunk := list(itertools.islice(following, run.chunk)):
            start, cuts = store.done, [shot.cut for shot in chunk]
            stops = run.settings.cuts == "stop" and any(cuts)
            count = cuts.index(True) if stops else len(chunk)
            for shot in chunk[: count + stops]:
                if shot.cut and run.annotations:
                    _tell(shot.frame, stops)
            frames = [shot.frame for shot in chunk[:count]]
            if frames:
                back = None if stretch.stop is None else store.back(start)
                results = run.advance([frame.image for frame in frames], back, cuts[:count])
                yield from _kept(run, clip, store, frames, results, progress)
            if stops:
                return True
            clip.drop(store.done, run.annotations)
    require(
        stretch.stop is None or store.done == stretch.stop,
        f"there is no frame {stretch.stop} to annotate: {clip.name} has"
        f" {counted(store.done, 'frame')}",
    )
    return False


def _tell(frame: Frame, stops: bool) -> None:
    if stops:
        _log.warning(
            "a new scene begins with frame %s: the run ends before it; continue with a mask of"
            " it (--start %d --mask PNG), or through it with --cuts restart or ignore",
            *(frame.shown, frame.index),
        )
    else:
        _log.warning(
            "a new scene begins with frame %s: from there on objects are found from the"
            " annotated frames alone; a mask of it (--mask %s=PNG) helps",
            *(frame.shown, frame.index if frame.file is None else frame.name),
        )


def _restore(
    run: Propagation, clip: Clip, store: Store, stretch: Stretch, known: Mapping[int, Image]
) -> None:
    """Bring the run to the last whole chunk of an interrupted one."""
    done, state = store.done, store.state
    soft = state.get("soft", torch.zeros(0))
    context, images = _described(run, clip, stretch, done - len(soft), done)
    run.restore({**state, "soft": soft}, context, images, known, done)
    run.restore_edit(state, clip.one(done - 1).image)


def _restore_points(run: Propagation, clip: Clip, store: Store) -> None:
    """Let the points go on behind the frames that are done."""
    joined: dict[int, tuple[Image, DescriptorMap | None]] = {}
    chunks: dict[int, tuple[Stretch, list[int]]] = {}
    for position in run.point_positions(store.done):
        if position == 0 or position in run.annotations:
            joined[position] = clip.one(position).image, None
        else:
            within = next(s for s in run.stretches() if s.stop is None or position < s.stop)
            start = position - (position - within.first) % run.chunk
            chunks.setdefault(start, (within, []))[1].append(position)
    for start, (within, positions) in chunks.items():
        maps, images = _described(run, clip, within, start, start + 1, whole=True)
        joined |= {p: (images[p - start], maps[p - start]) for p in positions}
    joined = {position: joined[position] for position in sorted(joined)}
    run.restore_points(store.points(), clip.one(store.done - 1).image, joined)


def _described(
    run: Propagation, clip: Clip, stretch: Stretch, first: int, stop: int, *, whole: bool = False
) -> tuple[list[DescriptorMap], list[Image]]:
    """Frames of a stretch, described in the chunks of the first run: they come out the same.

    Args:
        whole: give all frames of the chunks.
    """
    begin = stretch.first + (first - stretch.first) // run.chunk * run.chunk
    context, images = [], []
    for start in range(begin, stop, run.chunk):
        end = start + run.chunk if stretch.stop is None else min(start + run.chunk, stretch.stop)
        chunk = clip.images(start, end)
        images += chunk
        context += run.describe(chunk)
    part = slice(None) if whole else slice(first - begin, stop - begin)
    return context[part], images[part]


def _propagate_back(
    run: Propagation,
    clip: Clip,
    store: Store,
    stretch: Stretch,
    stop: int,
    known: Mapping[int, Image],
    progress: ProgressCallback,
) -> None:
    """Soft labels of the stretch from the annotated frame after it, kept by chunk."""
    starts = list(range(stretch.first, stop, run.chunk))
    kept = list(itertools.takewhile(store.has_back, reversed(starts)))
    if len(kept) == len(starts) or store.done > stretch.first:
        return
    run.begin(stretch, known, backward=True)
    if kept:
        _log.info("going on before frame %d of an interrupted run", kept[-1])
        state = store.back(kept[-1])
        count = len(state["kept"])
        end = min(kept[-1] + -(-count // run.chunk) * run.chunk, stop)
        context, images = _described(run, clip, stretch, kept[-1], end)
        context, images = context[:count], images[:count]
        state = {**state, "soft": state["kept"]}
        run.restore(state, context[::-1], images[::-1], known, kept[-1])
    todo = starts[: len(starts) - len(kept)]
    left = min(todo[-1] + run.chunk, stop) - stretch.first
    with Bar(total=left, desc="backward", unit="frame", shown=not store.quiet, leave=False) as bar:
        for start, shots, cut_after in clip.ahead(_blocks(clip, todo, stop, run.chunk)):
            cuts = [*(shot.cut for shot in shots[1:]), cut_after]
            found = run.propagate_back([shot.frame.image for shot in shots], cuts)
            state = run.state()
            store.keep_back(start, {**state, "kept": state["soft"], **found})
            bar.update(len(shots))
            progress("propagating backward", bar.n, left)
    store.wait()  # what was propagated backward is read next


def _blocks(
    clip: Clip, starts: list[int], stop: int, chunk: int
) -> Iterator[tuple[int, list[Shot], bool]]:
    """Chunks from the last to the first, and whether a new scene begins after each."""
    cut_after: bool | None = None
    block = max(1, int(_BLOCK_BYTES / (clip.frame_bytes * chunk)))
    while starts:
        starts, last = starts[:-block], starts[-block:]
        end = min(last[-1] + chunk, stop)
        # One frame more tells whether a scene begins after the last block.
        more = 1 if cut_after is None else 0
        shots = list(clip.shots(last[0], end + more))
        if cut_after is None:
            cut_after = shots[-1].cut if len(shots) > end - last[0] else False
        for start in reversed(last):
            part = shots[start - last[0] : min(start + chunk, end) - last[0]]
            yield start, part, cut_after
            cut_after = part[0].cut


def follow_back(
    run: Propagation, clip: Clip, store: Store, *, progress: ProgressCallback = no_progress
) -> dict[int, TrackedPoints]:
    """Where points of later frames are in the frames before: by position, from the last to 0."""
    last = max(run.point_positions(None), default=0)
    found: dict[int, TrackedPoints] = {}
    if last == 0:
        return found
    tracker = run.new_tracker()
    starts = list(range(0, last + 1, run.chunk))
    kept = []
    for start in reversed(starts):
        earlier = store.points_back(start)
        if earlier is None:
            break
        kept.append(start)
        found |= earlier
    if kept:
        for position in run.point_positions(last + 1):
            if position >= kept[-1]:
                image = clip.one(position).image
                run.join(tracker, position, run.describe([image])[0], image)
        tracker.restore(found[kept[-1]], clip.one(kept[-1]).image)
    todo = starts[: len(starts) - len(kept)]
    left = min(todo[-1] + run.chunk, last + 1) if todo else 0
    with Bar(total=left, desc="backward", unit="frame", shown=not store.quiet, leave=False) as bar:
        for start, shots, cut_after in clip.ahead(_blocks(clip, todo, last + 1, run.chunk)):
            cuts = [*(shot.cut for shot in shots[1:]), cut_after]
            maps = run.describe([shot.frame.image for shot in shots])
            part = {}
            with run.clock.stage("points"):
                for n in reversed(range(len(shots))):
                    image = shots[n].frame.image
                    tracker.step(maps[n], image, cut=cuts[n])
                    if start + n in run.point_positions(None):
                        # Described alone, so that a resumed run joins it the same.
                        run.join(tracker, start + n, run.describe([image])[0], image)
                    part[start + n] = tracker.now
            store.keep_points_back(start, part)
            found |= part
            bar.update(len(shots))
            progress("following points back", bar.n, left)
    return found
