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
from warpkit.image.foreground import ForegroundModel, load_foreground
from warpkit.image.found_masks import with_found_masks
from warpkit.image.pair import ImagePair
from warpkit.render import CLIPS, RenderedFrame, render_frame


@pytest.fixture(scope="module")
def network() -> ForegroundModel:
    return load_foreground("cpu")


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
    network: ForegroundModel, fish: tuple[RenderedFrame, ...], said: Callable
) -> None:
    pair = with_found_masks(ImagePair.checked(*(frame.image for frame in fish)), network)
    assert overlap(pair.source_mask, fish[0].labels > 0) > 0.7
    assert overlap(pair.target_mask, fish[1].labels > 0) > 0.7
    assert said()[0].startswith("found the object: ")
    assert "--mask none" in said()[0]


def test_given_masks_stay(network: ForegroundModel, fish: tuple[RenderedFrame, ...]) -> None:
    given = np.zeros((96, 160), bool)
    given[5:20, 7:30] = True
    pair = ImagePair.checked(fish[0].image, fish[1].image, source_mask=given)
    found = with_found_masks(pair, network)
    np.testing.assert_array_equal(found.source_mask, given)
    assert overlap(found.target_mask, fish[1].labels > 0) > 0.7
    # Transparency is a mask that was given.
    alpha = np.where(given, 255, 0).astype(np.uint8)
    pair = ImagePair.checked(np.dstack([fish[0].image, alpha]), fish[1].image)
    np.testing.assert_array_equal(with_found_masks(pair, network).source_mask, given)


def test_what_is_doubtful_is_not_taken(
    network: ForegroundModel, fish: tuple[RenderedFrame, ...], said: Callable
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 160, 3), np.uint8)
    pair = with_found_masks(ImagePair.checked(fish[0].image, noise), network)
    assert pair.source_mask is None
    assert pair.target_mask is None
    (line,) = said()
    assert line.startswith("the target: ")
    assert "Whole pictures are warped; give --target-mask" in line


def test_a_guide_off_what_was_found_is_said(
    network: ForegroundModel, fish: tuple[RenderedFrame, ...], said: Callable
) -> None:
    y, x = (int(values.mean()) for values in np.nonzero(fish[0].labels))
    guides = [[[x, y], [0.0, 95.0]]]
    pair = ImagePair.checked(fish[0].image, fish[1].image, guides=guides)
    found = with_found_masks(pair, network)
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
    model: warpkit.Model, fish: tuple[RenderedFrame, ...], network: ForegroundModel
) -> None:
    images = [frame.image for frame in fish]
    found = with_found_masks(ImagePair.checked(*images), network)
    expected = model.warp(
        *images, source_mask=found.source_mask.numpy(), target_mask=found.target_mask.numpy()
    )
    np.testing.assert_array_equal(model.warp(*images).composite, expected.composite)
    whole = model.warp(*images, settings=WarpSettings(mask="none"))
    assert (whole.warped[..., 3] > 0).sum() > (expected.warped[..., 3] > 0).sum()
