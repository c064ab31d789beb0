"""Several annotated frames: how a clip is cut at them, and how two directions are merged."""

from __future__ import annotations

import pytest
import torch

from warpkit.checks import InputError
from warpkit.propagate.passes import Stretch, merge_soft, plan_stretches


def test_a_clip_is_cut_at_its_annotated_frames() -> None:
    assert plan_stretches({3: {1}, 7: {1}, 8: {1}}) == [
        Stretch(0, 3, None, 3, (3,)),
        Stretch(4, 7, 3, 7, (3, 7)),
        Stretch(9, None, 8, None, (8,)),
    ]
    assert plan_stretches({0: {1, 2}}) == [Stretch(1, None, 0, None, (0,))]


def test_an_object_hidden_on_both_sides_is_known_from_the_nearest_frame_that_shows_it() -> None:
    shown = {0: {1, 2}, 5: {1, 2}, 10: {1}, 20: {1}, 30: {2}, 40: {2}}
    known = {(s.before, s.after): s.known for s in plan_stretches(shown)}
    assert known == {
        (0, 5): (0, 5),
        (5, 10): (5, 10),
        (10, 20): (5, 10, 20, 30),
        (20, 30): (20, 30),
        (30, 40): (20, 30, 40),
        (40, None): (20, 40),
    }


def test_a_further_annotation_changes_only_its_own_stretch() -> None:
    before = plan_stretches({0: {1, 2}, 10: {1}, 20: {1, 2}})
    after = plan_stretches({0: {1, 2}, 4: {1, 2}, 10: {1}, 20: {1, 2}})
    assert set(before) - set(after) == {Stretch(1, 10, 0, 10, (0, 10))}


def test_bad_places_are_an_error() -> None:
    with pytest.raises(InputError, match="no frame is annotated"):
        plan_stretches({})
    with pytest.raises(InputError, match="counted from 0, got -1"):
        plan_stretches({-1: {1}})


def test_the_way_between_two_annotated_frames() -> None:
    stretch = Stretch(3, 6, 2, 6, (2, 6))
    assert [stretch.share(p) for p in (3, 4, 5)] == [0.25, 0.5, 0.75]
    assert Stretch(0, 3, None, 3, (3,)).share(1) == 1
    assert Stretch(3, None, 2, None, (2,)).share(100) == 0


def test_the_surer_and_nearer_side_decides() -> None:
    sure, unsure = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.5, 0.5]]])
    torch.testing.assert_close(merge_soft(sure, unsure, share=0.5), sure, rtol=0, atol=2e-3)
    torch.testing.assert_close(merge_soft(unsure, sure, share=0.5), sure, rtol=0, atol=2e-3)
    # Both are sure and disagree: the lead is 1 on both sides, so nearness alone weighs.
    opposite = 1 - sure
    torch.testing.assert_close(
        merge_soft(sure, opposite, share=0.25), torch.tensor([[[0.75, 0.25]]])
    )
    # No lead anywhere: still a mean, not a division by zero.
    torch.testing.assert_close(merge_soft(unsure, unsure, share=0.5), unsure)


def test_objects_compete_with_the_background_for_the_lead() -> None:
    # Two objects at 0.3 and background at 0.4: a lead of 0.1; against 0.9 and 0.1: 0.8.
    forward = torch.tensor([0.3, 0.3]).view(2, 1, 1)
    backward = torch.tensor([0.9, 0.0]).view(2, 1, 1)
    merged = merge_soft(forward, backward, share=0.5).flatten()
    ahead, back = 0.101, 0.801
    expected = (ahead * torch.tensor([0.3, 0.3]) + back * torch.tensor([0.9, 0.0])) / (ahead + back)
    torch.testing.assert_close(merged, expected)
