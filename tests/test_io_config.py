"""Configurations: values, round trip, and one clear line for everything a user can get wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from warpkit.checks import InputError
from warpkit.io.config import dump_yaml, flat, load_config, load_configs, to_dict


@dataclass(frozen=True)
class Inner:
    temperature: float = 0.07
    top_k: int = 5
    engine: Literal["grid", "faiss"] = "grid"

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise InputError(f"top_k must be at least 1, got {self.top_k}")


@dataclass(frozen=True)
class Outer:
    name: str = "run"
    mutual: bool = False
    limit: float | None = None
    weights: Path | None = None
    alphas: tuple[float, ...] = (0.1, 0.05)
    size: tuple[int, int] = (480, 854)
    mode: Literal["paste", "feather"] | None = None
    choice: int | str = 0
    inner: Inner = field(default_factory=Inner)
    second: Inner | None = None
    inners: tuple[Inner, ...] = ()


@dataclass(frozen=True)
class Needy:
    root: Path
    count: int = 3


@dataclass(frozen=True)
class Unsupported:
    table: dict[str, int] = field(default_factory=dict)


def write(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_alone() -> None:
    assert load_config(Outer) == Outer()


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load_config(Outer, write(tmp_path, "# nothing\n")) == Outer()


def test_every_kind_of_value(tmp_path: Path) -> None:
    text = """
name: größe
mutual: true
limit: 4
weights: models/a.pt
alphas: [0.1, 1, 5e-2]
size: [33, 57]
mode: feather
choice: seven
inner: {temperature: 1e-3, top_k: 7, engine: faiss}
second: {top_k: 2}
inners: [{top_k: 1}, {temperature: .inf}]
"""
    config = load_config(Outer, write(tmp_path, text))
    assert config == Outer(
        name="größe",
        mutual=True,
        limit=4.0,
        weights=Path("models/a.pt"),
        alphas=(0.1, 1.0, 0.05),
        size=(33, 57),
        mode="feather",
        choice="seven",
        inner=Inner(0.001, 7, "faiss"),
        second=Inner(top_k=2),
        inners=(Inner(top_k=1), Inner(temperature=float("inf"))),
    )
    assert isinstance(config.limit, float)
    assert isinstance(config.alphas[1], float)


def test_dump_and_load_is_the_identity(tmp_path: Path) -> None:
    config = Outer(
        name="a: b # c",
        limit=1e-9,
        weights=Path("w/ö.pt"),
        mode="paste",
        choice="5",
        second=Inner(temperature=1e22),
        inners=(Inner(),),
    )
    assert load_config(Outer, write(tmp_path, dump_yaml(config))) == config
    assert to_dict(config)["weights"] == "w/ö.pt"
    assert to_dict(config)["size"] == [480, 854]
    assert to_dict(config)["inner"] == {"temperature": 0.07, "top_k": 5, "engine": "grid"}


def test_overrides_win_over_the_file_and_later_over_earlier(tmp_path: Path) -> None:
    path = write(tmp_path, "name: file\ninner: {top_k: 7}\nsecond:\n")
    config = load_config(
        Outer,
        path,
        [
            "inner.temperature=1e-1",
            "alphas=[0.2]",
            "second.top_k=1",
            "name=first",
            "name='2'",
            "limit=3",
            "limit=null",
        ],
    )
    assert config == Outer(name="2", alphas=(0.2,), inner=Inner(0.1, 7), second=Inner(top_k=1))


def test_an_override_does_not_leak_through_a_yaml_alias(tmp_path: Path) -> None:
    path = write(tmp_path, "inner: &one {top_k: 7}\nsecond: *one\n")
    config = load_config(Outer, path, ["inner.top_k=9"])
    assert config.inner.top_k == 9
    assert config.second == Inner(top_k=7)


def test_a_required_key_may_come_from_an_override() -> None:
    assert load_config(Needy, overrides=["root=data"]) == Needy(Path("data"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "nmae: x",
            "unknown key 'nmae' in FILE: did you mean 'name'? known keys: name, mutual, limit,"
            " weights, alphas, size, mode, choice, inner, second, inners",
        ),
        (
            "inner: {tempature: 1}",
            "unknown key 'inner.tempature' in FILE: did you mean 'inner.temperature'? known keys:"
            " temperature, top_k, engine",
        ),
        ("inner: {zzz: 1}", "unknown key 'inner.zzz' in FILE: known keys: temperature, top_k, eng"),
        ("3: x", "unknown key '3' in FILE: known keys: name"),
        ("name: 3", "FILE: 'name' must be text, got 3 (int): quote it if it is meant as text"),
        ("name: off", "FILE: 'name' must be text, got False (bool): quote it"),
        ("mutual: 1", "FILE: 'mutual' must be true or false, got 1 (int)"),
        ("mutual: 'yes'", "FILE: 'mutual' must be true or false, got 'yes' (str)"),
        ("limit: fast", "FILE: 'limit' must be a number or null, got 'fast' (str)"),
        ("limit: true", "FILE: 'limit' must be a number or null, got True (bool)"),
        ("limit: .nan", "FILE: 'limit' must be a number or null, got nan (float)"),
        ("weights: 5", "FILE: 'weights' must be a path or null, got 5 (int): quote it"),
        ("alphas: 0.1", "FILE: 'alphas' must be a list, each item a number, got 0.1 (float)"),
        ("alphas: [0.1, x]", "FILE: 'alphas[1]' must be a number, got 'x' (str)"),
        (
            "size: [1, 2, 3]",
            "FILE: 'size' must be a list of 2 (a whole number, a whole number), got [1, 2, 3]",
        ),
        ("size: [1, 2.0]", "FILE: 'size[1]' must be a whole number, got 2.0 (float)"),
        (
            "mode: feathr",
            "FILE: 'mode' must be one of paste, feather or null, got 'feathr' (str): did you mean"
            " 'feather'?",
        ),
        ("choice: 1.5", "FILE: 'choice' must be a whole number or text, got 1.5 (float): quote it"),
        ("inner:", "FILE: 'inner' must be a mapping of keys to values, got nothing (null)"),
        (
            "second: 5",
            "FILE: 'second' must be a mapping of keys to values or null, got 5 (int)",
        ),
        ("second: {top_k: x}", "FILE: 'second.top_k' must be a whole number, got 'x' (str)"),
        ("inners: [{top_k: x}]", "FILE: 'inners[0].top_k' must be a whole number, got 'x' (str)"),
        ("inner: {top_k: 0}", "FILE: 'inner': top_k must be at least 1, got 0"),
        ("name: a\nname: b", "FILE, line 2, column 1: not valid YAML: key 'name' is given twice"),
        ("inner: {top_k: 1, top_k: 1}", "FILE, line 1, column 19: not valid YAML: key 'top_k'"),
        ("- a", "FILE: a configuration must be a mapping of keys to values, got ['a'] (list)"),
        ("name: [a", "FILE, line 1, column 9: not valid YAML: "),
        ("name: 2024-13-45", "FILE: not valid YAML: month must be in 1..12"),
        ("name: !!python/name:os.system x", "FILE, line 1, column 7: not valid YAML: could not"),
        ("name: \x00", "FILE: not valid YAML: unacceptable character"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_config(Outer, path)
    said = str(caught.value)
    assert said.replace(str(path), "FILE").startswith(message)
    assert "\n" not in said


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("size", "an override must look like key=value or group.key=value, got 'size'"),
        ("=3", "an override must look like key=value or group.key=value, got '=3'"),
        ("inner..top_k=3", "an override must look like key=value or group.key=value, got 'in"),
        ("inner.topk=3", "unknown key 'inner.topk' in override 'inner.topk=3': did you mean"),
        ("alphas=[x]", "override 'alphas=[x]': 'alphas[0]' must be a number, got 'x' (str)"),
        ("inner={top_k: 3}", "override 'inner={top_k: 3}': the value reads as a mapping"),
        ("name=a cat: small", "override 'name=a cat: small': the value reads as a mapping"),
        ("name=[", "override 'name=[', line 1, column 2: not valid YAML"),
        ("name=", "override 'name=': 'name' must be text, got nothing (null)"),
        ("inner.top_k=0", "FILE with override 'inner.top_k=0': 'inner': top_k must be at least"),
        (
            "name.first=x",
            "override 'name.first=x': 'name' is a single value in FILE, not a group of keys",
        ),
        (
            "inner=3",
            "override 'inner=3': 'inner' must be a mapping of keys to values, got 3 (int)",
        ),
    ],
)
def test_bad_overrides(tmp_path: Path, override: str, message: str) -> None:
    path = write(tmp_path, "name: x\nalphas: [0.1]\n")
    with pytest.raises(InputError) as caught:
        load_config(Outer, path, [override])
    said = str(caught.value)
    assert said.replace(str(path), "FILE").startswith(message)
    assert "\n" not in said


def test_a_missing_key_is_named() -> None:
    with pytest.raises(
        InputError, match=r"^the configuration: key 'root' is missing: give a path$"
    ):
        load_config(Needy)


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: no such configuration file$"):
        load_config(Outer, tmp_path / "none.yaml")
    with pytest.raises(InputError, match=r"^cannot read .*: Is a directory$"):
        load_config(Outer, tmp_path)
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"name: \xff\xfe")
    with pytest.raises(InputError, match=r"b\.yaml is no text in UTF-8 \(.*\): save it as UTF-8$"):
        load_config(Outer, binary)


def test_a_field_that_yaml_cannot_spell_is_the_programmers_error() -> None:
    with pytest.raises(TypeError, match=r"a configuration cannot hold dict\[str, int\]"):
        load_config(Unsupported, overrides=["table=3"])


@dataclass(frozen=True)
class Bounds:
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True)
class Around:
    name: str = "x"
    bounds: Bounds = flat(Bounds(high=2.0))
    count: int = 3


def test_a_flat_group_has_its_keys_among_the_others(tmp_path: Path) -> None:
    config = load_config(Around, write(tmp_path, "low: 0.5\ncount: 4\n"))
    # What is not named keeps the default of the field, not that of the group's class.
    assert config == Around(bounds=Bounds(0.5, 2.0), count=4)
    assert to_dict(config) == {"name": "x", "low": 0.5, "high": 2.0, "count": 4}
    assert load_config(Around, write(tmp_path, dump_yaml(config))) == config
    with pytest.raises(InputError, match=r"unknown key 'hihg'.*did you mean 'high'"):
        load_config(Around, overrides=["hihg=1"])
    with pytest.raises(InputError, match=r"override 'low=soon': 'low' must be a number"):
        load_config(Around, overrides=["low=soon"])


def test_several_configurations_share_a_file(tmp_path: Path) -> None:
    path = write(tmp_path, "top_k: 7\nlow: 0.25\n")
    inner, around = load_configs((Inner(engine="faiss"), Around), path, ["count=1"])
    assert inner == Inner(top_k=7, engine="faiss")
    assert around == Around(bounds=Bounds(0.25, 2.0), count=1)
    assert to_dict((inner, around)) == to_dict(inner) | to_dict(around)
    with pytest.raises(InputError, match=r"unknown key 'topk' in override 'topk=1': did you mean"):
        load_configs((Inner, Around), path, ["topk=1"])
