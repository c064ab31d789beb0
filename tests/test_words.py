"""Words that a new user stumbles over stand in no help, no message and no page of the docs."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from warpkit.checks import counted
from warpkit.cli.main import command_parser

ROOT = Path(__file__).parents[1]

_THINGS = (
    "point|row|line|pair|frame|image|picture|prompt|folder|file|colour|field|category|step"
    "|experiment"
)

# What to avoid, and what says it plainly.
AVOIDED = {
    r"carr(?:y|ies|ied|ying)": "propagate, track, recompute, keep, hold",
    r"canvas(?:es)?": "the model's input, its size",
    r"gather(?:s|ed|ing)?": "read, backward warp",
    r"splat\w*": "forward warp",
    r"re-?anchor\w*": "restart",
    r"squash\w*": "stretch",
    r"shares of L": "fractions of the longer side",
    rf"(?:an?|one) (?:{_THINGS}) an? (?:{_THINGS}|setting|object|map)": "one ... per ...",
    r"listens? to": "weighs, uses",
    r"SD log \|?J\|?": "SD of log area",
    r"trust(?:s|ed|ing)": "valid, reliable",
    r"\w+(?-i:\(s\))": "`checks.counted`",
}
_PATTERN = re.compile(rf"(?<![\w-])(?:{'|'.join(AVOIDED)})(?!\w)", re.IGNORECASE)

# Softmax splatting is the established name of one way of warping forward (Niklaus and Liu, CVPR
# 2020): its module and functions keep it, and the docs name it where they describe that method.
_TERM = re.compile(r"softmax splatting|Forward splatting|`?Splat\b|forward_splat|warp[./]splat")
_SPLATS = "warpkit/warp/splat.py"
_PAGE = "warpkit/app"  # a canvas is an element of HTML there


def stumbles(text: str) -> list[str]:
    """The avoided words of a text, each with what is around it."""
    if len(text) < 4:
        return []
    text = " ".join(_TERM.sub("", text).split())
    return [text[max(0, m.start() - 40) : m.end() + 40] for m in _PATTERN.finditer(text)]


def helps(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Every command and its help, without that of the commands below it."""
    yield parser.prog, parser.format_help()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from helps(command)


def written(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of the strings of a module: messages, and docstrings of what is public."""
    private: set[int] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):  # parents come first
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            if id(node) in private or node.name.startswith("_"):
                private |= {id(child) for child in node.body}
        elif isinstance(node, ast.Expr) and id(node) in private:
            private.add(id(node.value))  # a docstring, or no text
        elif isinstance(node, ast.JoinedStr):
            # As a reader sees it, with a number where something is filled in.
            parts = [str(p.value) if isinstance(p, ast.Constant) else "2" for p in node.values]
            private |= {id(part) for part in node.values}
            yield node.lineno, "".join(parts)
        elif isinstance(node, ast.Constant) and id(node) not in private:
            yield node.lineno, str(node.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("masks are carried along", ["carried"]),
        ("side of the canvas; --fit squash", ["canvas", "squash"]),
        ("shares of\n    L, a point a setting", ["shares of L", "a point a setting"]),
        ("3 frame(s)", ["frame(s)"]),
        ("by softmax splatting; `forward_splat` returns a `Splat`", []),
        ("throws pixels: a splat", ["splat"]),
        ("a point of a frame, carriers, trustworthy", []),
    ],
)
def test_what_is_found(text: str, found: list[str]) -> None:
    around = stumbles(text)
    assert len(around) == len(found)
    assert all(word in line for word, line in zip(found, around, strict=True))


def test_no_help_has_them() -> None:
    said = dict(helps(command_parser()))
    assert len(said) > 20
    assert {name: found for name, text in said.items() if (found := stumbles(text))} == {}


def test_every_option_is_explained() -> None:
    def unexplained(parser: argparse.ArgumentParser) -> Iterator[str]:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for command in action.choices.values():
                    assert command.description, f"{command.prog} has no description"
                    yield from unexplained(command)
            elif not action.help:
                yield f"{parser.prog} {action.dest}"

    assert list(unexplained(command_parser())) == []


def test_no_page_of_the_docs_has_them() -> None:
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "videos/README.md"]
    pages += [ROOT / "README.md", ROOT / "warpkit/weights/MODEL_CARD.md"]
    assert len(pages) > 15
    # Readers see the text of a link, not where it leads.
    shown = {p: re.sub(r"\]\([^)]*\)", "]", p.read_text(encoding="utf-8")) for p in pages}
    said = {page.name: stumbles(text) for page, text in shown.items()}
    assert {name: found for name, found in said.items() if found} == {}


def test_no_message_and_no_public_docstring_has_them() -> None:
    modules = [path for path in sorted((ROOT / "warpkit").rglob("*.py")) if path != ROOT / _SPLATS]
    assert len(modules) > 200
    said = [
        f"{path.relative_to(ROOT)}:{line}: {found}"
        for path in modules
        for line, text in written(path)
        for found in stumbles(text)
        if "canvas" not in found.lower() or not path.is_relative_to(ROOT / _PAGE)
    ]
    assert said == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (counted(1, "pair"), "1 pair"),
        (counted(0, "pair"), "0 pairs"),
        (counted(12345, "pixel"), "12,345 pixels"),
        (counted(1, "class", "classes"), "1 class"),
        (counted(2, "class", "classes"), "2 classes"),
    ],
)
def test_numbers_have_their_nouns(words: str, said: str) -> None:
    assert words == said
