"""Points that go through a clip with masks: the same as alone, and the same after any kill."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import warpkit
from warpkit.describe.extractor import ModelDescriber
from warpkit.io.points import PointQueries, read_tracks
from warpkit.io.whole import Partial
from warpkit.render import CLIPS, render_frame
from warpkit.types import DescriptorMap
from warpkit.video.config import PropagateSettings
from warpkit.video.run import run_propagate

COUNT, CUT = 14, 8
QUERIES = PointQueries(
    np.array([0, 0, 5, 9]), np.array([[20, 15], [30, 18], [25, 14], [22, 16]], np.float32)
)
CHUNK = PropagateSettings(chunk=3)
Run = Callable[..., Path]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of one clip, from `CUT` on of another, and masks of some of them."""
    folder = tmp_path_factory.mktemp("clip")
    (folder / "frames").mkdir()
    for t in range(COUNT):
        name = "fish" if t < CUT else "turtle"
        spec = CLIPS[name]
        frame = render_frame(type(spec)(**{**vars(spec), "height": 32, "width": 48}), t)
        warpkit.write_image(folder / f"frames/{t:03d}.png", frame.image)
        warpkit.write_labels(folder / f"mask{t}.png", (frame.labels > 0).astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def describer(model: warpkit.Model) -> Iterator[ModelDescriber]:
    """The model, which describes a batch of frames once: another batch is described anew."""
    real, kept = model.describer.describe_checked, {}

    def describe(images: Sequence[np.ndarray]) -> list[DescriptorMap]:
        key = tuple((image.shape, image.tobytes()) for image in images)
        if key not in kept:
            kept[key] = real(images)
        return list(kept[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.describer, "describe_checked", describe)
        yield model.describer


@pytest.fixture
def run(clip: Path, tmp_path: Path, describer: ModelDescriber) -> Run:
    def go(name: str, masks: tuple[int, ...] = (), **changes: Any) -> Path:
        given = {t: clip / f"mask{t}.png" for t in masks}
        options = {"points": QUERIES, "settings": CHUNK, "describer": describer, **changes}
        return run_propagate(clip / "frames", tmp_path / name, mask=given or None, **options)

    return go


def tracks(out: Path) -> np.ndarray:
    found = read_tracks(out / "points.npz")
    return np.concatenate([found.xy, found.visible[..., None]], axis=2)


@pytest.mark.parametrize("masks", [(0,), (5,), (0, CUT), (3, 12)])
def test_masks_do_not_move_points(run: Run, masks: tuple[int, ...]) -> None:
    """Neither where no mask is of the first frame, nor where a scene begins with a mask."""
    np.testing.assert_allclose(tracks(run("with", masks)), tracks(run("alone")), atol=0.02)


def kills(writes: int) -> Iterator[int]:
    return iter(range(1, writes + 1))


@pytest.mark.parametrize("masks", [(), (5,), (0, 6), (0, CUT)])
def test_a_run_killed_after_any_state_ends_the_same(
    run: Run, monkeypatch: pytest.MonkeyPatch, masks: tuple[int, ...]
) -> None:
    real, states = Partial.publish, [0]

    def publish(self: Partial) -> None:
        real(self)
        states[0] += self.path.name == "state.safetensors"
        if states[0] == stop[0]:
            states[0] += 1  # once
            raise KeyboardInterrupt

    stop = [-1]
    monkeypatch.setattr(Partial, "publish", publish)
    whole = run("whole", masks)
    written = states[0]
    assert written >= 5
    names = ("points.json", "points.npz", "frames.jsonl", "report.json")
    expected = {name: (whole / name).read_bytes() for name in names}
    for number in kills(written):
        states[0], stop[0] = 0, number
        with pytest.raises(KeyboardInterrupt):
            run(f"killed{number}", masks)
        stop[0] = -1
        out = run(f"killed{number}", masks)
        for name, content in expected.items():
            assert (out / name).read_bytes() == content, f"{name} after state {number}"


def test_an_update_keeps_the_points_of_the_finished_run(run: Run, clip: Path) -> None:
    out = run("updated", (0, 10))
    before = (out / "points.json").read_bytes()
    assert run("updated", (0, 6, 10), update=True) == out
    assert (out / "points.json").read_bytes() == before
    rows = (out / "frames.jsonl").read_text().splitlines()
    assert json.loads(rows[6])["given"]
    # Where they are gone they are followed anew.
    (out / "points.npz").unlink()
    run("updated", (0, 6, 10), update=True)
    assert tracks(out).shape == (4, COUNT, 3)
    np.testing.assert_allclose(tracks(out), tracks(run("alone")), atol=0.02)


def test_an_update_ends_where_a_cut_stops_it(run: Run) -> None:
    stops = PropagateSettings(chunk=3, cuts="stop")
    out = run("stopped", (0, 12), settings=stops, points=None)
    assert len(list((out / "masks").iterdir())) == CUT
    for _ in range(2):
        run("stopped", (0, 12), settings=stops, points=None, update=True)
        assert len(list((out / "masks").iterdir())) == CUT


def test_progress_is_told_of_frames_that_are_taken_over(run: Run) -> None:
    run("told", (0, 6), points=None)
    heard: list[int] = []
    run(
        "told",
        (0, 6),
        points=None,
        update=True,
        progress=lambda stage, done, total: heard.append(done),
    )
    assert heard == list(range(1, COUNT + 1))
