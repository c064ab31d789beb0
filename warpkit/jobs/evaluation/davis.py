"""`warpkit eval davis`: how well masks are carried through annotated clips.

In: a DAVIS folder. Out: J, F and J&F of a model, of baselines or of somebody's folder of masks, as
JSON, and the masks.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from warpkit.checks import InputError, OutputError, require
from warpkit.evaluate.baselines import copy_first_labels, flow_labels
from warpkit.evaluate.davis import score_davis
from warpkit.evaluate.jaccard import DavisReport, mean_scores
from warpkit.evaluate.methods import DESCRIBERS, MASK_BASELINES, baseline_describer, fingerprint
from warpkit.evaluate.prediction_cache import ContentHashes, code_digest, method_digest
from warpkit.io.config import to_dict
from warpkit.io.davis import DavisSequence, read_davis, read_davis_labels
from warpkit.io.images import read_image
from warpkit.io.masks import write_labels
from warpkit.io.output import OutputFolder, run_record, write_json
from warpkit.jobs.evaluation.options import (
    check_baselines,
    check_outputs,
    check_seed,
    library_versions,
    method_file_name,
)
from warpkit.jobs.options import ModelOptions
from warpkit.jobs.propagation import PropagateConfig, propagate
from warpkit.jobs.timing import Stopwatch
from warpkit.propagate import LabelConfig
from warpkit.types import Describer

__all__ = ["EvalDavisConfig", "run_eval_davis"]

_LOGGER = logging.getLogger("warpkit")

Labels = npt.NDArray[np.uint8]
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class EvalDavisConfig(ModelOptions):
    """What is propagated and how it is scored.

    Attributes:
        baselines: names of `MASK_BASELINES`, or `all`.
        year: `2016` scores one foreground object, `2017` every object id; None goes by each mask.
        split: a list below `ImageSets`, such as `2017/val`; None takes every sequence.
        sequences: only these; empty for all.
        resolution: folder of the frames and annotations.
        all_frames: score every frame; else the official frames, 2 to N - 1.
        mode: how masks are carried, as in `warpkit propagate`.
        label: settings of label propagation.
        workers: processes that score; None takes one per CPU.
        seed: of the bootstrap.
    """

    baselines: tuple[str, ...] = ()
    year: Literal["2016", "2017"] | None = None
    split: str | None = None
    sequences: tuple[str, ...] = ()
    resolution: str = "480p"
    all_frames: bool = False
    mode: Literal["label", "gather", "splat"] = "label"
    label: LabelConfig = field(default_factory=LabelConfig)
    workers: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_baselines(self.baselines, MASK_BASELINES)
        check_seed(self.seed)
        require(
            len(set(self.sequences)) == len(self.sequences),
            f"a sequence is named twice: {', '.join(self.sequences)}",
        )
        require(
            self.workers is None or self.workers >= 1,
            f"workers must be at least 1 process, got {self.workers}",
        )

    def baseline_names(self) -> tuple[str, ...]:
        """The baselines asked for, `all` spelled out."""
        return MASK_BASELINES if "all" in self.baselines else self.baselines

    def propagation(self) -> PropagateConfig:
        """The settings of the propagation."""
        return PropagateConfig(**self.model_options(), mode=self.mode, label=self.label)


@dataclass(frozen=True)
class _Method:
    """A row: its name, all that makes its answers, and how it carries the first labels."""

    name: str
    identity: Mapping[str, Any]
    carry: Callable[[Iterable[Image], Labels, int], Iterator[Labels]]


def run_eval_davis(
    root: Path | str,
    *,
    output: Path | str | None = None,
    json_file: Path | str | None = None,
    predictions: Path | str | None = None,
    cache: Path | None = None,
    config: EvalDavisConfig | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Carry the first mask of every sequence to its end and score the masks.

    Args:
        root: the folder that holds `JPEGImages` and `Annotations`.
        output: folder for `result.json` and `masks/<method>/<sequence>/*.png`.
        json_file: also write the result here.
        predictions: score this folder, `<sequence>/*.png`, instead of a model.
        cache: folder where masks are kept between runs, a sequence at a time.
        config: what and how.

    Returns:
        The result: the main method's `mean` and `sequences[name]` with `J`, `F`, `JF` in 0..1,
        `interval`, `left_out`, `seconds_per_frame`; `baselines`, the same of each; the record.

    Raises:
        InputError: bad input, or an output that exists.
    """
    config = config or EvalDavisConfig()
    root = Path(root)
    check_outputs(output, json_file, overwrite=overwrite, inputs=[root, predictions])
    clock = Stopwatch()
    sequences, problems = read_davis(
        root,
        resolution=config.resolution,
        split=config.split,
        sequences=config.sequences or None,
        year=config.year,
    )
    frames = sum(len(sequence) for sequence in sequences)
    _LOGGER.info("%d sequences, %d frames, %d left out", len(sequences), frames, len(problems))
    methods: list[_Method | None] = [_model_method(config) if predictions is None else None]
    methods += [_baseline_method(name, config) for name in config.baseline_names()]
    runs: list[tuple[str, float | None, DavisReport]] = []
    hashes = ContentHashes()
    with tempfile.TemporaryDirectory(prefix="warpkit-") as temporary:
        store = Path(temporary) if cache is None else cache / "masks"
        kept: dict[str, dict[str, Path]] = {}
        for method in methods:
            if method is None:
                assert predictions is not None
                folder = Path(predictions)
                require(folder.is_dir(), f"{folder} is not a folder of <sequence>/*.png masks")
                name, seconds = folder.resolve().name, None
                masks = {s.name: folder / s.name for s in sequences}
            else:
                name = method.name
                with clock.stage(f"propagate {name}"):
                    masks, seconds = _propagate(
                        method, sequences, store, hashes, problems, config.year
                    )
            require(
                method_file_name(name) not in map(method_file_name, kept),
                f"two rows would be called '{name}': rename the folder of predictions",
            )
            kept[name] = masks
            with clock.stage("score"):
                known = [s for s in sequences if s.name in masks]
                report, more, notes = score_davis(
                    known, masks, all_frames=config.all_frames, workers=config.workers
                )
            require(
                method is not None or not more,
                f"the predictions do not cover the data set: {more[0] if more else ''}"
                f" ({len(more)} such sequences); a score over a part would be another score: give"
                " all masks, or name the sequences with --sequences",
            )
            problems += [f"{name}: {line}" for line in more]
            for note in notes:
                _LOGGER.warning("%s: %s", name, note)
            runs.append((name, seconds, report))
        # Every method is scored on the same sequences: those that all could carry.
        common = [
            s.name for s in sequences if all(s.name in report.sequences for *_, report in runs)
        ]
        require(bool(common), f"no sequence was scored for all methods: {'; '.join(problems)}")
        rows = []
        for name, seconds, report in runs:
            shared = mean_scores({s: report.sequences[s] for s in common})
            scores = shared.to_json(seed=config.seed)
            rows.append({"method": name, **scores, "seconds_per_frame": seconds})
        first, *others = rows
        result = {
            "kind": "davis",
            "dataset": f"davis-{config.year}" if config.year else "davis",
            "title": _title(config, common),
            "scored": _scored(config, [s for s in sequences if s.name in common], hashes),
            **first,
            "left_out": list(dict.fromkeys(problems)),
            "baselines": others,
            **run_record("eval davis", config, clock.seconds, {"data_root": str(root.resolve())}),
        }
        if output is not None:
            inputs = [p for s in sequences for p in (*s.frame_paths, *s.mask_paths)]
            if predictions is not None:
                inputs += Path(predictions).glob("*/*.png")
            with OutputFolder(output, overwrite=overwrite, inputs=inputs) as folder_out:
                for name, masks in kept.items():
                    for sequence in sequences:
                        if sequence.name not in common:
                            continue
                        place = f"masks/{method_file_name(name)}/{sequence.name}"
                        for path in sequence.mask_paths:
                            mask = masks[sequence.name] / f"{path.stem}.png"
                            shutil.copyfile(mask, folder_out.file(f"{place}/{mask.name}"))
                write_json(folder_out.file("result.json"), result)
    if json_file is not None:
        write_json(json_file, result)
    return result


def _title(config: EvalDavisConfig, names: Sequence[str]) -> str:
    year = f"DAVIS-{config.year}" if config.year else "DAVIS"
    few = ", ".join(names) if len(names) <= 5 else f"{len(names)} sequences"
    return f"{year} ({f'{config.split}: ' if config.split else ''}{few}{_rule(config)})"


def _rule(config: EvalDavisConfig) -> str:
    return ", all frames" if config.all_frames else ""


def _scored(
    config: EvalDavisConfig, sequences: Sequence[DavisSequence], hashes: ContentHashes
) -> str:
    """A digest of what was scored: annotations, year and frame rule."""
    digest = hashlib.sha256(f"{config.year}{_rule(config)}".encode())
    for sequence in sequences:
        digest.update(sequence.name.encode())
        for path in sequence.mask_paths:
            digest.update(f"{path.stem} {hashes(path)}\n".encode())
    return digest.hexdigest()[:24]


def _describer_method(name: str, describer: Describer, config: EvalDavisConfig) -> _Method:
    settings = config.propagation()
    matcher = config.load_matcher()

    def carry(images: Iterable[Image], first: Labels, frames: int) -> Iterator[Labels]:
        for result in propagate(
            images, describer=describer, labels=first, config=settings, matcher=matcher
        ):
            assert result.labels is not None
            yield result.labels

    options = to_dict(settings)
    for option in settings.model_options():
        options.pop(option)
    identity = {
        "method": name,
        "code": code_digest(),
        "versions": library_versions(),
        "descriptors": fingerprint(describer),
        "engine": config.engine,
        "settings": options,
    }
    return _Method(name, identity, carry)


def _model_method(config: EvalDavisConfig) -> _Method:
    extractor = config.load_extractor()
    return _describer_method(extractor.name, extractor, config)


def _baseline_method(name: str, config: EvalDavisConfig) -> _Method:
    if name in DESCRIBERS:
        describer = baseline_describer(name, device=config.device, clips=True)
        return _describer_method(name, describer, config)
    identity = {"method": name, "code": code_digest(), "versions": library_versions()}
    if name == "copy-first":

        def copy(images: Iterable[Image], first: Labels, frames: int) -> Iterator[Labels]:
            return copy_first_labels(first, frames=frames)

        return _Method(name, identity, copy)

    def flow(images: Iterable[Image], first: Labels, frames: int) -> Iterator[Labels]:
        return flow_labels(images, first)

    return _Method(name, identity, flow)


def _propagate(
    method: _Method,
    sequences: Sequence[DavisSequence],
    store: Path,
    hashes: ContentHashes,
    problems: list[str],
    year: str | None,
) -> tuple[dict[str, Path], float | None]:
    """Folders of the method's masks by sequence, and its mean seconds a frame.

    A folder is named by the content of all that its masks depend on, and appears when it is whole.
    """
    base = store / f"{method_file_name(method.name)}-{method_digest(method.identity)}"
    done: dict[str, Path] = {}
    seconds = 0.0
    frames = 0
    bar = tqdm(
        total=sum(map(len, sequences)), desc=method.name, unit="frame", disable=None, leave=False
    )
    with bar:
        for sequence in sequences:
            try:
                folder = base / f"{sequence.name}-{_sequence_digest(sequence, hashes, year)}"
                spent = _whole(folder, sequence)
                if spent is None:
                    shutil.rmtree(folder, ignore_errors=True)
                    spent = _carry_through(method, sequence, folder, year, bar.update)
                else:
                    bar.update(len(sequence))
                done[sequence.name] = folder
                seconds += spent
                frames += len(sequence)
            except InputError as error:
                if isinstance(error, OutputError):
                    raise
                problems.append(f"{method.name}: sequence '{sequence.name}': {error}")
    require(bool(done), f"{method.name} carried no sequence: {problems[-1] if problems else ''}")
    return done, seconds / frames


def _sequence_digest(sequence: DavisSequence, hashes: ContentHashes, year: str | None) -> str:
    digest = hashlib.sha256(str(year).encode())
    for path in (*sequence.frame_paths, sequence.mask_paths[0]):
        digest.update(f"{path.stem} {hashes(path)}\n".encode())
    return digest.hexdigest()[:24]


_MANIFEST = "manifest.json"


def _whole(folder: Path, sequence: DavisSequence) -> float | None:
    """The seconds that the kept masks of a sequence took; None unless all are there, unchanged."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        files = {f"{path.stem}.png" for path in sequence.mask_paths}
        hashes = ContentHashes()
        if set(manifest["masks"]) == files and all(
            hashes(folder / name) == known for name, known in manifest["masks"].items()
        ):
            return float(manifest["seconds"])
    except (OSError, ValueError, LookupError, TypeError):  # InputError is a ValueError
        pass
    return None


def _carry_through(
    method: _Method,
    sequence: DavisSequence,
    folder: Path,
    year: Any,
    advance: Callable[[int], Any],
) -> float:
    """Write the masks of one sequence into `folder`, which appears when all are there.

    Returns:
        The seconds they took.
    """
    first = read_davis_labels(sequence.mask_paths[0], year=year)
    images = map(read_image, sequence.frame_paths)
    clock = Stopwatch()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = folder.parent / f".partial-{uuid.uuid4().hex[:12]}"
        partial.mkdir()
    except OSError as error:
        raise OutputError(f"cannot keep masks in {folder.parent}: {error.strerror}") from error
    try:
        labels = method.carry(images, first, len(sequence))
        for path in sequence.mask_paths:
            with clock.stage("carry"):
                carried = next(labels)
            write_labels(partial / f"{path.stem}.png", carried)
            advance(1)
        seconds = clock.seconds["carry"]
        hashes = ContentHashes()
        masks = {path.name: hashes(path) for path in sorted(partial.glob("*.png"))}
        write_json(partial / _MANIFEST, {"seconds": seconds, "masks": masks})
        try:
            os.replace(partial, folder)  # noqa: PTH105 - the name says that it is atomic
        except OSError:
            # Another run may have put its own there meanwhile; it is as good.
            if _whole(folder, sequence) is None:
                raise
            shutil.rmtree(partial, ignore_errors=True)
        return seconds
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
