"""The project as a whole: a light import, telling names, docstrings, pinned versions, sizes."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "warpkit"
MODULES = sorted(PACKAGE.rglob("*.py"))

HEAVY = ["av", "cv2", "diffusers", "faiss", "kornia", "scipy", "transformers"]
# Imported by modules that are themselves imported only when they are used.
LATE = ["fastapi", "gradio", "matplotlib", "numba", "triton", "uvicorn"]
DRAWERS = {"util", "utils", "helper", "helpers", "misc", "common"}
WEIGHTS_LIMIT = 26e6  # bytes


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def distribution(requirement: str) -> str:
    """The normalised name of the distribution that a requirement line asks for."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line and not line.startswith("#")]
    return {distribution(line): line for line in kept}


def top_level_imports(source: str) -> list[tuple[int, str]]:
    """`(line, package)` of what importing the source imports: not in functions, not for types."""
    found: list[tuple[int, str]] = []
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name.split(".")[0]) for alias in node.names]
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.append((node.lineno, node.module.split(".")[0]))
        waiting += ast.iter_child_nodes(node)
    return sorted(found)


def test_import_warpkit_pulls_in_nothing_heavy() -> None:
    # All that a command needs before its work begins.
    code = (
        "import sys, warpkit, warpkit.match, warpkit.viz, warpkit.image.warp;"
        f" print([name for name in {HEAVY + LATE} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_no_module_imports_a_heavy_package_when_it_is_imported() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} imports {name}: import it where it is used"
        for path in MODULES
        for line, name in top_level_imports(path.read_text(encoding="utf-8"))
        if name in HEAVY
    ]
    assert not found, "\n".join(found)


def test_top_level_imports_are_told_from_lazy_ones() -> None:
    source = """
import cv2.xyz, numpy
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import av
else:
    import kornia
try:
    from faiss.contrib import x
except ImportError:
    pass
class A:
    import scipy
    def f(self):
        import diffusers
def g():
    from transformers import x
from . import gradio
"""
    assert top_level_imports(source) == [
        (2, "cv2"),
        (2, "numpy"),
        (3, "typing"),
        (7, "kornia"),
        (9, "faiss"),
        (13, "scipy"),
    ]


def test_no_name_is_a_drawer() -> None:
    folders = ["warpkit", "tests", "examples", "docs", "configs", "videos", ".ci", ".github"]
    found = [
        path.relative_to(ROOT)
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if "__pycache__" not in path.parts
        and DRAWERS & set(re.split(r"[^a-z]+", path.name.lower()))
    ]
    assert not found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_public_module_says_what_it_is(path: Path) -> None:
    if not path.name.startswith("_") or path.name in ("__init__.py", "__main__.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_package_data_holds_the_weights() -> None:
    data = project()["tool"]["setuptools"]["package-data"]["warpkit"]
    assert {"py.typed", "weights/*"} <= set(data)
    assert (PACKAGE / "py.typed").is_file()


def test_the_weights_stay_small() -> None:
    files = [path for path in (PACKAGE / "weights").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= WEIGHTS_LIMIT


def test_every_direct_dependency_is_pinned() -> None:
    table = project()["project"]
    extras = table["optional-dependencies"]
    wanted = [*table["dependencies"], *extras["cpu"], *extras["train"], *extras["dev"]]
    wanted += [*extras["app"], *extras["docs"]]
    assert {distribution(line) for line in wanted} - pins().keys() == set()
    for line in pins().values():
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9.]*", line), line


def test_dependencies_name_no_host_and_no_torchvision() -> None:
    for name in ("pyproject.toml", "constraints.txt", "Makefile"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "torchvision" not in text, name
        assert not re.search(r"index-url|find-links|https?://", text), name


def test_continuous_integration_runs_what_a_developer_runs() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = script.read_text(encoding="utf-8").splitlines()
    assert [line for line in commands if line.startswith("make")] == ["make -j3 lint docs test"]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert targets == ["demo", "test", "lint", "format", "docs", "gallery", "clean"]
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["check"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]


def test_pre_commit_hooks_are_local() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in hooks["repos"]] == ["local"]


def test_the_backbone_and_the_matcher_of_contributing_work() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    # In a process of its own, since both enter their names in a registry.
    check = """
import torch
from warpkit.coords import lattice_sites
from warpkit.features.registry import create_backbone
from warpkit.match.matcher import create_matcher
from warpkit.types import DescriptorMap

images = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
backbone = create_backbone("mean-colour", device="cpu")
(step,) = backbone.features(images)
assert [layer.name for layer in backbone.spec.layers] == list(step.maps)
assert torch.allclose(step.maps["pool"][1, :, 1, 2], images[1, :, 8:16, 16:24].mean((1, 2)))

query, key = (DescriptorMap.covering(f - 0.5, height=5, width=7) for f in step.maps["pool"])
key.data[:, 0] = 0
queries, keys = lattice_sites(height=5, width=7), lattice_sites(height=5, width=7)
for k in (1, 3, 40):
    ours, truth = (
        create_matcher(name).search(query, key, queries, keys, k=k)
        for name in ("all-at-once", "reference")
    )
    assert torch.allclose(ours.similarity, truth.similarity, atol=1e-6)
    assert torch.equal(ours.index == -1, truth.index == -1)
assert (truth.index == -1).any()
"""
    code = "\n".join([*blocks, check])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
