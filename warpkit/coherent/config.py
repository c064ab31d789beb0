"""How a coherent field is solved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from warpkit.checks import one_of, require

__all__ = ["MIRRORS", "CoherentConfig", "Mirror"]

Mirror = Literal["auto", "never", "always"]
MIRRORS: tuple[Mirror, ...] = ("auto", "never", "always")


@dataclass(frozen=True, kw_only=True)
class CoherentConfig:
    """Settings of `warpkit.coherent.coherent_field`; docs/warping.md has what each is there for.

    Attributes:
        mirror: `auto` solves for the source as it is and mirrored, and takes the better.
        mirror_margin: how much better the mirrored source's score must be in `auto`.
        mirror_evidence: the score is the mean cosine of the coarse field plus so much times the
            share of mutual matches that one affine motion explains.
        tolerance: largest inverse-consistency error of a valid pixel, as a share of the longer
            side of the target's object (its mask's box, the whole image without a mask).
        layers: most motions of one pair: an object over a still background has two.
        layer_price: cosine by which every layer but the first must be better where it takes over.
        stiffness: factor of all weights of the smoothness term; below 1 the field bends more.
        rim: weight of the silhouettes' agreement, where both masks are given.
        merge: blend layers where they meet and mend folds, if both masks are given: for pictures of
            one object. Points are matched better without.
        channels: principal directions that descriptors are reduced to.
    """

    mirror: Mirror = "auto"
    mirror_margin: float = 0.024
    mirror_evidence: float = 0.2
    tolerance: float = 0.1
    layers: int = 4
    layer_price: float = 0.002
    stiffness: float = 1.0
    rim: float = 0.05
    merge: bool = True
    channels: int = 128

    def __post_init__(self) -> None:
        one_of(self.mirror, MIRRORS, "mirror")
        require(
            0 < self.tolerance <= 1,
            f"tolerance is a share above 0 and up to 1, got {self.tolerance}",
        )
        require(1 <= self.layers <= 8, f"layers is a number from 1 to 8, got {self.layers}")
        require(
            0 <= self.layer_price <= 1,
            f"layer_price is a difference of cosines from 0 to 1, got {self.layer_price}",
        )
        require(
            0.01 <= self.stiffness <= 3,
            f"stiffness is a factor from 0.01 to 3, got {self.stiffness}",
        )
        require(0 <= self.rim <= 1, f"rim is a weight from 0 to 1, got {self.rim}")
        require(self.channels >= 8, f"channels must be at least 8, got {self.channels}")
        require(
            0 <= self.mirror_margin <= 1,
            f"mirror_margin is a difference of scores from 0 to 1, got {self.mirror_margin}",
        )
        require(
            0 <= self.mirror_evidence <= 10,
            f"mirror_evidence is a weight from 0 to 10, got {self.mirror_evidence}",
        )
