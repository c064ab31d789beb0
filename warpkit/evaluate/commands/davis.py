"""`warpkit eval davis`: how well masks are propagated through annotated clips.

In: a DAVIS folder. Out: J, F and J&F of a model, of baselines or of somebody's folder of masks, as
JSON, and the masks.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from warpkit.arrays import Image, Labels
from warpkit.checks import counted, require
from warpkit.datasets.davis import DavisSequence, read_davis
from warpkit.describe.options import ModelOptions
from warpkit.evaluate.baselines import copy_first_labels, flow_labels
from warpkit.evaluate.commands.mask_store import MaskMethod, propagated_masks
from warpkit.evaluate.commands.shared import (
    ScoredSettings,
    answers_identity,
    check_outputs,
    compared,
    method_file_name,
    write_result,
)
from warpkit.evaluate.davis import prediction_files, score_davis
from warpkit.evaluate.jaccard import DavisReport, mean_sequence_scores
from warpkit.evaluate.methods import DESCRIBERS, MASK_BASELINES, baseline_describer
from warpkit.evaluate.prediction_cache import ContentHashes
from warpkit.io.config import to_dict
from warpkit.match.matcher import asked_matcher
from warpkit.propagate import LabelConfig
from warpkit.runs.clock import Stopwatch
from warpkit.runs.folder import OutputFolder, run_record
from warpkit.types import Describer
from warpkit.video.config import PropagateSettings
from warpkit.video.propagate import propagate

__all__ = ["EvalDavisSettings", "run_eval_davis"]

_LOGGER = logging.getLogger("warpkit")


@dataclass(frozen=True, kw_only=True)
class EvalDavisSettings(ScoredSettings):
    """What is propagated and how it is scored.

    Attributes:
        year: `2016` scores one foreground object, `2017` every object id; None goes by each mask.
        split: a list below `ImageSets`, such as `2017/val`; None takes every sequence.
        sequences: only these; empty for all.
        resolution: folder of the frames and annotations.
        all_frames: score every frame; else the official frames, 2 to N - 1.
        mode: how masks are propagated, as in `warpkit propagate`.
        label: settings of label propagation.
        workers: processes that score; None takes one per CPU.
    """

    known_baselines: ClassVar[tuple[str, ...]] = MASK_BASELINES

    year: Literal["2016", "2017"] | None = None
    split: str | None = None
    sequences: tuple[str, ...] = ()
    resolution: str = "480p"
    all_frames: bool = False
    mode: Literal["label", "backward-warp", "forward-warp"] = "label"
    label: LabelConfig = field(default_factory=LabelConfig)
    workers: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            len(set(self.sequences)) == len(self.sequences),
            f"a sequence is named twice: {', '.join(self.sequences)}",
        )
        require(
            self.workers is None or self.workers >= 1,
            f"workers must be at least 1 process, got {self.workers}",
        )

    def propagation(self) -> PropagateSettings:
        """The settings of the propagation."""
        return PropagateSettings(mode=self.mode, label=self.label)


def run_eval_davis(
    root: Path | str,
    *,
    output: Path | str | None = None,
    json_file: Path | str | None = None,
    predictions: Path | str | None = None,
    cache: Path | None = None,
    settings: EvalDavisSettings | None = None,
    options: ModelOptions | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Propagate the first mask of every sequence to its end and score the masks.

    Args:
        root: the folder that holds `JPEGImages` and `Annotations`.
        output: folder for `result.json` and `masks/<method>/<sequence>/*.png`.
        json_file: also write the result here.
        predictions: score this folder, `<sequence>/*.png`, instead of a model.
        cache: folder where masks are kept between runs, a sequence at a time.
        settings: what and how.

    Returns:
        The result: the main method's `mean` and `sequences[name]` with `J`, `F`, `JF` in 0..1,
        `interval`, `left_out`, `seconds_per_frame`; `baselines`, the same of each; the record.

    Raises:
        InputError: bad input, or an output that exists.
    """
    settings, options = settings or EvalDavisSettings(), options or ModelOptions()
    root = Path(root)
    check_outputs(output, json_file, overwrite=overwrite, inputs=[root, predictions])
    clock = Stopwatch()
    sequences, problems = read_davis(
        root,
        resolution=settings.resolution,
        split=settings.split,
        sequences=settings.sequences or None,
        year=settings.year,
    )
    frames = sum(len(sequence) for sequence in sequences)
    left_out = f", {len(problems)} left out" if problems else ""
    names = counted(len(sequences), "sequence")
    _LOGGER.info("%s, %s%s", names, counted(frames, "frame"), left_out)
    methods: list[MaskMethod | None] = [
        _model_method(settings, options) if predictions is None else None
    ]
    methods += [_baseline_method(name, settings, options) for name in settings.baseline_names()]
    hashes = ContentHashes()
    with tempfile.TemporaryDirectory(prefix="warpkit-") as temporary:
        store = Path(temporary) if cache is None else cache / "masks"
        runs: list[_DavisRun] = []
        for method in methods:
            if method is None:
                assert predictions is not None
                run = _given(Path(predictions), sequences)
            else:
                with clock.stage(f"propagate {method.name}"):
                    masks, seconds = propagated_masks(
                        method, sequences, store, hashes, problems, settings.year
                    )
                run = _DavisRun(method.name, masks, seconds)
            require(
                method_file_name(run.name) not in [method_file_name(r.name) for r in runs],
                f"two rows would be called '{run.name}': rename the folder of predictions",
            )
            with clock.stage("score"):
                run = _scored_run(run, sequences, settings, problems, given=method is None)
            runs.append(run)
        # Every method is scored on the same sequences: those that all could propagate.
        common = [
            s.name for s in sequences if all(s.name in run.report().sequences for run in runs)
        ]
        require(bool(common), f"no sequence was scored for all methods: {'; '.join(problems)}")
        rows = []
        for run in runs:
            shared = mean_sequence_scores({name: run.report().sequences[name] for name in common})
            scores = shared.to_json(seed=settings.seed)
            rows.append({"method": run.name, **scores, "seconds_per_frame": run.seconds})
        scored = [s for s in sequences if s.name in common]
        facts = {
            "kind": "davis",
            "dataset": f"davis-{settings.year}" if settings.year else "davis",
            "title": _title(settings, common),
            "scored": _scored(settings, scored, hashes),
        }
        where = {"data_root": str(root.resolve())}
        record = run_record("eval davis", (options, settings), clock.seconds, where)
        result = compared(facts, rows, problems, record)
        inputs = [path for s in scored for path in (*s.frame_paths, *s.mask_paths)]
        if predictions is not None:
            inputs += Path(predictions).rglob("*.*")
        write = functools.partial(_write_masks, runs, scored)
        write_result(
            result,
            output,
            json_file,
            overwrite=overwrite,
            inputs=inputs,
            predictions=write,
        )
    return result


@dataclass(frozen=True)
class _DavisRun:
    """One method's masks and scores.

    Attributes:
        name: of the method.
        masks: folder of PNGs by sequence.
        seconds: a frame; None where nobody measured it.
        scores: None before they are scored.
    """

    name: str
    masks: Mapping[str, Path]
    seconds: float | None
    scores: DavisReport | None = None

    def report(self) -> DavisReport:
        assert self.scores is not None
        return self.scores


def _given(folder: Path, sequences: Sequence[DavisSequence]) -> _DavisRun:
    """Somebody's masks: `folder/<sequence>/*.png`; of one sequence `folder` may be its own."""
    require(folder.is_dir(), f"{folder} is not a folder of <sequence>/*.png masks")
    folders = {s.name: folder / s.name for s in sequences}
    alone = len(folders) == 1 and not any(path.is_dir() for path in folders.values())
    if alone and prediction_files(folder):
        folders = dict.fromkeys(folders, folder)
    return _DavisRun(folder.resolve().name, folders, None)


def _scored_run(
    run: _DavisRun,
    sequences: Sequence[DavisSequence],
    settings: EvalDavisSettings,
    problems: list[str],
    *,
    given: bool,
) -> _DavisRun:
    """The run with its scores; what is `given` must cover all sequences."""
    report, more, notes = score_davis(
        [s for s in sequences if s.name in run.masks],
        run.masks,
        all_frames=settings.all_frames,
        workers=settings.workers,
    )
    require(
        not (given and more),
        f"the predictions do not cover the data set: {more[0] if more else ''}"
        f" ({counted(len(more), 'such sequence')}); a score over a part would be another"
        " score: give all masks, or name the sequences with --sequences",
    )
    problems += [f"{run.name}: {line}" for line in more]
    for note in notes:
        _LOGGER.warning("%s: %s", run.name, note)
    return replace(run, scores=report)


def _write_masks(
    runs: Sequence[_DavisRun], sequences: Sequence[DavisSequence], folder: OutputFolder
) -> None:
    """Write the masks of every run."""
    for run in runs:
        for sequence in sequences:
            place = f"masks/{method_file_name(run.name)}/{sequence.name}"
            files = prediction_files(run.masks[sequence.name])
            for stem in (path.stem for path in sequence.mask_paths):
                target = folder.file(f"{place}/{stem}{files[stem].suffix}")
                shutil.copyfile(files[stem], target)


def _title(settings: EvalDavisSettings, names: Sequence[str]) -> str:
    year = f"DAVIS-{settings.year}" if settings.year else "DAVIS"
    few = ", ".join(names) if len(names) <= 5 else counted(len(names), "sequence")
    return f"{year} ({f'{settings.split}: ' if settings.split else ''}{few}{_rule(settings)})"


def _rule(settings: EvalDavisSettings) -> str:
    return ", all frames" if settings.all_frames else ""


def _scored(
    settings: EvalDavisSettings, sequences: Sequence[DavisSequence], hashes: ContentHashes
) -> str:
    """A digest of what was scored: annotations, year and frame rule."""
    digest = hashlib.sha256(f"{settings.year}{_rule(settings)}".encode())
    for sequence in sequences:
        digest.update(sequence.name.encode(errors="backslashreplace"))
        for path in sequence.mask_paths:
            digest.update(f"{path.stem} {hashes(path)}\n".encode(errors="backslashreplace"))
    return digest.hexdigest()[:24]


def _describer_method(
    name: str, describer: Describer, settings: EvalDavisSettings, options: ModelOptions
) -> MaskMethod:
    how = settings.propagation()
    matcher = asked_matcher(options.engine)

    def masks_of(images: Iterable[Image], first: Labels, frames: int) -> Iterator[Labels]:
        for result in propagate(
            images, describer=describer, labels=first, settings=how, matcher=matcher
        ):
            assert result.labels is not None
            yield result.labels

    facts = {"engine": options.engine, "settings": to_dict(how)}
    identity = answers_identity(name, describer, **facts)
    return MaskMethod(name, identity, masks_of)


def _model_method(settings: EvalDavisSettings, options: ModelOptions) -> MaskMethod:
    extractor = options.load_extractor()
    return _describer_method(extractor.name, extractor, settings, options)


def _baseline_method(name: str, settings: EvalDavisSettings, options: ModelOptions) -> MaskMethod:
    if name in DESCRIBERS:
        describer = baseline_describer(name, device=options.device, clips=True)
        return _describer_method(name, describer, settings, options)
    identity = answers_identity(name)
    if name == "copy-first":

        def copy(images: Iterable[Image], first: Labels, frames: int) -> Iterator[Labels]:
            return copy_first_labels(first, frames=frames)

        return MaskMethod(name, identity, copy)

    def flow(images: Iterable[Image], first: Labels, frames: int) -> Iterator[Labels]:
        return flow_labels(images, first)

    return MaskMethod(name, identity, flow)
