"""How a running job tells how far it is, and how it is stopped."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any, Protocol, Self

from tqdm import tqdm

from warpkit.checks import counted

__all__ = ["Bar", "ProgressCallback", "no_progress"]

_LOGGER = logging.getLogger("warpkit")
# Seconds between two lines of a log: a tenth of the time so far, within these.
_EVERY = 10.0, 60.0
_now = time.monotonic


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


class Bar:
    """A bar on a terminal; in a log a line every ten seconds at first, later every minute.

    A context manager, and an iterable where it is given items.

    Args:
        items: are counted as they are taken.
        total: how many there are; None where that is not known.
        initial: done before.
        desc: what is done.
        unit: of what.
        leave: whether the bar stays on the terminal when it has ended.
        shown: whether anything is said.

    Attributes:
        n: how many are done.
    """

    # When the first bar began and one spoke last: those that follow one another are short each.
    _began: float | None = None
    _said = 0.0

    def __init__(
        self,
        items: Iterable[Any] = (),
        *,
        total: int | None = None,
        initial: int = 0,
        desc: str,
        unit: str,
        leave: bool = True,
        shown: bool = True,
    ) -> None:
        if total is None and isinstance(items, Sized):
            total = len(items) or None
        self._items, self._total = items, total
        self.n = initial
        self._what, self._unit, self._shown = desc, unit, shown
        # The time left is told from what was done since: another bar may have run meanwhile.
        self._since, self._before = _now(), initial
        if Bar._began is None:
            Bar._began = Bar._said = self._since
        self._facts = ""
        self._bar: tqdm[Any] | None = None
        if shown and sys.stderr.isatty():
            self._bar = tqdm(total=self._total, initial=initial, desc=desc, unit=unit, leave=leave)

    def update(self, count: int = 1) -> None:
        """So many more are done."""
        if Bar._said > self._since:
            self._since, self._before = Bar._said, self.n
        self.n += count
        if self._bar is not None:
            self._bar.update(count)
        elif self._shown and self._is_due():
            Bar._said = _now()
            _LOGGER.info("%s", self._line())

    @staticmethod
    def _is_due() -> bool:
        least, most = _EVERY
        tenth = (_now() - (Bar._began or 0.0)) / 10
        return _now() - Bar._said >= min(max(tenth, least), most)

    def say(self, facts: Mapping[str, str]) -> None:
        """Figures to show beside it from now on."""
        self._facts = "".join(f", {name} {value}" for name, value in facts.items())
        if self._bar is not None:
            self._bar.set_postfix(facts)

    def _line(self) -> str:
        if self._total is None:
            count = counted(self.n, self._unit)
        else:
            count = f"{self.n:,} of {counted(self._total, self._unit)}"
        line = f"{self._what}: {count}{self._facts}"
        done = self.n - self._before
        if self._total is None or done <= 0 or self.n >= self._total:
            return line
        left = round((_now() - self._since) / done * (self._total - self.n))
        return f"{line}, about {tqdm.format_interval(left)} left"

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def __iter__(self) -> Iterator[Any]:
        with self:
            for item in self._items:
                yield item
                self.update()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
