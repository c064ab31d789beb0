"""Train an aggregation network over a frozen backbone.

`warpkit train aggregator -c configs/tiny_aggregator.yaml`. A run is a folder: `state.pt` (to resume
from), `log.jsonl`, with a validation `best.safetensors`, and at the end `aggregator.safetensors`
and `run.json`. Every draw depends on (seed, step) alone, so a killed run that goes on ends with the
same weights: on the CPU bit for bit, on a GPU up to rounding, which differs from run to run there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from warpkit.aggregate.checkpoint import save_aggregator
from warpkit.aggregate.network import AggregationNetwork
from warpkit.checks import require
from warpkit.features.backbone import Backbone
from warpkit.features.registry import resolve_device
from warpkit.io.whole import write_json
from warpkit.runs.folder import run_record
from warpkit.runs.progress import Bar
from warpkit.runs.task import content_identity, listing_identity
from warpkit.train.aggregator_config import AggregatorTrainConfig
from warpkit.train.losses import TEMPERATURE, symmetric_cross_entropy
from warpkit.train.pairs import PairBatch, join
from warpkit.train.processes import Processes
from warpkit.train.run_settings import RunClock
from warpkit.train.sources import PairStream, create_sources
from warpkit.train.start import create_network, frozen_backbone, input_sizes, starting_point
from warpkit.train.state import (
    check_finite,
    kept_settings,
    restore_state,
    save_state,
    step_seed,
    task_of,
    training_folder,
)
from warpkit.train.trackers import Log, open_tracker
from warpkit.train.validation import Validation

__all__ = ["AggregatorTrainConfig", "train_aggregator"]


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
    with training_folder(output):
        processes = Processes(device)
        with kept_settings(processes.device), closing(processes):
            return _train(config, output, processes)


def _train(config: AggregatorTrainConfig, output: Path, processes: Processes) -> Path | None:
    clock = RunClock(config, config.steps)
    device = processes.device
    start, start_path = starting_point(config)
    backbone = frozen_backbone(config, device, start)
    sizes = input_sizes(config, backbone.spec)
    sources = create_sources(config, device, size=max(sizes))
    pairs_a_step = {source.name: source.count for source in sources}
    require(
        sum(pairs_a_step.values()) >= processes.count,
        f"{processes.count} processes share the pairs of a step, and there are only"
        f" {sum(pairs_a_step.values())}: ask for more",
    )
    validation = None
    if config.validation is not None:
        validation = Validation(config.validation, backbone, size=config.size)
    torch.manual_seed(config.seed)
    network = create_network(config, backbone.spec, start).to(device)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    inputs = {
        **{
            name: content_identity(getattr(config, name))
            for name in ("images", "keypoints", "weights")
        },
        "initial": content_identity(start_path),
        "pairs": " ".join(source.content for source in sources if source.content) or None,
        "validation": None if validation is None else validation.content,
    }
    if Path(config.backbone).is_dir():
        inputs["backbone"] = listing_identity(Path(config.backbone))
    task = task_of(config, inputs)
    state = restore_state(output, task)
    done, best = 0, -1.0
    if state is not None:
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        done, clock.before, best = state["done"], state["seconds"], state["best"]
    loss = torch.zeros((), device=device)

    def save() -> None:
        """Write the state after `done` steps."""
        check_finite(done - 1, loss, network.parameters())
        content = {
            "network": network.state_dict(),
            "optimiser": optimiser.state_dict(),
            "best": best,
        }
        if processes.main:
            save_state(output, task, done=done, seconds=clock.total, content=content)

    def write_checkpoint(path: Path, **facts: Any) -> None:
        save_aggregator(
            path,
            network,
            steps=done,
            seed=config.seed,
            temperature=TEMPERATURE,
            pairs_a_step=pairs_a_step,
            **facts,
        )

    bar = Bar(
        total=config.steps,
        initial=done,
        desc="train aggregator",
        unit="step",
        shown=processes.main,
    )
    with closing(bar), closing(_open_log(config, output, done, processes)) as log:
        while done < config.steps:
            generator = torch.Generator(device).manual_seed(step_seed(config.seed, done))
            drawn = _draw(sources, sizes, generator)
            for group in optimiser.param_groups:
                cosine = 0.5 * (1 + math.cos(math.pi * done / config.steps))
                share = config.final_rate + (1 - config.final_rate) * cosine
                group["lr"] = config.learning_rate * share
            losses = _losses(network, backbone, drawn, config, processes)
            loss = torch.stack(losses).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            processes.sum_gradients(network.parameters())
            optimiser.step()
            loss = processes.sum(loss.detach())
            if done % config.log_every == 0 or done + 1 == config.steps:
                check_finite(done, loss)
                found = processes.sum(torch.stack(losses).detach()).tolist()
                figures = dict(zip(pairs_a_step, found, strict=True))
                log.write(done, figures, seconds=clock.seconds)
                bar.say({name: f"{value:.2f}" for name, value in figures.items()})
            done += 1
            bar.update()
            if validation is not None and validation.due(done, config.steps):
                if processes.main:
                    score = validation(network)
                    log.write(done - 1, {"validation": score})
                    if score > best:
                        best = score
                        write_checkpoint(output / "best.safetensors", validation=score)
                processes.wait()
            # Processes agree only where they may have to: that takes a message between them.
            out_of_time = config.stop_after > 0 and processes.agree(clock.out_of_time)
            if clock.ends(done, save, out_of_time=out_of_time):
                return None
    save()
    finished = output / "aggregator.safetensors"
    if processes.main:
        write_checkpoint(finished)
        facts = {
            "steps": done,
            "device": str(device),
            "processes": processes.count,
            "inputs": inputs,
            "best_validation": None if validation is None else best,
        }
        record = run_record("train aggregator", config, {"training": clock.total}, facts)
        write_json(output / "run.json", record)
    processes.wait()
    return finished


class _NoLog:
    """What processes other than the main one write to."""

    def write(self, *figures: Any, **facts: Any) -> None:
        pass

    def close(self) -> None:
        pass


def _open_log(
    config: AggregatorTrainConfig, output: Path, done: int, processes: Processes
) -> Log | _NoLog:
    if not processes.main:
        return _NoLog()
    tracker = open_tracker(config.tracker, output, config, done=done)
    return Log(output / "log.jsonl", done=done, tracker=tracker)


def _draw(
    sources: Sequence[PairStream], sizes: Sequence[int], generator: torch.Generator
) -> list[PairBatch]:
    """A step's pairs of every source, all of one input size."""
    size = sizes[0]
    if len(sizes) > 1:
        pick = torch.randint(0, len(sizes), (1,), generator=generator, device=generator.device)
        size = sizes[int(pick)]
    return [source.pairs.draw(source.count, size=size, generator=generator) for source in sources]


def _losses(
    network: AggregationNetwork,
    backbone: Backbone,
    drawn: Sequence[PairBatch],
    config: AggregatorTrainConfig,
    processes: Processes,
) -> list[Tensor]:
    """This process's part of the loss of every source, from one pass over its images."""
    parts = _shares(drawn, processes)
    batch = join(parts)
    stride = backbone.spec.output_stride
    cells = batch.source.shape[-1] // stride
    device = batch.source.device
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bfloat16"):
        images = torch.cat([batch.source, batch.target])
        descriptors = network(backbone.features(images), (cells, cells))
    source, target = descriptors.float().chunk(2)
    losses = []
    start = 0
    for whole, part in zip(drawn, parts, strict=True):
        rows = slice(start, start + len(part.source))
        start = rows.stop
        if rows.start == rows.stop:
            losses.append(torch.zeros((), device=device))
            continue
        loss = symmetric_cross_entropy(
            source[rows],
            target[rows],
            batch.source_xy[rows],
            batch.target_xy[rows],
            batch.valid[rows],
            stride=stride,
        )
        if processes.count > 1:
            # The mean over this process's points becomes its part of the mean over all points.
            loss = loss * (part.valid.sum() / whole.valid.sum().clamp(min=1))
        losses.append(loss)
    return losses


def _shares(drawn: Sequence[PairBatch], processes: Processes) -> list[PairBatch]:
    """Every `processes.count`-th pair, counted through all sources."""
    if processes.count == 1:
        return list(drawn)
    shares = []
    start = 0
    for batch in drawn:
        count = len(batch.source)
        rows = [r for r in range(count) if (start + r) % processes.count == processes.rank]
        shares.append(batch.rows(rows))
        start += count
    return shares
