"""Coherent fields in the evaluations: what is described, predicted, restricted and kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from warpkit.checks import InputError
from warpkit.coherent import CoherentConfig
from warpkit.datasets.pair import AnnotatedPair
from warpkit.evaluate.field_quality import PairQuality, mean_quality
from warpkit.evaluate.predict import PairPrediction, point_mask, predict_pairs
from warpkit.evaluate.prediction_cache import PredictionCache
from warpkit.evaluate.prediction_files import read_predictions, write_predictions
from warpkit.io.images import write_image
from warpkit.match.settings import MatchFilters
from warpkit.types import DescriptorMap

FIGURES = PairQuality(
    cosine=0.75,
    inside=0.5,
    consistent=0.25,
    inverse_error=2.0,
    folds=1.0,
    sd_log_j=0.5,
    mirrored=True,
)


class ColourDescriber:
    """Unit vectors that turn with red and with green, and one for the side on which red grows.

    Like a network's, descriptors of a mirrored image are not those of the image mirrored.
    """

    name = "colours"

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def describe(self, images: Sequence[np.ndarray]) -> list[DescriptorMap]:
        maps = []
        for image in images:
            self.seen.append(image.tobytes())
            red, green = torch.from_numpy(image[..., :2].copy()).float().div(255).unbind(2)
            height, width = image.shape[:2]
            right = (red[:, width // 2 :].mean() > red[:, : width // 2].mean()) * torch.ones_like(
                red
            )
            turned = [turn(colour) for colour in (red, green) for turn in (torch.cos, torch.sin)]
            data = torch.stack([*turned, right, 1 - right])
            maps.append(DescriptorMap.covering(data, height=height, width=width))
        return maps


def ramps(height: int, width: int) -> np.ndarray:
    """Red grows to the right, green downwards."""
    y, x = np.mgrid[:height, :width]
    red, green = 255 * (x + 0.5) / width, 255 * (y + 0.5) / height
    return np.stack([red, green, 0 * red], axis=-1).round().astype(np.uint8)


@pytest.fixture
def pairs(tmp_path: Path) -> list[AnnotatedPair]:
    """a -> b, of another size; c, which is a mirrored, -> b."""
    sizes = {"a": (33, 47), "b": (41, 38), "c": (33, 47)}
    for name, (height, width) in sizes.items():
        image = ramps(height, width)
        write_image(tmp_path / f"{name}.png", image[:, ::-1].copy() if name == "c" else image)
    relative = np.array([[0.25, 0.5], [0.7, 0.3], [0.5, 0.8]])

    def points(name: str) -> np.ndarray:
        height, width = sizes[name]
        share = np.abs(relative - [1, 0]) if name == "c" else relative
        return (share * [width, height] - 0.5).astype(np.float32)

    box = (0.0, 0.0, 10.0, 10.0)
    return [
        AnnotatedPair(
            tmp_path / f"{name}.png", tmp_path / "b.png", points(name), points("b"), box, box, "x"
        )
        for name in ("a", "c")
    ]


def errors(prediction: PairPrediction) -> np.ndarray:
    return np.linalg.norm(prediction.predicted - prediction.pair.target_points, axis=1)


def test_fields_put_points_in_place_and_see_every_mirrored_target_once(
    pairs: list[AnnotatedPair],
) -> None:
    describer = ColourDescriber()
    found = list(predict_pairs(describer, pairs, field="coherent", batch=1))
    assert [p.pair for p in found] == pairs
    for prediction, mirrored in zip(found, (False, True), strict=True):
        assert errors(prediction).max() < 1.0
        assert prediction.quality is not None
        assert prediction.quality.mirrored is mirrored
        assert prediction.quality.taken is None
        assert prediction.quality.cosine > 0.99
        assert prediction.quality.inside == 1
        assert prediction.quality.folds == 0
    b, a = ramps(41, 38), ramps(33, 47)
    wanted = [a, b, b[:, ::-1], a[:, ::-1]]
    assert describer.seen == [image.tobytes() for image in wanted]


def test_maps_that_had_to_go_are_described_again(
    pairs: list[AnnotatedPair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "warpkit.evaluate.predict._solve", lambda _maps, pair, *_: (pair.target_points, FIGURES)
    )
    for keep, mirror, times in ((2**30, "auto", 4), (0, "auto", 6), (2**30, "never", 3)):
        describer = ColourDescriber()
        settings = CoherentConfig(mirror=mirror)
        found = list(
            predict_pairs(
                describer, pairs, field="auto", coherent=settings, batch=1, keep_bytes=keep
            )
        )
        assert len(describer.seen) == times
        assert [p.quality for p in found] == [FIGURES] * 2
    describer = ColourDescriber()
    assert [p.quality for p in predict_pairs(describer, pairs)] == [None, None]
    assert len(describer.seen) == 3


def test_auto_says_which_it_took(
    pairs: list[AnnotatedPair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warpkit.coherent.points._MOST_DOUBT", -1.0)  # never the field
    (pixels,) = predict_pairs(ColourDescriber(), pairs[:1], field="auto")
    assert pixels.quality is not None
    assert pixels.quality.taken is False
    np.testing.assert_array_equal(pixels.predicted, pixels.predicted.round())
    monkeypatch.setattr("warpkit.coherent.points._MOST_DOUBT", 2.0)
    (field,) = predict_pairs(ColourDescriber(), pairs[:1], field="auto")
    assert field.quality is not None
    assert field.quality.taken is True


def test_a_broken_target_is_left_out_of_fields_too(pairs: list[AnnotatedPair]) -> None:
    pairs[0].target_path.write_text("no image")
    problems: list[str] = []
    assert not list(predict_pairs(ColourDescriber(), pairs, field="coherent", problems=problems))
    assert len(problems) == 2


def test_options_that_do_not_fit_are_refused(pairs: list[AnnotatedPair]) -> None:
    with pytest.raises(InputError, match="unknown field 'smooth'"):
        list(predict_pairs(ColourDescriber(), pairs, field="smooth"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'subpixel' refines nearest neighbours"):
        list(
            predict_pairs(
                ColourDescriber(), pairs, field="auto", filters=MatchFilters(subpixel=True)
            )
        )


# --- boxes -----------------------------------------------------------------------------------


def test_point_mask_by_hand() -> None:
    box = (0.0, 0.0, 9.0, 9.0)
    # The extent is 50 x 20; 12 % of 50 are 6 pixels: x from 4 to 66, y from 14 to 46.
    mask = point_mask(np.float32([[10, 20], [60, 40]]), box, height=60, width=90)
    rows, columns = np.nonzero(mask)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (4, 66, 14, 46)
    assert mask.sum() == 63 * 33
    # Points past the border: what is left of the box lies inside.
    mask = point_mask(np.float32([[-3, 5], [97, 5]]), box, height=11, width=90)
    assert mask.all()
    # One place says nothing of the extent: the object's box does.
    mask = point_mask(np.float32([[5, 5]]), (20.0, 20.0, 30.0, 25.0), height=60, width=90)
    rows, columns = np.nonzero(mask)
    # 12 % of 10 are 1.2 pixels: 18.8 lies in the pixel at 19.
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (19, 31, 19, 26)


def test_boxes_restrict_the_candidates_of_nearest_neighbours(tmp_path: Path) -> None:
    """The source's colour stands twice in the target; only one of them is near the points."""
    source = np.full((30, 40, 3), 10, np.uint8)
    target = np.full((30, 40, 3), 10, np.uint8)
    source[5, 5] = source[9, 9] = target[2, 3] = target[20, 25] = (250, 20, 0)
    for name, image in (("s", source), ("t", target)):
        write_image(tmp_path / f"{name}.png", image)
    ends = np.float32([[5, 5], [9, 9]]), np.float32([[25, 20], [22, 18]])
    box = (0.0, 0.0, 5.0, 5.0)
    pair = AnnotatedPair(tmp_path / "s.png", tmp_path / "t.png", *ends, box, box, "x")
    (free,) = predict_pairs(ColourDescriber(), [pair])
    assert free.predicted[0].tolist() == [3, 2]
    (held,) = predict_pairs(ColourDescriber(), [pair], boxes=True)
    assert held.predicted[0].tolist() == [25, 20]


def test_boxes_are_the_masks_of_fields(
    pairs: list[AnnotatedPair], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def record(_maps: object, pair: AnnotatedPair, masks: object, *_: object) -> object:
        given.append(masks)
        return pair.target_points, FIGURES

    monkeypatch.setattr("warpkit.evaluate.predict._solve", record)
    list(predict_pairs(ColourDescriber(), pairs[:1], field="coherent", boxes=True))
    list(predict_pairs(ColourDescriber(), pairs[:1], field="coherent"))
    pair = pairs[0]
    for mask, points, (height, width) in zip(
        given[0], (pair.source_points, pair.target_points), ((33, 47), (41, 38)), strict=True
    ):
        expected = point_mask(points, pair.source_box, height=height, width=width)
        np.testing.assert_array_equal(mask.numpy(), expected)
    assert given[1] == (None, None)


# --- figures ---------------------------------------------------------------------------------


def test_means_of_figures() -> None:
    other = replace(FIGURES, cosine=0.25, folds=4.0, mirrored=False, taken=True)
    third = replace(FIGURES, taken=False)
    mean = mean_quality([FIGURES, None, other])
    assert mean is not None
    assert (mean["pairs"], mean["cosine"], mean["folds"], mean["mirrored"]) == (2, 0.5, 2.5, 0.5)
    assert mean["inverse_error"] == 2
    assert mean["taken"] == 1
    assert mean_quality([other, third]) is not None
    assert mean_quality([other, third])["taken"] == 0.5  # type: ignore[index]
    assert mean_quality([FIGURES])["taken"] is None  # type: ignore[index]
    assert mean_quality([None]) is None


def predicted(pair: AnnotatedPair) -> PairPrediction:
    return PairPrediction(pair, pair.target_points + np.float32(1), 41, 38, 0.5, FIGURES)


def test_figures_are_kept_in_the_cache(pairs: list[AnnotatedPair], tmp_path: Path) -> None:
    method = {"method": "ours", "field": "coherent", "mirror": "auto", "boxes": False}
    cache = PredictionCache(tmp_path / "kept", method)
    cache.add(predicted(pairs[0]))
    found = PredictionCache(tmp_path / "kept", method).find(pairs[0])
    assert found is not None
    assert (found.quality, found.seconds) == (FIGURES, 0.5)
    for change in ({"field": "auto"}, {"mirror": "never"}, {"boxes": True}):
        assert PredictionCache(tmp_path / "kept", method | change).find(pairs[0]) is None
    # Damaged figures answer nothing: the pair is predicted again.
    lines = cache.path.read_text().splitlines()
    line = json.loads(lines[-1])
    for damage in ({"cosine": "x"}, {"mirrored": 1}, {"more": 1}, {"cosine": None}):
        changed = dict(line, quality=line["quality"] | damage)
        cache.path.write_text("\n".join([lines[0], json.dumps(changed)]) + "\n")
        assert PredictionCache(tmp_path / "kept", method).find(pairs[0]) is None


def test_with_boxes_an_answer_is_that_of_the_targets_points(
    pairs: list[AnnotatedPair], tmp_path: Path
) -> None:
    moved = replace(pairs[0], target_points=pairs[0].target_points + np.float32(1))
    for boxes in (False, True):
        cache = PredictionCache(tmp_path / "kept", {"method": "ours", "boxes": boxes})
        cache.add(predicted(pairs[0]))
        assert cache.find(pairs[0]) is not None
        assert (cache.find(moved) is None) is boxes
        assert (cache.find(replace(pairs[0], target_box=(0, 0, 5, 5))) is None) is boxes


def test_figures_are_written_beside_predictions(pairs: list[AnnotatedPair], tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    write_predictions(file, "ours", [predicted(pairs[0])], root=tmp_path)
    _, (found,), _ = read_predictions(file, pairs[:1], root=tmp_path)
    assert found.quality == FIGURES
    content = json.loads(file.read_text())
    for damage, message in (
        ({"cosine": "x"}, "'cosine' must be a number, got 'x'"),
        ({"mirrored": 0}, "'mirrored' must be true or false, got 0"),
        ({"more": 1}, "must be an object with the figures of a field"),
    ):
        content["pairs"][0]["quality"] = FIGURES.to_json() | damage
        file.write_text(json.dumps(content))
        with pytest.raises(InputError, match=message):
            read_predictions(file, pairs[:1], root=tmp_path)
