"""What PCK must do whatever the data: limits, rescaling, order, names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warpkit.datasets.pair import AnnotatedPair
from warpkit.evaluate.keypoints import score_pairs
from warpkit.evaluate.predict import PairPrediction

ALPHA = 0.1


def prediction(
    seed: int, *, error: float, points: int = 5, category: str = "cat", name: str = "t"
) -> PairPrediction:
    """Points of a 90 x 120 target with a 40 x 60 box, each wrong by up to `error` pixels."""
    generator = np.random.default_rng(seed)
    truth = generator.uniform(10, 70, (points, 2)).astype(np.float32)
    pair = AnnotatedPair(
        Path("s"), Path(name), truth, truth, (0, 0, 30, 30), (10, 20, 50, 80), category
    )
    predicted = truth + generator.uniform(-error, error, truth.shape).astype(np.float32)
    return PairPrediction(pair, predicted, 90, 120)


def shifted(one: PairPrediction, shift: float) -> PairPrediction:
    moved = one.pair.target_points + np.float32([shift, 0])
    return replace(one, predicted=moved.astype(np.float32))


def all_values(predictions: list[PairPrediction]) -> list[float]:
    table = score_pairs(predictions, alphas=(0.02, ALPHA), resamples=10).pck
    return [v for by_l in table.values() for by_mean in by_l.values() for v in by_mean.values()]


def test_a_perfect_prediction_scores_everything() -> None:
    perfect = [prediction(seed, error=0) for seed in range(4)]
    assert all_values(perfect) == [100] * 8


@pytest.mark.parametrize(("threshold", "length"), [("image", 120), ("box", 60)])
def test_a_translation_flips_exactly_at_the_limit(threshold: str, length: float) -> None:
    # Whole numbers, so that the distance is exact: alpha * L is 12 and 6 pixels.
    pair = AnnotatedPair(
        Path("s"),
        Path("t"),
        np.float32([[20, 30], [40, 50]]),
        np.float32([[20, 30], [40, 50]]),
        (0, 0, 30, 30),
        (10, 20, 50, 80),
        "cat",
    )
    still = PairPrediction(pair, pair.target_points, 90, 120)
    limit = ALPHA * length
    for shift, expected in ((limit, 100), (np.nextafter(np.float32(limit), np.float32(99)), 0)):
        exact = replace(pair, target_points=np.float32([[0, 30], [0, 50]]))
        moved = np.float32([[shift, 30], [shift, 50]])
        report = score_pairs(
            [replace(still, pair=exact, predicted=moved)], alphas=(ALPHA,), resamples=5
        )
        assert report.pck[ALPHA][threshold] == {"per_point": expected, "per_image": expected}


@settings(max_examples=25, deadline=None)
@given(scale=st.sampled_from([0.25, 0.5, 2.0, 8.0]), seed=st.integers(0, 50))
def test_rescaling_the_target_image_changes_nothing(scale: float, seed: int) -> None:
    """Points, boxes and sides grow together; powers of two are exact in floats."""
    one = prediction(seed, error=15)
    pair = one.pair
    x1, y1, x2, y2 = (scale * side for side in pair.target_box)
    larger = replace(
        pair,
        target_points=pair.target_points * np.float32(scale),
        target_box=(x1, y1, x2, y2),
    )
    again = replace(
        one,
        pair=larger,
        predicted=one.predicted * np.float32(scale),
        height=int(one.height * scale),
        width=int(one.width * scale),
    )
    box = [score_pairs([p], resamples=5).pck[ALPHA]["box"] for p in (one, again)]
    assert box[0] == box[1]
    if float(one.height * scale).is_integer() and float(one.width * scale).is_integer():
        image = [score_pairs([p], resamples=5).pck[ALPHA]["image"] for p in (one, again)]
        assert image[0] == image[1]


def test_the_source_image_and_its_box_do_not_matter() -> None:
    one = prediction(3, error=15)
    other = replace(
        one.pair, source_points=one.pair.source_points * np.float32(7), source_box=(0, 0, 999, 1)
    )
    assert all_values([one]) == all_values([replace(one, pair=other)])


def test_the_order_of_points_and_pairs_does_not_matter() -> None:
    some = [prediction(seed, error=15, points=2 + seed) for seed in range(5)]
    turned = []
    for one in reversed(some):
        order = np.arange(len(one.pair))[::-1]
        pair = replace(
            one.pair,
            source_points=one.pair.source_points[order],
            target_points=one.pair.target_points[order],
        )
        turned.append(replace(one, pair=pair, predicted=one.predicted[order]))
    np.testing.assert_allclose(all_values(some), all_values(turned), rtol=1e-12)


def test_categories_may_trade_names() -> None:
    names = {"cat": "dog", "dog": "cat"}
    some = [prediction(s, error=15, category="cat" if s % 2 else "dog") for s in range(6)]
    renamed = [replace(p, pair=replace(p.pair, category=names[p.pair.category])) for p in some]
    first, second = score_pairs(some, resamples=5), score_pairs(renamed, resamples=5)
    assert first.pck == second.pck
    assert first.per_category["cat"].pck == second.per_category["dog"].pck
    assert first.per_category["dog"].pck == second.per_category["cat"].pck


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), error=st.floats(0, 40))
def test_larger_tolerances_never_score_less(seed: int, error: float) -> None:
    table = score_pairs([prediction(seed, error=error)], alphas=(0.01, 0.1, 0.5), resamples=5).pck
    for threshold in ("image", "box"):
        values = [table[alpha][threshold]["per_point"] for alpha in (0.01, 0.1, 0.5)]
        assert values == sorted(values)


def test_per_point_weighs_points_and_per_image_pairs() -> None:
    """Nine right points in one pair, one wrong in another: 90 % of points, half of the pairs."""
    right, wrong = prediction(0, error=0, points=9), shifted(prediction(1, error=0, points=1), 60)
    table = score_pairs([right, wrong], alphas=(ALPHA,), resamples=5).pck[ALPHA]["box"]
    assert table["per_point"] == pytest.approx(90)
    assert table["per_image"] == pytest.approx(50)
