"""Matching points: the command's JSON, its picture, and the points it takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Ran

import warpkit
from warpkit.image.match import MatchSettings, parse_points
from warpkit.match.settings import MatchFilters
from warpkit.render import RenderedFrame

Cli = Callable[..., Ran]


def pair(files: Path) -> tuple[Path, Path]:
    return files / "frames/000.png", files / "frames/006.png"


def test_printed_json_equals_python(
    cli: Cli, files: Path, model: warpkit.Model, clip: list[RenderedFrame]
) -> None:
    ran = cli("match", *pair(files), "--points", "20,30; 41.5,22.25")
    assert (ran.code, ran.messages) == (0, [])
    result = json.loads(ran.out)
    assert list(result) == ["source_points", "target_points", "similarity", "valid"]
    assert result["source_points"] == [[20, 30], [41.5, 22.25]]
    found = model.match(clip[0].image, clip[-1].image, [[20, 30], [41.5, 22.25]])
    assert result["target_points"] == found.target_xy[:, 0].tolist()
    assert result["similarity"] == found.similarity[:, 0].tolist()
    assert result["valid"] == [True, True]


def test_file_and_picture(cli: Cli, files: Path, tmp_path: Path) -> None:
    out, picture = tmp_path / "m.json", tmp_path / "m.png"
    command = ("match", *pair(files), "--points", files / "points.json", "-o", out)
    ran = cli(*command, "--picture", picture)
    assert (ran.code, ran.messages) == (0, [])
    assert ran.out == f"open {picture}\n2 points written to {out}\n"
    result = json.loads(out.read_text())
    assert result["source_points"] == json.loads((files / "points.json").read_text())
    assert len(result["target_points"]) == len(result["similarity"]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.json", "m.png"]
    drawn = warpkit.read_image(picture)
    assert min(drawn.shape[:2]) >= 48

    out.write_text("mine")
    assert cli(*command).code == 2
    assert out.read_text() == "mine"
    assert cli(*command, "--overwrite").code == 0
    assert json.loads(out.read_text()) == result


def test_mask_restricts_candidates(cli: Cli, files: Path) -> None:
    ran = cli(
        *("match", *pair(files), "--points", "3,3;75,40;40,24"),
        *("--target-mask", files / "last_mask.png", "--set", "subpixel=false"),
    )
    mask = warpkit.read_mask(files / "last_mask.png")
    for x, y in json.loads(ran.out)["target_points"]:
        assert mask[round(y), round(x)]


def test_points_of_an_image_in_itself(model: warpkit.Model, clip: list[RenderedFrame]) -> None:
    points = [[10, 10], [40, 20], [70, 40]]
    config = MatchSettings(filters=MatchFilters(mutual=True))
    found = model.match(clip[0].image, clip[0].image, points, settings=config)
    assert np.abs(found.target_xy[:, 0].numpy() - points).max() <= 1
    assert found.similarity.min() > 0.999


def test_threshold_marks_invalid(cli: Cli, files: Path) -> None:
    ran = cli("match", *pair(files), "--points", "3,3", "--set", "min_similarity=1")
    assert json.loads(ran.out)["valid"] == [False]


@pytest.mark.parametrize("text", ["1,2;3.5,4", " 1 , 2 ; 3.5 , 4 ;", "list.json", "object.JSON"])
def test_ways_to_give_points(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.json").write_text("[[1, 2], [3.5, 4]]")
    Path("object.JSON").write_text('{"source_points": [[1, 2], [3.5, 4]], "more": 1}')
    points = parse_points(text)
    assert points.dtype == np.float32
    assert points.tolist() == [[1, 2], [3.5, 4]]


def test_result_is_read_back_as_points(cli: Cli, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.json"
    assert cli("match", *pair(files), "--points", "20,30;40,20", "-o", out).code == 0
    assert parse_points(str(out)).tolist() == [[20, 30], [40, 20]]


def test_points_up_to_the_rim(cli: Cli, files: Path) -> None:
    assert cli("match", *pair(files), "--points=-0.5,-0.5;79.5,47.5").code == 0
    assert cli("match", *pair(files), "--points=-0.6,0").code == 2


def test_an_input_is_never_replaced(cli: Cli, files: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "a.png", pair(files)[1]
    source.write_bytes(pair(files)[0].read_bytes())
    before = source.read_bytes()
    command = ("match", source, target, "--points", "3,4", "--overwrite")
    for extra in (("-o", source), ("--picture", source), ("-o", "/dev/full")):
        ran = cli(*command, *extra)
        assert ran.code == 2
        assert "is an input or no ordinary file" in ran.messages[0]
    same = ("-o", tmp_path / "x.png", "--picture", tmp_path / "x.png")
    assert "cannot share a file" in cli(*command, *same).messages[0]
    assert source.read_bytes() == before


def test_results_that_cannot_be_written_replace_none(cli: Cli, files: Path, tmp_path: Path) -> None:
    for name in ("m.json", "p.png"):
        (tmp_path / name).write_text("mine")
    command = ("match", *pair(files), "--points", "3,4", "--overwrite", "-o", tmp_path / "m.json")
    ran = cli(*command, "--picture", tmp_path / "p.png", "--similarity", tmp_path / "s.gif")
    assert ran.code == 2
    assert ran.messages == [
        f"warpkit match: {tmp_path}/s.gif: cannot write images of suffix '.gif': use one of"
        " .png, .jpg, .jpeg, .webp"
    ]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "m.json": "mine",
        "p.png": "mine",
    }
