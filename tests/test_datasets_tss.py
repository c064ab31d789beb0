"""TSS on a small tree of its layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from file_formats import write_flo
from pair_files import HEIGHT, WIDTH, assert_matches, make_image
from PIL import Image

from warpkit.checks import InputError
from warpkit.datasets.tss import read_tss, read_tss_dense

UNKNOWN = 1e10


def write_tss(folder: Path, *, flip: str | None = "0", width: int = WIDTH) -> np.ndarray:
    """A pair whose object is rows 2 to 9, columns 3 to 14; flow1 is known up to column 12."""
    make_image(folder / "image1.png", (width, HEIGHT))
    make_image(folder / "image2.png", (width + 4, HEIGHT))
    rows, columns = np.mgrid[:HEIGHT, :width]
    flow1 = np.stack([-2 * columns + 30.0, 0.5 * rows], axis=-1).astype(np.float32)
    flow1[:, 13:] = UNKNOWN
    write_flo(folder / "flow1.flo", flow1)
    write_flo(folder / "flow2.flo", np.zeros((HEIGHT, width + 4, 2), np.float32))
    for number, size in ((1, width), (2, width + 4)):
        mask = np.zeros((HEIGHT, size), np.uint8)
        mask[2:10, 3:15] = 255
        Image.fromarray(mask).save(folder / f"mask{number}.png")
    if flip is not None:
        (folder / "flip_gt.txt").write_text(flip)
    return flow1


def make_tss(root: Path) -> Path:
    write_tss(root / "FG3DCar/001_005")
    write_tss(root / "JODS/car_01_02", flip=None)
    write_tss(root / "PASCAL/bike_01_03", flip="1\n")
    return root


def test_tss_points_on_the_lattice(tmp_path: Path) -> None:
    pairs, problems = read_tss(make_tss(tmp_path), stride=4)
    assert problems == []
    assert [pair.category for pair in pairs] == ["FG3DCar", "JODS", "PASCAL"]
    source = [[4, 4], [8, 4], [12, 4], [4, 8], [8, 8], [12, 8]]
    target = [[30 - x, 1.5 * y] for x, y in source]
    for pair in pairs:  # flip_gt.txt changes nothing: the field knows
        assert pair.source_path.name == "image1.png"
        assert pair.target_path.name == "image2.png"
        assert pair.source_points.dtype == np.float32
        assert pair.source_points.tolist() == source
        assert pair.target_points.tolist() == target
        assert pair.source_box == (4, 4, 12, 8)
        assert pair.target_box == (18, 6, 26, 12)
    assert len(read_tss(tmp_path, stride=1)[0][0]) == 8 * 10
    with pytest.raises(InputError, match="stride must be at least 1 pixel, got 0"):
        read_tss(tmp_path, stride=0)


def test_tss_dense_lists_both_directions(tmp_path: Path) -> None:
    pairs, problems = read_tss_dense(make_tss(tmp_path))
    assert problems == []
    assert [pair.flip for pair in pairs] == [False, False, False, False, True, True]
    assert [pair.category for pair in pairs] == [*2 * ["FG3DCar"], *2 * ["JODS"], *2 * ["PASCAL"]]
    folder = tmp_path / "FG3DCar/001_005"
    onto_first, onto_second = pairs[:2]
    assert onto_first.target_path == folder / "image1.png"
    assert onto_first.source_path == folder / "image2.png"
    assert onto_first.flow_path == folder / "flow1.flo"
    assert onto_first.mask_path == folder / "mask1.png"
    assert onto_second.target_path == folder / "image2.png"
    assert onto_second.flow_path == folder / "flow2.flo"


def test_tss_lists_broken_pairs(tmp_path: Path) -> None:
    make_tss(tmp_path)
    (tmp_path / "JODS").rename(tmp_path / "JODS_elsewhere")
    broken = tmp_path / "PASCAL"
    for name in ("a_flow", "b_image", "c_mask", "d_flip", "e_size", "f_empty", "g_cut", "h_text"):
        write_tss(broken / name)
    (broken / "a_flow/flow1.flo").unlink()
    (broken / "b_image/image2.png").unlink()
    (broken / "c_mask/mask1.png").unlink()
    (broken / "d_flip/flip_gt.txt").write_text("left")
    make_image(broken / "e_size/image1.png", (WIDTH + 1, HEIGHT))
    Image.new("L", (WIDTH, HEIGHT)).save(broken / "f_empty/mask1.png")
    (broken / "g_cut/flow1.flo").write_bytes(b"PIEH")
    (broken / "h_text/mask1.png").write_text("no image")
    pairs, problems = read_tss(tmp_path)
    assert [pair.source_path.parent.name for pair in pairs] == ["001_005", "bike_01_03"]
    expected = [
        "JODS is missing",
        "a_flow: the field .*flow1.flo is missing",
        "b_image: the image .*image2.png is missing",
        "c_mask: the mask .*mask1.png is missing",
        "d_flip: .*flip_gt.txt must hold 0 or 1, got 'left'",
        "e_size: field and mask must cover image1.png of 30 x 41",
        "f_empty: no object pixel at every 4-th row and column",
        "g_cut: .*flow1.flo: cut short after 4 bytes",
        "h_text: .*mask1.png: not an image",
    ]
    assert len(problems) == len(expected)
    for pattern, problem in zip(expected, problems, strict=True):
        assert_matches(pattern, problem)
    dense, problems = read_tss_dense(tmp_path)
    assert_matches("a_flow, field 1: the field .* is missing", problems[1])
    # What is missing in one direction does not take the other away.
    assert sum(pair.target_path.parent.name == "a_flow" for pair in dense) == 1


def test_tss_refuses_other_folders(tmp_path: Path) -> None:
    for read in (read_tss, read_tss_dense):
        with pytest.raises(InputError, match=r"no usable pair in .*FG3DCar is missing"):
            read(tmp_path)
        with pytest.raises(InputError, match="is not a folder: expected TSS's FG3DCar, JODS"):
            read(tmp_path / "none")
