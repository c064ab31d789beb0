"""What a message says of two runs that are not the same."""

from __future__ import annotations

import pytest

from warpkit.runs.differences import differences


def files(path: str, digest: str) -> dict[str, str]:
    return {"path": path, "files": digest * 64}


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        ({"a": 1, "config": {"b": [1, 2]}}, {"a": 1, "config": {"b": [1, 2]}}, ""),
        ({"a": None}, {"a": True}, "a: null then, true now"),
        (
            {"config": {"label": {"top_k": 10, "colour": 2}}},
            {"config": {"label": {"top_k": 2, "colour": 2}}},
            "label.top_k: 10 then, 2 now",
        ),
        ({"label": {"old": 1}}, {"label": {}}, "label.old: 1 then, unset now"),
        ({}, {"new": "x"}, "new: unset then, x now"),
        ({"video": files("v", "a")}, {"video": files("v", "b")}, "video: other content"),
        ({"video": files("v", "a")}, {"video": files("w", "b")}, "video: v then, w now"),
        ({"mask": None}, {"mask": {"0": files("m", "a")}}, "mask.0: unset then, m now"),
        ({"mask": {}}, {"mask": None}, "mask: {} then, null now"),
        (
            {"mask": {"0": files("m", "a")}},
            {"mask": {"0": files("n", "a"), "7": files("o", "a")}},
            "mask.0: m then, n now; mask.7: unset then, o now",
        ),
        ({"prompts": "a" * 64}, {"prompts": "b" * 64}, "prompts: other content"),
        # A model of another name, and what is known of its file.
        (
            {"model": None, "config": {"model": "tiny"}},
            {"model": files("m.yaml", "a"), "config": {"model": "m.yaml"}},
            "model: tiny then, m.yaml now",
        ),
        ({"version": "1"}, {"version": "2"}, "version: 1 then, 2 now"),
        ({"a": "x" * 50}, {"a": ""}, f"a: {'x' * 40}... then,  now"),
        (
            {"prompts": "/home/someone/projects/warp/data/prompts/first.txt"},
            {"prompts": "/home/someone/projects/warp/data/prompts/second.txt"},
            "prompts: ...one/projects/warp/data/prompts/first.txt then,"
            " ...ne/projects/warp/data/prompts/second.txt now",
        ),
        ({"a": None}, {"a": "b" * 24}, f"a: null then, {'b' * 24} now"),
    ],
)
def test_what_differs_is_named(then, now, said):
    assert differences(then, now) == said


def test_only_a_few_are_named():
    then, now = ({f"s{n}": n + add for n in range(9)} for add in (0, 1))
    found = differences(then, now)
    assert found.startswith("s0: 0 then, 1 now; s1: 1 then, 2 now; ")
    assert found.endswith("; s3: 3 then, 4 now; 5 more")
    assert "s4" not in found
