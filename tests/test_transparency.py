"""Transparency is a mask: cut-outs with rubbish under what is transparent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from conftest import Ran
from PIL import Image
from small_synthesis import OPTIONS, settings

import warpkit
from warpkit.image.match import MatchSettings
from warpkit.image.warp import WarpSettings, run_warp
from warpkit.render import RenderedFrame
from warpkit.synthesize.config import MaskConfig, QualityConfig, SplitConfig
from warpkit.synthesize.run import run_synthesize

Cli = Callable[..., Ran]
Pixels = npt.NDArray[np.uint8]


@pytest.fixture
def cutouts(clip: list[RenderedFrame]) -> list[Pixels]:
    """Ten objects, RGBA, with soft edges; what is transparent is black."""
    shown = [(frame.image, frame.labels > 0) for frame in clip]
    shown += [(255 - image[:, ::-1], mask[:, ::-1]) for image, mask in shown[:3]]
    found = []
    for image, mask in shown:
        around = np.pad(mask.astype(np.float64), 1, mode="edge")
        near = sum(around[y : y + 48, x : x + 80] for y in range(3) for x in range(3)) / 9
        alpha = np.rint(255 * near).astype(np.uint8)
        found.append(np.dstack([image * (alpha > 0)[..., None], alpha]))
    return found


def with_rubbish(cutout: Pixels, seed: int) -> Pixels:
    """The same to look at: noise where nothing can be seen."""
    noise = np.random.default_rng(seed).integers(0, 256, cutout.shape, np.uint8)
    noise[..., 3] = 0
    return np.where(cutout[..., 3:] == 0, noise, cutout)


@pytest.mark.parametrize("number", range(10))
def test_warp_of_cut_outs_equals_that_with_their_alpha_as_masks(
    model: warpkit.Model, tmp_path: Path, cutouts: list[Pixels], number: int
) -> None:
    pair = {"source": cutouts[number], "target": cutouts[(number + 3) % 10]}
    for seed in (1, 2):
        (tmp_path / str(seed)).mkdir()
        for name, cutout in pair.items():
            warpkit.write_image(tmp_path / f"{seed}/{name}.png", with_rubbish(cutout, seed))
            mask = (cutout[..., 3] >= 128).astype(np.uint8)
            warpkit.write_labels(tmp_path / f"{name}_mask.png", mask)
    masks = {f"{name}_mask": tmp_path / f"{name}_mask.png" for name in pair}
    for folder, seed, given in (("a", 1, {}), ("b", 2, {}), ("c", 1, masks)):
        files = [tmp_path / f"{seed}/{name}.png" for name in pair]
        run_warp(*files, tmp_path / folder, describer=model.describer, **given)
    for name in ("warped.png", "composite.png", "overview.png", "warp.npz"):
        ours = (tmp_path / "a" / name).read_bytes()
        assert ours == (tmp_path / "b" / name).read_bytes(), name
        assert ours == (tmp_path / "c" / name).read_bytes(), name
    composite = warpkit.read_rgba(tmp_path / "a/composite.png")
    assert np.array_equal(composite[..., 3], pair["target"][..., 3])
    assert not composite[composite[..., 3] == 0].any()
    record = json.loads((tmp_path / "a/run.json").read_text())
    assert record["inputs"]["source_mask"] is None


def test_the_soft_edge_has_the_new_colours(model: warpkit.Model, cutouts: list[Pixels]) -> None:
    target = cutouts[2].copy()
    source = np.full_like(target, 255)
    source[..., :3] = (250, 10, 200)
    source[:2, :, 3] = 0  # transparent in part
    result = model.warp(source, target)
    alpha = target[..., 3]
    away = cv2.distanceTransform((alpha < 128).astype(np.uint8), cv2.DIST_L2, 5)
    beside = (alpha > 0) & (away > 0) & (away < 1.9)
    assert beside.sum() > 20
    seen = result.composite[beside | (alpha >= 128)][:, :3].astype(int)
    assert np.abs(seen - (250, 10, 200)).max() <= 1


def test_a_given_mask_wins_and_a_line_says_so(
    model: warpkit.Model, cutouts: list[Pixels], caplog: pytest.LogCaptureFixture
) -> None:
    source, target = with_rubbish(cutouts[2], 1), cutouts[3]
    given = np.zeros((48, 80), bool)
    given[10:30, 30:60] = True
    caplog.set_level("INFO", "warpkit")
    result = model.warp(source, target, source_mask=given)
    x, y = np.rint(result.warp.source_xy.numpy()[target[..., 3] >= 128]).astype(int).T
    assert given[y, x].all()
    assert [text for text in caplog.messages if "transparent" in text] == [
        "source is transparent in part: the source mask says what counts, not that"
    ]
    other = model.warp(with_rubbish(cutouts[2], 2), target, source_mask=given)
    assert np.array_equal(result.composite, other.composite)


def test_alpha_that_is_opaque_everywhere_changes_nothing(
    model: warpkit.Model, clip: list[RenderedFrame]
) -> None:
    def rgba(image: Pixels) -> Pixels:
        return np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])

    source, target = clip[0].image, clip[-1].image
    plain, opaque = model.warp(source, target), model.warp(rgba(source), rgba(target))
    assert opaque.composite.shape == (48, 80, 3)
    assert np.array_equal(plain.composite, opaque.composite)


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P"])
def test_every_kind_of_transparency_is_a_mask(
    cli: Cli, tmp_path: Path, cutouts: list[Pixels], kind: str
) -> None:
    alpha = cutouts[2][..., 3] >= 128
    picture = Image.fromarray(np.dstack([cutouts[2][..., :3], alpha.astype(np.uint8) * 255]))
    if kind == "P":
        index = np.where(alpha, cutouts[2][..., 0] // 2, 200).astype(np.uint8)
        picture = Image.fromarray(index)
        picture.putpalette([level // 3 for level in range(768)])
        picture.save(tmp_path / "cut.png", transparency=200)
    else:
        picture.convert(kind).save(tmp_path / "cut.png")
    ran = cli("warp", tmp_path / "cut.png", tmp_path / "cut.png", "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    warped = warpkit.read_rgba(tmp_path / "out/warped.png")
    assert np.array_equal(warped[..., 3] == 255, alpha)


def test_match_finds_points_in_what_is_opaque(model: warpkit.Model, cutouts: list[Pixels]) -> None:
    source, target = cutouts[2], cutouts[3]
    points = [[40, 24], [50, 20]]
    found = model.match(source, target, points, settings=MatchSettings(field="nearest"))
    again = model.match(with_rubbish(source, 1), with_rubbish(target, 2), points)
    masked = model.match(source, target, points, target_mask=target[..., 3] >= 128)
    assert np.array_equal(found.target_xy, again.target_xy)
    assert np.array_equal(found.target_xy, masked.target_xy)


def test_nothing_to_see_is_refused(model: warpkit.Model, clip: list[RenderedFrame]) -> None:
    empty = np.zeros((48, 80, 4), np.uint8)
    with pytest.raises(warpkit.InputError, match="target is transparent everywhere"):
        model.warp(clip[0].image, empty)


def test_strength_of_what_is_laid_over(model: warpkit.Model, cutouts: list[Pixels]) -> None:
    source, target = cutouts[4], cutouts[5]
    whole, half, none = (
        model.warp(source, target, settings=WarpSettings(strength=share)).composite.astype(int)
        for share in (1.0, 0.5, 0.0)
    )
    assert np.array_equal(none, target)
    assert np.abs(half - (whole + none) / 2).max() <= 0.5
    with pytest.raises(warpkit.InputError, match="strength must lie between 0 and 1, got 2"):
        WarpSettings(strength=2)


@pytest.mark.parametrize("kind", ["whole", "found"])
def test_cut_outs_of_a_folder_are_their_own_masks(
    cutouts: list[Pixels], tmp_path: Path, kind: str
) -> None:
    (tmp_path / "photos").mkdir()
    for number, cutout in enumerate(cutouts[:2]):
        path = tmp_path / f"photos/{number}.png"
        warpkit.write_image(path, with_rubbish(cutout, number))
    asked = settings(
        images=tmp_path / "photos",
        known_warps=True,
        pairs=2,
        suffix="png",
        masks=MaskConfig(kind=kind),  # type: ignore[arg-type]
        quality=QualityConfig(images=0, sheets=1),
        splits=SplitConfig(val=0, test=0),
    )
    assert run_synthesize(tmp_path / "out", settings=asked, options=OPTIONS)["kept"] == 2
    wanted = {(cutout[..., 3] >= 128).tobytes() for cutout in cutouts[:2]}
    found = set()
    for path in (tmp_path / "out/Segmentation/photos").iterdir():
        mask = warpkit.read_mask(path)
        if mask.tobytes() in wanted:  # the others are bent
            found.add(mask.tobytes())
            image = warpkit.read_image(tmp_path / "out/JPEGImages/photos" / path.name)
            assert len(np.unique(image[~mask], axis=0)) == 1  # no rubbish
    assert found == wanted
