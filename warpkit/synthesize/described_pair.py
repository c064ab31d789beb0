"""Pairs whose images are there and were looked at: what is to be matched, or why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from warpkit.arrays import Image, Mask
from warpkit.synthesize.mask_trust import MaskTrust
from warpkit.synthesize.records import Record
from warpkit.types import DescriptorMap

__all__ = ["DescribedPair", "PairSide"]


@dataclass(frozen=True, eq=False)
class PairSide:
    """One image of a pair.

    Attributes:
        image: uint8 RGB (H, W, 3).
        descriptors: what describes it; None if its labels are exact.
        mask: its object; None where none was found.
        field: of a source that is its target bent, float32 (H, W, 2): the target pixels it shows.
        trust: in a mask that was found; None for others, and for one that is its target's, bent.
    """

    image: Image
    descriptors: DescriptorMap | None
    mask: Mask | None
    field: Tensor | None = None
    trust: MaskTrust | None = None


@dataclass(frozen=True, eq=False)
class DescribedPair:
    """A pair whose images were looked at.

    Attributes:
        facts: what its record says so far.
        sides: source and target; None if it is dropped.
        reason: why it is dropped.
    """

    facts: dict[str, Any]
    sides: tuple[PairSide, PairSide] | None
    reason: str | None

    def dropped(self, reason: str | None = None) -> Record:
        """Its record, without files."""
        facts = {**self.facts, "status": "dropped", "reason": reason or self.reason}
        return Record(facts["id"], facts)

    @property
    def searched(self) -> tuple[PairSide, PairSide] | None:
        """The sides of a pair whose labels are to be found; None if it is dropped or they are
        known.
        """
        return None if self.sides is None or self.sides[0].field is not None else self.sides

    def search_inputs(self) -> tuple[DescriptorMap, DescriptorMap, Mask, Mask]:
        """Maps of source and target, then their masks, of a pair whose labels are to be found."""
        assert self.searched is not None
        source, target = self.searched
        assert source.descriptors is not None and source.mask is not None
        assert target.descriptors is not None and target.mask is not None
        return source.descriptors, target.descriptors, source.mask, target.mask
