"""PCK-dagger: a correct point counts only if no other point's true place is nearer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from warpkit.datasets.pair import AnnotatedPair
from warpkit.evaluate.keypoints import own_points, score_pairs
from warpkit.evaluate.predict import PairPrediction


def test_own_points_by_hand() -> None:
    truth = np.float32([[0, 0], [10, 0], [0, 10]])
    # On its place; nearer to the first than to its own; exactly between two; missing.
    assert own_points(np.float32([[0, 0], [4, 0], [0, 10]]), truth).tolist() == [True, False, True]
    assert own_points(np.float32([[5, 0], [5, 0], [5, 5]]), truth).tolist() == [True, True, True]
    missing = np.float32([[np.nan, 0], [10, 0], [np.inf, 0]])
    assert own_points(missing, truth).tolist() == [False, True, False]


def test_points_annotated_at_one_place_do_not_exclude_each_other() -> None:
    truth = np.float32([[3, 3], [3, 3], [50, 3]])
    assert own_points(truth + np.float32(0.3), truth).all()


@pytest.mark.parametrize("block", [1, 7, 512])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Against a literal search, on more points than a block."""
    generator = np.random.default_rng(0)
    truth = generator.uniform(0, 40, (23, 2)).astype(np.float32)
    predicted = truth + generator.normal(0, 4, truth.shape).astype(np.float32)
    expected = []
    for place, own in zip(predicted, range(len(truth)), strict=True):
        away = [float(np.hypot(*(place.astype(float) - true))) for true in truth]
        expected.append(min(away) == away[own])
    monkeypatch.setattr("warpkit.evaluate.keypoints._BLOCK", block)
    found = own_points(predicted, truth)
    assert found.tolist() == expected
    assert 0 < found.sum() < len(truth)


def prediction(truth: list[list[float]], places: list[list[float]]) -> PairPrediction:
    """In a target of 100 x 200 with a box whose longer side is 50."""
    box = (10.0, 10.0, 30.0, 60.0)
    points = np.float32(truth)
    pair = AnnotatedPair(Path("s"), Path("t"), points, points, box, box, "cat")
    return PairPrediction(pair, np.float32(places), 100, 200)


def test_score_pairs_counts_a_place_for_one_point() -> None:
    # Both eyes are put on the left one, 4 pixels from the right one: within 5 pixels of both.
    eyes = prediction([[20, 30], [24, 30]], [[20, 30], [20, 30]])
    others = prediction(
        [[20, 30], [60, 30], [20, 60], [60, 60]], [[22, 30], [68, 30], [20, 60], [60, 60]]
    )
    report = score_pairs([eyes, others], alphas=(0.1,))
    assert report.pck[0.1]["box"] == {
        "per_point": pytest.approx(100 * 5 / 6),
        "per_image": pytest.approx((100 + 75) / 2),
    }
    assert report.pck_dagger[0.1]["box"] == {
        "per_point": pytest.approx(100 * 4 / 6),
        "per_image": pytest.approx((50 + 75) / 2),
    }
    # L of the image is 200: eight pixels are right too, and nearest to their own place.
    assert report.pck_dagger[0.1]["image"]["per_point"] == pytest.approx(100 * 5 / 6)
    document = json.loads(json.dumps(report.to_json()))
    assert document["pck_dagger"]["0.1"]["box"]["per_image"] == 62.5
    assert document["per_category"]["cat"]["pck_dagger"] == document["pck_dagger"]
