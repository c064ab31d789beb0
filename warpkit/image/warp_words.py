"""How good a warp is, in one line of words."""

from __future__ import annotations

from warpkit.checks import counted
from warpkit.coherent import FieldQuality
from warpkit.image.warp import WarpResult

__all__ = ["warp_words"]


def warp_words(result: WarpResult, *, guides: int = 0) -> str:
    """How much was warped, what share the way back confirms, and which guides are met.

    Args:
        guides: how many it was given.
    """
    pixels = counted(int((result.warped[..., 3] > 0).sum()), "pixel")
    quality = result.quality
    if quality is None:
        valid = result.warp.valid
        similarity = float(result.warp.similarity[valid].mean()) if bool(valid.any()) else 0.0
        return f"{pixels} warped, mean cosine {similarity:.2f}"
    mirrored = ", source mirrored" if quality.mirrored else ""
    folded = f", {quality.folds:.1f} % folded" if quality.folds >= 0.05 else ""
    met = f", {_guides_words(quality, guides)}" if guides else ""
    return (
        f"{pixels} warped{mirrored}: {100 * quality.consistent:.0f} % return to their place when"
        f" warped back, mean cosine {quality.cosine:.2f}{folded}{met}"
    )


def _guides_words(quality: FieldQuality, guides: int) -> str:
    """Which guides the field meets, by their numbers."""
    unmet = [str(i + 1) for i in quality.unmet]
    if not unmet:
        return {1: "the guide is met", 2: "both guides are met"}.get(
            guides, f"all {guides} guides are met"
        )
    if len(unmet) == 1:
        return f"guide {unmet[0]} is not met: it contradicts others"
    return f"guides {', '.join(unmet[:-1])} and {unmet[-1]} are not met: they contradict others"
