"""Which matches count: the one set of filters that every search for matches takes."""

from __future__ import annotations

from dataclasses import dataclass

from warpkit.checks import require

__all__ = ["MatchFilters"]


@dataclass(frozen=True, kw_only=True)
class MatchFilters:
    """What becomes of the nearest neighbours that a search finds.

    Attributes:
        mutual: keep a match only if its own best match is where it started.
        cycle_distance: keep a match only if its own best match lies at most this many pixels from
            where it started.
        min_similarity: keep a match only if its cosine is at least this.
        subpixel: move matches between pixels by a window soft-argmax (`filters.refine_subpixel`);
            `mutual` and `cycle_distance` look back from the pixel found before.
        max_pairs: of dense fields: largest number of descriptor pairs that the engines `faiss` and
            `reference` compare; above it they match on a coarser lattice of pixels and the field is
            interpolated. The engine `grid` always matches all pixels.

    Raises:
        InputError: a threshold that no match can meet.
    """

    mutual: bool = False
    cycle_distance: float | None = None
    min_similarity: float | None = None
    subpixel: bool = False
    max_pairs: float = 4e9

    def __post_init__(self) -> None:
        require(
            self.cycle_distance is None or self.cycle_distance >= 0,
            f"a cycle distance is 0 or more pixels, got {self.cycle_distance}",
        )
        require(
            self.min_similarity is None or -1 <= self.min_similarity <= 1,
            f"a similarity is a cosine between -1 and 1, got {self.min_similarity}",
        )

    @property
    def looks_back(self) -> bool:
        """Whether the way back is needed."""
        return self.mutual or self.cycle_distance is not None
