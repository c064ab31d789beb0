"""Matching points: the command's JSON, its picture, and the points it takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Ran

import warpkit
from warpkit.arrays import Image
from warpkit.image.match import MatchSettings, match, parse_points
from warpkit.match.settings import MatchFilters
from warpkit.render import RenderedFrame
from warpkit.types import DescriptorMap

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
    np.testing.assert_allclose(result["target_points"], found.target_xy[:, 0], atol=5.1e-4)
    np.testing.assert_allclose(result["similarity"], found.similarity[:, 0], atol=5.1e-5)
    assert max(len(str(value)) for value in result["similarity"]) <= 6
    assert result["valid"] == [True, True]


def test_file_and_picture(cli: Cli, files: Path, tmp_path: Path) -> None:
    out, picture = tmp_path / "m.json", tmp_path / "m.png"
    command = ("match", *pair(files), "--points", files / "points.json", "-o", out)
    ran = cli(*command, "--picture", picture)
    assert (ran.code, ran.messages) == (0, [])
    rule = (
        "matched back, they end within 10 % of the source object's longer side from where they"
        " began"
    )
    assert ran.out == f"open {picture}\n2 points written to {out}, 2 valid ({rule})\n"
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


class TwoPlaces:
    """Two places of the source are like one of the target; the second is more so."""

    name = "two-places"

    def describe(self, images: Sequence[Image]) -> list[DescriptorMap]:
        source, target = torch.zeros(2, 3, 30, 40).unbind()
        source[0], target[2] = 1, 1
        source[:, 5, 5] = torch.tensor([0.6, 0.8, 0])
        source[:, 20, 35] = target[:, 10, 20] = torch.tensor([0.0, 1, 0])
        maps = (DescriptorMap.covering(found, height=30, width=40) for found in (source, target))
        return list(maps)


@pytest.mark.parametrize(
    ("filters", "valid"),
    [
        ({}, [False, True]),
        ({"min_similarity": 0.5}, [True, True]),
        ({"min_similarity": 0.9}, [False, True]),
        ({"cycle_distance": 34}, [True, True]),
        ({"cycle_distance": 33}, [False, True]),  # the places are 33.5 pixels apart
        ({"mutual": True}, [False, True]),
    ],
)
def test_what_is_valid(filters: dict[str, Any], valid: list[bool]) -> None:
    image = np.zeros((30, 40, 3), np.uint8)
    points, settings = [[5, 5], [35, 20]], MatchSettings(filters=MatchFilters(**filters))
    found = match(image, image, points, describer=TwoPlaces(), settings=settings)
    assert found.target_xy[:, 0].tolist() == [[20, 10], [20, 10]]
    assert found.valid[:, 0].tolist() == valid


def test_the_way_back_ends_inside_the_source_mask() -> None:
    image, mask = np.zeros((30, 40, 3), np.uint8), np.zeros((30, 40), bool)
    mask[3:8, 2:9] = True
    found = match(image, image, [[5, 5]], describer=TwoPlaces(), source_mask=mask)
    assert found.valid.tolist() == [[True]]


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_coherent_field_s_matches_are_valid_in_the_image_itself(
    model: warpkit.Model, clip: list[RenderedFrame], mirrored: bool
) -> None:
    image = clip[0].image
    target = np.ascontiguousarray(image[:, ::-1]) if mirrored else image
    settings = MatchSettings(field="coherent", mirror="always" if mirrored else "never")
    found = model.match(image, target, [[10, 10], [40, 20], [70, 40]], settings=settings)
    assert found.valid.all()
    blank = np.zeros_like(target)
    none = model.match(image, blank, [[10, 10], [70, 40]], settings=settings)
    assert not none.valid.all()


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
