"""The documentation holds: its examples run, its links lead somewhere, nothing is left open."""

from __future__ import annotations

import doctest
import importlib
import re
import runpy
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fresh_python import FreshPython, fresh_python

from warpkit.cli.main import command_parser

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "videos/README.md"),
    *(
        "docs/app.md",
        "docs/embedded-model.md",
        "docs/evaluation.md",
        "docs/extraction.md",
        "docs/gallery.md",
        "docs/matching.md",
        "docs/models.md",
        "docs/synthesize.md",
        "docs/video.md",
    ),
]
MODEL_CARD = "warpkit/weights/MODEL_CARD.md"

WITH_DOCTESTS = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "warpkit").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]

# Two of them side by side: what a person has yet to fill in.
PLACEHOLDER = "@" * 2


def python_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def relative_targets(text: str) -> list[str]:
    """What links and pictures outside code name, without web addresses and parts of the page."""
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)", prose)
    return [t.split("#")[0] for t in targets if not re.match(r"[a-z]+:|#", t)]


@pytest.fixture(scope="module")
def python() -> Iterator[FreshPython]:
    with fresh_python() as found:
        yield found


def test_doctests_are_found() -> None:
    assert {"warpkit.describe.load", "warpkit.api"} <= set(WITH_DOCTESTS)


@pytest.mark.parametrize("name", WITH_DOCTESTS)
def test_the_examples_of_docstrings_hold(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    "name", [n for n in DOCUMENTS if python_blocks((ROOT / n).read_text(encoding="utf-8"))]
)
def test_the_python_blocks_of_a_document_run(
    python: FreshPython, name: str, tmp_path: Path
) -> None:
    # In a process of its own, since some enter names in a registry, and in an empty folder.
    for block in python_blocks((ROOT / name).read_text(encoding="utf-8")):
        done = python("-c", block, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


def command_lines(text: str) -> list[str]:
    """Commands of warpkit in code blocks, continued lines joined; those that show a grammar not."""
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    lines = [line.split("  #")[0].strip() for line in joined.splitlines()]
    lines = [line.removeprefix(".venv/bin/") for line in lines]
    return [
        line
        for line in lines
        if line.startswith("warpkit ") and not re.search(r"\.\.\.|[\[|]|--help", line)
    ]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_commands_of_a_document_are_understood(name: str) -> None:
    for line in command_lines((ROOT / name).read_text(encoding="utf-8")):
        try:
            command_parser().parse_args(shlex.split(line)[1:])
        except SystemExit:
            pytest.fail(f"{name}: {line}")


def test_the_page_of_commands_is_that_of_the_parser() -> None:
    """After a change of the command line: `python docs/api/write_cli.py`."""
    page = runpy.run_path(str(ROOT / "docs/api/write_cli.py"))
    assert (ROOT / "docs/cli.md").read_text(encoding="utf-8") == page["render"]()
    assert page["render"]().count("\n## warpkit ") > 20


def test_commands_are_found_in_documents() -> None:
    text = "```\nwarpkit warp A B \\\n    -o out  # comment\nwarpkit eval a | b\nls\n```\nwarpkit x"
    assert command_lines(text) == ["warpkit warp A B      -o out"]
    assert sum(len(command_lines((ROOT / n).read_text(encoding="utf-8"))) for n in DOCUMENTS) > 20


def test_links_are_told_from_addresses_and_code() -> None:
    text = """
[a](docs/a.md), ![b](b.png "title"), [c](https://x.org/c.md), [d](#part), [e](e.md#part)
`names[0](x)`
```
names[1](y)
```
"""
    assert relative_targets(text) == ["docs/a.md", "b.png", "e.md"]


@pytest.mark.parametrize("name", [*DOCUMENTS, MODEL_CARD])
def test_every_link_leads_somewhere(name: str) -> None:
    path = ROOT / name
    targets = relative_targets(path.read_text(encoding="utf-8"))
    assert [t for t in targets if not (path.parent / t).exists()] == []


def test_the_readme_says_its_terms() -> None:
    """Words of the workshop stay out of it, and abbreviations are spelled out once."""
    text = re.sub(r"\s+", " ", (ROOT / "README.md").read_text(encoding="utf-8"))
    words = "carried|canvas|gather|splat|reanchor|squash|shares of L|a point a setting|listens to"
    assert re.findall(words, text) == []
    for said in ("PCK@0.1, the percentage of correct keypoints", "J, the overlap", "F, how well"):
        assert text.count(said) == 1


def test_nothing_is_left_to_fill_in() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("the files of the project are listed by git")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    found = []
    for name in filter(None, listed):
        content = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b""
        if b"\0" not in content and PLACEHOLDER.encode() in content:
            found.append(name)
    assert found == []


def test_every_guard_of_the_evaluation_exists() -> None:
    """The tests that docs/evaluation.md names are there."""
    text = (ROOT / "docs/evaluation.md").read_text(encoding="utf-8")
    tests = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "tests").glob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)\*?`", text))
    assert len(named) > 8
    assert [name for name in sorted(named) if f"def {name}" not in tests] == []
    files = re.findall(r"`(tests/\w+\.py)`", text)
    assert [name for name in files if not (ROOT / name).is_file()] == []
