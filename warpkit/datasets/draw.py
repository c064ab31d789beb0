"""Seeded draws that do not depend on what else there is.

Every item gets a rank from its own name and the seed; a draw of N takes the N lowest. So a smaller
draw is a part of a larger one, and an item that turns out to be broken makes room for another one
and changes nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["name_ranks", "pair_ranks"]

Ranks = npt.NDArray[np.uint64]


def name_ranks(names: Sequence[str], *, seed: int) -> Ranks:
    """Pseudo-random ranks of names: uint64 (N,)."""
    texts = [f"{seed}\0{name}".encode(errors="backslashreplace") for name in names]
    digests = [hashlib.sha256(text).digest()[:8] for text in texts]
    return np.array([int.from_bytes(digest, "big") for digest in digests], np.uint64)


def pair_ranks(sources: Ranks, targets: Ranks) -> Ranks:
    """Ranks of ordered pairs from the ranks of their ends; the arrays are broadcast.

    The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) mixes the two.
    """
    # A product of odd constants tells (a, b) from (b, a); overflow is meant.
    mixed = sources * np.uint64(0x9E3779B97F4A7C15) + targets * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: Ranks = mixed ^ (mixed >> np.uint64(31))
    return result
