"""Train the embedded backbone: diffusion on images, with a decoder aligned to a classifier.

`warpkit train backbone -c configs/tiny_backbone.yaml`. A run is a folder: `state.pt` (to resume
from), `log.jsonl`, with probes `samples` and `best.safetensors`, and at the end `unet.safetensors`
and `run.json`. A killed run goes on where its last state was written, and every draw depends on
(seed, step) alone: on the CPU it ends with the same weights bit for bit, on a GPU up to rounding,
which differs from run to run there.
"""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.checks import counted
from warpkit.features.codecs import UnshuffleCodec
from warpkit.features.registry import resolve_device
from warpkit.features.tiny import save_unet
from warpkit.io.whole import write_json
from warpkit.runs.folder import run_record
from warpkit.runs.progress import Bar
from warpkit.runs.task import content_identity
from warpkit.train.backbone_config import AlignmentConfig, BackboneTrainConfig
from warpkit.train.backbone_start import averaged_unet, starting_unet
from warpkit.train.images import ImageStore, crop_views, load_images
from warpkit.train.losses import min_snr_weight
from warpkit.train.probes import Probes, write_samples
from warpkit.train.run_settings import RunClock
from warpkit.train.state import (
    check_finite,
    kept_settings,
    restore_state,
    save_state,
    step_seed,
    task_of,
    training_folder,
)
from warpkit.train.student import MasterWeights, Student
from warpkit.train.teacher import Teacher, alignment_loss
from warpkit.train.trackers import Log, open_tracker

__all__ = ["AlignmentConfig", "BackboneTrainConfig", "train_backbone"]

_log = logging.getLogger("warpkit")


def train_backbone(config: BackboneTrainConfig, output: Path) -> Path | None:
    """Train, or go on training, in the folder `output`.

    However often it is stopped and resumed, a run ends with the same weights: on the CPU bit for
    bit, on a GPU up to rounding. Torch's global settings are the caller's again afterwards.

    Returns:
        The finished `unet.safetensors`, or None when `stop_after` ended this call early.

    Raises:
        InputError: no data, a loss that is no longer finite, an output that cannot be written, or
            a state in `output` that belongs to another configuration or other data.
    """
    device = resolve_device(config.device)
    with training_folder(output), kept_settings(device):
        return _train(config, output, device)


def _train(config: BackboneTrainConfig, output: Path, device: torch.device) -> Path | None:
    clock = RunClock(config, config.steps)
    stored = load_images(config.data, side=max(config.input_sizes), limit=config.limit or None)
    store, held_out = (part.to(device) for part in stored.hold_out(config.held_out))
    classes = counted(len(store.classes), "class", "classes")
    _log.info("%s of %s", counted(len(store), "image"), classes)
    learner = _Learner(config, store, device)
    weights, unet_config = learner.weights, learner.unet_config
    averaged = averaged_unet(unet_config, weights.averages("unet."))
    probes = Probes(config, averaged, unet_config, held_out)

    inputs = {
        "data": content_identity(config.data),
        "initial": content_identity(learner.start),
        "validation": probes.content,
    }
    task = task_of(config, inputs)
    state = restore_state(output, task)
    done, best = 0, -1.0
    if state is not None:
        weights.restore(state)
        done, clock.before, best = state["done"], state["seconds"], state["best"]
    loss = torch.zeros((), device=device)

    def save() -> None:
        """Write the state after `done` steps."""
        check_finite(done - 1, loss, weights.master)
        content = weights.state() | {"best": best}
        save_state(output, task, done=done, seconds=clock.total, content=content)

    def write_weights(path: Path, **facts: Any) -> None:
        facts |= {"steps": done, "seed": config.seed, "images": len(store)}
        save_unet(path, averaged, unet_config, **facts)

    bar = Bar(total=config.steps, initial=done, desc="train backbone", unit="step")
    tracker = open_tracker(config.tracker, output, config, done=done)
    with closing(bar), closing(Log(output / "log.jsonl", done=done, tracker=tracker)) as log:
        while done < config.steps:
            losses = learner.step(done)
            loss = losses.total
            if done % config.log_every == 0 or done + 1 == config.steps:
                check_finite(done, loss)
                figures = losses.figures()
                log.write(done, figures, seconds=clock.seconds)
                bar.say(
                    {"mse": f"{figures['diffusion']:.3g}", "align": f"{figures['alignment']:.3g}"}
                )
            done += 1
            bar.update()
            if probes.due(done):
                check_finite(done - 1, loss, weights.master)
                found = probes()
                if found.figures:
                    log.write(done - 1, found.figures)
                if found.samples is not None:
                    write_samples(output, done, found.samples)
                    log.show(done - 1, "samples", found.samples)
                if found.validation is not None and found.validation > best:
                    best = found.validation
                    write_weights(output / "best.safetensors", validation=best)
            if clock.ends(done, save, out_of_time=clock.out_of_time):
                return None
    save()
    finished = output / "unet.safetensors"
    write_weights(finished)
    facts = {
        "steps": done,
        "device": str(device),
        "images": len(store),
        "held_out_images": len(held_out),
        "inputs": inputs,
        "best_validation": best if probes.pairs else None,
    }
    record = run_record("train backbone", config, {"training": clock.total}, facts)
    write_json(output / "run.json", record)
    return finished


class _Losses(NamedTuple):
    """Scalars of one step, on the device."""

    total: Tensor
    diffusion: Tensor
    alignment: Tensor
    gradient: Tensor

    def figures(self) -> dict[str, float]:
        """What the log says of them."""
        return {name: float(getattr(self, name)) for name in ("diffusion", "alignment", "gradient")}


class _Learner:
    """A model on its device, and how it takes a step."""

    def __init__(
        self, config: BackboneTrainConfig, store: ImageStore, device: torch.device
    ) -> None:
        self.config, self.store, self.device = config, store, device
        torch.manual_seed(config.seed)
        unet, self.unet_config, self.start = starting_unet(config, store.classes)
        aligned = config.alignment.layers if config.alignment.weight > 0 else ()
        self.teacher = Teacher(size=config.alignment.size).to(device) if aligned else None
        outputs = sum(self.teacher.channels) if self.teacher else 0
        student = Student(unet, aligned, outputs).to(device)
        self.dtype = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
        self.layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
        student.to(memory_format=self.layout)  # type: ignore[call-overload]
        self.weights = MasterWeights(student, config, device)
        student.to(self.dtype)
        if self.teacher is not None:
            self.teacher.calibrate([_batch(config, store, -1 - i)[0] for i in range(4)])
            self.teacher.to(dtype=self.dtype, memory_format=self.layout)  # type: ignore[call-overload]
        self.forward: Any = student
        self.look: Any = self.teacher
        if config.compile:
            # Shapes that only differ in the side of the crops are compiled one by one.
            self.forward = torch.compile(student, dynamic=False)
            self.look = torch.compile(self.teacher, dynamic=False)
        self.schedule = self.unet_config.schedule()
        self.alphas = self.schedule.alphas_cumprod.to(device)
        self.codec = UnshuffleCodec(self.unet_config.factor)

    def step(self, done: int) -> _Losses:
        """Learn from the batch that belongs to the step after `done` steps."""
        config, alphas = self.config, self.alphas
        images, labels, generator = _batch(config, self.store, done)
        latent = self.codec.encode(images)
        t = _draw_timesteps(config, len(latent), self.schedule.train_steps, generator)
        noise = torch.randn(latent.shape, generator=generator, device=self.device)
        alpha_bar = alphas[t][:, None, None, None]
        noisy = alpha_bar.sqrt() * latent + (1 - alpha_bar).sqrt() * noise
        epsilon, predicted = self.forward(
            noisy.to(self.dtype, memory_format=self.layout), t, labels
        )
        error = F.mse_loss(epsilon.float(), noise, reduction="none").mean((1, 2, 3))
        diffusion = (error * min_snr_weight(alphas[t], config.min_snr)).mean()
        loss = diffusion
        alignment = torch.zeros((), device=self.device)
        if self.teacher is not None:
            target = self.look(images.to(self.dtype, memory_format=self.layout))
            for layer in predicted:
                each = alignment_loss(layer, target, self.teacher.channels)
                alignment = alignment + (each * alphas[t].sqrt()).mean() / len(predicted)
            loss = loss + config.alignment.weight * alignment
        loss.backward()
        norm = self.weights.step(done)
        return _Losses(loss.detach(), diffusion.detach(), alignment.detach(), norm)


def _draw_timesteps(
    config: BackboneTrainConfig, count: int, train_steps: int, generator: torch.Generator
) -> Tensor:
    device = generator.device
    anywhere = torch.randint(0, train_steps, (count,), generator=generator, device=device)
    clean = torch.randint(0, config.clean_below, (count,), generator=generator, device=device)
    pick = torch.rand(count, generator=generator, device=device) < config.clean_share
    return torch.where(pick, clean, anywhere)


def _batch(
    config: BackboneTrainConfig, store: ImageStore, step: int
) -> tuple[Tensor, Tensor, torch.Generator]:
    """Images (B, 3, size, size), class labels (B,) with dropped ones, and the step's generator."""
    device = store.pixels.device
    start = step_seed(config.seed, step + 1000)
    generator = torch.Generator(device).manual_seed(start)
    index = torch.randint(0, len(store), (config.batch_size,), generator=generator, device=device)
    size = _size(config.input_sizes, start + (1 << 31))
    images = crop_views(store, index, size=size, area=config.crop_area, generator=generator)
    dropped = torch.rand(len(index), generator=generator, device=device) < config.null_class
    null = torch.full_like(index, len(store.classes))
    return images, torch.where(dropped, null, store.labels[index]), generator


def _size(sizes: tuple[int, ...], seed: int) -> int:
    """One of the sizes, drawn on the CPU: the device need not be waited for."""
    generator = torch.Generator().manual_seed(seed)
    return sizes[int(torch.randint(0, len(sizes), (1,), generator=generator))]
