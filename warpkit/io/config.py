"""Configurations: frozen dataclasses that YAML only spells.

In: a YAML file and `key=value` overrides. Out: an instance of the given dataclass, every value
checked against its annotation. A field may be a bool, int, float, str, Path, a `Literal`, a tuple
of those, another dataclass, or a union of those with None. An unknown key is an error that names
the nearest known one.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import reprlib
import types
import typing
from collections.abc import Sequence
from dataclasses import MISSING, Field, field, fields, is_dataclass, make_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import yaml

from warpkit.checks import InputError, exists, require
from warpkit.io.text import local_path, read_text

__all__ = ["dump_yaml", "flat", "load_config", "load_configs", "to_dict"]

T = TypeVar("T")

_FLAT = "flat"  # a mark of fields

# PyYAML follows YAML 1.1, where a float needs a point and a signed exponent: it reads `1e-3` and
# `1.5e3` as text. Such text is a number for us wherever a number is expected.
_EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")

# What YAML's constructors raise for a date, number, truth or nesting that cannot be.
_IMPOSSIBLE = (AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError)

# Aliases make short files of endless lists.
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60

_SCALARS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    type(None): "null",
}


def load_config(cls: type[T], path: str | Path | None = None, overrides: Sequence[str] = ()) -> T:
    """Build the configuration `cls` from a YAML file and overrides; what neither names is default.

    Args:
        cls: a dataclass.
        path: YAML file whose top level is a mapping; None for the defaults alone.
        overrides: texts `a.b=value`, the value spelled as in YAML (`size=512`, `mask=null`,
            `alphas=[0.1, 0.05]`). They win over the file, later ones over earlier ones.

    Relative paths inside a configuration are relative to the working folder, not to the file.

    Raises:
        InputError: one line with file or override, key, what was expected and what came.
    """
    tree: dict[str, Any] = {} if path is None else _read(Path(path))
    reader = _Reader("the configuration" if path is None else str(path))
    for text in overrides:
        reader.override(tree, text)
    return typing.cast(T, reader.build(cls, tree, ()))


def load_configs(
    bases: Sequence[Any], path: str | Path | None = None, overrides: Sequence[str] = ()
) -> tuple[Any, ...]:
    """Several configurations that share one YAML file, all of their keys side by side in it.

    Args:
        bases: a dataclass each, or an instance, whose values are the defaults.
        path, overrides: as `load_config`.

    Raises:
        InputError: as `load_config`.
    """
    parts = [
        (f"part{number}", base if isinstance(base, type) else type(base), flat(base))
        for number, base in enumerate(bases)
    ]
    whole: Any = load_config(make_dataclass("Whole", parts), path, overrides)
    return tuple(getattr(whole, name) for name, _, _ in parts)


def flat(base: Any) -> Any:
    """A field of a dataclass that holds another one, whose keys stand among its own in YAML.

    Args:
        base: the other dataclass, or an instance, whose values are the defaults.
    """
    make = base if isinstance(base, type) else lambda: base
    return field(default_factory=make, metadata={_FLAT: True})


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as plain mappings, lists, texts and numbers: what its YAML would hold.

    Args:
        config: a dataclass, or several that share one file.
    """
    if isinstance(config, tuple):
        return {name: value for each in config for name, value in to_dict(each).items()}
    found: dict[str, Any] = {}
    for item in fields(config):
        value = getattr(config, item.name)
        found |= to_dict(value) if _FLAT in item.metadata else {item.name: _plain(value)}
    return found


def dump_yaml(config: Any) -> str:
    """The configuration as YAML text; `load_config` reads an equal one from it."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_dict(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, for which a key that is given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key '{key.value}' is given twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_small_int(self, node: yaml.ScalarNode) -> int:
        """A whole number that a float can stand for, and that can be printed."""
        value = int(self.construct_yaml_int(node))
        if value.bit_length() > 1000:
            raise yaml.constructor.ConstructorError(
                None, None, "a number has too many digits", node.start_mark
            )
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_small_int)


def _parse(text: str, origin: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InputError(f"{origin}{place}: not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, *_IMPOSSIBLE) as error:
        raise InputError(f"{origin}: not valid YAML: {' '.join(str(error).split())}") from error


def _read(path: Path) -> dict[str, Any]:
    require(exists(path), f"{path}: no such configuration file")
    tree = _parse(read_text(path), str(path))
    require(
        tree is None or isinstance(tree, dict),
        f"{path}: a configuration must be a mapping of keys to values, got {_shown(tree)}",
    )
    return tree or {}


class _Reader:
    """Turns a tree of plain values into dataclasses and knows where every value came from."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._overrides: dict[tuple[str, ...], str] = {}

    def override(self, tree: dict[str, Any], text: str) -> None:
        """Put the override `a.b=value` into the tree."""
        name, equals, spelled = text.partition("=")
        keys = tuple(name.strip().split("."))
        require(
            bool(equals) and all(keys),
            f"an override must look like key=value or group.key=value, got '{text}'",
        )
        value = _parse(spelled, f"override '{text}'")
        require(
            not isinstance(value, dict),
            f"override '{text}': the value reads as a mapping; quote it if it is text, or set the"
            " keys of a group one by one (group.key=value)",
        )
        branch = tree
        for depth, key in enumerate(keys[:-1], start=1):
            group = {} if branch.get(key) is None else branch[key]
            require(
                isinstance(group, dict),
                f"override '{text}': '{'.'.join(keys[:depth])}' is a single value in"
                f" {self._origin(keys[:depth])}, not a group of keys",
            )
            # a copy: YAML aliases let two groups be one object
            branch[key] = branch = dict(group)
        branch[keys[-1]] = value
        self._overrides[keys] = f"override '{text}'"

    def build(self, cls: Any, tree: Any, keys: tuple[str, ...], base: Any = None) -> Any:
        """An instance of the dataclass `cls` from the mapping that stands at `keys`.

        Args:
            base: an instance, whose values are the defaults.
        """
        origin = self._origin(keys)
        require(
            isinstance(tree, dict),
            f"{origin}: '{'.'.join(keys)}' must be a mapping of keys to values, got {_shown(tree)}",
        )
        hints = typing.get_type_hints(cls)
        self._check_keys(tree, cls, keys)
        values: dict[str, Any] = {}
        for item in fields(cls):
            name, hint, place = item.name, hints[item.name], (*keys, item.name)
            if not item.init:
                continue
            if _FLAT in item.metadata:
                inner = {key: tree[key] for key in _keys(hint) if key in tree}
                given = getattr(base, name) if base is not None else _default(item)
                values[name] = self.build(hint, inner, keys, given)
            elif name in tree:
                values[name] = self._convert(hint, tree[name], place)
            elif base is not None:
                values[name] = getattr(base, name)
            else:
                require(
                    item.default is not MISSING or item.default_factory is not MISSING,
                    f"{origin}: key '{'.'.join(place)}' is missing: give {_expected(hint)}",
                )
        try:
            return cls(**values)
        except ValueError as error:  # the class checks its values where it is built
            group = f": '{'.'.join(keys)}'" if keys else ""
            raise InputError(f"{self._any_origin(keys)}{group}: {error}") from error

    def _check_keys(self, tree: dict[Any, Any], cls: type, keys: tuple[str, ...]) -> None:
        known = _keys(cls)
        for key in tree:
            if key in known:
                continue
            place = ".".join([*keys, str(key)])
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean '{'.'.join([*keys, near[0]])}'? " if near else ""
            if key in (former := getattr(cls, "FORMER_KEYS", {})):
                hint = f"give '{'.'.join([*keys, former[key]])}' in its place; "
            raise InputError(
                f"unknown key '{place}' in {self._origin((*keys, str(key)))}: {hint}"
                f"known keys: {', '.join(known)}"
            )

    def _convert(self, hint: Any, value: Any, keys: tuple[str, ...]) -> Any:
        """`value` as the annotation `hint` wants it."""
        if is_dataclass(hint):
            return self.build(hint, value, keys)
        kind = typing.get_origin(hint)
        if _is_union(hint):
            return self._convert_union(hint, value, keys)
        if kind is tuple:
            return self._convert_tuple(hint, value, keys)
        if kind is Literal:
            for choice in typing.get_args(hint):
                # True == 1, so the types must agree as well
                if type(choice) is type(value) and choice == value:
                    return choice
            raise self._error(hint, value, keys)
        if hint not in _SCALARS:
            raise TypeError(f"a configuration cannot hold {hint!r} ('{'.'.join(keys)}')")
        if hint is float and isinstance(value, str) and _EXPONENT.fullmatch(value):
            value = float(value)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if hint is float and (whole or (isinstance(value, float) and not math.isnan(value))):
            return float(value)
        if hint is Path and isinstance(value, str) and value:
            # An unknown user's `~` stays as it is.
            return local_path(os.path.expanduser(value))  # noqa: PTH111
        if hint is int and whole:
            return value
        if hint in (bool, str, type(None)) and isinstance(value, hint):
            return value
        raise self._error(hint, value, keys)

    def _convert_union(self, hint: Any, value: Any, keys: tuple[str, ...]) -> Any:
        members = typing.get_args(hint)
        if value is None and type(None) in members:
            return None
        others = [member for member in members if member is not type(None)]
        if len(others) == 1 and isinstance(value, dict | list):
            # A group or a list says best itself what is wrong inside it.
            return self._convert(others[0], value, keys)
        for member in others:
            try:
                return self._convert(member, value, keys)
            except InputError:
                continue
        raise self._error(hint, value, keys)

    def _convert_tuple(self, hint: Any, value: Any, keys: tuple[str, ...]) -> tuple[Any, ...]:
        members = typing.get_args(hint)
        if not isinstance(value, list):
            raise self._error(hint, value, keys)
        if len(members) == 2 and members[1] is Ellipsis:
            members = (members[0],) * len(value)
        if len(members) != len(value):
            raise self._error(hint, value, keys)
        return tuple(
            self._convert(member, item, (*keys[:-1], f"{keys[-1]}[{index}]"))
            for index, (member, item) in enumerate(zip(members, value, strict=True))
        )

    def _error(self, hint: Any, value: Any, keys: tuple[str, ...]) -> InputError:
        members = typing.get_args(hint) if _is_union(hint) else (hint,)
        advice = ""
        if isinstance(value, str):
            literals = [member for member in members if typing.get_origin(member) is Literal]
            choices = [str(choice) for member in literals for choice in typing.get_args(member)]
            near = difflib.get_close_matches(value, choices, n=1)
            advice = f": did you mean '{near[0]}'?" if near else ""
        elif value is not None and (str in members or Path in members):
            advice = ": quote it if it is meant as text"
        return InputError(
            f"{self._origin(keys)}: '{'.'.join(keys)}' must be {_expected(hint)},"
            f" got {_shown(value)}{advice}"
        )

    def _origin(self, keys: tuple[str, ...]) -> str:
        """Where the value at `keys` comes from: an override if one set it, else the file."""
        plain = tuple(key.partition("[")[0] for key in keys)
        for depth in range(len(plain), 0, -1):
            if plain[:depth] in self._overrides:
                return self._overrides[plain[:depth]]
        return self._source

    def _any_origin(self, keys: tuple[str, ...]) -> str:
        """Where a group comes from: the file, and the overrides that set something inside it."""
        inside = [text for name, text in self._overrides.items() if name[: len(keys)] == keys]
        return " with ".join([self._source, *inside])


def _keys(cls: Any) -> list[str]:
    """The keys of a dataclass in YAML."""
    hints = typing.get_type_hints(cls)
    groups = [
        _keys(hints[item.name]) if _FLAT in item.metadata else [item.name]
        for item in fields(cls)
        if item.init
    ]
    return [key for group in groups for key in group]


def _default(item: Field[Any]) -> Any:
    assert item.default_factory is not MISSING
    return item.default_factory()


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (Union, types.UnionType)


def _expected(hint: Any) -> str:
    """What a value of the annotation `hint` looks like in YAML, in words."""
    kind, members = typing.get_origin(hint), typing.get_args(hint)
    if _is_union(hint):
        return " or ".join(_expected(member) for member in members)
    if kind is Literal:
        return f"one of {', '.join(map(str, members))}"
    if kind is tuple and len(members) == 2 and members[1] is Ellipsis:
        return f"a list, each item {_expected(members[0])}"
    if kind is tuple:
        return f"a list of {len(members)} ({', '.join(map(_expected, members))})"
    return _SCALARS.get(hint, "a mapping of keys to values")


def _shown(value: Any) -> str:
    if value is None:
        return "nothing (null)"
    text = _SHORT.repr(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    return f"{text} ({type(value).__name__})"
