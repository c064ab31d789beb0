"""Similarity maps, and jobs that are watched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import warpkit
from warpkit.checks import InputError
from warpkit.describe.options import ModelOptions
from warpkit.image.inspect import run_inspect
from warpkit.image.warp import run_warp
from warpkit.match.similarity import similarity_map
from warpkit.types import DescriptorMap
from warpkit.video.run import run_propagate
from warpkit.viz import draw_similarity, mark_point


def square(height: int = 60, width: int = 90) -> np.ndarray:
    image = np.full((height, width, 3), 40, np.uint8)
    image[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = (250, 200, 30)
    return image


def test_a_similarity_map_is_the_cosine_everywhere() -> None:
    generator = torch.Generator().manual_seed(0)
    source = DescriptorMap.covering(torch.randn(5, 4, 6, generator=generator), height=12, width=18)
    target = DescriptorMap.covering(torch.randn(5, 3, 7, generator=generator), height=3, width=7)
    found = similarity_map(source, target, [1.0, 4.0])  # the centre of cell (0, 1)
    query = source.data[:, 1, 0]
    for y in range(3):
        for x in range(7):
            expected = torch.cosine_similarity(query, target.data[:, y, x], dim=0)
            assert float(found[y, x]) == pytest.approx(float(expected), abs=1e-5)
    with pytest.raises(InputError, match="lies outside"):
        similarity_map(source, target, [18.0, 0.0])
    other = DescriptorMap.covering(torch.ones(4, 2, 2), height=2, width=2)
    with pytest.raises(InputError, match="5 and 4 channels"):
        similarity_map(source, other, [1.0, 1.0])


def test_a_similarity_is_drawn(cli: Callable, files: Path, tmp_path: Path) -> None:
    ran = cli(
        *("match", files / "frames/000.png", files / "frames/003.png", "--points", "30,20"),
        *("--similarity", tmp_path / "s.png", "-o", tmp_path / "m.json"),
    )
    assert ran.code == 0
    drawn = warpkit.read_image(tmp_path / "s.png")
    assert drawn.shape[1] > 2.5 * drawn.shape[0]
    with pytest.raises(InputError, match="they must agree"):
        draw_similarity(square(), square(), [1, 1], [1, 1], np.zeros((3, 3)))


def test_a_mark_is_where_the_point_is() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    marked = mark_point(image, [40, 20], height=64)
    rows, columns = np.nonzero(marked.any(axis=2))
    assert (rows.min() + rows.max()) / 2 == pytest.approx(20, abs=1)
    assert (columns.min() + columns.max()) / 2 == pytest.approx(40, abs=1)


class Stop(Exception):  # noqa: N818
    """Not an error of warpkit."""


def test_jobs_tell_their_steps_and_can_be_stopped(
    files: Path, tmp_path: Path, model: warpkit.Model
) -> None:
    heard: list[tuple[str, int, int | None]] = []

    def listen(stage: str, done: int, total: int | None) -> None:
        heard.append((stage, done, total))

    pair = (files / "frames/000.png", files / "frames/003.png")
    run_warp(*pair, tmp_path / "warp", describer=model.describer, progress=listen)
    assert [(done, total) for _, done, total in heard] == [(0, 3), (1, 3), (2, 3)]
    heard.clear()
    run_inspect(
        pair[:1],
        tmp_path / "inspect",
        options=ModelOptions(model="tiny", device="cpu", size=32),
        progress=listen,
    )
    assert heard == [("describing", 0, 2), ("drawing layers", 1, 2)]
    heard.clear()
    video = {"mask": files / "mask.png", "describer": model.describer}
    run_propagate(files / "frames", tmp_path / "video", progress=listen, **video)
    carried = [done for stage, done, _ in heard if stage == "propagating"]
    assert carried == sorted(carried)
    assert carried[-1] == 7
    assert heard[-1] == ("propagating", 7, 7)

    def stop(stage: str, done: int, total: int | None) -> None:
        if stage in ("matching pixels", "propagating"):
            raise Stop

    with pytest.raises(Stop):
        run_warp(*pair, tmp_path / "stopped", describer=model.describer, progress=stop)
    with pytest.raises(Stop):
        run_propagate(files / "frames", tmp_path / "stopped", progress=stop, **video)
    assert not (tmp_path / "stopped").exists()
    # As after an interruption, the same run goes on.
    run_propagate(files / "frames", tmp_path / "stopped", **video)
    for name in ("masks/00006.png", "frames.jsonl"):
        ours, whole = (tmp_path / run / name for run in ("stopped", "video"))
        assert ours.read_bytes() == whole.read_bytes()
