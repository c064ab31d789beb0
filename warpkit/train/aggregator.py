"""Train an aggregation network over a frozen backbone.

`warpkit train aggregator -c configs/tiny_aggregator.yaml`. A run is a folder: `state.pt` (to resume
from), `log.jsonl`, and at the end `aggregator.safetensors` and `run.json`. Every draw depends on
(seed, step) alone, so a killed run that goes on ends with the same weights: on the CPU bit for bit,
on a GPU up to rounding, which differs from run to run there.
"""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm import tqdm

from warpkit.aggregate.checkpoint import load_aggregator, save_aggregator
from warpkit.aggregate.network import AggregationConfig, AggregationNetwork
from warpkit.checks import InputError, require
from warpkit.features.backbone import Backbone
from warpkit.features.registry import create_backbone, resolve_device
from warpkit.io.output import run_record, write_json
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
from warpkit.train.state import (
    check_finite,
    fingerprint,
    identity,
    kept_settings,
    make_folder,
    restore_state,
    save_state,
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
        initial: aggregator checkpoint to start from instead of random weights (warm start).
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
    initial: Path | None = None
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


def _warm_start(network: AggregationNetwork, path: Path) -> None:
    """Take over the weights of a checkpoint of the same shape."""
    known = load_aggregator(path)
    require(
        known.config == network.config,
        f"{path} cannot be the start of this run: it is {known.config}, the run trains"
        f" {network.config}",
    )
    network.load_state_dict(known.state_dict())


def train_aggregator(config: AggregatorTrainConfig, output: Path) -> Path | None:
    """Train, or go on training, in the folder `output`.

    However often it is stopped and resumed, a run ends with the same weights: on the CPU bit for
    bit, on a GPU up to rounding. Torch's global settings are the caller's again afterwards.

    Returns:
        The finished `aggregator.safetensors`, or None when `stop_after` ended this call early.

    Raises:
        InputError: no data, a loss that is no longer finite, an output that cannot be written, or
            a state in `output` that belongs to another configuration, backbone or other data.
    """
    require(config.steps > 0, f"steps must be positive, got {config.steps}")
    device = resolve_device(config.device)
    make_folder(output)
    with kept_settings(device):
        return _train(config, output, device)


def _train(config: AggregatorTrainConfig, output: Path, device: torch.device) -> Path | None:
    started = time.monotonic()
    options: dict[str, Any] = {"steps": config.layer_steps, "num_steps": config.num_steps}
    if config.weights is not None:
        options["weights"] = config.weights
    backbone = create_backbone(config.backbone, device=str(device), **options)
    sources = _sources(config, device)
    torch.manual_seed(config.seed)
    network = _network(config, backbone).to(device)
    if config.initial is not None:
        _warm_start(network, config.initial)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    learned_from = ("images", "keypoints", "weights", "initial")
    inputs = {name: identity(getattr(config, name)) for name in learned_from}
    mark = fingerprint(config, inputs)
    state = restore_state(output, mark)
    done, seconds_before = 0, 0.0
    if state is not None:
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        done, seconds_before = state["done"], state["seconds"]
    loss = torch.zeros((), device=device)

    def save() -> float:
        """Write the state after `done` steps; returns the seconds spent on them over all calls."""
        check_finite(done - 1, loss, network.parameters())
        seconds = seconds_before + time.monotonic() - started
        content = {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
        save_state(output, mark, done=done, seconds=seconds, content=content)
        return seconds

    last_saved = time.monotonic()
    bar = tqdm(total=config.steps, initial=done, desc="train aggregator", disable=None)
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
                check_finite(done, loss)
                row: dict[str, Any] = {"step": done, "seconds": time.monotonic() - started}
                for (name, _, _), value in zip(sources, losses, strict=True):
                    row[name] = float(value.detach())
                log.write(json.dumps(row) + "\n")
                log.flush()
                bar.set_postfix({k: f"{v:.2f}" for k, v in row.items() if k != "step"})
            done += 1
            bar.update()
            out_of_time = 0 < config.stop_after < time.monotonic() - started
            if out_of_time or time.monotonic() - last_saved > config.save_every:
                save()
                last_saved = time.monotonic()
            if out_of_time and done < config.steps:
                bar.close()
                _log.info("stopped at step %d after %.0f s", done, config.stop_after)
                return None
    bar.close()
    seconds = save()
    finished = output / "aggregator.safetensors"
    save_aggregator(
        finished,
        network,
        steps=done,
        seed=config.seed,
        temperature=TEMPERATURE,
        pairs_a_step={name: count for name, _, count in sources},
    )
    facts = {"steps": done, "device": str(device), "inputs": inputs}
    record = run_record("train aggregator", config, {"training": seconds}, facts)
    write_json(output / "run.json", record)
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
