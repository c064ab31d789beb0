"""Scripts in fresh processes that need not import torch and diffusers anew.

A process of its own imports them once and runs nothing, so that no thread is lost by a fork; each
script is a fork of it. Registries are as they were after the import, whatever other scripts do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Ended", "FreshPython", "fresh_python"]

_DRIVER = """
import gc, json, os, runpy, sys
import cv2
import diffusers.models.unets.unet_2d_condition
import kornia.filters
import warpkit.describe.extractor
import warpkit.api


def run(job):
    os.chdir(job["folder"])
    for stream, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(job[stream], os.O_WRONLY | os.O_CREAT), number)
    first, *rest = job["arguments"]
    if first == "-c":
        sys.argv, code = ["-c", *rest[1:]], compile(rest[0], "<string>", "exec")
        sys.path.insert(0, "")
        exec(code, {"__name__": "__main__"})
    else:
        sys.argv = [first, *rest]
        sys.path.insert(0, os.path.dirname(first))
        runpy.run_path(first, run_name="__main__")


gc.freeze()  # no child copies pages to look for garbage among what it was born with
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run(json.loads(line))
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:
            try:
                sys.excepthook(*sys.exc_info())
            except SystemExit as ended:  # as Python itself does
                code = ended.code
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Ended:
    """What a script gave."""

    returncode: int
    stdout: str
    stderr: str


class FreshPython:
    """Runs scripts; use `fresh_python`."""

    def __init__(self, process: subprocess.Popen[str] | None) -> None:
        self._process = process

    def __call__(self, *arguments: str, folder: Path) -> Ended:
        """What `python ARGUMENTS` gives in a folder: a script, or `-c` and code."""
        if self._process is None:
            done = subprocess.run(
                [sys.executable, *arguments],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
            return Ended(done.returncode, done.stdout, done.stderr)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as scratch:
            streams = {name: str(Path(scratch) / name) for name in ("out", "err")}
            job = {"arguments": arguments, "folder": str(folder), **streams}
            print(json.dumps(job), file=self._process.stdin, flush=True)
            code = int(self._process.stdout.readline())
            out, err = (Path(path).read_text(encoding="utf-8") for path in streams.values())
        return Ended(code, out, err)


@contextmanager
def fresh_python() -> Iterator[FreshPython]:
    """A way to run scripts, for as long as the `with` block lasts."""
    if not hasattr(os, "fork"):
        yield FreshPython(None)
        return
    with subprocess.Popen(
        [sys.executable, "-c", _DRIVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield FreshPython(process)
        assert process.stdin is not None
        process.stdin.close()
