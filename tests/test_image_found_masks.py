"""Masks that `warp` finds where none is given."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import warpkit
from warpkit import WarpSettings
from warpkit.image.foreground import FoundObject, Hints, NothingFoundError, nothing_found
from warpkit.image.found_masks import with_found_masks
from warpkit.image.match import MatchSettings
from warpkit.image.pair import ImagePair
from warpkit.image.segment import Finder, object_finder
from warpkit.render import CLIPS, RenderedFrame, render_frame


@pytest.fixture(scope="module")
def finder() -> Finder:
    return object_finder("cpu")


@pytest.fixture(scope="module")
def fish() -> tuple[RenderedFrame, RenderedFrame]:
    spec = replace(CLIPS["fish"], height=96, width=160)
    return render_frame(spec, 0), render_frame(spec, 12)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO, "warpkit")
    return lambda: [record.getMessage() for record in caplog.records]


def overlap(found: torch.Tensor | None, mask: np.ndarray) -> float:
    assert found is not None
    return float((found.numpy() & mask).sum() / (found.numpy() | mask).sum())


def test_both_objects_are_found(
    finder: Finder, fish: tuple[RenderedFrame, ...], said: Callable
) -> None:
    pair = with_found_masks(ImagePair.checked(*(frame.image for frame in fish)), finder)
    assert overlap(pair.source_mask, fish[0].labels > 0) > 0.7
    assert overlap(pair.target_mask, fish[1].labels > 0) > 0.7
    assert said()[0].startswith("found the object: ")
    assert "--mask none" in said()[0]


def test_given_masks_stay(finder: Finder, fish: tuple[RenderedFrame, ...]) -> None:
    given = np.zeros((96, 160), bool)
    given[5:20, 7:30] = True
    pair = ImagePair.checked(fish[0].image, fish[1].image, source_mask=given)
    found = with_found_masks(pair, finder)
    np.testing.assert_array_equal(found.source_mask, given)
    assert overlap(found.target_mask, fish[1].labels > 0) > 0.7
    # Transparency is a mask that was given.
    alpha = np.where(given, 255, 0).astype(np.uint8)
    pair = ImagePair.checked(np.dstack([fish[0].image, alpha]), fish[1].image)
    np.testing.assert_array_equal(with_found_masks(pair, finder).source_mask, given)


def test_what_is_doubtful_is_not_taken(
    finder: Finder, fish: tuple[RenderedFrame, ...], said: Callable
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 160, 3), np.uint8)
    pair = with_found_masks(ImagePair.checked(fish[0].image, noise), finder)
    assert pair.source_mask is None
    assert pair.target_mask is None
    (line,) = said()
    assert line.startswith("the target: ")
    assert "), so whole pictures are warped: give --target-mask, painted or" in line


@pytest.mark.parametrize(
    ("finds", "reason"),
    [
        (nothing_found(), "no object was found"),
        (NothingFoundError("nothing was found for 'a: b'"), "nothing was found for 'a: b'"),
    ],
)
def test_nothing_that_is_found_is_said_with_its_reason(
    finds: NothingFoundError, reason: str, fish: tuple[RenderedFrame, ...], said: Callable
) -> None:
    def find(_image: np.ndarray, _hints: Hints) -> FoundObject:
        raise finds

    pair = with_found_masks(ImagePair.checked(*(frame.image for frame in fish)), find)
    assert pair.source_mask is None
    (line,) = said()
    assert line.startswith(
        f"the source: {reason}, so whole pictures are warped: give --source-mask"
    )


def test_what_cannot_look_is_not_taken_for_a_picture_without_an_object(
    cli: Callable, tmp_path: Path, fish: tuple[RenderedFrame, ...]
) -> None:
    folder = tmp_path / "damaged"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "sam2"}')
    (folder / "model.safetensors").write_bytes(b"nothing")
    pair = write_pair(tmp_path, fish)
    ran = cli("warp", *pair, "--segmenter", folder, "-o", tmp_path / "out")
    assert ran.code == 2
    assert f"{folder} " in ran.messages[-1]
    assert not (tmp_path / "out").exists()


def test_a_guide_off_what_was_found_is_said(
    finder: Finder, fish: tuple[RenderedFrame, ...], said: Callable
) -> None:
    y, x = (int(values.mean()) for values in np.nonzero(fish[0].labels))
    guides = [[[x, y], [0.0, 95.0]]]
    pair = ImagePair.checked(fish[0].image, fish[1].image, guides=guides)
    found = with_found_masks(pair, finder)
    assert found.target_mask is None or bool(found.target_mask[95, 0])
    assert said()


def test_the_command_finds_masks_unless_told(
    cli: Callable, tmp_path: Path, fish: tuple[RenderedFrame, ...]
) -> None:
    for name, frame in zip("ab", fish, strict=True):
        warpkit.write_image(tmp_path / f"{name}.png", frame.image)
    pair = tmp_path / "a.png", tmp_path / "b.png"
    assert cli("warp", *pair, "-o", tmp_path / "auto").code == 0
    shown = warpkit.read_rgba(tmp_path / "auto/warped.png")[..., 3] > 0
    assert overlap(torch.from_numpy(shown), fish[1].labels > 0) > 0.6
    for name, frame in zip(("source", "target"), fish, strict=True):
        found = torch.from_numpy(warpkit.read_mask(tmp_path / f"auto/{name}_mask.png"))
        assert overlap(found, frame.labels > 0) > 0.7
    record = json.loads((tmp_path / "auto/run.json").read_text())
    assert record["config"]["mask"] == "auto"
    assert cli("warp", *pair, "--mask", "none", "-o", tmp_path / "whole").code == 0
    whole = warpkit.read_rgba(tmp_path / "whole/warped.png")[..., 3] > 0
    assert whole.mean() > 2 * shown.mean()
    assert not (tmp_path / "whole/source_mask.png").exists()


def test_python_finds_them_too(
    model: warpkit.Model, fish: tuple[RenderedFrame, ...], finder: Finder
) -> None:
    images = [frame.image for frame in fish]
    found = with_found_masks(ImagePair.checked(*images), finder)
    expected = model.warp(
        *images, source_mask=found.source_mask.numpy(), target_mask=found.target_mask.numpy()
    )
    np.testing.assert_array_equal(model.warp(*images).composite, expected.composite)
    whole = model.warp(*images, settings=WarpSettings(mask="none"))
    assert (whole.warped[..., 3] > 0).sum() > (expected.warped[..., 3] > 0).sum()


def write_pair(folder: Path, fish: tuple[RenderedFrame, ...]) -> tuple[Path, Path]:
    pair = folder / "a.png", folder / "b.png"
    for path, frame in zip(pair, fish, strict=True):
        warpkit.write_image(path, frame.image)
    return pair


def test_matches_all_over_the_object_that_was_found(
    cli: Callable, tmp_path: Path, fish: tuple[RenderedFrame, ...], finder: Finder
) -> None:
    pair, out, drawn = write_pair(tmp_path, fish), tmp_path / "m.json", tmp_path / "m.png"
    ran = cli("match", *pair, "--all", "-o", out, "--picture", drawn, "--set", "spacing=8")
    assert ran.code == 0, ran.err
    expected = with_found_masks(ImagePair.checked(*(frame.image for frame in fish)), finder)
    assert expected.source_mask is not None
    assert expected.target_mask is not None
    result = json.loads(out.read_text())
    for role in ("source", "target"):
        mask = getattr(expected, f"{role}_mask").numpy()
        np.testing.assert_array_equal(warpkit.read_mask(tmp_path / f"m_{role}_mask.png"), mask)
        for x, y in result[f"{role}_points"]:
            assert mask[round(y), round(x)]
    share = len(result["source_points"]) * 64 / int(expected.source_mask.sum())
    assert 0.8 < share < 1.2  # a point every 8 x 8 pixels of the object
    assert drawn.is_file()
    # A mask and a picture cannot share a file, and no mask stays of a result that is replaced.
    shared = ("--picture", tmp_path / "m_source_mask.png", "--overwrite")
    assert "cannot share a file" in cli("match", *pair, "--all", "-o", out, *shared).messages[0]
    again = ("match", *pair, "--all", "-o", out, "--set", "spacing=32", "--overwrite")
    masks = [tmp_path / f"m_{role}_mask.png" for role in ("source", "target")]
    ran = cli(*again, "--source-mask", masks[0], "--target-mask", masks[1])
    assert ran.code == 0, ran.err
    assert all(mask.is_file() for mask in masks)  # inputs stay
    ran = cli(*again, "--mask", "none")
    assert ran.code == 0, ran.err
    left = ["a.png", "b.png", "m.json", "m.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left
    # What lies where a mask would go is not replaced.
    (tmp_path / "m_target_mask.png").write_text("mine")
    out.unlink()
    drawn.unlink()
    assert "m_target_mask.png exists" in cli("match", *pair, "--all", "-o", out).messages[0]
    assert not out.exists()


def test_a_match_of_given_points_finds_objects_only_when_told(
    model: warpkit.Model, fish: tuple[RenderedFrame, ...], finder: Finder, said: Callable
) -> None:
    images = [frame.image for frame in fish]
    y, x = (int(values.mean()) for values in np.nonzero(fish[0].labels))
    model.match(*images, [[x, y]])
    assert said() == []
    masks = with_found_masks(ImagePair.checked(*images), finder, source_points=[[x, y]])
    named = {"source_mask": masks.source_mask.numpy(), "target_mask": masks.target_mask.numpy()}
    found = model.match(*images, [[x, y]], settings=MatchSettings(mask="auto"))
    assert torch.equal(found.target_xy, model.match(*images, [[x, y]], **named).target_xy)
    # A point that is no part of the object: whole pictures are searched, which is said.
    off = model.match(*images, [[159, 0]], settings=MatchSettings(mask="auto"))
    assert torch.equal(off.target_xy, model.match(*images, [[159, 0]]).target_xy)
    assert "so whole pictures are matched: give --source-mask" in said()[-1]


def test_all_points_of_whole_pictures_and_of_given_masks(
    model: warpkit.Model, fish: tuple[RenderedFrame, ...], said: Callable
) -> None:
    images = [frame.image for frame in fish]
    whole = model.match(*images, settings=MatchSettings(mask="none", spacing=32))
    assert whole.source_xy.tolist() == [
        [x, y] for y in (15.5, 47.5, 79.5) for x in (15.5, 47.5, 79.5, 111.5, 143.5)
    ]
    mask = np.zeros((96, 160), bool)
    mask[32:64, 96:128] = True
    given = model.match(
        *images, source_mask=mask, target_mask=mask, settings=MatchSettings(spacing=32)
    )
    assert given.source_xy.tolist() == [[111.5, 47.5]]
    assert said() == []


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ((), "one of the arguments --points --all is required"),
        (("--all", "--points", "1,1"), "not allowed with argument"),
    ],
)
def test_points_and_all_exclude_each_other(
    cli: Callable, capsys: pytest.CaptureFixture, flags: tuple[str, ...], line: str
) -> None:
    with pytest.raises(SystemExit):
        cli("match", "a.png", "b.png", *flags)
    assert line in capsys.readouterr().err


def test_spacing_is_a_number_of_pixels() -> None:
    with pytest.raises(warpkit.InputError, match="spacing is a distance in pixels, 1 or more"):
        MatchSettings(spacing=0)
