"""The rooms of the house and what each may import: the table is the architecture."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "warpkit"

GROUND = {"checks", "types"}
# Two columns that never touch: images to descriptors, and descriptors to correspondences.
DESCRIBE = {"aggregate", "checks", "coords", "features", "io", "runs", "types"}
CORRESPOND = GROUND | {"coords", "match"}
# What any task may use; no room below imports a task.
TOOLS = GROUND | {"coords", "describe", "io", "match", "runs", "version"}

# Each room and the rooms that it imports; what is not here is an error, and so is what nobody uses.
ALLOWED = {
    "version": set(),
    "arrays": set(),
    "types": set(),
    "checks": set(),
    "coords": GROUND,
    "io": {"arrays", "checks"},
    "runs": {"checks", "io", "version"},
    "datasets": {"checks", "io"},
    "features": {"checks", "coords", "io", "runs"},
    "aggregate": {"checks", "features", "io"},
    "describe": DESCRIBE,
    "match": GROUND | {"coords"},
    "coherent": CORRESPOND,
    "warp": CORRESPOND | {"arrays"},
    "propagate": CORRESPOND | {"arrays", "coherent", "warp"},
    "render": {"checks", "coords"},
    "viz": GROUND | {"arrays", "coords"},
    "image": (TOOLS - {"coords", "version"})
    | {"aggregate", "arrays", "coherent", "features", "viz", "warp"},
    "video": (TOOLS - {"coords"}) | {"arrays", "features", "propagate", "viz", "warp"},
    "evaluate": (TOOLS - {"version"})
    | {"aggregate", "arrays", "coherent", "datasets", "features", "image", "propagate"}
    | {"render", "video", "viz", "warp"},
    "synthesize": TOOLS
    | {"arrays", "coherent", "datasets", "evaluate", "features", "image", "render", "viz", "warp"},
    "train": (TOOLS - {"match", "version"})
    | {"aggregate", "datasets", "evaluate", "features", "warp"},
    "bench": (TOOLS - {"version"})
    | {"aggregate", "arrays", "coherent", "features", "render", "video", "viz"},
    "api": {"arrays", "types"} | {"coords", "describe", "image", "match", "propagate", "video"},
    "demo": {"arrays", "checks", "describe", "evaluate", "image", "io", "runs", "types"}
    | {"video", "viz"},
    "app": (TOOLS - {"coords"}) | {"arrays", "coherent", "image", "synthesize", "video", "viz"},
    "cli": {"app", "bench", "checks", "demo", "describe", "evaluate", "image", "io", "runs"}
    | {"synthesize", "train", "version", "video"},
}

# The public surface gathers names from everywhere; `python -m warpkit` starts the command line.
EXEMPT = {"warpkit", "warpkit.__main__"}

# A room that outgrows this share of all lines holds more than one subject.
LARGEST_SHARE = 0.12


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported_modules(source: str, module: str, *, is_package: bool) -> list[tuple[int, str]]:
    """`(line, absolute name)` of every import in the source, wherever in the file it stands.

    The name is that of a module where the import names one of warpkit, else of what holds the name.
    """
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
            for alias in node.names:
                full = f"{base}.{alias.name}"
                # `from warpkit import viz` imports a room, not a name of the public surface.
                found.append((node.lineno, full if base == "warpkit" or full in MODULES else base))
    return found


def offences(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """What the source of `module` imports against the table, one line each."""
    room = module.split(".")[1]
    if room not in ALLOWED:
        return [f"{module}: '{room}' is no room yet: give it a row in ALLOWED"]
    found = []
    for line, name in imported_modules(source, module, is_package=is_package):
        parts = name.split(".")
        if parts[0] != "warpkit":
            continue
        target = parts[1] if len(parts) > 1 else ""
        if target not in ALLOWED:
            found.append(f"{module}:{line} imports {name}: rooms import rooms by name")
        elif target != room and target not in ALLOWED[room]:
            found.append(f"{module}:{line} imports {name}, which {room} must not know")
    return found


def imports() -> dict[str, set[str]]:
    """The modules of warpkit that each of them imports, in functions and for types too."""
    return {
        module: {
            name
            for _, name in imported_modules(
                path.read_text(encoding="utf-8"), module, is_package=path.name == "__init__.py"
            )
            if name in MODULES and name != module
        }
        for module, path in MODULES.items()
        if module not in EXEMPT
    }


def circles(edges: dict[str, set[str]]) -> list[str]:
    """The modules from which one comes back to where one started."""
    left = {module: set(targets) & edges.keys() for module, targets in edges.items()}
    while free := {module for module, targets in left.items() if not targets & left.keys()}:
        left = {module: targets for module, targets in left.items() if module not in free}
    while free := left.keys() - {target for targets in left.values() for target in targets}:
        left = {module: targets for module, targets in left.items() if module not in free}
    return sorted(left)


def test_every_room_imports_only_what_the_table_allows() -> None:
    found = []
    assert "warpkit.io.config" in MODULES
    for module, path in MODULES.items():
        if module not in EXEMPT:
            is_package = path.name == "__init__.py"
            found += offences(path.read_text(encoding="utf-8"), module, is_package=is_package)
    assert not found, "\n".join(found)


def test_the_table_allows_nothing_that_no_room_uses() -> None:
    used: dict[str, set[str]] = {room: set() for room in ALLOWED}
    for module, targets in imports().items():
        used[module.split(".")[1]] |= {name.split(".")[1] for name in targets}
    unused = {room: ALLOWED[room] - used[room] for room in ALLOWED if ALLOWED[room] - used[room]}
    assert not unused


def test_the_table_itself_has_no_circle() -> None:
    assert not circles(ALLOWED)


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert not circles(imports())


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"a"}, "c": {"a"}, "d": set()}) == ["a", "b"]
    assert not circles({"a": {"b", "c"}, "b": {"c"}, "c": set()})


def test_no_room_holds_too_much() -> None:
    lines: Counter[str] = Counter()
    for module, path in MODULES.items():
        room = module.split(".")[1] if module not in EXEMPT else ""
        lines[room] += len(path.read_text(encoding="utf-8").splitlines())
    (room, most), *_ = lines.most_common(1)
    share = most / lines.total()
    assert share <= LARGEST_SHARE, f"{room} holds {share:.1%} of all lines: split it by subject"


def test_every_room_says_what_it_holds() -> None:
    for module, path in MODULES.items():
        if path.name == "__init__.py":
            words = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split()
            assert len(words) >= 8, f"{module} does not say what it holds"


def test_no_class_name_stands_twice() -> None:
    homes: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(module)
    assert not {name: places for name, places in homes.items() if len(places) > 1}


@pytest.mark.parametrize(
    ("module", "source", "target"),
    [
        ("warpkit.match.pair", "from warpkit.features import backbone", "warpkit.features"),
        ("warpkit.warp.field", "import warpkit.aggregate.network", "warpkit.aggregate.network"),
        ("warpkit.render.clips", "from warpkit.propagate import edits", "warpkit.propagate"),
        ("warpkit.io.images", "import warpkit.match.matcher", "warpkit.match.matcher"),
        ("warpkit.io.images", "from warpkit.match import matcher", "warpkit.match.matcher"),
        ("warpkit.io.images", "from warpkit import viz", "warpkit.viz"),
        ("warpkit.io.images", "from ..match.matcher import Matcher", "warpkit.match.matcher"),
        ("warpkit.io.images", "from .. import match", "warpkit.match"),
        ("warpkit.io.images", "def f():\n    import warpkit.warp.field", "warpkit.warp.field"),
        (
            "warpkit.io.images",
            "import typing\nif typing.TYPE_CHECKING:\n    from warpkit.warp import field",
            "warpkit.warp.field",
        ),
        (
            "warpkit.io.images",
            "try:\n    pass\nfinally:\n    import warpkit.app.page",
            "warpkit.app",
        ),
        ("warpkit.coords", "import numpy, warpkit.io.images", "warpkit.io.images"),
        ("warpkit.types", "from warpkit.checks import require", "warpkit.checks"),
        ("warpkit.app.page", "from warpkit.cli.main import main", "warpkit.cli.main"),
        ("warpkit.image.warp", "from warpkit.cli import main", "warpkit.cli"),
        ("warpkit.image.warp", "from warpkit.video.run import run", "warpkit.video"),
        ("warpkit.io.images", "from warpkit import read_image", "warpkit.read_image"),
        ("warpkit.io.images", "import warpkit", "warpkit"),
    ],
)
def test_an_import_against_the_table_is_found(module: str, source: str, target: str) -> None:
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
        ("warpkit.cli.main", "from warpkit.image.warp import run\nfrom warpkit import version"),
    ],
)
def test_imports_that_the_table_allows_are_fine(module: str, source: str) -> None:
    assert offences(source, module) == []


def test_a_module_without_a_room_is_found() -> None:
    assert offences("", "warpkit.extras.thing") == [
        "warpkit.extras.thing: 'extras' is no room yet: give it a row in ALLOWED"
    ]
