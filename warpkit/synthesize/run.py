"""Synthesise a data set of pseudo-labelled pairs: plan, make, measure, write, describe.

In: a configuration. Out: a folder with every format asked for, a data card, contact sheets,
precision on known warps, and a manifest; whole, or left where the same command goes on.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import logging
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from warpkit.checks import InputError, OutputError, counted, is_file, require
from warpkit.describe.options import ModelOptions, TaskSettings
from warpkit.evaluate.generation import evenly_spaced
from warpkit.features.foreground import FOREGROUND_WEIGHTS
from warpkit.features.segmenters import segmenter_weights
from warpkit.image.foreground import SURE
from warpkit.io.config import dump_yaml, to_dict
from warpkit.io.images import write_image
from warpkit.io.text import read_json, valid_text
from warpkit.io.whole import write_json, write_text
from warpkit.match.matcher import Matcher, asked_matcher
from warpkit.runs.cache import file_sha256
from warpkit.runs.clock import Stopwatch
from warpkit.runs.folder import OutputFolder, run_record
from warpkit.runs.progress import Bar
from warpkit.runs.task import accept_unfinished
from warpkit.synthesize.card import data_card
from warpkit.synthesize.config import (
    FORMATS,
    Format,
    PairSettings,
    QualityConfig,
    SplitConfig,
)
from warpkit.synthesize.engines import MadeChunk, make_here, make_on_ray
from warpkit.synthesize.mask_trust import DOUBTFUL
from warpkit.synthesize.measures import PrecisionRow
from warpkit.synthesize.pair_pipeline import PairPipeline
from warpkit.synthesize.plan import GeneratedPlans, PairPlan, PhotoPlans, Plans, list_photos
from warpkit.synthesize.precision import measure_set
from warpkit.synthesize.records import Record, encode_records, read_records
from warpkit.synthesize.sheets import SHEET, contact_sheet
from warpkit.synthesize.sources import set_sources
from warpkit.synthesize.splits import Split, resplit, wanted
from warpkit.synthesize.summary import Summary, summarise, without_duplicates
from warpkit.synthesize.verify import MANIFEST, write_manifest
from warpkit.synthesize.writers import (
    CocoKeypointWriter,
    LayoutWriter,
    ParquetWriter,
    SetWriter,
    ShardWriter,
)
from warpkit.synthesize.writers.target import write_bytes
from warpkit.types import Describer
from warpkit.version import __version__

__all__ = ["SynthesizeSettings", "run_synthesize"]

_log = logging.getLogger("warpkit")

_CHUNKS, _TASK, _FINISHED = "chunks", "task.json", "finished"
# Where a run is done changes nothing of what it makes.
_WHERE = ("executor", "workers", "device")
_FOLDER_SIZE = 1000  # chunks a folder


@dataclass(frozen=True, kw_only=True)
class SynthesizeSettings(PairSettings, TaskSettings):
    """A synthesised set.

    Attributes:
        pairs: how many are made; some of them are dropped.
        splits, quality: see there.
        formats: what is written.
        shard: most pairs of a WebDataset shard or a Parquet file.
        executor: `local` makes pairs in this process, `ray` on a Ray cluster (or one started here).
        workers: of Ray; null takes one a GPU, or as many as the CPUs allow.
    """

    pairs: int = 40
    splits: SplitConfig = field(default_factory=SplitConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    formats: tuple[Format, ...] = FORMATS
    shard: int = 1000
    executor: Literal["local", "ray"] = "local"
    workers: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.pairs > 0, f"pairs must be at least one, got {self.pairs}")
        require(self.shard > 0, f"shard must be at least one pair, got {self.shard}")
        require(len(self.formats) > 0, f"give at least one format of {', '.join(FORMATS)}")
        require(
            self.workers is None or self.workers > 0, f"workers must be positive: {self.workers}"
        )

    def plans(self) -> Plans:
        """The pairs to make."""
        if self.images is None:
            return GeneratedPlans(
                self.generation, self.splits, self.pairs, known_warps=self.known_warps
            )
        return PhotoPlans(
            list_photos(self.images),
            self.splits,
            self.pairs,
            seed=self.generation.seed,
            known_warps=self.known_warps,
        )


class _Worker:
    """Makes chunks of a configuration."""

    def __init__(self, settings: SynthesizeSettings, options: ModelOptions) -> None:
        self._settings, self._plans = settings, settings.plans()
        matcher = asked_matcher(options.engine)
        self._maker = PairPipeline(settings, options.load_extractor(), matcher)

    def chunks(self, numbers: Iterable[int]) -> Iterator[MadeChunk]:
        """Chunk after chunk by number."""
        asked, telling = itertools.tee(numbers)
        seconds = dict.fromkeys(self._maker.seconds, 0.0)
        made = self._maker.run(self._planned(number) for number in asked)
        for number, records in zip(telling, made, strict=True):
            before, seconds = seconds, dict(self._maker.seconds)
            spent = {name: seconds[name] - before[name] for name in seconds}
            yield MadeChunk(number, encode_records(records), spent)

    def _planned(self, number: int) -> list[PairPlan]:
        first = number * self._settings.batch
        last = min(first + self._settings.batch, len(self._plans))
        return [self._plans.pair(n) for n in range(first, last)]


def run_synthesize(
    output: Path | str,
    *,
    settings: SynthesizeSettings | None = None,
    options: ModelOptions | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Make a set and write it into a folder.

    A run that was stopped, however it was, goes on when it is started again: chunks of pairs that
    were finished are kept. `docs/synthesize.md` says what the folder holds.

    Args:
        overwrite: allow a folder that holds something, and drop unfinished work of another
            configuration.

    Returns:
        The counts of `run.json`.

    Raises:
        InputError: a configuration or input that cannot be used, or a folder that holds something.
        OutputError: the disk is full or cannot be written; what is finished is kept.
    """
    settings, options = settings or SynthesizeSettings(), options or ModelOptions()
    _check_packages(settings)
    clock = Stopwatch()
    plans = settings.plans()
    if len(plans) < settings.pairs:
        _log.info(
            "the photographs make %s, fewer than the %d asked for",
            *(counted(len(plans), "pair"), settings.pairs),
        )
    folder = OutputFolder(output, overwrite=overwrite, resume=True)
    try:
        with folder:
            accept_unfinished(folder, _task(settings, options), drop_others=overwrite)
            if not folder.file(_FINISHED, private=True).is_file():
                try:
                    _make_and_write(folder, settings, options, plans, clock)
                except OutputError:
                    raise  # a full disk can be mended
                except InputError:
                    # With nothing finished there is nothing to go on from, only to be in the way.
                    if not _has_chunks(folder):
                        folder.abandon()
                    raise
                write_text(folder.file(_FINISHED, private=True), "")
            facts: dict[str, Any] = read_json(folder.file("run.json"))
            folder.file(_TASK, private=True)
            # Chunks are what a killed run goes on from; all their pairs are written by now.
            shutil.rmtree(folder.file(_CHUNKS), ignore_errors=True)
    except OutputError as error:
        raise OutputError(
            f"{error}; what is finished is kept: make room, and run the same command again"
        ) from error
    return facts


def _check_packages(settings: SynthesizeSettings) -> None:
    """Raise before hours of work if a format's library is missing."""
    from importlib.util import find_spec

    others = ",".join(name for name in settings.formats if name != "parquet")
    require(
        "parquet" not in settings.formats or find_spec("pyarrow") is not None,
        "the format parquet needs pyarrow: pip install 'warpkit-hyperfeatures[synth]'"
        + (f', or leave it out by --set "formats=[{others}]"' if others else ""),
    )
    require(
        settings.executor == "local" or find_spec("ray") is not None,
        "--executor ray needs Ray: pip install 'warpkit-hyperfeatures[ray]'",
    )


def _task(settings: SynthesizeSettings, options: ModelOptions) -> dict[str, Any]:
    """What tells a run from another: all that decides what it makes."""
    kept = {key: value for key, value in to_dict((options, settings)).items() if key not in _WHERE}
    task: dict[str, Any] = {"config": kept, "version": __version__, **options.recorded_facts()}
    if options.aggregator is not None and is_file(options.aggregator):
        task["aggregator"] = file_sha256(Path(options.aggregator))
    if settings.mask_kind == "auto":
        task["foreground_head"] = file_sha256(FOREGROUND_WEIGHTS)
    if settings.masks.segmenter is not None:
        task["segmenter"] = segmenter_weights(settings.masks.segmenter)
    if settings.generation.prompts is not None:
        task["prompts"] = file_sha256(settings.generation.prompts)
    if settings.images is not None:
        names = [path for paths in list_photos(settings.images).values() for path in paths]
        sizes = [f"{valid_text(name)} {(settings.images / name).stat().st_size}" for name in names]
        task["photographs"] = hashlib.sha256("\n".join(sizes).encode()).hexdigest()
    return task


def _make_and_write(
    folder: OutputFolder,
    settings: SynthesizeSettings,
    options: ModelOptions,
    plans: Plans,
    clock: Stopwatch,
) -> None:
    stages = _make(folder, settings, options, plans, clock)
    count = -(-len(plans) // settings.batch)

    moved: dict[str, Split] = {}

    def records() -> Iterator[Record]:
        chunks = (read_records(_chunk_path(folder, number)) for number in range(count))
        for record in without_duplicates(itertools.chain.from_iterable(chunks)):
            split = moved.get(record.id)
            yield record if split is None else replace(record, meta={**record.meta, "split": split})

    summary = summarise(records())
    if summary.kept and not summary.splits.keys() >= set(wanted(settings.splits)):
        moved |= resplit(records(), settings.splits)
        summary = summarise(records())
    if not summary.kept:
        folder.abandon()
        reasons = ", ".join(f"{reason} {n}" for reason, n in summary.dropped.most_common())
        raise InputError(
            f"none of {counted(summary.pairs, 'pair')} was kept ({reasons}): see masks.*,"
            " labels.least and labels.filters.*"
        )
    for split in wanted(settings.splits):
        if not summary.splits[split]:
            _log.info(
                "no pair is left for %s: too few were kept (%d), or they share their photographs;"
                " ask for more pairs, or set splits.val=0 splits.test=0",
                split,
                len(summary.kept),
            )
    if summary.agreement:
        _log.info("%s; --mask none takes whole pictures", summary.found_words())
    if summary.doubtful:
        _log.warning(
            "the found masks of %d of %d kept pairs are doubtful, and may hold more than the"
            " object: they are named in README.md and marked in sheets; masks.least_trust=%g drops"
            " them, masks.kind=given takes your own",
            len(summary.doubtful),
            len(summary.kept),
            SURE if settings.mask_kind == "auto" else DOUBTFUL,
        )
    with clock.stage("write"):
        shown = _write_formats(folder, settings, summary, records())
    with clock.stage("contact sheets"):
        sheets = [shown[i : i + SHEET] for i in range(0, len(shown), SHEET)][
            : settings.quality.sheets
        ]
        for number, sheet in enumerate(sheets):
            write_image(folder.file(f"sheets/{number:02d}.png"), contact_sheet(sheet))
    with clock.stage("measure"):
        rows: list[PrecisionRow] = []
        measured = 0
        if settings.quality.images > 0 and not settings.known_warps:

            def load() -> tuple[Describer, Matcher | None]:
                return options.load_extractor(), asked_matcher(options.engine)

            some = evenly_spaced(shown, settings.quality.images)
            rows, measured = measure_set(folder, settings, load, some)
    card = data_card(
        summary,
        configuration=dump_yaml((options, settings)),
        sources=set_sources(settings, options),
        formats=settings.formats,
        rows=rows,
        images=measured,
    )
    write_text(folder.file("README.md"), card)
    facts = {**summary.facts(), "stages": {k: round(v, 3) for k, v in stages.items()}}
    record = run_record("synthesize", (options, settings), clock.seconds, facts)
    write_json(folder.file("run.json"), record)
    root = folder.file("run.json").parent
    private = {folder.file(name, private=True) for name in (_TASK, _FINISHED)}
    skip = private | set((root / _CHUNKS).rglob("*"))
    write_manifest(root, folder.file(MANIFEST), skip)


def _chunk_path(folder: OutputFolder, number: int) -> Path:
    return folder.file(f"{_CHUNKS}/{number // _FOLDER_SIZE:05d}/{number:08d}.tar")


def _has_chunks(folder: OutputFolder) -> bool:
    """Whether any chunk is finished."""
    return any(folder.file(_CHUNKS).rglob("*.tar"))


def _make(
    folder: OutputFolder,
    settings: SynthesizeSettings,
    options: ModelOptions,
    plans: Plans,
    clock: Stopwatch,
) -> dict[str, float]:
    """Make the chunks that are missing; returns the seconds by stage, summed over workers."""
    count = -(-len(plans) // settings.batch)
    todo = [number for number in range(count) if not _chunk_path(folder, number).is_file()]
    build = functools.partial(_Worker, settings, options)
    made = make_here(build, [])
    if todo and settings.executor == "ray":
        made = make_on_ray(
            build,
            todo,
            workers=settings.workers,
            threads=settings.threads,
            gpu=options.device == "auto" or options.device.startswith("cuda"),
        )
    elif todo:
        made = make_here(build, todo)
    stages: dict[str, float] = {}
    started = time.perf_counter()
    # Closed at once when this stops: a cluster that was started for it ends with it.
    pairs = [min(settings.batch, len(plans) - n * settings.batch) for n in range(count)]
    there = sum(pairs) - sum(pairs[number] for number in todo)
    bar = Bar(total=len(plans), initial=there, unit="pair", desc="synthesize")
    with bar, contextlib.closing(made):
        for chunk in made:
            with clock.stage("keep"):
                write_bytes(_chunk_path(folder, chunk.number), chunk.data)
            for name, seconds in chunk.seconds.items():
                stages[name] = stages.get(name, 0.0) + seconds
            bar.update(pairs[chunk.number])
    clock.seconds["make"] = time.perf_counter() - started
    return stages


def _write_formats(
    folder: OutputFolder, settings: SynthesizeSettings, summary: Summary, records: Iterator[Record]
) -> list[Record]:
    """Write all formats; returns the kept pairs that sheets and measurements look at."""
    writers: list[SetWriter] = []
    place = folder.file
    wanted = set(settings.formats)
    if wanted & {"spair", "dhf", "coco"}:
        writers.append(LayoutWriter(place, spair="spair" in wanted, dhf="dhf" in wanted))
    if "coco" in wanted:
        what = "Pseudo-labelled pairs made by warpkit synthesize"
        writers.append(CocoKeypointWriter(place, points=settings.labels.points, description=what))
    if "webdataset" in wanted:
        writers.append(ShardWriter(place, size=settings.shard))
    if "parquet" in wanted:
        writers.append(ParquetWriter(place, size=settings.shard))
    most = max(settings.quality.images, SHEET * settings.quality.sheets)
    looked_at = set(evenly_spaced(summary.kept, most)) if most else set()
    shown = []
    for record in records:
        if not record.kept:
            continue
        for writer in writers:
            writer.add(record)
        if record.id in looked_at:
            shown.append(record)
    for writer in writers:
        writer.close()
    return shown
