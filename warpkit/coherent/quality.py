"""How good a field is, without knowing the truth."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from warpkit.coherent.smooth import folded, jacobian

__all__ = ["FieldQuality", "field_regularity"]

# Below these a warp is likely bad; where they come from: docs/warping.md.
_LEAST_CONSISTENT = 0.5
_LEAST_CONSISTENT_MASKED = 0.8  # inside masks of both objects
_LEAST_INSIDE = 0.6
_MOST_FOLDS = 10.0
_MOST_UNEVEN = 1.25  # of objects inside masks


@dataclass(frozen=True)
class FieldQuality:
    """Figures of one field, over the target's region.

    Attributes:
        cosine: mean cosine of target and source descriptors along the field.
        inside: share of pixels whose place lies inside the source's mask, before it is snapped.
        consistent: share of pixels that the way back returns to within the tolerance.
        inverse_error: mean distance to which the way back leads, in pixels of the target.
        folds: percent of cells that are turned over.
        sd_log_j: standard deviation of the logarithm of the area scale, folds left out.
        mirrored: whether the source is taken mirrored left-right.
        score_as_is: of the source as it is: the coarse field's mean cosine, plus the weighed share
            of mutual matches that one affine explains; None if not solved.
        score_mirrored: the same for the mirrored source.
        guide_error: largest distance of a guide from the field, in source pixels; None without.
        unmet: indices of guides that are missed by more than one source pixel.
    """

    cosine: float
    inside: float
    consistent: float
    inverse_error: float
    folds: float
    sd_log_j: float
    mirrored: bool
    score_as_is: float | None
    score_mirrored: float | None
    guide_error: float | None = None
    unmet: tuple[int, ...] = ()

    def doubt(self, *, masked: bool, guided: bool) -> str | None:
        """Why a warp by this field is likely bad and what helps; None if it is not.

        Args:
            masked: whether both masks were given.
            guided: whether guides were given.
        """
        why = []
        if self.consistent < (_LEAST_CONSISTENT_MASKED if masked else _LEAST_CONSISTENT):
            why.append(
                f"only {100 * self.consistent:.0f} % of the pixels return to their place when"
                " warped back"
            )
        if self.inside < _LEAST_INSIDE:
            why.append(
                f"{100 - 100 * self.inside:.0f} % of the pixels come from outside the source's mask"
            )
        if self.folds > _MOST_FOLDS:
            why.append(f"{self.folds:.0f} % of the field is folded")
        if masked and self.sd_log_j > _MOST_UNEVEN:
            why.append(
                "parts are stretched and others squeezed (is the object seen from another side?)"
            )
        if not why:
            return None
        helps = [] if masked else ["masks of both objects"]
        helps += (
            ["guides (pairs of points that belong together)"] if not guided else ["more guides"]
        )
        helps.append("another model")
        return f"this warp is likely bad: {' and '.join(why)}; what helps: {', '.join(helps)}"


def field_regularity(field: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Folds in percent of the cells inside, and the standard deviation of log |J|: both (B,).

    Args:
        field: (B, h, w, 2).
        inside: bool (B, h, w).
    """
    bad, within = folded(field, inside)
    smooth = within & ~bad
    cells, counted = within.sum(dim=(1, 2)), smooth.sum(dim=(1, 2))
    area = jacobian(field).mean(dim=1).abs().clamp(min=1e-6).log() * smooth
    mean = area.sum(dim=(1, 2)) / counted.clamp(min=1)
    away = (area - mean[:, None, None]) ** 2 * smooth
    spread = (away.sum(dim=(1, 2)) / (counted - 1).clamp(min=1)).sqrt()
    return 100 * bad.sum(dim=(1, 2)) / cells.clamp(min=1), spread
