"""Splits of small sets: none with a share is empty where what there is allows it."""

from __future__ import annotations

import pytest
from small_synthesis import OPTIONS, made, settings, write_photos

from warpkit.datasets.dhf import read_dhf_json
from warpkit.synthesize.config import QualityConfig, SplitConfig
from warpkit.synthesize.plan import PhotoPlans
from warpkit.synthesize.records import Record
from warpkit.synthesize.run import run_synthesize
from warpkit.synthesize.splits import resplit, split_of, split_photos, wanted
from warpkit.synthesize.verify import verify_set

TENTHS = SplitConfig(val=0.1, test=0.1)
ALL = {"train", "val", "test"}


def photos(*sizes: int) -> dict[str, list[str]]:
    return {f"c{n}": [f"c{n}/{i:03d}.jpg" for i in range(size)] for n, size in enumerate(sizes)}


def splits_of(plans: PhotoPlans) -> dict[str, set[str]]:
    """The splits of each photograph."""
    found: dict[str, set[str]] = {}
    for number in range(len(plans)):
        pair = plans.pair(number)
        for end in (pair.source, pair.target):
            if end.path is not None:
                found.setdefault(end.path, set()).add(pair.split)
    return found


@pytest.mark.parametrize("sizes", [(6,), (8, 8), (3, 3, 3), (2, 2, 2), (4, 2), (20,), (1, 1, 6)])
@pytest.mark.parametrize("count", [3, 7, 40])
def test_photographs_leave_no_split_empty(sizes, count):
    for seed in range(3):
        plans = PhotoPlans(photos(*sizes), TENTHS, count, seed=seed)
        found = splits_of(plans)
        assert all(len(splits) == 1 for splits in found.values())
        assert set().union(*found.values()) == ALL
        ends = [(plans.pair(n).source.path, plans.pair(n).target.path) for n in range(len(plans))]
        assert len({frozenset(end) for end in ends}) == len(ends)


@pytest.mark.parametrize("sizes", [(3,), (1, 1, 1), (12,)])
def test_known_warps_leave_no_split_empty(sizes):
    found = splits_of(PhotoPlans(photos(*sizes), TENTHS, 5, seed=0, known_warps=True))
    assert all(len(splits) == 1 for splits in found.values())
    assert set().union(*found.values()) == ALL


@pytest.mark.parametrize(("sizes", "expected"), [((2,), {"train"}), ((2, 2), {"train", "val"})])
def test_training_comes_first_where_photographs_are_too_few(sizes, expected):
    plans = PhotoPlans(photos(*sizes), TENTHS, 40, seed=0)
    assert set().union(*splits_of(plans).values()) == expected


def test_a_large_set_is_split_by_its_names_alone():
    groups = split_photos(photos(80, 60), TENTHS, count=500, alone=False)
    for (_, split), paths in groups.items():
        assert {split_of(path, TENTHS) for path in paths} == {split}


def test_a_split_without_a_share_stays_empty():
    plans = PhotoPlans(photos(9), SplitConfig(val=0, test=0.1), 9, seed=0)
    assert set().union(*splits_of(plans).values()) == {"train", "test"}
    assert wanted(SplitConfig(val=0.2, test=0)) == ["train", "val"]


def kept(number: int, split: str, *paths: str) -> Record:
    ends = [{"path": path} for path in paths] or [{}, {}]
    meta = {"status": "kept", "split": split, "source": ends[0], "target": ends[-1]}
    return Record(f"{number:07d}", meta)


def test_pairs_that_share_a_photograph_move_together():
    records = [
        kept(0, "train", "a", "b"),
        kept(1, "train", "c", "d"),
        kept(2, "train", "e", "f"),
        kept(3, "train", "b", "c"),  # joins 0 and 1
        kept(4, "train", "g", "h"),
        Record("0000005", {"status": "dropped", "split": "val"}),
    ]
    assert resplit(records, TENTHS) == {"0000002": "val", "0000004": "test"}
    assert resplit(records, SplitConfig(val=0.1, test=0)) == {"0000002": "val"}
    assert resplit(records[:4], TENTHS) == {}  # two blocks cannot fill three splits
    assert resplit([kept(n, "val") for n in range(4)], TENTHS) == {
        "0000000": "train",
        "0000001": "test",
    }
    assert resplit([kept(0, "train"), kept(1, "val"), kept(2, "test")], TENTHS) == {}


def test_a_small_generated_set_has_all_lists(tmp_path):
    few = SplitConfig(val=0.05, test=0.05)
    config = settings(splits=few, quality=QualityConfig(images=0, sheets=0))
    assert "val" not in {split_of(f"{n:07d}", few) for n in range(6)}  # by their names alone
    facts = run_synthesize(tmp_path / "out", settings=config, options=OPTIONS)
    assert (facts["kept"], facts["splits"]) == (6, {"test": 1, "train": 4, "val": 1})
    for name, count in (("pairs", 4), ("pairs_val", 1), ("pairs_test", 1)):
        pairs, _ = read_dhf_json(tmp_path / f"out/{name}.json", tmp_path / "out")
        assert len(pairs) == count
    assert verify_set(tmp_path / "out")[-1] == "all formats hold the same pairs and points"


def test_a_split_that_cannot_be_filled_is_named(tmp_path, caplog):
    caplog.set_level("INFO", logger="warpkit")
    root = write_photos(tmp_path / "photos", ["猫"], each=2)
    facts = made(root, tmp_path / "out", 6, splits=TENTHS, formats=("dhf",))
    assert facts["kept"] >= 2
    assert set(facts["splits"]) == {"train", "val"}
    assert [r.getMessage() for r in caplog.records if "no pair is left" in r.getMessage()] == [
        f"no pair is left for test: too few were kept ({facts['kept']}), or they share their"
        " photographs; ask for more pairs, or set splits.val=0 splits.test=0"
    ]
