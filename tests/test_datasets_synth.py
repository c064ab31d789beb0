"""Synthesised sets, and pair lists written and read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pair_files import make_image, make_pair

from warpkit.checks import InputError
from warpkit.datasets.dhf import read_dhf_json, write_dhf_json
from warpkit.datasets.pair import AnnotatedPair
from warpkit.datasets.synth import read_synth


def same(first: AnnotatedPair, second: AnnotatedPair) -> bool:
    return (
        first.source_path == second.source_path
        and first.target_path == second.target_path
        and first.source_points.tobytes() == second.source_points.tobytes()
        and first.target_points.tobytes() == second.target_points.tobytes()
        and (first.source_box, first.target_box) == (second.source_box, second.target_box)
        and first.category == second.category
    )


def test_synth_reads_back_what_is_written(tmp_path: Path) -> None:
    make_image(tmp_path / "a.png")
    make_image(tmp_path / "sub/b.png")
    random = np.random.default_rng(0).random((2, 50, 2)).astype(np.float32)
    written = [
        make_pair(tmp_path),
        make_pair(tmp_path, source_points=random[0], target_points=random[1], category="dog"),
    ]
    write_dhf_json(tmp_path / "pairs.json", written, tmp_path)
    item = json.loads((tmp_path / "pairs.json").read_text(encoding="utf-8"))[0]
    assert item["target_path"] == "sub/b.png"
    assert item["source_points"] == [[1, 2], [3.25, 4], [39, 29]]
    assert item["target_bounding_box"] == [1, 2.5, 12, 11]
    for pairs, problems in (
        read_synth(tmp_path),
        read_dhf_json(tmp_path / "pairs.json", tmp_path),
    ):
        assert problems == []
        assert all(same(*both) for both in zip(pairs, written, strict=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "pairs.json", "sub"]


def test_write_dhf_json_refuses(tmp_path: Path) -> None:
    make_image(tmp_path / "a.png")
    path = tmp_path / "pairs.json"
    with pytest.raises(InputError, match="expected pairs to write, got none"):
        write_dhf_json(path, [], tmp_path)
    with pytest.raises(InputError, match=r"a\.png does not lie below .*sub"):
        write_dhf_json(path, [make_pair(tmp_path)], tmp_path / "sub")
    with pytest.raises(InputError, match="does not exist: create it"):
        write_dhf_json(tmp_path / "none/pairs.json", [make_pair(tmp_path)], tmp_path)
    assert not path.exists()


def test_synth_needs_its_list(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder: expected a synthesised set"):
        read_synth(tmp_path / "none")
    with pytest.raises(InputError, match=r"no such file: .*pairs\.json"):
        read_synth(tmp_path)
