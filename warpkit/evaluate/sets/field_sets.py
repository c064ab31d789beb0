"""Image pairs with exact dense correspondences: rendered clips, TSS, known warps of any images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from warpkit.checks import InputError, counted, one_of, require
from warpkit.coords import pixel_grid
from warpkit.datasets.draw import name_ranks
from warpkit.datasets.tss import read_tss_dense
from warpkit.evaluate.field_errors import FieldTruth
from warpkit.io.flow import known_flow, read_flo
from warpkit.io.images import IMAGE_SUFFIXES, read_image
from warpkit.io.masks import read_mask
from warpkit.render import CLIPS, render_frame
from warpkit.warp.known import (
    KnownWarpConfig,
    photometric_jitter,
    random_fields,
    warp_with_fields,
)

__all__ = ["FIELD_SETS", "SET_MASKS", "field_truths", "guess_field_set"]

T = TypeVar("T")

FIELD_SETS = {
    "clips": "rendered clips, frame 0 to later frames",
    "tss": "TSS",
    "known": "random known warps",
}

SET_MASKS = {
    "clips": "the object masks of both images are given",
    "tss": "the target's object mask is given",
}
"""Sets with masks that methods can be given, and which."""


def guess_field_set(root: Path | None) -> str:
    """Which set a folder holds; no folder means the rendered clips."""
    if root is None:
        return "clips"
    require(root.is_dir(), f"{root} is not a folder")
    return "tss" if any(root.glob("*/*/flow1.flo")) else "known"


def field_truths(
    name: str,
    root: Path | None,
    *,
    count: int | None = None,
    seed: int = 0,
    problems: list[str],
) -> Iterator[FieldTruth]:
    """The pairs of a set, one at a time.

    Args:
        name: a key of `FIELD_SETS`.
        root: TSS's folder, or a folder of images (searched with its subfolders).
        count: that many pairs, drawn; for `clips` that many frames of each clip (3).
        seed: seeds the draw and the known warps.
        problems: gets one line for every item left out.

    Raises:
        InputError: no such set, a folder where none belongs or none where one does.
    """
    one_of(name, FIELD_SETS, "set of fields")
    require(count is None or count > 0, f"the number of pairs must be positive, got {count}")
    if name == "clips":
        require(root is None, "the clips are rendered: leave --root out")
        yield from _clips(count or 3)
        return
    require(root is not None and root.is_dir(), f"{name} needs --root, a folder; got {root}")
    assert root is not None
    yield from (_tss if name == "tss" else _known)(root, count, seed, problems)


def _clips(count: int) -> Iterator[FieldTruth]:
    """Frame 0 (source) and later frames (target), object pixels whose point frame 0 shows."""
    for name, spec in CLIPS.items():
        require(
            count < spec.frames,
            f"the clip '{name}' has {counted(spec.frames - 1, 'frame')} after the first, not"
            f" {count}",
        )
        first = render_frame(spec, 0)
        for step in range(1, count + 1):
            t = step * (spec.frames - 1) // count
            frame = render_frame(spec, t)
            known = (frame.labels > 0) & frame.visible
            if known.any():
                yield FieldTruth(
                    f"{name} 0 <- {t}",
                    name,
                    first.image,
                    frame.image,
                    frame.source_xy,
                    known,
                    source_mask=first.labels > 0,
                    target_mask=frame.labels > 0,
                )


def _tss(root: Path, count: int | None, seed: int, problems: list[str]) -> Iterator[FieldTruth]:
    pairs, more = read_tss_dense(root)
    problems += more
    names = [p.target_path.relative_to(root).as_posix() for p in pairs]
    for pair in _drawn(pairs, names, count, seed):
        name = f"{pair.target_path.parent.name}/{pair.target_path.stem}"
        try:
            source, target = read_image(pair.source_path), read_image(pair.target_path)
            flow = read_flo(pair.flow_path)
            mask = read_mask(pair.mask_path)
            height, width = target.shape[:2]
            grid = pixel_grid(height=height, width=width).numpy()
            require(
                flow.shape == grid.shape and mask.shape == grid.shape[:2],
                f"flow and mask must cover the image of {height} x {width}, got {flow.shape} and"
                f" {mask.shape}",
            )
            known = mask & known_flow(flow)
            source_xy = (grid + np.where(known[..., None], flow, 0)).astype(np.float32)
            yield FieldTruth(
                name, pair.category, source, target, source_xy, known, target_mask=mask
            )
        except InputError as error:
            problems.append(f"{pair.target_path.parent}: {error}")


def _known(root: Path, count: int | None, seed: int, problems: list[str]) -> Iterator[FieldTruth]:
    """Each image and a randomly warped, recoloured copy of it."""
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    require(bool(files), f"{root} holds no images")
    names = [path.relative_to(root).as_posix() for path in files]
    for path in _drawn(files, names, count, seed):
        name = path.relative_to(root).as_posix()
        try:
            source = read_image(path)
            height, width = source.shape[:2]
            # Named by the file, so that a warp does not depend on what else the folder holds.
            (rank,) = name_ranks([name], seed=seed)
            generator = torch.Generator().manual_seed(int(rank >> np.uint64(1)))
            (field,) = random_fields(
                1, height=height, width=width, config=KnownWarpConfig(), generator=generator
            )
            image = torch.from_numpy(source).permute(2, 0, 1)[None].float() / 255
            warped, inside = warp_with_fields(image, field[None])
            shown = photometric_jitter(warped, strength=0.5, generator=generator)
            target = (shown[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
            yield FieldTruth(name, "known", source, target, field.numpy(), inside[0].numpy())
        except InputError as error:
            problems.append(f"{path}: {error}")


def _drawn(items: list[T], names: list[str], count: int | None, seed: int) -> list[T]:
    require(
        count is None or count <= len(items),
        f"the set has {counted(len(items), 'pair')}: ask for no more than that, not {count}",
    )
    if count is None:
        return items
    chosen = np.argsort(name_ranks(names, seed=seed), kind="stable")[:count]
    return [items[i] for i in sorted(chosen.tolist())]
