"""PF-PASCAL on small trees of both distributed layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pair_files import assert_matches, make_image, stems, write_text
from scipy.io import savemat

from warpkit.checks import InputError
from warpkit.datasets.pf_pascal import read_pf_pascal

NAN = float("nan")
KPS = {
    "2007_1": [[1, 2], [NAN, NAN], [5, 6], [7.5, 8]],
    "2007_2": [[11, 12], [13, 14], [NAN, NAN], [17, 18]],
    "2007_3": [[NAN, NAN], [23, 24], [NAN, NAN], [NAN, NAN]],
}


def make_pf_pascal(root: Path) -> Path:
    data = root / "PF-dataset-PASCAL"
    for number, (name, kps) in enumerate(KPS.items()):
        make_image(data / "JPEGImages" / f"{name}.jpg")
        write_pascal_mat(data, name, kps=np.array(kps), bbox=[[number, 1, 30, 20]])
    return data


def write_pascal_mat(data: Path, name: str, category: str = "cat", **content: Any) -> None:
    folder = data / "Annotations" / category
    folder.mkdir(parents=True, exist_ok=True)
    savemat(folder / f"{name}.mat", content)


def row(source: str, target: str, *more: str, folder: str = "PF-dataset-PASCAL/JPEGImages/") -> str:
    return ",".join([f"{folder}{source}.jpg", f"{folder}{target}.jpg", *more])


@pytest.mark.parametrize("name", ["test_pairs.csv", "test_pairs_pf_pascal.csv"])
@pytest.mark.parametrize("place", [".", "PF-dataset-PASCAL", "image_pairs"])
def test_pf_pascal_points_of_the_annotations(tmp_path: Path, name: str, place: str) -> None:
    data = make_pf_pascal(tmp_path)
    write_text(
        tmp_path / place / name,
        "source_image,target_image,class",
        row("2007_1", "2007_2", "8"),
        row("2007_2", "2007_1", "8", folder=""),
    )
    for root in (tmp_path, data):
        pairs, problems = read_pf_pascal(root)
        assert problems == []
        first, second = pairs
        assert first.source_path == data / "JPEGImages/2007_1.jpg"
        assert first.source_points.dtype == np.float32
        assert first.source_points.tolist() == [[1, 2], [7.5, 8]]
        assert first.target_points.tolist() == [[11, 12], [17, 18]]
        assert first.source_box == (0, 1, 30, 20)
        assert first.target_box == (1, 1, 30, 20)
        assert first.category == "cat"
        assert second.source_points.tolist() == [[11, 12], [17, 18]]


def test_pf_pascal_points_of_the_list(tmp_path: Path) -> None:
    data = make_pf_pascal(tmp_path)
    (data / "Annotations/cat/2007_2.mat").unlink()
    write_text(
        tmp_path / "test_pairs_pf_pascal.csv",
        "source_image,target_image,class,XA,YA,XB,YB",
        row("2007_1", "2007_2", "8", "1.5;2", "3;4", "5;6", "7;9"),
    )
    (pair,), problems = read_pf_pascal(tmp_path)
    assert problems == []
    assert pair.source_points.tolist() == [[1.5, 3], [2, 4]]
    assert pair.target_points.tolist() == [[5, 7], [6, 9]]
    assert pair.source_box == (0, 1, 30, 20)
    assert pair.target_box == (5, 7, 6, 9)  # no annotation: the points' own


def test_pf_pascal_leaves_mirrored_rows_out(tmp_path: Path) -> None:
    make_pf_pascal(tmp_path)
    write_text(
        tmp_path / "trn_pairs.csv",
        "source_image,target_image,class,flip",
        row("2007_1", "2007_2", "8", "0"),
        row("2007_1", "2007_2", "8", "1"),
    )
    pairs, problems = read_pf_pascal(tmp_path, "train")
    assert stems(pairs) == [("2007_1", "2007_2")]
    assert len(problems) == 1
    assert "row 2: 'flip' asks for mirrored images" in problems[0]


def test_pf_pascal_split_names(tmp_path: Path) -> None:
    make_pf_pascal(tmp_path)
    line = row("2007_1", "2007_2", "8")
    write_text(tmp_path / "train_pairs.csv", "source_image,target_image,class", line)
    write_text(tmp_path / "val_pairs.csv", "source_image,target_image,class", line, line)
    assert len(read_pf_pascal(tmp_path, "train")[0]) == len(read_pf_pascal(tmp_path, "trn")[0]) == 1
    assert len(read_pf_pascal(tmp_path, "val")[0]) == 2
    with pytest.raises(
        InputError, match=r"no list of pairs: expected test_pairs_pf_pascal\.csv or"
    ):
        read_pf_pascal(tmp_path, "test")
    with pytest.raises(InputError, match="unknown split 'all'"):
        read_pf_pascal(tmp_path, "all")


def test_pf_pascal_lists_broken_rows(tmp_path: Path) -> None:
    data = make_pf_pascal(tmp_path)
    for name in ("text", "short", "flat", "plain", "words"):
        make_image(data / "JPEGImages" / f"{name}.jpg")
    write_pascal_mat(data, "imageless", kps=np.array(KPS["2007_1"]))
    write_text(data / "Annotations/cat/text.mat", "no MATLAB file")
    write_pascal_mat(data, "short", kps=np.zeros((3, 2)))
    write_pascal_mat(data, "flat", kps=np.array(KPS["2007_1"]), bbox=[[5, 5, 5, 5]])
    write_pascal_mat(data, "plain", bbox=[[0, 0, 5, 5]])
    write_pascal_mat(data, "words", kps="many")
    write_text(
        tmp_path / "test_pairs.csv",
        "source_image,target_image,class",
        row("2007_2", "2007_3", "8"),
        row("2007_1", "imageless", "8"),
        row("2007_1", "unknown", "8"),
        row("2007_1", "text", "8"),
        row("2007_1", "short", "8"),
        row("2007_1", "flat", "8"),
        row("2007_1", "plain", "8"),
        row("2007_1", "words", "8"),
        row("2007_1", "2007_3", "8"),
        row("2007_1", "2007_2", "21"),
        row("2007_1", "2007_2", "dog"),
        "only_one.jpg",
        row("2007_1", "2007_2", "8"),
    )
    pairs, problems = read_pf_pascal(tmp_path)
    assert stems(pairs) == [("2007_2", "2007_3"), ("2007_1", "2007_2")]
    assert pairs[0].source_points.tolist() == [[13, 14]]
    expected = {
        2: "the image .*imageless.jpg is missing",
        3: "the annotation .*unknown.mat is missing",
        4: "text.mat is not a readable .mat file",
        5: "must hold equally many 'kps', got 4 and 3",
        6: "target_box must be .* positive side",
        7: "plain.mat holds no numbers as 'kps'",
        8: "words.mat holds no numbers as 'kps'",
        9: "no point is visible in both images",
        10: "'class' must be a number from 1 to 20, got '21'",
        11: "got 'dog'",
        12: "'class' must be a number from 1 to 20, got ''",
    }
    assert len(problems) == len(expected)
    for problem, (number, message) in zip(problems, expected.items(), strict=True):
        assert_matches(f"test_pairs.csv row {number}: .*{message}", problem)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["1;2", "3", "5;6", "7;9"], "'XA' and 'YA' must hold equally many numbers.* 2 and 1"),
        (["1;2", "3;4", "", ""], "at least one, got 0 and 0"),
        (["1;b", "3;4", "5;6", "7;9"], "must be numbers divided by ';'"),
        (["1;2", "3;4", "5", "7"], "one to one, got 2 and 1"),
    ],
)
def test_pf_pascal_lists_broken_coordinates(
    tmp_path: Path, columns: list[str], message: str
) -> None:
    make_pf_pascal(tmp_path)
    write_text(
        tmp_path / "test_pairs.csv",
        "source_image,target_image,class,XA,YA,XB,YB",
        row("2007_1", "2007_2", "8", *columns),
        row("2007_1", "2007_2", "8", "1", "2", "3", "4"),
    )
    pairs, problems = read_pf_pascal(tmp_path)
    assert [pair.source_points.tolist() for pair in pairs] == [[[1, 2]]]
    (problem,) = problems
    assert_matches(f"row 1: .*{message}", problem)


def test_pf_pascal_refuses_other_lists_and_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds neither JPEGImages nor PF-dataset-PASCAL"):
        read_pf_pascal(tmp_path)
    make_pf_pascal(tmp_path)
    write_text(tmp_path / "test_pairs.csv", "imageA,target_image", "a,b")
    with pytest.raises(InputError, match="lacks the columns class, source_image"):
        read_pf_pascal(tmp_path)
    write_text(tmp_path / "test_pairs.csv", "source_image,target_image,class")
    with pytest.raises(InputError, match=r"no usable pair in .*it holds none"):
        read_pf_pascal(tmp_path)


def test_pf_pascal_lists_may_be_padded(tmp_path: Path) -> None:
    """-1 and NaN fill lists up; they are neither points nor corners of a box."""
    data = make_pf_pascal(tmp_path)
    (data / "Annotations/cat/2007_1.mat").unlink()
    write_text(
        tmp_path / "test_pairs.csv",
        "source_image,target_image,class,XA,YA,XB,YB",
        row("2007_1", "2007_2", "8", "10;20;-1", "5;6;-1", "1;2;-1", "3;4;-1"),
        row("2007_2", "2007_1", "8", "10;nan;30", "5;nan;7", "1;2;3", "4;5;6"),
        row("2007_1", "2007_3", "8", "-1", "-1", "3", "4"),
    )
    pairs, problems = read_pf_pascal(tmp_path)
    assert pairs[0].source_points.tolist() == [[10, 5], [20, 6]]
    assert pairs[0].source_box == (10, 5, 20, 6)
    assert pairs[1].source_points.tolist() == [[10, 5], [30, 7]]
    assert pairs[1].target_points.tolist() == [[1, 4], [3, 6]]
    assert len(problems) == 1
    assert_matches("row 3.*no point is given in both images", problems[0])
