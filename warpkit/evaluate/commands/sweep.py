"""PCK of every raw layer at every timestep: `warpkit eval sweep`.

Out: a folder with `sweep.json` (every number), `sweep.md` (the best layers and timesteps),
`layers.png` (PCK against the timestep, a curve a layer) and `models.png` (the best layer of each
timestep, a curve a model and mode). Source: Diffusion Hyperfeatures, Figures 3 and 7 to 9.

Images are stretched to the model's input, layers are resized (bilinear) to 64 x 64 cells, and a
source point goes to the centre of the target's cell of the greatest cosine. `inversion` evaluates
the UNet along DDIM inversion, `noised` once at each timestep on the noised latent (generation
features of a real image); other models than diffusion models have the mode `features`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.aggregate.network import resize
from warpkit.checks import InputError, counted, require
from warpkit.coords import lattice_sites, sample_descriptors
from warpkit.datasets.pair import AnnotatedPair
from warpkit.describe.extractor import Extractor
from warpkit.describe.options import ModelOptions, TaskSettings
from warpkit.evaluate.commands.shared import check_outputs
from warpkit.evaluate.keypoints import ALPHAS, correct_points
from warpkit.evaluate.predict import PairPrediction, Threshold
from warpkit.evaluate.sets.pair_sets import PairSetOptions, read_pair_set
from warpkit.features.backbone import Backbone
from warpkit.features.diffusion import DiffusionBackbone
from warpkit.features.diffusion_settings import recorded_steps
from warpkit.image.inspect import layer_label
from warpkit.io.images import read_image, write_image
from warpkit.io.whole import write_json, write_text, written_together
from warpkit.runs.clock import Stopwatch
from warpkit.runs.folder import OutputFolder, run_record
from warpkit.runs.progress import Bar
from warpkit.types import DescriptorMap
from warpkit.viz.curves import plot_curves

__all__ = ["SweepRow", "SweepSettings", "run_sweep", "sweep_pairs"]

_LOGGER = logging.getLogger("warpkit")

GRID = 64
_WHOLE_RUN = 50

SweepMode = Literal["inversion", "noised"]


@dataclass(frozen=True, kw_only=True)
class SweepSettings(TaskSettings):
    """What is swept.

    Attributes:
        models: aliases, folders or model files to compare; empty takes the model of the options.
        modes: how diffusion models read images.
        steps: departing steps of 50, clean to noisy; the paper's eleven.
        alphas: tolerances as fractions of L.
        pairs: that many pairs, drawn; None takes all.
        seed: of the draw and of the noise.
        data: which part of the data set.
    """

    models: tuple[str, ...] = ()
    modes: tuple[SweepMode, ...] = ("inversion", "noised")
    steps: tuple[int, ...] = recorded_steps(_WHOLE_RUN)
    alphas: tuple[float, ...] = ALPHAS
    pairs: int | None = None
    seed: int = 0
    data: PairSetOptions = field(default_factory=PairSetOptions)

    def __post_init__(self) -> None:
        require(len(self.modes) > 0, "give at least one of the modes inversion and noised")
        require(
            len(self.steps) > 0
            and list(self.steps) == sorted(set(self.steps))
            and self.steps[0] >= 0
            and self.steps[-1] < _WHOLE_RUN,
            f"steps must increase within 0..{_WHOLE_RUN - 1}, got {list(self.steps)}",
        )
        require(
            len(self.alphas) > 0 and all(alpha > 0 for alpha in self.alphas),
            f"alphas must be positive, got {list(self.alphas)}",
        )


@dataclass(frozen=True)
class SweepRow:
    """One layer at one timestep.

    Attributes:
        model: as given.
        mode: `inversion`, `noised` or `features`.
        layer: module path.
        step: departing step of 50.
        timestep: the noise level that the network was evaluated at.
        pck: alpha to percent of the points, pooled over pairs.
    """

    model: str
    mode: str
    layer: str
    step: int
    timestep: int
    pck: dict[str, float]


def run_sweep(
    dataset: str,
    root: Path | str,
    output: Path | str,
    *,
    json_file: Path | None = None,
    settings: SweepSettings | None = None,
    options: ModelOptions | None = None,
    overwrite: bool = False,
) -> str:
    """Sweep a data set's pairs and write tables and pictures.

    Args:
        dataset: a key of `PAIR_SETS`.
        root: the data set's folder.
        json_file: a second place for the JSON.

    Returns:
        The table of the best in Markdown.

    Raises:
        InputError: bad input, or what `OutputFolder` refuses.
    """
    settings = settings or SweepSettings()
    options = options or ModelOptions(model="tiny")
    require(
        options.fit in (None, "stretch"),
        "the sweep stretches images to the input, as the paper does: leave out --fit",
    )
    clock = Stopwatch()
    folder = OutputFolder(output, overwrite=overwrite, inputs=[root])
    check_outputs(output, json_file, overwrite=overwrite, inputs=[root])
    with clock.stage("read"):
        pair_set = read_pair_set(
            dataset, Path(root), options=settings.data, count=settings.pairs, seed=settings.seed
        )
    rows: list[SweepRow] = []
    problems = list(pair_set.problems)
    for model in settings.models or (options.model,):
        with clock.stage(f"load {model}"):
            extractor = dataclasses.replace(options, model=model, fit="stretch").load_single()
        with clock.stage(f"sweep {model}"):
            rows += sweep_pairs(
                extractor,
                pair_set.pairs,
                name=model,
                threshold=pair_set.threshold,
                settings=settings,
                batch_size=options.batch_size,
                problems=problems,
            )
        del extractor  # its memory, before the next model takes its own
    problems = list(dict.fromkeys(problems))
    count = counted(len(pair_set.pairs), "pair")
    title = f"{pair_set.title}, {count}, threshold {pair_set.threshold}"
    table = _table(rows, settings.alphas, title)
    facts: dict[str, Any] = {
        "dataset": pair_set.name,
        "data_root": str(Path(root).resolve()),
        "pairs": len(pair_set.pairs),
        "threshold": pair_set.threshold,
        "left_out": problems,
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    record = run_record("eval sweep", (options, settings), clock.seconds, facts)
    with written_together(json_file) as (second,), folder:
        write_json(folder.file("sweep.json"), record)
        write_text(folder.file("sweep.md"), table + "\n")
        if importlib.util.find_spec("matplotlib") is None:
            _LOGGER.warning("the curves are left out: they need matplotlib")
        else:
            for name, picture in _pictures(rows, settings.alphas, title).items():
                write_image(folder.file(name), picture)
        if second is not None:
            write_json(second, record)
    return table


def sweep_pairs(
    extractor: Extractor,
    pairs: Sequence[AnnotatedPair],
    *,
    name: str,
    threshold: Threshold,
    settings: SweepSettings,
    batch_size: int,
    problems: list[str],
) -> list[SweepRow]:
    """Score one model's layers in all modes.

    Args:
        extractor: its backbone is swept; what it aggregates is not looked at.
        name: of the model, for the rows.
        threshold: which L counts.
        batch_size: images that are described at once.
        problems: gets a line for every pair that cannot be read, which is left out.
    """
    rows = []
    for mode, backbone in _modes(extractor.backbone, settings):
        counts: dict[tuple[str, int, int], Tensor] = defaultdict(
            lambda: torch.zeros(len(settings.alphas))
        )
        points = 0
        at_once = max(1, batch_size // 2)
        with Bar(total=len(pairs), desc=f"{name}, {mode}", unit="pair") as bar:
            for start in range(0, len(pairs), at_once):
                group = list(_readable(pairs[start : start + at_once], problems))
                if group:
                    points += sum(len(pair) for pair, *_ in group)
                    _score_group(extractor, backbone, group, threshold, settings.alphas, counts)
                bar.update(len(pairs[start : start + at_once]))
        require(points > 0, f"no pair of the data set could be read; {'; '.join(problems[:3])}")
        for (layer, step, timestep), correct in counts.items():
            percent = {
                str(alpha): 100 * float(count) / points
                for alpha, count in zip(settings.alphas, correct, strict=True)
            }
            rows.append(SweepRow(name, mode, layer, step, timestep, percent))
    return rows


def _modes(backbone: Backbone, settings: SweepSettings) -> Iterator[tuple[str, Backbone]]:
    if not isinstance(backbone, DiffusionBackbone):
        yield "features", backbone
        return
    for mode in settings.modes:
        swept = dataclasses.replace(
            backbone.settings,
            steps=settings.steps,
            layers=None,
            mode=mode,
            timestep=None,
            seed=settings.seed,
        )
        yield mode, backbone.with_settings(swept, num_steps=_WHOLE_RUN)


Readable = tuple[AnnotatedPair, np.ndarray, np.ndarray]


def _readable(pairs: Sequence[AnnotatedPair], problems: list[str]) -> Iterator[Readable]:
    for pair in pairs:
        try:
            yield pair, read_image(pair.source_path), read_image(pair.target_path)
        except InputError as error:
            problems.append(f"pair {pair.source_path} -> {pair.target_path}: {error}")


@torch.no_grad()
def _score_group(
    extractor: Extractor,
    backbone: Backbone,
    group: Sequence[Readable],
    threshold: Threshold,
    alphas: Sequence[float],
    counts: dict[tuple[str, int, int], Tensor],
) -> None:
    """Add the correct points of some pairs to the counts of every layer and step."""
    images = [image for _, source, target in group for image in (source, target)]
    inputs = torch.cat([extractor.prepare([image])[0] for image in images])
    for step in backbone.features(inputs):
        for layer in backbone.spec.layers:
            maps = resize(step.maps[layer.name].float(), (GRID, GRID))
            key = (layer.name, step.step, step.timestep)
            for number, (pair, source, target) in enumerate(group):
                predicted = _nearest_cells(
                    maps[2 * number], maps[2 * number + 1], pair, source.shape, target.shape
                )
                height, width = target.shape[:2]
                length = PairPrediction(pair, predicted, height, width).length(threshold)
                counts[key] += torch.tensor(
                    [
                        correct_points(
                            predicted, pair.target_points, length=length, alpha=alpha
                        ).sum()
                        for alpha in alphas
                    ]
                )


def _nearest_cells(
    source: Tensor,
    target: Tensor,
    pair: AnnotatedPair,
    source_shape: tuple[int, ...],
    target_shape: tuple[int, ...],
) -> np.ndarray:
    """The centres of the target's best cells for the source points: float32 (N, 2), pixels."""
    described = DescriptorMap.covering(source, height=source_shape[0], width=source_shape[1])
    points = torch.as_tensor(pair.source_points, dtype=torch.float32, device=source.device)
    queries = F.normalize(sample_descriptors(described, points), dim=1)
    keys = F.normalize(target.flatten(1), dim=0)
    best = (queries @ keys).argmax(dim=1)
    centres = lattice_sites(
        height=target_shape[0], width=target_shape[1], rows=GRID, columns=GRID
    ).xy
    return centres[best.cpu()].numpy().astype(np.float32)


def _middle(alphas: Sequence[float]) -> str:
    """The alpha that pictures show: 0.1 where it was asked for, else the first."""
    return str(0.1 if 0.1 in alphas else alphas[0])


def _best(
    rows: Sequence[SweepRow], alpha: str, key: Callable[[SweepRow], tuple[Any, ...]]
) -> list[SweepRow]:
    """The best row of every group."""
    found: dict[tuple[Any, ...], SweepRow] = {}
    for row in rows:
        known = found.get(key(row))
        if known is None or row.pck[alpha] > known.pck[alpha]:
            found[key(row)] = row
    return list(found.values())


def _pictures(
    rows: Sequence[SweepRow], alphas: Sequence[float], title: str
) -> dict[str, np.ndarray]:
    alpha = _middle(alphas)
    up = f"PCK@{alpha}, percent of points"
    title = f"{title}; {GRID} x {GRID} cells"
    layers = [
        (f"{row.model}, {row.mode}", layer_label(row.layer), row.timestep, row.pck[alpha])
        for row in rows
    ]
    best = _best(rows, alpha, lambda row: (row.model, row.mode, row.timestep))
    curves = [
        ("best layer of each timestep", f"{row.model}, {row.mode}", row.timestep, row.pck[alpha])
        for row in best
    ]
    return {
        "layers.png": plot_curves(layers, title, across="timestep", up=up),
        "models.png": plot_curves(curves, title, across="timestep", up=up),
    }


def _table(rows: Sequence[SweepRow], alphas: Sequence[float], title: str) -> str:
    """The best timestep of every layer, best layers first."""
    alpha = _middle(alphas)
    best = _best(rows, alpha, lambda row: (row.model, row.mode, row.layer))
    names = list(dict.fromkeys((row.model, row.mode) for row in rows))
    heads = [f"PCK@{value}" for value in alphas]
    lines = [
        f"{title}; raw layers on {GRID} x {GRID} cells, each at its best timestep by PCK@{alpha}.",
        "",
        "| model | mode | layer | timestep | " + " | ".join(heads) + " |",
        "|---" * (4 + len(alphas)) + "|",
    ]
    best.sort(key=lambda row: (names.index((row.model, row.mode)), -row.pck[alpha]))
    for row in best:
        cells = (
            *(row.model, row.mode, layer_label(row.layer), str(row.timestep)),
            *(f"{row.pck[str(value)]:.1f}" for value in alphas),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
