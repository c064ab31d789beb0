"""`warpkit eval pck`: how many keypoints a model, baselines or somebody's file put in place.

In: a data set's name and folder. Out: one result per method, as JSON, and the predictions.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from warpkit.checks import counted, require
from warpkit.coherent import FIELDS, FieldName, Mirror, points_config
from warpkit.datasets.pair import AnnotatedPair
from warpkit.describe.options import ModelOptions
from warpkit.evaluate.baselines import predict_identity
from warpkit.evaluate.commands.shared import (
    ScoredSettings,
    answers_identity,
    check_field,
    check_outputs,
    check_scoring,
    compared,
    method_file_name,
    write_result,
)
from warpkit.evaluate.field_quality import mean_quality
from warpkit.evaluate.keypoints import ALPHAS, score_pairs
from warpkit.evaluate.methods import (
    DESCRIBERS,
    POINT_BASELINES,
    baseline_describer,
)
from warpkit.evaluate.predict import BOX_MARGIN, PairPrediction, predict_pairs
from warpkit.evaluate.prediction_cache import ContentHashes, PredictionCache
from warpkit.evaluate.prediction_files import (
    read_predictions,
    relative_name,
    write_pair_list,
    write_predictions,
)
from warpkit.evaluate.sets.pair_sets import PairSet, PairSetOptions, read_pair_set
from warpkit.features.registry import resolve_device
from warpkit.io.config import flat
from warpkit.match.matcher import asked_matcher
from warpkit.match.settings import MatchFilters
from warpkit.runs.clock import Stopwatch
from warpkit.runs.folder import OutputFolder, run_record
from warpkit.runs.memory import PeakMemory
from warpkit.runs.progress import Bar
from warpkit.types import Describer

__all__ = ["EvalPckSettings", "list_pairs", "run_eval_pck"]

_LOGGER = logging.getLogger("warpkit")

_BOXES = (
    "in both images only the extent of the annotated points and"
    f" {100 * BOX_MARGIN:.0f} % of its longer side around it (uses the annotation)"
)


@dataclass(frozen=True, kw_only=True)
class EvalPckSettings(ScoredSettings):
    """What is predicted and how it is scored.

    Attributes:
        alphas: tolerances as fractions of L.
        pairs: that many pairs, drawn; None takes all (360 of `cub`).
        filters: whether matches are refined (`subpixel`); published numbers do without.
        resamples: of the bootstrap.
        data: which part of the data set.
        field: `nearest`, every point's most similar pixel, as numbers are published; `coherent`,
            one smooth field a pair; `auto` decides for each pair.
        mirror: whether fields may take the target mirrored: `auto`, `never`, `always`.
        boxes: candidates lie around the annotated points of both images alone. This uses the
            annotation: such numbers compare with one another only.
    """

    known_baselines: ClassVar[tuple[str, ...]] = POINT_BASELINES

    alphas: tuple[float, ...] = ALPHAS
    pairs: int | None = None
    filters: MatchFilters = flat(MatchFilters)
    resamples: int = 1000
    data: PairSetOptions = dataclasses.field(default_factory=PairSetOptions)
    field: FieldName = "nearest"
    mirror: Mirror = "auto"
    boxes: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_scoring(self.alphas, resamples=self.resamples)
        check_field(self.field, FIELDS, mirror=self.mirror, filters=self.filters)


@dataclass(frozen=True)
class _Method:
    """A row: its name, everything that makes its answers, and how it predicts."""

    name: str
    identity: Callable[[], dict[str, Any]]
    predict: Callable[[Sequence[AnnotatedPair], list[str]], Iterator[PairPrediction]]
    device: torch.device


def run_eval_pck(
    dataset: str,
    root: Path | str,
    *,
    output: Path | str | None = None,
    json_file: Path | str | None = None,
    predictions: Path | str | None = None,
    cache: Path | None = None,
    settings: EvalPckSettings | None = None,
    options: ModelOptions | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Predict the points of a data set's pairs and score them.

    Args:
        dataset: a key of `PAIR_SETS`.
        root: the data set's folder.
        output: folder for `result.json` and `predictions/<method>.json`; None writes none.
        json_file: also write the result here.
        predictions: score this file instead of a model (see `warpkit.evaluate.prediction_files`).
        cache: folder where predictions are kept between runs; None keeps none.
        settings: what and how.

    Returns:
        The result: the main method's `pck[alpha]["image" | "box"]["per_point" | "per_image"]` in
        percent with `interval`, `pck_dagger` in the same form, `pairs`, `points`, `per_category`,
        `left_out` (one line an item), `seconds_per_pair`, `memory_mb`, `quality` (means over the
        pairs' coherent fields, None without); `baselines`, the same of each; `candidates`, what
        `boxes` restricts them to, else None; the run's record.

    Raises:
        InputError: bad input, or an output that exists.
    """
    settings, options = settings or EvalPckSettings(), options or ModelOptions()
    check_outputs(output, json_file, overwrite=overwrite, inputs=[root, predictions])
    clock = Stopwatch()
    with clock.stage("read"):
        pair_set = read_pair_set(
            dataset, Path(root), options=settings.data, count=settings.pairs, seed=settings.seed
        )
    _LOGGER.info(
        "%s: %s%s",
        *(pair_set.title, counted(len(pair_set.pairs), "pair"), _left_out(len(pair_set.problems))),
    )
    problems: list[str] = []
    runs: list[tuple[str, list[PairPrediction], dict[str, Any]]] = []
    hashes = ContentHashes()
    if predictions is not None:
        with clock.stage("read predictions"):
            name, listed, unused = read_predictions(
                Path(predictions), pair_set.pairs, root=pair_set.root
            )
        runs.append((name, listed, {"unused_predictions": unused, "memory_mb": None}))
    else:
        runs.append(
            _predict(_model_method(settings, options), pair_set, cache, hashes, problems, clock)
        )
    for baseline in settings.baseline_names():
        require(
            method_file_name(baseline) not in [method_file_name(name) for name, *_ in runs],
            f"two rows would be called '{baseline}': give the predictions another 'method'",
        )
        method = _baseline_method(baseline, settings, options)
        runs.append(_predict(method, pair_set, cache, hashes, problems, clock))

    # Every method is scored on the same pairs: those that all could read.
    common = set.intersection(*({id(p.pair) for p in listed} for _, listed, _ in runs))
    rows = []
    with clock.stage("score"):
        for name, listed, facts in runs:
            shared = [p for p in listed if id(p.pair) in common]
            report = score_pairs(
                shared,
                alphas=settings.alphas,
                seed=settings.seed,
                resamples=settings.resamples,
            )
            times = [p.seconds for p in listed if p.seconds is not None]
            missing = sum(int(np.isnan(p.predicted).any(axis=1).sum()) for p in shared)
            rows.append(
                {
                    "method": name,
                    **report.to_json(),
                    # The median: the first pair of a machine compiles the matcher's loops.
                    "seconds_per_pair": statistics.median(times) if times else None,
                    "missing_points": missing,
                    "quality": mean_quality(p.quality for p in shared),
                    **facts,
                }
            )
    facts = {
        "kind": "pck",
        "dataset": pair_set.name,
        "title": pair_set.title + (", candidates in boxes of annotated points" * settings.boxes),
        "threshold": pair_set.threshold,
        "candidates": _BOXES if settings.boxes else None,
        "scored": _scored(
            [p for p in pair_set.pairs if id(p) in common], pair_set.root, boxes=settings.boxes
        ),
    }
    where = {"data_root": str(Path(root).resolve())}
    record = run_record("eval pck", (options, settings), clock.seconds, where)
    result = compared(facts, rows, [*pair_set.problems, *problems], record)

    def write(folder: OutputFolder) -> None:
        for name, listed, _ in runs:
            path = folder.file(f"predictions/{method_file_name(name)}.json")
            write_predictions(path, name, listed, root=pair_set.root)

    write_result(
        result,
        output,
        json_file,
        overwrite=overwrite,
        inputs=[predictions, root],
        predictions=write,
    )
    return result


def list_pairs(
    dataset: str,
    root: Path | str,
    path: Path | str,
    *,
    settings: EvalPckSettings | None = None,
    options: ModelOptions | None = None,
    overwrite: bool = False,
) -> tuple[int, list[str]]:
    """Write the pairs that would be evaluated, for another method to predict.

    Returns:
        How many pairs were written, and one line for every item left out.
    """
    settings, options = settings or EvalPckSettings(), options or ModelOptions()
    check_outputs(None, path, overwrite=overwrite, inputs=[root])
    pair_set = read_pair_set(
        dataset, Path(root), options=settings.data, count=settings.pairs, seed=settings.seed
    )
    write_pair_list(Path(path), pair_set.pairs, root=pair_set.root)
    return len(pair_set.pairs), list(pair_set.problems)


def _scored(pairs: Sequence[AnnotatedPair], root: Path, *, boxes: bool) -> str:
    """A digest of what was scored: images, points, boxes, categories; and of what was given."""
    # Methods that are told where the points are stand in no table with others.
    digest = hashlib.sha256(b"boxes" if boxes else b"")
    for pair in pairs:
        names = [relative_name(path, root) for path in (pair.source_path, pair.target_path)]
        digest.update(repr((*names, pair.category, pair.target_box)).encode())
        digest.update(np.ascontiguousarray(pair.source_points).tobytes())
        digest.update(np.ascontiguousarray(pair.target_points).tobytes())
    return digest.hexdigest()[:24]


def _left_out(count: int) -> str:
    return f", {counted(count, 'item')} left out" if count else ""


def _describer_method(
    name: str, describer: Describer, settings: EvalPckSettings, options: ModelOptions
) -> _Method:
    matcher = asked_matcher(options.engine)

    def predict(pairs: Sequence[AnnotatedPair], problems: list[str]) -> Iterator[PairPrediction]:
        return predict_pairs(
            describer,
            pairs,
            matcher=matcher,
            filters=settings.filters,
            field=settings.field,
            coherent=points_config(settings.mirror),
            boxes=settings.boxes,
            problems=problems,
        )

    facts = {
        "engine": options.engine,
        "subpixel": settings.filters.subpixel,
        "field": settings.field,
        "mirror": settings.mirror,
        "boxes": settings.boxes,
    }
    identity = answers_identity(method_file_name(name), describer, **facts)
    return _Method(name, identity, predict, resolve_device(options.device))


def _model_method(settings: EvalPckSettings, options: ModelOptions) -> _Method:
    extractor = options.load_extractor()
    return _describer_method(extractor.name, extractor, settings, options)


def _baseline_method(name: str, settings: EvalPckSettings, options: ModelOptions) -> _Method:
    if name in DESCRIBERS:
        describer = baseline_describer(name, device=options.device)
        return _describer_method(name, describer, settings, options)

    def predict(pairs: Sequence[AnnotatedPair], problems: list[str]) -> Iterator[PairPrediction]:
        return predict_identity(pairs)

    return _Method(name, answers_identity(name), predict, torch.device("cpu"))


def _predict(
    method: _Method,
    pair_set: PairSet,
    cache: Path | None,
    hashes: ContentHashes,
    problems: list[str],
    clock: Stopwatch,
) -> tuple[str, list[PairPrediction], dict[str, Any]]:
    """The method's predictions of the set's pairs in their order, as far as they can be read."""
    with clock.stage(f"predict {method.name}"):
        kept = None
        if cache is not None:
            kept = PredictionCache(cache / "predictions", method.identity(), hashes)
        found = {}
        if kept is not None:
            for pair in pair_set.pairs:
                earlier = kept.find(pair)
                if earlier is not None:
                    found[id(pair)] = earlier
        missing = [pair for pair in pair_set.pairs if id(pair) not in found]
        if len(found):
            _LOGGER.info(
                "%s: %d of %s predicted earlier",
                *(method.name, len(found), counted(len(pair_set.pairs), "pair")),
            )
        memory = kept.memory_mb if kept is not None else None
        if missing:
            bar = Bar(total=len(missing), desc=method.name, unit="pair")
            with PeakMemory(method.device) as peak, bar:
                for prediction in method.predict(missing, problems):
                    found[id(prediction.pair)] = prediction
                    if kept is not None:
                        kept.add(prediction)
                    bar.update()
            if peak.megabytes is not None:
                memory = max(memory or 0.0, peak.megabytes)
                if kept is not None:
                    kept.add_memory(peak.megabytes)
    listed = [found[id(pair)] for pair in pair_set.pairs if id(pair) in found]
    return method.name, listed, {"memory_mb": memory}
