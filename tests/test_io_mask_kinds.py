"""Masks of palettes, lossy files and cut-outs: the picture that their colours show, or refused."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter, features

from warpkit.checks import InputError
from warpkit.image.pair import read_mask_file
from warpkit.io.masks import DAVIS_PALETTE, read_labels, read_mask, read_objects, write_labels

HEIGHT, WIDTH = 61, 84


def two_discs() -> np.ndarray:
    """Object 1 on the left, 2 on the right."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    left, right = ((y - 30) ** 2 + (x - cx) ** 2 < 17**2 for cx in (22, 60))
    return (left + 2 * right).astype(np.uint8)


Colour = tuple[int, int, int]


def painted(*colours: Colour, around: Colour = (0, 0, 0)) -> Image.Image:
    labels = two_discs() if len(colours) == 2 else two_discs() == 1
    return Image.fromarray(np.array([around, *colours], np.uint8)[labels.astype(int)])


def quantized(image: Image.Image, how: str) -> Image.Image:
    """What Pillow makes of a picture that is saved with a palette."""
    if how == "adaptive":
        return image.convert("P", palette=Image.Palette.ADAPTIVE)
    if how == "web":
        return image.convert("P", dither=Image.Dither.NONE)
    method = {"median": 0, "coverage": 1, "octree": 2}[how]
    return image.quantize(method=Image.Quantize(method))


HOW = ["adaptive", "web", "median", "coverage", "octree"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 0, 255), (255, 255, 255), (153, 51, 204)])
def test_a_palette_made_for_a_picture_is_read_by_its_colours(
    tmp_path: Path, how: str, colour: Colour
) -> None:
    quantized(painted(colour), how).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "m.png"), two_discs() == 1)


@pytest.mark.parametrize("suffix", ["gif", "bmp", "tif", "tga"])
def test_palettes_of_other_formats(tmp_path: Path, suffix: str) -> None:
    quantized(painted((0, 255, 0)), "adaptive").save(tmp_path / f"m.{suffix}")
    np.testing.assert_array_equal(read_labels(tmp_path / f"m.{suffix}"), two_discs() == 1)


@pytest.mark.parametrize("how", HOW)
def test_two_objects_stay_two(tmp_path: Path, how: str) -> None:
    quantized(painted((255, 0, 0), (0, 0, 255)), how).save(tmp_path / "m.png")
    labels = read_labels(tmp_path / "m.png")
    assert set(np.unique(labels)) == {0, 1, 2}
    for object_id in (1, 2):
        assert len(np.unique(labels[two_discs() == object_id])) == 1
    assert not labels[two_discs() == 0].any()


@pytest.mark.parametrize("how", ["adaptive", "median", "octree"])
def test_davis_colours_in_any_order_give_their_ids(tmp_path: Path, how: str) -> None:
    ids = np.array([0, 2, 9], np.uint8)[two_discs()]
    quantized(Image.fromarray(DAVIS_PALETTE[ids]), how).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "m.png"), ids)


def test_sorted_and_trimmed_davis_palette(tmp_path: Path) -> None:
    """As PNG optimisers leave it: black first, the colours in use behind it."""
    image = Image.fromarray(two_discs())
    image.putpalette(DAVIS_PALETTE[[0, 7 + 5, 3]].tobytes())
    image.save(tmp_path / "m.png")
    np.testing.assert_array_equal(
        read_labels(tmp_path / "m.png"), np.array([0, 12, 3])[two_discs()]
    )


def test_ids_with_colours_of_their_own_stay(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([0, 4, 250], np.uint8)[two_discs()])
    table = np.random.default_rng(0).integers(40, 256, (256, 3), dtype=np.uint8)
    table[0] = 0
    image.putpalette(table.tobytes())
    image.save(tmp_path / "m.png")
    np.testing.assert_array_equal(
        read_labels(tmp_path / "m.png"), np.array([0, 4, 250])[two_discs()]
    )


def test_ids_that_share_a_colour_stay_apart(tmp_path: Path) -> None:
    image = Image.fromarray(two_discs())
    image.putpalette([0, 0, 0, 250, 40, 40, 250, 40, 40])
    image.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "m.png"), two_discs())


@pytest.mark.parametrize("clear", [0, 1])
def test_a_transparent_colour_of_a_palette_is_background(tmp_path: Path, clear: int) -> None:
    image = Image.fromarray((two_discs() == 1).astype(np.uint8) ^ clear)
    image.putpalette([250, 250, 250, 9, 9, 90] if clear == 0 else [9, 9, 90, 250, 250, 250])
    image.save(tmp_path / "m.png", transparency=clear)
    np.testing.assert_array_equal(read_labels(tmp_path / "m.png"), two_discs() == 1)


def test_a_palette_without_black_is_refused(tmp_path: Path) -> None:
    painted((255, 0, 0), around=(255, 255, 255)).quantize().save(tmp_path / "m.png")
    with pytest.raises(InputError, match="no colour of its palette is black, which marks the back"):
        read_labels(tmp_path / "m.png")


@pytest.mark.parametrize("colour", [(128, 0, 0), (128, 128, 128), (37, 200, 91), (20, 0, 0)])
def test_dithered_palettes_are_refused(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    painted(colour).convert("P").save(tmp_path / "m.png")
    with pytest.raises(InputError, match="mixed pixel by pixel or blend into each other"):
        read_labels(tmp_path / "m.png")


@pytest.mark.parametrize("level", [40, 100, 140])
def test_dithered_bits_are_refused(tmp_path: Path, level: int) -> None:
    painted((level, level, level)).convert("1").save(tmp_path / "m.png")
    with pytest.raises(InputError, match=r"black and white are mixed pixel by pixel \(dithered\)"):
        read_labels(tmp_path / "m.png")


@pytest.mark.parametrize("colours", [3, 4, 8, 16, 256])
@pytest.mark.parametrize("method", [0, 2])
def test_soft_edges_in_few_colours(tmp_path: Path, colours: int, method: int) -> None:
    """Of white they are one object, as without a palette; of a colour they are refused."""
    for colour in ((255, 0, 0), (30, 90, 200)):
        soft = painted(colour).filter(ImageFilter.GaussianBlur(1))
        soft.quantize(colours, method=Image.Quantize(method)).save(tmp_path / "m.png")
        with pytest.raises(InputError, match=r"anti-aliased"):
            read_labels(tmp_path / "m.png")
    soft = painted((255, 255, 255)).filter(ImageFilter.GaussianBlur(1))
    soft.quantize(colours, method=Image.Quantize(method)).save(tmp_path / "m.png")
    labels = read_labels(tmp_path / "m.png")
    assert set(np.unique(labels)) == {0, 1}
    assert (labels != (two_discs() == 1)).mean() < 0.02


AVIF = pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")


@pytest.mark.parametrize("quality", [5, 50, 90])
@pytest.mark.parametrize("suffix", [pytest.param("avif", marks=AVIF), "webp", "jpg"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_lossy_files_of_one_white_object(
    tmp_path: Path, suffix: str, mode: str, quality: int
) -> None:
    path = tmp_path / f"m.{suffix}"
    painted((255, 255, 255)).convert(mode).save(path, quality=quality)
    labels = read_labels(path)
    assert set(np.unique(labels)) == {0, 1}
    assert (labels != (two_discs() == 1)).mean() < 0.02


@pytest.mark.parametrize(
    "name", [pytest.param("m.avif", marks=AVIF), "m.webp", "m.jpg", "m.jp2", "m.tif"]
)
def test_lossy_files_hold_no_ids(tmp_path: Path, name: str) -> None:
    options: dict[str, object] = {"irreversible": True} if name == "m.jp2" else {"quality": 90}
    if name == "m.tif":
        options["compression"] = "jpeg"
    for image in (painted((255, 0, 0)), Image.fromarray(two_discs())):
        image.save(tmp_path / name, **options)
        with pytest.raises(InputError, match=r"JPEG cannot hold object .* nor can lossy"):
            read_labels(tmp_path / name)


@pytest.mark.parametrize("name", ["m.webp", "m.jp2"])
def test_files_without_loss_hold_ids(tmp_path: Path, name: str) -> None:
    Image.fromarray(DAVIS_PALETTE[two_discs()]).save(tmp_path / name, lossless=True)
    np.testing.assert_array_equal(read_labels(tmp_path / name), two_discs())


def test_noise_of_a_jpeg_saved_again_as_png(tmp_path: Path) -> None:
    painted((255, 255, 255)).convert("L").save(tmp_path / "m.jpg", quality=40)
    with Image.open(tmp_path / "m.jpg") as image:
        image.save(tmp_path / "m.png")
    assert len(np.unique(np.asarray(image))) > 20
    np.testing.assert_array_equal(read_labels(tmp_path / "m.png"), read_labels(tmp_path / "m.jpg"))
    assert (read_labels(tmp_path / "m.png") != (two_discs() == 1)).mean() < 0.01


def test_16_bit_soft_masks(tmp_path: Path) -> None:
    """v / 257, threshold at 128: the same object as in 8 bit."""
    alpha = np.clip(18.0 - np.hypot(*np.mgrid[-30:31, -22:62]), 0, 1)
    for name in ("m.png", "m.tif"):
        Image.fromarray(np.rint(alpha * 65535).astype(np.uint16)).save(tmp_path / name)
        np.testing.assert_array_equal(read_labels(tmp_path / name), alpha > 0.499)
    ids = np.array([0, 85, 170], np.uint16)[two_discs()]
    Image.fromarray(ids * 257).save(tmp_path / "m.png")  # 8 bits widened
    np.testing.assert_array_equal(read_labels(tmp_path / "m.png"), ids)
    Image.fromarray(ids * 256).save(tmp_path / "m.png")
    with pytest.raises(InputError, match=r"0\.\.255, got values from 0 to 43520"):
        read_labels(tmp_path / "m.png")
    ramp = np.linspace(0, 65535, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
    Image.fromarray(ramp).save(tmp_path / "m.png")
    with pytest.raises(InputError, match="too blurred for a mask"):
        read_labels(tmp_path / "m.png")


@pytest.mark.parametrize("kind", ["png", "webp", "lossy", "gray", "palette"])
def test_an_object_cut_out_of_a_photograph(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "warpkit")
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    inside = two_discs() == 1
    image = Image.fromarray(np.dstack([noise, inside * np.uint8(255)]))
    path = tmp_path / ("m.webp" if kind in ("webp", "lossy") else "m.png")
    if kind == "gray":
        image = image.convert("LA")
    elif kind == "palette":
        image = image.quantize(128, method=Image.Quantize.FASTOCTREE)
    image.save(path, lossless=kind == "webp")
    np.testing.assert_array_equal(read_labels(path), inside)
    assert "what is opaque of it is taken as the mask" in caplog.text


def test_flat_colours_with_soft_rims_are_no_photograph(tmp_path: Path) -> None:
    """Two objects on transparency would become one."""
    soft = painted((255, 0, 0), (0, 90, 255)).filter(ImageFilter.GaussianBlur(1))
    soft.putalpha(255)
    array = np.array(soft)
    array[0, 0, 3] = 0
    Image.fromarray(array).save(tmp_path / "m.png")
    with pytest.raises(InputError, match="anti-aliased"):
        read_labels(tmp_path / "m.png")


VOID = np.where(np.arange(WIDTH) % 84 < 4, 255, two_discs()).astype(np.uint8)


def test_void_of_a_voc_palette_is_no_object(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "warpkit")
    image = Image.fromarray(VOID)
    image.putpalette(DAVIS_PALETTE.tobytes())
    image.save(tmp_path / "m.png")
    expected = np.where(VOID == 255, 0, VOID)
    np.testing.assert_array_equal(read_labels(tmp_path / "m.png"), expected)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), expected > 0)
    assert "the value 255 (void, as in PASCAL VOC) is taken as no object" in caplog.text
    write_labels(tmp_path / "own.png", VOID)
    np.testing.assert_array_equal(read_labels(tmp_path / "own.png"), VOID)
    np.testing.assert_array_equal(read_objects(tmp_path / "own.png"), VOID)


def test_void_of_gray_and_colour_files(tmp_path: Path) -> None:
    """Kept as it is stored by `read_labels`; no object where objects are asked for."""
    for stored in (VOID, DAVIS_PALETTE[VOID]):
        Image.fromarray(stored).save(tmp_path / "m.png")
        np.testing.assert_array_equal(read_labels(tmp_path / "m.png"), VOID)
        np.testing.assert_array_equal(
            read_objects(tmp_path / "m.png"), np.where(VOID == 255, 0, VOID)
        )
        mask = read_mask_file(tmp_path / "m.png", "source mask")
        np.testing.assert_array_equal(mask, (VOID > 0) & (VOID < 255))
    levels = np.array([0, 85, 255], np.uint8)[two_discs()]
    Image.fromarray(levels).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_objects(tmp_path / "m.png"), levels)
    Image.fromarray((two_discs() > 0) * np.uint8(255)).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_objects(tmp_path / "m.png"), two_discs() > 0)


@pytest.mark.parametrize("suffix", [".png", ".tga", ".tif"])
def test_colours_without_black_have_no_background(tmp_path: Path, suffix: str) -> None:
    there = np.zeros((40, 50), bool)
    there[10:30, 15:40] = True
    path = tmp_path / f"m{suffix}"
    for ground, reads in (((255, 255, 255), False), ((0, 90, 0), False), ((1, 1, 1), True)):
        Image.fromarray(np.where(there[..., None], (255, 0, 0), ground).astype(np.uint8)).save(path)
        if reads:
            np.testing.assert_array_equal(read_labels(path), there)
        else:
            with pytest.raises(InputError, match="no colour of it is black"):
                read_labels(path)
