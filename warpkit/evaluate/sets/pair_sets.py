"""The data sets of annotated pairs by name: which reader, which pairs of it, what was left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from warpkit.checks import counted, exists, is_file, one_of, require
from warpkit.datasets.cub import read_cub, read_cub_index
from warpkit.datasets.dhf import read_dhf_json
from warpkit.datasets.draw import name_ranks
from warpkit.datasets.pair import AnnotatedPair
from warpkit.datasets.pf_pascal import read_pf_pascal
from warpkit.datasets.pf_willow import read_pf_willow
from warpkit.datasets.spair import read_spair
from warpkit.datasets.synth import read_synth
from warpkit.datasets.tss import read_tss
from warpkit.datasets.usable import usable_pairs
from warpkit.evaluate.predict import Threshold
from warpkit.evaluate.prediction_files import relative_name

__all__ = ["PAIR_SETS", "PairSet", "PairSetOptions", "read_pair_set"]

PAIR_SETS: dict[str, tuple[str, Threshold]] = {
    "spair71k": ("SPair-71k", "box"),
    "dhf-json": ("pair list", "box"),
    "cub": ("CUB-200-2011", "box"),
    "pf-pascal": ("PF-PASCAL", "image"),
    "pf-willow": ("PF-WILLOW", "box"),
    "tss": ("TSS", "image"),
    "synth": ("synthetic", "image"),
}
"""Name: title in tables, and the threshold that is customary in the literature."""

# Pairs of CUB are drawn, not listed; the paper draws 360.
_CUB_PAIRS = 360


@dataclass(frozen=True, kw_only=True)
class PairSetOptions:
    """Which pairs of a data set are evaluated; an option that a set does not have is an error.

    Attributes:
        split: `train`, `val` or `test` of `spair71k` and `pf-pascal`, `train`, `test` or `all` of
            `cub`; None is `test`, and for a CUB index, which has no splits, everything.
        category: only this category of `spair71k`.
        species: only these species numbers of `cub`; empty for all.
        pairing: `cub` pairs of one species, of two, or any.
        stride: `tss` points lie on every `stride`-th row and column.
        images: folder that the paths of a `dhf-json` list are relative to; None is the root.
    """

    split: Literal["train", "val", "test", "all"] | None = None
    category: str | None = None
    species: tuple[int, ...] = ()
    pairing: Literal["same", "cross", "any"] = "same"
    stride: int = 4
    images: Path | None = None


@dataclass(frozen=True, eq=False)
class PairSet:
    """The pairs to evaluate.

    Attributes:
        name: as in `PAIR_SETS`.
        title: for tables, with what was chosen.
        root: the folder that image names are relative to.
        pairs: usable pairs.
        problems: one line for every item left out.
        threshold: the customary one.
    """

    name: str
    title: str
    root: Path
    pairs: tuple[AnnotatedPair, ...]
    problems: tuple[str, ...]
    threshold: Threshold


def read_pair_set(
    name: str,
    root: Path,
    *,
    options: PairSetOptions | None = None,
    count: int | None = None,
    seed: int = 0,
) -> PairSet:
    """Read a data set and check every pair of it.

    Args:
        name: a key of `PAIR_SETS`.
        root: the data set's folder as distributed; a folder with an index for `cub`; the list's
            file, or a folder that holds exactly one, for `dhf-json`.
        options: which pairs.
        count: that many pairs, drawn without replacement; None takes all (360 for `cub`).
        seed: seeds the draw.

    Raises:
        InputError: an unknown name, an option of another set, fewer than `count` pairs, or nothing
            usable.
    """
    one_of(name, PAIR_SETS, "data set")
    options = options or PairSetOptions()
    _check_options(name, options)
    require(count is None or count > 0, f"the number of pairs must be positive, got {count}")
    require(exists(root), f"{root}: no such folder; --root names the data set's own")
    title, threshold = PAIR_SETS[name]
    details: list[str] = []
    image_root = root
    if name == "cub":
        pairs, problems = _read_cub(root, options, count or _CUB_PAIRS, seed)
        details = [{"same": "same species", "cross": "across species"}.get(options.pairing, "")]
        details += [f"species {', '.join(map(str, options.species))}"] if options.species else []
        details += [options.split or ""]
        details += [f"seed {seed}"] if seed else []
    elif name == "dhf-json":
        list_file = _only_json(root)
        image_root = options.images or list_file.parent
        pairs, problems = read_dhf_json(list_file, image_root)
        details = [list_file.stem]
    elif name == "spair71k":
        split = options.split or "test"
        pairs, problems = read_spair(root, split, category=options.category)
        details = [split, options.category or ""]
    elif name == "pf-pascal":
        split = options.split or "test"
        pairs, problems = read_pf_pascal(root, split)
        details = [split]
    elif name == "pf-willow":
        pairs, problems = read_pf_willow(root)
        details = [counted(len({pair.category for pair in pairs}), "folder")]
    elif name == "tss":
        pairs, problems = read_tss(root, stride=options.stride)
    else:
        pairs, problems = read_synth(root)
    pairs, more = usable_pairs(pairs)
    if count is not None and name != "cub":
        require(
            count <= len(pairs),
            f"{root} has {counted(len(pairs), 'usable pair')}: ask for no more than that, not"
            f" {count}",
        )
        names = [_pair_name(pair, image_root) for pair in pairs]
        drawn = np.argsort(name_ranks(names, seed=seed), kind="stable")[:count]
        # In the set's own order, which keeps the images of a category together.
        pairs = [pairs[i] for i in sorted(drawn.tolist())]
        details.append(f"{counted(count, 'pair')} drawn, seed {seed}")
    details = [detail for detail in details if detail]
    return PairSet(
        name=name,
        title=f"{title} ({', '.join(details)})" if details else title,
        root=image_root,
        pairs=tuple(pairs),
        problems=(*problems, *more),
        threshold=threshold,
    )


def _pair_name(pair: AnnotatedPair, root: Path) -> str:
    ends = (relative_name(path, root) for path in (pair.source_path, pair.target_path))
    return "\0".join([*ends, pair.category])


def _check_options(name: str, options: PairSetOptions) -> None:
    """Raise where an option is set that the data set does not have."""
    default = PairSetOptions()
    owners = {
        "split": ("spair71k", "pf-pascal", "cub"),
        "category": ("spair71k",),
        "species": ("cub",),
        "pairing": ("cub",),
        "stride": ("tss",),
        "images": ("dhf-json",),
    }
    for option, sets in owners.items():
        given = getattr(options, option)
        require(
            name in sets or given == getattr(default, option),
            f"'{option}' is an option of {', '.join(sets)}, not of {name}: leave it out",
        )
    require(
        options.split is None
        or (options.split in ("train", "test", "all") if name == "cub" else options.split != "all"),
        f"{name} has no split '{options.split}'",
    )


def _read_cub(
    root: Path, options: PairSetOptions, count: int, seed: int
) -> tuple[list[AnnotatedPair], list[str]]:
    """CUB as distributed, or an index of a part of it."""
    if (root / "images.txt").is_file():
        split = options.split or "test"
        assert split != "val"  # `_check_options` refused it
        return read_cub(
            root,
            pairs=count,
            seed=seed,
            pairing=options.pairing,
            split=None if split == "all" else split,
            species=options.species or None,
        )
    require(
        options.split in (None, "all"),
        f"{root} is an index, which has no split '{options.split}': leave it out",
    )
    return read_cub_index(
        root, options.species or None, pairs=count, seed=seed, pairing=options.pairing
    )


def _only_json(root: Path) -> Path:
    if is_file(root):
        return root
    found = sorted(root.glob("*.json"))
    require(
        len(found) == 1,
        f"{root} must hold exactly one .json list of pairs, got {len(found)}: name the file",
    )
    return found[0]
