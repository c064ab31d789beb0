"""Pictures of README and docs are those that their scripts make of today's inputs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import make_pictures
import numpy as np
import pytest
from make_pictures import GROUPS, IMAGES, RECORD, ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
KNOWN = [name for group in GROUPS.values() for name in group.pictures]


def recorded() -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads(RECORD.read_text(encoding="utf-8"))
    return found


def test_every_picture_is_made_by_a_script_and_shown() -> None:
    there = {p.relative_to(IMAGES).as_posix() for p in IMAGES.rglob("*") if p.is_file()}
    assert there - {RECORD.name} == set(KNOWN)
    assert len(KNOWN) == len(set(KNOWN))
    shown = {
        (document.parent / target).resolve().relative_to(IMAGES).as_posix()
        for document in DOCUMENTS
        for target in re.findall(
            r"!\[[^\]]*\]\(((?!https?:)[^)\s]+)\)", document.read_text(encoding="utf-8")
        )
    }
    assert shown == set(KNOWN)


def test_every_picture_is_made_from_todays_inputs() -> None:
    """Where this fails: `make gallery`, look at what changed, and commit it."""
    assert list(recorded()) == list(GROUPS)
    results = make_pictures.small_results()
    assert make_pictures.stale(recorded(), results) == {}


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, object]]:
    """A record of one group, whose script writes a picture of one byte."""
    (tmp_path / "images").mkdir()
    script = "import pathlib, sys; pathlib.Path(sys.argv[1], 'a.png').write_bytes(b'1')"
    (tmp_path / "draw.py").write_text(script)
    made = make_pictures.Group(
        commands=(("draw.py", "{out}"),),
        pictures={"a.png": "a.png"},
        inputs=("draw.py",),
        results=("warp",),
    )
    monkeypatch.setattr(make_pictures, "GROUPS", {"one": made})
    monkeypatch.setattr(make_pictures, "ROOT", tmp_path)
    monkeypatch.setattr(make_pictures, "IMAGES", tmp_path / "images")
    make_pictures.make(made)
    return {"one": make_pictures.facts(made, {"warp": ["00ff80"]})}


def test_what_makes_a_picture_stale(group: dict[str, dict[str, object]], tmp_path: Path) -> None:
    def reason(results: str = "00ff80") -> str:
        return make_pictures.stale(group, {"warp": [results], "match": ["00"]}).get("one", "")

    assert (tmp_path / "images/a.png").read_bytes() == b"1"
    assert reason() == ""
    assert reason("04fb84") == ""  # off by 4: as between two machines
    assert reason("05ff80") == "the program computes something else"
    assert reason("00ff") == "the program computes something else"
    known = group["one"].pop("results")
    assert reason() == "what is computed for it was never recorded"
    group["one"]["results"] = known
    (tmp_path / "images/a.png").write_bytes(b"2")
    assert reason() == "a picture is not the one that was made"
    (tmp_path / "images/a.png").unlink()
    assert reason() == "a picture is not the one that was made"
    (tmp_path / "draw.py").write_text("other")
    assert reason().startswith("an input changed (")
    assert make_pictures.stale({}, {"warp": ["00ff80"]}) == {"one": "was never made"}


def test_blocks_are_mean_colours() -> None:
    image = np.zeros((12, 16, 3), np.uint8)
    image[:2, 2:4] = 10, 20, 255  # the second of the blocks of 2 x 2
    image[11, 15] = 4, 8, 12  # a quarter of the last one
    found = bytes.fromhex(make_pictures._blocks(image))
    assert len(found) == 6 * 8 * 3
    assert tuple(found[3:6]) == (10, 20, 255)
    assert tuple(found[-3:]) == (1, 2, 3)
    assert sum(found) == 10 + 20 + 255 + 1 + 2 + 3
