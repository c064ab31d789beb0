"""What is published: a wheel made from the sdist works where there is no clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import warpkit

ROOT = Path(__file__).parents[1]
# What a clean folder of the project holds.
PARTS = ("warpkit", "pyproject.toml", "README.md", "LICENSE", ".gitattributes")
Installed = Callable[..., str]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Runs a program of an environment that holds the package alone, and what it depends on."""
    folder = tmp_path_factory.mktemp("package")
    clean, dist, home = folder / "clean", folder / "dist", folder / "home"
    clean.mkdir()
    home.mkdir()
    for name in PARTS:
        if (ROOT / name).is_dir():
            skipped = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, clean / name, ignore=skipped)
        elif (ROOT / name).is_file():
            shutil.copy(ROOT / name, clean / name)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}

    def run(*command: object, cwd: Path = home) -> str:
        done = subprocess.run(
            list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    build = f"from setuptools import build_meta as b; b.build_sdist({str(dist)!r})"
    run(sys.executable, "-c", build, cwd=clean)
    (archive,) = dist.glob("*.tar.gz")
    run(*pip, "wheel", archive, "--no-deps", "--no-build-isolation", "--wheel-dir", dist)
    (wheel,) = dist.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    programs = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    run(*pip, "--python", programs / "python", "install", "--no-deps", "--no-index", wheel)
    # The dependencies of this environment by their folder: what puts a clone on the path is a
    # file in it that nothing reads there.
    (own,) = (folder / "venv").rglob("site-packages")
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def program(name: str, *arguments: object) -> str:
        return run(programs / name, *arguments)

    return program


def test_the_package_is_not_the_clone_and_loads_its_weights(installed: Installed) -> None:
    said = installed("python", "-c", "import warpkit; print(warpkit.__file__)")
    assert not Path(said.strip()).is_relative_to(ROOT)
    assert "site-packages" in said
    code = "import warpkit; print(warpkit.load(device='cpu').name, warpkit.__version__)"
    assert installed("python", "-c", code).split() == ["embedded", warpkit.__version__]


def test_the_samples_ship(installed: Installed) -> None:
    code = "from warpkit.demo import SAMPLES as s; print(sum(p.is_file() for p in s.rglob('*')))"
    shipped = sum(path.is_file() for path in (ROOT / "warpkit/samples").rglob("*"))
    assert int(installed("python", "-c", code)) == shipped > 20


def test_the_command_warps(installed: Installed, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        warpkit.write_image(tmp_path / f"{name}.png", rng.integers(0, 256, (48, 64, 3), np.uint8))
    out = tmp_path / "out"
    pair = tmp_path / "a.png", tmp_path / "b.png"
    installed("warpkit", "warp", *pair, "--model", "tiny", "--size", "32", "-o", out)
    names = {"composite.png", "overview.png", "run.json", "warp.npz", "warped.png"}
    assert {path.name for path in out.iterdir()} == names
