"""The architecture has one direction: a layer imports only what stands left of it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "warpkit"

# Left to right. Names on one line stand side by side: none of them imports another.
LAYERS = [
    {"checks", "types", "version"},
    {"coords"},
    {"io"},
    {"features"},
    {"aggregate"},
    {"match"},
    {"coherent"},
    {"warp"},
    {"propagate"},
    {"render"},
    {"viz"},
    {"evaluate"},
    {"train"},
    {"synthesize"},
    {"jobs"},
    {"app"},
    {"cli"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

# The public surface gathers names from everywhere; `python -m warpkit` starts the command line.
EXEMPT = {"warpkit", "warpkit.__main__"}


def imported_modules(source: str, module: str, *, is_package: bool) -> list[tuple[int, str]]:
    """`(line, absolute name)` of every import in the source, wherever in the file it stands."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                parents = package[: len(package) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            # `from warpkit import viz` imports a layer, not a name of the public surface.
            found += [
                (node.lineno, f"{base}.{alias.name}" if base == "warpkit" else base)
                for alias in node.names
            ]
    return found


def offences(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """What the source of `module` imports against the direction, one line each."""
    layer = module.split(".")[1]
    if layer not in RANK:
        return [f"{module}: '{layer}' is no layer yet: give it a place in LAYERS"]
    found = []
    for line, name in imported_modules(source, module, is_package=is_package):
        parts = name.split(".")
        if parts[0] != "warpkit":
            continue
        target = parts[1] if len(parts) > 1 else ""
        if target not in RANK:
            found.append(f"{module}:{line} imports {name}: layers import layers by name")
        elif target != layer and RANK[target] >= RANK[layer]:
            found.append(f"{module}:{line} imports {name}, which does not stand left of {layer}")
    return found


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_every_layer_imports_only_leftwards() -> None:
    found = []
    modules = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
    assert "warpkit.io.config" in modules
    for module, path in modules.items():
        if module not in EXEMPT:
            is_package = path.name == "__init__.py"
            found += offences(path.read_text(encoding="utf-8"), module, is_package=is_package)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source", "target"),
    [
        ("warpkit.io.images", "import warpkit.match.matcher", "warpkit.match.matcher"),
        ("warpkit.io.images", "from warpkit.match import matcher", "warpkit.match"),
        ("warpkit.io.images", "from warpkit import viz", "warpkit.viz"),
        ("warpkit.io.images", "from ..match.matcher import Matcher", "warpkit.match.matcher"),
        ("warpkit.io.images", "from .. import match", "warpkit.match"),
        ("warpkit.io.images", "def f():\n    import warpkit.warp.field", "warpkit.warp.field"),
        (
            "warpkit.io.images",
            "import typing\nif typing.TYPE_CHECKING:\n    from warpkit.warp import field",
            "warpkit.warp",
        ),
        (
            "warpkit.io.images",
            "try:\n    pass\nfinally:\n    import warpkit.app.page",
            "warpkit.app",
        ),
        ("warpkit.coords", "import numpy, warpkit.io.images", "warpkit.io.images"),
        ("warpkit.types", "from warpkit.checks import require", "warpkit.checks"),
        ("warpkit.app.page", "from warpkit.cli.main import main", "warpkit.cli.main"),
        ("warpkit.jobs.warp", "from warpkit.cli import main", "warpkit.cli"),
        ("warpkit.io.images", "from warpkit import read_image", "warpkit.read_image"),
        ("warpkit.io.images", "import warpkit", "warpkit"),
    ],
)
def test_an_import_to_the_right_is_found(module: str, source: str, target: str) -> None:
    found = offences(source, module)
    assert len(found) == 1
    line = source.count("\n") + 1
    assert found[0].startswith(f"{module}:{line} imports {target}")


def test_relative_imports_of_a_package_start_at_the_package() -> None:
    assert not offences("from .matcher import Matcher", "warpkit.match", is_package=True)
    assert offences("from ..warp import field", "warpkit.match", is_package=True)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("warpkit.coords", "from warpkit.checks import require\nfrom warpkit import types"),
        ("warpkit.match.matcher", "from warpkit.match.reference import ReferenceMatcher"),
        ("warpkit.match.matcher", "from . import reference\nimport numpy as np\nimport warpkitten"),
        ("warpkit.cli.main", "from warpkit.jobs.warp import run\nfrom warpkit import version"),
    ],
)
def test_imports_to_the_left_are_fine(module: str, source: str) -> None:
    assert offences(source, module) == []


def test_a_module_without_a_place_is_found() -> None:
    assert offences("", "warpkit.extras.thing") == [
        "warpkit.extras.thing: 'extras' is no layer yet: give it a place in LAYERS"
    ]
