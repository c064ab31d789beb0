"""What differs between the records of two runs, in words for a message."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["differences"]

_MOST = 4
_LONGEST = 40  # characters of a value
_GROUPS = ("inputs", "config")  # of a record; a message names what is in them
_FILES = {"path", "files"}  # the keys of a record of files: where they lie, and a digest
_DIGEST = re.compile(r"[0-9a-f]{24,64}( [0-9a-f]{24,64})*")
_UNSET = object()


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The settings and inputs that differ, as `label.top_k: 10 then, 2 now; mask.0: other content`.

    Args:
        then: the record of an earlier run, as JSON holds it; what it sets may be nested.
        now: that of this run, made the same way.

    Returns:
        At most a few of them, and how many more there are; empty if nothing differs.
    """
    found: dict[str, str] = {}
    for name, before, after in _leaves("", then, now):
        # A file of another name is another file: said once.
        found.setdefault(name, _change(before, after))
    said = [f"{name}: {change}" for name, change in found.items()]
    more = [f"{len(said) - _MOST} more"] if len(said) > _MOST else []
    return "; ".join([*said[:_MOST], *more])


def _leaves(
    prefix: str, then: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Name, value then and value now of all that differs, groups first."""
    names = dict.fromkeys([*(g for g in _GROUPS if not prefix), *then, *now])
    for name in names:
        before, after = then.get(name, _UNSET), now.get(name, _UNSET)
        if before == after:
            continue
        group = not prefix and name in _GROUPS
        # What is null or unset on one side is as if it held nothing: `mask: null`.
        full = [value for value in (before, after) if value not in (None, _UNSET, {})]
        if full and all(_is_nested(value) for value in full):
            both = [value if _is_nested(value) else {} for value in (before, after)]
            yield from _leaves("" if group else f"{prefix}{name}.", *both)
        else:
            yield f"{prefix}{name}", before, after


def _is_nested(value: Any) -> bool:
    return isinstance(value, Mapping) and not value.keys() >= _FILES


def _change(before: Any, after: Any) -> str:
    texts = [_text(value) for value in (before, after)]
    # Digests, or files of the same path.
    if texts[0] == texts[1] or (_is_digest(before) and _is_digest(after)):
        return "other content"
    pairs = enumerate(zip(*texts, strict=False))
    same = next((at for at, (a, b) in pairs if a != b), min(map(len, texts)))
    then, now = (_shortened(text, same) for text in texts)
    return f"{then} then, {now} now"


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _text(value: Any) -> str:
    if value is _UNSET:
        return "unset"
    if isinstance(value, Mapping) and value.keys() >= _FILES:
        value = value["path"]
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _shortened(text: str, same: int) -> str:
    """A part of a long text that shows where it differs, after `same` characters."""
    start = max(0, min(same - _LONGEST // 2, len(text) - _LONGEST))
    end = start + _LONGEST
    return f"{'...' * (start > 0)}{text[start:end]}{'...' * (end < len(text))}"
