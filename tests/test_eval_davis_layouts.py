"""`eval davis` on clips annotated in part, and on predictions with ids of their own."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from warpkit.datasets.davis import read_davis
from warpkit.describe.options import ModelOptions
from warpkit.evaluate.commands.davis import EvalDavisSettings, run_eval_davis
from warpkit.evaluate.commands.table import run_eval_table
from warpkit.evaluate.davis import score_davis
from warpkit.io.masks import read_labels, write_labels

WIDTH, HEIGHT = 23, 17


def ids(t: int, *objects: int) -> np.ndarray:
    """Objects of 4 x 5 pixels below each other that go right by a pixel a frame."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    for row, i in enumerate(objects):
        labels[1 + 5 * row : 5 + 5 * row, 2 + t : 7 + t] = i
    return labels


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    """Eleven frames, of which 2, 4, 6, 8 are annotated; object 2 comes with frame 6."""
    for top in ("JPEGImages", "Annotations"):
        (tmp_path / top / "clip").mkdir(parents=True)
    for t in range(11):
        image = np.where(ids(t, 1) > 0, 200, 30).astype(np.uint8)
        Image.fromarray(image).convert("RGB").save(tmp_path / f"JPEGImages/clip/{t:05d}.jpg")
    for t in (2, 4, 6, 8):
        objects = (1,) if t < 6 else (1, 2)
        write_labels(tmp_path / f"Annotations/clip/{t:05d}.png", ids(t, *objects))
    return tmp_path


def test_a_clip_annotated_in_part(
    sparse: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "warpkit")
    result = run_eval_davis(
        sparse,
        output=tmp_path / "out",
        settings=EvalDavisSettings(baselines=("copy-first",), workers=1),
        options=ModelOptions(model="tiny", device="cpu", size=32),
    )
    assert "1 sequence, 7 frames" in caplog.text
    assert "id 2: after the first annotation, not scored" in caplog.text
    (copied,) = result["baselines"]
    # The mask of frame 2 in frames 4, 6, 8, two, four and six pixels further: 5 wide.
    assert copied["sequences"]["clip"]["frames_J"] == pytest.approx([1, 3 / 7, 1 / 9, 0])
    masks = tmp_path / "out/masks/copy-first/clip"
    assert sorted(path.name for path in masks.iterdir()) == [f"{t:05d}.png" for t in (2, 4, 6, 8)]
    assert np.array_equal(read_labels(masks / "00008.png"), ids(2, 1))
    run_eval_table([tmp_path / "out"], tmp_path / "table", published=False)
    assert "its worst frame 00004" in (tmp_path / "table/table.html").read_text()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({1: 127}, "hold id 127, which count for nothing: the annotations hold id 1"),
        ({1: 3, 0: 9}, "hold ids 3, 9, which count for nothing: the annotations hold id 1"),
        (
            {1: 1, 0: range(20, 27)},
            "hold ids 20, 21, 22, 23, 24, ... (7 of them), which count for nothing",
        ),
        ({1: 1}, None),
    ],
)
def test_ids_that_no_annotation_has(tmp_path: Path, given: dict, said: str | None) -> None:
    for top in ("JPEGImages/480p/c", "Annotations/480p/c", "predicted"):
        (tmp_path / top).mkdir(parents=True)
    for t in range(4):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / f"JPEGImages/480p/c/{t}.png")
        truth = ids(t, 1)
        write_labels(tmp_path / f"Annotations/480p/c/{t}.png", truth)
        predicted = np.where(truth > 0, given[1], 0).astype(np.uint8)
        others = np.atleast_1d(np.array(given.get(0, 0)))
        predicted[-1, : len(others)] = others
        Image.fromarray(predicted).save(tmp_path / f"predicted/{t}.png")
    sequences, _ = read_davis(tmp_path, year="2017")
    folders = {"c": tmp_path / "predicted"}
    report, problems, notes = score_davis(sequences, folders, workers=1)
    assert problems == []
    assert (given[1] == 1) == report.J
    assert len(notes) == (said is not None)
    assert said is None or said in notes[0]
    assert json.dumps(report.to_json())
