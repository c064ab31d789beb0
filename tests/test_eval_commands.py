"""`warpkit eval`: the commands, what they write, and what they refuse."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from warpkit.checks import InputError
from warpkit.datasets.dhf import write_dhf_json
from warpkit.datasets.pair import AnnotatedPair
from warpkit.describe.options import ModelOptions
from warpkit.evaluate.commands.pck import EvalPckSettings, run_eval_pck
from warpkit.evaluate.commands.table import run_eval_table
from warpkit.evaluate.prediction_files import relative_name
from warpkit.evaluate.sets.pair_sets import PAIR_SETS, PairSetOptions, read_pair_set
from warpkit.evaluate.tables import (
    as_html,
    as_markdown,
    merge_tables,
    published_rows,
    result_table,
)
from warpkit.io.images import read_image, write_image
from warpkit.io.masks import write_labels
from warpkit.match.settings import MatchFilters
from warpkit.render import CLIPS, render_frame

Cli = Callable[..., Any]
SMALL = ("--device", "cpu", "--model", "tiny", "--size", "32", "--no-cache")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Four pairs among three windows of one picture, in the DHF form; exact points."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    picture = np.kron(noise, np.ones((8, 8, 1), np.uint8))
    corners = {"a": (6, 4), "b": (0, 0), "c": (12, 10)}
    root = tmp_path / "set"
    root.mkdir()
    for name, (x, y) in corners.items():
        write_image(root / f"{name}.png", picture[y : y + 80, x : x + 112].copy())
    inside = np.float32([[20 + 6 * i, 20 + 4 * i] for i in range(10)])

    def end(name: str) -> tuple[Path, np.ndarray, tuple[float, float, float, float]]:
        points = inside - np.float32(corners[name])
        low, high = points.min(axis=0), points.max(axis=0)
        return root / f"{name}.png", points, (*map(float, low), *map(float, high))

    made = []
    for source, target, category in (("a", "b", "x"), ("b", "a", "x"), ("a", "c", "y")):
        one, two = end(source), end(target)
        made.append(AnnotatedPair(one[0], two[0], one[1], two[1], one[2], two[2], category))
    write_dhf_json(root / "pairs.json", made, root)
    return root


def evaluate(cli: Cli, *arguments: object) -> Any:
    kind, *rest = arguments
    return cli("eval", kind, *SMALL, *rest, small=False)


def test_pck_of_the_model_and_baselines(cli: Cli, pairs: Path, tmp_path: Path) -> None:
    ran = evaluate(
        cli, "pck", "dhf-json", "--root", pairs, "--baselines", "identity,rgb-patches",
        "--alpha", "0.05,0.1", "--json", tmp_path / "r.json", "-o", tmp_path / "out",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    result = json.loads((tmp_path / "r.json").read_text())
    assert result == json.loads((tmp_path / "out" / "result.json").read_text())
    assert (result["pairs"], result["points"]) == (3, 30)
    assert result["method"] == "tiny"
    assert set(result["pck"]) == {"0.05", "0.1"}
    assert set(result["per_category"]) == {"x", "y"}
    assert result["left_out"] == []
    assert result["seconds_per_pair"] > 0
    assert result["config"]["alphas"] == [0.05, 0.1]
    identity, patches = result["baselines"]
    # The windows are 7.2 and 8.5 pixels apart; L is the box's longer side, 54.
    assert identity["pck"]["0.1"]["box"]["per_point"] == 0
    assert identity["pck"]["0.1"]["image"] == {"per_point": 100, "per_image": 100}
    assert patches["pck"]["0.1"]["box"]["per_point"] == 100
    files = sorted(path.name for path in (tmp_path / "out" / "predictions").iterdir())
    assert files == ["identity.json", "rgb-patches.json", "tiny.json"]
    assert "| rgb-patches |" in ran.out
    assert "100.0 [100.0, 100.0]" in ran.out


def test_predictions_of_anybody_score_the_same(cli: Cli, pairs: Path, tmp_path: Path) -> None:
    evaluate(cli, "pck", "dhf-json", "--root", pairs, "-o", tmp_path / "ours")
    ran = evaluate(
        cli, "pck", "dhf-json", "--root", pairs,
        "--predictions", tmp_path / "ours/predictions/tiny.json", "--json", tmp_path / "again.json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    first = json.loads((tmp_path / "ours/result.json").read_text())
    again = json.loads((tmp_path / "again.json").read_text())
    for key in ("method", "pck", "interval", "per_category", "pairs"):
        assert first[key] == again[key]


def test_pairs_are_listed_to_be_predicted(cli: Cli, pairs: Path, tmp_path: Path) -> None:
    ran = evaluate(cli, "pck", "dhf-json", "--root", pairs, "--write-pairs", tmp_path / "list.json")
    assert ran.out.startswith("3 pairs listed")
    listed = json.loads((tmp_path / "list.json").read_text())["pairs"]
    assert [(e["source"], e["target"], e["category"]) for e in listed] == [
        ("a.png", "b.png", "x"),
        ("b.png", "a.png", "x"),
        ("a.png", "c.png", "y"),
    ]
    ran = evaluate(cli, "pck", "dhf-json", "--root", pairs, "--write-pairs", tmp_path / "list.json")
    assert ran.code == 2
    assert "list.json exists" in ran.err


def break_it(root: Path) -> list[str]:
    """Add one item of every broken kind; returns what the report must say of each."""
    file = root / "pairs.json"
    items = json.loads(file.read_text())
    good = items[0]
    image = (root / "c.png").read_bytes()
    (root / "cut.png").write_bytes(image[: len(image) // 2])
    (root / "text.png").write_text("no image")
    items += [
        dict(good, source_path="missing.png"),
        dict(good, target_path="text.png"),
        dict(good, target_path="cut.png"),
        {key: value for key, value in good.items() if key != "target_points"},
        dict(good, source_points=good["source_points"][:3]),
        dict(good, target_bounding_box=[5, 5, 5, 5]),
        good,
        dict(
            good,
            source_points=[[500, 5], *good["source_points"][1:]],
            category="outside",
        ),
    ]
    items = [*items[3:6], *items[:3], *items[6:]]  # broken ones stand between good ones
    file.write_text(json.dumps(items))
    return [
        "missing.png",
        "text.png",
        "cut.png",
        "'target_points' is missing",
        "one to one",
        "positive side",
        "came before",
        "1 point of 10 outside",
    ]


def test_broken_items_are_listed_and_change_nothing_else(
    cli: Cli, pairs: Path, tmp_path: Path
) -> None:
    arguments = ("pck", "dhf-json", "--root", pairs, "--baselines", "identity")
    evaluate(cli, *arguments, "--json", tmp_path / "clean.json")
    reasons = break_it(pairs)
    ran = evaluate(cli, *arguments, "--json", tmp_path / "broken.json")
    assert ran.code == 0, ran.err
    clean = json.loads((tmp_path / "clean.json").read_text())
    broken = json.loads((tmp_path / "broken.json").read_text())
    assert len(broken["left_out"]) == len(reasons)
    for reason in reasons:
        assert sum(reason in line for line in broken["left_out"]) == 1, reason
        assert reason in ran.err
    # The pair that lost a point is a category of its own; the rest is as it was.
    assert broken["per_category"]["outside"]["points"] == 9
    for one, other in (
        (clean, broken),
        (clean["baselines"][0], broken["baselines"][0]),
    ):
        for category in ("x", "y"):
            assert one["per_category"][category] == other["per_category"][category]


def test_a_drawn_subset_does_not_depend_on_broken_items(pairs: Path) -> None:
    def drawn(count: int) -> set[tuple[str, str]]:
        found = read_pair_set("dhf-json", pairs, count=count, seed=4).pairs
        return {(p.source_path.name, p.target_path.name) for p in found}

    before = {count: drawn(count) for count in (1, 2)}
    assert before[1] < before[2]
    file = pairs / "pairs.json"
    items = json.loads(file.read_text())
    broken = dict(items[0], source_path="missing.png")
    file.write_text(json.dumps([broken, *items]))
    assert {count: drawn(count) for count in (1, 2)} == before


def test_a_changed_configuration_is_predicted_again(pairs: Path, tmp_path: Path) -> None:
    def run(size: int, **changes: Any) -> dict[str, Any]:
        return run_eval_pck(
            "dhf-json",
            pairs,
            cache=tmp_path / "cache",
            settings=EvalPckSettings(**changes),
            options=ModelOptions(device="cpu", model="tiny", size=size),
        )

    def stored() -> int:
        return len(list((tmp_path / "cache" / "predictions").glob("tiny-*.jsonl")))

    first = run(size=32)
    assert stored() == 1
    assert run(size=32)["pck"] == first["pck"]
    assert run(size=32, alphas=(0.01,), seed=3)["pairs"] == 3
    assert stored() == 1
    run(size=64)
    assert stored() == 2
    run(size=32, filters=MatchFilters(subpixel=True))
    assert stored() == 3


def test_a_second_run_predicts_nothing(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ModelOptions(device="cpu", model="tiny", size=32)
    first = run_eval_pck("dhf-json", pairs, cache=tmp_path, options=options)

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("predicted again")

    monkeypatch.setattr("warpkit.evaluate.commands.pck.predict_pairs", refuse)
    again = run_eval_pck("dhf-json", pairs, cache=tmp_path, options=options)
    assert again["pck"] == first["pck"]
    assert again["seconds_per_pair"] == first["seconds_per_pair"]
    with pytest.raises(AssertionError, match="predicted again"):
        run_eval_pck("dhf-json", pairs, cache=None, options=options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--baselines", "identiti"), "unknown baseline 'identiti'.*Did you mean 'identity'"),
        (("--alpha", "a"), "--alpha must be numbers"),
        (("--alpha", "0"), "fractions of the longer side above 0"),
        (("--alpha", "0.1,0.1"), "different fractions"),
        (("--seed", "-1"), "a seed is a whole number from 0"),
        (("--pairs", "9"), "has 3 usable pairs"),
        (("--species", "4"), "'species' is an option of cub"),
        (("--split", "test"), "'split' is an option of spair71k"),
        (("--predictions", "none.json"), "no predictions at none.json"),
        (("--model", "tinny"), "tinny"),
    ],
)
def test_bad_options_are_one_line(
    cli: Cli, pairs: Path, arguments: tuple[str, ...], message: str
) -> None:
    ran = evaluate(cli, "pck", "dhf-json", "--root", pairs, *arguments)
    assert ran.code == 2
    assert re.search(message, ran.messages[-1])


def test_the_command_line_knows_the_data_sets(cli: Cli, tmp_path: Path) -> None:
    for name in PAIR_SETS:
        ran = evaluate(cli, "pck", name, "--root", tmp_path / "none")
        assert ran.code == 2
        assert "no such folder" in ran.err
    with pytest.raises(InputError, match="unknown data set 'spair'"):
        read_pair_set("spair", tmp_path)
    with pytest.raises(InputError, match="cub has no split 'val'"):
        read_pair_set("cub", tmp_path, options=PairSetOptions(split="val"))


def test_inputs_are_never_replaced(cli: Cli, pairs: Path, tmp_path: Path) -> None:
    file = pairs / "pairs.json"
    before = file.read_bytes()
    common = ("pck", "dhf-json", "--root", pairs, "--overwrite")
    assert "is an input" in evaluate(cli, *common, "--write-pairs", file).err
    assert "is an input" in evaluate(cli, *common, "--json", pairs / "a.png").err
    evaluate(cli, "pck", "dhf-json", "--root", pairs, "-o", tmp_path / "out")
    mine = tmp_path / "out/predictions/tiny.json"
    kept = mine.read_bytes()
    scored = (*common, "--predictions", mine)
    assert "is an input" in evaluate(cli, *scored, "--json", mine).err
    assert "is an input" in evaluate(cli, *scored, "-o", tmp_path / "out").err
    assert (file.read_bytes(), mine.read_bytes()) == (before, kept)


def test_what_cannot_be_written_is_refused_before_the_work(
    cli: Cli, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the work began")

    monkeypatch.setattr("warpkit.evaluate.commands.pck.read_pair_set", refuse)
    for arguments in (("-o", pairs), ("--json", pairs / "pairs.json")):
        ran = evaluate(cli, "pck", "dhf-json", "--root", pairs, *arguments)
        assert ran.code == 2
        assert "exists" in ran.err


def test_a_method_called_like_a_baseline_is_refused(cli: Cli, pairs: Path, tmp_path: Path) -> None:
    evaluate(cli, "pck", "dhf-json", "--root", pairs, "-o", tmp_path / "out")
    file = tmp_path / "out/predictions/tiny.json"
    file.write_text(file.read_text().replace('"tiny"', '"identity"'))
    ran = evaluate(
        cli, "pck", "dhf-json", "--root", pairs, "--predictions", file, "--baselines", "identity"
    )
    assert ran.code == 2
    assert "two rows would be called 'identity'" in ran.err


def test_links_and_their_targets_have_their_own_names(pairs: Path, tmp_path: Path) -> None:
    """A set of links draws the same pairs as the set itself, and names its own files."""
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in pairs.iterdir():
        (linked / path.name).symlink_to(path)
    drawn = [
        [(p.source_path.name, p.target_path.name) for p in
         read_pair_set("dhf-json", root, count=2, seed=3).pairs]
        for root in (pairs, linked)
    ]  # fmt: skip
    assert drawn[0] == drawn[1]
    (one, *_) = read_pair_set("dhf-json", linked).pairs
    assert relative_name(one.source_path, linked) == "a.png"


# --- clips -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def davis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rendered clips of five frames in DAVIS's layout."""
    root = tmp_path_factory.mktemp("davis")
    for name in ("fish", "jellyfish"):
        spec = replace(CLIPS[name], height=48, width=80)
        for folder in ("JPEGImages", "Annotations"):
            (root / folder / "480p" / name).mkdir(parents=True)
        for t in range(5):
            frame = render_frame(spec, 2 * t)
            write_image(root / f"JPEGImages/480p/{name}/{t:05d}.jpg", frame.image)
            write_labels(root / f"Annotations/480p/{name}/{t:05d}.png", frame.labels)
    return root


def test_davis_scores_the_model_baselines_and_a_folder(
    cli: Cli, davis: Path, tmp_path: Path
) -> None:
    ran = evaluate(
        cli, "davis", "--root", davis, "--baselines", "copy-first,dis-flow", "--workers", "1",
        "-o", tmp_path / "out",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    result = json.loads((tmp_path / "out/result.json").read_text())
    assert set(result["sequences"]) == {"fish", "jellyfish"}
    assert [row["method"] for row in result["baselines"]] == ["copy-first", "dis-flow"]
    assert 0 < result["mean"]["JF"] <= 1
    assert "| dis-flow |" in ran.out
    again = evaluate(
        cli, "davis", "--root", davis, "--predictions", tmp_path / "out/masks/tiny",
        "--workers", "1", "--json", tmp_path / "again.json",
    )  # fmt: skip
    assert again.code == 0, again.err
    second = json.loads((tmp_path / "again.json").read_text())
    assert second["mean"] == result["mean"]
    assert second["sequences"] == result["sequences"]


def test_a_perfect_folder_of_masks_scores_one(cli: Cli, davis: Path, tmp_path: Path) -> None:
    ran = evaluate(
        cli, "davis", "--root", davis, "--predictions", davis / "Annotations/480p",
        "--all-frames", "--sequences", "fish", "--workers", "1", "--json", tmp_path / "r.json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["mean"]["JF"] == 1
    assert result["mean"]["J_recall"] == 1
    assert set(result["sequences"]) == {"fish"}


def test_masks_are_kept_between_runs_until_something_changes(
    cli: Cli, davis: Path, tmp_path: Path
) -> None:
    root = tmp_path / "davis"
    shutil.copytree(davis, root)
    arguments = ("eval", "davis", "--root", root, "--workers", "1", "--device", "cpu",
                 "--model", "tiny", "--size", "32", "--cache", tmp_path / "cache",
                 "--sequences", "fish")  # fmt: skip

    def folders() -> int:
        return len([p for p in (tmp_path / "cache/masks").glob("*/*") if p.is_dir()])

    for expected in (1, 1):
        assert cli(*arguments, small=False).code == 0
        assert folders() == expected
    assert cli(*arguments, "--set", "label.top_k=3", small=False).code == 0
    assert folders() == 2
    frame = root / "JPEGImages/480p/fish/00003.jpg"
    write_image(frame, 255 - read_image(frame))
    assert cli(*arguments, small=False).code == 0
    assert folders() == 3


def test_a_sequence_with_a_broken_frame_is_left_out(cli: Cli, davis: Path, tmp_path: Path) -> None:
    root = tmp_path / "davis"
    shutil.copytree(davis, root)
    (root / "JPEGImages/480p/fish/00003.jpg").write_text("no image")
    both = [evaluate(cli, "davis", "--root", r, "--workers", "1", "--json", tmp_path / f"{n}.json")
            for n, r in enumerate((davis, root))]  # fmt: skip
    assert [ran.code for ran in both] == [0, 0]
    whole, broken = (json.loads((tmp_path / f"{n}.json").read_text()) for n in range(2))
    assert set(broken["sequences"]) == {"jellyfish"}
    assert broken["sequences"]["jellyfish"] == whole["sequences"]["jellyfish"]
    assert any("sequence 'fish'" in line for line in broken["left_out"])


def test_predictions_of_a_part_are_refused_and_rows_share_their_sequences(
    cli: Cli, davis: Path, tmp_path: Path
) -> None:
    shutil.copytree(davis / "Annotations/480p/fish", tmp_path / "pred/fish")
    arguments = ("davis", "--root", davis, "--workers", "1", "--predictions", tmp_path / "pred")
    ran = evaluate(cli, *arguments, "--baselines", "copy-first")
    assert ran.code == 2
    assert "do not cover the data set: sequence 'jellyfish'" in ran.err
    ran = evaluate(cli, *arguments, "--baselines", "copy-first", "--sequences", "fish",
                   "--json", tmp_path / "r.json")  # fmt: skip
    assert ran.code == 0, ran.err
    result = json.loads((tmp_path / "r.json").read_text())
    for row in (result, *result["baselines"]):
        assert set(row["sequences"]) == {"fish"}


def test_damaged_masks_in_the_cache_are_made_again(cli: Cli, davis: Path, tmp_path: Path) -> None:
    arguments = ("eval", "davis", "--root", davis, "--workers", "1", "--device", "cpu",
                 "--model", "tiny", "--size", "32", "--cache", tmp_path / "cache",
                 "--sequences", "fish", "--overwrite", "--json", tmp_path / "r.json")  # fmt: skip
    assert cli(*arguments, small=False).code == 0
    first = json.loads((tmp_path / "r.json").read_text())["sequences"]
    (kept,) = (p for p in (tmp_path / "cache/masks").glob("*/*") if p.is_dir())

    def damage(number: int) -> None:
        if number == 0:
            (kept / "00002.png").unlink()
        elif number == 1:
            shutil.copyfile(kept / "00000.png", kept / "00003.png")
        elif number == 2:
            (kept / "manifest.json").write_text("")
        else:
            (kept / "manifest.json").unlink()

    for number in range(4):
        damage(number)
        ran = cli(*arguments, small=False)
        assert ran.code == 0, ran.err
        assert json.loads((tmp_path / "r.json").read_text())["sequences"] == first


# --- dense fields ----------------------------------------------------------------------------


def test_warp_scores_known_warps_of_any_images(cli: Cli, pairs: Path, tmp_path: Path) -> None:
    (pairs / "cut.png").write_bytes((pairs / "a.png").read_bytes()[:200])
    (pairs / "pairs.json").unlink()
    ran = evaluate_warp(cli, "--root", pairs, "--baselines", "identity,dis-flow",
                        "--json", tmp_path / "r.json")  # fmt: skip
    assert ran.code == 0, ran.err
    result = json.loads((tmp_path / "r.json").read_text())
    assert (result["dataset"], result["pairs"]) == ("known", 3)
    assert len(result["left_out"]) == 1
    assert result["coverage"] == 100
    identity = result["baselines"][0]
    assert identity["epe"] > 0
    # The same folder gives the same warps, whatever else is in it.
    (pairs / "b.png").unlink()
    evaluate_warp(cli, "--root", pairs, "--baselines", "identity", "--json", tmp_path / "s.json")
    fewer = json.loads((tmp_path / "s.json").read_text())["baselines"][0]
    assert fewer["pairs"] == 2
    assert fewer["epe"] != identity["epe"]


def evaluate_warp(cli: Cli, *arguments: object) -> Any:
    return cli(
        "eval",
        "warp",
        *arguments,
        "--device",
        "cpu",
        "--model",
        "tiny",
        "--size",
        "32",
        small=False,
    )


def test_warp_refuses_what_does_not_fit(cli: Cli, tmp_path: Path) -> None:
    for arguments, message in (
        (("clips", "--root", tmp_path), "leave --root out"),
        (("known",), "known needs --root"),
        (("--root", tmp_path), "holds no images"),
        (("--root", tmp_path / "none"), "is not a folder"),
    ):
        ran = evaluate_warp(cli, *arguments)
        assert ran.code == 2
        assert message in ran.err


# --- tables ----------------------------------------------------------------------------------


def test_a_table_of_results_with_pictures(
    cli: Cli, pairs: Path, davis: Path, tmp_path: Path
) -> None:
    evaluate(cli, "pck", "dhf-json", "--root", pairs, "--baselines", "identity", "-o",
             tmp_path / "pck")  # fmt: skip
    evaluate(cli, "davis", "--root", davis, "--workers", "1", "-o", tmp_path / "davis")
    ran = cli("eval", "table", tmp_path / "pck", tmp_path / "davis", "-o", tmp_path / "report",
              small=False)  # fmt: skip
    assert ran.code == 0, ran.err
    page = (tmp_path / "report/table.html").read_text()
    assert "No pictures" not in page
    shown = re.findall(r'<img src="([^"]+)"', page)
    assert len(shown) == 3 + 2
    for name in shown:
        assert read_image(tmp_path / "report" / name).shape[2] == 3
    assert "pair-best" in shown[0]
    text = (tmp_path / "report/table.md").read_text()
    assert text.count("| identity |") == 1
    # Without the images there is a table, and the page says what is missing.
    (pairs / "pairs.json").rename(pairs / "moved.txt")
    markdown = run_eval_table([tmp_path / "pck"], tmp_path / "second")
    assert markdown.split("###")[1].strip() == text.split("###")[1].strip()
    assert "No pictures" in (tmp_path / "second/table.html").read_text()


def test_best_values_are_bold_and_text_is_escaped() -> None:
    row = {
        "pck": {"0.1": {t: {"per_point": 50.0, "per_image": 50.0} for t in ("image", "box")}},
        "interval": {},
        "seconds_per_pair": 0.5,
        "memory_mb": None,
    }
    worse = {"0.1": {t: {"per_point": 40.0, "per_image": 60.0} for t in ("image", "box")}}
    result = {
        "kind": "pck", "title": "A <set>", "threshold": "box", "method": "ours", "pairs": 2,
        "points": 3, "left_out": ["x"], "scored": "ab", "config": {"size": 64}, **row,
        "baselines": [dict(row, method="a|b", pck=worse)],
    }  # fmt: skip
    table = result_table(result)
    text = as_markdown(table)
    assert "| ours | **50.0** | 50.0 | **50.0** | 50.0 | 0.500 |  |" in text
    assert "| a\\|b | 40.0 | **60.0** | 40.0 | **60.0** | 0.500 |  |" in text
    assert "Left out as broken: 1 item (listed" in text
    page = as_html(table)
    assert "A &lt;set&gt;" in page
    with pytest.raises(InputError, match="no result of 'warpkit eval'"):
        result_table({"kind": "pck", "title": "x", "baselines": []})


def small_result(size: int, value: float, scored: str = "ab") -> dict[str, Any]:
    """A result of one method with one number everywhere."""
    table = {"0.1": {t: {"per_point": value, "per_image": value} for t in ("image", "box")}}
    return {
        "kind": "pck", "dataset": "cub", "title": "A set", "threshold": "box", "method": "ours",
        "pairs": 2, "points": 3, "left_out": [], "scored": scored, "pck": table, "interval": {},
        "seconds_per_pair": value / 100, "memory_mb": None, "baselines": [],
        "config": {"size": size, "data": {"split": None}, "workers": size},
    }  # fmt: skip


def test_only_rows_scored_on_the_same_data_share_a_table() -> None:
    first, second = small_result(64, 40.0), small_result(96, 60.0)
    (table,) = merge_tables([result_table(first), result_table(second)])
    # Told apart by the setting that differs, and the best of both is bold, not of each.
    assert [row.method for row in table.rows] == ["ours (size=64)", "ours (size=96)"]
    text = as_markdown(table)
    assert "| ours (size=64) | 40.0 |" in text
    assert "| ours (size=96) | **60.0** |" in text
    # The same row measured twice is one row, whatever its time.
    again = dict(first, seconds_per_pair=9.0)
    (table,) = merge_tables([result_table(first), result_table(again)])
    assert [row.method for row in table.rows] == ["ours"]
    tables = merge_tables([result_table(first), result_table(small_result(64, 40.0, "cd"))])
    assert len(tables) == 2


def test_published_rows_stand_below_results_of_their_data() -> None:
    for datasets, expected in ((["cub"], False), (["dhf-json"], True), (["davis-2016"], False)):
        table = published_rows(datasets)
        assert (table is not None) == expected
        if table is not None:
            assert "(published)" in as_markdown(table)
            assert "**" not in as_markdown(table)


def test_other_files_are_no_results(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    for path, message in (
        (tmp_path / "x.json", "is no result of 'warpkit eval'"),
        (tmp_path, "no result at"),
    ):
        ran = cli("eval", "table", path, "-o", tmp_path / "out", small=False)
        assert ran.code == 2
        assert message in ran.err
    assert not (tmp_path / "out").exists()
