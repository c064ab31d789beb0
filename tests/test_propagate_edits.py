"""Edit layers and dense carriers: where the motion is known, what arrives is known too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from warpkit.checks import InputError
from warpkit.match.settings import MatchFilters
from warpkit.propagate import EditLayer, colormap_layer, composite, warp_edit, warp_labels
from warpkit.types import DescriptorMap

H, W = 15, 22
DY, DX = 2, 3  # motion of everything, in pixels, around the frame's border


def descriptors(seed: int = 0, shift: tuple[int, int] = (0, 0)) -> DescriptorMap:
    """One random descriptor per pixel, moved by (dy, dx); what leaves comes back at the other
    side, so that every pixel has one true match.
    """
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randn(16, H, W, generator=generator).roll(shift, dims=(1, 2))
    return DescriptorMap.covering(cells, height=H, width=W)


def box(y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
    mask = np.zeros((H, W), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (H, W, 3)).astype(np.uint8)


def soft_layer() -> EditLayer:
    rgba = np.zeros((H, W, 4), dtype=np.uint8)
    rgba[4:8, 5:11] = np.random.default_rng(1).integers(0, 256, (4, 6, 4))
    return EditLayer.from_rgba(rgba, height=H, width=W)


def rolled(array: np.ndarray) -> np.ndarray:
    return np.roll(array, (DY, DX), axis=(0, 1))


FIRST, MOVED = descriptors(), descriptors(shift=(DY, DX))
OBJECT = box(3, 9, 4, 13)


@pytest.mark.parametrize("mode", ["backward-warp", "forward-warp"])
def test_labels_follow_the_motion(mode):
    labels = np.where(OBJECT, 9, 0).astype(np.uint8)
    labels[5:7, 6:8] = 4
    result = warp_labels(labels, [4, 9], FIRST, MOVED, mode=mode, closing=0)
    assert np.array_equal(result.labels, rolled(labels))
    assert result.labels.dtype == np.uint8
    landed = result.labels > 0
    np.testing.assert_allclose(result.confidence[landed], 1, atol=1e-5)
    if mode == "forward-warp":
        assert not result.confidence[~landed].any()
    for plane, i in zip(result.soft, (4, 9), strict=True):
        assert np.array_equal(plane.numpy() > 0.5, result.labels == i)


def test_a_backward_warp_brings_nothing_over_weak_matches():
    labels = np.where(OBJECT, 1, 0).astype(np.uint8)
    strangers = descriptors(seed=5)
    result = warp_labels(labels, [1], FIRST, strangers, filters=MatchFilters(min_similarity=0.999))
    assert not result.labels.any()
    assert not result.confidence.any()


def test_closing_fills_holes_with_the_id_around_them_and_adds_no_object():
    labels = np.where(box(3, 10, 3, 10), 6, 0).astype(np.uint8)
    labels[3:10, 14:21] = 2
    first = descriptors()
    # The pixel at (6, 6) has no match: it lands elsewhere, and leaves a hole behind.
    frame = DescriptorMap(first.data.clone(), H, W, 1.0, 1.0)
    frame.data[:, 6, 6] = -first.data[:, 6, 6]
    frame.data[:, 0, 0] = first.data[:, 6, 6]
    closed = warp_labels(labels, [2, 6, 8], first, frame, mode="forward-warp", closing=1)
    expected = labels.copy()
    expected[0, 0] = 6
    assert np.array_equal(closed.labels, expected)
    assert closed.confidence[6, 6] == 0
    open_ = warp_labels(labels, [2, 6, 8], first, frame, mode="forward-warp", closing=0)
    assert open_.labels[6, 6] == 0


@pytest.mark.parametrize("with_masks", [False, True])
@pytest.mark.parametrize("mode", ["backward-warp", "forward-warp"])
def test_an_edit_follows_the_motion(mode, with_masks):
    layer = soft_layer()
    masks = {"first_mask": OBJECT, "frame_mask": rolled(OBJECT)} if with_masks else {}
    carried = warp_edit(layer, FIRST, MOVED, mode=mode, **masks)
    np.testing.assert_allclose(carried.premultiplied, rolled(layer.premultiplied), atol=1e-6)


@pytest.mark.parametrize("mode", ["backward-warp", "forward-warp"])
def test_nothing_lands_outside_the_object(mode):
    layer = colormap_layer(OBJECT)
    image = picture()
    allowed = rolled(box(3, 6, 4, 13))
    carried = warp_edit(layer, FIRST, MOVED, mode=mode, first_mask=OBJECT, frame_mask=allowed)
    assert not carried.premultiplied[~allowed].any()
    result = composite(image, carried)
    assert np.array_equal(result[~allowed], image[~allowed])
    assert (result[allowed] != image[allowed]).any(axis=1).all()


def test_an_absent_object_takes_no_edit():
    absent = np.zeros((H, W), dtype=bool)
    carried = warp_edit(soft_layer(), FIRST, MOVED, first_mask=OBJECT, frame_mask=absent)
    image = picture()
    assert np.array_equal(composite(image, carried), image)


def test_only_the_object_of_the_first_frame_is_a_candidate():
    # The edit reaches beyond the object; what lies beyond is not carried.
    layer = colormap_layer(box(0, H, 0, W))
    carried = warp_edit(layer, FIRST, FIRST, first_mask=OBJECT, frame_mask=box(0, H, 0, W))
    inside = layer.premultiplied[OBJECT]
    np.testing.assert_allclose(carried.premultiplied[OBJECT], inside, atol=1e-6)
    for colour in carried.premultiplied[~OBJECT][::40]:
        assert np.abs(inside - colour).max(axis=1).min() < 1e-6


def test_holes_of_a_forward_warp_are_filled_on_request():
    # Two columns of the frame look like column 6 of the first one: the better is reached.
    frame = DescriptorMap(FIRST.data.clone(), H, W, 1.0, 1.0)
    frame.data[:, :, 7] = FIRST.data[:, :, 6] + 0.01 * FIRST.data[:, :, 7]
    mask, layer = box(2, 10, 6, 8), colormap_layer(box(2, 10, 6, 7))
    source = box(2, 10, 6, 7)
    open_ = warp_edit(
        layer, FIRST, frame, mode="forward-warp", first_mask=source, frame_mask=mask, fill=False
    )
    assert (open_.alpha > 0).sum(axis=0)[6:8].tolist() == [8, 0]
    filled = warp_edit(layer, FIRST, frame, mode="forward-warp", first_mask=source, frame_mask=mask)
    np.testing.assert_allclose(filled.premultiplied[2:10, 7], layer.premultiplied[2:10, 6])


def test_transparent_colour_never_mixes_in():
    rgba = np.zeros((H, W, 4), dtype=np.uint8)
    rgba[..., :3] = 255  # white, but transparent
    rgba[4:8, 5:11] = (200, 0, 0, 255)
    layer = EditLayer.from_rgba(rgba)
    coarse = DescriptorMap.covering(FIRST.data[:, ::2, ::2], height=H, width=W)
    carried = warp_edit(layer, coarse, coarse, mode="forward-warp")
    seen = carried.alpha > 0
    colour = carried.premultiplied[seen][:, :3] / carried.alpha[seen][:, None]
    np.testing.assert_allclose(colour, np.broadcast_to([200 / 255, 0, 0], colour.shape), atol=1e-5)


def test_composite_is_premultiplied_over():
    image = np.full((2, 2, 3), 100, dtype=np.uint8)
    rgba = np.zeros((2, 2, 4), dtype=np.uint8)
    rgba[0, 0] = (255, 0, 51, 51)  # a fifth
    rgba[1, 1] = (10, 20, 30, 255)
    result = composite(image, EditLayer.from_rgba(rgba))
    assert result.dtype == np.uint8
    assert result.tolist() == [
        [[131, 80, 90], [100, 100, 100]],
        [[100, 100, 100], [10, 20, 30]],
    ]
    assert np.array_equal(image, np.full((2, 2, 3), 100))


def test_the_difference_of_two_frames_is_the_edit():
    original = np.clip(picture(), 20, 220)
    edited = original.copy()
    edited[3:9, 4:12] += 30
    edited[3:9, 12] += 8  # faint rim: below the threshold, beside the stroke
    edited[12, 2] += 30  # speckle
    edited[11:14, 15:21] += 8  # faint everywhere: compression noise
    layer = EditLayer.from_edited_frame(original, edited)
    changed = box(3, 9, 4, 13)
    assert np.array_equal(layer.alpha, changed.astype(np.float32))
    result = composite(original, layer)
    assert np.array_equal(result[changed], edited[changed])
    assert np.array_equal(result[~changed], original[~changed])
    everything = EditLayer.from_edited_frame(original, edited, threshold=5, speckle=1)
    assert everything.alpha.sum() == 6 * 9 + 1 + 3 * 6


def test_every_place_of_an_object_has_its_colour():
    mask = box(2, 12, 3, 20)
    mask[2:6, 3:8] = False
    layer = colormap_layer(mask, opacity=0.5)
    assert np.array_equal(layer.alpha, np.where(mask, np.float32(0.5), 0))
    straight = np.rint(layer.premultiplied[..., :3] / 0.5 * 255).astype(int)
    assert len(np.unique(straight[mask], axis=0)) == mask.sum()
    assert np.abs(np.diff(straight[8:12, 3:20], axis=1)).max() <= 25


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: EditLayer.from_rgba(picture()), "must be a uint8 RGBA array .* got uint8"),
        (
            lambda: EditLayer.from_rgba(np.ones((4, 5, 4), np.uint8), height=4, width=6),
            "edit layer is 4 x 5 .* is 4 x 6",
        ),
        (lambda: EditLayer.from_rgba(np.zeros((4, 5, 4), np.uint8)), "wholly transparent"),
        (
            lambda: EditLayer.from_edited_frame(picture(), picture()),
            "does not differ from the original by more than 12",
        ),
        (lambda: EditLayer.from_edited_frame(picture(), picture()[:9]), "they must agree"),
        (lambda: colormap_layer(np.zeros((4, 5), bool)), "object mask is empty"),
        (lambda: colormap_layer(np.ones((4, 5, 3), bool)), "object mask must be a 2-D array"),
        (lambda: colormap_layer(OBJECT, opacity=0), "opacity must lie"),
        (lambda: composite(picture()[:9], soft_layer()), "they must agree"),
        (lambda: warp_edit(soft_layer(), FIRST, MOVED, mode="throw"), "unknown mode 'throw'"),
        (
            lambda: warp_edit(soft_layer(), FIRST, MOVED, first_mask=OBJECT & False),
            "object mask of the first frame is empty",
        ),
        (
            lambda: warp_edit(soft_layer(), FIRST, MOVED, frame_mask=OBJECT[:9]),
            "object mask of the frame is 9 x 22",
        ),
        (
            lambda: warp_edit(EditLayer(np.ones((9, 9, 4), np.float32)), FIRST, MOVED),
            "edit layer is 9 x 9 .* first frame is 15 x 22",
        ),
        (
            lambda: warp_labels(np.zeros((H, W), np.uint8), [1], FIRST, MOVED),
            "labels of the first frame are all background",
        ),
        (
            lambda: warp_labels(OBJECT.astype(np.uint8), [2], FIRST, MOVED),
            r"hold the ids \[1\]",
        ),
        (
            lambda: warp_labels(
                OBJECT.astype(np.uint8), [1], FIRST, MOVED, mode="forward-warp", temperature=0
            ),
            "must be positive",
        ),
    ],
)
def test_bad_input_is_an_error(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_a_layer_that_is_no_layer_is_refused():
    with pytest.raises(ValueError, match=r"must hold float32 \(H, W, 4\)"):
        EditLayer(np.zeros((3, 4, 3), np.float32))
    with pytest.raises(ValueError, match="must lie in"):
        EditLayer(np.full((3, 4, 4), 2, np.float32))
