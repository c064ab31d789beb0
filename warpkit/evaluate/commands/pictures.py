"""Pictures to judge a result by: best, median and worst pairs; the worst frame of each clip.

In: the folder of a `warpkit eval` run. Out: titled images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from warpkit.arrays import Image
from warpkit.checks import require
from warpkit.datasets.davis import masks_by_stem, read_davis, read_davis_labels
from warpkit.evaluate.commands.shared import method_file_name
from warpkit.evaluate.keypoints import correct_points
from warpkit.evaluate.predict import PairPrediction, Threshold
from warpkit.evaluate.prediction_files import read_predictions
from warpkit.evaluate.sets.pair_sets import PairSetOptions, read_pair_set
from warpkit.io.images import read_image
from warpkit.viz import draw_matches, overlay_labels, panel

__all__ = ["Picture", "result_pictures"]

_EACH = 3  # best, median and worst pairs
_ALPHA = 0.1


@dataclass(frozen=True, eq=False)
class Picture:
    """An image with what it shows.

    Attributes:
        name: file name without its ending.
        caption: one sentence.
        image: uint8 (H, W, 3).
    """

    name: str
    caption: str
    image: Image


def result_pictures(folder: Path, result: Mapping[str, Any]) -> Iterator[Picture]:
    """Pictures of a result's main method.

    Args:
        folder: where `result.json` is, with `predictions/` or `masks/` beside it.
        result: its content.

    Raises:
        InputError: the data set or the predictions are not there any more, or have changed.
    """
    if result["kind"] == "pck":
        yield from _pairs(folder, result)
    elif result["kind"] == "davis":
        yield from _frames(folder, result)


def _pairs(folder: Path, result: Mapping[str, Any]) -> Iterator[Picture]:
    config = result["config"]
    data = config["data"]
    options = PairSetOptions(
        split=data["split"],
        category=data["category"],
        species=tuple(data["species"]),
        pairing=data["pairing"],
        stride=data["stride"],
        images=None if data["images"] is None else Path(data["images"]),
    )
    pair_set = read_pair_set(
        result["dataset"],
        Path(result["data_root"]),
        options=options,
        count=config["pairs"],
        seed=config["seed"],
    )
    file = folder / "predictions" / f"{method_file_name(result['method'])}.json"
    _, predictions, _ = read_predictions(file, pair_set.pairs, root=pair_set.root, partial=True)
    threshold: Threshold = result["threshold"]

    def rank(prediction: PairPrediction) -> tuple[float, float]:
        """Share of right points, then mean error as a fraction of L (less is better)."""
        length = prediction.length(threshold)
        away = np.linalg.norm(prediction.predicted - prediction.pair.target_points, axis=1)
        share = float(_correct(prediction, threshold).mean())
        return share, -float(np.nan_to_num(away, nan=10 * length).mean()) / length

    ordered = sorted(predictions, key=rank, reverse=True)
    count = len(ordered)
    each = min(_EACH, max(1, count // 3))
    middle = (count - each) // 2
    groups = {
        "best": range(each),
        "median": range(middle, middle + each),
        "worst": range(count - each, count),
    }
    for group, places in groups.items():
        for number, place in enumerate(places, start=1):
            yield _pair_picture(ordered[place], threshold, f"pair-{group}-{number}", group)


def _correct(prediction: PairPrediction, threshold: Threshold) -> npt.NDArray[np.bool_]:
    return correct_points(
        prediction.predicted,
        prediction.pair.target_points,
        length=prediction.length(threshold),
        alpha=_ALPHA,
    )


def _pair_picture(
    prediction: PairPrediction, threshold: Threshold, name: str, group: str
) -> Picture:
    pair = prediction.pair
    correct = _correct(prediction, threshold)
    image = draw_matches(
        read_image(pair.source_path),
        read_image(pair.target_path),
        pair.source_points,
        prediction.predicted,
        np.asarray(np.isfinite(prediction.predicted).all(axis=1)),
        true_xy=pair.target_points,
        correct=correct,
        height=360,
    )
    caption = (
        f"{group}: {int(correct.sum())} of {len(pair)} points within {_ALPHA} of the {threshold}"
        f" ({pair.category}, {pair.source_path.name} to {pair.target_path.name})"
    )
    return Picture(name, caption, image)


def _frames(folder: Path, result: Mapping[str, Any]) -> Iterator[Picture]:
    config = result["config"]
    sequences, _ = read_davis(
        Path(result["data_root"]),
        resolution=config["resolution"],
        split=config["split"],
        sequences=config["sequences"] or None,
        year=config["year"],
    )
    masks = folder / "masks" / method_file_name(result["method"])
    require(masks.is_dir(), f"the masks {masks} are not there: run 'warpkit eval davis' with -o")
    for sequence in sequences:
        scores = result["sequences"].get(sequence.name)
        if scores is None or scores["J"] is None:
            continue
        quality = np.array(scores["frames_J"], float)
        first, last = (0, len(quality)) if config["all_frames"] else (1, len(quality) - 1)
        worst = first + int(np.argmin(quality[first:last]))
        frame = read_image(sequence.frame_paths[sequence.annotated[worst]])
        mask_path = sequence.mask_paths[worst]
        truth = read_davis_labels(mask_path, year=config["year"])
        ours = masks_by_stem(masks / sequence.name)[mask_path.stem]
        predicted = read_davis_labels(ours, year=config["year"])
        image = panel(
            [
                ("truth", overlay_labels(frame, truth)),
                (str(result["method"]), overlay_labels(frame, predicted)),
            ],
            height=240,
        )
        caption = (
            f"{sequence.name}, its worst frame {mask_path.stem}: J {quality[worst]:.3f}"
            f" (mean {scores['J']:.3f})"
        )
        yield Picture(f"frame-{sequence.name}", caption, image)
