"""What the evaluations share: baselines asked for, where results go, what an answer depends on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from warpkit.checks import one_of, require
from warpkit.coherent import MIRRORS, FieldName, Mirror
from warpkit.io.images import check_target
from warpkit.runs.folder import OutputFolder, run_record

__all__ = [
    "check_baselines",
    "check_field",
    "check_outputs",
    "check_scoring",
    "check_seed",
    "library_versions",
    "method_file_name",
]


def check_outputs(
    output: Path | str | None,
    file: Path | str | None,
    *,
    overwrite: bool,
    inputs: Sequence[Path | str | None],
) -> None:
    """Raise unless results can be written, before the work begins.

    Args:
        output: folder of results, or None.
        file: a single file of results, or None.
        inputs: files and folders that are read; `file` may neither be one nor lie in one.
    """
    if output is not None:
        OutputFolder(output, overwrite=overwrite).check()
    if file is None:
        return
    file = Path(file)
    require(
        overwrite or not file.exists(), f"{file} exists: choose another name or add --overwrite"
    )
    check_target(file)
    if file.exists():
        full = file.resolve()
        for path in (Path(name).resolve() for name in inputs if name is not None):
            require(
                full != path and path not in full.parents,
                f"{file} is an input of this run and is not replaced: choose another name",
            )


def check_seed(seed: int) -> None:
    """Raise unless a seed is 0 or more."""
    require(seed >= 0, f"a seed is a whole number from 0, got {seed}")


def check_scoring(alphas: Sequence[float], *, seed: int, resamples: int) -> None:
    """Raise unless PCK can be scored at these tolerances and its interval be drawn."""
    check_seed(seed)
    require(
        len(set(alphas)) == len(alphas) > 0 and all(0 < alpha < 10 for alpha in alphas),
        f"alphas are different shares of L above 0, such as 0.05,0.1, got {list(alphas)}",
    )
    require(resamples > 0, f"resamples must be positive, got {resamples}")


def check_baselines(names: Sequence[str], known: Sequence[str]) -> None:
    """Raise unless every name is a baseline, or `all`."""
    for name in names:
        one_of(name, [*known, "all"], "baseline")


def check_field(
    field: FieldName, known: Sequence[FieldName], *, mirror: Mirror, subpixel: bool
) -> None:
    """Raise unless a field is one of those known, with no option that it does not have."""
    one_of(field, known, "field")
    one_of(mirror, MIRRORS, "mirror")
    require(
        field != "nearest" or mirror == "auto",
        f"'mirror' is an option of coherent fields: leave '{mirror}' out, or choose another field"
        " than nearest",
    )
    require(
        field == "nearest" or not subpixel,
        f"'subpixel' refines nearest neighbours: leave it out with the field '{field}'",
    )


def library_versions() -> dict[str, Any]:
    """Versions of all that may change an answer."""
    versions: dict[str, Any] = run_record("", {}, {})["versions"]
    return versions


def method_file_name(method: str) -> str:
    """A method's name as a file or folder can bear it."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in method).lstrip(".") or "method"
