"""Several annotated frames in one clip: which frames start from which, and how two meet.

In: the places of the annotated frames and the objects that each shows. Out: the stretches between
them. Every stretch is propagated forward from the annotated frame before it and backward from the
one after it, and both are merged by confidence.

A stretch depends on its own annotated frames only, so a further annotation changes the stretch that
it falls into and, rarely, one that an object of it is hidden beside: nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from warpkit.checks import require

__all__ = ["Stretch", "merge_soft", "plan_stretches"]

# Confidence that even a cell without any lead has: two of them share by distance alone.
_LEAST = 1e-3


@dataclass(frozen=True)
class Stretch:
    """Frames between annotated ones, which are labelled together.

    Attributes:
        first: position of the first frame, counted from 0.
        stop: position before which it ends; None goes to the end of the clip.
        before: the annotated frame just before it, from which it is propagated forward; None where
            the clip begins.
        after: the annotated frame just after it, from which it is propagated backward; None where
            the clip ends.
        known: annotated frames that are its context, in order.
    """

    first: int
    stop: int | None
    before: int | None
    after: int | None
    known: tuple[int, ...]

    def share(self, position: int) -> float:
        """How far a frame is on the way from the annotated frame before to the one after."""
        if self.before is None:
            return 1.0
        if self.after is None:
            return 0.0
        return (position - self.before) / (self.after - self.before)


def plan_stretches(shown: Mapping[int, Collection[int]]) -> list[Stretch]:
    """Cut a clip at its annotated frames.

    The context of a stretch is the annotated frames beside it and, for an object that neither of
    them shows, the nearest one on either side that does: it can be found again.

    Args:
        shown: object ids that each annotated frame shows, by position.

    Returns:
        The stretches in order, without those that hold no frame; the last one is open, and may
        hold none.

    Raises:
        InputError: without annotated frames, or with one before the clip.
    """
    places = sorted(shown)
    require(bool(places), "no frame is annotated: give the labels of at least one")
    require(places[0] >= 0, f"annotated frames are counted from 0, got {places[0]}")
    ids = {i for found in shown.values() for i in found}
    stretches = []
    for before, after in zip([None, *places], [*places, None], strict=True):
        first = 0 if before is None else before + 1
        if after is None or after > first:
            beside = {place for place in (before, after) if place is not None}
            known = set(beside)
            for i in ids.difference(*(shown[place] for place in beside)):
                earlier = [p for p in places if p < first and i in shown[p]]
                later = [p for p in places if p >= first and i in shown[p]]
                known |= {*earlier[-1:], *later[:1]}
            stretches.append(Stretch(first, after, before, after, tuple(sorted(known))))
    return stretches


def merge_soft(forward: Tensor, backward: Tensor, *, share: float) -> Tensor:
    """Soft labels of one frame from both sides, each cell weighted by confidence and nearness.

    A cell's confidence is the lead of its best label, background included, over the second.

    Args:
        forward: float (K, h, w), propagated from the annotated frame before.
        backward: float (K, h, w), propagated from the one after.
        share: how far the frame is on the way from the one to the other, 0 to 1.

    Returns:
        float (K, h, w).
    """
    ahead = (1 - share) * (_lead(forward) + _LEAST)
    back = share * (_lead(backward) + _LEAST)
    return (ahead * forward + back * backward) / (ahead + back)


def _lead(soft: Tensor) -> Tensor:
    """Lead of the best label over the second in every cell: (h, w)."""
    background = (1 - soft.sum(dim=0, keepdim=True)).clamp(min=0)
    best = torch.cat([background, soft]).topk(2, dim=0).values
    return best[0] - best[1]
