"""What a model looks at: `warpkit inspect IMAGE...`.

Out: a folder with `inspect.json`, `mixing.png` (the aggregator's mixing weights, layers x steps),
`pca.png` (every image beside its descriptors, in one basis) and `layers-<stem>.png` (every raw
layer at every recorded step, each in a basis of its own).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from warpkit.aggregate.network import AggregationNetwork
from warpkit.arrays import Image
from warpkit.checks import require
from warpkit.describe.extractor import Extractor
from warpkit.describe.options import ModelOptions, TaskSettings
from warpkit.features.backbone import Layer
from warpkit.io.images import read_image, write_image
from warpkit.io.whole import write_json
from warpkit.runs.clock import Stopwatch
from warpkit.runs.folder import OutputFolder, run_record
from warpkit.runs.progress import Bar, ProgressCallback, no_progress
from warpkit.types import DescriptorMap
from warpkit.viz.fields import pca_colors, pca_shares
from warpkit.viz.panel import panel
from warpkit.viz.tables import heat_table

__all__ = ["InspectSettings", "layer_label", "mixing_facts", "run_inspect"]


@dataclass(frozen=True, kw_only=True)
class InspectSettings(TaskSettings):
    """What is drawn.

    Attributes:
        layers: draw every layer of every image as well.
        height: of the pictures of layers, in pixels.
    """

    layers: bool = True
    height: int = 112

    def __post_init__(self) -> None:
        require(self.height >= 16, f"height must be at least 16 pixels, got {self.height}")


def run_inspect(
    images: Sequence[Path | str],
    output: Path | str,
    *,
    settings: InspectSettings | None = None,
    options: ModelOptions | None = None,
    overwrite: bool = False,
    extractor: Extractor | None = None,
    progress: ProgressCallback = no_progress,
) -> list[Path]:
    """Draw mixing weights, descriptors and layers.

    Args:
        images: image files; none draws the mixing weights alone.
        options: the model, a single one; `tiny` by default.
        extractor: that model, where it is loaded already.
        progress: hears of the steps.

    Returns:
        The pictures, in order.

    Raises:
        InputError: an image that cannot be read, or what `OutputFolder` refuses.
    """
    settings = settings or InspectSettings()
    options = options or ModelOptions(model="tiny")
    paths = [Path(image) for image in images]
    names = [f"layers-{path.stem}.png" for path in paths]
    require(len(set(names)) == len(names), "several images have one name: their files would clash")
    clock = Stopwatch()
    pixels = [read_image(path) for path in paths]
    folder = OutputFolder(output, overwrite=overwrite, inputs=paths)
    folder.check()
    with clock.stage("load model"):
        extractor = extractor or options.load_single()
    facts: dict[str, Any] = {
        "inputs": [str(path) for path in paths],
        "layers": [_layer_facts(layer) for layer in extractor.backbone.spec.layers],
        "steps": list(extractor.backbone.spec.steps),
        "mixing": mixing_facts(extractor),
    }
    written: list[str] = []
    with folder:
        if facts["mixing"] is not None:
            written.append("mixing.png")
            write_image(folder.file("mixing.png"), _mixing_picture(extractor, facts["mixing"]))
        if pixels:
            progress("describing", 0, 1 + len(paths))
            with clock.stage("describe"):
                maps = extractor.describe(pixels)
            written.append("pca.png")
            write_image(folder.file("pca.png"), _descriptors_picture(paths, pixels, maps))
            facts["descriptors"] = [
                {"image": str(path), "channels": one.channels, "variance": pca_shares(one)}
                for path, one in zip(paths, maps, strict=True)
            ]
        if pixels and settings.layers:
            facts["maps"] = {}
            with clock.stage("layers"):
                shown = Bar(paths, desc="layers", unit="image")
                for done, (path, name, image) in enumerate(
                    zip(shown, names, pixels, strict=True), start=1
                ):
                    progress("drawing layers", done, 1 + len(paths))
                    picture, found = _layers_picture(extractor, image, settings.height)
                    write_image(folder.file(name), picture)
                    written.append(name)
                    facts["maps"][str(path)] = found
        record = run_record("inspect", (options, settings), clock.seconds, facts)
        write_json(folder.file("inspect.json"), record)
    return [Path(output) / name for name in written]


def layer_label(name: str) -> str:
    """A decoder layer in short: block and residual block, `1.0`; other names as they are."""
    parts = name.split(".")
    decoder = len(parts) == 5 and parts[0] == "up_blocks" and parts[2] == "resnets"
    return f"{parts[1]}.{parts[3]}" if decoder else name


def _layer_facts(layer: Layer) -> dict[str, Any]:
    return {"name": layer.name, "channels": layer.channels, "stride": layer.stride}


def mixing_facts(extractor: Extractor) -> dict[str, Any] | None:
    """The mixing weights of an aggregation network in percent; None for stacked layers.

    Returns:
        `weights[step][layer]` clean to noisy, sums of both, and the entries by weight.
    """
    network = extractor.network
    if not isinstance(network, AggregationNetwork):
        return None
    percent = 100 * network.mixing().double().cpu().numpy()
    config = network.config
    order = np.argsort(-percent, axis=None, kind="stable")
    steps, layers = np.unravel_index(order, percent.shape)
    return {
        "weights": percent,
        "per_step": percent.sum(1),
        "per_layer": percent.sum(0),
        "largest": [
            {
                "step": config.steps[step],
                "layer": config.layers[layer],
                "percent": float(percent[step, layer]),
            }
            for step, layer in zip(steps[:20], layers[:20], strict=True)
        ],
    }


def _mixing_picture(extractor: Extractor, facts: dict[str, Any]) -> Image:
    """Layers down, steps across, with the sums of both at the end."""
    spec = extractor.backbone.spec
    weights = facts["weights"].T
    return heat_table(
        weights,
        rows=[f"{layer_label(layer.name)} ({layer.channels})" for layer in spec.layers],
        columns=[str(step) for step in spec.steps],
        title=f"{extractor.name}: mixing weights in percent",
        row_title="layer (channels)",
        column_title=f"step of {spec.num_steps}",
        sums=weights.shape[1] > 1,  # of one step they say nothing new
    )


def _descriptors_picture(
    paths: Sequence[Path], pixels: Sequence[Image], maps: Sequence[DescriptorMap]
) -> Image:
    tiles = []
    for path, image, colours in zip(paths, pixels, pca_colors(maps), strict=True):
        tiles += [(path.name, image), (f"descriptors, {maps[0].channels} channels", colours)]
    return panel(tiles, columns=4 if len(paths) > 1 else 2)


@torch.no_grad()
def _layers_picture(
    extractor: Extractor, image: Image, height: int
) -> tuple[Image, list[dict[str, Any]]]:
    """All layers at all recorded steps, a row a layer; and what the JSON says of each."""
    spec = extractor.backbone.spec
    inputs, fit = extractor.prepare([image])
    tiles: dict[tuple[int, int], tuple[str, Image]] = {}
    found = []
    for step in extractor.backbone.features(inputs):
        for number, layer in enumerate(spec.layers):
            one = _shrunk(fit.descriptor_map(step.maps[layer.name][0].float().cpu()), height)
            h, w = one.grid_size
            title = f"{layer_label(layer.name)}, t {step.timestep}, {w} x {h}"
            tiles[number, step.entry] = (title, pca_colors(one)[0])
            found.append(
                {
                    "layer": layer.name,
                    "step": step.step,
                    "timestep": step.timestep,
                    "grid": [h, w],
                    "variance": pca_shares(one),
                }
            )
    columns = len(spec.steps) if len(spec.steps) > 1 else 4
    return panel([tiles[key] for key in sorted(tiles)], columns=columns, height=height), found


def _shrunk(one: DescriptorMap, height: int) -> DescriptorMap:
    """The map as that of a picture of `height` pixels."""
    scale = height / one.height
    width = max(1, round(one.width * scale))
    return DescriptorMap(
        one.data, height, width, one.cell_height * scale, one.cell_width * width / one.width
    )
