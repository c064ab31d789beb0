"""What the fuzz tests share: damage to valid files, and the promise that readers keep.

`WARPKIT_FUZZ_EXAMPLES=10000` makes a long run with a seed of its own; without it every test draws
the same few examples each time.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from warpkit.checks import InputError

__all__ = ["damaged", "fuzzed", "json_near", "kept_promise", "plain_values"]

_EXAMPLES = os.environ.get("WARPKIT_FUZZ_EXAMPLES")
_LIMIT = 1 << 30  # bytes that a reader may take

fuzzed = settings(
    max_examples=int(_EXAMPLES or 200),
    derandomize=_EXAMPLES is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

# What files break on: signs of other formats, numbers at the edge, deep nesting.
_TOKENS = (
    *(b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n", b"\t", b'"', b"'", b";", b","),
    *(b"nan", b"-inf", b"1e999", b"-1", b"1e20", b"0x1", b"null", b"true", b"\\ud800", b"{}"),
    *(b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x00\x00\x00\x00\x80"),
    *(b"9" * 5000, b"[" * 3000, b"{" * 500, b"- " * 400, b"&a [*a,*a]", b"!!python/name:os.x"),
)

plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["", "nan", "1", "a/b", "..", "\x00", "x" * 300, 10**400, 1e-320]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def damaged(draw: st.DrawFn, *files: bytes) -> bytes:
    """One of the files with up to four places changed, or nothing of the kind at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
    content = draw(st.sampled_from(files))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content)))
        end = draw(st.integers(place, min(len(content), place + 16)))
        change = draw(st.sampled_from(["flip", "token", "cut", "drop", "again", "free"]))
        if change == "flip" and place < len(content):
            flipped = content[place] ^ (1 << draw(st.integers(0, 7)))
            content = content[:place] + bytes([flipped]) + content[place + 1 :]
        elif change == "token":
            content = content[:place] + draw(st.sampled_from(_TOKENS)) + content[end:]
        elif change == "cut":
            content = content[:place]
        elif change == "drop":
            content = content[:place] + content[end:]
        elif change == "again":
            content = content[:end] + content[place:]
        else:
            content = content[:place] + draw(st.binary(max_size=8)) + content[end:]
    return content


@st.composite
def json_near(draw: st.DrawFn, *values: Any) -> bytes:
    """JSON of one of the values, in which up to three parts are something else, or gone."""
    whole = [copy.deepcopy(draw(st.sampled_from(values)))]
    for _ in range(draw(st.integers(0, 3))):
        part: Any = whole
        key: Any = 0
        while isinstance(part[key], list | dict) and part[key] and draw(st.integers(0, 3)):
            part = part[key]
            keys = list(part) if isinstance(part, dict) else range(len(part))
            key = draw(st.sampled_from(keys))
        if draw(st.booleans()) or part is whole:
            part[key] = draw(plain_values)
        else:
            del part[key]
            if not part:
                break
    return json.dumps(whole[0]).encode()


@contextlib.contextmanager
def _limited_memory() -> Iterator[None]:
    """No more than 1 GB beyond what the process has; an allocation above raises MemoryError."""
    if sys.platform != "linux":
        yield
        return
    import resource

    with open("/proc/self/statm") as file:  # noqa: PTH123 - ten thousand times
        pages = int(file.read().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _LIMIT, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def kept_promise(read: Callable[[], Any]) -> Any:
    """What a reader gives, or None if it refuses in one line; anything else is a fault."""
    with _limited_memory():
        try:
            return read()
        except InputError as error:
            assert len(str(error).splitlines()) == 1, str(error)
            return None
