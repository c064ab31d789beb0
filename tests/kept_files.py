"""Around every command that fails: what lay in the folders of its inputs and outputs lies there.

On import, all entries that read and write files of users are wrapped. Before one runs, everything
in the folders that its arguments name is hashed; if it ends with an error (an exit code, or any
exception, a simulated kill too), all of that must still be there, unchanged, and nothing new beside
it but the unfinished work that a command documents to keep.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
import re
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["ENTRIES", "failures", "set_base"]

# What users call, by module.
ENTRIES = {
    "warpkit.bench.extract": "run_bench_extract",
    "warpkit.bench.match": "run_bench_match",
    "warpkit.bench.propagate": "run_bench_propagate",
    "warpkit.cli.main": "main",
    "warpkit.demo": "run_demo",
    "warpkit.evaluate.commands.davis": "run_eval_davis",
    "warpkit.evaluate.commands.pck": "run_eval_pck",
    "warpkit.evaluate.commands.sweep": "run_sweep",
    "warpkit.evaluate.commands.table": "run_eval_table",
    "warpkit.evaluate.commands.tapvid": "run_eval_tapvid",
    "warpkit.evaluate.commands.warp": "run_eval_warp",
    "warpkit.image.extract": "run_extract",
    "warpkit.image.inspect": "run_inspect",
    "warpkit.image.mask": "run_mask",
    "warpkit.image.match": "run_match",
    "warpkit.image.warp": "run_warp",
    "warpkit.synthesize.run": "run_synthesize",
    "warpkit.train.aggregator": "train_aggregator",
    "warpkit.train.backbone": "train_backbone",
    "warpkit.train.export": "run_export",
    "warpkit.train.foreground": "train_foreground",
    "warpkit.video.frame": "run_frame",
    "warpkit.video.run": "run_propagate",
}
# Unfinished work that a command documents to keep, for the same command to go on from.
_RESUMED = {"propagate", "extract", "eval", "synthesize"}
_RESUMED |= {name for name in ENTRIES.values() if "eval" in name}
_RESUMED |= {"run_propagate", "run_extract", "run_synthesize", "run_sweep"}
_UNFINISHED = re.compile(r"/\.warpkit-partial-[0-9a-f]{12}(/|$)")
_TRAINED = {"train", "train_aggregator", "train_backbone", "train_foreground"}
_TRAINING = re.compile(r"/(log\.jsonl|state\.pt|best\.safetensors|(samples|tensorboard)(/.*)?)$")

_EMPTY = hashlib.blake2b(b"").hexdigest()

failures: list[str] = []
"""The names of the entries that failed and were compared."""

_base: list[Path] = []
_busy = threading.Lock()
_digests: dict[tuple[Any, ...], str] = {}


def set_base(folder: Path) -> None:
    """The folder in which tests have theirs; others are not looked at."""
    _base[:] = [folder.resolve()]


def _paths(value: Any) -> Iterator[Path]:
    """Everything in arguments that may be a path: `a/b`, `--set key=a/b`, `4=a/b`."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, str):
        yield from (Path(part) for part in {value, value.rpartition("=")[2]} if part)
    elif isinstance(value, dict):
        yield from _paths(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _paths(item)
    elif hasattr(value, "__dataclass_fields__"):
        yield from _paths(list(vars(value).values()))


def _roots(arguments: Any) -> set[Path]:
    """The folders of tests that arguments lie in, and the working folder's."""
    roots = set()
    for path in [Path.cwd(), *_paths(arguments)]:
        full = Path(os.path.abspath(path))  # noqa: PTH100 - links stay what they are
        for base in _base:
            if base in full.parents:
                roots.add(base / full.relative_to(base).parts[0])
    return roots


def _state(path: Path) -> str:
    """What tells a file, link or folder from another."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return f"link to {path.readlink()}"
    if not stat.S_ISREG(found.st_mode):
        return f"kind {stat.S_IFMT(found.st_mode):o}"
    key = (path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    if key not in _digests:
        _digests[key] = hashlib.blake2b(path.read_bytes()).hexdigest()
    return _digests[key]


def _hashed(roots: set[Path]) -> dict[str, str]:
    return {
        str(place): _state(place)
        for root in roots
        for folder, folders, files in os.walk(root)
        for place in (Path(folder, name) for name in [*folders, *files])
    }


def _compare(name: str, before: dict[str, str], after: dict[str, str]) -> None:
    kept = [_UNFINISHED] if name in _RESUMED else [_TRAINING] if name in _TRAINED else []
    made = after.keys() - before.keys()
    empty = {path for path in made if path.endswith("/log.jsonl") and after[path] == _EMPTY}
    if name in _TRAINED:  # the folder of the run, and the first of its results
        made -= {str(Path(path).parent) for path in made - empty if _TRAINING.search(path)}
        ended = ("/unet.safetensors", "/foreground-head.safetensors")
        made -= {path for path in made if path.endswith(ended)}
    changed = [
        f"{word} {path}"
        for word, paths in (
            ("removed", before.keys() - after.keys()),
            ("left behind", made),
            ("replaced", {p for p in before.keys() & after.keys() if before[p] != after[p]}),
        )
        for path in sorted(paths)
        if path in empty or not any(pattern.search(path) for pattern in kept)
    ]
    assert not changed, f"{name} failed, and has {'; '.join(changed[:5])} ({len(changed)} in all)"
    failures.append(name)


def _watched(call: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(call)
    def watch(*arguments: Any, **named: Any) -> Any:
        alone = threading.current_thread() is threading.main_thread()
        if not alone or not _base or not _busy.acquire(blocking=False):
            return call(*arguments, **named)
        try:
            command = (
                str(arguments[0][0]) if name == "main" and arguments and arguments[0] else name
            )
            roots = _roots([arguments, named])
            before = _hashed(roots)
            try:
                code = call(*arguments, **named)
            except BaseException:
                _compare(command, before, _hashed(roots))
                raise
            if name == "main" and code != 0:
                _compare(command, before, _hashed(roots))
            return code
        finally:
            _busy.release()

    return watch


def _watch_all() -> None:
    for place, name in ENTRIES.items():
        original = getattr(importlib.import_module(place), name)
        wrapped = _watched(original, name)
        for module in [m for key, m in sys.modules.items() if key.startswith("warpkit")]:
            if getattr(module, "__dict__", {}).get(name) is original:
                setattr(module, name, wrapped)


_watch_all()
