"""Everything that can be checked of a finished set without the model that made it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from warpkit.checks import InputError, counted, first_line, require
from warpkit.datasets.dhf import read_dhf_json
from warpkit.datasets.json_fields import check_folder, load_json, read_lines
from warpkit.datasets.pair import AnnotatedPair
from warpkit.datasets.spair import read_spair
from warpkit.datasets.usable import usable_pairs
from warpkit.io.whole import write_text
from warpkit.runs.cache import file_sha256
from warpkit.synthesize.records import read_records

__all__ = ["MANIFEST", "verify_set", "write_manifest"]

MANIFEST = "SHA256SUMS"
"""One line per file, as `sha256sum -c` reads it."""

_LISTS = {"train": "pairs.json", "val": "pairs_val.json", "test": "pairs_test.json"}
_FEW = 5  # names that a message lists
_ROLES = ("source", "target")

# What a pair is known by in every format: category, source and target points to a hundredth.
Signature = tuple[str, tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]


def write_manifest(root: Path, path: Path, skip: set[Path]) -> None:
    """Write the SHA-256 of every file below a folder.

    Args:
        path: the manifest.
        skip: files that are not listed.
    """
    lines = [
        f"{file_sha256(file)}  {file.relative_to(root).as_posix()}\n"
        for file in sorted(root.rglob("*"))
        if file.is_file() and file != path and file not in skip and not file.name.startswith(".")
    ]
    write_text(path, "".join(lines))


def verify_set(root: Path | str) -> list[str]:
    """Check a set that `warpkit synthesize` wrote.

    Hashes against the manifest; every format that is there, read back by the field's readers where
    those are installed; the same pairs and points in all of them; points inside images and masks.

    Returns:
        A line for each check.

    Raises:
        InputError: something is wrong; the message says what, and how many problems there are.
    """
    root = check_folder(root, "a set that `warpkit synthesize` wrote")
    require((root / MANIFEST).is_file(), _no_set(root))
    problems: list[str] = []
    done = [_check_manifest(root, problems)]
    found: dict[str, list[Signature]] = {}
    readers: dict[str, tuple[str, Callable[[Path, list[str]], list[Signature]]]] = {
        "spair": ("PairAnnotation", _read_spair),
        "dhf": ("pairs*.json", _read_dhf),
        "coco": ("coco", _read_coco),
        "webdataset": ("shards", _read_shards),
        "parquet": ("parquet", _read_parquet),
    }
    for name, (pattern, read) in readers.items():
        if not any(root.glob(pattern)):
            continue
        try:
            found[name] = sorted(read(root, problems))
            done.append(f"{name}: {counted(len(found[name]), 'pair')}")
        except (InputError, OSError, ValueError, KeyError) as error:
            problems.append(f"{name}: {first_line(error)}")
    require(
        bool(found) or bool(problems),
        f"{root} holds no format that is known here: expected one of"
        f" {', '.join(pattern for pattern, _ in readers.values())}",
    )
    first = next(iter(found), None)
    for name, signatures in found.items():
        assert first is not None
        if signatures != found[first]:
            problems.append(f"{name} and {first} do not hold the same pairs and points")
    if problems:
        raise InputError(
            f"{root}: {counted(len(problems), 'problem')}, the first: {problems[0]}; make the set"
            " anew, or get a whole copy"
        )
    return [*done, "all formats hold the same pairs and points" if len(found) > 1 else "whole"]


def _no_set(root: Path) -> str:
    """What was expected of a folder without a manifest, what is in it, and what to do."""
    names = sorted(path.name + "/" * path.is_dir() for path in root.iterdir())
    shown = [name for name in names if not name.startswith(".")]
    more = f" and {len(shown) - _FEW} more" if len(shown) > _FEW else ""
    there = ", ".join(shown[:_FEW]) + more if shown else "nothing"
    sets = [path for path in (root.parent, *sorted(root.glob("*/"))) if (path / MANIFEST).is_file()]
    if sets:
        hint = f"did you mean {sets[0]}?"
    elif any(name.startswith(".warpkit-partial") for name in names):
        hint = "an unfinished run is kept there: run its command again to its end"
    elif {"run.json", "sheets/"} <= set(names):
        hint = "get a whole copy, or make the set anew"
    else:
        hint = "give the folder that `warpkit synthesize -o` wrote"
    return (
        f"{root} is no set that `warpkit synthesize` wrote: expected {MANIFEST} (the manifest),"
        f" run.json, README.md and pairs in one format or more; found {there}; {hint}"
    )


def _check_manifest(root: Path, problems: list[str]) -> str:
    listed = {}
    for line in read_lines(root / MANIFEST):
        digest, _, name = line.partition("  ")
        listed[name] = digest
    for name, digest in listed.items():
        path = root / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif file_sha256(path) != digest:
            problems.append(f"{name} is not what was written")
    there = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and path.name != MANIFEST
    }
    problems += [f"{name} is not in the manifest" for name in sorted(there - listed.keys())]
    return f"manifest: {counted(len(listed), 'file')}"


def _signature(category: str, source: Any, target: Any) -> Signature:
    def points(values: Any) -> tuple[tuple[float, float], ...]:
        # Some formats hold float32, and a half must be rounded alike in all.
        single = np.asarray(values, np.float32).astype(np.float64)
        rounded = np.round(single, 2) + 0.0
        return tuple((float(x), float(y)) for x, y in rounded)

    return category, points(source), points(target)


def _of_pairs(pairs: list[AnnotatedPair], problems: list[str]) -> list[Signature]:
    """Signatures of pairs whose points all lie in their images and masks."""
    usable, more = usable_pairs(pairs)
    problems += more
    for pair in usable:
        ends = ((pair.source_path, pair.source_points), (pair.target_path, pair.target_points))
        for path, points in ends:
            category = path.parent.name
            mask_path = path.parents[2] / "Segmentation" / category / f"{path.stem}.png"
            if not mask_path.is_file():
                problems.append(f"the mask {mask_path} is missing")
                continue
            mask = np.asarray(Image.open(mask_path)) > 0
            x, y = np.floor(points + 0.5).astype(int).T
            x, y = x.clip(0, mask.shape[1] - 1), y.clip(0, mask.shape[0] - 1)
            if not mask[y, x].all():
                problems.append(f"{path.name}: a point lies outside its mask")
    return [_signature(p.category, p.source_points, p.target_points) for p in usable]


def _read_spair(root: Path, problems: list[str]) -> list[Signature]:
    pairs = []
    for split, folder in (("train", "trn"), ("val", "val"), ("test", "test")):
        if (root / "PairAnnotation" / folder).is_dir():
            some, more = read_spair(root, split)
            pairs += some
            problems += more
    return _of_pairs(pairs, problems)


def _read_dhf(root: Path, problems: list[str]) -> list[Signature]:
    pairs = []
    for name in _LISTS.values():
        if (root / name).is_file():
            some, more = read_dhf_json(root / name, root)
            pairs += some
            problems += more
    return _of_pairs(pairs, problems)


def _read_coco(root: Path, problems: list[str]) -> list[Signature]:
    found = []
    for path in sorted((root / "coco").glob("keypoints_*.json")):
        content = load_json(path)
        names = {category["id"]: category["name"] for category in content["categories"]}
        files = {image["id"]: image["file_name"] for image in content["images"]}
        problems += [
            f"{path.name}: {name} is missing"
            for name in files.values()
            if not (root / name).is_file()
        ]
        ends: dict[int, dict[str, Any]] = {}
        for annotation in content["annotations"]:
            require(annotation["image_id"] in files, f"{path.name}: an annotation has no image")
            ends.setdefault(annotation["pair_id"], {})[annotation["role"]] = annotation
        for pair in ends.values():
            points = []
            for role in _ROLES:
                rows = np.array(pair[role]["keypoints"], np.float64).reshape(-1, 3)
                points.append(rows[rows[:, 2] > 0, :2])
            found.append(_signature(names[pair["source"]["category_id"]], *points))
    return found


def _read_shards(root: Path, problems: list[str]) -> list[Signature]:
    found = []
    for path in sorted((root / "shards").glob("*.tar")):
        for record in read_records(path):
            for role in _ROLES:
                name = record.image_name(role)
                image = Image.open(io.BytesIO(record.files[name]))
                mask = Image.open(io.BytesIO(record.files[f"{role}_mask.png"]))
                if image.size != mask.size:
                    problems.append(f"{path.name}: {record.id}: {name} and its mask differ in size")
            meta = record.meta
            problems += _scores(meta, path.name)
            found.append(_signature(meta["category"], meta["source_points"], meta["target_points"]))
    return found


def _scores(meta: Mapping[str, Any], place: str) -> list[str]:
    """A problem for every score that has not one value a point; labels that are exact have none."""
    count = len(meta["source_points"])
    return [
        f"{place}: {meta['id']} has {len(meta[name])} values of {name} for {count} points"
        for name in ("similarity", "coherence")
        if meta.get(name) is not None and len(meta[name]) != count
    ]


def _read_parquet(root: Path, problems: list[str]) -> list[Signature]:
    found = []
    for row in _parquet_rows(root):
        meta = json.loads(row["meta"])
        if meta["id"] != row["id"]:
            problems.append(f"parquet row {row['id']} says that it is {meta['id']}")
        problems += _scores(meta, "parquet")
        found.append(_signature(row["category"], row["source_points"], row["target_points"]))
    return found


def _parquet_rows(root: Path) -> Iterator[dict[str, Any]]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            "Parquet files need pyarrow: pip install 'warpkit-hyperfeatures[synth]'"
        ) from error
    columns = ["id", "category", "source_points", "target_points", "meta"]
    for path in sorted((root / "parquet").glob("*.parquet")):
        with path.open("rb") as file:  # pyarrow takes no name that is no UTF-8
            for batch in parquet.ParquetFile(file).iter_batches(batch_size=64, columns=columns):
                yield from batch.to_pylist()
