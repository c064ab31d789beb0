"""What the evaluations share: baselines asked for, where results go, what an answer depends on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from warpkit.checks import one_of, require
from warpkit.io.images import check_target
from warpkit.io.output import run_record

__all__ = ["check_baselines", "check_file", "library_versions", "method_file_name"]


def check_file(path: Path | str | None, *, overwrite: bool) -> None:
    """Raise unless a result can be written at `path`, before the work begins."""
    if path is None:
        return
    path = Path(path)
    require(
        overwrite or not path.exists(), f"{path} exists: choose another name or add --overwrite"
    )
    check_target(path)


def check_baselines(names: Sequence[str], known: Sequence[str]) -> None:
    """Raise unless every name is a baseline, or `all`."""
    for name in names:
        one_of(name, [*known, "all"], "baseline")


def library_versions() -> dict[str, Any]:
    """Versions of all that may change an answer."""
    versions: dict[str, Any] = run_record("", {}, {})["versions"]
    return versions


def method_file_name(method: str) -> str:
    """A method's name as a file or folder can bear it."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in method).lstrip(".") or "method"
