"""`warpkit eval pck` and `eval warp` with coherent fields: results, columns, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from warpkit.checks import InputError
from warpkit.datasets.dhf import write_dhf_json
from warpkit.datasets.pair import AnnotatedPair
from warpkit.describe.options import ModelOptions
from warpkit.evaluate.commands.pck import EvalPckSettings, run_eval_pck
from warpkit.evaluate.commands.warp import EvalWarpSettings, _describer_field, run_eval_warp
from warpkit.evaluate.field_errors import FieldTruth, field_error, score_fields
from warpkit.evaluate.field_quality import PairQuality
from warpkit.evaluate.predict import PairPrediction
from warpkit.evaluate.sets.field_sets import field_truths
from warpkit.evaluate.tables import as_markdown, merge_tables, result_table
from warpkit.io.images import write_image
from warpkit.match.settings import MatchFilters
from warpkit.types import DescriptorMap

Cli = Callable[..., Any]
FIGURES = PairQuality(0.75, 0.5, 0.25, 2.0, 1.0, 0.5, True)
REFINED = MatchFilters(subpixel=True)
SMALL = ModelOptions(device="cpu", model="tiny", size=32)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Two pairs of windows of one picture, six pixels apart in x and four in y."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    picture = np.kron(noise, np.ones((8, 8, 1), np.uint8))
    corners = {"a": (6, 4), "b": (0, 0)}
    root = tmp_path / "set"
    root.mkdir()
    for name, (x, y) in corners.items():
        write_image(root / f"{name}.png", picture[y : y + 80, x : x + 112].copy())
    inside = np.float32([[20 + 6 * i, 20 + 4 * i] for i in range(10)])
    ends = {name: inside - np.float32(corner) for name, corner in corners.items()}
    box = (10.0, 10.0, 70.0, 60.0)
    made = [
        AnnotatedPair(root / f"{s}.png", root / f"{t}.png", ends[s], ends[t], box, box, "x")
        for s, t in (("a", "b"), ("b", "a"))
    ]
    write_dhf_json(root / "pairs.json", made, root)
    return root


# --- pck -------------------------------------------------------------------------------------


def test_pck_by_fields_of_the_command_line(cli: Cli, pairs: Path, tmp_path: Path) -> None:
    arguments = (
        "eval", "pck", "dhf-json", "--root", pairs, "--device", "cpu", "--model", "tiny",
        "--size", "32", "--field", "auto", "--boxes", "--pairs", "1",
        "--baselines", "identity,rgb-patches", "--cache", tmp_path / "cache",
    )  # fmt: skip
    ran = cli(*arguments, "-o", tmp_path / "out", small=False)
    assert ran.code == 0, ran.err
    result = json.loads((tmp_path / "out/result.json").read_text())
    assert {key: result["config"][key] for key in ("field", "mirror", "boxes")} == {
        "field": "auto",
        "mirror": "auto",
        "boxes": True,
    }
    assert "12 % of its longer side around it (uses the annotation)" in result["candidates"]
    assert result["title"].endswith("candidates in boxes of annotated points")
    identity, patches = result["baselines"]
    assert identity["quality"] is None
    assert patches["pck"]["0.1"]["box"]["per_point"] == 100
    assert patches["pck_dagger"]["0.1"]["image"]["per_point"] == 100
    quality = patches["quality"]
    assert quality["pairs"] == 1
    assert quality["mirrored"] == 0
    assert quality["taken"] in (0, 1)
    assert quality["cosine"] > 0.8
    for row in (result, patches):
        assert set(row["quality"]) == {"pairs", *FIGURES.to_json()}
    assert "| tiny, auto |" in ran.out
    assert "| identity |" in ran.out
    heading = next(line for line in ran.out.splitlines() if line.startswith("| method"))
    assert heading.endswith(
        "| PCK-dagger@0.1 (box, points) | s / pair | MB | cosine | inside, % | folds, %"
        " | SD of log area | inverse error, px | mirrored, % | field taken, % |"
    )
    assert "Candidates: in both images only the extent" in ran.out
    # From the cache the same figures come back, and none is solved again.
    ran = cli(*arguments, "--json", tmp_path / "again.json", small=False)
    assert ran.code == 0, ran.err
    again = json.loads((tmp_path / "again.json").read_text())
    for key in ("pck", "pck_dagger", "quality", "seconds_per_pair", "scored"):
        assert again[key] == result[key]
    # And from the file of predictions.
    run = run_eval_pck(
        "dhf-json",
        pairs,
        predictions=tmp_path / "out/predictions/tiny.json",
        settings=EvalPckSettings(pairs=1),
        options=SMALL,
    )
    assert run["quality"] == result["quality"]


def test_field_mirror_and_boxes_are_part_of_what_is_cached(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str, bool]] = []

    def fake(_: Any, listed: Sequence[AnnotatedPair], **options: Any) -> Any:
        asked.append((options["field"], options["coherent"].mirror, options["boxes"]))
        for pair in listed:
            yield PairPrediction(pair, pair.target_points, 80, 112, 0.5, FIGURES)

    monkeypatch.setattr("warpkit.evaluate.commands.pck.predict_pairs", fake)

    def run(**options: Any) -> dict[str, Any]:
        config = EvalPckSettings(**options)
        return run_eval_pck(
            "dhf-json", pairs, cache=tmp_path / "cache", settings=config, options=SMALL
        )

    digests = []
    for options in (
        {},
        {"field": "coherent"},
        {"field": "auto"},
        {"field": "coherent", "mirror": "never"},
        {"field": "coherent", "boxes": True},
        {"boxes": True},
    ):
        result = run(**options)
        assert result["quality"] == {"pairs": 2, **FIGURES.to_json()}
        digests.append(result["scored"])
    assert asked == [
        ("nearest", "auto", False),
        ("coherent", "auto", False),
        ("auto", "auto", False),
        ("coherent", "never", False),
        ("coherent", "auto", True),
        ("nearest", "auto", True),
    ]
    # With and without boxes are different contests; the fields are not.
    assert len(set(digests[:4])) == 1
    assert len(set(digests[4:])) == 1
    assert digests[0] != digests[4]
    again = run(field="coherent")
    assert (again["candidates"], again["quality"]) == (None, {"pairs": 2, **FIGURES.to_json()})
    assert len(asked) == 6


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (EvalPckSettings, {"field": "coherant"}, "unknown field 'coherant'.*Did you mean"),
        (EvalPckSettings, {"field": "auto", "filters": REFINED}, "'subpixel' refines nearest"),
        (EvalPckSettings, {"filters": MatchFilters(mutual=True)}, "scores every match"),
        (EvalWarpSettings, {"filters": MatchFilters(max_pairs=5)}, "scores every match"),
        (EvalPckSettings, {"mirror": "never"}, "'mirror' is an option of coherent fields"),
        (EvalPckSettings, {"field": "coherent", "mirror": "no"}, "unknown mirror 'no'"),
        (EvalWarpSettings, {"field": "auto"}, "unknown field 'auto'"),
        (EvalWarpSettings, {"mirror": "always"}, "'mirror' is an option of coherent fields"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    config: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        config(**options)


# --- warp ------------------------------------------------------------------------------------


class PlaceDescriber:
    """Descriptors that name the place by its colour: red grows to the right, green downwards."""

    name = "places"

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def describe(self, images: Sequence[np.ndarray]) -> list[DescriptorMap]:
        maps = []
        for image in images:
            self.seen.append(image)
            angles = torch.from_numpy(image[..., :2].copy()).float().permute(2, 0, 1) / 100
            data = torch.cat([torch.cos(angles), torch.sin(angles)])
            maps.append(DescriptorMap.covering(data, height=image.shape[0], width=image.shape[1]))
        return maps


def shifted() -> FieldTruth:
    """A target that shows the source five pixels to the left and three up."""
    y, x = np.mgrid[:44, :56]
    wide = np.stack([4 * x, 4 * y, 0 * x], axis=-1).astype(np.uint8)
    source, target = wide[:36, :48].copy(), wide[3:39, 5:53].copy()
    source_xy = np.stack([x + 5, y + 3], axis=-1).astype(np.float32)[:36, :48]
    known = np.zeros((36, 48), bool)
    known[6:30, 6:40] = True
    target_mask = np.zeros_like(known)
    target_mask[4:32, 4:42] = True
    source_mask = np.zeros_like(known)
    source_mask[7:35, 9:47] = True
    return FieldTruth("shifted", "x", source, target, source_xy, known, source_mask, target_mask)


@pytest.mark.parametrize("masks", [True, False])
def test_coherent_fields_are_scored_wherever_the_truth_is_known(masks: bool) -> None:
    truth, describer = shifted(), PlaceDescriber()
    config = EvalWarpSettings(field="coherent", masks=masks)
    found = _describer_field(describer, config)(truth)
    np.testing.assert_array_equal(describer.seen[2], truth.source[:, ::-1])
    # Filled inside the mask that was given, or everywhere.
    shown = truth.target_mask if masks else np.ones_like(truth.known)
    np.testing.assert_array_equal(found.shown, shown)
    assert found.valid is not None
    assert not (found.valid & ~found.shown).any()
    error = field_error(
        truth, found.source_xy, found.shown, valid=found.valid, quality=found.quality
    )
    assert error.covered.all()
    assert error.distance.mean() < 0.5
    assert found.quality is not None
    assert found.quality.cosine > 0.999
    assert found.quality.taken is None


def test_without_mirroring_only_the_pair_is_described() -> None:
    describer = PlaceDescriber()
    config = EvalWarpSettings(field="coherent", mirror="never", masks=True)
    found = _describer_field(describer, config)(shifted())
    assert len(describer.seen) == 2
    assert found.quality is not None
    assert found.quality.mirrored is False


def test_nearest_neighbours_stay_inside_a_given_mask() -> None:
    truth = shifted()
    far = truth.source.copy()
    far[0, 0] = truth.target[20, 20]  # the same colour outside the source's mask, and first
    truth = FieldTruth(
        "far", "x", far, truth.target, truth.source_xy, truth.known,
        truth.source_mask, truth.target_mask,
    )  # fmt: skip
    free = _describer_field(PlaceDescriber(), EvalWarpSettings())(truth)
    held = _describer_field(PlaceDescriber(), EvalWarpSettings(masks=True))(truth)
    assert free.source_xy[20, 20].tolist() == [0, 0]
    assert held.source_xy[20, 20].tolist() == [25, 23]
    assert (held.valid, held.quality) == (None, None)


def test_valid_pixels_stand_beside_coverage() -> None:
    truth = shifted()
    everywhere = np.ones_like(truth.known)
    trusted = everywhere.copy()
    trusted[:18] = False  # half of the known rows, 6 to 29
    one = field_error(truth, truth.source_xy, everywhere, valid=trusted)
    other = field_error(truth, truth.source_xy, trusted)
    report = score_fields([one], alphas=(0.1,))
    assert (report.coverage, report.valid, report.epe) == (100, 50, 0)
    report = score_fields([other], alphas=(0.1,))
    assert (report.coverage, report.valid) == (50, 50)
    assert score_fields([one, other], alphas=(0.1,)).to_json()["valid"] == 50
    with pytest.raises(InputError, match="the predicted field must be"):
        field_error(truth, truth.source_xy, everywhere, valid=trusted[1:])
    with pytest.raises(InputError, match="a mask must have the size of its image, 36 x 48"):
        FieldTruth(
            "bad", "x", truth.source, truth.target, truth.source_xy, truth.known,
            source_mask=trusted[1:],
        )  # fmt: skip


def test_clips_carry_the_masks_of_both_frames() -> None:
    truth = next(iter(field_truths("clips", None, count=1, problems=[])))
    assert truth.source_mask is not None
    assert truth.target_mask is not None
    assert truth.source_mask.shape == truth.source.shape[:2]
    # What is scored lies on the objects, and shows an object of the source.
    assert not (truth.known & ~truth.target_mask).any()
    assert truth.target_mask.sum() >= truth.known.sum() > 0
    x, y = np.floor(truth.source_xy[truth.known] + 0.5).astype(int).T
    assert truth.source_mask[y, x].mean() > 0.98


def test_sets_without_masks_have_none_to_give(cli: Cli, pairs: Path) -> None:
    with pytest.raises(InputError, match="the set 'known' has no object masks to give"):
        run_eval_warp("known", pairs, settings=EvalWarpSettings(masks=True), options=SMALL)
    ran = cli("eval", "warp", "known", "--root", pairs, "--masks", small=False)
    assert "the set 'known' has no object masks to give" in ran.messages[0]


def test_warp_reports_the_fields_figures(cli: Cli, pairs: Path, tmp_path: Path) -> None:
    ran = cli(
        "eval", "warp", "known", "--root", pairs, "--pairs", "1", "--field", "coherent",
        "--mirror", "never", "--device", "cpu", "--model", "tiny", "--size", "32",
        "--baselines", "identity", "--json", tmp_path / "r.json", small=False,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    result = json.loads((tmp_path / "r.json").read_text())
    assert (result["config"]["field"], result["masks"]) == ("coherent", None)
    assert result["coverage"] == 100
    assert 0 <= result["valid"] <= 100
    assert result["quality"]["pairs"] == 1
    assert result["quality"]["mirrored"] == 0
    assert result["quality"]["taken"] is None
    (identity,) = result["baselines"]
    assert (identity["quality"], identity["valid"]) == (None, 100)
    assert "| tiny, coherent |" in ran.out
    heading = next(line for line in ran.out.splitlines() if line.startswith("| method"))
    assert heading.endswith(
        "| covered, % | valid, % | s / pair | cosine | inside, % | folds, % | SD of log area"
        " | inverse error, px | mirrored, % |"
    )


# --- tables ----------------------------------------------------------------------------------


def result(field: str, value: float, quality: dict[str, Any] | None) -> dict[str, Any]:
    """A result of one method with one number everywhere, and an identity row."""

    def table(number: float) -> dict[str, Any]:
        return {"0.1": {t: {"per_point": number, "per_image": number} for t in ("image", "box")}}

    row = {"interval": {}, "seconds_per_pair": 0.5, "memory_mb": None}
    other = {"method": "identity", "pck": table(5.0), "pck_dagger": table(4.0), **row}
    return {
        "kind": "pck", "dataset": "cub", "title": "A set", "threshold": "box", "method": "ours",
        "pairs": 2, "points": 3, "left_out": [], "scored": "ab", "pck": table(value),
        "pck_dagger": table(value - 1), "quality": quality, "baselines": [other],
        "config": {"field": field}, **row,
    }  # fmt: skip


def test_rows_of_all_fields_share_a_table() -> None:
    figures = {"pairs": 2, **FIGURES.to_json(), "mirrored": 0.5}
    tables = [
        result_table(result("nearest", 40.0, None)),
        result_table(result("coherent", 50.0, figures)),
        result_table(result("auto", 45.0, figures | {"taken": 0.25})),
    ]
    assert "cosine" not in tables[0].columns
    assert "field taken, %" not in tables[1].columns
    (table,) = merge_tables(tables)
    assert table.columns == tables[2].columns
    lines = as_markdown(table).splitlines()
    # The identity row, which all three have, stands once.
    assert lines[4:8] == [
        "| ours | 40.0 | 40.0 | 40.0 | 40.0 | 39.0 | 0.500 |  |  |  |  |  |  |  |  |",
        "| identity | 5.0 | 5.0 | 5.0 | 5.0 | 4.0 | 0.500 |  |  |  |  |  |  |  |  |",
        "| ours, coherent | **50.0** | **50.0** | **50.0** | **50.0** | **49.0** | 0.500 |  "
        "| 0.750 | 50.0 | 1.00 | 0.50 | 2.0 | 50.0 |  |",
        "| ours, auto | 45.0 | 45.0 | 45.0 | 45.0 | 44.0 | 0.500 |  "
        "| 0.750 | 50.0 | 1.00 | 0.50 | 2.0 | 50.0 | 25.0 |",
    ]
    assert "PCK-dagger: correct, and no other point's true place is nearer." in lines
