"""Predictions are computed once, and answer for nothing but what they were made for."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from warpkit.checks import InputError
from warpkit.datasets.pair import AnnotatedPair
from warpkit.evaluate.methods import baseline_describer, describer_digest
from warpkit.evaluate.predict import PairPrediction
from warpkit.evaluate.prediction_cache import PredictionCache, method_digest
from warpkit.evaluate.prediction_files import (
    read_predictions,
    write_pair_list,
    write_predictions,
)
from warpkit.io.images import read_image, write_image
from warpkit.runs import cache as cache_module
from warpkit.runs.cache import default_cache, writable_cache
from warpkit.types import DescriptorMap

METHOD = {"method": "ours", "descriptors": "abc", "subpixel": False}


@pytest.fixture
def pair(tmp_path: Path) -> AnnotatedPair:
    generator = np.random.default_rng(0)
    folder = tmp_path / "set"
    folder.mkdir()
    for name in ("a", "b"):
        image = generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        write_image(folder / f"{name}.png", image)
    points = np.float32([[3, 4], [5.25, 6], [7, 8]])
    box = (0.0, 0.0, 10.0, 10.0)
    return AnnotatedPair(folder / "a.png", folder / "b.png", points, points, box, box, "thing")


def predicted(pair: AnnotatedPair) -> PairPrediction:
    values = np.float32([[1 / 3, 2], [np.nan, np.nan], [1e-3, 29.49999]])
    return PairPrediction(pair, values, 20, 30, 0.25)


def cache(folder: Path, **changed: Any) -> PredictionCache:
    return PredictionCache(folder, METHOD | changed)


def test_a_prediction_comes_back_bit_for_bit(tmp_path: Path, pair: AnnotatedPair) -> None:
    cache(tmp_path).add(predicted(pair))
    found = cache(tmp_path).find(pair)
    assert found is not None
    np.testing.assert_array_equal(found.predicted, predicted(pair).predicted)
    assert (found.height, found.width, found.seconds) == (20, 30, 0.25)
    # The box and the category only score.
    assert cache(tmp_path).find(replace(pair, category="x", target_box=(0, 0, 5, 5))) is not None


@pytest.mark.parametrize("change", [{"descriptors": "abd"}, {"subpixel": True}, {"engine": "x"}])
def test_a_changed_method_is_not_answered(
    tmp_path: Path, pair: AnnotatedPair, change: dict[str, Any]
) -> None:
    cache(tmp_path).add(predicted(pair))
    assert cache(tmp_path, **change).find(pair) is None
    assert method_digest(METHOD) != method_digest(METHOD | change)


def test_changed_data_are_not_answered(tmp_path: Path, pair: AnnotatedPair) -> None:
    cache(tmp_path).add(predicted(pair))
    moved = pair.source_points.copy()
    moved[0, 0] += np.float32(1e-3)
    assert cache(tmp_path).find(replace(pair, source_points=moved)) is None
    # One pixel by one level, with the size and the time of the file as they were.
    before = pair.target_path.stat()
    image = read_image(pair.target_path)
    image[3, 3, 0] ^= 1
    write_image(pair.target_path, image)
    os.utime(pair.target_path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert cache(tmp_path).find(pair) is None


def test_a_killed_run_leaves_a_cache_that_goes_on(tmp_path: Path, pair: AnnotatedPair) -> None:
    first = cache(tmp_path)
    first.add(predicted(pair))
    with first.path.open("a") as file:
        file.write('{"key": "0123", "predic')
    second = cache(tmp_path)
    assert second.find(pair) is not None
    other = replace(pair, source_points=pair.source_points + np.float32(1))
    second.add(replace(predicted(pair), pair=other))
    third = cache(tmp_path)
    assert third.find(pair) is not None
    assert third.find(other) is not None


def test_memory_is_the_most_of_all_runs(tmp_path: Path) -> None:
    cache(tmp_path).add_memory(5.0)
    cache(tmp_path).add_memory(3.0)
    assert cache(tmp_path).memory_mb == 5.0


def test_the_cache_folder_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARPKIT_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("WARPKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "warpkit"
    assert writable_cache() == tmp_path / "warpkit"


@pytest.mark.parametrize("place", ["a file in the way", "no rights", "no home"])
def test_without_a_folder_to_write_to_nothing_is_kept_and_said_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: str,
) -> None:
    for name in ("WARPKIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    named = str(tmp_path / ".cache" / "warpkit")
    if place == "a file in the way":
        (tmp_path / ".cache").write_text("")
    elif place == "no rights":
        # Whoever runs the tests may be allowed to write anywhere.
        def refused(**_: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr("tempfile.TemporaryFile", refused)
    else:

        def homeless(_: object) -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", classmethod(homeless))
        named = "no home folder"
    cache_module._not_kept.cache_clear()
    assert writable_cache() is None
    assert writable_cache() is None
    (message,) = caplog.messages
    assert named in message and "WARPKIT_CACHE" in message


class _Scaled:
    """Descriptors that depend on one weight."""

    name = "scaled"

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def describe(self, images: Sequence[np.ndarray]) -> list[DescriptorMap]:
        maps = []
        for image in images:
            data = torch.tensor(image).permute(2, 0, 1).float() + self.weight
            maps.append(DescriptorMap.covering(data, height=image.shape[0], width=image.shape[1]))
        return maps


def test_a_digest_is_of_the_weights_not_of_the_name() -> None:
    assert describer_digest(_Scaled(1.0)) == describer_digest(_Scaled(1.0))
    assert describer_digest(_Scaled(1.0)) != describer_digest(_Scaled(1.0 + 2**-10))
    sizes = [baseline_describer("rgb-patches", device="cpu", clips=c) for c in (False, True)]
    assert describer_digest(sizes[0]) == describer_digest(
        baseline_describer("rgb-patches", device="cpu")
    )


# --- anybody's predictions -------------------------------------------------------------------


def test_predictions_are_written_and_read(tmp_path: Path, pair: AnnotatedPair) -> None:
    root = pair.source_path.parent
    write_predictions(tmp_path / "p.json", "ours", [predicted(pair)], root=root)
    name, (found,), unused = read_predictions(tmp_path / "p.json", [pair], root=root)
    assert (name, unused, found.seconds) == ("ours", 0, 0.25)
    np.testing.assert_array_equal(found.predicted, predicted(pair).predicted)
    (entry,) = json.loads((tmp_path / "p.json").read_text())["pairs"]
    assert entry["source"] == "a.png"
    assert entry["source_points"] == [[3, 4], [5.25, 6], [7, 8]]
    assert entry["predicted_points"][1] is None


def test_a_list_of_pairs_can_be_filled_in(tmp_path: Path, pair: AnnotatedPair) -> None:
    root = pair.source_path.parent
    write_pair_list(tmp_path / "p.json", [pair], root=root)
    content = json.loads((tmp_path / "p.json").read_text())
    content["method"] = "theirs"
    content["pairs"][0]["predicted_points"] = [[1, 2], None, [3, 4]]
    del content["pairs"][0]["category"]
    content["pairs"].append(dict(content["pairs"][0], source="elsewhere.png"))
    (tmp_path / "p.json").write_text(json.dumps(content))
    name, (found,), unused = read_predictions(tmp_path / "p.json", [pair], root=root)
    assert (name, unused) == ("theirs", 1)
    np.testing.assert_array_equal(found.predicted, np.float32([[1, 2], [np.nan] * 2, [3, 4]]))


def test_predictions_must_cover_every_pair(tmp_path: Path, pair: AnnotatedPair) -> None:
    root = pair.source_path.parent
    other = replace(pair, source_path=pair.target_path, target_path=pair.source_path)
    write_predictions(tmp_path / "p.json", "ours", [predicted(pair)], root=root)
    with pytest.raises(InputError, match=r"no prediction for 1 of 2 pairs, the first: b\.png"):
        read_predictions(tmp_path / "p.json", [pair, other], root=root)
    _, found, _ = read_predictions(tmp_path / "p.json", [pair, other], root=root, partial=True)
    assert len(found) == 1


def test_two_objects_in_the_same_images_are_told_apart(tmp_path: Path, pair: AnnotatedPair) -> None:
    root = pair.source_path.parent
    second = replace(pair, category="other")
    values = predicted(second).predicted + np.float32(1)
    both = [predicted(pair), replace(predicted(second), predicted=values)]
    write_predictions(tmp_path / "p.json", "ours", both, root=root)
    _, found, _ = read_predictions(tmp_path / "p.json", [second, pair], root=root)
    np.testing.assert_array_equal(found[0].predicted, values)
    np.testing.assert_array_equal(found[1].predicted, predicted(pair).predicted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"predicted_points": [[1, 2]]}, "must be a list of 3 points.* got 1"),
        ({"predicted_points": [[1, 2], [3], None]}, r"must hold \[x, y\] or null"),
        ({"predicted_points": 5}, "must be a list of 3 points.* got int"),
        ({"source_points": [[3, 4], [5.25, 6], [7, 9]]}, "made for other source points"),
        ({"seconds": "fast"}, "'seconds' must be a number"),
        ({"seconds": 10**400}, "'seconds' must be a number"),
        ({"seconds": float("inf")}, "'seconds' must be a number"),
        ({"predicted_points": [[1, 10**400], None, None]}, r"must hold \[x, y\] or null"),
        ({"source": ["a.png"]}, "must be text"),
        ({"category": 4}, "must be text"),
    ],
)
def test_bad_predictions_are_refused(
    tmp_path: Path, pair: AnnotatedPair, change: dict[str, Any], message: str
) -> None:
    root = pair.source_path.parent
    write_predictions(tmp_path / "p.json", "ours", [predicted(pair)], root=root)
    content = json.loads((tmp_path / "p.json").read_text())
    content["pairs"][0].update(change)
    (tmp_path / "p.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        read_predictions(tmp_path / "p.json", [pair], root=root)


def test_a_second_prediction_of_one_pair_is_refused(tmp_path: Path, pair: AnnotatedPair) -> None:
    root = pair.source_path.parent
    one = predicted(pair)
    other = replace(one, predicted=one.predicted + np.float32(1))
    write_predictions(tmp_path / "p.json", "ours", [one, other], root=root)
    with pytest.raises(InputError, match=r"more predictions than there are pairs for a\.png"):
        read_predictions(tmp_path / "p.json", [pair], root=root)


def test_entries_are_told_apart_by_their_source_points(tmp_path: Path, pair: AnnotatedPair) -> None:
    root = pair.source_path.parent
    moved = replace(pair, source_points=pair.source_points + np.float32(2))
    values = predicted(moved).predicted + np.float32(1)
    both = [predicted(pair), replace(predicted(moved), predicted=values)]
    write_predictions(tmp_path / "p.json", "ours", both, root=root)
    _, found, _ = read_predictions(tmp_path / "p.json", [moved, pair], root=root)
    np.testing.assert_array_equal(found[0].predicted, values)


def test_damaged_lines_of_the_cache_answer_nothing(tmp_path: Path, pair: AnnotatedPair) -> None:
    first = cache(tmp_path)
    first.add(predicted(pair))
    lines = first.path.read_text().splitlines()
    good = json.loads(lines[-1])
    for damaged in (
        {"key": good["key"]},
        dict(good, predicted=[[1, 2]]),
        dict(good, key=[1]),
        {"memory_mb": "much"},
    ):
        first.path.write_text("\n".join([lines[0], json.dumps(damaged)]) + "\n")
        assert cache(tmp_path).find(pair) is None


def test_other_files_are_refused(tmp_path: Path, pair: AnnotatedPair) -> None:
    file = tmp_path / "p.json"
    with pytest.raises(InputError, match="no predictions at"):
        read_predictions(file, [pair], root=tmp_path)
    for text, message in (("{", "not valid JSON"), ("[]", "JSON object with 'method'")):
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            read_predictions(file, [pair], root=tmp_path)
