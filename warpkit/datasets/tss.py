"""TSS (Taniai, Sinha, Sato: Joint Recovery of Dense Correspondence and Cosegmentation, CVPR 2016).

`<FG3DCar|JODS|PASCAL>/<pair>/` holds `image1.png`, `image2.png`, their object masks `mask1.png`,
`mask2.png` and the fields `flow1.flo`, `flow2.flo`. flow1 covers image 1: its pixel p shows what
image 2 shows at p + flow1(p); flow2 the other way round. Values beyond 1e9 are unknown.

`flip_gt.txt` holds 1 where the objects face opposite ways; without the file it is 0. Nothing is to
be mirrored for it: fields refer to the images as they are stored. The authors' scores use it only
for a second mean without such pairs, and their points of such a pair (`corr.txt` of
PASCAL/bike_01_03) run from right to left in the second image.

The authors' accuracy counts all pixels with a known displacement, in both directions, against 5 %
of the longer side of the image that the displacement leads into.

Source: the authors' evaluation kit (github.com/t-taniai/TSS_CVPR2016_EvaluationKit: Readme.txt,
compute_scores.m, RunEvaluation.m, CvUtils.h).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from warpkit.checks import InputError, require
from warpkit.datasets.json_fields import check_folder, image_file
from warpkit.datasets.pair import AnnotatedPair, found_pairs, points_box
from warpkit.io.flow import known_flow, read_flo
from warpkit.io.images import image_size
from warpkit.io.masks import read_mask
from warpkit.io.text import read_text

__all__ = ["DensePair", "read_tss", "read_tss_dense"]

_GROUPS = ("FG3DCar", "JODS", "PASCAL")


@dataclass(frozen=True)
class DensePair:
    """Two images and the files that say where every object pixel of the target is in the source.

    Convention: the field covers the TARGET; its pixel `(x, y)` shows the source's
    `(x, y) + flow[y, x]`, in pixels of the image files as they are.

    Attributes:
        source_path: image file.
        target_path: image file.
        flow_path: `.flo` file of the target's height and width; see `io.flow`.
        mask_path: the target's object mask, of the same size.
        flip: the objects face opposite ways. The field knows: nothing is to be mirrored.
        category: `FG3DCar`, `JODS` or `PASCAL`.
    """

    source_path: Path
    target_path: Path
    flow_path: Path
    mask_path: Path
    flip: bool
    category: str


def read_tss(root: Path | str, *, stride: int = 4) -> tuple[list[AnnotatedPair], list[str]]:
    """Read TSS as points: from image 1 (source) to image 2 (target).

    The source points are the object pixels with a known displacement at every `stride`-th row and
    column, from 0. There are no object boxes, so a box is that of the points.

    Args:
        root: the folder of FG3DCar, JODS and PASCAL.
        stride: pixels between points, at least 1.

    Returns:
        The pairs by group, then name; the category is the group. One line for every group that is
        missing and every pair that is broken or has no such pixel.

    Raises:
        InputError: if there is no such folder, a stride below 1, or no usable pair.
    """
    require(stride >= 1, f"stride must be at least 1 pixel, got {stride}")
    root = check_folder(root, f"TSS's {', '.join(_GROUPS)}")
    pairs: list[AnnotatedPair] = []
    problems = _missing_groups(root)
    for folder in _pair_folders(root):
        try:
            # Of two directions the one whose field covers image 1.
            pairs.append(_sampled(_direction(folder, over=1), stride))
        except InputError as error:
            problems.append(f"{folder}: {error}")
    return found_pairs(pairs, problems, root)


def read_tss_dense(root: Path | str) -> tuple[list[DensePair], list[str]]:
    """List TSS for dense evaluation: every pair in both directions, as its authors score it.

    Fields and masks are checked to be there; their contents are read by whoever scores them.

    Returns:
        The pairs by group, then name, first the one whose target is image 1; and one line for
        every group that is missing and every pair that is incomplete.

    Raises:
        InputError: if there is no such folder, or no usable pair.
    """
    root = check_folder(root, f"TSS's {', '.join(_GROUPS)}")
    pairs: list[DensePair] = []
    problems = _missing_groups(root)
    for folder in _pair_folders(root):
        for over in (1, 2):
            try:
                pairs.append(_direction(folder, over=over))
            except InputError as error:
                problems.append(f"{folder}, field {over}: {error}")
    require(
        bool(pairs),
        f"no usable pair in {root}: {problems[0] if problems else 'it holds none'}",
    )
    return pairs, problems


def _missing_groups(root: Path) -> list[str]:
    return [f"{root / group} is missing" for group in _GROUPS if not (root / group).is_dir()]


def _pair_folders(root: Path) -> Iterator[Path]:
    for group in _GROUPS:
        if (root / group).is_dir():
            yield from sorted(path for path in (root / group).iterdir() if path.is_dir())


def _direction(folder: Path, *, over: int) -> DensePair:
    """The pair whose field covers image `over`, 1 or 2."""
    flow_path, mask_path = folder / f"flow{over}.flo", folder / f"mask{over}.png"
    require(flow_path.is_file(), f"the field {flow_path} is missing")
    require(mask_path.is_file(), f"the mask {mask_path} is missing")
    return DensePair(
        source_path=image_file(folder, f"image{3 - over}.png"),
        target_path=image_file(folder, f"image{over}.png"),
        flow_path=flow_path,
        mask_path=mask_path,
        flip=_flip(folder / "flip_gt.txt"),
        category=folder.parent.name,
    )


def _flip(path: Path) -> bool:
    if not path.is_file():
        return False
    text = read_text(path, errors="surrogateescape").strip()
    require(text in ("0", "1"), f"{path} must hold 0 or 1, got '{text[:20]}'")
    return text == "1"


def _sampled(dense: DensePair, stride: int) -> AnnotatedPair:
    """Points of a field, from the image that it covers to the other."""
    flow, mask = read_flo(dense.flow_path), read_mask(dense.mask_path)
    height, width = image_size(dense.target_path)
    require(
        flow.shape[:2] == mask.shape == (height, width),
        f"field and mask must cover {dense.target_path.name} of {height} x {width} (height x"
        f" width), got {flow.shape[:2]} and {mask.shape}",
    )
    rows, columns = np.nonzero((mask & known_flow(flow))[::stride, ::stride])
    require(
        len(rows) > 0, f"no object pixel at every {stride}-th row and column has a displacement"
    )
    rows, columns = rows * stride, columns * stride
    start = np.stack([columns, rows], axis=1).astype(np.float32)
    end = start + flow[rows, columns]
    return AnnotatedPair(
        source_path=dense.target_path,
        target_path=dense.source_path,
        source_points=start,
        target_points=end,
        source_box=points_box(start),
        target_box=points_box(end),
        category=dense.category,
    )
