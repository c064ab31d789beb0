"""Train the foreground head: masks from contours, pasted objects and the head's own sure masks.

`warpkit train foreground -c configs/foreground.yaml`. A run is a folder: `state.pt` (to resume
from), `log.jsonl`, with evaluations `samples` and `best.safetensors`, and at the end
`foreground-head.safetensors` and `run.json`. A killed run goes on where its last state was
written, and every draw depends on (seed, step) alone: on the CPU it ends with the same weights bit
for bit, on a GPU up to rounding, which differs from run to run there.
"""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from warpkit.checks import require
from warpkit.features.efficientnet import EfficientNetBackbone
from warpkit.features.foreground import ForegroundHead, save_foreground_head, stage_maps
from warpkit.features.registry import resolve_device
from warpkit.io.whole import write_json
from warpkit.runs.folder import run_record
from warpkit.runs.progress import Bar
from warpkit.runs.task import content_identity
from warpkit.train.foreground_config import ForegroundTrainConfig
from warpkit.train.foreground_probes import pseudo_labels, score_held_out
from warpkit.train.images import ImageStore, load_images
from warpkit.train.losses import mask_loss
from warpkit.train.probes import write_samples
from warpkit.train.run_settings import RunClock
from warpkit.train.scenes import MaskedPictures, Scenes, contour_pictures
from warpkit.train.state import (
    check_finite,
    kept_settings,
    restore_state,
    save_state,
    task_of,
    training_folder,
)
from warpkit.train.student import MasterWeights
from warpkit.train.trackers import Log, open_tracker

__all__ = ["ForegroundTrainConfig", "train_foreground"]

_log = logging.getLogger("warpkit")

_COARSE = 0.3  # weight of the loss at stride 16


def train_foreground(config: ForegroundTrainConfig, output: Path) -> Path | None:
    """Train, or go on training, in the folder `output`.

    However often it is stopped and resumed, a run ends with the same weights: on the CPU bit for
    bit, on a GPU up to rounding. Torch's global settings are the caller's again afterwards.

    Returns:
        The finished `foreground-head.safetensors`, or None when `stop_after` ended this call early.

    Raises:
        InputError: no pictures with contours, a loss that is no longer finite, an output that
            cannot be written, or a state in `output` that belongs to another configuration or
            other data.
    """
    device = resolve_device(config.device)
    with training_folder(output), kept_settings(device):
        return _train(config, output, device)


def _train(config: ForegroundTrainConfig, output: Path, device: torch.device) -> Path | None:
    clock = RunClock(config, config.steps)
    objects, held_out, others = _pictures(config, device)
    learner = _HeadLearner(config, objects, others, device)
    weights = learner.weights

    inputs = {"data": content_identity(config.data)}
    task = task_of(config, inputs)
    state = restore_state(output, task)
    done, best = 0, -1.0
    figures: dict[str, float] = {}
    if state is not None:
        learner.restore(state)
        done, clock.before = state["done"], state["seconds"]
        best, figures = state["best"], state["figures"]
    loss = torch.zeros((), device=device)

    def save() -> None:
        """Write the state after `done` steps."""
        check_finite(done - 1, loss, weights.master)
        content = learner.state() | {"best": best, "figures": figures}
        save_state(output, task, done=done, seconds=clock.total, content=content)

    def write_weights(path: Path, **facts: Any) -> None:
        facts |= {"steps": done, "seed": config.seed, "images": len(objects)}
        save_foreground_head(path, learner.averaged, **facts)

    def evaluate() -> None:
        """Score the averaged head, keep it if it is the best so far, and show some masks."""
        nonlocal best, figures
        check_finite(done - 1, loss, weights.master)
        found = score_held_out(learner.predict, held_out, size=config.size)
        figures = found.figures
        log.write(done - 1, figures)
        write_samples(output, done, found.picture)
        log.show(done - 1, "samples", found.picture)
        _log.info(
            "step %d: IoU of %d held-out objects %.3f (median %.3f), %.3f with their boxes",
            *(done, len(held_out), figures["held_out/iou"]),
            *(figures["held_out/iou_median"], figures["held_out/iou_box"]),
        )
        if figures["held_out/iou"] > best:
            best = figures["held_out/iou"]
            write_weights(output / "best.safetensors", iou=best)

    bar = Bar(total=config.steps, initial=done, desc="train foreground", unit="step")
    tracker = open_tracker(config.tracker, output, config, done=done)
    with closing(bar), closing(Log(output / "log.jsonl", done=done, tracker=tracker)) as log:
        while done < config.steps:
            loss, norm = learner.step(done)
            if done % config.log_every == 0 or done + 1 == config.steps:
                check_finite(done, loss)
                values = {"loss": float(loss), "gradient": float(norm)}
                log.write(done, values, seconds=clock.seconds)
                bar.say({"loss": f"{values['loss']:.3g}"})
            done += 1
            bar.update()
            learner.label(done)
            every = config.evaluate_every
            if every > 0 and (done % every == 0 or done == config.steps):
                evaluate()
            if clock.ends(done, save, out_of_time=clock.out_of_time):
                return None
    save()
    finished = output / "foreground-head.safetensors"
    write_weights(finished)
    facts = {
        "steps": done,
        "device": str(device),
        "objects": len(objects),
        "unlabelled_images": len(others),
        "pseudo_labels": learner.labels,
        "held_out_images": len(held_out),
        "inputs": inputs,
    }
    record = run_record("train foreground", config, {"training": clock.total}, facts | figures)
    write_json(output / "run.json", record)
    return finished


def _pictures(
    config: ForegroundTrainConfig, device: torch.device
) -> tuple[MaskedPictures, MaskedPictures, ImageStore]:
    """Objects to train on, held-out ones, and the pictures without contours."""
    store = load_images(config.data, side=config.side, limit=config.limit or None)
    outlined = [one is not None and len(one) > 2 for one in store.contours]
    require(
        any(outlined),
        f"{config.data} holds no object contours: give shards whose index.json has them as `poly`",
    )
    rows = range(len(store))
    having = store.take([row for row in rows if outlined[row]])
    learnt, held = (part.to(device) for part in having.hold_out(config.held_out))
    others = store.take([row for row in rows if not outlined[row]]).to(device)
    objects = contour_pictures(learnt, config.area)
    require(
        len(objects) > 0,
        f"none of the {len(learnt)} objects with contours in {config.data} has an area within"
        f" {list(config.area)} of its picture: widen area",
    )
    _log.info(
        "%d objects with contours, %d held out, %d pictures without contours",
        *(len(objects), len(held), len(others)),
    )
    return objects, contour_pictures(held), others


class _HeadLearner:
    """A head on its device, how it takes a step, and its averaged twin."""

    def __init__(
        self,
        config: ForegroundTrainConfig,
        objects: MaskedPictures,
        others: ImageStore,
        device: torch.device,
    ) -> None:
        self.config, self.device, self.others = config, device, others
        self.backbone = EfficientNetBackbone(device=device)
        torch.manual_seed(config.seed)
        self.head = ForegroundHead(config.width).to(device)
        self.weights = MasterWeights(self.head, config, device)
        # Its weights are the running means themselves: it changes as they do.
        with torch.device("meta"):
            self.averaged = ForegroundHead(config.width)
        self.averaged.requires_grad_(False)
        self.averaged.load_state_dict(self.weights.averages(""), assign=True)
        self.averaged.eval()
        self.scenes = Scenes(config, objects, others)
        self._labeller: dict[str, Any] | None = None
        """The last round of pseudo-labels and the head that gave them."""

    @property
    def labels(self) -> int:
        """Pictures with pseudo-labels."""
        return 0 if self.scenes.pseudo is None else len(self.scenes.pseudo)

    def step(self, done: int) -> tuple[Tensor, Tensor]:
        """Learn from the batch after `done` steps; returns the loss and the gradient's norm."""
        batch = self.scenes.draw(done)
        with self._autocast():
            fine, coarse = self.head(self._maps(batch.images), batch.hints)
        loss = mask_loss(fine.float(), batch.masks) + _COARSE * mask_loss(
            coarse.float(), batch.masks
        )
        loss.backward()
        return loss.detach(), self.weights.step(done)

    @torch.no_grad()
    def predict(self, images: Tensor, hints: Tensor) -> Tensor:
        """The averaged head's logits at stride 4."""
        with self._autocast():
            fine: Tensor = self.averaged(self._maps(images), hints)[0]
        return fine

    def label(self, done: int) -> None:
        """Label the pictures without contours if a round is due after `done` steps."""
        for number, one in enumerate(self.config.rounds):
            if done == max(1, round(one.at * self.config.steps)):
                means = {name: mean.clone() for name, mean in self.weights.averages("").items()}
                self._labeller = {"round": number, "weights": means}
                self._label(number)

    def _label(self, number: int) -> None:
        if len(self.others) == 0:
            return
        criteria, size = self.config.rounds[number], self.config.size
        found = pseudo_labels(self.predict, self.others, criteria, size=size)
        _log.info("objects found for sure in %d of %d pictures", len(found), len(self.others))
        self.scenes.pseudo = found if len(found) > 0 else None

    def state(self) -> dict[str, Any]:
        """What `restore` takes."""
        return self.weights.state() | {"labeller": self._labeller}

    def restore(self, state: dict[str, Any]) -> None:
        """Become what `state` was; pseudo-labels are found again by the head that gave them."""
        self._labeller = state["labeller"]
        if self._labeller is not None:
            # The averaged head is the labelling one for that long.
            with torch.no_grad():
                for name, mean in self.weights.averages("").items():
                    mean.copy_(self._labeller["weights"][name])
            self._label(self._labeller["round"])
        self.weights.restore(state)

    def _maps(self, images: Tensor) -> dict[int, Tensor]:
        return stage_maps(self.backbone, images.contiguous(memory_format=torch.channels_last))

    def _autocast(self) -> torch.autocast:
        enabled = self.config.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)
