"""Text as other tools write it, and names of files that are no UTF-8."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from warpkit.checks import InputError
from warpkit.datasets.davis import read_davis_split
from warpkit.datasets.dhf import read_dhf_json
from warpkit.evaluate.commands.table import read_result
from warpkit.image.match import parse_points
from warpkit.io.config import load_config
from warpkit.io.guides import read_guides
from warpkit.io.images import write_image
from warpkit.io.points import read_queries
from warpkit.io.tensors import read_tensors, write_tensors
from warpkit.io.text import local_path, read_json, read_lines, read_text
from warpkit.io.whole import write_json, write_text
from warpkit.synthesize.config import PairSettings
from warpkit.train.images import read_index
from warpkit.video.config import PropagateSettings

# As Notepad, PowerShell's `>`, Excel and others write it; with a mark, and without.
CODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")
LATIN = os.fsdecode(b"caf\xe9")
pytestmark = pytest.mark.filterwarnings("error")


def write(path: Path, text: str, coding: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.replace("\n", "\r\n").encode(coding))
    return path


@pytest.mark.parametrize("coding", CODINGS)
def test_text_of_every_coding(tmp_path: Path, coding: str) -> None:
    text = '{"name": "caf\u00e9 \u732b",\n "points": [1, 2]}\n'
    file = write(tmp_path / "a.json", text, coding)
    assert read_text(file) == text
    assert read_json(file) == {"name": "caf\u00e9 \u732b", "points": [1, 2]}
    assert read_lines(write(tmp_path / "b.txt", "one\n\n  two words \n", coding)) == [
        "one",
        "two words",
    ]


def test_old_line_ends_and_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "mac.txt").write_bytes(b"one\rtwo\r")
    assert read_text(tmp_path / "mac.txt") == "one\ntwo\n"
    (tmp_path / "latin.json").write_bytes(b'{\n "a": "caf\xe9"}')
    with pytest.raises(InputError, match=r"no text in UTF-8 \(.* in line 2\): save it as UTF-8"):
        read_json(tmp_path / "latin.json")
    (tmp_path / "half.json").write_bytes(b"\xff\xfe{\0\n")
    with pytest.raises(InputError, match="no text in UTF-16"):
        read_json(tmp_path / "half.json")


@pytest.mark.parametrize("coding", CODINGS)
def test_every_reader_of_text(tmp_path: Path, coding: str) -> None:
    def file(name: str, text: str) -> Path:
        return write(tmp_path / name, text, coding)

    queries = read_queries(file("p.csv", "frame,x,y\n2,5,6\n0,1.5,4\n"))
    assert queries.frames.tolist() == [2, 0]
    assert queries.xy.tolist() == [[5, 6], [1.5, 4]]
    assert read_queries(file("p.json", "[[1, 5, 6]]")).frames.tolist() == [1]
    assert parse_points(str(file("m.json", "[[5, 6]]"))).tolist() == [[5, 6]]
    guide = [[[1, 2], [3, 4]]]
    assert read_guides(file("g.csv", "1,2,3,4\n")).tolist() == guide
    assert read_guides(file("g.json", "[[[1, 2], [3, 4]]]")).tolist() == guide
    assert (
        load_config(PropagateSettings, file("c.yaml", "mode: forward-warp\n")).mode
        == "forward-warp"
    )
    assert read_result(file("r.json", '{"kind": "pck"}')) == {"kind": "pck"}
    assert read_index(file("index.json", '{"items": [{"y": 1}]}'))["items"] == [{"y": 1}]
    file("set/ImageSets/2017/val.txt", "caf\u00e9\nJPEGImages\\480p\\dog\\00000.jpg x\n")
    assert read_davis_split(tmp_path / "set", "2017/val") == ["caf\u00e9", "dog"]


@pytest.mark.parametrize("coding", CODINGS)
def test_pairs_as_windows_names_them(tmp_path: Path, coding: str) -> None:
    for name in "ab":
        (tmp_path / "img").mkdir(exist_ok=True)
        write_image(tmp_path / f"img/{name}.png", np.zeros((9, 9, 3), np.uint8))
    pair = {f"{end}_points": [[1, 2]] for end in ("source", "target")}
    pair |= {f"{end}_bounding_box": [0, 0, 5, 5] for end in ("source", "target")}
    pair |= {"source_path": "img\\a.png", "target_path": ".\\img\\b.png", "category": "x"}
    lost = pair | {"target_path": "D:\\set\\img\\b.png"}
    file = write(tmp_path / "pairs.json", json.dumps([pair, lost], indent=1), coding)
    (found,), problems = read_dhf_json(file, tmp_path)
    assert (found.source_path, found.target_path) == (
        tmp_path / "img/a.png",
        tmp_path / "img/b.png",
    )
    assert "'D:' is a drive of Windows" in problems[0]


def test_paths_of_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path / "c.yaml", "images: photos\\cats\n", "utf-16")
    assert load_config(PairSettings, file).images == Path("photos/cats")
    assert local_path("..\\a\\b.png") == Path("../a/b.png")
    # A name of this system may hold a backslash.
    (tmp_path / "a\\b").touch()
    assert local_path("a\\b") == Path("a\\b")


def test_names_that_are_no_utf8_are_read_back(tmp_path: Path) -> None:
    folder = tmp_path / LATIN
    folder.mkdir()
    facts = {"file": folder / "x.png", LATIN: [f"{LATIN} and \u732b"]}
    write_json(folder / "a.json", facts)
    text = (folder / "a.json").read_text(encoding="utf-8")  # valid, and readable where it can be
    assert "caf\\udce9" in text
    assert "\u732b" in text
    known = read_json(folder / "a.json")
    assert known == {"file": str(folder / "x.png"), LATIN: facts[LATIN]}
    assert Path(known["file"]).parent.is_dir()
    write_text(folder / "page.html", f"<h1>{LATIN}</h1>")
    assert (folder / "page.html").read_text(encoding="utf-8") == "<h1>caf\\udce9</h1>"
    write_tensors(folder / "t.safetensors", {"a": torch.ones(2)}, {"image": f"{LATIN}.png"})
    tensors, metadata = read_tensors(folder / "t.safetensors")
    assert tensors["a"].tolist() == [1, 1]
    assert metadata == {"image": "caf\\udce9.png"}


def test_a_list_of_names_that_are_no_utf8(tmp_path: Path) -> None:
    (tmp_path / "ImageSets").mkdir()
    (tmp_path / "ImageSets/old.txt").write_bytes(b"caf\xe9\r\n/JPEGImages/480p/\xfcb/0.jpg x\r\n")
    assert read_davis_split(tmp_path, "old") == [LATIN, os.fsdecode(b"\xfcb")]
