"""The folder of a training run: made, resumed from, and protected from a run gone wrong.

A run's `state.pt` says its task: the configuration and the identity of every file the run learns
from. A state is taken up again only by the same task.
"""

from __future__ import annotations

import logging
import os
import pickle
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from warpkit.checks import InputError, OutputError, require
from warpkit.io.config import to_dict
from warpkit.io.whole import drop_partials, written_whole
from warpkit.runs.task import same_task

__all__ = [
    "check_finite",
    "kept_settings",
    "restore_state",
    "save_state",
    "step_seed",
    "task_of",
    "training_folder",
]

_log = logging.getLogger("warpkit")

# What may change between two calls of one run.
_FREE = frozenset({"device", "stop_after", "save_every", "log_every", "tracker", "compile"})


@contextmanager
def training_folder(output: Path) -> Iterator[None]:
    """A run's folder with its `log.jsonl`; what was made of them goes if nothing is logged.

    Raises:
        OutputError: the folder cannot be made or written to.
    """
    log = output / "log.jsonl"
    made = [path for path in (log, output, *output.parents) if not os.path.lexists(path)]
    try:
        output.mkdir(parents=True, exist_ok=True)
        log.touch()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(
            f"cannot write to {output}: {reason}; choose another output folder"
        ) from error
    try:
        yield
    except BaseException:
        with suppress(OSError):  # from where there is something
            for path in made if log.stat().st_size == 0 else ():
                path.unlink() if path == log else path.rmdir()
        raise


def step_seed(seed: int, step: int) -> int:
    """The seed of a step's random draws, other for other seeds and steps on every device.

    On the CPU torch reads the lower 32 bits of a seed alone, so both numbers are mixed into them;
    under seed 0 the step itself seeds, as it does in the runs of the shipped weights.
    """
    if seed == 0:
        return step
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0])


def task_of(config: Any, inputs: Mapping[str, str | None]) -> dict[str, Any]:
    """What must not change between two calls of one run.

    Args:
        config: the run's configuration, a dataclass.
        inputs: `content_identity` of the fields that are paths; the paths themselves may change.
    """
    return {k: v for k, v in to_dict(config).items() if k not in _FREE} | dict(inputs)


def check_finite(step: int, loss: Tensor, weights: Iterable[Tensor] = ()) -> None:
    """Raise `InputError` unless the loss of a step and the weights after it are finite."""
    require(
        all(bool(value.isfinite().all()) for value in (loss, *weights)),
        f"the loss or the weights are no longer finite at step {step}: lower learning_rate, and"
        " choose another output folder",
    )


def save_state(
    output: Path, task: Mapping[str, Any], *, done: int, seconds: float, content: Mapping[str, Any]
) -> None:
    """Write `state.pt` in one step: it is whole, or the one before.

    Args:
        task: the run's `task_of`.
        done: finished steps.
        seconds: spent on them, over all calls.
        content: weights and optimiser.

    Raises:
        OutputError: the file cannot be written.
    """
    path = output / "state.pt"
    with written_whole(path, RuntimeError) as partial:
        torch.save({"done": done, "seconds": seconds, "task": dict(task), **content}, partial)


def restore_state(output: Path, task: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `save_state` wrote, on the CPU, or None where nothing was.

    Raises:
        InputError: the state is damaged or that of another task.
    """
    path = output / "state.pt"
    drop_partials(path)
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (
        *(RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, struct.error),
        pickle.UnpicklingError,
    ) as error:
        raise InputError(f"{path} cannot be read: delete it to start from the beginning") from error
    known = state.get("task") if isinstance(state, dict) else None
    advice = (
        "choose another output folder (the weights and data it learns from count, wherever they"
        " lie)"
    )
    same_task(known, task, found=f"{output} holds a run of another configuration", advice=advice)
    _log.info("resumed at step %d", state["done"])
    restored: dict[str, Any] = state
    return restored


@contextmanager
def kept_settings(device: torch.device) -> Iterator[None]:
    """Give torch's random state and, for a GPU, its precision and tuning flags back as they were.

    Within the block a GPU multiplies in TF32 and picks its convolutions by timing.
    """
    if device.type != "cuda":
        with torch.random.fork_rng(devices=[]):
            yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark)
    with torch.random.fork_rng(devices=[device]):
        try:
            matmul.allow_tf32 = cudnn.allow_tf32 = cudnn.benchmark = True
            yield
        finally:
            matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before
