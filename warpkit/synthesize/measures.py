"""What labels are worth: precision on known warps at every filter setting, and images not to use.

In: images with masks, and what describes them. Out: rows of a table, each a filter setting with the
share of matches it keeps and how many of these are right.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from warpkit.arrays import Image, Mask
from warpkit.coherent import coherent_fields
from warpkit.coords import sample_bilinear, sample_nearest
from warpkit.match.filters import inside_mask
from warpkit.match.matcher import Matcher
from warpkit.synthesize.config import FilterConfig, PairSettings
from warpkit.synthesize.labels import (
    FILTERS,
    MatchCandidates,
    filter_candidates,
    find_candidates,
    label_task,
)
from warpkit.synthesize.warped_copy import warped_copy
from warpkit.types import Describer

__all__ = [
    "SWEEPS",
    "Measured",
    "PrecisionRow",
    "image_hash",
    "image_problem",
    "measure_image",
    "pair_problem",
    "precision_doubt",
    "precision_rows",
    "precision_table",
]


_FLAT = 5.0  # standard deviation of gray below which an image shows nothing, of 255
_ONE_COLOUR = 0.97  # share of pixels of one colour (of 16 a channel) beyond which it shows nothing
_GOOD = 0.9  # share of right matches from which labels are not doubted
_SAME = 2  # bits by which the hashes of one photograph stored twice may differ

SWEEPS: dict[str, tuple[float, ...]] = {
    "similarity": (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95),
    "cycle": (0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.0),
    "ratio": (0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4),
    "flip": (0.3, 0.2, 0.1, 0.05, 0.03, 0.02),
    "coherence": (0.2, 0.1, 0.05, 0.03, 0.02, 0.01),
    "affine": (0.2, 0.1, 0.05, 0.03, 0.02, 0.01),
}
"""The settings of each filter that are measured alone, from lenient to strict."""


def image_hash(image: Image) -> str:
    """The difference hash of an image: 64 bits in hexadecimal, alike for copies and resizes.

    Bit (y, x) says whether cell x is darker than cell x + 1 of the image reduced to 8 rows and 9
    columns of gray.
    """
    import cv2

    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    bits = (small[:, :-1] < small[:, 1:]).flatten()
    return np.packbits(bits).tobytes().hex()


def image_problem(image: Image) -> str | None:
    """Why an image shows nothing: flat, or nearly all of one colour; None if it is usable."""
    red, green, blue = (image[..., channel].astype(np.uint16) for channel in range(3))
    if float((red + green + blue).std()) / 3 < _FLAT:
        return "flat image"
    counts = np.bincount(((red // 16 * 16 + green // 16) * 16 + blue // 16).ravel())
    return "image of one colour" if counts.max() > _ONE_COLOUR * red.size else None


def pair_problem(source: Image, target: Image, *, exact: bool) -> str | None:
    """Why two images are no pair: they are the same picture; None if they are not.

    Args:
        exact: only equal pixels count, as between an image and its variant.
    """
    if source.shape == target.shape and np.array_equal(source, target):
        return "the same image twice"
    if exact:
        return None
    differing = (int(image_hash(source), 16) ^ int(image_hash(target), 16)).bit_count()
    return "the same image twice" if differing <= _SAME else None


@dataclass(frozen=True, eq=False)
class Measured:
    """The matches of a known warp and how wrong each is.

    Attributes:
        candidates: before any filter.
        error: float32 (N,), distance to the truth, share of the target object's longer side.
    """

    candidates: MatchCandidates
    error: Tensor


@dataclass(frozen=True)
class PrecisionRow:
    """One filter setting.

    Attributes:
        setting: in words.
        filter: the one that is swept; empty for the settings of the run.
        value: its limit.
        kept: share of all matches that are kept.
        precision5: share of the kept that lie within 5 % of the object; None where none is kept.
        precision10: the same within 10 %.
        images: share of the images that keep enough matches for a pair.
    """

    setting: str
    filter: str
    value: float | None
    kept: float
    precision5: float | None
    precision10: float | None
    images: float


def measure_image(
    describer: Describer,
    image: Image,
    mask: Mask,
    settings: PairSettings,
    *,
    seed: int,
    matcher: Matcher | None = None,
) -> Measured | None:
    """Match an image's known warp with the image.

    Args:
        describer: describes the finished images, as it would any photograph.
        image: uint8 RGB (H, W, 3).
        mask: bool (H, W), its object.
        seed: of the warp.

    Returns:
        Every match whose truth lies on the object; None where none does.
    """
    bent, field, inside = warped_copy(image, settings.warp, seed=seed, jitter=settings.jitter)
    carried = sample_nearest(torch.from_numpy(mask), field.reshape(-1, 2))
    bent_mask = carried.reshape(inside.shape).numpy() & inside
    if not bent_mask.any() or not mask.any():
        return None
    mirrored = np.ascontiguousarray(image[:, ::-1])
    bent_map, own_map, flipped_map = describer.describe([bent, image, mirrored])
    filters = settings.labels.filters
    # As in the set itself, where the mirrored image is described for the filter alone.
    seen = flipped_map if filters.flip is not None else None
    task = label_task(bent_map, own_map, bent_mask, mask, flipped=seen)
    (solved,) = coherent_fields([task])
    found = find_candidates(
        bent_map,
        own_map,
        bent_mask,
        mask,
        flipped=flipped_map,
        field=solved,
        stride=settings.labels.stride,
        exclusion=filters.exclusion,
        matcher=matcher,
    )
    truth = sample_bilinear(field.permute(2, 0, 1), found.source_xy)
    on_object = inside_mask(torch.from_numpy(mask), truth)
    if not bool(on_object.any()):
        return None
    error = (found.target_xy - truth).norm(dim=1) / found.target_side
    return Measured(found.rows(on_object), error[on_object])


def precision_rows(
    measured: Sequence[Measured], filters: FilterConfig, *, least: int
) -> list[PrecisionRow]:
    """Precision without filters, with each alone at every limit, and with those of the run, one
    after the other as they are applied.

    Args:
        measured: at least one image.
        least: matches that a pair needs.
    """
    rows = []
    for setting, name, value, config in _settings(filters):
        errors, whole, enough = [], 0, 0
        for each in measured:
            kept, _ = filter_candidates(each.candidates, config)
            errors.append(each.error[kept])
            whole += len(kept)
            enough += int(kept.sum()) >= least
        error = torch.cat(errors)
        within5, within10 = (
            float((error <= limit).float().mean()) if len(error) else None for limit in (0.05, 0.1)
        )
        rows.append(
            PrecisionRow(
                setting=setting,
                filter=name,
                value=value,
                kept=len(error) / max(1, whole),
                precision5=within5,
                precision10=within10,
                images=enough / len(measured),
            )
        )
    return rows


def _settings(filters: FilterConfig) -> Iterator[tuple[str, str, float | None, FilterConfig]]:
    """Name, swept filter, its limit and the whole configuration of every row."""
    nothing: Any = dict.fromkeys(FILTERS)
    off = dataclasses.replace(filters, **nothing)
    yield "no filter", "", None, off
    for name, values in SWEEPS.items():
        for value in values:
            sign = ">=" if name == "similarity" else "<="
            config: Any = {name: value}
            yield f"{name} {sign} {value:g}", name, value, dataclasses.replace(off, **config)
    so_far = off
    for name in FILTERS:
        limit = getattr(filters, name)
        if limit is None:
            continue
        so_far = dataclasses.replace(so_far, **{name: limit})
        yield f"... {name} {limit:g}", "", None, so_far


def precision_table(rows: Sequence[PrecisionRow]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| filters | matches kept | within 5 % | within 10 % | images with enough |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        right = ["-" if p is None else f"{p:.1%}" for p in (row.precision5, row.precision10)]
        lines.append(
            f"| {row.setting} | {row.kept:.1%} | {right[0]} | {right[1]} | {row.images:.0%} |"
        )
    return "\n".join(lines)


def precision_doubt(rows: Sequence[PrecisionRow]) -> str | None:
    """What to say of a run whose filters leave many wrong matches, and of a setting that leaves
    fewer, if one was measured; None if fewer than a tenth are wrong.

    Args:
        rows: as `precision_rows` gives them.
    """
    # The run's own filters are last; without any they are the first row.
    right = rows[-1 if rows[-1].setting.startswith("...") else 0].precision5
    if right is None or right >= _GOOD:
        return None
    text = f"only {right:.1%} of the matches of known warps lie within 5 % of the object"
    best = max(rows, key=lambda row: (row.precision5 or 0.0, row.kept))
    reached = best.precision5 or 0.0
    if reached < _GOOD:
        text += f"; no measured setting reaches {_GOOD:.0%}"
    if reached > right:
        name = best.setting.replace("...", "the run's filters up to")
        text += f"; the best measured ({name}) has {reached:.1%} and keeps {best.kept:.1%} of all"
    return text
