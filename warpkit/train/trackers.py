"""Where a run's figures go besides `log.jsonl`: TensorBoard, or a tracker that accelerate knows."""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from warpkit.checks import InputError, first_line, require
from warpkit.io.config import to_dict
from warpkit.io.whole import write_text

__all__ = ["Log", "Tracker", "open_tracker"]

_log = logging.getLogger("warpkit")


class Tracker(Protocol):
    """Takes figures and pictures of a step."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Record named figures of a step."""
        ...

    def log_image(self, name: str, image: npt.NDArray[np.uint8], step: int) -> None:
        """Record a picture (H, W, 3) of a step, where the tracker takes pictures."""
        ...

    def close(self) -> None:
        """Write what is still held."""
        ...


class Log:
    """A run's `log.jsonl`, one object a line, and its tracker.

    Lines of steps that a resumed run does again are taken out when it is opened, so the file reads
    like that of an uninterrupted run.

    Args:
        done: steps whose lines stay.
        tracker: also gets every line; None where there is none.
    """

    def __init__(self, path: Path, *, done: int, tracker: Tracker | None) -> None:
        self._tracker = tracker
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        kept = [line for line in lines if _step(line) < done]
        if kept != lines:
            write_text(path, "".join(f"{line}\n" for line in kept))
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, values: Mapping[str, float], **facts: float) -> None:
        """Write a line.

        Args:
            step: it is about this step.
            values: figures, for the tracker too.
            facts: what only the file gets.
        """
        self._file.write(json.dumps({"step": step, **facts, **values}) + "\n")
        self._file.flush()
        if self._tracker is not None:
            self._tracker.log(values, step)

    def show(self, step: int, name: str, image: npt.NDArray[np.uint8]) -> None:
        """Give the tracker a picture, uint8 RGB (H, W, 3)."""
        if self._tracker is not None:
            self._tracker.log_image(name, image, step)

    def close(self) -> None:
        """Close the file and the tracker."""
        self._file.close()
        if self._tracker is not None:
            self._tracker.close()


def _step(line: str) -> float:
    """The step a line is about; a line that was cut short is about none that stays."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def open_tracker(name: str, output: Path, config: Any, *, done: int) -> Tracker | None:
    """The tracker of a run.

    Args:
        name: `auto` is TensorBoard where it is installed, `none` is none; anything else but
            `tensorboard` is a tracker of accelerate (`wandb`, `mlflow`, ...).
        config: the run's configuration, a dataclass, for the tracker's record.
        done: steps that are done already.

    Raises:
        InputError: a tracker that is not installed or not known.
    """
    if name == "none":
        return None
    if name in ("auto", "tensorboard"):
        if importlib.util.find_spec("tensorboard") is not None:
            return _TensorBoard(output / "tensorboard", done)
        require(
            name == "auto",
            "TensorBoard is not installed: pip install 'warpkit-hyperfeatures[train]', or set"
            " tracker: none",
        )
        return None
    return _Accelerated(name, output, config)


class _TensorBoard:
    def __init__(self, folder: Path, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What a run that was killed wrote after its last state is hidden, all of it if it had none.
        self._writer = SummaryWriter(str(folder), purge_step=done)

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def log_image(self, name: str, image: npt.NDArray[np.uint8], step: int) -> None:
        self._writer.add_image(name, image, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Accelerated:
    def __init__(self, name: str, output: Path, config: Any) -> None:
        try:
            from accelerate import Accelerator
        except ImportError as error:
            raise InputError(
                f"tracker '{name}' needs accelerate: pip install 'warpkit-hyperfeatures[train]'"
            ) from error
        try:
            self._accelerator = Accelerator(log_with=name, project_dir=str(output))
            require(
                bool(self._accelerator.log_with), f"tracker '{name}' is not installed: install it"
            )
            self._accelerator.init_trackers("warpkit", config=_flat(to_dict(config)))
        except InputError:
            raise
        except (ValueError, ImportError) as error:
            raise InputError(
                f"tracker '{name}' cannot be used: {first_line(error)}; `auto`, `tensorboard` and"
                " `none` always can"
            ) from error

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._accelerator.log(dict(values), step=step)

    def log_image(self, name: str, image: npt.NDArray[np.uint8], step: int) -> None:
        for tracker in self._accelerator.trackers:
            if hasattr(tracker, "log_images"):
                tracker.log_images({name: image[None]}, step=step)

    def close(self) -> None:
        self._accelerator.end_training()


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree of settings as `a.b`: text, for trackers that take only that."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, int | float) else str(value)
    return flat
