"""What the evaluations share: baselines asked for, where results go, what an answer depends on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from warpkit.checks import one_of, require
from warpkit.coherent import MIRRORS, FieldName, Mirror
from warpkit.describe.options import TaskSettings
from warpkit.evaluate.methods import describer_digest
from warpkit.evaluate.predict import check_scored_filters
from warpkit.io.whole import write_json, written_together
from warpkit.match.settings import MatchFilters
from warpkit.runs.cache import code_digest
from warpkit.runs.folder import OutputFolder, check_result_file, run_record
from warpkit.types import Describer

__all__ = [
    "ScoredSettings",
    "answers_identity",
    "check_field",
    "check_outputs",
    "check_scoring",
    "check_seed",
    "compared",
    "library_versions",
    "method_file_name",
    "write_result",
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
    if file is not None:
        check_result_file(file, overwrite=overwrite, inputs=inputs)


@dataclass(frozen=True, kw_only=True)
class ScoredSettings(TaskSettings):
    """What is scored beside the model.

    Attributes:
        baselines: names of methods to compare with, or `all`.
        seed: of draws and of the bootstrap.
    """

    known_baselines: ClassVar[tuple[str, ...]] = ()

    baselines: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.baselines:
            one_of(name, [*self.known_baselines, "all"], "baseline")
        check_seed(self.seed)

    def baseline_names(self) -> tuple[str, ...]:
        """The baselines asked for, `all` spelled out."""
        return self.known_baselines if "all" in self.baselines else self.baselines


def compared(
    facts: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    problems: Iterable[str],
    record: Mapping[str, Any],
) -> dict[str, Any]:
    """The result of a command: what was scored, the first row, the others, the run's record."""
    first, *others = rows
    left_out = list(dict.fromkeys(problems))
    return {**facts, **first, "left_out": left_out, "baselines": others, **record}


def write_result(
    result: Mapping[str, Any],
    output: Path | str | None,
    json_file: Path | str | None,
    *,
    overwrite: bool,
    inputs: Sequence[Path | str | None] = (),
    predictions: Callable[[OutputFolder], None] | None = None,
) -> None:
    """Write `result.json` into a folder, with what else belongs there, and beside it."""
    with written_together(json_file) as (second,):
        if second is not None:
            write_json(second, result)
        if output is not None:
            with OutputFolder(output, overwrite=overwrite, inputs=inputs) as folder:
                if predictions is not None:
                    predictions(folder)
                write_json(folder.file("result.json"), result)


def answers_identity(
    name: str, describer: Describer | None = None, **facts: Any
) -> Callable[[], dict[str, Any]]:
    """What makes a method's answers, made when it is asked for: a digest takes its time."""

    def identity() -> dict[str, Any]:
        found = {"method": name, "code": code_digest(), "versions": library_versions(), **facts}
        return found if describer is None else found | {"descriptors": describer_digest(describer)}

    return identity


def check_seed(seed: int) -> None:
    """Raise unless a seed is 0 or more."""
    require(seed >= 0, f"a seed is a whole number from 0, got {seed}")


def check_scoring(alphas: Sequence[float], *, resamples: int) -> None:
    """Raise unless PCK can be scored at these tolerances and its interval be drawn."""
    require(
        len(set(alphas)) == len(alphas) > 0 and all(0 < alpha < 10 for alpha in alphas),
        "alphas are different fractions of the longer side above 0, such as 0.05,0.1, got"
        f" {list(alphas)}",
    )
    require(resamples > 0, f"resamples must be positive, got {resamples}")


def check_field(
    field: FieldName, known: Sequence[FieldName], *, mirror: Mirror, filters: MatchFilters
) -> None:
    """Raise unless a field is one of those known, with no option that it does not have."""
    one_of(field, known, "field")
    one_of(mirror, MIRRORS, "mirror")
    require(
        field != "nearest" or mirror == "auto",
        f"'mirror' is an option of coherent fields: leave '{mirror}' out, or choose another field"
        " than nearest",
    )
    check_scored_filters(filters, field)


def library_versions() -> dict[str, Any]:
    """Versions of all that may change an answer."""
    versions: dict[str, Any] = run_record("", {}, {})["versions"]
    return versions


def method_file_name(method: str) -> str:
    """A method's name as a file or folder can bear it."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in method).lstrip(".") or "method"
