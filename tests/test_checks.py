"""Bad input is one clear line: what was expected, what came, what to do."""

from __future__ import annotations

import numpy as np
import pytest

from warpkit.checks import (
    InputError,
    check_image,
    check_mask,
    check_points,
    check_same_size,
    first_line,
    one_of,
    require,
    same_definition,
    suggest,
)


def test_require_raises_its_message():
    require(True, "never")
    with pytest.raises(InputError, match=r"^as it is$"):
        require(False, "as it is")
    assert issubclass(InputError, ValueError)


def test_names_are_suggested():
    assert suggest("sd51", ["tiny", "sd15"]) == " Did you mean 'sd15'?"
    assert suggest("zebra", ["tiny", "sd15"]) == ""
    assert one_of("tiny", ["tiny", "sd15"], "model") == "tiny"
    with pytest.raises(InputError) as caught:
        one_of("tinny", iter(["tiny", "sd15"]), "model")
    assert str(caught.value) == (
        "unknown model 'tinny': expected one of tiny, sd15. Did you mean 'tiny'?"
    )


def test_an_image_passes_as_it_is():
    image = np.zeros((2, 3, 3), np.uint8)
    assert check_image(image) is image


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("photo.png", r"must be a uint8 RGB array .*, got str; read files with warpkit.read_image"),
        (None, "got NoneType"),
        (np.zeros((4, 4, 3), np.float32), r"got float32 \(4, 4, 3\)"),
        (np.zeros((4, 4), np.uint8), r"got uint8 \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"got uint8 \(4, 4, 4\)"),
        (np.zeros((1, 9, 3), np.uint8), "must have at least 2 x 2 pixels, got 1 x 9"),
    ],
)
def test_bad_images(image, message):
    with pytest.raises(InputError, match=f"^source .*{message}"):
        check_image(image, "source")


def test_masks_become_bool():
    mask = np.array([[0, 7, 0], [0, 0, 255]], np.uint8)
    checked = check_mask(mask, height=2, width=3)
    assert checked.dtype == bool
    assert checked.tolist() == [[False, True, False], [False, False, True]]
    assert not check_mask(np.zeros((2, 3)), height=2, width=3, allow_empty=True).any()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([[1, 0]], r"must be a 2-D array \(height, width\), got list"),
        (np.ones((2, 3, 1)), r"must be a 2-D array \(height, width\), got \(2, 3, 1\)"),
        (np.ones((3, 2)), r"is 3 x 2 \(height x width\) but its image is 2 x 3: give a mask"),
        (np.zeros((2, 3)), r"is empty \(no pixel is set\): give a mask that covers the object"),
    ],
)
def test_bad_masks(mask, message):
    with pytest.raises(InputError, match=f"^source_mask {message}"):
        check_mask(mask, height=2, width=3, name="source_mask")


def test_points_reach_to_the_edge_of_the_outermost_pixels():
    corners = [[-0.5, -0.5], [3.5, 2.5], [1, 1]]
    checked = check_points(corners, height=3, width=4)
    assert checked.dtype == np.float32
    assert checked.tolist() == [[-0.5, -0.5], [3.5, 2.5], [1.0, 1.0]]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([[3.6, 0]], r": \(3.6, 0\) lies outside the image of 4 x 3 \(width x height\) pixels"),
        ([[0, 0], [0, 2.75]], r": \(0, 2.75\) lies outside"),
        ([[-1, 0]], r": \(-1, 0\) lies outside"),
        ([[float("nan"), 0]], " must be finite numbers"),
        ([[float("inf"), 0]], " must be finite numbers"),
        ([], r" must be a list of \[x, y\] pairs with at least one pair, got shape \(0,\)"),
        ([1, 2], r" must be a list of \[x, y\] pairs with at least one pair, got shape \(2,\)"),
        ([[1, 2, 3]], r" must be a list of .* got shape \(1, 3\)"),
        ([[1, 2], [3]], r" must be a list of \[x, y\] pairs, got \[\[1, 2\], \[3\]\]"),
        ("a,b", r" must be a list of \[x, y\] pairs, got 'a,b'"),
        (None, r" must be a list of \[x, y\] pairs with at least one pair, got shape \(\)"),
    ],
)
def test_bad_points(points, message):
    with pytest.raises(InputError, match=f"^points{message}"):
        check_points(points, height=3, width=4)


def test_the_first_line_of_an_error():
    assert first_line(OSError(" no room\nleft")) == "no room"
    assert first_line(OSError()) == "OSError"
    assert first_line(ValueError(" \n")) == "ValueError"


def test_a_definition_is_a_name_in_a_module():
    def one() -> None: ...

    def other() -> None: ...

    assert same_definition(one, one)
    assert not same_definition(one, other)
    other.__qualname__ = one.__qualname__
    assert same_definition(one, other)
    other.__module__ = "elsewhere"
    assert not same_definition(one, other)


def test_sizes_must_agree():
    check_same_size(np.zeros((2, 3, 3)), np.zeros((2, 3)), "image", "mask")
    with pytest.raises(InputError) as caught:
        check_same_size(np.zeros((2, 3, 3)), np.zeros((3, 2)), "image", "mask")
    assert str(caught.value) == (
        "image is 2 x 3 (height x width) but mask is 3 x 2: they must agree, give both at one size"
    )
