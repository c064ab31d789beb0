"""How good a run promises to be: what is measured on the way, predicted J, the first correction."""

from __future__ import annotations

import json
import math
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from warpkit.io.images import write_image
from warpkit.propagate.agreement import AGREEMENTS, AgreementMeter, Evidence, merge_agreement
from warpkit.propagate.held import held_by_grid
from warpkit.propagate.label_config import LabelConfig
from warpkit.types import DescriptorMap
from warpkit.video.calibration import COEFFICIENTS, ERROR, LISTED
from warpkit.video.predicted import INPUTS, assess, ceiling, inputs_of, predict
from warpkit.video.report import concerns

EXAMPLES = Path(__file__).parents[1] / "examples"
GOOD = {"decided": 0.95, "model": 0.8, "look": 0.9, "lead": 1.1, "found": 0.95, "alike": 0.9}
POOR = {"decided": 0.7, "model": 0.3, "look": 0.1, "lead": 0.4, "found": 0.4, "alike": 0.65}


def row(frame: int, area: int | None, measured: dict[str, float], **more: Any) -> dict[str, Any]:
    """A row of one object, absent where it has no area."""
    shown = area is not None
    return {
        "frame": frame,
        "name": f"{frame:05d}",
        "area": {"1": area} if shown else {},
        "confidence": {"1": 0.8} if shown else {},
        "frame_confidence": 0.8,
        "largest_piece": {"1": 1.0} if shown else {},
        "absent": [] if shown else [1],
        "given": False,
        "agreement": {"1": measured},
    } | more


def given(frame: int, area: int = 9000, held: float = 0.95) -> dict[str, Any]:
    first = row(frame, area, {}, given=True, held={"1": held})
    del first["agreement"]
    return first


def measured_of(values: torch.Tensor) -> dict[str, float]:
    return dict(zip(AGREEMENTS, values.tolist(), strict=True))


def test_what_is_measured_on_the_way():
    # The object's cells look like (1, 0), all others like (0, 1); in the frame it lies a cell on.
    cells, soft = torch.zeros(6, 8, 2), torch.zeros(2, 6, 8)
    cells[..., 1] = 1
    cells[1:4, 2:5] = torch.tensor([1.0, 0.0])
    soft[0, 1:4, 2:5] = 1
    meter = AgreementMeter()
    meter.annotate(cells, torch.zeros(6, 8), soft)
    moved, seen = cells.roll(1, dims=1), torch.full((2, 6, 8), -3.0)
    now = soft.roll(1, dims=2) * 0.8
    seen[0, 1:4, 3:8] = 3
    scores = torch.where(soft.roll(1, dims=2) > 0, 0.9, -0.7)
    found = meter.measure(moved, torch.zeros(6, 8), now, Evidence(scores, seen))
    one = measured_of(found[0])
    assert one["decided"] == pytest.approx(0.8)
    assert one["model"] == 1
    assert one["look"] == pytest.approx(9 / 15)
    assert one["lead"] == pytest.approx(1.6)
    assert one["found"] == 1
    assert one["alike"] == 1
    assert math.isnan(one["ways"])
    # The second object is nowhere.
    assert [v for k, v in measured_of(found[1]).items() if k != "ways"] == [0] * 6
    # Without evidence nothing is said of it; a mask beside the object holds none of its cells.
    beside = soft.roll(4, dims=2)
    bare = measured_of(meter.measure(moved, torch.zeros(6, 8), beside, Evidence())[0])
    assert all(math.isnan(bare[name]) for name in ("model", "look", "lead"))
    assert bare["found"] == 0
    assert bare["alike"] == 1


def test_both_ways_are_compared():
    ahead, back = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)
    ahead[0, :2], back[0, 1:3] = 1, 0.9
    rows = torch.full((1, 7), 0.4), torch.full((1, 7), 0.8)
    merged = merge_agreement((ahead, rows[0]), (back, rows[1]), share=0.25)[0]
    torch.testing.assert_close(merged[:-1], torch.full((6,), 0.5))
    assert merged[-1].item() == pytest.approx(4 / 12)


def test_the_grid_holds_blocks_and_loses_lines():
    frame = DescriptorMap.covering(torch.zeros(1, 8, 8), height=64, width=64)
    labels = np.zeros((64, 64), np.uint8)
    labels[16:48, 16:32] = 1  # whole cells
    labels[:, 50] = 2  # a line an eighth of a cell wide
    image = np.full((64, 64, 3), 90, np.uint8)
    config = LabelConfig(sharpen=0)
    block, line, absent = held_by_grid(labels, frame, image, [1, 2, 3], config).tolist()
    assert block > 0.85
    assert line == 0
    assert absent == 1


def test_inputs_are_those_of_the_nearest_annotated_frame():
    rows = [given(0, 1000, 0.8), *(row(n, 1000 * n, GOOD) for n in (2, 4, 6)), given(8, 4000, 0.9)]
    rows += [row(9, None, POOR)]
    found = inputs_of(rows)
    assert [sorted(one) for one in found] == [[], ["1"], ["1"], ["1"], [], []]
    assert found[1]["1"]["growth"] == pytest.approx(math.log(2))
    assert found[3]["1"]["growth"] == pytest.approx(math.log(1.5))
    assert found[3]["1"]["held"] == 0.9
    assert found[1]["1"]["distance"] == found[3]["1"]["distance"] == 0
    assert found[2]["1"]["change"] == pytest.approx(np.std(np.log([2, 4, 1.5])))
    assert set(INPUTS) <= found[1]["1"].keys()
    assert set(INPUTS) == set(COEFFICIENTS)


def test_what_the_grid_cannot_hold_bounds_the_prediction():
    inputs = inputs_of([given(0, 1000, 0.8), row(1, 1000, GOOD), row(2, 250, GOOD)])
    same, small = inputs[1]["1"], inputs[2]["1"]
    assert ceiling(same) == pytest.approx(0.8)
    # A fifth of the union is lost, a quarter of what is held; at a quarter of the area, all of it.
    assert ceiling(small) == pytest.approx(0.5)
    assert ceiling({**same, "growth": math.log(4)}) == pytest.approx(1 / (1 + 0.25 / 2))
    assert predict(small) < 0.5
    assert 0.7 < predict(same) < 0.8


def test_what_is_missing_takes_its_mean():
    full = inputs_of([given(0), row(1, 9000, GOOD)])[1]["1"]
    without = {name: value for name, value in full.items() if name != "look"}
    mean = COEFFICIENTS["look"][0]
    assert predict(without) == pytest.approx(predict({**full, "look": mean}))
    assert predict(without) < predict(full)


def test_growth_without_a_jump_is_told_and_corrected_first():
    # The mask leaks over 36 frames to 2.9 times the object; no frame jumps, confidence holds.
    areas = np.geomspace(9034, 25794, 37).round().astype(int).tolist()
    rows = [given(0, areas[0])]
    for n in range(1, 60):
        share = min(n / 36, 1.0)
        measured = {k: (1 - share) * GOOD[k] + share * POOR[k] for k in GOOD}
        rows.append(row(n, areas[min(n, 36)], measured))
    found = assess(rows)
    low = [values["1"] for values in found.predicted[1:]]
    assert low[0] > 0.8 and low[36] < 0.55
    assert set(range(36, 60)) <= set(found.listed)
    assert not {1, 2, 3, 4, 5} & set(found.listed)
    assert found.correction is not None
    assert 20 < found.correction.frame < 59
    first = found.correction.reasons[0]
    assert first.startswith("grows to 2.") and first.endswith("times the annotated size")
    assert f"annotate frame {found.correction.frame} first" in found.sentence
    first, *others = concerns(rows)
    assert first.frame == found.correction.frame
    assert first.reasons[0].startswith("annotate this frame first, for about +0.")
    told = [reason for concern in others for reason in concern.reasons]
    assert "object 1 grows to 2.9 times its annotated size" in told


def test_the_first_correction_is_where_the_loss_is():
    rows = [given(0)]
    rows += [row(n, 9000, POOR if 5 <= n < 8 else GOOD) for n in range(1, 10)]
    rows += [given(10), *(row(n, 9000, POOR if n >= 14 else GOOD) for n in range(11, 31))]
    assert 18 <= assess(rows).correction.frame <= 26  # of 17 poor frames, not of 3
    # Beyond a new scene an annotation reaches nothing.
    for n in range(14, 31):
        rows[n]["cut"] = True
    found = assess(rows).correction
    assert found.frame == 6
    # An annotated frame is none to correct, a frame without the object may be.
    assert assess([given(0), given(1)]).correction is None
    gone = assess([given(0), *(row(n, None, POOR) for n in range(1, 4))])
    assert gone.mean is None and gone.listed == ()
    assert gone.correction.frame == 2


def test_a_good_run_has_nothing_to_correct():
    rows = [given(0), *(row(n, 9000, GOOD) for n in range(1, 20))]
    found = assess(rows)
    assert found.correction is None and found.listed == ()
    assert found.mean > 0.85
    assert found.sentence.startswith(f"predicted mean J {found.mean:.2f}")
    assert f"no frame is predicted to be under {LISTED:.2f}" in found.sentence
    assert concerns(rows) == []


def test_rows_of_other_ways_predict_nothing():
    rows = [given(0), *(row(n, 9000, GOOD) for n in range(1, 4))]
    for one in rows[1:]:
        del one["agreement"]
    found = assess(rows)
    assert found.mean is None and found.sentence == "" and found.correction is None


def test_reasons_name_the_object_where_there_are_several():
    rows = [given(0), row(1, 9000, GOOD)]
    rows[0]["area"]["2"] = rows[1]["area"]["2"] = 50
    rows[1]["agreement"]["2"] = POOR
    rows[1]["confidence"]["2"] = 0.3
    rows[1]["largest_piece"]["2"] = 0.6
    found = assess(rows)
    assert found.predicted[1]["2"] < found.predicted[1]["1"] - ERROR
    assert all(reason.startswith("object 2: ") for reason in found.reasons[1])


def test_the_calibration_is_fitted_again(tmp_path, monkeypatch, capsys):
    """What was measured is kept, and what is written of it is a module that predicts."""
    kept = []
    for clip in range(4):
        rows: list[dict[str, Any]] = [given(0, 100, 0.9)]
        truth = [{"1": 1.0}]
        for n in range(1, 30):
            good = 0.5 + 0.5 * math.sin(n + clip)
            rows.append(row(n, 100, dict.fromkeys(GOOD, 0.4 + 0.5 * good)))
            truth.append({"1": 0.3 + 0.5 * good})
        kept.append(json.dumps({"name": f"clip{clip}", "rows": rows, "J": truth}))
    (tmp_path / "kept.jsonl").write_text("\n".join(kept) + "\n")
    for part in ("JPEGImages", "Annotations"):
        (tmp_path / part / "480p" / "measured").mkdir(parents=True)
    for n in range(3):
        picture, mask = np.full((32, 48, 3), 60, np.uint8), np.zeros((32, 48), np.uint8)
        picture[8:20, 10 + n : 24 + n], mask[8:20, 10 + n : 24 + n] = (240, 220, 40), 255
        name = f"480p/measured/{n:05d}"
        write_image(tmp_path / f"JPEGImages/{name}.jpg", picture)
        write_image(tmp_path / f"Annotations/{name}.png", mask)
    out = tmp_path / "calibration.py"
    options = ("--kept", str(tmp_path / "kept.jsonl"), "-o", str(out), "--model", "tiny")
    monkeypatch.setattr(sys, "argv", ["calibrate_report.py", str(tmp_path), *options])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # given back, the script sets it
    runpy.run_path(str(EXAMPLES / "calibrate_report.py"), run_name="__main__")
    told = capsys.readouterr().out
    *_, measured = (tmp_path / "kept.jsonl").read_text().splitlines()
    assert json.loads(measured)["name"] == "measured"
    assert [0.2 < j["1"] <= 1 for j in json.loads(measured)["J"]] == [True] * 3
    assert set(json.loads(measured)["rows"][1]["agreement"]["1"]) == set(GOOD)
    assert "| clip3 | 0.5" in told and "100 % of" in told
    made = runpy.run_path(str(out))
    assert set(made["COEFFICIENTS"]) == set(INPUTS)
    assert sum(made["COEFFICIENTS"][name][3] for name in GOOD) > 0.5
    assert made["ERROR"] < 0.1
    assert 0.4 < made["LISTED"] < 0.75
