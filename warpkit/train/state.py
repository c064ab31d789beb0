"""The folder of a training run: made, resumed from, and protected from a run gone wrong.

A run's `state.pt` carries a fingerprint: the configuration and the identity of every file the run
learns from. A state is taken up again only under the same fingerprint.
"""

from __future__ import annotations

import ast
import hashlib
import logging
import pickle
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from warpkit.checks import InputError, OutputError, require
from warpkit.io.images import IMAGE_SUFFIXES
from warpkit.io.whole import drop_partials, written_whole
from warpkit.runs.differences import differences

__all__ = [
    "check_finite",
    "fingerprint",
    "folder_identity",
    "identity",
    "kept_settings",
    "make_folder",
    "restore_state",
    "save_state",
]

_log = logging.getLogger("warpkit")

# What may change between two calls of one run.
_FREE = frozenset({"device", "stop_after", "save_every", "log_every", "tracker", "compile"})


def make_folder(output: Path) -> None:
    """Make a run's folder with its (maybe empty) `log.jsonl`.

    Raises:
        OutputError: the folder cannot be made or written to.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "log.jsonl").touch()
    except OSError as error:
        raise OutputError(
            f"cannot write to {output}: {error.strerror}; choose another output folder"
        ) from error


def identity(path: Path | None) -> str | None:
    """What tells weights or training data from others, wherever they lie.

    Returns:
        The SHA-256 of a file, of a data folder's JSON index, or of the names and sizes of the
        pictures below a folder without one; None for no path.
    """
    if path is None:
        return None
    content = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if content:
        return " ".join(_sha256(file) for file in content if file.is_file())
    listing = sorted(
        (file.relative_to(path).as_posix(), file.stat().st_size)
        for file in path.rglob("*")
        if file.suffix.lower() in IMAGE_SUFFIXES
    )
    return hashlib.sha256(repr(listing).encode()).hexdigest()


def folder_identity(path: Path) -> str:
    """What tells a model's folder from others: the SHA-256 of the names and sizes of its files."""
    listing = sorted(
        (file.relative_to(path).as_posix(), file.stat().st_size)
        for file in path.rglob("*")
        if file.is_file()
    )
    return hashlib.sha256(repr(listing).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(config: Any, inputs: Mapping[str, str | None]) -> str:
    """What must not change between two calls of one run.

    Args:
        config: the run's configuration, a dataclass.
        inputs: `identity` of the fields that are paths; the paths themselves may change.
    """
    values = {k: v for k, v in vars(config).items() if k not in _FREE} | dict(inputs)
    return repr(sorted(values.items()))


def check_finite(step: int, loss: Tensor, weights: Iterable[Tensor] = ()) -> None:
    """Raise `InputError` unless the loss of a step and the weights after it are finite."""
    require(
        all(bool(value.isfinite().all()) for value in (loss, *weights)),
        f"the loss or the weights are no longer finite at step {step}: lower learning_rate, and"
        " choose another output folder",
    )


def save_state(
    output: Path, mark: str, *, done: int, seconds: float, content: Mapping[str, Any]
) -> None:
    """Write `state.pt` in one step: it is whole, or the one before.

    Args:
        mark: the run's `fingerprint`.
        done: finished steps.
        seconds: spent on them, over all calls.
        content: weights and optimiser.

    Raises:
        OutputError: the file cannot be written.
    """
    path = output / "state.pt"
    with written_whole(path) as partial:
        torch.save({"done": done, "seconds": seconds, "config": mark, **content}, partial)


def restore_state(output: Path, mark: str) -> dict[str, Any] | None:
    """What `save_state` wrote, on the CPU, or None where nothing was.

    Raises:
        InputError: the state is damaged or that of a run with another fingerprint.
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
    known = state.get("config") if isinstance(state, dict) else None
    if known != mark:
        then = _settings(str(known))
        said = differences(then, _settings(mark)) if then else ""
        different = f" ({said})" if said else ""
        raise InputError(
            f"{output} holds a run of another configuration{different}: choose another output"
            " folder (the weights and data it learns from count, wherever they lie)"
        )
    _log.info("resumed at step %d", state["done"])
    restored: dict[str, Any] = state
    return restored


def _settings(mark: str) -> dict[str, Any]:
    """The settings in a fingerprint, for a message; none where it does not read."""
    try:
        listed = _value(ast.parse(mark, mode="eval").body)
        return {str(name): value for name, value in listed}
    except (SyntaxError, TypeError, ValueError):
        return {}


def _value(node: ast.expr) -> Any:
    """What JSON would hold of a written value: a dataclass is a mapping, a path its text."""
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Call) and node.keywords:
        return {str(given.arg): _value(given.value) for given in node.keywords}
    if isinstance(node, ast.Call) and len(node.args) == 1:
        return _value(node.args[0])
    return node.value if isinstance(node, ast.Constant) else ast.unparse(node)


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
