"""What every training run has in common: how it is kept, resumed, logged and ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from warpkit.checks import require

__all__ = ["RunClock", "RunSettings"]

_log = logging.getLogger("warpkit")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The settings that all trainings share.

    Attributes:
        precision: of the networks' products; weights stay float32.
        device: auto, cpu, cuda, cuda:N or mps.
        seed: of everything random.
        stop_after: end this call after this many seconds, with the state written (0 = never).
        save_every: seconds between two states.
        log_every: steps between two lines of the log.
        tracker: `auto` is TensorBoard where it is installed, `none` is none, `tensorboard`, or a
            tracker of accelerate such as `wandb`.
        limit: use at most this many images of the training folder (0 = all).
    """

    precision: Literal["float32", "bfloat16"] = "float32"
    device: str = "auto"
    seed: int = 0
    stop_after: float = 0.0
    save_every: float = 60.0
    log_every: int = 50
    tracker: str = "auto"
    limit: int = 0

    def __post_init__(self) -> None:
        require(self.log_every > 0, f"log_every is a positive number, got {self.log_every}")
        require(self.seed >= 0, f"seed is 0 or a positive number, got {self.seed}")


class RunClock:
    """The time of a call: when the state is written and when the call ends.

    Args:
        settings: of the run.
        steps: that the run has.

    Attributes:
        before: seconds spent on the run by earlier calls.
    """

    def __init__(self, settings: RunSettings, steps: int) -> None:
        self._settings, self._steps = settings, steps
        self._started = self._saved = time.monotonic()
        self.before = 0.0

    @property
    def seconds(self) -> float:
        """Since the call began."""
        return time.monotonic() - self._started

    @property
    def total(self) -> float:
        """Seconds spent on the run over all calls."""
        return self.before + self.seconds

    @property
    def out_of_time(self) -> bool:
        """Whether the call is to end."""
        return 0 < self._settings.stop_after < self.seconds

    def ends(self, done: int, save: Callable[[], object], *, out_of_time: bool) -> bool:
        """Write the state if that is due after `done` steps; whether the call ends before the last.

        Args:
            save: writes the state.
            out_of_time: what the property of this name says, or several processes have agreed on.
        """
        if out_of_time or time.monotonic() - self._saved > self._settings.save_every:
            save()
            self._saved = time.monotonic()
        if out_of_time and done < self._steps:
            _log.info("stopped at step %d after %.0f s", done, self._settings.stop_after)
            return True
        return False
