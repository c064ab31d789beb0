"""SPair-71k (Min, Lee, Ponce, Cho: SPair-71k, arXiv 1908.10543)."""

from __future__ import annotations

from pathlib import Path

from warpkit.checks import InputError, is_file, one_of, require
from warpkit.datasets.json_fields import (
    box_field,
    check_folder,
    image_file,
    load_json,
    points_field,
    read_lines,
    text_field,
)
from warpkit.datasets.pair import AnnotatedPair, found_pairs

__all__ = ["read_spair"]

_SPLITS = {"train": "trn", "trn": "trn", "val": "val", "test": "test"}


def read_spair(
    root: Path | str, split: str, *, category: str | None = None
) -> tuple[list[AnnotatedPair], list[str]]:
    """Read a split of SPair-71k.

    `root` holds `PairAnnotation/{trn,val,test}/<number>-<source>-<target>:<category>.json` and
    `JPEGImages/<category>/<name>.jpg`. `Layout/large/{trn,val,test}.txt`, where it is there, says
    which pairs belong to the split, and in which order; otherwise all annotations do, by name. A
    `_` for the `:` of a name, which some systems do not allow, is taken as well. An annotation's
    `folder`, where it has one, names the folder of its images in place of the category.

    Args:
        root: the data set's folder.
        split: `train`, `val` or `test`.
        category: only the pairs of this category.

    Returns:
        The pairs, and one line for every pair whose annotation or image is missing or broken.

    Raises:
        InputError: for an unknown split or category, no such folder, or no usable pair.
    """
    root = check_folder(root, "SPair-71k's PairAnnotation and JPEGImages")
    short = _SPLITS[one_of(split, _SPLITS, "split")]
    annotations = root / "PairAnnotation" / short
    require(annotations.is_dir(), f"{annotations} is missing: is {root} SPair-71k's own folder?")
    layout = root / "Layout" / "large" / f"{short}.txt"
    if layout.is_file():
        stems = read_lines(layout)
    else:
        stems = sorted(path.stem for path in annotations.glob("*.json"))
    if category is not None:
        names = {stem: _category(stem) for stem in stems}
        if category not in names.values():  # a name that no folder can have, or one with a `_`
            names = {stem: _stated_category(annotations, stem) for stem in stems}
        one_of(category, sorted(set(names.values())), "category")
        stems = [stem for stem in stems if names[stem] == category]
    pairs: list[AnnotatedPair] = []
    problems: list[str] = []
    for stem in stems:
        path = _annotation(annotations, stem)
        try:
            require(is_file(path), "the annotation is missing")
            pairs.append(_read_annotation(path, root / "JPEGImages"))
        except InputError as error:
            problems.append(f"{annotations / stem}.json: {error}")
    return found_pairs(pairs, problems, annotations)


def _annotation(annotations: Path, stem: str) -> Path:
    path = annotations / f"{stem}.json"
    return path if is_file(path) else annotations / f"{stem.replace(':', '_')}.json"


def _category(stem: str) -> str:
    _, colon, name = stem.partition(":")
    return name if colon else stem.rpartition("_")[2]


def _stated_category(annotations: Path, stem: str) -> str:
    """What an annotation says; what its name says where it cannot be read."""
    try:
        return text_field(load_json(_annotation(annotations, stem)), "category")
    except InputError:
        return _category(stem)


def _read_annotation(path: Path, images: Path) -> AnnotatedPair:
    item = load_json(path)
    category = text_field(item, "category")
    folder = images / (text_field(item, "folder") if "folder" in item else category)
    return AnnotatedPair(
        source_path=image_file(folder, text_field(item, "src_imname")),
        target_path=image_file(folder, text_field(item, "trg_imname")),
        source_points=points_field(item, "src_kps"),
        target_points=points_field(item, "trg_kps"),
        source_box=box_field(item, "src_bndbox"),
        target_box=box_field(item, "trg_bndbox"),
        category=category,
    )
