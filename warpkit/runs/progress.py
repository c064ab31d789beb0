"""How a running job tells how far it is, and how it is stopped."""

from __future__ import annotations

from typing import Protocol

__all__ = ["ProgressCallback", "no_progress"]


class ProgressCallback(Protocol):
    """Called between the steps of a job, in the thread that runs it."""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Hear of a step; whatever is raised here ends the job, as an interruption does.

        Args:
            stage: what comes next, such as `matching`.
            done: steps that are finished.
            total: steps there are; None where that is not known.
        """
        ...


def no_progress(stage: str, done: int, total: int | None) -> None:
    """Nobody looks."""
