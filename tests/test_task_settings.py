"""Settings of tasks hold no model, and the filters of matches have one home."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields

import pytest

import warpkit
from warpkit.bench.extract import BenchExtractSettings
from warpkit.bench.match import BenchMatchSettings
from warpkit.bench.propagate import BenchPropagateSettings
from warpkit.checks import InputError
from warpkit.demo import DemoSettings
from warpkit.describe.options import ModelOptions, TaskSettings
from warpkit.evaluate.commands.davis import EvalDavisSettings
from warpkit.evaluate.commands.pck import EvalPckSettings
from warpkit.evaluate.commands.sweep import SweepSettings
from warpkit.evaluate.commands.tapvid import EvalTapvidSettings
from warpkit.evaluate.commands.warp import EvalWarpSettings
from warpkit.image.extract import ExtractSettings
from warpkit.image.inspect import InspectSettings
from warpkit.match.points import match_points
from warpkit.match.settings import MatchFilters
from warpkit.propagate import warp_edit, warp_labels
from warpkit.synthesize.run import SynthesizeSettings
from warpkit.warp import dense_warp, dense_warps

TASKS = [
    warpkit.WarpSettings,
    warpkit.MatchSettings,
    warpkit.PropagateSettings,
    ExtractSettings,
    InspectSettings,
    SynthesizeSettings,
    DemoSettings,
    SweepSettings,
    EvalPckSettings,
    EvalDavisSettings,
    EvalWarpSettings,
    EvalTapvidSettings,
    BenchMatchSettings,
    BenchExtractSettings,
    BenchPropagateSettings,
]


@pytest.mark.parametrize("settings", TASKS)
def test_an_option_of_the_model_is_refused(settings: type[TaskSettings]) -> None:
    own = {item.name for item in fields(settings)}  # type: ignore[arg-type]
    options = {item.name for item in fields(ModelOptions)}
    assert not own & options
    settings()
    for name, value in {"model": "sd15", "device": "cpu", "size": 64}.items():
        with pytest.raises(InputError, match=rf"^{name}: no setting of a task .*warpkit\.load"):
            settings(**{name: value})


def every(cls: type) -> set[type]:
    """All classes that derive from one, at any depth."""
    return {s for c in cls.__subclasses__() for s in {c, *every(c)}}


def test_every_class_of_settings_is_listed() -> None:
    assert {s for s in every(TaskSettings) if s.__name__ != "ScoredSettings"} == set(TASKS)


def test_several_options_are_named_at_once() -> None:
    with pytest.raises(InputError, match=r"^device, size: .*ModelOptions beside WarpSettings"):
        warpkit.WarpSettings(size=3, device="cpu", fill=False)  # type: ignore[call-arg]


def test_a_name_that_is_nobodys_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(TypeError, match="colour"):
        warpkit.WarpSettings(colour="red")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("function", "most"), [(dense_warp, 6), (match_points, 8), (dense_warps, 5)]
)
def test_functions_that_match_take_their_filters_whole(
    function: Callable[..., object], most: int
) -> None:
    assert len(inspect.signature(function).parameters) <= most


@pytest.mark.parametrize(
    "function", [dense_warp, dense_warps, match_points, warp_edit, warp_labels]
)
def test_filters_have_one_home(function: Callable[..., object]) -> None:
    names = {item.name for item in fields(MatchFilters)}
    assert not names & inspect.signature(function).parameters.keys()
