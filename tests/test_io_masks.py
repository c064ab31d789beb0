"""Masks: which object ids every kind of mask file stands for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from warpkit.checks import InputError
from warpkit.io.images import write_image
from warpkit.io.masks import DAVIS_PALETTE, read_labels, read_mask, write_labels

IDS = np.array([[0, 0, 1, 1, 5], [0, 2, 2, 0, 5], [0, 0, 0, 0, 255]], np.uint8)


def save(path: Path, array: np.ndarray) -> Path:
    Image.fromarray(array).save(path)
    return path


def disc(height: int = 60, width: int = 80) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return (y - 30) ** 2 + (x - 40) ** 2 < 20**2


def test_palette_is_the_published_one() -> None:
    """Values of the PASCAL VOC and DAVIS palettes."""
    known = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        3: (128, 128, 0),
        4: (0, 0, 128),
        7: (128, 128, 128),
        8: (64, 0, 0),
        15: (192, 128, 128),
        20: (0, 64, 128),
        255: (224, 224, 192),
    }
    assert DAVIS_PALETTE.shape == (256, 3)
    assert DAVIS_PALETTE.dtype == np.uint8
    for index, colour in known.items():
        assert tuple(DAVIS_PALETTE[index]) == colour
    assert len(np.unique(DAVIS_PALETTE, axis=0)) == 256


def test_labels_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    write_labels(path, IDS)
    np.testing.assert_array_equal(read_labels(path), IDS)
    np.testing.assert_array_equal(read_mask(path), IDS > 0)
    with Image.open(path) as image:
        assert image.mode == "P"
        assert image.getpalette("RGB")[3:6] == [128, 0, 0]
    assert [file.name for file in tmp_path.iterdir()] == ["m.png"]


@pytest.mark.parametrize("present", [[0], [7], [0, 7], [3], [0, 56, 63]])
def test_davis_palette_with_gray_colours_only(tmp_path: Path, present: list[int]) -> None:
    labels = np.resize(np.array(present, np.uint8), (4, 6))
    write_labels(tmp_path / "m.png", labels)
    np.testing.assert_array_equal(read_labels(tmp_path / "m.png"), labels)


def test_other_palette_keeps_indices(tmp_path: Path) -> None:
    image = Image.fromarray(np.minimum(IDS, 6))
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 9, 9, 9, 8, 8, 8, 0, 0, 255, 1, 2, 3])
    image.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "m.png"), np.minimum(IDS, 6))


def test_black_and_white_palette_in_any_order(tmp_path: Path) -> None:
    image = Image.fromarray((~disc()).astype(np.uint8))
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), disc())


@pytest.mark.parametrize("value", [1, 3, 128, 255])
@pytest.mark.parametrize("rgb", [False, True])
def test_zero_and_one_other_value(tmp_path: Path, value: int, rgb: bool) -> None:
    gray = disc() * np.uint8(value)
    array = np.repeat(gray[..., None], 3, -1) if rgb else gray
    labels = read_labels(save(tmp_path / "m.png", array))
    np.testing.assert_array_equal(labels, disc().astype(np.uint8))
    assert labels.dtype == np.uint8


def test_bool_full_and_empty(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_mask(save(tmp_path / "b.png", disc())), disc())
    full = save(tmp_path / "f.png", np.full((4, 5), 255, np.uint8))
    assert read_labels(full).tolist() == [[1] * 5] * 4
    assert not read_mask(save(tmp_path / "e.png", np.zeros((4, 5), np.uint8))).any()


@pytest.mark.parametrize("values", [[0, 1, 2, 5], [1, 2], [0, 85, 170, 255], [0, 1, 2, 255]])
def test_gray_ids_are_kept(tmp_path: Path, values: list[int]) -> None:
    labels = np.repeat(np.repeat(np.array([values], np.uint8), 6, 0), 6, 1)
    np.testing.assert_array_equal(read_labels(save(tmp_path / "m.png", labels)), labels)


@pytest.mark.parametrize("name", ["m.png", "m.jpg"])
def test_soft_edges_are_thresholded(tmp_path: Path, name: str) -> None:
    small = Image.fromarray(disc() * np.uint8(255))
    image = small.resize((240, 180), Image.Resampling.BILINEAR)
    if name == "m.jpg":
        image.save(tmp_path / name, quality=80)
    else:
        image.save(tmp_path / name)
    expected = np.asarray(image) >= 128
    labels = read_labels(tmp_path / name)
    assert set(np.unique(labels)) == {0, 1}
    # JPEG moves a few pixels of the boundary across the threshold.
    assert (labels.astype(bool) != expected).mean() <= (0.005 if name == "m.jpg" else 0)


def test_gray_that_is_no_mask(tmp_path: Path) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None], 20, 0)
    with pytest.raises(InputError, match="too blurred for a mask"):
        read_labels(save(tmp_path / "ramp.png", ramp))
    many = np.repeat(np.arange(100, dtype=np.uint8)[None], 20, 0)
    with pytest.raises(InputError, match="100 gray values are neither a mask nor object ids"):
        read_labels(save(tmp_path / "many.png", many))
    rim = Image.fromarray(disc() * np.uint8(200)).resize((160, 120), Image.Resampling.BILINEAR)
    with pytest.raises(InputError, match="are neither a mask nor object ids"):
        read_labels(save(tmp_path / "rim.png", np.asarray(rim)))
    ids = np.repeat(np.array([[0, 40, 80, 120]], np.uint8), 32, 0).repeat(8, 1)
    with pytest.raises(InputError, match="a JPEG cannot hold object ids"):
        read_labels(save(tmp_path / "ids.jpg", ids))


def test_16_bit_ids(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_labels(save(tmp_path / "m.png", IDS.astype(np.uint16))), IDS)
    white = disc() * np.uint16(65535)
    np.testing.assert_array_equal(read_mask(save(tmp_path / "w.png", white)), disc())
    with pytest.raises(InputError, match=r"ids must lie in 0\.\.255, got values from 0 to 300"):
        read_labels(save(tmp_path / "a.png", np.array([[0, 1], [2, 300]], np.uint16)))


def test_davis_colours_give_their_ids(tmp_path: Path) -> None:
    ids = np.where(IDS == 255, 20, IDS)
    path = save(tmp_path / "m.png", DAVIS_PALETTE[ids])
    np.testing.assert_array_equal(read_labels(path), ids)


def test_other_colours_are_numbered_in_sorted_order(tmp_path: Path) -> None:
    black, blue, green, red = (0, 0, 0), (0, 0, 255), (0, 255, 0), (255, 0, 0)
    array = np.array([[black, red], [green, blue], [red, black]], np.uint8)
    labels = read_labels(save(tmp_path / "m.png", array))
    assert labels.tolist() == [[0, 3], [2, 1], [3, 0]]


def test_too_many_colours(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    with pytest.raises(InputError, match=r"\d+ different colours are too many .* anti-aliased"):
        read_labels(save(tmp_path / "m.png", noise))
    rim = Image.fromarray(np.where(disc()[..., None], np.uint8([255, 0, 0]), np.uint8(0)))
    rim = rim.resize((240, 180), Image.Resampling.BILINEAR)
    with pytest.raises(InputError, match="anti-aliased"):
        read_labels(save(tmp_path / "rim.png", np.asarray(rim)))
    with pytest.raises(InputError, match="a JPEG cannot hold object colours"):
        read_labels(save(tmp_path / "m.jpg", noise))


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (0, 128, 0)])
def test_one_colour_with_transparency_is_an_alpha_mask(
    tmp_path: Path, colour: tuple[int, int, int]
) -> None:
    rgba = np.zeros((60, 80, 4), np.uint8)
    rgba[..., :3], rgba[..., 3] = colour, disc() * 255
    path = tmp_path / "m.png"
    write_image(path, rgba)
    np.testing.assert_array_equal(read_labels(path), disc().astype(np.uint8))


def test_colours_with_transparency(tmp_path: Path) -> None:
    """Half-transparent is background from below 128; the colours under it do not count."""
    array = np.array(
        [[(128, 0, 0, 255), (0, 128, 0, 128)], [(9, 8, 7, 127), (5, 5, 5, 0)]], np.uint8
    )
    assert read_labels(save(tmp_path / "m.png", array)).tolist() == [[1, 2], [0, 0]]
    opaque = np.dstack([DAVIS_PALETTE[IDS], np.full(IDS.shape, 255, np.uint8)])
    np.testing.assert_array_equal(read_labels(save(tmp_path / "o.png", opaque)), IDS)
    clear = np.zeros((3, 4, 4), np.uint8)
    assert not read_mask(save(tmp_path / "c.png", clear)).any()


def test_bad_input(tmp_path: Path) -> None:
    floats = save(tmp_path / "f.tif", np.zeros((3, 3), np.float32))
    with pytest.raises(InputError, match="a mask of floats"):
        read_labels(floats)
    with pytest.raises(InputError, match="no such file"):
        read_mask(tmp_path / "none.png")
    with pytest.raises(InputError, match=r"written as \.png only"):
        write_labels(tmp_path / "m.jpg", IDS)
    with pytest.raises(InputError, match=r"must be uint8 \(height, width\), got bool"):
        write_labels(tmp_path / "m.png", IDS > 0)
