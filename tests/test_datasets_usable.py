"""What can be scored, and how the rest is reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pair_files import assert_matches, make_image, make_pair, write_text

from warpkit.checks import InputError
from warpkit.datasets.pair import AnnotatedPair
from warpkit.datasets.usable import usable_pairs


def make_usable(folder: Path) -> list[AnnotatedPair]:
    make_image(folder / "a.png")
    make_image(folder / "sub/b.png", (20, 25))
    return [make_pair(folder), make_pair(folder, category="dog")]


def test_usable_pairs_stay_as_they_are(tmp_path: Path) -> None:
    pairs = make_usable(tmp_path)
    kept, problems = usable_pairs(pairs)
    assert problems == []
    assert all(ours is theirs for ours, theirs in zip(kept, pairs, strict=True))


def test_usable_leaves_out_images_that_do_not_open(tmp_path: Path) -> None:
    first, second = make_usable(tmp_path)
    write_text(tmp_path / "text.png", "no image")
    kept, problems = usable_pairs(
        [
            make_pair(tmp_path, source_path=tmp_path / "gone.png"),
            first,
            make_pair(tmp_path, target_path=tmp_path / "text.png"),
            second,
            make_pair(
                tmp_path, source_path=tmp_path / "gone.png", target_path=tmp_path / "gone.png"
            ),
        ]
    )
    assert len(kept) == 2
    assert kept[0] is first
    assert kept[1] is second
    assert len(problems) == 3
    assert_matches(r"gone\.png -> .*b\.png \(cät\): .*gone\.png: no such file", problems[0])
    assert_matches(r"text\.png: not an image", problems[1])
    assert problems[2].count("no such file") == 1


@pytest.mark.parametrize(
    ("end", "point", "kept"),
    [
        ("source", [40, 30], True),  # the last pixel, counted from 1
        ("source", [40.5, 30.5], True),  # exactly 1 pixel outside [-0.5, 39.5] x [-0.5, 29.5]
        ("source", [-0.5, -0.5], True),
        ("source", [-1, -1], False),  # padding
        ("source", [40.75, 3], False),
        ("source", [3, 30.75], False),
        ("source", [-1.75, 3], False),
        ("target", [20.5, 25.5], True),
        ("target", [20.75, 3], False),
        ("target", [3, -1.75], False),
    ],
)
def test_usable_leaves_out_points_outside(
    tmp_path: Path, end: str, point: list[float], kept: bool
) -> None:
    first, _ = make_usable(tmp_path)
    points = np.array(getattr(first, f"{end}_points"))
    points[1] = point
    moved = make_pair(tmp_path, category="moved", **{f"{end}_points": points})
    pairs, problems = usable_pairs([first, moved])
    assert pairs[0] is first
    if kept:
        assert pairs[1] is moved
        assert problems == []
        return
    assert pairs[1].source_points.tolist() == moved.source_points[[0, 2]].tolist()
    assert pairs[1].target_points.tolist() == moved.target_points[[0, 2]].tolist()
    assert pairs[1].source_box == moved.source_box
    assert len(moved) == 3
    (problem,) = problems
    size = r"40 x 30" if end == "source" else "20 x 25"
    assert_matches(
        rf"a\.png -> .*b\.png \(moved\): 1 point of 3 outside the image, the first {end}"
        rf" point 1 at \({point[0]:g}, {point[1]:g}\) of {size} pixels: left out",
        problem,
    )


def test_usable_leaves_out_a_pair_without_points(tmp_path: Path) -> None:
    first, _ = make_usable(tmp_path)
    far = make_pair(tmp_path, source_points=np.full((3, 2), 99, np.float32))
    kept, problems = usable_pairs([far, first])
    assert kept == [first]
    assert_matches("3 points of 3 outside .*: no point is left", problems[0])
    with pytest.raises(InputError, match=r"no usable pair in these pairs: .*no point is left"):
        usable_pairs([far])
    with pytest.raises(InputError, match="it holds none"):
        usable_pairs([])


def test_usable_leaves_out_pairs_that_came_before(tmp_path: Path) -> None:
    first, second = make_usable(tmp_path)
    other_points = make_pair(tmp_path, source_points=first.source_points + np.float32(0.5))
    fewer = make_pair(
        tmp_path, source_points=first.source_points[:2], target_points=first.target_points[:2]
    )
    again = make_pair(tmp_path, source_box=(1, 1, 5, 5))
    back = make_pair(
        tmp_path,
        source_path=first.target_path,
        target_path=first.source_path,
        source_points=first.target_points,
        target_points=first.source_points,
    )
    kept, problems = usable_pairs([first, second, again, other_points, fewer, back, again])
    assert kept == [first, second, other_points, fewer, back]
    assert len(problems) == 2
    assert_matches(r"\(cät\): the same pair with the same points came before", problems[0])
