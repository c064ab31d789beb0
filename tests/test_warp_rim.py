"""Rims and light of composites, against composites that are known."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

import warpkit
from warpkit.warp import blend
from warpkit.warp.blend import lay_over
from warpkit.warp.rim import object_colors, with_nearest
from warpkit.warp.tone import relit

Pixels = npt.NDArray[np.uint8]
OLD, NEW = np.array([230, 40, 30]), np.array([40, 200, 90])
_SIZE = 64


def disc(soft: float = 0.8) -> npt.NDArray[np.float64]:
    """The share that a disc has of every pixel, (64, 64)."""
    y, x = np.mgrid[:_SIZE, :_SIZE]
    return 1 / (1 + np.exp((np.hypot(x - 31.3, y - 30.6) - 18) / (soft / 2)))


def before_sky(color: npt.NDArray[np.int_], dtype: type = np.uint8) -> npt.NDArray[np.uint16]:
    """A disc of one colour before a slope of blue: a picture and, with another, its truth."""
    sky = np.zeros((_SIZE, _SIZE, 3))
    sky[..., 2] = np.linspace(120, 250, _SIZE)[:, None]
    share = disc()[..., None]
    mixed = share * color + (1 - share) * sky
    return np.rint(mixed * (257 if dtype == np.uint16 else 1)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_feathered_object_leaves_no_rim_of_the_old_one(dtype: type) -> None:
    white = np.iinfo(dtype).max
    mask = disc() >= 0.5
    target, truth = before_sky(OLD, dtype), before_sky(NEW, dtype)
    laid = np.broadcast_to(NEW * (white // 255), target.shape).astype(dtype)
    how = {"mode": "feather", "feather_width": 4}
    ours = lay_over(target, laid, mask, outline=mask, **how)
    old = lay_over(target, laid, mask, **how)
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    inner = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    inside, outside = mask & (inner <= 3), ~mask & (distance <= 3)

    def error(image: npt.NDArray[np.uint16], where: npt.NDArray[np.bool_]) -> float:
        return float(np.abs(image.astype(float) - truth)[where].mean()) * 255 / white

    assert error(old, inside) > 50 and error(ours, inside) < 15
    assert error(old, outside) > 6 and error(ours, outside) < 2
    assert np.array_equal(ours[distance > 2], target[distance > 2])


def test_what_is_not_warped_keeps_the_old_object_and_fades_there() -> None:
    mask = disc() >= 0.5
    target = before_sky(OLD)
    laid = np.broadcast_to(NEW, target.shape).astype(np.uint8)
    valid = mask.copy()
    valid[:, :31] = False  # half of the object alone
    result = blend(target, laid, valid, mode="feather", feather_width=4, outline=mask)
    assert np.array_equal(result[:, :27], target[:, :27])
    assert np.array_equal(result[mask & ~valid], target[mask & ~valid])
    assert result[30, 31].tolist() == np.floor(0.2 * NEW + 0.8 * OLD + 0.5).tolist()
    assert result[30, 36].tolist() == NEW.tolist()


def test_paste_and_poisson_keep_all_outside() -> None:
    mask = disc() >= 0.5
    target = before_sky(OLD)
    laid = np.broadcast_to(NEW, target.shape).astype(np.uint8)
    for mode in ("paste", "poisson"):
        result = blend(target, laid, mask, mode=mode, outline=mask)
        assert np.array_equal(result[~mask], target[~mask])
    with pytest.raises(warpkit.InputError, match="valid reaches beyond the outline"):
        blend(target, laid, ~mask, outline=mask)


def test_an_object_is_freed_of_what_is_behind_it() -> None:
    mask = disc() >= 0.5
    image = before_sky(OLD)
    freed = object_colors(image, mask)
    before, after = (np.abs(each[mask].astype(int) - OLD).mean() for each in (image, freed))
    assert after < before / 3
    assert np.array_equal(freed[~mask], image[~mask])
    whole = np.ones_like(mask)
    assert np.array_equal(object_colors(image, whole), image)


def test_the_nearest_known_colours() -> None:
    image = np.arange(15, dtype=np.uint8).reshape(1, 5, 3)
    known = np.array([[True, False, False, False, True]])
    filled = with_nearest(image, known)[0, :, 0].tolist()
    assert filled[:2] + filled[3:] == [0, 0, 12, 12] and filled[2] in (0, 12)


def lightness(image: Pixels) -> npt.NDArray[np.float32]:
    return cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[..., 0]


def test_tone_takes_over_mean_and_contrast_of_the_light() -> None:
    mask = disc() >= 0.5
    ramp = np.linspace(0, 1, _SIZE)[None, :, None]
    dark = np.rint((40 + 60 * ramp) * np.ones((_SIZE, 1, 3))).astype(np.uint8)
    light = np.rint((200 - 30 * ramp) * np.array([1.0, 0.6, 0.5])).astype(np.uint8)
    light = np.broadcast_to(light, dark.shape).copy()
    result = relit(light, dark, mask, tone="target", shading="none")
    ours, wanted = lightness(result)[mask], lightness(dark)[mask]
    assert abs(ours.mean() - wanted.mean()) < 1
    assert abs(ours.std() - wanted.std()) < 1.5
    # The source's own slope falls to the right, and still does.
    assert lightness(result)[30, 20] > lightness(result)[30, 44]
    assert np.array_equal(result[~mask], light[~mask])
    assert relit(light, dark, mask, tone="keep", shading="none") is light


def test_shading_takes_over_detail_and_keeps_the_colours() -> None:
    mask = disc() >= 0.5
    x = np.arange(_SIZE)[None] * np.ones((_SIZE, 1), int)
    folds = np.where((x // 2) % 2, 118, 138).astype(np.uint8)
    target = np.dstack([folds] * 3)
    flat = np.broadcast_to(np.array([170, 110, 60], np.uint8), target.shape).copy()
    result = relit(flat, target, mask, tone="keep", shading="target")
    ours, wanted = (lightness(each)[20:40, 20:40] for each in (result, target))
    assert np.corrcoef(ours.ravel(), wanted.ravel())[0, 1] > 0.99
    assert abs(ours.mean() - lightness(flat)[0, 0]) < 1
    a, b = (
        cv2.cvtColor(each.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[20:40, 20:40, 1:]
        for each in (result, flat)
    )
    assert np.abs(a - b).max() < 1.5
