"""`warpkit eval warp`: end-point error and PCK of dense fields against exact truth.

In: a set of image pairs with dense correspondences. Out: one result per method, as JSON.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from warpkit.checks import counted, require
from warpkit.coherent import CoherentConfig, FieldName, Mirror, coherent_field
from warpkit.coords import pixel_grid
from warpkit.describe.options import ModelOptions
from warpkit.evaluate.baselines import flow_field, identity_points
from warpkit.evaluate.commands.shared import (
    ScoredSettings,
    check_field,
    check_outputs,
    check_scoring,
    compared,
    write_result,
)
from warpkit.evaluate.field_errors import FieldError, FieldTruth, field_error, score_fields
from warpkit.evaluate.field_quality import PairQuality, mean_quality
from warpkit.evaluate.keypoints import ALPHAS
from warpkit.evaluate.methods import DESCRIBERS, FIELD_BASELINES, baseline_describer
from warpkit.evaluate.sets.field_sets import (
    FIELD_SETS,
    SET_MASKS,
    field_truths,
    guess_field_set,
)
from warpkit.io.config import flat
from warpkit.match.matcher import Matcher, asked_matcher
from warpkit.match.settings import MatchFilters
from warpkit.runs.clock import Stopwatch
from warpkit.runs.folder import run_record
from warpkit.runs.progress import Bar
from warpkit.types import Describer
from warpkit.warp.field import dense_warp

__all__ = ["EvalWarpSettings", "run_eval_warp"]

_LOGGER = logging.getLogger("warpkit")

_FIELDS: tuple[FieldName, ...] = ("nearest", "coherent")


@dataclass(frozen=True, eq=False)
class _Field:
    """A prediction.

    Attributes:
        source_xy: (H, W, 2), source pixels.
        shown: bool (H, W), where it holds.
        valid: bool (H, W), where the method holds it to be right; None for `shown`.
        quality: of a coherent field.
    """

    source_xy: npt.NDArray[np.floating[Any]]
    shown: npt.NDArray[np.bool_]
    valid: npt.NDArray[np.bool_] | None = None
    quality: PairQuality | None = None


@dataclass(frozen=True, kw_only=True)
class EvalWarpSettings(ScoredSettings):
    """What is warped and how it is scored.

    Attributes:
        alphas: tolerances as fractions of the source image's longer side.
        pairs: at most that many pairs, drawn; for the clips, frames of each clip.
        filters: whether matches are refined (`subpixel`); published numbers do without.
        resamples: of the bootstrap.
        field: `nearest`, every pixel's most similar source pixel, as published rows are measured;
            `coherent`, one smooth field a pair, scored wherever the truth is known.
        mirror: whether fields may take the source mirrored: `auto`, `never`, `always`.
        masks: give the methods the object masks that the set has: of both images of the clips, of
            the target in TSS.
    """

    known_baselines: ClassVar[tuple[str, ...]] = FIELD_BASELINES

    alphas: tuple[float, ...] = (0.01, *ALPHAS)
    pairs: int | None = None
    filters: MatchFilters = flat(MatchFilters)
    resamples: int = 1000
    field: FieldName = "nearest"
    mirror: Mirror = "auto"
    masks: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_scoring(self.alphas, resamples=self.resamples)
        check_field(self.field, _FIELDS, mirror=self.mirror, filters=self.filters)


def run_eval_warp(
    name: str | None = None,
    root: Path | str | None = None,
    *,
    output: Path | str | None = None,
    json_file: Path | str | None = None,
    settings: EvalWarpSettings | None = None,
    options: ModelOptions | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Predict dense fields and score them where the truth is known.

    No masks are given to the methods unless `masks` is set; only the scored pixels are inside them.

    Args:
        name: a key of `FIELD_SETS`; None goes by what `root` holds.
        root: the set's folder; None for the rendered clips.
        output: folder for `result.json`.
        json_file: also write the result here.
        settings: what and how.

    Returns:
        The result: `epe`, `epe_median`, `coverage`, `valid`, `pck[alpha]["per_point" |
        "per_image"]` and intervals of the model, `quality` (means over the pairs' coherent fields,
        None without), `left_out`; `baselines`, the same of each; `masks`, which were given, else
        None; the run's record.

    Raises:
        InputError: bad input, or an output that exists.
    """
    settings, options = settings or EvalWarpSettings(), options or ModelOptions()
    folder = None if root is None else Path(root)
    name = name or guess_field_set(folder)
    require(
        not settings.masks or name not in FIELD_SETS or name in SET_MASKS,
        f"the set '{name}' has no object masks to give: leave 'masks' out, or evaluate"
        f" {' or '.join(SET_MASKS)}",
    )
    given = SET_MASKS.get(name) if settings.masks else None
    check_outputs(output, json_file, overwrite=overwrite, inputs=[root])
    clock = Stopwatch()
    problems: list[str] = []
    methods: dict[str, Callable[[FieldTruth], _Field]] = {}
    model, matcher = options.load_extractor(), asked_matcher(options.engine)
    methods[model.name] = _describer_field(model, settings, matcher)
    for baseline in settings.baseline_names():
        methods[baseline] = _baseline_field(baseline, settings, matcher, options.device)
    errors: dict[str, list[FieldError]] = {method: [] for method in methods}
    truths = field_truths(name, folder, count=settings.pairs, seed=settings.seed, problems=problems)
    scored = hashlib.sha256(f"{name} {settings.seed if name == 'known' else ''}".encode())
    # Methods that are given masks stand in no table with others.
    scored.update(b"masks" if settings.masks else b"")
    for truth in Bar(truths, desc=FIELD_SETS.get(name, name), unit="pair"):
        scored.update(truth.name.encode(errors="backslashreplace"))
        scored.update(np.ascontiguousarray(truth.source_xy[truth.known]).tobytes())
        for method, predict in methods.items():
            started = time.perf_counter()
            with clock.stage(f"predict {method}"):
                found = predict(truth)
            errors[method].append(
                field_error(
                    truth,
                    found.source_xy,
                    found.shown,
                    seconds=time.perf_counter() - started,
                    valid=found.valid,
                    quality=found.quality,
                )
            )
    require(
        bool(errors[model.name]),
        f"no usable pair in {folder}: {problems[0] if problems else 'it holds none'}",
    )
    rows = []
    for method, listed in errors.items():
        report = score_fields(
            listed, alphas=settings.alphas, seed=settings.seed, resamples=settings.resamples
        )
        spent = sum(error.seconds or 0.0 for error in listed)
        rows.append(
            {
                "method": method,
                **report.to_json(),
                "seconds_per_pair": spent / len(listed),
                "quality": mean_quality(error.quality for error in listed),
            }
        )
    facts = {
        "kind": "warp",
        "dataset": name,
        "title": f"{FIELD_SETS[name]} ({counted(len(errors[model.name]), 'pair')})"
        + (f", {given}" if given else ""),
        "masks": given,
        "scored": scored.hexdigest()[:24],
    }
    where = {"data_root": None if folder is None else str(folder.resolve())}
    record = run_record("eval warp", (options, settings), clock.seconds, where)
    result = compared(facts, rows, problems, record)
    write_result(result, output, json_file, overwrite=overwrite)
    return result


def _describer_field(
    describer: Describer, settings: EvalWarpSettings, matcher: Matcher | None = None
) -> Callable[[FieldTruth], _Field]:
    if settings.field == "coherent":
        return _coherent_field(describer, settings)

    def predict(truth: FieldTruth) -> _Field:
        source, target = describer.describe([truth.source, truth.target])
        device = target.data.device
        # A pixel is matched alone, so only those that are scored need to be.
        found = dense_warp(
            source,
            target,
            target_mask=_on(truth.known, device),
            source_mask=_on(truth.source_mask, device) if settings.masks else None,
            matcher=matcher,
            filters=settings.filters,
        )
        return _Field(found.source_xy.cpu().numpy(), found.valid.cpu().numpy())

    return predict


def _coherent_field(
    describer: Describer, settings: EvalWarpSettings
) -> Callable[[FieldTruth], _Field]:
    how = CoherentConfig(mirror=settings.mirror)  # as `warpkit warp`

    def predict(truth: FieldTruth) -> _Field:
        images = [truth.source, truth.target]
        if settings.mirror != "never":
            images.append(np.ascontiguousarray(truth.source[:, ::-1]))
        source, target, *mirrored = describer.describe(images)
        device = target.data.device
        solved = coherent_field(
            source,
            target,
            mirrored=mirrored[0] if mirrored else None,
            source_mask=_on(truth.source_mask, device) if settings.masks else None,
            target_mask=_on(truth.target_mask, device) if settings.masks else None,
            config=how,
        )
        filled = solved.warp(fill=True)
        return _Field(
            filled.source_xy.cpu().numpy(),
            filled.valid.cpu().numpy(),
            solved.valid.cpu().numpy(),
            PairQuality.of(solved.quality),
        )

    return predict


def _on(mask: npt.NDArray[np.bool_] | None, device: torch.device) -> Tensor | None:
    return None if mask is None else torch.from_numpy(mask).to(device)


def _baseline_field(
    name: str, settings: EvalWarpSettings, matcher: Matcher | None, device: str
) -> Callable[[FieldTruth], _Field]:
    if name in DESCRIBERS:
        describer = baseline_describer(name, device=device)
        return _describer_field(describer, settings, matcher)
    return _identity_field if name == "identity" else _flow_field


def _identity_field(truth: FieldTruth) -> _Field:
    height, width = truth.target.shape[:2]
    grid = pixel_grid(height=height, width=width).reshape(-1, 2).numpy()
    source_xy = identity_points(
        grid,
        source_height=height,
        source_width=width,
        target_height=truth.source.shape[0],
        target_width=truth.source.shape[1],
    )
    return _Field(source_xy.reshape(height, width, 2), np.ones((height, width), bool))


def _flow_field(truth: FieldTruth) -> _Field:
    everywhere = np.ones(truth.target.shape[:2], bool)
    return _Field(flow_field(truth.source, truth.target), everywhere)
