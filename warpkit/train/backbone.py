"""Train the embedded backbone: diffusion on images, with a decoder aligned to a classifier.

`warpkit train backbone -c configs/tiny_backbone.yaml`. A run is a folder: `state.pt` (to resume
from), `log.jsonl`, and at the end `unet.safetensors` and `run.json`. A killed run goes on where its
last state was written, and every draw depends on (seed, step) alone: on the CPU it ends with the
same weights bit for bit, on a GPU up to rounding, which differs from run to run there.
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
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from warpkit.checks import require
from warpkit.features.codecs import UnshuffleCodec
from warpkit.features.ddim import DdimSchedule
from warpkit.features.registry import resolve_device
from warpkit.features.taps import decoder_taps
from warpkit.features.tiny import UnetConfig, build_unet, save_unet
from warpkit.io.output import run_record, write_json
from warpkit.train.images import ImageStore, crop_views, load_images
from warpkit.train.losses import min_snr_weight
from warpkit.train.state import (
    check_finite,
    fingerprint,
    identity,
    kept_settings,
    make_folder,
    restore_state,
    save_state,
)
from warpkit.train.teacher import AlignmentHead, Teacher, alignment_loss

__all__ = ["AlignmentConfig", "BackboneTrainConfig", "train_backbone"]

_log = logging.getLogger("warpkit")


@dataclass(frozen=True)
class AlignmentConfig:
    """Alignment of decoder layers to a pretrained classifier (weight 0 switches it off).

    Attributes:
        weight: of the cosine loss against the diffusion loss.
        layers: which decoder layers (0..11, deepest first) predict the teacher's features, in
            increasing order.
        size: side the teacher sees the crop at.
    """

    weight: float = 1.0
    layers: tuple[int, ...] = (5, 7)
    size: int = 256

    def __post_init__(self) -> None:
        # Heads meet their layers in the order in which these run.
        require(
            list(self.layers) == sorted(set(self.layers) & set(range(12))),
            "layers must be decoder layers from 0 to 11 in strictly increasing order, got"
            f" {list(self.layers)}",
        )


@dataclass(frozen=True)
class BackboneTrainConfig:
    """A run of backbone training.

    Attributes:
        data: training folder (see `warpkit.train.images`).
        size: side of the training crops in pixels.
        crop_area: range of a crop's area, share of the image's inscribed square.
        null_class: share of the batch whose class is dropped.
        clean_share: share of the batch drawn from timesteps below `clean_below`, where
            descriptors are read.
        stop_after: end this call after so many seconds, with the state written (0 = never).
        save_every: seconds between two states.
        limit: use at most so many images (0 = all).
    """

    data: Path
    steps: int = 6000
    batch_size: int = 256
    learning_rate: float = 5e-4
    warmup: int = 300
    final_rate: float = 0.03
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    ema: float = 0.9995
    size: int = 128
    crop_area: tuple[float, float] = (0.6, 1.0)
    null_class: float = 0.35
    clean_share: float = 0.25
    clean_below: int = 120
    min_snr: float = 5.0
    channels: tuple[int, ...] = (64, 96, 128, 192)
    blocks: int = 2
    attention_levels: tuple[int, ...] = (2, 3)
    groups: int = 16
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    device: str = "auto"
    seed: int = 0
    stop_after: float = 0.0
    save_every: float = 120.0
    limit: int = 0


class _Student(nn.Module):
    """UNet and alignment heads in one forward pass, so that one graph is compiled."""

    def __init__(self, unet: nn.Module, layers: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.unet = unet
        names = decoder_taps(unet)
        require(
            max(layers, default=0) < len(names),
            f"alignment.layers names layer {max(layers, default=0)}, but this UNet's decoder has"
            f" {len(names)} layers",
        )
        modules: dict[str, Any] = dict(unet.named_modules())
        tapped = [modules[names[i]] for i in layers]
        self.heads = nn.ModuleList(AlignmentHead(m.out_channels, outputs) for m in tapped)
        # Hooks that stay for the whole training: a compiler cannot trace hooks that come and go.
        self._taps: list[Tensor] = []
        for module in tapped:
            module.register_forward_hook(lambda _m, _i, output: self._taps.append(output))

    def forward(self, noisy: Tensor, t: Tensor, labels: Tensor) -> tuple[Tensor, list[Tensor]]:
        self._taps.clear()
        epsilon = self.unet(noisy, t, None, class_labels=labels, return_dict=False)[0]
        predicted = [head(tap) for head, tap in zip(self.heads, self._taps, strict=True)]
        return epsilon, predicted


class _Weights:
    """float32 master weights beside the (possibly bfloat16) model, with their running mean."""

    def __init__(self, model: nn.Module, config: BackboneTrainConfig, device: torch.device) -> None:
        self.params: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self.master = [p.detach().float().clone() for p in self.params]
        self.mean = [p.clone() for p in self.master]
        self.optimiser = torch.optim.AdamW(
            self.master,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=device.type == "cuda",
        )
        self.config = config

    def step(self, done: int) -> Tensor:
        """One AdamW step from the model's gradients; returns their norm."""
        for master, param in zip(self.master, self.params, strict=True):
            master.grad = None if param.grad is None else param.grad.float()
            param.grad = None
        norm = nn.utils.clip_grad_norm_(self.master, self.config.gradient_clip)
        for group in self.optimiser.param_groups:
            group["lr"] = _learning_rate(self.config, done)
        self.optimiser.step()
        # A young mean forgets faster, so that short runs are not dragged by the initialisation.
        decay = min(self.config.ema, (done + 1) / (done + 10))
        with torch.no_grad():
            torch._foreach_lerp_(self.mean, self.master, 1 - decay)
            torch._foreach_copy_(self.params, self.master)
        return norm

    def state(self) -> dict[str, Any]:
        return {
            "master": self.master,
            "mean": self.mean,
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for mine, saved in zip(self.master, state["master"], strict=True):
                mine.copy_(saved)
            for mine, saved in zip(self.mean, state["mean"], strict=True):
                mine.copy_(saved)
            torch._foreach_copy_(self.params, self.master)
        self.optimiser.load_state_dict(state["optimiser"])


def _learning_rate(config: BackboneTrainConfig, done: int) -> float:
    if done < config.warmup:
        return config.learning_rate * (done + 1) / config.warmup
    progress = (done - config.warmup) / max(1, config.steps - config.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.learning_rate * (config.final_rate + (1 - config.final_rate) * cosine)


def _draw_timesteps(
    config: BackboneTrainConfig, count: int, train_steps: int, generator: torch.Generator
) -> Tensor:
    device = generator.device
    anywhere = torch.randint(0, train_steps, (count,), generator=generator, device=device)
    clean = torch.randint(0, config.clean_below, (count,), generator=generator, device=device)
    pick = torch.rand(count, generator=generator, device=device) < config.clean_share
    return torch.where(pick, clean, anywhere)


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
    require(config.batch_size > 0 and config.steps > 0, "batch_size and steps must be positive")
    device = resolve_device(config.device)
    make_folder(output)
    with kept_settings(device):
        return _train(config, output, device)


def _train(config: BackboneTrainConfig, output: Path, device: torch.device) -> Path | None:
    started = time.monotonic()
    store = load_images(config.data, side=config.size, limit=config.limit or None).to(device)
    _log.info("%d images of %d classes", len(store), len(store.classes))

    torch.manual_seed(config.seed)
    unet_config = UnetConfig(
        channels=config.channels,
        blocks=config.blocks,
        attention_levels=config.attention_levels,
        groups=config.groups,
        head=min(32, *config.channels),
        classes=store.classes,
    )
    unet = build_unet(unet_config)
    aligned = config.alignment.layers if config.alignment.weight > 0 else ()
    teacher = Teacher(size=config.alignment.size).to(device) if aligned else None
    student = _Student(unet, aligned, sum(teacher.channels) if teacher else 0).to(device)
    dtype = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
    layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
    student.to(memory_format=layout)  # type: ignore[call-overload]
    weights = _Weights(student, config, device)
    student.to(dtype)
    if teacher is not None:
        teacher.calibrate([_batch(config, store, -1 - i)[0] for i in range(4)])
        teacher.to(dtype=dtype, memory_format=layout)  # type: ignore[call-overload]

    inputs = {"data": identity(config.data)}
    mark = fingerprint(config, inputs)
    state = restore_state(output, mark)
    done, seconds_before = 0, 0.0
    if state is not None:
        weights.restore(state)
        done, seconds_before = state["done"], state["seconds"]
    forward: Any = torch.compile(student) if config.compile else student
    look: Any = torch.compile(teacher) if config.compile else teacher
    schedule = DdimSchedule()
    alphas = schedule.alphas_cumprod.to(device)
    codec = UnshuffleCodec(unet_config.factor)
    loss = torch.zeros((), device=device)

    def save() -> float:
        """Write the state after `done` steps; returns the seconds spent on them over all calls."""
        check_finite(done - 1, loss, weights.master)
        seconds = seconds_before + time.monotonic() - started
        save_state(output, mark, done=done, seconds=seconds, content=weights.state())
        return seconds

    last_saved = time.monotonic()
    bar = tqdm(total=config.steps, initial=done, desc="train backbone", disable=None)
    with (output / "log.jsonl").open("a", encoding="utf-8") as log:
        while done < config.steps:
            images, labels, generator = _batch(config, store, done)
            latent = codec.encode(images)
            t = _draw_timesteps(config, len(latent), schedule.train_steps, generator)
            noise = torch.randn(latent.shape, generator=generator, device=device)
            alpha_bar = alphas[t][:, None, None, None]
            noisy = alpha_bar.sqrt() * latent + (1 - alpha_bar).sqrt() * noise
            epsilon, predicted = forward(noisy.to(dtype, memory_format=layout), t, labels)
            error = F.mse_loss(epsilon.float(), noise, reduction="none").mean((1, 2, 3))
            diffusion = (error * min_snr_weight(alphas[t], config.min_snr)).mean()
            loss = diffusion
            alignment = torch.zeros((), device=device)
            if teacher is not None:
                target = look(images.to(dtype, memory_format=layout))
                for layer in predicted:
                    each = alignment_loss(layer, target, teacher.channels)
                    alignment = alignment + (each * alphas[t].sqrt()).mean() / len(predicted)
                loss = loss + config.alignment.weight * alignment
            loss.backward()
            log_now = done % 50 == 0 or done + 1 == config.steps
            norm = weights.step(done)
            if log_now:
                check_finite(done, loss)
                row = {
                    "step": done,
                    "diffusion": float(diffusion.detach()),
                    "alignment": float(alignment.detach()),
                    "gradient": float(norm),
                    "seconds": time.monotonic() - started,
                }
                log.write(json.dumps(row) + "\n")
                log.flush()
                bar.set_postfix(mse=row["diffusion"], align=row["alignment"])
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
    finished = output / "unet.safetensors"
    student.float()  # a bfloat16 copy of the mean would lose precision
    with torch.no_grad():
        for param, mean in zip(weights.params, weights.mean, strict=True):
            param.copy_(mean)
    save_unet(finished, unet, unet_config, steps=done, seed=config.seed, images=len(store))
    facts = {"steps": done, "device": str(device), "images": len(store), "inputs": inputs}
    record = run_record("train backbone", config, {"training": seconds}, facts)
    write_json(output / "run.json", record)
    return finished


def _batch(
    config: BackboneTrainConfig, store: ImageStore, step: int
) -> tuple[Tensor, Tensor, torch.Generator]:
    """Images (B, 3, size, size), class labels (B,) with dropped ones, and the step's generator."""
    device = store.pixels.device
    generator = torch.Generator(device).manual_seed((config.seed << 32) + step + 1000)
    index = torch.randint(0, len(store), (config.batch_size,), generator=generator, device=device)
    images = crop_views(store, index, size=config.size, area=config.crop_area, generator=generator)
    dropped = torch.rand(len(index), generator=generator, device=device) < config.null_class
    null = torch.full_like(index, len(store.classes))
    return images, torch.where(dropped, null, store.labels[index]), generator
