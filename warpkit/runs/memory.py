"""Peak memory of a stretch of work."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import re
import threading
from pathlib import Path

import torch

from warpkit.checks import require

__all__ = ["PeakMemory", "available", "refused_words", "release", "require_memory", "resident"]


class PeakMemory:
    """Memory taken above what was taken before: of the GPU, or of the process (Linux).

    Attributes:
        megabytes: known after the `with` block; None where the system does not tell.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.megabytes: float | None = None

    def __enter__(self) -> PeakMemory:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
            return self
        release()
        self._most = self._before = resident()
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._device.type == "cuda":
            taken = torch.cuda.max_memory_allocated(self._device) - self._before
            self.megabytes = taken / 1e6
            return
        self._ended.set()
        self._watch.join()
        if self._before:
            self.megabytes = (self._most - self._before) / 1e6

    def _look(self) -> None:
        while not self._ended.wait(0.005):
            self._most = max(self._most, resident())


def release() -> None:
    """Give freed memory back to the system (glibc) and the GPU.

    Without it, work that is measured next seems to take none.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def resident() -> int:
    """Bytes of this process in memory; 0 where the system does not tell."""
    path = Path("/proc/self/statm")
    if not path.exists():
        return 0
    return int(path.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def available() -> int | None:
    """Bytes that this process can still take: what is free, or its control group leaves it.

    None where the system does not tell (it is not Linux).
    """
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    free = [int(line.split()[1]) * 1024 for line in text.splitlines() if "MemAvailable" in line]
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # no group, or one without a limit ("max")
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        taken = int((group / "memory.current").read_text(encoding="ascii"))
        # Cached files count as taken, but are given up for what is asked.
        kept = re.findall(
            r"^(?:in)?active_file (\d+)", (group / "memory.stat").read_text("ascii"), re.MULTILINE
        )
        free.append(limit - taken + sum(map(int, kept)))
    return min(free, default=None)


def require_memory(needed: int, what: str, *, device: torch.device, advice: str) -> None:
    """Refuse work that needs more memory than there is, before any of it is asked for.

    A GPU refuses by itself.

    Args:
        needed: bytes, at least.
        what: needs them.
        advice: what to do.

    Raises:
        InputError: names the memory needed and the memory there is.
    """
    free = available() if device.type == "cpu" else None
    require(
        free is None or needed <= free,
        f"{what} needs {needed / 1e9:,.1f} GB of memory, {(free or 0) / 1e9:,.1f} GB are free:"
        f" {advice}",
    )


def refused_words(error: Exception) -> str:
    """An error of torch (CPU, GPU) or numpy that memory was refused, with what was asked for."""
    asked = re.search(r"to allocate ([\d.]+) (\w+)", str(error))
    amount = ""
    if asked is not None:
        number, unit = float(asked[1]), asked[2]
        said = f"{number / 1e9:,.1f} GB" if unit == "bytes" else f"{number:g} {unit}"
        amount = f" ({said} were asked for at once)"
    return f"out of memory{amount}: use smaller images, or lower what was set above its default"
