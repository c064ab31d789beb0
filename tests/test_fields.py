"""Dense fields against exact truth, by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from warpkit.checks import InputError
from warpkit.coords import pixel_grid
from warpkit.evaluate.baselines import flow_field
from warpkit.evaluate.field_errors import FieldError, FieldTruth, field_error, score_fields
from warpkit.render import CLIPS, render_frame


def truth(height: int = 4, width: int = 5, name: str = "pair") -> FieldTruth:
    image = np.zeros((height, width, 3), np.uint8)
    known = np.ones((height, width), bool)
    known[0] = False
    grid = pixel_grid(height=height, width=width).numpy()
    return FieldTruth(name, "thing", np.zeros((20, 40, 3), np.uint8), image, grid, known)


def test_errors_by_hand() -> None:
    one = truth()
    field = one.source_xy.copy()
    field[1, 0] += (3, 4)  # 5 px
    field[2, 1] += (0, 2)  # 2 px
    field[0] += 100  # not scored
    valid = np.ones((4, 5), bool)
    valid[3, 4] = False
    error = field_error(one, field, valid)
    assert error.length == 40
    assert len(error.distance) == 15
    assert sorted(error.distance.tolist())[-3:] == [2, 5, np.inf]
    report = score_fields([error], alphas=(0.05, 0.1, 0.125), resamples=5)
    assert report.epe == pytest.approx(7 / 14)
    assert report.epe_median == 0
    assert report.coverage == pytest.approx(100 * 14 / 15)
    # 0.05 * 40 = 2 pixels, the limit included; a pixel without a prediction is wrong.
    assert report.pck[0.05]["per_point"] == pytest.approx(100 * 13 / 15)
    assert report.pck[0.1]["per_point"] == pytest.approx(100 * 13 / 15)
    assert report.pck[0.125]["per_point"] == pytest.approx(100 * 14 / 15)


def test_pixels_and_pairs_are_weighted_apart() -> None:
    many = FieldError("a", np.zeros(9), 10.0)
    one = FieldError("b", np.array([9.0]), 10.0)
    report = score_fields([many, one], alphas=(0.1,), resamples=5)
    assert report.pck[0.1] == {"per_point": pytest.approx(90), "per_image": pytest.approx(50)}
    assert report.epe == pytest.approx(0.9)
    assert report.per_category["a"].pck[0.1]["per_image"] == 100
    document = json.loads(json.dumps(report.to_json()))
    assert document["per_category"]["b"]["epe"] == 9
    assert document["pairs"] == 2
    assert document["pixels"] == 10


def test_a_field_without_any_prediction_has_no_error_but_scores_nothing() -> None:
    report = score_fields([FieldError("a", np.full(3, np.inf), 10.0)], resamples=5)
    assert report.epe is None
    assert report.epe_interval is None
    assert report.coverage == 0
    assert report.pck[0.1]["per_image"] == 0


def test_what_does_not_fit_is_refused() -> None:
    one = truth()
    with pytest.raises(InputError, match="must be"):
        field_error(one, one.source_xy[:3], one.known[:3])
    with pytest.raises(InputError, match="no pixel has a known correspondence"):
        FieldTruth("x", "c", one.source, one.target, one.source_xy, np.zeros_like(one.known))
    broken = one.source_xy.copy()
    broken[2, 2] = np.nan
    with pytest.raises(InputError, match="finite where it is known"):
        FieldTruth("x", "c", one.source, one.target, broken, one.known)
    with pytest.raises(InputError, match="no fields"):
        score_fields([])


def test_flow_field_follows_a_small_motion_and_scales_sizes() -> None:
    """Frame 2 of a clip: the flow must find where its points were in frame 0."""
    first, later = render_frame(CLIPS["fish"], 0), render_frame(CLIPS["fish"], 2)
    field = flow_field(first.image, later.image)
    inside = (later.labels > 0) & later.visible
    away = np.linalg.norm(field - later.source_xy, axis=-1)[inside]
    still = np.linalg.norm(pixel_grid(height=192, width=320).numpy() - later.source_xy, axis=-1)
    assert np.median(away) < 0.3 * np.median(still[inside])

    double = np.repeat(np.repeat(first.image, 2, axis=0), 2, axis=1)
    scaled = flow_field(double, later.image)
    # Pixel centres: x of the double image is 2 x + 0.5 of the single one.
    assert np.median(np.abs(scaled - (2 * field + 0.5))) < 0.2
