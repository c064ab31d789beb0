"""CUB-200-2011 on a small tree of its layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from pair_files import assert_matches, make_image, stems, write_text

from warpkit.checks import InputError
from warpkit.datasets.cub import read_cub


def make_cub(root: Path) -> Path:
    """Species 1 (images 1 to 4) and 2 (5 to 8), of which 3, 4, 7, 8 are for testing."""
    images, labels, boxes, split, parts = [], [], [], [], []
    for number in range(1, 9):
        folder = "001.Albatross" if number <= 4 else "002.Ani"
        name = f"{folder}/{folder[4:]}_{number}.jpg"
        make_image(root / "images" / name)
        images.append(f"{number} {name}")
        labels.append(f"{number} {1 if number <= 4 else 2}")
        boxes.append(f"{number} {number}.0 2.0 30.0 20.0")
        split.append(f"{number} {int(number in (1, 2, 5, 6))}")
        parts += [
            f"{number} 1 {number}.5 10.0 1",
            f"{number} 2 20.0 {number}.0 {int(number % 4 != 3)}",
            f"{number} 3 0.0 0.0 0",
        ]
    write_text(root / "images.txt", *images)
    write_text(root / "image_class_labels.txt", *labels)
    write_text(root / "bounding_boxes.txt", *boxes)
    write_text(root / "train_test_split.txt", *split)
    write_text(root / "parts/parts.txt", "1 back", "2 left eye", "3 tail")
    write_text(root / "parts/part_locs.txt", *parts)
    return root


def test_cub_same_species_of_the_test_split(tmp_path: Path) -> None:
    pairs, problems = read_cub(make_cub(tmp_path), pairs=4)
    assert problems == []
    assert sorted(stems(pairs)) == [
        ("Albatross_3", "Albatross_4"),
        ("Albatross_4", "Albatross_3"),
        ("Ani_7", "Ani_8"),
        ("Ani_8", "Ani_7"),
    ]
    pair = next(p for p in pairs if stems([p]) == [("Ani_7", "Ani_8")])
    assert pair.source_points.tolist() == [[7.5, 10]]  # the left eye is hidden in image 7
    assert pair.target_points.tolist() == [[8.5, 10]]
    assert pair.source_box == (7, 2, 37, 22)
    assert pair.category == "002.Ani"


def test_cub_pairing_split_and_species(tmp_path: Path) -> None:
    make_cub(tmp_path)
    training, _ = read_cub(tmp_path, pairs=4, split="train")
    assert {p.source_path.stem for p in training} == {
        "Albatross_1",
        "Albatross_2",
        "Ani_5",
        "Ani_6",
    }
    assert training[0].source_points.shape == (2, 2)
    cross, _ = read_cub(tmp_path, pairs=8, pairing="cross")
    assert {p.category for p in cross} == {"cross-species"}
    assert all(p.source_path.parent != p.target_path.parent for p in cross)
    everything, _ = read_cub(tmp_path, pairs=8 * 7, pairing="any", split=None)
    assert len(set(stems(everything))) == 56
    assert {p.category for p in everything} == {"cross-species", "001.Albatross", "002.Ani"}
    one, _ = read_cub(tmp_path, pairs=12, split=None, species=(2,))
    assert {p.category for p in one} == {"002.Ani"}
    with pytest.raises(InputError, match="only 4 same-species pairs: ask for no more"):
        read_cub(tmp_path, pairs=5)
    with pytest.raises(InputError, match="only 56 pairs: ask for"):
        read_cub(tmp_path, pairs=57, split=None, pairing="any")
    with pytest.raises(InputError, match="only 2 same-species pairs of species 1: ask for"):
        read_cub(tmp_path, species=[1])


def test_cub_draw_follows_the_seed(tmp_path: Path) -> None:
    make_cub(tmp_path)

    def draw(seed: int) -> list[tuple[str, str]]:
        return stems(read_cub(tmp_path, pairs=10, seed=seed, pairing="any", split=None)[0])

    assert draw(1) == draw(1) != draw(2)
    # A smaller draw is the beginning of a larger one.
    assert draw(1)[:4] == stems(read_cub(tmp_path, pairs=4, seed=1, pairing="any", split=None)[0])


def replace_line(path: Path, start: str, *new: str) -> None:
    lines = path.read_text().splitlines()
    position = next(i for i, line in enumerate(lines) if line.startswith(start))
    write_text(path, *lines[:position], *new, *lines[position + 1 :])


def test_cub_lists_broken_images_and_lines(tmp_path: Path) -> None:
    make_cub(tmp_path)
    (tmp_path / "images/002.Ani/Ani_7.jpg").unlink()
    replace_line(tmp_path / "bounding_boxes.txt", "8 ", "8 1.0 2.0 wide 20.0")
    replace_line(tmp_path / "parts/part_locs.txt", "1 2 ")
    replace_line(tmp_path / "image_class_labels.txt", "2 ")
    write_text(
        tmp_path / "images.txt", *(tmp_path / "images.txt").read_text().splitlines(), "nothing"
    )
    pairs, problems = read_cub(tmp_path, pairs=4, split=None)
    assert set(stems(pairs)) == {
        ("Albatross_3", "Albatross_4"),
        ("Albatross_4", "Albatross_3"),
        ("Ani_5", "Ani_6"),
        ("Ani_6", "Ani_5"),
    }
    expected = [
        "images.txt: expected lines 'number name', got 'nothing'",
        "bounding_boxes.txt: expected lines of an image number and 4 numbers, got '8 1.0 2.0 wide",
        r"image 1 \(001.*\): expected one line in parts/part_locs.txt for each of the 3 parts",
        r"image 2 \(.*expected one line in image_class_labels.txt, got 0",
        r"image 7 \(.*the image .*Ani_7.jpg is missing",
        r"image 8 \(.*expected one line in bounding_boxes.txt, got 0",
    ]
    assert len(problems) == len(expected)
    for pattern, problem in zip(expected, problems, strict=True):
        assert_matches(pattern, problem)
    # Images of the other split and other species are nobody's business.
    _, problems = read_cub(tmp_path, pairs=2, species=[1])
    assert not any("Ani_" in problem or "image 1 " in problem for problem in problems)


def test_cub_lists_a_box_without_a_side(tmp_path: Path) -> None:
    make_cub(tmp_path)
    replace_line(tmp_path / "bounding_boxes.txt", "8 ", "8 1.0 2.0 0.0 0.0")
    pairs, problems = read_cub(tmp_path, pairs=2)
    assert {pair.category for pair in pairs} == {"001.Albatross"}
    assert len(problems) == 1
    assert_matches(
        r"image 8 .*: box must be .* with a positive side, got \(1, 2, 1, 2\)", problems[0]
    )


def test_cub_refuses(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file: .*parts\.txt"):
        read_cub(tmp_path)
    make_cub(tmp_path)
    with pytest.raises(InputError, match="no usable image of species 7; 0 items are broken"):
        read_cub(tmp_path, species=[1, 7])
    with pytest.raises(InputError, match="unknown pairing 'both'"):
        read_cub(tmp_path, pairing="both")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="unknown split 'val'"):
        read_cub(tmp_path, split="val")  # type: ignore[arg-type]
