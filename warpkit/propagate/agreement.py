"""How far everything that is known of an object agrees with its labels in a frame.

In: soft labels of a frame, and what each source of evidence says of its cells. Out: a handful of
numbers per object, measured while the clip is propagated. What overlap with the truth they promise
is for `warpkit.video.predicted`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["AGREEMENTS", "AgreementMeter", "Evidence", "merge_agreement"]

AGREEMENTS = ("decided", "model", "look", "lead", "found", "alike", "ways")
"""What is measured, each with the cells above a half as the object:

- `decided`: intersection over union of the soft labels with the object.
- `model`: the same of the cells that the object's linear model takes for it.
- `look`: the same of what the network sees in the object's box; 0 where that counts for nothing.
- `lead`: how far the model's mean score of the object is above that of the cells around it.
- `found`: share of the annotated object's cells whose most similar cell is the object's.
- `alike`: mean similarity of the annotated object's cells with their most similar ones.
- `ways`: intersection over union of what was propagated from the annotated frames on both sides.
"""

# So many cells of every object of an annotated frame are looked for in every frame.
_KEYS = 128
# Cells up to so many away lie around an object.
_AROUND = 2


@dataclass(frozen=True, eq=False)
class Evidence:
    """What each source says of a frame, before it is decided.

    Attributes:
        scores: float (K, h, w), of the objects' models, above 0 on an object; None without them.
        seen: float (K, h, w), log odds of a network's look, 0 where it counts for nothing; None
            where there was no look.
    """

    scores: Tensor | None = None
    seen: Tensor | None = None


@dataclass(frozen=True, eq=False)
class _Sample:
    cells: Tensor  # (n, C)
    norm: Tensor  # (n,)
    labels: Tensor  # bool (K, n)


class AgreementMeter:
    """Measures `AGREEMENTS` in frame after frame."""

    def __init__(self) -> None:
        self._known: list[_Sample] = []

    def annotate(self, cells: Tensor, norm: Tensor, soft: Tensor) -> None:
        """Take a sample of the cells of every object of an annotated frame.

        Args:
            cells: float (h, w, C), what they look like.
            norm: float (h, w), added to the products of a cell, so that they are similarities.
            soft: float (K, h, w) in [0, 1].
        """
        flat = soft.flatten(1)
        chosen = torch.cat([_spread(plane > 0.5) for plane in flat])
        labels = flat[:, chosen] > 0.5
        sample = _Sample(cells.flatten(0, 1)[chosen], norm.flatten()[chosen], labels)
        self._known.append(sample)

    def measure(self, cells: Tensor, norm: Tensor, soft: Tensor, evidence: Evidence) -> Tensor:
        """The agreements of every object: float (K, len(AGREEMENTS)); NaN where there is none.

        Args:
            cells, norm: as in `annotate`, of the frame.
            soft: float (K, h, w) in [0, 1], what was decided.
            evidence: what it was decided from.
        """
        shown = soft > 0.5
        unknown = soft.new_full((len(soft),), torch.nan)
        model = look = lead = unknown
        if evidence.scores is not None:
            model = _overlap(evidence.scores > 0, shown)
            near = F.max_pool2d(shown.float(), 2 * _AROUND + 1, 1, _AROUND) > 0
            lead = _mean(evidence.scores, shown) - _mean(evidence.scores, near & ~shown)
        if evidence.seen is not None:
            look = _overlap(evidence.seen > 0, shown)
        found, alike = self._looked_for(cells, norm, shown)
        measured = (_overlap(soft, shown), model, look, lead, found, alike, unknown)
        return torch.stack(measured, dim=1)

    def _looked_for(self, cells: Tensor, norm: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        """`found` and `alike`, each (K,)."""
        keys = torch.cat([known.cells for known in self._known])
        norms = torch.cat([known.norm for known in self._known])
        labels = torch.cat([known.labels for known in self._known], dim=1)
        similarity = keys @ cells.flatten(0, 1).T + norms[:, None] + norm.flatten()
        best, where = similarity.max(dim=1)
        landed = shown.flatten(1)[:, where].float()
        return _mean(landed, labels), _mean(best.expand(labels.shape), labels)


def merge_agreement(
    forward: tuple[Tensor, Tensor], backward: tuple[Tensor, Tensor], *, share: float
) -> Tensor:
    """The agreements of a frame that was propagated from both sides: float (K, n).

    Args:
        forward, backward: the soft labels (K, h, w) and the agreements (K, n) of each.
        share: how far the frame is on the way from the one annotated frame to the other, 0 to 1.
    """
    merged = (1 - share) * forward[1] + share * backward[1]
    merged[:, -1] = _overlap(forward[0] > 0.5, backward[0] > 0.5).to(merged)
    return merged


def _spread(mask: Tensor) -> Tensor:
    """Indices of at most `_KEYS` true elements of a mask (N,), evenly among them."""
    places = torch.nonzero(mask).flatten()
    count = min(len(places), _KEYS)
    return places[torch.arange(count, device=mask.device) * len(places) // max(count, 1)]


def _overlap(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union (K,) of memberships (K, h, w), hard or soft; 0 of nothing."""
    a, b = one.float().flatten(1), other.float().flatten(1)
    both = (a * b).sum(dim=1)
    return both / (a.sum(dim=1) + b.sum(dim=1) - both).clamp(min=1e-6)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean (K,) of values where a mask is true, both (K, ...); 0 where it is nowhere."""
    count = mask.flatten(1).sum(dim=1).clamp(min=1)
    return (values * mask).flatten(1).sum(dim=1) / count
