"""Propagation in memory: frames are pulled as they are needed, and results come one per frame."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest

import warpkit
from warpkit.match.settings import MatchFilters
from warpkit.propagate import EditConfig, LabelConfig
from warpkit.render import RenderedFrame
from warpkit.video.config import PropagateSettings

# Frames described one at a time: batches of other frames differ by rounding.
ONE = PropagateSettings(chunk=1)


class Tape:
    """Frames that count how many were taken."""

    def __init__(self, frames: list[np.ndarray]) -> None:
        self.frames, self.taken = frames, 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for frame in self.frames:
            self.taken += 1
            yield frame


def images(clip: list[RenderedFrame]) -> list[np.ndarray]:
    return [frame.image for frame in clip]


@pytest.mark.parametrize("chunk", [1, 2, 3, 50])
def test_never_more_than_a_chunk_ahead(
    model: warpkit.Model, clip: list[RenderedFrame], chunk: int
) -> None:
    tape = Tape(images(clip))
    run = model.propagate(tape, labels=clip[0].labels, settings=PropagateSettings(chunk=chunk))
    assert tape.taken == 1  # what is given is checked at the call
    for yielded, result in enumerate(run, start=1):
        assert result.position == yielded - 1
        assert yielded <= tape.taken <= yielded - 1 + chunk
        if yielded == 1:
            assert tape.taken == 1
    assert yielded == tape.taken == len(clip)


def test_descriptions_come_in_chunks(model: warpkit.Model, clip: list[RenderedFrame]) -> None:
    sizes: list[int] = []

    class Counting:
        name = "counting"

        def describe(self, batch: list[np.ndarray]) -> list[warpkit.DescriptorMap]:
            sizes.append(len(batch))
            return model.describe(batch)

    run = warpkit.Model(Counting()).propagate(
        images(clip), labels=clip[0].labels, settings=PropagateSettings(chunk=4)
    )
    assert len(list(run)) == 7
    assert sizes == [1, 4, 2]  # every frame is described once


def test_first_result_is_what_was_given(model: warpkit.Model, clip: list[RenderedFrame]) -> None:
    inside = clip[0].labels > 0
    rgba = np.dstack([255 - clip[0].image, inside.astype(np.uint8) * 255])
    run = model.propagate(
        images(clip),
        labels=clip[0].labels * 3,
        edit=warpkit.EditLayer.from_rgba(rgba),
        points=[[40, 20], [3.5, 4]],
    )
    first = next(run)
    assert np.array_equal(first.labels, clip[0].labels * 3)
    assert (first.confidence == 1).all()
    expected = np.where(inside[..., None], 255 - clip[0].image, clip[0].image)
    assert np.array_equal(first.edited, expected)
    assert first.points.xy.tolist() == [[40, 20], [3.5, 4]]
    assert first.points.visible.all()
    second = next(run)
    assert set(np.unique(second.labels)) <= {0, 3}
    assert second.labels.dtype == np.uint8
    assert second.confidence.dtype == np.float32
    assert (second.confidence >= 0).all() and (second.confidence <= 1 + 1e-6).all()
    # The edit lands on the propagated object and nowhere far from it.
    near = cv2.dilate((second.labels > 0).astype(np.uint8), np.ones((5, 5), np.uint8))
    away = near == 0
    assert away.any()
    assert np.array_equal(second.edited[away], clip[1].image[away])
    assert second.points.xy.shape == (2, 2)


@pytest.mark.parametrize("mode", ["label", "backward-warp", "forward-warp"])
def test_a_still_clip_keeps_its_mask(
    model: warpkit.Model, clip: list[RenderedFrame], mode: str
) -> None:
    """On the same frame again every mode gives the mask back, up to its edge."""
    config = PropagateSettings(mode=mode, label=LabelConfig(top_k=1, temperature=0.01))
    *_, last = model.propagate([clip[0].image] * 3, labels=clip[0].labels, settings=config)
    union = (last.labels > 0) | (clip[0].labels > 0)
    assert ((last.labels > 0) & (clip[0].labels > 0)).sum() > 0.75 * union.sum()


def test_points_alone(model: warpkit.Model, clip: list[RenderedFrame]) -> None:
    results = list(model.propagate([clip[0].image] * 2, points=[[40, 20], [10, 30]]))
    for result in results:
        assert result.labels is None
        assert result.confidence is None
        assert result.edited is None
    assert np.abs(results[1].points.xy - [[40, 20], [10, 30]]).max() < 3
    assert results[1].points.visible.all()
    assert results[1].points.similarity.min() > 0.99


def test_an_object_that_vanished_takes_its_edit_along(
    model: warpkit.Model, clip: list[RenderedFrame]
) -> None:
    """Full evidence is never reached again: the object is absent, the frames stay as they are."""
    inside = clip[0].labels > 0
    rgba = np.dstack([255 - clip[0].image, inside.astype(np.uint8) * 255])
    config = PropagateSettings(label=LabelConfig(min_evidence=1.0, top_k=400, temperature=10.0))
    results = list(
        model.propagate(
            images(clip)[:3],
            labels=clip[0].labels,
            edit=warpkit.EditLayer.from_rgba(rgba),
            settings=config,
        )
    )
    for frame, result in zip(clip[1:3], results[1:], strict=True):
        assert not result.labels.any()
        assert np.array_equal(result.edited, frame.image)


def test_bad_input(model: warpkit.Model, clip: list[RenderedFrame]) -> None:
    frames, labels = images(clip), clip[0].labels

    def refused(pattern: str, *arguments: object, **options: object) -> None:
        with pytest.raises(warpkit.InputError, match=pattern):
            list(model.propagate(*arguments, **options))

    refused("the clip has no frames", [], labels=labels)
    refused("nothing to propagate", frames)
    refused("the mask is empty", frames, labels=labels * 0)
    refused("uint8 array", frames, labels=labels > 0)
    refused("the mask is 48 x 70", frames, labels=labels[:, :70])
    refused("outside the image", frames, points=[[80, 3]])
    refused("a frame is 48 x 70", [frames[0], frames[1][:, :70]], labels=labels)
    with pytest.raises(warpkit.InputError, match="chunk must be at least 1 frame, got 0"):
        PropagateSettings(chunk=0)


def test_an_edit_outside_the_mask_is_shown_in_no_frame(model, clip, caplog) -> None:
    labels = clip[0].labels
    rgba = np.zeros((*labels.shape, 4), np.uint8)
    rgba[...] = (255, 0, 255, 255)
    edit = warpkit.EditLayer.from_rgba(rgba)
    with caplog.at_level("WARNING", logger="warpkit"):
        results = list(model.propagate([f.image for f in clip[:2]], labels=labels, edit=edit))
    outside = labels == 0
    assert caplog.messages == [
        f"{100 * outside.mean():.0f} % of what the edit changes lies outside the first frame's mask"
        " and will not be in the video: to keep it, draw the mask around it too, or give no mask"
    ]
    assert np.array_equal(results[0].edited[outside], clip[0].image[outside])
    assert (results[0].edited[~outside] == (255, 0, 255)).all()


def test_a_translucent_edit_is_carried(model, clip) -> None:
    labels = clip[0].labels
    rgba = np.zeros((*labels.shape, 4), np.uint8)
    rgba[labels > 0] = (255, 0, 255, 100)
    edit = warpkit.EditLayer.from_rgba(rgba)
    for given in (labels, None):
        results = list(model.propagate([f.image for f in clip[:2]], labels=given, edit=edit))
        changed = (results[1].edited != clip[1].image).any(-1)
        assert changed.sum() > 0.5 * (clip[1].labels > 0).sum()


@pytest.mark.parametrize(
    "make",
    [
        lambda: MatchFilters(cycle_distance=-1),
        lambda: MatchFilters(min_similarity=2),
        lambda: MatchFilters(min_similarity=float("inf")),
    ],
)
def test_thresholds_that_no_match_meets_are_refused(make) -> None:
    with pytest.raises(warpkit.InputError, match=r"a cycle distance is|a similarity is"):
        make()


def test_annotated_frames_anywhere(model: warpkit.Model, clip: list[RenderedFrame]) -> None:
    """Both ways from each; what was given comes back as it was, in the order of the clip."""
    tape = Tape(images(clip))
    truth = [frame.labels for frame in clip]
    annotations = {2: truth[2], 5: truth[5] * 3}
    # Two ids for one thing, so that it shows which side a label came from.
    config = PropagateSettings(label=LabelConfig(annotated_bias=0.0))
    results = model.propagate(tape, annotations=annotations, settings=config)
    first = next(results)
    # Up to the first annotated frame and the one that shows the object hidden there: no further.
    assert tape.taken == 6
    results = [first, *results]
    assert [result.position for result in results] == list(range(7))
    assert [result.given for result in results] == [p in annotations for p in range(7)]
    for position, labels in annotations.items():
        assert np.array_equal(results[position].labels, labels)
    for result in results:
        assert result.labels is not None
        assert set(np.unique(result.labels)) <= {0, 1, 3}
    assert results[0].labels.any()
    # Frame 3 is next to the mask with id 1, frame 4 to the one with id 3.
    assert (results[3].labels == 1).sum() > (results[4].labels == 1).sum()
    assert (results[3].labels == 3).sum() < (results[4].labels == 3).sum()
    assert (results[4].labels == 3).sum() > (results[4].labels == 1).sum()
    assert (results[6].labels == 3).sum() > (results[6].labels == 1).sum()


def test_one_annotated_frame_is_carried_backward_as_forward(
    model: warpkit.Model, clip: list[RenderedFrame]
) -> None:
    backward = list(
        model.propagate(images(clip)[::-1], annotations={6: clip[0].labels}, settings=ONE)
    )
    forward = list(model.propagate(images(clip), labels=clip[0].labels, settings=ONE))
    for ahead, back in zip(forward, backward[::-1], strict=True):
        assert np.array_equal(ahead.labels, back.labels)


def test_annotations_of_frames_that_do_not_exist_or_fit(
    model: warpkit.Model, clip: list[RenderedFrame]
) -> None:
    frames, labels = images(clip), clip[0].labels
    layer = warpkit.EditLayer.from_rgba(np.full((*labels.shape, 4), 255, np.uint8))
    for given, message in (
        ({"annotations": {9: labels}}, "no frame 9 to annotate: the clip has 7 frames"),
        ({"annotations": {0: labels}, "labels": labels}, "first frame's labels once"),
        ({"annotations": {3: labels[:-1]}}, "the mask of frame 3"),
        ({"annotations": {3: labels * 0}}, "the mask is empty"),
        ({"annotations": {3: labels}, "edit": layer}, "give the first frame's mask too"),
        (
            {"annotations": {3: labels}, "settings": PropagateSettings(mode="backward-warp")},
            "mode backward-warp propagates masks from the first frame alone",
        ),
    ):
        with pytest.raises(warpkit.InputError, match=message):
            list(model.propagate(frames, **given))


def test_an_edit_depends_on_no_stretch_before_its_own(
    model: warpkit.Model, clip: list[RenderedFrame]
) -> None:
    """Another mask of frame 2 changes nothing behind frame 4, which is annotated too."""
    inside = clip[0].labels > 0
    edit = warpkit.EditLayer.from_rgba(
        np.dstack([255 - clip[0].image, inside.astype(np.uint8) * 255])
    )
    runs = []
    for moved in (0, 3):
        second = np.roll(clip[2].labels, moved, axis=1)
        annotations = {0: clip[0].labels, 2: second, 4: clip[4].labels}
        runs.append(
            list(model.propagate(images(clip), annotations=annotations, edit=edit, settings=ONE))
        )
    for first, second in zip(runs[0][4:], runs[1][4:], strict=True):
        assert np.array_equal(first.edited, second.edited)
    assert not np.array_equal(runs[0][2].edited, runs[1][2].edited)


def test_poisson_blending_keeps_the_frame_around_the_edit(
    model: warpkit.Model, clip: list[RenderedFrame]
) -> None:
    inside = clip[0].labels > 0
    rgba = np.dstack([255 - clip[0].image, inside.astype(np.uint8) * 255])
    edited = {}
    for blend in ("soft", "poisson"):
        config = PropagateSettings(edit=EditConfig(blend=blend))
        edit = warpkit.EditLayer.from_rgba(rgba)
        run = model.propagate(images(clip)[:2], labels=clip[0].labels, edit=edit, settings=config)
        edited[blend] = list(run)[1]
    far = cv2.dilate((edited["soft"].labels > 0).astype(np.uint8), np.ones((5, 5))) == 0
    assert np.array_equal(edited["poisson"].edited[far], clip[1].image[far])
    assert not np.array_equal(edited["poisson"].edited, edited["soft"].edited)
