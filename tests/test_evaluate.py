"""Metrics against hand-computed numbers and a literal second implementation."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from warpkit.checks import InputError
from warpkit.datasets.pair import AnnotatedPair
from warpkit.evaluate.baselines import (
    Hog,
    RgbPatches,
    copy_first_labels,
    flow_labels,
    identity_points,
    predict_identity,
)
from warpkit.evaluate.bootstrap import bootstrap_mean
from warpkit.evaluate.jaccard import (
    boundary_accuracy,
    mask_boundary,
    mean_sequence_scores,
    region_similarity,
    score_sequence,
)
from warpkit.evaluate.keypoints import correct_points, pck, score_pairs
from warpkit.evaluate.predict import PairPrediction, predict_pairs
from warpkit.io.images import write_image
from warpkit.types import DescriptorMap


def square(top: int, left: int, side: int, *, height: int = 20, width: int = 30) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[top : top + side, left : left + side] = True
    return mask


# --- J and F ---------------------------------------------------------------------------------


def test_region_similarity_by_hand() -> None:
    # 4 x 4 squares shifted by (1, 2): 3 * 2 = 6 common of 16 + 16 - 6 = 26.
    assert region_similarity(square(2, 2, 4), square(3, 4, 4)) == 6 / 26
    empty = square(0, 0, 0)
    assert region_similarity(empty, empty) == 1
    assert region_similarity(empty, square(2, 2, 4)) == 0


def test_mask_boundary_by_hand() -> None:
    mask = np.zeros((5, 6), bool)
    mask[1:3, 2:4] = True
    expected = np.array(
        [
            [0, 1, 1, 1, 0, 0],
            [0, 1, 0, 1, 0, 0],
            [0, 1, 1, 1, 0, 0],
            [0, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0],
        ],
        bool,
    )
    assert (mask_boundary(mask) == expected).all()
    assert not mask_boundary(np.ones((4, 7), bool)).any()


def test_boundary_accuracy_by_hand() -> None:
    # 3 x 100: diagonal 100.04, tolerance ceil(0.8) = 1. A mask of the columns up to c has its
    # boundary in column c alone.
    def up_to(column: int) -> np.ndarray:
        return np.tile(np.arange(100) <= column, (3, 1))

    assert boundary_accuracy(up_to(40), up_to(41)) == 1
    assert boundary_accuracy(up_to(40), up_to(42)) == 0
    # A second, wrong edge: precision 3/6 (columns 40, 70 of which 40 is right), recall 1.
    double = up_to(40) | ~up_to(70)
    assert boundary_accuracy(double, up_to(40)) == pytest.approx(2 * 0.5 / 1.5)
    assert boundary_accuracy(up_to(40), double) == pytest.approx(2 * 0.5 / 1.5)


def test_boundary_accuracy_of_empty_boundaries() -> None:
    nothing, everything = np.zeros((9, 13), bool), np.ones((9, 13), bool)
    assert boundary_accuracy(nothing, nothing) == 1
    assert boundary_accuracy(nothing, everything) == 1  # neither has a boundary
    assert boundary_accuracy(nothing, square(2, 2, 4, height=9, width=13)) == 0
    assert boundary_accuracy(square(2, 2, 4, height=9, width=13), nothing) == 0


def literal_boundary(mask: np.ndarray) -> list[tuple[int, int]]:
    height, width = mask.shape
    found = []
    for y in range(height):
        for x in range(width):
            for dy, dx in ((0, 1), (1, 0), (1, 1)):
                below, right = y + dy, x + dx
                if below < height and right < width and mask[y, x] != mask[below, right]:
                    found.append((y, x))
                    break
    return found


def literal_f(predicted: np.ndarray, truth: np.ndarray) -> float:
    radius = math.ceil(0.008 * math.sqrt(truth.shape[0] ** 2 + truth.shape[1] ** 2))
    ours, theirs = literal_boundary(predicted), literal_boundary(truth)
    if not ours and not theirs:
        return 1.0
    if not ours or not theirs:
        return 0.0

    def near(one: tuple[int, int], others: list[tuple[int, int]]) -> bool:
        return any((one[0] - y) ** 2 + (one[1] - x) ** 2 <= radius**2 for y, x in others)

    precision = sum(near(b, theirs) for b in ours) / len(ours)
    recall = sum(near(b, ours) for b in theirs) / len(theirs)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("seed", range(12))
def test_j_and_f_agree_with_a_literal_implementation(seed: int) -> None:
    generator = np.random.default_rng(seed)
    height, width = (int(v) for v in generator.integers(3, 40, 2))
    if seed % 3 == 0:
        height, width = 5, 260  # tolerance of three pixels
    density = generator.random(2) ** 2
    predicted = generator.random((height, width)) < density[0]
    truth = generator.random((height, width)) < density[1]
    assert boundary_accuracy(predicted, truth) == pytest.approx(literal_f(predicted, truth))
    both = sum(bool(a and b) for a, b in zip(predicted.flat, truth.flat, strict=True))
    either = sum(bool(a or b) for a, b in zip(predicted.flat, truth.flat, strict=True))
    assert region_similarity(predicted, truth) == pytest.approx(both / either if either else 1)


def clip_labels(shifts: Sequence[int]) -> list[np.ndarray]:
    """Object 1 moves by the shifts, object 3 stands still."""
    frames = []
    for shift in shifts:
        labels = np.zeros((20, 30), np.uint8)
        labels[2:6, 2 + shift : 6 + shift] = 1
        labels[12:16, 10:20] = 3
        frames.append(labels)
    return frames


def test_score_sequence_leaves_out_the_first_and_last_frame() -> None:
    truth = clip_labels([0, 0, 0, 0])
    predicted = clip_labels([9, 2, 0, 9])
    score = score_sequence(iter(predicted), iter(truth))
    # Shifted by 2 of 4: 8 of 24 pixels. Frame means of object 1: (1/3 + 1) / 2.
    assert score.objects == (1, 3)
    assert score.region.shape == score.boundary.shape == (4, 2)
    np.testing.assert_allclose(score.region, [[0, 1], [1 / 3, 1], [1, 1], [0, 1]])
    np.testing.assert_allclose(score.J, (2 / 3 + 1) / 2)
    np.testing.assert_allclose(score.per_object[:, 0], [2 / 3, 1])
    f = boundary_accuracy(predicted[1] == 1, truth[1] == 1)
    np.testing.assert_allclose(score.F, (f + 1 + 2) / 4)
    np.testing.assert_allclose(score.JF, (score.J + score.F) / 2)

    every = score_sequence(predicted, truth, all_frames=True)
    np.testing.assert_allclose(every.J, (0 + 1 / 3 + 1 + 0 + 4) / 8)
    assert every.to_json()["scored_frames"] == 4


def test_clips_under_three_frames_have_no_official_score() -> None:
    short = score_sequence(clip_labels([0, 0]), clip_labels([0, 0]))
    assert (short.J, short.F, short.JF) == (None, None, None)
    assert short.region.tolist() == [[1, 1], [1, 1]]
    assert short.to_json() == {
        **dict.fromkeys(("J", "F", "JF", "J_recall", "J_decay", "F_recall", "F_decay")),
        "frames": 2,
        "scored_frames": 0,
        "objects": {},
        "frames_J": [1, 1],
        "frames_F": [1, 1],
    }
    assert short.per_object.shape == (0, 6)
    assert score_sequence(clip_labels([0]), clip_labels([0]), all_frames=True).J == 1


def test_void_and_unknown_objects_do_not_count() -> None:
    truth = clip_labels([0, 0, 0])
    predicted = clip_labels([0, 0, 0])
    for labels in truth:
        labels[19, :] = 255
    for labels in predicted:
        labels[18, :] = 7
    score = score_sequence(predicted, truth)
    assert score.objects == (1, 3)
    assert score.JF == 1


def test_score_sequence_refuses_what_does_not_fit() -> None:
    three, two = clip_labels([0, 0, 0]), clip_labels([0, 0])
    with pytest.raises(InputError, match="predicted labels end after 2 frames"):
        score_sequence(two, three)
    with pytest.raises(InputError, match="true labels end after 2 frames"):
        score_sequence(three, two)
    with pytest.raises(InputError, match="no object"):
        score_sequence([np.zeros((4, 5), np.uint8)], [np.full((4, 5), 255, np.uint8)])
    with pytest.raises(InputError, match=r"predicted frame 0 is 4 x 5 .* is 20 x 30"):
        score_sequence([np.zeros((4, 5), np.uint8)], three)
    with pytest.raises(InputError, match="no frames"):
        score_sequence([], [])


def test_mean_scores_count_every_object_once() -> None:
    truth = clip_labels([0, 0, 0])
    two_objects = score_sequence(clip_labels([0, 2, 0]), truth)  # J 1/3 and 1
    alone = [np.where(labels == 3, labels, 0) for labels in truth]
    one_object = score_sequence([np.zeros_like(a) for a in alone], alone)  # J 0
    short = score_sequence(truth[:2], truth[:2])
    report = mean_sequence_scores({"two": two_objects, "one": one_object, "short": short})
    np.testing.assert_allclose(report.J, (1 / 3 + 1 + 0) / 3)
    assert report.unscored == ("short",)
    document = json.loads(json.dumps(report.to_json()))
    assert document["mean"]["J"] == pytest.approx(4 / 9)
    assert document["sequences"]["one"]["J"] == 0
    assert document["sequences"]["two"]["objects"]["1"]["J"] == pytest.approx(1 / 3)
    nothing = mean_sequence_scores({"short": short})
    assert nothing.JF is None
    assert json.loads(json.dumps(nothing.to_json()))["interval"] == {}


# --- PCK -------------------------------------------------------------------------------------


def test_pck_limit_is_inclusive_and_missing_points_are_wrong() -> None:
    truth = np.zeros((4, 2), np.float32)
    predicted = np.array([[3, 4], [5.001, 0], [0, 0], [np.nan, 0]], np.float32)
    right = correct_points(predicted, truth, length=50, alpha=0.1)
    assert right.tolist() == [True, False, True, False]
    assert pck(predicted, truth, length=50, alpha=0.1) == 50
    with pytest.raises(InputError, match=r"both be \(N, 2\)"):
        pck(predicted[:2], truth, length=50, alpha=0.1)


def test_a_limit_is_not_lost_to_rounding() -> None:
    """0.29 * 100 is 28.999999999999996 in floats; a point 29 pixels away is at the limit."""
    truth = np.zeros((1, 2), np.float32)
    assert pck(np.float32([[29, 0]]), truth, length=100, alpha=0.29) == 100
    assert pck(np.float32([[29.00001, 0]]), truth, length=100, alpha=0.29) == 0


def make_pair(
    offsets: Sequence[float],
    category: str = "cat",
    box: tuple[float, float, float, float] = (10, 10, 30, 60),
) -> PairPrediction:
    """A pair in a 100 x 200 (height x width) target, predictions off by so many pixels in x."""
    truth = np.array([[20 + i, 30] for i in range(len(offsets))], np.float32)
    pair = AnnotatedPair(Path("s"), Path("t"), truth, truth, box, box, category)
    predicted = truth + np.array([[offset, 0] for offset in offsets], np.float32)
    return PairPrediction(pair, predicted, 100, 200)


def test_score_pairs_by_hand() -> None:
    # L: image 200, box 50. At alpha 0.1: 20 px and 5 px.
    predictions = [make_pair([0, 5, 6, 21]), make_pair([20], "dog")]
    report = score_pairs(predictions, alphas=(0.1,))
    assert report.pairs == 2
    assert report.points == 5
    image, box = report.pck[0.1]["image"], report.pck[0.1]["box"]
    assert image["per_point"] == pytest.approx(80)
    assert image["per_image"] == pytest.approx((75 + 100) / 2)
    assert box["per_point"] == pytest.approx(40)
    assert box["per_image"] == pytest.approx(25)
    assert report.per_category["cat"].pck[0.1]["box"]["per_image"] == 50
    assert report.per_category["dog"].pck[0.1]["image"]["per_point"] == 100
    assert report.per_category["dog"].interval[0.1]["image"]["per_point"] == (100, 100)
    low, high = report.interval[0.1]["image"]["per_image"]
    assert (low, high) == (75, 100)


def test_pck_report_is_json() -> None:
    report = score_pairs([make_pair([0, 12])], alphas=(0.05, 0.1))
    document = json.loads(json.dumps(report.to_json()))
    assert document["pck"]["0.05"]["image"] == {"per_point": 50, "per_image": 50}
    assert document["pck"]["0.1"]["image"]["per_point"] == 100
    assert document["interval"]["0.1"]["box"]["per_image"] == [50, 50]
    assert document["per_category"]["cat"]["pairs"] == 1
    assert (document["pairs"], document["points"]) == (1, 2)


def test_score_pairs_refuses_nothing() -> None:
    with pytest.raises(InputError, match="no pairs"):
        score_pairs([])


class CoordinateDescriber:
    """Descriptors that name the relative place in the image; counts what it is asked."""

    name = "coordinates"

    def __init__(self) -> None:
        self.described: list[tuple[int, int]] = []

    def describe(self, images: Sequence[np.ndarray]) -> list[DescriptorMap]:
        maps = []
        for image in images:
            height, width = image.shape[:2]
            self.described.append((height, width))
            y, x = torch.meshgrid(
                (torch.arange(height) + 0.5) / height,
                (torch.arange(width) + 0.5) / width,
                indexing="ij",
            )
            data = torch.stack([torch.cos(x), torch.sin(x), torch.cos(y), torch.sin(y)])
            maps.append(DescriptorMap.covering(data, height=height, width=width))
        return maps


def image_pairs(folder: Path) -> list[AnnotatedPair]:
    """Four pairs among three images of different sizes, points at the same relative places."""
    sizes = {"a": (20, 30), "b": (40, 30), "c": (20, 60)}
    generator = np.random.default_rng(0)
    for name, (height, width) in sizes.items():
        image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        write_image(folder / f"{name}.png", image)
    relative = np.array([[0.25, 0.5], [0.75, 0.125]])
    pairs = []
    for source, target in (("a", "b"), ("b", "a"), ("a", "c"), ("c", "b")):
        ends = []
        for name in (source, target):
            height, width = sizes[name]
            ends.append((relative * [width, height] - 0.5).astype(np.float32))
        box = (0.0, 0.0, 10.0, 10.0)
        pairs.append(
            AnnotatedPair(
                folder / f"{source}.png", folder / f"{target}.png", *ends, box, box, "thing"
            )
        )
    return pairs


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_predict_pairs_finds_the_same_place_and_describes_each_image_once(
    tmp_path: Path, batch: int
) -> None:
    pairs = image_pairs(tmp_path)
    describer = CoordinateDescriber()
    predictions = list(predict_pairs(describer, pairs, batch=batch))
    assert sorted(describer.described) == [(20, 30), (20, 60), (40, 30)]
    assert [p.pair for p in predictions] == pairs
    for prediction in predictions:
        # Matches are whole pixels: half a pixel off in x and y at most.
        away = np.abs(prediction.predicted - prediction.pair.target_points)
        assert away.max() <= 0.5 + 1e-4
    assert (predictions[0].height, predictions[0].width) == (40, 30)


def test_predict_pairs_reads_points_past_the_border_at_the_border(tmp_path: Path) -> None:
    pair = image_pairs(tmp_path)[0]
    outside = AnnotatedPair(
        pair.source_path,
        pair.target_path,
        np.array([[30, 20], [-2, -1]], np.float32),
        np.array([[29, 39], [0, 0]], np.float32),
        pair.source_box,
        pair.target_box,
        "thing",
    )
    (prediction,) = predict_pairs(CoordinateDescriber(), [outside])
    # The source's outermost centre lies half-way between two rows of the larger target.
    away = np.abs(prediction.predicted - outside.target_points)
    assert away.max() <= 1


# --- baselines -------------------------------------------------------------------------------


def test_identity_points_keep_the_relative_place() -> None:
    points = np.array([[9.5, 4.5], [-0.5, -0.5]], np.float32)
    points.flags.writeable = False
    moved = identity_points(
        points, source_height=10, source_width=20, target_height=30, target_width=10
    )
    assert moved.tolist() == [[4.5, 14.5], [-0.5, -0.5]]


def test_predict_identity_is_exact_on_rescaled_points(tmp_path: Path) -> None:
    report = score_pairs(predict_identity(image_pairs(tmp_path)), alphas=(0.001,))
    assert report.pck[0.001]["image"]["per_point"] == 100


def test_copy_first_labels_repeats_without_sharing() -> None:
    first = np.eye(3, dtype=np.uint8)
    copies = list(copy_first_labels(first, frames=3))
    copies[0][:] = 9
    assert len(copies) == 3
    assert (copies[2] == np.eye(3)).all()


def test_flow_labels_follow_slow_and_fast_motion() -> None:
    import cv2

    generator = np.random.default_rng(3)
    texture = cv2.GaussianBlur(
        generator.integers(0, 256, (90, 140, 3), dtype=np.uint8), (0, 0), 2.5
    )
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)

    def frame(shift: float) -> np.ndarray:
        matrix = np.array([[1, 0, shift - 20], [0, 1, -10]], np.float64)
        return cv2.warpAffine(texture, matrix, (97, 65), flags=cv2.INTER_LINEAR)

    def label(shift: float) -> np.ndarray:
        labels = np.zeros((65, 97), np.uint8)
        labels[20:45, 30 + round(shift) : 60 + round(shift)] = 5
        return labels

    # 0.4 px a frame is lost where label images are rounded at every step.
    for step in (0.4, 2.0):
        shifts = [step * t for t in range(11)]
        predicted = list(flow_labels((frame(s) for s in shifts), label(0)))
        assert len(predicted) == 11
        assert (predicted[0] == label(0)).all()
        assert set(np.unique(predicted[10])) == {0, 5}
        assert region_similarity(predicted[10] == 5, label(shifts[10]) == 5) > 0.93


def test_flow_labels_refuse_another_size() -> None:
    with pytest.raises(InputError, match="a frame is 30 x 40"):
        list(flow_labels([np.zeros((30, 40, 3), np.uint8)], np.zeros((20, 40), np.uint8)))


def test_rgb_patches_hold_the_colours_around_a_cell() -> None:
    generator = np.random.default_rng(5)
    image = generator.integers(0, 256, (9, 13, 3), dtype=np.uint8)
    (out,) = RgbPatches(size=9, patch=3).describe([image])
    assert (out.channels, out.grid_size) == (27, (9, 13))
    scaled = image.astype(np.float32) / 127.5 - 1
    patch = out.data[:, 4, 6].reshape(3, 3, 3).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(patch, scaled[3:6, 5:8], atol=1e-6)
    corner = out.data[:, 0, 0].reshape(3, 3, 3).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(corner[0, 0], scaled[0, 0], atol=1e-6)
    assert RgbPatches().name == "rgb-5x5"


def test_rgb_patches_resize_the_short_side_and_match_themselves(tmp_path: Path) -> None:
    (out,) = RgbPatches(size=16).describe([np.zeros((64, 32, 3), np.uint8)])
    assert (out.channels, out.grid_size, out.cell_width) == (75, (32, 16), 2.0)
    pair = image_pairs(tmp_path)[0]
    whole = np.array([[7, 9], [22, 2]], np.float32)
    itself = AnnotatedPair(
        pair.source_path,
        pair.source_path,
        whole,
        whole,
        pair.source_box,
        pair.source_box,
        "thing",
    )
    (prediction,) = predict_pairs(RgbPatches(size=20), [itself])
    assert (prediction.predicted == whole).all()


def test_rgb_patches_refuse_an_even_patch() -> None:
    with pytest.raises(InputError, match="odd"):
        RgbPatches(patch=4)


def test_hog_has_its_edge_in_the_cells_that_see_it() -> None:
    image = np.zeros((48, 80, 3), np.uint8)
    image[:, 62:] = 255  # one vertical edge, between columns 61 and 62
    (out,) = Hog(size=48).describe([image])
    assert (out.channels, out.grid_size, out.cell_width) == (36, (6, 10), 8.0)
    # A block of 16 pixels about the centre 8 u + 3.5 sees the edge for u = 7 and 8 alone.
    seen = out.data.abs().sum(0) > 0
    assert seen.all(0).nonzero().flatten().tolist() == [7, 8]
    assert seen.sum() == 12
    # Across the image, not along it: the same edge lying down gives other orientations.
    (turned,) = Hog(size=48).describe([image.transpose(1, 0, 2).copy()])
    assert turned.grid_size == (10, 6)
    assert (turned.data.abs().sum(0) > 0).all(1).nonzero().flatten().tolist() == [7, 8]
    assert not torch.allclose(turned.data[:, 7, 3], out.data[:, 3, 7])
    with pytest.raises(InputError, match="multiple of 8, got 20"):
        Hog(size=20)


# --- bootstrap -------------------------------------------------------------------------------


def test_bootstrap_of_constants_is_the_constant() -> None:
    assert bootstrap_mean([3.0, 3.0, 3.0], seed=0, n=50) == (3.0, 3.0)


def test_bootstrap_matches_the_normal_interval_and_its_seed() -> None:
    values = np.arange(400) % 2
    low, high = bootstrap_mean(values, seed=1)
    # Standard error 0.5 / sqrt(400) = 0.025.
    assert low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.006)
    assert high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.006)
    assert bootstrap_mean(values, seed=1) == (low, high)
    assert bootstrap_mean(values, seed=2) != (low, high)


def test_bootstrap_weights_count() -> None:
    # One unit of weight 3 and value 0 beside one of weight 1 and value 1: 0, 1/4 or 1.
    low, high = bootstrap_mean([0.0, 1.0], weights=[3, 1], seed=0)
    assert (low, high) == (0, 1)
    with pytest.raises(InputError, match="positive weights"):
        bootstrap_mean([1.0, 2.0], weights=[1, 0], seed=0)
    with pytest.raises(InputError, match="N >= 1"):
        bootstrap_mean([], seed=0)
