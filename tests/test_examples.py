"""The examples that add a part run as they stand, and print what they promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(*arguments: str, folder: Path) -> list[str]:
    """Lines that a fresh Python prints; registries of this process stay as they are."""
    result = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout.splitlines()


def test_adding_a_backbone(tmp_path):
    lines = run(str(EXAMPLES / "add_backbone.py"), folder=tmp_path)
    assert len(lines) == 5
    assert lines[0] == "(36, 46) -> (100, 74), 0.0 px off"
    name, error = lines[-1].split(": mean error ")
    assert name == "colour-pyramid"
    assert float(error.removesuffix(" px")) < 1.0
    assert not list(tmp_path.iterdir())


def test_adding_a_matcher(tmp_path):
    lines = run(str(EXAMPLES / "add_matcher.py"), folder=tmp_path)
    assert lines == [
        "(10, 12) -> (48, 25)",
        "(17, 25) -> (55, 38)",
        "(24, 16) -> (62, 29)",
        "numpy: 3 of 3 matches agree with the reference",
    ]


def test_the_added_matcher_agrees_with_the_reference(tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(EXAMPLES)!r})
import add_matcher, torch
from warpkit.coords import lattice_sites
from warpkit.match import create_matcher, matcher_names
from warpkit.types import DescriptorMap
assert "numpy" in matcher_names()
generator = torch.Generator().manual_seed(0)
a, b = (torch.randn(6, h, w, generator=generator) for h, w in ((3, 5), (4, 3)))
a[:, 1, 1] = b[:, 0, 2] = 0
query = DescriptorMap.covering(a, height=3, width=5)
key = DescriptorMap.covering(b, height=4, width=3)
sites = [lattice_sites(height=m.height, width=m.width) for m in (query, key)]
for k in (1, 3, 20):
    toy, truth = (
        create_matcher(name).search(query, key, *sites, k=k) for name in ("numpy", "reference")
    )
    assert torch.equal(toy.index, truth.index)
    torch.testing.assert_close(toy.similarity, truth.similarity)
    print(tuple(toy.index.shape), int(toy.found.sum()))
"""
    assert run("-c", code, folder=tmp_path) == ["(15, 1) 14", "(15, 3) 42", "(15, 20) 154"]
