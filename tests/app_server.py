"""The page served by its own command, for tests that talk to it."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PATIENCE = 90.0


@dataclass(frozen=True)
class Page:
    """A page that is being served.

    Attributes:
        url: its address, with a slash at the end.
        folder: where it works.
        line: what the command said.
    """

    url: str
    folder: Path
    line: str


@contextlib.contextmanager
def served(folder: Path, *arguments: str) -> Iterator[Page]:
    """Run `warpkit app` with the smaller model at a small size; it is interrupted at the end."""
    command = [
        *(sys.executable, "-W", "ignore", "-m", "warpkit", "app", "--port", "0"),
        *("--model", "tiny", "--device", "cpu", "--size", "32", "--folder", str(folder)),
        *arguments,
    ]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    log = folder.with_name(f"{folder.name}.log")
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        )
    assert process.stdout is not None
    try:
        line = _first_line(process, log)
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert found, line
        yield Page(found[0], folder, line)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        process.stdout.close()


def _first_line(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until and process.poll() is None:
            if selector.select(timeout=0.5):
                return process.stdout.readline()
    raise AssertionError(f"the page was not ready: {log.read_text()[-2000:]}")
