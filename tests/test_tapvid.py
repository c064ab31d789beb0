"""The TAP-Vid scores against a literal second implementation, and true tracks of rendered clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from warpkit.checks import InputError
from warpkit.evaluate.tapvid import mean_track_scores, score_tracks
from warpkit.render import CLIPS, render_frame, render_tracks


def literal(true_xy, true_visible, xy, visible, queries, height, width, mode):
    """The definition of the paper, one point, frame and threshold after another."""
    occlusion_right = occlusion_all = 0
    jaccards, shares = [], []
    for threshold in (1, 2, 4, 8, 16):
        true_positive = false_positive = false_negative = within = seen = 0
        occlusion_right = occlusion_all = 0
        for n in range(len(queries)):
            for t in range(true_xy.shape[1]):
                if (mode == "first" and t <= queries[n]) or t == queries[n]:
                    continue
                occlusion_all += 1
                occlusion_right += bool(visible[n, t]) == bool(true_visible[n, t])
                dx = (xy[n, t, 0] - true_xy[n, t, 0]) * 256 / width
                dy = (xy[n, t, 1] - true_xy[n, t, 1]) * 256 / height
                near = (dx * dx + dy * dy) ** 0.5 < threshold
                if true_visible[n, t]:
                    seen += 1
                    within += near
                    if near and visible[n, t]:
                        true_positive += 1
                    else:
                        false_negative += 1
                if visible[n, t] and not (true_visible[n, t] and near):
                    false_positive += 1
        jaccards.append(true_positive / (true_positive + false_positive + false_negative))
        shares.append(within / seen)
    return np.mean(jaccards), np.mean(shares), occlusion_right / occlusion_all


@pytest.mark.parametrize("mode", ["first", "strided"])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_literal_definition(mode: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    true_xy = random.uniform(0, 90, (7, 11, 2))
    true_visible = random.random((7, 11)) < 0.7
    xy = true_xy + random.normal(0, 3, true_xy.shape)
    visible = random.random((7, 11)) < 0.7
    queries = random.integers(0, 9, 7)
    case = (true_xy, true_visible, xy, visible, queries)
    scores = score_tracks(*case, height=60, width=90, mode=mode)
    expected = literal(*case, 60, 90, mode)
    found = (scores.average_jaccard, scores.position, scores.occlusion)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert mean_track_scores([scores, scores]).average_jaccard == pytest.approx(expected[0])


def test_hand_computed() -> None:
    """One point, three frames; 3 pixels of 256 away in one, called hidden in the other."""
    true_xy = np.zeros((1, 3, 2))
    xy = np.array([[[0, 0], [3, 0], [0, 0]]], float)
    scores = score_tracks(
        true_xy,
        np.ones((1, 3), bool),
        xy,
        np.array([[True, True, False]]),
        np.array([0]),
        height=256,
        width=256,
    )
    # Far for thresholds 1 and 2: no hit, 2 truly seen, 1 false alarm; else 1 hit of 2.
    assert scores.jaccard == {1: 0, 2: 0, 4: 0.5, 8: 0.5, 16: 0.5}
    assert scores.within == {1: 0.5, 2: 0.5, 4: 1, 8: 1, 16: 1}
    assert (scores.occlusion, scores.points) == (0.5, 2)


def test_what_does_not_fit_is_refused() -> None:
    xy, seen = np.zeros((1, 3, 2)), np.ones((1, 3), bool)
    with pytest.raises(InputError, match="nothing to score"):
        score_tracks(xy, seen, xy, seen, np.array([2]), height=9, width=9)
    with pytest.raises(InputError, match="tracks must be"):
        score_tracks(xy, seen[:, :2], xy, seen, np.array([0]), height=9, width=9)


def test_true_tracks_are_those_of_the_fields() -> None:
    spec = replace(CLIPS["turtle"], height=48, width=80, frames=9, supersampling=1)
    y, x = np.mgrid[2:48:9, 3:80:11]
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    xy, seen = render_tracks(spec, points)
    for t in (0, 5, 8):
        frame = render_frame(spec, t)
        np.testing.assert_array_equal(xy[:, t], frame.target_xy[points[:, 1], points[:, 0]])
        np.testing.assert_array_equal(seen[:, t], frame.target_visible[points[:, 1], points[:, 0]])
    # Points of a later frame: where they are there is where they were given.
    later, seen = render_tracks(spec, points, frame=6)
    np.testing.assert_allclose(later[:, 6], points, atol=1e-3)
    assert seen[:, 6].all()
    frame = render_frame(spec, 6)
    np.testing.assert_allclose(later[:, 0], frame.source_xy[points[:, 1], points[:, 0]], atol=1e-3)
    with pytest.raises(InputError, match="has frames 0 to 8"):
        render_tracks(spec, points, frame=9)
