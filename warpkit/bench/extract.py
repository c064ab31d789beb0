"""Measure extraction side by side: `warpkit bench extract`.

Out: a folder with `bench.json`, `bench.md` (tables) and `bench.png` (time against the batch size).

A row is one way of running, one number of steps and one batch size: `plain` is the UNet called as
it is and the reference aggregation; the others take the streaming aggregation, and on a GPU replay
CUDA graphs, without and with compiling. Time does not depend on the images, which are noise, nor on
the mixing weights, which are equal where a number of steps is not the aggregator's own.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from warpkit.aggregate.network import AggregationNetwork
from warpkit.aggregate.streaming import StreamingAggregator
from warpkit.checks import InputError, counted, one_of, require
from warpkit.describe.extractor import Extractor, out_of_memory
from warpkit.describe.options import ModelOptions, TaskSettings
from warpkit.features.backbone import StepFeatures
from warpkit.features.diffusion import DiffusionBackbone
from warpkit.features.diffusion_settings import recorded_steps
from warpkit.features.unet_calls import UnetCalls
from warpkit.io.images import write_image
from warpkit.io.whole import write_json, write_text, written_together
from warpkit.runs.clock import Stopwatch
from warpkit.runs.folder import OutputFolder, check_result_file, run_record
from warpkit.runs.machine import machine, machine_line
from warpkit.runs.memory import PeakMemory
from warpkit.runs.progress import Bar
from warpkit.viz.timings import plot_timings

__all__ = ["BenchExtractSettings", "ExtractBenchRow", "bench_extract", "run_bench_extract"]

_LOGGER = logging.getLogger("warpkit")

PLAIN = "plain"
WAYS = (PLAIN, "streaming", "graphs", "compile")
_WHOLE_RUN = 50  # DDIM steps that the numbers of steps are counted in


@dataclass(frozen=True, kw_only=True)
class BenchExtractSettings(TaskSettings):
    """What is measured.

    Attributes:
        steps: UNet calls an image, of 50 (early stopping).
        batches: images at once.
        ways: of `plain`, `streaming`, `graphs`, `compile`; empty takes the first two on a CPU or
            Apple GPU, and all but `streaming` on CUDA.
        repeats: timed runs, of which the median counts.
    """

    steps: tuple[int, ...] = (1, 5, 10, 50)
    batches: tuple[int, ...] = (1, 2, 8, 32)
    ways: tuple[str, ...] = ()
    repeats: int = 3

    def __post_init__(self) -> None:
        require(self.repeats >= 1, f"repeats must be at least 1, got {self.repeats}")
        for name, values, most in (
            ("steps", self.steps, _WHOLE_RUN),
            ("batches", self.batches, 512),
        ):
            require(
                len(values) > 0 and all(0 < value <= most for value in values),
                f"{name} must be numbers in 1..{most}, got {list(values)}",
            )
        for way in self.ways:
            one_of(way, WAYS, "way of running")


@dataclass(frozen=True)
class ExtractBenchRow:
    """One measurement.

    Attributes:
        way: see the module.
        device: where.
        input: [height, width] in pixels.
        steps: UNet calls.
        batch: images at once.
        seconds: of a batch, warm; null where memory ran out.
        seconds_per_image: the same, of one image.
        first_seconds: the first run: with capturing and compiling.
        memory_mb: most memory taken by a run above that before it, weights excluded; null where
            the system does not tell.
        images_to_codec_ms, unet_call_ms, aggregate_step_ms: the stages of a batch: encoding once,
            the UNet for each step, aggregation for each recorded step.
        agreement: cosine of the descriptors with those of `plain` at the first percentile of all
            cells; null for `plain` itself and where it was not asked for.
    """

    way: str
    device: str
    input: tuple[int, int]
    steps: int
    batch: int
    seconds: float | None
    seconds_per_image: float | None
    first_seconds: float | None
    memory_mb: float | None
    images_to_codec_ms: float | None = None
    unet_call_ms: float | None = None
    aggregate_step_ms: float | None = None
    agreement: float | None = None


def run_bench_extract(
    output: Path | str,
    *,
    json_file: Path | None = None,
    settings: BenchExtractSettings | None = None,
    options: ModelOptions | None = None,
    overwrite: bool = False,
) -> str:
    """Measure and write `bench.json`, `bench.md` and `bench.png` into a folder.

    Args:
        json_file: a second place for the JSON.

    Returns:
        The table in Markdown.

    Raises:
        InputError: a model that is no diffusion model, or what `OutputFolder` refuses.
    """
    settings = settings or BenchExtractSettings()
    options = options or ModelOptions(model="tiny")
    if json_file is not None:
        check_result_file(json_file, overwrite=overwrite)
    clock = Stopwatch()
    folder = OutputFolder(output, overwrite=overwrite)
    folder.check()
    with clock.stage("load model"):
        extractor = options.load_single()
    with written_together(json_file) as (second,), folder:
        with clock.stage("measure"):
            rows = bench_extract(extractor, settings)
        table = _table(rows)
        facts: dict[str, Any] = {
            "machine": machine(extractor.device),
            "precision": str(extractor.backbone.dtype).removeprefix("torch."),
            "rows": [asdict(row) for row in rows],
        }
        record = run_record("bench extract", (options, settings), clock.seconds, facts)
        write_json(folder.file("bench.json"), record)
        write_text(folder.file("bench.md"), table + "\n")
        if importlib.util.find_spec("matplotlib") is None:
            _LOGGER.warning("bench.png is left out: it needs matplotlib (pip install matplotlib)")
        else:
            title = f"{extractor.name}, {facts['precision']}, {machine_line(record['machine'])}"
            picture = plot_timings(
                _points(rows), title, across="images in a batch", up="seconds for each image"
            )
            write_image(folder.file("bench.png"), picture)
        if second is not None:
            write_json(second, record)
    return table


def bench_extract(
    extractor: Extractor, settings: BenchExtractSettings | None = None
) -> list[ExtractBenchRow]:
    """Time every way of running for every number of steps and batch size.

    Raises:
        InputError: the extractor's model is no diffusion model with an aggregation network.
    """
    settings = settings or BenchExtractSettings()
    backbone, network = extractor.backbone, extractor.network
    if not isinstance(backbone, DiffusionBackbone) or not isinstance(network, AggregationNetwork):
        raise InputError(
            f"bench extract measures diffusion models with an aggregation network, such as tiny and"
            f" sd15; '{extractor.name}' is none"
        )
    ways = settings.ways or (
        (PLAIN, "graphs", "compile") if extractor.device.type == "cuda" else (PLAIN, "streaming")
    )
    require(
        extractor.device.type == "cuda" or not {"graphs", "compile"} & set(ways),
        f"graphs and compile need a CUDA GPU, the model runs on {extractor.device.type}",
    )
    rows: list[ExtractBenchRow] = []
    truth: dict[tuple[int, int], Tensor] = {}
    total = len(ways) * len(settings.batches) * len(settings.steps)
    with Bar(total=total, unit="run", desc="bench") as progress:
        for way in sorted(ways, key=WAYS.index):
            calls = _calls(backbone, way)
            for batch in sorted(settings.batches):
                for steps in sorted(settings.steps, reverse=True):
                    bench = _Bench(extractor, way, calls, batch=batch, steps=steps)
                    rows.append(bench.measure(settings.repeats, truth))
                    progress.update()
    return rows


def _calls(backbone: DiffusionBackbone, way: str) -> UnetCalls:
    names = [layer.name for layer in backbone.spec.layers]
    if way in (PLAIN, "streaming"):
        backbone.unet.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        return UnetCalls(backbone.unet, names, "none")
    backbone.unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return UnetCalls(backbone.unet, names, "graphs" if way == "graphs" else "compile")


class _Bench:
    """One way of running, one batch size, one number of steps."""

    def __init__(
        self, extractor: Extractor, way: str, calls: UnetCalls, *, batch: int, steps: int
    ) -> None:
        assert isinstance(extractor.backbone, DiffusionBackbone)
        assert isinstance(extractor.network, AggregationNetwork)
        self.way, self.batch, self.steps = way, batch, steps
        own = extractor.backbone.spec
        recorded = tuple(step for step in recorded_steps(_WHOLE_RUN) if step < steps)
        if own.num_steps == _WHOLE_RUN and own.steps[-1] == recorded[-1]:
            recorded = own.steps
        swept = dataclasses.replace(extractor.backbone.settings, steps=recorded)
        self.backbone = extractor.backbone.with_settings(swept, num_steps=_WHOLE_RUN, calls=calls)
        self.network = _over(extractor.network, recorded)
        side = extractor.size // own.multiple * own.multiple
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(batch, 3, side, side, generator=generator)
        self.images = images.to(extractor.device)
        self.grid = (side // own.output_stride, side // own.output_stride)

    @torch.no_grad()
    def run(self) -> Tensor:
        """Descriptors of the batch."""
        features = self.backbone.features(self.images)
        if self.way == PLAIN:
            found: Tensor = self.network(features, self.grid)
            return found
        return self._streaming().run(features)

    def _streaming(self) -> StreamingAggregator:
        dtype = self.backbone.dtype if self.images.is_cuda else torch.float32
        return StreamingAggregator(self.network, self.grid, dtype=dtype)

    def measure(self, repeats: int, truth: dict[tuple[int, int], Tensor]) -> ExtractBenchRow:
        row = ExtractBenchRow(
            way=self.way,
            device=self.images.device.type,
            input=(self.images.shape[-2], self.images.shape[-1]),
            steps=self.steps,
            batch=self.batch,
            seconds=None,
            seconds_per_image=None,
            first_seconds=None,
            memory_mb=None,
        )
        try:
            first = self._seconds(self.run)
            # Graphs are captured at the third call of a shape: a run of one step is short of it.
            for _ in range(2 if self.steps < 3 and self.images.is_cuda else 0):
                self.run()
            seconds = statistics.median(self._seconds(self.run) for _ in range(repeats))
            with PeakMemory(self.images.device) as peak:
                found = self.run()
            stages = self._stages(repeats)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            _LOGGER.warning("%s: out of memory with a batch of %d", self.way, self.batch)
            return row
        key = (self.batch, self.steps)
        if self.way == PLAIN:
            truth[key] = found.cpu()
        agreement = None
        if self.way != PLAIN and key in truth:
            cosine = torch.nn.functional.cosine_similarity(found.cpu(), truth[key], dim=1)
            agreement = float(cosine.flatten().sort().values[cosine.numel() // 100])
        return dataclasses.replace(
            row,
            seconds=seconds,
            seconds_per_image=seconds / self.batch,
            first_seconds=first,
            memory_mb=None if peak.megabytes is None else round(peak.megabytes, 1),
            agreement=agreement,
            **stages,
        )

    @torch.no_grad()
    def _stages(self, repeats: int) -> dict[str, Any]:
        backbone = self.backbone
        latent = backbone.codec.encode(self.images).float()
        taken = next(iter(backbone.invert(latent)))
        step = StepFeatures(
            taken.entry, taken.step, taken.timestep, {k: v.clone() for k, v in taken.maps.items()}
        )

        def aggregate() -> None:
            adding = self.network.accumulator(self.grid) if self.way == PLAIN else self._streaming()
            adding.add(step)

        def milliseconds(what: Callable[[], object]) -> float:
            what()
            return 1e3 * statistics.median(self._seconds(what) for _ in range(max(3, repeats)))

        return {
            "images_to_codec_ms": milliseconds(lambda: backbone.codec.encode(self.images)),
            "unet_call_ms": milliseconds(lambda: backbone.evaluate(latent, 0)),
            "aggregate_step_ms": milliseconds(aggregate),
        }

    def _seconds(self, what: Callable[[], object]) -> float:
        self._wait()
        started = time.perf_counter()
        what()
        self._wait()
        return time.perf_counter() - started

    def _wait(self) -> None:
        if self.images.device.type == "cuda":
            torch.cuda.synchronize(self.images.device)
        elif self.images.device.type == "mps":
            torch.mps.synchronize()


def _over(network: AggregationNetwork, steps: tuple[int, ...]) -> AggregationNetwork:
    """The same bottlenecks over other steps, with equal mixing weights."""
    other = AggregationNetwork(
        dataclasses.replace(network.config, steps=steps, num_steps=_WHOLE_RUN)
    )
    other.bottleneck_layers = network.bottleneck_layers
    return other.to(network.mixing_weights.device).eval().requires_grad_(False)


def _points(rows: Sequence[ExtractBenchRow]) -> list[tuple[str, str, int, float, bool]]:
    return [
        (
            counted(row.steps, "step"),
            row.way,
            row.batch,
            row.seconds_per_image,
            False,
        )
        for row in sorted(rows, key=lambda row: row.steps)
        if row.seconds_per_image is not None
    ]


def _table(rows: Sequence[ExtractBenchRow]) -> str:
    """The rows in Markdown, with the ratio to `plain` of the same problem."""
    plain = {(row.steps, row.batch): row.seconds for row in rows if row.way == PLAIN}
    lines = [
        "| steps | batch | way | seconds | per image | times faster | first run, s | memory, MB |"
        " encode, ms | UNet call, ms | aggregate, ms | agreement |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: (row.steps, row.batch, WAYS.index(row.way))):
        if row.seconds is None:
            lines.append(f"| {row.steps} | {row.batch} | {row.way} | out of memory |" + " |" * 8)
            continue
        base = plain.get((row.steps, row.batch))
        ratio = "" if base is None or row.way == PLAIN else f"{base / row.seconds:.1f}"
        cells = (
            *(str(row.steps), str(row.batch), row.way, f"{row.seconds:.3g}"),
            *(f"{row.seconds_per_image:.3g}", ratio, f"{row.first_seconds:.3g}"),
            "" if row.memory_mb is None else f"{row.memory_mb:,.0f}",
            *(f"{row.images_to_codec_ms:.3g}", f"{row.unet_call_ms:.3g}"),
            f"{row.aggregate_step_ms:.3g}",
            "" if row.agreement is None else f"{row.agreement:.6f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
