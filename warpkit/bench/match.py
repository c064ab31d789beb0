"""Measure the matching engines side by side: `warpkit bench match`.

In: two images (by default a rendered pair). Out: a folder with `bench.json`, `bench.md` (a table)
and `bench.png` (time against resolution).

The problem: every pixel of the target image is matched among all pixels of the source image, read
from maps of 64 x 64 cells whatever the size of the images. The maps are what a model gives for the
two images: its descriptors, and for a diffusion model also all its layer features, resized to the
grid, concatenated and projected to 384 channels (the width of the published descriptors) by a fixed
orthonormal matrix.

Beside the engines stands the solver of coherent fields, over the same maps.
"""

from __future__ import annotations

import importlib.util
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.arrays import Image
from warpkit.bench.coherent import BATCH, solver_task, time_solver
from warpkit.bench.rows import (
    COHERENT,
    BenchRow,
    bench_table,
    estimate,
    timing_points,
    with_ratios,
)
from warpkit.checks import one_of, require
from warpkit.coords import lattice_sites, sample_descriptors
from warpkit.describe.extractor import ModelDescriber
from warpkit.describe.options import ModelOptions, TaskSettings
from warpkit.io.images import read_image, write_image
from warpkit.io.whole import write_json, written_together
from warpkit.match.matcher import Neighbours, create_matcher, matcher_names
from warpkit.render import render_pair
from warpkit.runs.clock import Stopwatch
from warpkit.runs.folder import OutputFolder, check_result_file, run_record
from warpkit.runs.machine import machine, machine_line
from warpkit.runs.memory import PeakMemory
from warpkit.runs.progress import Bar
from warpkit.types import DescriptorMap, Sites
from warpkit.viz.timings import plot_timings

__all__ = [
    "BenchMatchSettings",
    "BenchRow",
    "bench_match",
    "parse_size",
    "run_bench_match",
]

_LOGGER = logging.getLogger("warpkit")


GRID = 64  # cells on each side of the maps
_PROJECTED = 384
_HALF = "torch float16"
_ESTIMATES = 2  # of one figure, which must agree
_TIE = 1e-6  # scores closer than this count as equal
_SAMPLE = 256  # queries whose matches are compared with the reference
# Multiplications and additions that an engine that compares all pairs may take; above it is timed
# on a part of the queries. CPUs multiply half precision hundreds of times slower.
_BUDGET = {("cpu", False): 6e10, ("cpu", True): 2e8, ("cuda", False): 6e13, ("cuda", True): 6e13}


# Fewest queries of a part. FAISS takes ten times longer for each of 500 queries than of 1,000.
_LEAST = {"faiss": 2048, _HALF: 8}


@dataclass(frozen=True, kw_only=True)
class BenchMatchSettings(TaskSettings):
    """What is measured.

    Attributes:
        sizes: sizes of both images, pixels of a square's side or `WIDTHxHEIGHT`.
        engines: names of matching engines; `torch float16`: one matrix product and its argmax;
            `coherent`: the solver of fields, on a GPU also 16 pairs at once.
        masked: measure `grid` and `coherent` also with both masks set on the middle quarter of the
            images.
        repeats: runs of `grid` and `coherent`, of which the median counts; the others run once.
    """

    sizes: tuple[str, ...] = ("128", "256", "512", "1024", "1920x1080")
    engines: tuple[str, ...] = ("reference", "faiss", _HALF, "grid", COHERENT)
    masked: bool = True
    repeats: int = 3

    def __post_init__(self) -> None:
        require(self.repeats >= 1, f"repeats must be at least 1, got {self.repeats}")
        require(len(self.sizes) > 0, "sizes is empty: give at least one size to measure")
        for name in self.engines:
            one_of(name, [*matcher_names(), _HALF, COHERENT], "engine")
        for size in self.sizes:
            parse_size(size)


def run_bench_match(
    output: Path | str,
    *,
    images: Sequence[Path] = (),
    json_file: Path | None = None,
    settings: BenchMatchSettings | None = None,
    options: ModelOptions | None = None,
    overwrite: bool = False,
) -> str:
    """Measure the engines and write `bench.json`, `bench.md` and `bench.png` into a folder.

    Args:
        images: none, or source and target.
        json_file: a second place for the JSON.

    Returns:
        The table in Markdown.

    Raises:
        InputError: one image, or what `OutputFolder` refuses.
    """
    settings, options = settings or BenchMatchSettings(), options or ModelOptions()
    require(
        len(images) in (0, 2),
        f"bench match takes a source and a target image or none, got {len(images)}",
    )
    if json_file is not None:
        check_result_file(json_file, overwrite=overwrite, inputs=images)
    clock = Stopwatch()
    with (
        written_together(json_file) as (second,),
        OutputFolder(output, overwrite=overwrite, inputs=images) as folder,
    ):
        with clock.stage("load model"):
            extractor = options.load_extractor()
        if images:
            source, target = read_image(images[0]), read_image(images[1])
        else:
            source, target = (frame.image for frame in render_pair(name="fish"))
        with clock.stage("measure"):
            rows = bench_match(source, target, extractor=extractor, settings=settings)
        table = bench_table(rows)
        facts: dict[str, Any] = {
            "images": [str(path) for path in images] or "rendered pair 'fish'",
            "machine": machine(extractor.device),
            "rows": [asdict(row) for row in rows],
        }
        record = run_record("bench match", (options, settings), clock.seconds, facts)
        write_json(folder.file("bench.json"), record)
        folder.file("bench.md").write_text(table + "\n", encoding="utf-8")
        if importlib.util.find_spec("matplotlib") is None:
            _LOGGER.warning("bench.png is left out: it needs matplotlib (pip install matplotlib)")
        else:
            picture = plot_timings(timing_points(rows), machine_line(record["machine"]))
            write_image(folder.file("bench.png"), picture)
        if second is not None:
            write_json(second, record)
    return table


def bench_match(
    source: Image,
    target: Image,
    *,
    extractor: ModelDescriber,
    settings: BenchMatchSettings | None = None,
) -> list[BenchRow]:
    """Time every engine of a configuration on every size.

    Args:
        source: uint8 RGB (Hs, Ws, 3); its descriptors serve for all sizes.
        target: uint8 RGB (H, W, 3).
        extractor: describes both.
    """
    settings = settings or BenchMatchSettings()
    pairs = _maps(extractor, [_square(image) for image in (source, target)])
    problems = [(kind, size, masked) for kind in pairs for size, masked in _problems(settings)]
    rows = []
    with Bar(total=len(problems) * len(settings.engines), unit="run", desc="bench") as progress:
        for kind, size, masked in problems:
            height, width = parse_size(size)
            maps = [
                DescriptorMap.covering(data, height=height, width=width) for data in pairs[kind]
            ]
            mask = _middle(height, width) if masked else None
            device = maps[0].data.device
            sites = lattice_sites(height=height, width=width, mask=mask, device=device)
            problem = _Problem(kind, maps[0], maps[1], sites, mask)
            rows += problem.measure(settings, progress.update)
    return rows


def _problems(settings: BenchMatchSettings) -> list[tuple[str, bool]]:
    """Sizes, and whether masked."""
    return [(size, masked) for size in settings.sizes for masked in {False, settings.masked}]


class _Problem:
    """All pixels (or those of a mask) of one image against those of another."""

    def __init__(
        self,
        kind: str,
        source: DescriptorMap,
        target: DescriptorMap,
        sites: Sites,
        mask: Tensor | None,
    ) -> None:
        self.kind, self.source, self.target = kind, source, target
        self.sites, self.masked = sites, mask is not None
        self.device = source.data.device
        self.mask = None if mask is None else mask.to(self.device)
        self.operations = 2 * source.channels * len(sites)  # of one query against all
        generator = torch.Generator().manual_seed(0)
        count = min(_SAMPLE, len(sites))
        self.order = torch.randperm(len(sites), generator=generator).to(self.device)
        self.sample = self.order[:count]

    def measure(self, settings: BenchMatchSettings, done: Callable[[], object]) -> list[BenchRow]:
        truth: Tensor | None = None
        rows = []
        # The reference first: the others are compared with it.
        for engine in sorted(settings.engines, key=lambda name: name != "reference"):
            done()
            if self.masked and engine not in ("reference", "grid", COHERENT):
                continue
            if engine == "faiss" and importlib.util.find_spec("faiss") is None:
                _LOGGER.warning("'faiss' is left out: it is not installed (pip install faiss-cpu)")
                continue
            if engine == "reference":
                truth = self._reference_sample()
            if engine == COHERENT:
                rows += self._solver_rows(settings.repeats)
            else:
                rows.append(self._engine_row(engine, truth, settings.repeats))
        return with_ratios(rows)

    def _solver_rows(self, repeats: int) -> list[BenchRow]:
        task = solver_task(self.source, self.target, self.mask)
        alone = time_solver(task, repeats=repeats)
        rows = [self._row(COHERENT, alone.seconds, alone.memory_mb)]
        if self.device.type == "cuda":
            spent = time_solver(task, pairs=BATCH, repeats=repeats)
            name = f"{COHERENT}, {BATCH} at once"
            rows.append(self._row(name, spent.seconds, spent.memory_mb))
        return rows

    def _engine_row(self, engine: str, truth: Tensor | None, repeats: int) -> BenchRow:
        exhaustive = engine != "grid"
        count = len(self.sites)
        if exhaustive:
            kind = "cuda" if self.device.type == "cuda" else "cpu"
            budget = int(_BUDGET[kind, engine == _HALF] / self.operations)
            count = min(count, max(_LEAST.get(engine, _SAMPLE), budget))
        part = count < len(self.sites)
        queries = Sites(self.sites.xy[self.order[:count]]) if part else self.sites
        search = _half_search if engine == _HALF else create_matcher(engine).search

        def run(queries: Sites) -> tuple[Neighbours, float, float | None]:
            with PeakMemory(self.device) as peak:
                started = time.perf_counter()
                found = search(self.target, self.source, queries, self.sites)
                if self.device.type == "cuda":
                    torch.cuda.synchronize(self.device)
                seconds = time.perf_counter() - started
            return found, seconds, peak.megabytes

        few = Sites(queries.xy[: max(1, count // 2)])
        run(Sites(queries.xy[:8]) if exhaustive else queries)  # compile, and warm up
        seconds: float | None
        if part:
            pairs = [(run(queries), run(few)[1]) for _ in range(_ESTIMATES)]
            runs = [most for most, _ in pairs]
            seconds = estimate(
                [spent for _, spent, _ in runs],
                [least for _, least in pairs],
                part=count,
                half=len(few),
                whole=len(self.sites),
            )
        else:
            runs = [run(queries) for _ in range(1 if exhaustive else repeats)]
            seconds = statistics.median(spent for _, spent, _ in runs)
        found = runs[0][0]
        agreement = None
        if truth is not None:
            # Parts of the queries are taken in the order of `self.order`.
            compared = self.sample[:count]
            index = found.index[: len(compared), 0] if part else found.index[compared, 0]
            agreement = self._agreement(compared, index, truth[:count])
        known = [megabytes for _, _, megabytes in runs if megabytes is not None]
        memory = round(max(known), 1) if known else None
        return self._row(engine, seconds, memory, extrapolated=part, agreement=agreement)

    def _row(
        self,
        engine: str,
        seconds: float | None,
        memory_mb: float | None,
        *,
        extrapolated: bool = False,
        agreement: float | None = None,
    ) -> BenchRow:
        return BenchRow(
            descriptor=self.kind,
            engine=engine,
            device=self.device.type,
            source=(self.source.height, self.source.width),
            target=(self.target.height, self.target.width),
            masked=self.masked,
            queries=len(self.sites),
            candidates=len(self.sites),
            channels=self.source.channels,
            seconds=seconds,
            extrapolated=extrapolated,
            agreement=agreement,
            memory_mb=memory_mb,
        )

    def _reference_sample(self) -> Tensor:
        queries = Sites(self.sites.xy[self.sample])
        reference = create_matcher("reference")
        return reference.search(self.target, self.source, queries, self.sites).index[:, 0]

    def _agreement(self, queries: Tensor, index: Tensor, truth: Tensor) -> float:
        """Share of matches equal to the truth or scoring the same, in float64."""
        query = sample_descriptors(self.target, self.sites.xy[queries]).double()
        scores = [
            (query * sample_descriptors(self.source, self.sites.xy[rows]).double()).sum(1)
            for rows in (truth, index)
        ]
        return float(((index == truth) | (scores[1] >= scores[0] - _TIE)).double().mean())


def _half_search(
    query: DescriptorMap, key: DescriptorMap, queries: Sites, keys: Sites
) -> Neighbours:
    """All scores in half precision, and their argmax: what is quick to write on a GPU."""
    key_rows = sample_descriptors(key, keys.xy).half().T.contiguous()
    block = max(1, 2**31 // len(keys) if key.data.is_cuda else 2**25 // len(keys))
    index = [
        (sample_descriptors(query, xy).half() @ key_rows).argmax(dim=1)
        for xy in queries.xy.split(block)
    ]
    found = torch.cat(index)[:, None]
    return Neighbours(found, torch.ones_like(found, dtype=torch.float32))


def _maps(extractor: ModelDescriber, images: list[Image]) -> dict[str, list[Tensor]]:
    """Maps (C, 64, 64) of both images: layer features if there are any, and descriptors."""
    inputs = torch.from_numpy(np.stack(images)).to(extractor.device).permute(0, 3, 1, 2).float()
    descriptors = [item.data for item in extractor.describe(images)]
    parts = extractor.parts
    with torch.no_grad():
        layers = [
            _to_grid(values.float())
            for part in parts
            for step in part.backbone.features(inputs / 255)
            for values in step.maps.values()
        ]
    stacked = torch.cat(layers, dim=1)
    found = {"descriptor": [_to_grid(item[None].float())[0] for item in descriptors]}
    if stacked.shape[1] > _PROJECTED:
        generator = torch.Generator().manual_seed(0)
        random = torch.randn(stacked.shape[1], _PROJECTED, generator=generator)
        basis = torch.linalg.qr(random).Q.to(stacked.device)
        projected = torch.einsum("bchw,cd->bdhw", stacked, basis).contiguous()
        found = {"layers": list(projected)} | found
    return found


def _to_grid(values: Tensor) -> Tensor:
    return F.interpolate(values, size=(GRID, GRID), mode="bilinear", align_corners=False)


def _square(image: Image, side: int = 128) -> Image:
    """The image squeezed into the square that the embedded model sees."""
    from PIL import Image as PilImage

    return np.asarray(PilImage.fromarray(image).resize((side, side), PilImage.Resampling.LANCZOS))


def _middle(height: int, width: int) -> Tensor:
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    return mask


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) of `512` or `1920x1080` (width x height)."""
    parts = str(text).lower().split("x")
    good = len(parts) in (1, 2) and all(part.isdigit() and 2 <= int(part) <= 8192 for part in parts)
    require(
        good,
        f"a size is a side such as 512 or WIDTHxHEIGHT such as 1920x1080, 2 to 8192, got '{text}'",
    )
    return int(parts[-1]), int(parts[0])
