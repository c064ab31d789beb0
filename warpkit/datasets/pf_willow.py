"""PF-WILLOW (Ham, Cho, Schmid, Ponce: Proposal Flow, CVPR 2016)."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from warpkit.checks import InputError, float32, require
from warpkit.datasets.json_fields import check_folder
from warpkit.datasets.mat_files import load_mat
from warpkit.datasets.pair import AnnotatedPair, Points, found_pairs, points_box

__all__ = ["read_pf_willow"]


def read_pf_willow(root: Path | str) -> tuple[list[AnnotatedPair], list[str]]:
    """Read PF-WILLOW: all ordered pairs of images within each folder.

    `root` holds one folder per category (`car(S)`, ...) of `.png` images, each beside a `.mat`
    file with `pts_coord` (2, 10): the same ten points, in the same order, in every image. There
    are no object boxes, so the box is that of the ten points, as in the data set's own PCK.

    Returns:
        The pairs by folder, then source, then target name; the category is the folder's name. One
        line for every image that has no usable annotation.

    Raises:
        InputError: if there is no such folder, or SciPy is not installed.
    """
    root = check_folder(root, "PF-WILLOW's folders of .png and .mat")
    pairs: list[AnnotatedPair] = []
    problems: list[str] = []
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        annotated: list[tuple[Path, Points]] = []
        for image_path in sorted(folder.glob("*.png")):
            try:
                annotated.append((image_path, _ten_points(image_path.with_suffix(".mat"))))
            except InputError as error:
                problems.append(str(error))
        for (source, source_points), (target, target_points) in itertools.permutations(
            annotated, 2
        ):
            pairs.append(
                AnnotatedPair(
                    source_path=source,
                    target_path=target,
                    source_points=source_points,
                    target_points=target_points,
                    source_box=points_box(source_points),
                    target_box=points_box(target_points),
                    category=folder.name,
                )
            )
    return found_pairs(pairs, problems, root)


def _ten_points(path: Path) -> Points:
    """`pts_coord` of one annotation as float32 (10, 2)."""
    coordinates: Any = load_mat(path, "pts_coord").get("pts_coord")
    require(
        coordinates is not None
        and coordinates.shape == (2, 10)
        and coordinates.dtype.kind in "fiu"
        and bool(np.isfinite(float32(coordinates)).all()),
        f"{path} must hold finite 'pts_coord' (2, 10), got"
        f" {'none' if coordinates is None else f'{coordinates.dtype} {coordinates.shape}'}",
    )
    points = np.ascontiguousarray(float32(coordinates).T)
    require(
        float(np.ptp(points, axis=0).max()) > 0,
        f"{path}: all points of 'pts_coord' coincide, so their box has no side",
    )
    return points
