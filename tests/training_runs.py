"""What tests of trainings share: how runs are compared, and killed in the midst of a call."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from warpkit.io.images import read_image

__all__ = ["assert_same_run", "assert_same_weights", "killed_and_resumed", "rows"]


def rows(output: Path) -> list[dict[str, float]]:
    """The log without times."""
    lines = (output / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def assert_same_weights(first: Path, second: Path) -> None:
    """The tensors of two files are the same, bit for bit."""
    a, b = load_file(first), load_file(second)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a), second


def assert_same_run(first: Path, second: Path, finished: str) -> None:
    """Two runs' folders hold the same weights, log and samples.

    Args:
        finished: the file that the training ends with.
    """
    for name in (finished, "best.safetensors"):
        assert_same_weights(first / name, second / name)
    assert rows(first) == rows(second)
    pictures = sorted(path.relative_to(first) for path in first.glob("samples/*"))
    assert pictures == sorted(path.relative_to(second) for path in second.glob("samples/*"))
    for name in pictures:
        assert (read_image(first / name) == read_image(second / name)).all()


def _dying(function: Callable[..., Any], call: int) -> Callable[..., Any]:
    """The function, which is interrupted at its `call`-th call."""
    calls = itertools.count(1)

    def wrapped(*inputs: Any, **options: Any) -> Any:
        if next(calls) == call:
            raise KeyboardInterrupt
        return function(*inputs, **options)

    return wrapped


def killed_and_resumed(
    train: Callable[[Any, Path], Any],
    config: Any,
    output: Path,
    *,
    owner: Any,
    name: str,
    call: int,
) -> None:
    """A run that is interrupted in the `call`-th call of a function, and goes on to its end."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(owner, name, _dying(getattr(owner, name), call))
        with pytest.raises(KeyboardInterrupt):
            train(config, output)
    train(config, output)
