"""Batches of foreground training, hints drawn from masks, IoU and pseudo-labels, by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from outlined_pictures import rectangle, write_outlined, write_pictures
from torch import Tensor

from warpkit.features.foreground import HINTS, POINT_RADIUS
from warpkit.train import scenes as module
from warpkit.train.foreground_config import ForegroundTrainConfig, LabelRound
from warpkit.train.foreground_probes import pseudo_labels, score_held_out, stored_logits
from warpkit.train.hints import box_hints, draw_hints
from warpkit.train.images import load_images
from warpkit.train.losses import mask_loss
from warpkit.train.scenes import MaskedPictures, Scenes, contour_coverage, contour_pictures

OBJECT, BACKGROUND, BOX, GIVEN = (HINTS.index(n) for n in ("object", "background", "box", "given"))


def block(height: int, width: int, rows: slice, columns: slice) -> Tensor:
    mask = torch.zeros(1, 1, height, width)
    mask[0, 0, rows, columns] = 1
    return mask


def config(root: Path, **changes: object) -> ForegroundTrainConfig:
    plain = ForegroundTrainConfig(root, batch_size=6, shapes=((64, 32),), held_out=1, width=16)
    return dataclasses.replace(plain, **changes)


# Hints


def test_the_box_of_a_mask():
    masks = torch.cat([block(7, 9, slice(2, 5), slice(1, 8)), torch.zeros(1, 1, 7, 9)])
    hints = box_hints(masks)
    assert torch.equal(hints[0, BOX], masks[0, 0] * 2 - 1)
    assert (hints[0, GIVEN] == 1).all()
    assert not hints[0, [OBJECT, BACKGROUND]].any()
    assert not hints[1].any()  # nothing to be found


def test_the_edges_of_a_box_move_by_shares_of_its_sides():
    masks = block(20, 20, slice(5, 15), slice(4, 12))  # 10 rows, 8 columns
    moved = box_hints(masks, torch.tensor([[0.25, -0.1, -0.125, 0.3]]))
    expected = block(20, 20, slice(4, 18), slice(6, 11))
    assert torch.equal(moved[0, BOX], expected[0, 0] * 2 - 1)


def test_points_lie_on_the_object_and_off_it():
    masks = block(96, 128, slice(20, 70), slice(30, 100)).repeat(64, 1, 1, 1)
    required = torch.ones(64, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    hints = draw_hints(masks, share=0.0, required=required, generator=generator)
    boxed = hints[:, BOX].flatten(1).any(1)
    assert 25 < boxed.sum() < 52  # 0.6 of 64
    points = hints[~boxed]
    assert (points[:, GIVEN] == 1).all()
    assert set(points[:, [OBJECT, BACKGROUND]].unique().tolist()) == {0, 1}
    # A disc at most that wide around a point at least 4 pixels within, or 7 pixels beyond.
    radius = POINT_RADIUS * 128
    disc = sum(x * x + y * y <= radius**2 for x in range(-3, 4) for y in range(-3, 4))
    inside = masks[~boxed][:, 0] > 0.5
    on, off = points[:, OBJECT] > 0, points[:, BACKGROUND] > 0
    assert on.flatten(1).any(1).all()
    assert (on & ~inside).sum() == 0
    assert (off & inside).sum() == 0
    assert set((on.flatten(1).sum(1) / disc).ceil().tolist()) == {1, 2}
    assert set((off.flatten(1).sum(1) / disc).ceil().tolist()) == {0, 1, 2}


def test_hints_are_drawn_for_their_share_and_where_required():
    masks = block(16, 16, slice(4, 9), slice(4, 9)).repeat(200, 1, 1, 1)
    required = torch.arange(200) < 20
    generator = torch.Generator().manual_seed(1)
    given = draw_hints(masks, share=0.5, required=required, generator=generator)[:, GIVEN, 0, 0]
    assert (given[:20] == 1).all()
    assert 65 < given[20:].sum() < 115
    nothing = draw_hints(masks * 0, share=1.0, required=required, generator=generator)
    assert not nothing.any()


# Masks and losses


def test_a_contour_covers_its_pixels():
    """Four by two pixels; lines belong to what they enclose, by a quarter of a pixel."""
    contour = np.array(rectangle(1, 1, 4, 2), np.float32).T
    covered = contour_coverage(contour, height=5, width=7)
    assert (covered[1:3, 1:5] == 255).all()
    assert covered.sum() - 255 * 8 <= 64 * 8
    assert covered[0].max() == 0


def test_pictures_are_kept_by_the_area_of_their_object(tmp_path):
    picture = np.zeros((40, 50, 3), np.uint8)
    sides = (4, 20, 30)
    pictures = [(picture, rectangle(5, 5, side, side)) for side in sides]
    store = load_images(write_pictures(tmp_path, pictures), side=40)
    found = contour_pictures(store, (0.1, 0.4))
    assert found.rows.tolist() == [1]
    assert float(found.masks.sum()) / 255 == pytest.approx(400, abs=20)
    everything = contour_pictures(store)
    # Two of the first class, one of the second.
    assert everything.weights.tolist() == pytest.approx([0.5**0.5, 1, 0.5**0.5])


def test_the_loss_of_a_mask_by_hand():
    """Logits of 0 on two cells, one of them half covered: soft IoU (0.25 + 1) / (1.25 + 1)."""
    masks = torch.tensor([[[[0.0, 1.0, 0.0, 0.0]]]])
    loss = mask_loss(torch.zeros(1, 1, 1, 2), masks)
    assert float(loss) == pytest.approx(np.log(2) + 1 - 1.25 / 2.25)
    sure = torch.where(masks > 0.5, 50.0, -50.0)
    assert float(mask_loss(sure, masks)) == pytest.approx(0, abs=1e-6)


# Scenes


@pytest.fixture
def white_on_black(tmp_path: Path) -> Scenes:
    """White objects on black, black pictures without an object; colours are kept."""
    pictures = []
    for x, y in ((6, 4), (12, 9), (9, 7)):
        picture = np.zeros((33, 40, 3), np.uint8)
        picture[y : y + 16, x : x + 18] = 255
        pictures.append((picture, rectangle(x, y, 18, 16)))
    pictures += [(np.zeros((30, 44, 3), np.uint8), None)] * 2
    store = load_images(write_pictures(tmp_path / "white", pictures), side=40)
    objects = contour_pictures(store.take([0, 1, 2]))
    return Scenes(config(tmp_path, busy=0.0, hinted=0.0), objects, store.take([3, 4]))


@pytest.mark.parametrize("pasted", [0.0, 1.0])
def test_pictures_show_the_object_where_the_mask_is(white_on_black, monkeypatch, pasted):
    monkeypatch.setattr(module._Brush, "jitter", lambda brush, images: images)
    monkeypatch.setattr(module._Brush, "grain", lambda brush, images: images)
    white_on_black.config = dataclasses.replace(white_on_black.config, pasted=pasted)
    for step in range(4):
        batch = white_on_black.draw(step)
        assert batch.images.shape == (6, 3, 32, 64)
        assert batch.masks.shape == (6, 1, 32, 64)
        shown = batch.images.mean(1, keepdim=True) > 0.5
        edge = (batch.masks > 0.02) & (batch.masks < 0.98)
        # A soft edge of the mask is a softer one of the object.
        near = F.max_pool2d(edge.float(), 3, stride=1, padding=1) > 0
        inner = (batch.masks > 0.5) & ~near
        beyond = (batch.masks <= 0.5) & ~near
        # What repeats beyond the picture's border is no object.
        assert shown[inner].all()
        assert not shown[beyond].any()
        assert not batch.hints.any()
    assert float(batch.masks.mean()) > 0.02


def test_busy_backgrounds_come_with_a_hint(white_on_black):
    white_on_black.config = dataclasses.replace(white_on_black.config, pasted=0.5, busy=1.0)
    hints = white_on_black.draw(0).hints
    masks = white_on_black.draw(0).masks
    there = (masks > 0.5).flatten(1).any(1)
    assert hints[:, GIVEN, 0, 0].tolist() == [0, 0, 0, *there[3:].float().tolist()]


def test_a_batch_depends_on_the_seed_and_the_step_alone(tmp_path):
    store = load_images(write_outlined(tmp_path / "data"), side=40)
    objects, others = contour_pictures(store.take(range(6))), store.take(range(6, 10))
    scenes = Scenes(config(tmp_path), objects, others)
    first, _, third = (scenes.draw(step) for step in (0, 1, 0))
    for name in ("images", "masks", "hints"):
        assert torch.equal(getattr(first, name), getattr(third, name))
    assert not torch.equal(first.images, scenes.draw(1).images)
    other = Scenes(config(tmp_path, seed=1), objects, others)
    assert not torch.equal(first.images, other.draw(0).images)
    # Without other pictures, backgrounds come from those with objects.
    assert Scenes(config(tmp_path), objects, store.take(())).draw(0).images.isfinite().all()


def test_pseudo_labels_take_their_share_of_a_batch(tmp_path):
    store = load_images(write_outlined(tmp_path / "data"), side=40)
    objects, others = contour_pictures(store.take(range(6))), store.take(range(6, 10))
    scenes = Scenes(config(tmp_path, batch_size=20, pseudo=0.35), objects, others)
    assert scenes._counts() == (0, 10, 10)
    labels = torch.zeros(2, 33, 40, dtype=torch.uint8)
    scenes.pseudo = MaskedPictures(others, torch.tensor([0, 3]), labels, torch.ones(2))
    assert scenes._counts() == (5, 7, 8)  # of 2 + 6 pictures a quarter, less than 0.35
    batch = scenes.draw(0)
    assert not batch.masks[:5].any()
    assert batch.masks[5:12].flatten(1).any(1).all()


def test_what_is_under_an_object_is_filled_from_around():
    images = torch.full((1, 3, 31, 45), 0.25)
    masks = block(31, 45, slice(8, 20), slice(10, 30))
    images = torch.where(masks > 0, 0.9, images)
    assert torch.allclose(module._without_object(images, masks), torch.tensor(0.25), atol=1e-5)


# Evaluation and pseudo-labels


def bright(images: Tensor, hints: Tensor) -> Tensor:
    """White is object; with a hint, the box."""
    boxed = hints[:, GIVEN : GIVEN + 1] > 0
    seen = torch.where(boxed, hints[:, BOX : BOX + 1], images.mean(1, keepdim=True) * 2 - 1)
    return 20 * F.interpolate(seen, scale_factor=0.25, mode="area")


def test_iou_by_hand(tmp_path):
    """16 of 32 columns are white, of which 8 are within the contour; its box is the contour."""
    first = np.zeros((32, 32, 3), np.uint8)
    first[:, :16] = 255
    second = np.zeros((32, 64, 3), np.uint8)
    second[8:24, 16:48] = 255
    pictures = [(first, rectangle(0, 0, 8, 32)), (second, rectangle(16, 8, 32, 16))]
    store = load_images(write_pictures(tmp_path, pictures), side=64)
    truth = torch.zeros(2, 32, 44, dtype=torch.uint8)
    truth[0, :, :8] = 255
    truth[1, 8:24, 6:38] = 255  # stored cut to 44 columns
    held_out = dataclasses.replace(contour_pictures(store), masks=truth)
    scores = score_held_out(bright, held_out, size=32)
    assert scores.figures["held_out/iou"] == pytest.approx((0.5 + 1) / 2, abs=0.03)
    assert scores.figures["held_out/iou_median"] == pytest.approx((0.5 + 1) / 2, abs=0.03)
    assert scores.figures["held_out/iou_box"] == pytest.approx(1, abs=0.03)
    assert scores.picture.shape == (3 * 32, 2 * 44, 3)
    # Found above true: columns 8 to 15 of the first are found alone.
    assert scores.picture[32 + 5, 2].tolist() == [255] * 3
    assert scores.picture[32 + 5, 12].tolist() == [255] * 3
    assert scores.picture[64 + 5, 12].tolist() == [63] * 3


def test_logits_lie_in_stored_pixels_of_every_picture(tmp_path):
    """Pictures of several sizes, each smaller than the array; one pixel pattern each."""
    pictures = []
    for height, width in ((40, 50), (33, 44), (44, 33)):
        picture = np.zeros((height, width, 3), np.uint8)
        picture[height // 2 :, width // 4 : width // 2] = 255
        pictures.append((picture, None))
    store = load_images(write_pictures(tmp_path, pictures), side=64)
    seen = set()
    for rows, logits in stored_logits(bright, store, size=160):
        for row, both in zip(rows.tolist(), logits, strict=True):
            h, w = store.sizes[row].tolist()
            truth = store.pixels[row, 0, :h, :w] > 127
            assert ((both[:, :h, :w] > 0) != truth).float().mean() < 0.03
            seen.add(row)
    assert seen == {0, 1, 2}


def test_labels_that_are_not_sure_are_left_out(tmp_path):
    """A white block is sure; gray, a speck, almost everything and one side only are not."""
    block_, gray, speck, full = (np.zeros((64, 64, 3), np.uint8) for _ in range(4))
    block_[16:48, 16:48] = 255
    gray[16:48, 16:48] = 132
    speck[30:34, 30:34] = 255
    full[:, 2:] = 255
    pictures = [(picture, None) for picture in (block_, gray, speck, full)]
    store = load_images(write_pictures(tmp_path, pictures), side=64)
    criteria = LabelRound(at=0.5, unsure=0.5, disagreement=0.02, area=(0.05, 0.8))
    found = pseudo_labels(bright, store, criteria, size=64)
    assert found.rows.tolist() == [0]
    assert found.masks[0, 32, 32] == 255
    assert found.masks[0, 2, 2] == 0
    assert float(found.masks.sum()) / 255 == pytest.approx(32 * 32, rel=0.05)

    def lopsided(images: Tensor, hints: Tensor) -> Tensor:
        logits = bright(images, hints)
        left = torch.arange(logits.shape[3]) < logits.shape[3] // 2
        return torch.where(left, logits, -20)

    assert len(pseudo_labels(lopsided, store, criteria, size=64)) == 0
