"""Scores against a second, literal implementation of the DAVIS definitions; folders of masks.

The literal part shares no code with the package. It is compared on random masks, on the masks of
the project's clips and, if `WARPKIT_DAVIS` names a DAVIS folder, on that folder's annotations.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from warpkit.checks import InputError
from warpkit.datasets.davis import DavisSequence
from warpkit.evaluate.bootstrap import bootstrap_mean
from warpkit.evaluate.davis import score_davis
from warpkit.evaluate.jaccard import (
    STATISTICS,
    SequenceScore,
    boundary_accuracy,
    disk_dilation,
    frame_statistics,
    mask_boundary,
    mean_sequence_scores,
    region_similarity,
    score_sequence,
)
from warpkit.io.masks import write_labels

VIDEOS = Path(__file__).parents[1] / "videos"
NAMES = ("J", "F", "JF", "J_recall", "J_decay", "F_recall", "F_decay")

Clip = list[np.ndarray]


# --- the definitions, literally --------------------------------------------------------------


def literal_j(predicted: np.ndarray, truth: np.ndarray) -> float:
    intersection = np.sum(np.logical_and(predicted, truth))
    union = np.sum(np.logical_or(predicted, truth))
    return 1.0 if union == 0 else float(intersection) / float(union)


def literal_boundary(mask: np.ndarray) -> np.ndarray:
    """Whether the value right, below or below right is another, the image's last row and column
    looking only right and only below.
    """
    inside = mask.astype(int)
    right, below, diagonal = inside.copy(), inside.copy(), inside.copy()
    right[:, :-1] = inside[:, 1:]
    below[:-1, :] = inside[1:, :]
    diagonal[:-1, :-1] = inside[1:, 1:]
    found = (inside != right) | (inside != below) | (inside != diagonal)
    found[-1, :] = inside[-1, :] != right[-1, :]
    found[:, -1] = inside[:, -1] != below[:, -1]
    found[-1, -1] = False
    return found


def literal_dilation(mask: np.ndarray, radius: int) -> np.ndarray:
    """The mask shifted by every whole offset within the radius, all put together."""
    height, width = mask.shape
    padded = np.pad(mask, radius)
    out = np.zeros_like(mask)
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            if dx * dx + dy * dy <= radius * radius:
                y, x = radius + dy, radius + dx
                out |= padded[y : y + height, x : x + width]
    return out


def literal_f(predicted: np.ndarray, truth: np.ndarray) -> float:
    height, width = truth.shape
    radius = int(np.ceil(0.008 * np.sqrt(height**2 + width**2)))
    ours, theirs = literal_boundary(predicted), literal_boundary(truth)
    n_ours, n_theirs = ours.sum(), theirs.sum()
    if n_ours == 0 and n_theirs == 0:
        precision, recall = 1.0, 1.0
    elif n_ours == 0:
        precision, recall = 1.0, 0.0
    elif n_theirs == 0:
        precision, recall = 0.0, 1.0
    else:
        precision = (ours & literal_dilation(theirs, radius)).sum() / n_ours
        recall = (theirs & literal_dilation(ours, radius)).sum() / n_theirs
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def literal_statistics(values: Sequence[float]) -> tuple[float, float, float]:
    count = len(values)
    cuts = [int(v) for v in np.round(np.linspace(1, count, 5) + 1e-10) - 1]
    quarters = [values[cuts[i] : cuts[i + 1] + 1] for i in range(4)]
    mean = sum(values) / count
    recall = sum(v > 0.5 for v in values) / count
    decay = sum(quarters[0]) / len(quarters[0]) - sum(quarters[3]) / len(quarters[3])
    return mean, recall, decay


def literal_objects(
    predicted: Clip, truth: Clip, *, all_frames: bool = False
) -> list[dict[str, float]]:
    """The statistics of every object of a clip that has a scored frame."""
    ids = [i for i in range(1, 255) if (truth[0] == i).any()]
    rows = []
    for i in ids:
        row: dict[str, float] = {}
        for name, measure in (("J", literal_j), ("F", literal_f)):
            values = [measure(a == i, b == i) for a, b in zip(predicted, truth, strict=True)]
            kept = values if all_frames else values[1:-1]
            row[name], row[f"{name}_recall"], row[f"{name}_decay"] = literal_statistics(kept)
        rows.append(row)
    return rows


def literal_means(rows: list[dict[str, float]]) -> dict[str, float]:
    means = {name: sum(row[name] for row in rows) / len(rows) for name in STATISTICS}
    return {**means, "JF": (means["J"] + means["F"]) / 2}


def assert_as_literal(clips: dict[str, tuple[Clip, Clip]], *, all_frames: bool = False) -> None:
    """Compare every object, every clip and the whole."""
    scores = {n: score_sequence(a, b, all_frames=all_frames) for n, (a, b) in clips.items()}
    rows = {n: literal_objects(a, b, all_frames=all_frames) for n, (a, b) in clips.items()}
    pairs: list[tuple[float | None, float]] = []
    for name, score in scores.items():
        assert len(score.per_object) == len(rows[name])
        for ours, theirs in zip(score.per_object, rows[name], strict=True):
            pairs += [(ours[k], theirs[column]) for k, column in enumerate(STATISTICS)]
        pairs += [(score.means()[k], v) for k, v in literal_means(rows[name]).items()]
    whole = literal_means([row for some in rows.values() for row in some])
    pairs += [(mean_sequence_scores(scores).means()[k], v) for k, v in whole.items()]
    ours, theirs = np.array(pairs, float).T
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


# --- masks -----------------------------------------------------------------------------------


def shift(labels: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """Moved within the image; background comes in."""
    height, width = labels.shape
    room = max(abs(dy), abs(dx))
    padded = np.pad(labels, room)
    return padded[room - dy : room - dy + height, room - dx : room - dx + width]


def spoil(labels: np.ndarray, t: int) -> np.ndarray:
    """A prediction that drifts, shrinks and at times loses everything."""
    if t % 17 == 11:
        return np.zeros_like(labels)
    moved = shift(labels, t // 3 % 9, t // 2 % 14)
    if t % 4 == 1:
        for dy, dx in ((0, 2), (2, 0), (0, -2), (-2, 0)):
            moved = np.where(shift(moved, dy, dx) == moved, moved, 0)
    return moved


def random_clip(generator: np.random.Generator, frames: int, height: int, width: int) -> Clip:
    """Objects 1, 2 and 4 as discs that move, leave, return and cover each other."""
    y, x = np.mgrid[:height, :width]
    start, step = generator.uniform(0, 1, (2, 3, 2))
    clip = []
    for t in range(frames):
        labels = np.zeros((height, width), np.uint8)
        for k, i in enumerate((1, 2, 4)):
            centre = np.abs((start[k] + (step[k] - 0.5) * t / 4) * 1.6 - 0.3) * [height, width]
            labels[np.hypot(y - centre[0], x - centre[1]) < 0.2 * min(height, width) + 1] = i
        clip.append(labels)
    for k, i in enumerate((1, 2, 4)):
        clip[0][2 * k : 2 * k + 2, 2:5] = i  # all are there in the first frame
    return clip


def scores_of(clips: dict[str, tuple[Clip, Clip]]) -> dict[str, SequenceScore]:
    return {name: score_sequence(a, b) for name, (a, b) in clips.items()}


# --- one frame -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (33, 2), (17, 29), (64, 51)])
def test_dilation_is_the_disk_shifted(shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(shape[1])
    for radius in (*range(12), 18, 31):
        for share in (0.002, 0.02, 0.3):
            mask = generator.random(shape) < share
            mask[generator.integers(shape[0]), generator.integers(shape[1])] = True
            assert (disk_dilation(mask, radius) == literal_dilation(mask, radius)).all()


@pytest.mark.parametrize("seed", range(30))
def test_measures_of_random_masks(seed: int) -> None:
    generator = np.random.default_rng(seed)
    height, width = (int(v) for v in generator.integers(1, 90, 2))
    if seed % 5 == 0:
        height, width = 7, 700  # a tolerance of six pixels
    for _ in range(10):
        ours, theirs = np.zeros((2, height, width), bool)
        for mask in (ours, theirs):
            for _ in range(generator.integers(0, 4)):  # may stay empty, may touch the border
                top, left = generator.integers(-3, height), generator.integers(-3, width)
                side = generator.integers(1, 40, 2)
                mask[max(0, top) : top + side[0], max(0, left) : left + side[1]] ^= True
        assert (mask_boundary(ours) == literal_boundary(ours)).all()
        assert abs(region_similarity(ours, theirs) - literal_j(ours, theirs)) < 1e-12
        assert abs(boundary_accuracy(ours, theirs) - literal_f(ours, theirs)) < 1e-12
        assert abs(boundary_accuracy(ours, ~theirs) - literal_f(ours, ~theirs)) < 1e-12
        assert boundary_accuracy(theirs, theirs) == region_similarity(theirs, theirs) == 1


# --- recall and decay ------------------------------------------------------------------------


def test_recall_counts_frames_above_one_half() -> None:
    values = np.array([[0.6, 1], [0.5, 1], [0.4, 0], [0.9, 0.51]])
    assert frame_statistics(values)[1].tolist() == [0.5, 0.75]


@pytest.mark.parametrize(
    ("values", "decay"),
    [
        ([0.7], 0),
        ([0.7, 0.4], 0.7 - 0.4),
        ([0.9, 0.7, 0.1], 0.8 - 0.1),  # cuts 0, 1, 1, 2, 2
        ([0.9, 0.7, 0.3, 0.1], 0.8 - 0.2),  # cuts 0, 1, 2, 2, 3
        ([1, 0.8, 0, 0.5, 0.3], 0.9 - 0.4),  # cuts 0, 1, 2, 3, 4
        ([1, 1, 0.7, 0, 0, 0.6, 0.5, 0.4], 0.9 - 0.5),  # cuts 0, 2, 4, 5, 7
        ([0.2, 0.2, 0.2, 0.8, 0.8, 0.8], 0.2 - 0.8),  # cuts 0, 1, 3, 4, 5: it may improve
    ],
)
def test_decay_by_hand(values: list[float], decay: float) -> None:
    found = frame_statistics(np.array(values)[:, None])[:, 0]
    assert found[2] == pytest.approx(decay)
    np.testing.assert_allclose(found, literal_statistics(values))


def test_statistics_of_every_length() -> None:
    generator = np.random.default_rng(0)
    for frames in (*range(1, 60), 255, 256, 257, 258, 511, 1000, 1001, 70_001):
        values = generator.random(frames)
        found = frame_statistics(values[:, None])[:, 0]
        np.testing.assert_allclose(found, literal_statistics(values.tolist()), atol=1e-9)
    with pytest.raises(InputError, match="at least one frame"):
        frame_statistics(np.zeros((0, 2)))


def test_clips_beyond_255_frames() -> None:
    truth = [np.zeros((6, 7), np.uint8) for _ in range(340)]
    for labels in truth:
        labels[1:5, 1:6] = 1
    predicted = [labels.copy() for labels in truth]
    for t in range(340):
        predicted[t][1 : 1 + t // 70] = 0
    assert_as_literal({"long": (predicted, truth)})
    score = score_sequence(predicted, truth)
    # 338 scored frames are cut at 0, 84, 169, 253, 337, of which 8 bits would make 81. The first
    # quarter, frames 1 to 85, holds 69 ones and 16 of 3/4, the last 26 of 1/4 and 59 zeros.
    assert score.J_decay == pytest.approx((69 + 12) / 85 - 6.5 / 85)


# --- clips -----------------------------------------------------------------------------------


@pytest.mark.parametrize("all_frames", [False, True])
def test_random_clips(all_frames: bool) -> None:
    generator = np.random.default_rng(4)
    clips = {}
    for n, frames in enumerate((3, 4, 5, 6, 9, 30)):
        height, width = (int(v) for v in generator.integers(20, 90, 2))
        truth = random_clip(generator, frames, height, width)
        clips[str(n)] = ([spoil(labels, t + n) for t, labels in enumerate(truth)], truth)
    assert_as_literal(clips, all_frames=all_frames)


@pytest.mark.parametrize("frames", [1, 2])
def test_the_shortest_clips(frames: int) -> None:
    truth = random_clip(np.random.default_rng(1), frames, 30, 41)
    predicted = [shift(labels, 1, 2) for labels in truth]
    assert_as_literal({"short": (predicted, truth)}, all_frames=True)
    score = score_sequence(predicted, truth)
    assert score.means() == dict.fromkeys(NAMES)


def test_absent_objects() -> None:
    """Object 1 leaves and returns, object 2 is predicted nowhere, object 3 appears too late."""
    truth, predicted = [], []
    for t in range(12):
        labels = np.zeros((24, 31), np.uint8)
        labels[2:8, 2:9] = 1 if t < 4 or t > 8 else 0
        labels[12:18, 4:9] = 2
        labels[12:18, 20:28] = 3 if t > 2 else 0
        truth.append(labels)
        predicted.append(np.where(labels == 2, 0, labels).astype(np.uint8))
    predicted[6][0:2, 0:2] = 1  # beside an absent object: J = F = 0
    assert_as_literal({"clip": (predicted, truth)})
    score = score_sequence(predicted, truth)
    assert score.objects == (1, 2)
    np.testing.assert_allclose(score.per_object[:, 0], [9 / 10, 0])
    np.testing.assert_allclose(score.per_object[:, 2], [9 / 10, 0])
    assert score.region[5, 0] == score.boundary[5, 0] == 1  # absent in both
    assert score.to_json()["frames_J"][6] == 0
    assert score.to_json()["frames_J"][5] == 0.5


def project_clips() -> dict[str, Clip]:
    folders = sorted(VIDEOS.glob("*/masks"))
    return {f.parent.name: [np.array(Image.open(p)) for p in sorted(f.glob("*.png"))]
            for f in folders}  # fmt: skip


def test_masks_of_the_project() -> None:
    clips = project_clips()
    assert len(clips) >= 5
    assert_as_literal({n: ([spoil(m, t) for t, m in enumerate(c)], c) for n, c in clips.items()})


@pytest.mark.skipif("WARPKIT_DAVIS" not in os.environ, reason="WARPKIT_DAVIS names no DAVIS folder")
def test_masks_of_davis() -> None:
    root = Path(os.environ["WARPKIT_DAVIS"]) / "Annotations/480p"
    clips = {}
    for folder in sorted(p for p in root.iterdir() if p.is_dir())[:6]:
        truth = [np.array(Image.open(p)) for p in sorted(folder.glob("*.png"))]
        if set(np.unique(truth[0])) == {0, 255}:
            truth = [(labels > 0).astype(np.uint8) for labels in truth]
        clips[folder.name] = ([spoil(labels, t) for t, labels in enumerate(truth)], truth)
    assert_as_literal(clips)


def test_a_perfect_prediction_scores_one() -> None:
    clip = project_clips()["balloons"]
    score = score_sequence(clip, clip)
    assert score.means() == dict.fromkeys(NAMES, 1.0) | {"J_decay": 0, "F_decay": 0}
    assert set(score.to_json()["frames_F"]) == {1}


def test_the_numbers_of_the_ids_do_not_matter() -> None:
    truth = random_clip(np.random.default_rng(7), 9, 40, 51)
    predicted = [spoil(labels, t) for t, labels in enumerate(truth)]
    score = score_sequence(predicted, truth)
    for new in ((2, 4, 1), (4, 2, 1), (30, 200, 254)):
        table = np.zeros(256, np.uint8)
        table[[1, 2, 4]] = new
        other = score_sequence([table[p] for p in predicted], [table[t] for t in truth])
        assert other.objects == tuple(sorted(new))
        np.testing.assert_array_equal(other.per_object[np.argsort(np.argsort(new))],
                                      score.per_object)  # fmt: skip
        np.testing.assert_allclose(list(other.means().values()), list(score.means().values()))


def test_the_order_of_the_clips_does_not_matter() -> None:
    generator = np.random.default_rng(8)
    clips = {}
    for n in range(4):
        truth = random_clip(generator, 5 + n, 24, 31)
        clips[f"clip {n}"] = ([spoil(labels, t + n) for t, labels in enumerate(truth)], truth)
    report = mean_sequence_scores(scores_of(clips))
    other = mean_sequence_scores(scores_of(dict(reversed(clips.items()))))
    assert list(other.sequences) == list(reversed(report.sequences))
    np.testing.assert_allclose(list(other.means().values()), list(report.means().values()))


def test_intervals_resample_clips_weighted_by_their_objects() -> None:
    generator = np.random.default_rng(9)
    clips = {}
    for n in range(5):
        truth = random_clip(generator, 6, 24, 31)
        if n % 2:
            truth = [np.where(labels == 4, 0, labels) for labels in truth]
        clips[str(n)] = ([spoil(labels, t + n) for t, labels in enumerate(truth)], truth)
    clips["short"] = (truth[:2], truth[:2])
    report = mean_sequence_scores(scores_of(clips))
    values = [report.sequences[str(n)].J for n in range(5)]
    interval = report.interval(seed=3, resamples=200)
    assert interval["J"] == bootstrap_mean(values, weights=[3, 2, 3, 2, 3], seed=3, n=200)
    assert set(interval) == {"J", "F", "JF"}
    assert report.JF is not None
    assert interval["JF"][0] < report.JF < interval["JF"][1]
    document = json.loads(json.dumps(report.to_json()))
    assert set(document) == {"mean", "interval", "sequences", "unscored"}
    assert set(document["mean"]) == set(NAMES)
    assert document["interval"]["F"] == list(report.interval()["F"])
    assert document["sequences"]["0"]["objects"]["4"]["F_decay"] == pytest.approx(
        report.sequences["0"].per_object[2, 5]
    )
    one = mean_sequence_scores({"0": report.sequences["0"]})
    assert one.interval()["J"] == pytest.approx((one.J, one.J))


# --- folders of masks ------------------------------------------------------------------------


def write_clip(folder: Path, clip: Clip) -> tuple[Path, ...]:
    folder.mkdir(parents=True)
    paths = tuple(folder / f"{t:05d}.png" for t in range(len(clip)))
    for path, labels in zip(paths, clip, strict=True):
        write_labels(path, labels.astype(np.uint8))
    return paths


@pytest.fixture
def folders(tmp_path: Path) -> tuple[list[DavisSequence], dict[str, Path]]:
    """Five sequences of six frames and a folder of predictions for each."""
    generator = np.random.default_rng(2)
    sequences, predictions = [], {}
    for name in ("elk", "dog", "cow", "bear", "ant"):
        truth = random_clip(generator, 6, 40, 57)
        paths = write_clip(tmp_path / "Annotations" / name, truth)
        sequences.append(DavisSequence(name, paths, paths))
        predictions[name] = tmp_path / "predicted" / name
        write_clip(predictions[name], [spoil(labels, t + 1) for t, labels in enumerate(truth)])
    return sequences, predictions


def test_folders_score_as_their_masks(
    folders: tuple[list[DavisSequence], dict[str, Path]],
) -> None:
    sequences, predictions = folders
    report, problems, _ = score_davis(sequences, predictions, workers=1)
    assert problems == []
    assert list(report.sequences) == ["elk", "dog", "cow", "bear", "ant"]
    for sequence in sequences:
        truth = [np.array(Image.open(p)) for p in sequence.mask_paths]
        predicted = [np.array(Image.open(predictions[sequence.name] / p.name))
                     for p in sequence.mask_paths]  # fmt: skip
        expected = score_sequence(predicted, truth).to_json()
        assert report.sequences[sequence.name].to_json() == expected
    every, *_ = score_davis(sequences, predictions, all_frames=True, workers=1)
    assert every.sequences["dog"].to_json()["scored_frames"] == 6


def break_some(predictions: dict[str, Path]) -> None:
    (predictions["elk"] / "00002.png").unlink()
    write_labels(predictions["cow"] / "00004.png", np.ones((41, 57), np.uint8))
    (predictions["bear"] / "00005.png").write_bytes(b"no image")
    write_labels(predictions["ant"] / "00006.png", np.ones((40, 57), np.uint8))
    (predictions["ant"] / "seconds.txt").write_text("1")


def test_workers_and_broken_sequences_change_nothing_else(
    folders: tuple[list[DavisSequence], dict[str, Path]],
) -> None:
    sequences, predictions = folders
    whole, *_ = score_davis(sequences, predictions, workers=1)
    break_some(predictions)
    alone = score_davis(sequences, predictions, workers=1)
    together = score_davis(sequences, predictions, workers=2)
    assert together[1:] == alone[1:]
    assert json.dumps(together[0].to_json()) == json.dumps(alone[0].to_json())
    report, problems, notes = alone
    assert list(report.sequences) == ["dog", "ant"]
    for name, score in report.sequences.items():
        assert score.to_json() == whole.sequences[name].to_json()
    assert len(problems) == 3
    assert problems[0].startswith("sequence 'elk': ")
    assert problems[0].endswith("lacks 1 of its 6 frames (00002)")
    assert "sequence 'cow': the predicted frame 4 is 41 x 57" in problems[1]
    assert "sequence 'bear'" in problems[2]
    assert "00005.png" in problems[2]
    assert len(notes) == 1
    assert "sequence 'ant': 1 mask in" in notes[0]


def test_what_cannot_be_scored_at_all(
    folders: tuple[list[DavisSequence], dict[str, Path]], tmp_path: Path
) -> None:
    sequences, predictions = folders
    some = {"elk": tmp_path / "nowhere", "dog": predictions["dog"]}
    report, problems, _ = score_davis(sequences, some, workers=1)
    assert list(report.sequences) == ["dog"]
    assert problems[0].endswith("nowhere, is missing")
    assert problems[1] == "sequence 'cow': it has no predictions"
    with pytest.raises(InputError, match="no sequence could be scored: sequence 'elk'"):
        score_davis(sequences[:1], some, workers=1)
    with pytest.raises(InputError, match="no sequence could be scored: there is none"):
        score_davis([], some)
    with pytest.raises(InputError, match="same name"):
        score_davis([sequences[0], sequences[0]], some)
    with pytest.raises(InputError, match="at least 1 process"):
        score_davis(sequences, some, workers=0)


def test_2016_predictions_may_hold_any_nonzero_value(tmp_path: Path) -> None:
    truth = [np.where(c == 1, 255, 0) for c in random_clip(np.random.default_rng(3), 5, 40, 57)]
    paths = []
    (tmp_path / "truth").mkdir()
    for t, mask in enumerate(truth):
        paths.append(tmp_path / f"truth/{t:05d}.png")
        Image.fromarray(mask.astype(np.uint8)).save(paths[-1])
    objects = [shift(mask, 0, 2) > 0 for mask in truth]
    halves = np.where(np.arange(57) < 30, 1, 2)
    kinds = {
        "gray": [mask * 255 for mask in objects],
        "ones": [mask * 1 for mask in objects],
        "two objects": [mask * halves for mask in objects],
    }
    for kind, clip in kinds.items():
        (tmp_path / kind).mkdir()
        for t, mask in enumerate(clip):
            path = tmp_path / kind / f"{t:05d}.png"
            if kind == "gray":
                Image.fromarray(mask.astype(np.uint8)).save(path)
            else:
                write_labels(path, mask.astype(np.uint8))
    expected = score_sequence(objects, [mask > 0 for mask in truth]).to_json()
    for year in ("2016", None):
        sequence = DavisSequence("dog", tuple(paths), tuple(paths), year)
        for kind in kinds:
            report, *_ = score_davis([sequence], {"dog": tmp_path / kind}, workers=1)
            assert report.sequences["dog"].to_json() == expected


def test_2017_predictions_must_hold_ids(
    folders: tuple[list[DavisSequence], dict[str, Path]],
) -> None:
    sequences, predictions = folders
    for path in predictions["elk"].glob("*.png"):
        Image.fromarray((np.array(Image.open(path)) > 0) * np.uint8(255)).save(path)
    report, problems, _ = score_davis(sequences[:2], predictions, workers=1)
    assert list(report.sequences) == ["dog"]
    assert "00000.png is a 0/255 mask but the annotations hold object ids" in problems[0]
    merged = [DavisSequence(s.name, s.frame_paths, s.mask_paths, "2016") for s in sequences[:2]]
    report, problems, _ = score_davis(merged, predictions, workers=1)
    assert problems == []
    assert [score.objects for score in report.sequences.values()] == [(1,), (1,)]
