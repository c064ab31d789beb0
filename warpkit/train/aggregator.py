"""Train an aggregation network over a frozen backbone.

`warpkit train aggregator -c configs/tiny_aggregator.yaml`. A run is a folder: `state.pt` (to resume
from), `log.jsonl`, and at the end `aggregator.safetensors`. Every draw depends on (seed, step)
alone, so a killed run ends with the same weights.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm import tqdm

from warpkit.aggregate.checkpoint import save_aggregator
from warpkit.aggregate.network import AggregationConfig, AggregationNetwork
from warpkit.checks import InputError, require
from warpkit.features.backbone import Backbone
from warpkit.features.registry import create_backbone, resolve_device
from warpkit.train.images import load_images
from warpkit.train.losses import TEMPERATURE, symmetric_cross_entropy
from warpkit.train.pairs import (
    ContourPairs,
    KeypointPairs,
    PairBatch,
    PairSource,
    WarpPairs,
    join,
)
from warpkit.warp.known import KnownWarpConfig

__all__ = ["AggregatorTrainConfig", "train_aggregator"]

_log = logging.getLogger("warpkit")


@dataclass(frozen=True)
class AggregatorTrainConfig:
    """A run of aggregator training.

    Attributes:
        images: training folder for known warps and contour pairs.
        keypoints: folder with annotated images and their JSON index.
        species: groups of the keypoint index that are trained on.
        warp_pairs: pairs a step from known warps of single images.
        keypoint_pairs: pairs a step from annotated keypoints.
        contour_pairs: pairs a step labelled by position inside object contours.
        contour_classes: classes whose contours are used.
        backbone: registered backbone, frozen.
        weights: its weights file, if not the backbone's own.
        layer_steps: recorded departing steps; (0,) is one call at the clean input.
        learning_rate: AdamW's, decayed to `final_rate` of it by a cosine.
        precision: of the backbone's and network's products; weights stay float32.
        stop_after: end this call after so many seconds, with the state written (0 = never).
    """

    images: Path | None = None
    keypoints: Path | None = None
    species: tuple[int, ...] = ()
    warp_pairs: int = 8
    keypoint_pairs: int = 8
    contour_pairs: int = 8
    contour_classes: tuple[str, ...] = ()
    warp: KnownWarpConfig = field(default_factory=KnownWarpConfig)
    backbone: str = "tiny"
    weights: Path | None = None
    layer_steps: tuple[int, ...] = (0,)
    num_steps: int = 50
    size: int = 128
    width: int = 128
    bottleneck: int = 48
    groups: int = 16
    order: Literal["resize-first", "bottleneck-first"] = "bottleneck-first"
    steps: int = 2000
    learning_rate: float = 1e-3
    final_rate: float = 0.02
    weight_decay: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    device: str = "auto"
    seed: int = 0
    stop_after: float = 0.0
    save_every: float = 60.0
    limit: int = 0


def _sources(
    config: AggregatorTrainConfig, device: torch.device
) -> list[tuple[str, PairSource, int]]:
    """The sources in use, with the pairs each gives a step."""
    sources: list[tuple[str, PairSource, int]] = []
    if config.warp_pairs or config.contour_pairs:
        if config.images is None:
            raise InputError("warp_pairs and contour_pairs need `images`, a training folder")
        store = load_images(config.images, side=config.size, limit=config.limit or None).to(device)
        if config.warp_pairs:
            sources.append(("warps", WarpPairs(store, config.warp), config.warp_pairs))
        if config.contour_pairs:
            contours = ContourPairs(store, config.contour_classes)
            sources.append(("contours", contours, config.contour_pairs))
    if config.keypoint_pairs:
        if config.keypoints is None:
            raise InputError("keypoint_pairs needs `keypoints`, a folder with a JSON index")
        keypoints = KeypointPairs(
            config.keypoints,
            groups=config.species,
            device=device,
            side=config.size * 9 // 8,
        )
        sources.append(("keypoints", keypoints, config.keypoint_pairs))
    require(len(sources) > 0, "no training pairs: set warp_pairs, keypoint_pairs or contour_pairs")
    return sources


def _network(config: AggregatorTrainConfig, backbone: Backbone) -> AggregationNetwork:
    spec = backbone.spec
    return AggregationNetwork(
        AggregationConfig(
            model=spec.name,
            layers=tuple(layer.name for layer in spec.layers),
            channels=tuple(layer.channels for layer in spec.layers),
            steps=spec.steps,
            num_steps=spec.num_steps,
            width=config.width,
            bottleneck=config.bottleneck,
            groups=config.groups,
            order=config.order,
        )
    )


def train_aggregator(config: AggregatorTrainConfig, output: Path) -> Path | None:
    """Train, or go on training, in the folder `output`.

    Returns:
        The finished `aggregator.safetensors`, or None when `stop_after` ended this call early.

    Raises:
        InputError: no data, or a state in `output` that belongs to another configuration.
    """
    require(config.steps > 0, f"steps must be positive, got {config.steps}")
    device = resolve_device(config.device)
    output.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    options: dict[str, Any] = {"steps": config.layer_steps, "num_steps": config.num_steps}
    if config.weights is not None:
        options["weights"] = config.weights
    backbone = create_backbone(config.backbone, device=str(device), **options)
    sources = _sources(config, device)
    torch.manual_seed(config.seed)
    network = _network(config, backbone).to(device)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    state_file = output / "state.pt"
    done = _restore(state_file, network, optimiser, config)
    last_saved = time.monotonic()
    bar = tqdm(total=config.steps, initial=done, desc="train aggregator", unit="step")
    with (output / "log.jsonl").open("a", encoding="utf-8") as log:
        while done < config.steps:
            generator = torch.Generator(device).manual_seed((config.seed << 32) + done)
            drawn = [
                source.draw(count, size=config.size, generator=generator)
                for _, source, count in sources
            ]
            for group in optimiser.param_groups:
                cosine = 0.5 * (1 + math.cos(math.pi * done / config.steps))
                share = config.final_rate + (1 - config.final_rate) * cosine
                group["lr"] = config.learning_rate * share
            losses = _losses(network, backbone, drawn, config)
            loss = torch.stack(losses).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            if done % 50 == 0 or done + 1 == config.steps:
                row: dict[str, Any] = {"step": done, "seconds": time.monotonic() - started}
                for (name, _, _), value in zip(sources, losses, strict=True):
                    row[name] = float(value.detach())
                require(
                    math.isfinite(float(loss.detach())),
                    f"the loss is no longer finite at step {done}: lower learning_rate",
                )
                log.write(json.dumps(row) + "\n")
                log.flush()
                bar.set_postfix({k: f"{v:.2f}" for k, v in row.items() if k != "step"})
            done += 1
            bar.update()
            out_of_time = 0 < config.stop_after < time.monotonic() - started
            if out_of_time or time.monotonic() - last_saved > config.save_every:
                _save_state(state_file, network, optimiser, done, config)
                last_saved = time.monotonic()
            if out_of_time and done < config.steps:
                bar.close()
                _log.info("stopped at step %d after %.0f s", done, config.stop_after)
                return None
    bar.close()
    _save_state(state_file, network, optimiser, done, config)
    finished = output / "aggregator.safetensors"
    save_aggregator(
        finished,
        network,
        steps=done,
        seed=config.seed,
        temperature=TEMPERATURE,
        pairs_a_step={name: count for name, _, count in sources},
    )
    return finished


def _losses(
    network: AggregationNetwork,
    backbone: Backbone,
    drawn: list[PairBatch],
    config: AggregatorTrainConfig,
) -> list[Tensor]:
    """The loss of every source, from one pass over all images."""
    batch = join(drawn)
    stride = backbone.spec.output_stride
    cells = config.size // stride
    device = batch.source.device
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bfloat16"):
        images = torch.cat([batch.source, batch.target])
        descriptors = network(backbone.features(images), (cells, cells))
    source, target = descriptors.float().chunk(2)
    losses = []
    start = 0
    for part in drawn:
        rows = slice(start, start + len(part.source))
        losses.append(
            symmetric_cross_entropy(
                source[rows],
                target[rows],
                batch.source_xy[rows],
                batch.target_xy[rows],
                batch.valid[rows],
                stride=stride,
            )
        )
        start = rows.stop
    return losses


def _fingerprint(config: AggregatorTrainConfig) -> str:
    """What must not change between two calls of one run."""
    ignored = {"images", "keypoints", "weights", "device", "stop_after", "save_every"}
    return repr([(k, v) for k, v in sorted(vars(config).items()) if k not in ignored])


def _save_state(
    path: Path,
    network: AggregationNetwork,
    optimiser: torch.optim.Optimizer,
    done: int,
    config: AggregatorTrainConfig,
) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save(
        {
            "done": done,
            "config": _fingerprint(config),
            "network": network.state_dict(),
            "optimiser": optimiser.state_dict(),
        },
        temporary,
    )
    os.replace(temporary, path)  # noqa: PTH105 - atomic on every system


def _restore(
    path: Path,
    network: AggregationNetwork,
    optimiser: torch.optim.Optimizer,
    config: AggregatorTrainConfig,
) -> int:
    if not path.is_file():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["config"] != _fingerprint(config):
        raise InputError(
            f"{path.parent} holds a run of another configuration: choose another output folder"
        )
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    _log.info("resumed at step %d", state["done"])
    return int(state["done"])
