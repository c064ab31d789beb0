"""The machine that measurements were made on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from warpkit.checks import counted

__all__ = ["machine", "machine_line"]


def machine(device: torch.device) -> dict[str, Any]:
    """Processor, cores, threads and GPU, for a report."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }


def machine_line(found: dict[str, Any]) -> str:
    """The same in a few words: the GPU, or the processor with its threads."""
    return found["gpu"] or f"{found['processor']}, {counted(found['threads'], 'thread')}"
