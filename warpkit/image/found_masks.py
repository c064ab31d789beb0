"""Masks of a pair that nobody gave: the object of each picture, found by the foreground head.

In: a checked pair. Out: the same pair with masks, and one line about them.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from warpkit.image.foreground import FoundObject, Hints, NothingFoundError
from warpkit.image.pair import ImagePair
from warpkit.image.segment import Finder
from warpkit.match.filters import inside_mask

__all__ = ["MaskChoice", "with_found_masks"]

_log = logging.getLogger("warpkit")

MaskChoice = Literal["auto", "none"]


def with_found_masks(
    pair: ImagePair,
    find: Finder,
    *,
    source_points: Sequence[Sequence[float]] = (),
    done: Literal["warped", "matched"] = "warped",
) -> ImagePair:
    """The pair with the object of each picture that has no mask, where both are found for sure.

    Guides are points on the objects. A doubtful mask is worse than none: where one is, pictures
    without a mask stay whole, and one line says what helps.

    Args:
        pair: checked; a mask that was given, or a transparent background, stays as it is.
        find: finds the object of a picture; see `warpkit.image.segment.object_finder`.
        source_points: more points `(x, y)` on the source's object, in pixels.
        done: with the pictures, as the line says it.

    Raises:
        InputError: what finds objects cannot be loaded.
    """
    masks = {"source": pair.source_mask, "target": pair.target_mask}
    missing = [name for name, mask in masks.items() if mask is None]
    images = {"source": pair.source, "target": pair.target}
    points = {"source": [(float(x), float(y)) for x, y in source_points], "target": []}
    if pair.guides is not None:
        for name, xy in (("source", pair.guides.source_xy), ("target", pair.guides.target_xy)):
            points[name] += [(x, y) for x, y in xy.tolist()]
    found: dict[str, FoundObject] = {}
    for name in missing:
        try:
            hints = Hints(points=tuple(points[name]))
            found[name] = find(images[name], hints)
        except NothingFoundError as error:
            reason = error.what
        else:
            mask = torch.from_numpy(found[name].mask)
            at = torch.tensor(points[name], dtype=torch.float32).reshape(-1, 2)
            off = len(at) > 0 and not bool(inside_mask(mask, at).all())
            doubts = (*found[name].doubts, *(("a given point lies off it",) if off else ()))
            if not doubts:
                continue
            reason = f"the object that was found is doubtful ({' and '.join(doubts)})"
        _log.warning(
            "the %s: %s, so whole pictures are %s: give --%s-mask, painted or made by `warpkit"
            " mask` with a box or a point",
            *(name, reason, done, name),
        )
        return pair
    said = ", ".join(
        f"{100 * np.mean(one.mask):.2g} % of the {name} (confidence {100 * one.agreement:.0f} %)"
        for name, one in found.items()
    )
    _log.info("found the object: %s; --mask none takes whole pictures", said)
    masks |= {name: torch.from_numpy(one.mask) for name, one in found.items()}
    return dataclasses.replace(pair, source_mask=masks["source"], target_mask=masks["target"])
