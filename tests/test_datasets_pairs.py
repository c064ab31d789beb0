"""Readers of annotated pairs, on small trees in each data set's own layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from warpkit.checks import InputError
from warpkit.datasets.cub import read_cub_index
from warpkit.datasets.dhf import read_dhf_json
from warpkit.datasets.pair import AnnotatedPair
from warpkit.datasets.pf_willow import read_pf_willow


def make_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30)).save(path)


# --- the container ---------------------------------------------------------------------------


def make_pair(**changes: Any) -> AnnotatedPair:
    points = np.array([[1, 2], [3, 4]], np.float32)
    fields: dict[str, Any] = {
        "source_path": Path("a.png"),
        "target_path": Path("b.png"),
        "source_points": points,
        "target_points": points,
        "source_box": (0, 0, 9, 9),
        "target_box": (0, 0, 9, 9),
        "category": "cat",
    }
    return AnnotatedPair(**{**fields, **changes})


def test_pair_counts_its_points() -> None:
    assert len(make_pair()) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_points": np.zeros((3, 2), np.float32)}, "one to one, got 2 and 3"),
        ({"source_points": np.zeros((2, 2))}, "source_points must be float32"),
        ({"source_points": np.zeros((0, 2), np.float32)}, "N >= 1"),
        ({"target_points": np.full((2, 2), np.nan, np.float32)}, "target_points must be finite"),
        ({"target_box": (5, 0, 4, 9)}, "target_box must be"),
        ({"source_box": (5, 5, 5, 5)}, "source_box must be .* positive side"),
    ],
)
def test_pair_refuses_what_cannot_be_scored(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_pair(**changes)


# --- DHF JSON --------------------------------------------------------------------------------


def dhf_item(**changes: Any) -> dict[str, Any]:
    return {
        "source_path": "a.jpg",
        "target_path": "sub/b.jpg",
        "source_points": [[3, 20], [14.5, 7]],
        "target_points": [[4, 21], [15, 8.25]],
        "source_bounding_box": [2, 1, 37, 25],
        "target_bounding_box": [1, 2, 30, 29],
        "category": "dog",
        "mirror": 0,
        **changes,
    }


def write_dhf(folder: Path, items: Any) -> Path:
    make_image(folder / "a.jpg")
    make_image(folder / "sub/b.jpg")
    path = folder / "pairs.json"
    path.write_text(json.dumps(items))
    return path


def test_dhf_json(tmp_path: Path) -> None:
    pairs, problems = read_dhf_json(write_dhf(tmp_path, [dhf_item()]), tmp_path)
    assert problems == []
    (pair,) = pairs
    assert pair.target_path == tmp_path / "sub/b.jpg"
    assert pair.source_points.dtype == np.float32
    assert pair.target_points.tolist() == [[4, 21], [15, 8.25]]
    assert pair.target_box == (1, 2, 30, 29)
    assert pair.category == "dog"


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"source_path": "gone.jpg"}, "gone.jpg is missing"),
        ({"source_points": [[1, 2]]}, "one to one"),
        ({"source_points": []}, "'source_points' must be a list"),
        ({"source_points": [[1, 2], [3]]}, "'source_points' must be a list"),
        ({"source_points": [[1, None], [2, 3]]}, "source_points must be finite"),
        ({"target_bounding_box": [1, 2, 3]}, r"must be \[x1, y1, x2, y2\]"),
        ({"category": 7}, "'category' must be text"),
    ],
)
def test_dhf_json_lists_broken_items(tmp_path: Path, broken: dict[str, Any], message: str) -> None:
    path = write_dhf(tmp_path, [dhf_item(), dhf_item(**broken), dhf_item(category="cat")])
    pairs, problems = read_dhf_json(path, tmp_path)
    assert [pair.category for pair in pairs] == ["dog", "cat"]
    assert len(problems) == 1
    assert "item 1" in problems[0]
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(problems[0])


def test_dhf_json_missing_key_and_wrong_kind(tmp_path: Path) -> None:
    lacking = dhf_item()
    del lacking["target_points"]
    _, problems = read_dhf_json(write_dhf(tmp_path, [dhf_item(), lacking, 5]), tmp_path)
    assert problems[0].endswith("item 1: 'target_points' is missing")
    assert problems[1].endswith("item 2: must be a JSON object, got int")


def test_dhf_json_refuses_other_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must hold a JSON list of pairs, got dict"):
        read_dhf_json(write_dhf(tmp_path, {"pairs": []}), tmp_path)
    with pytest.raises(InputError, match=r"no usable pair in .*it holds none"):
        read_dhf_json(write_dhf(tmp_path, []), tmp_path)
    with pytest.raises(InputError, match="no such file"):
        read_dhf_json(tmp_path / "none.json", tmp_path)
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(InputError, match="is not valid JSON"):
        read_dhf_json(tmp_path / "text.json", tmp_path)


# --- PF-WILLOW -------------------------------------------------------------------------------


def make_willow(root: Path) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    coordinates = {}
    for name in ("car(S)/c2", "car(S)/c1", "car(S)/c3", "duck(S)/d1", "duck(S)/d2"):
        make_image(root / f"{name}.png")
        coordinates[name] = generator.random((2, 10)) * 30
        savemat(root / f"{name}.mat", {"pts_coord": coordinates[name]})
    return coordinates


def test_pf_willow_takes_all_ordered_pairs_within_a_folder(tmp_path: Path) -> None:
    coordinates = make_willow(tmp_path)
    pairs, problems = read_pf_willow(tmp_path)
    assert problems == []
    names = [(p.category, p.source_path.stem, p.target_path.stem) for p in pairs]
    assert names == [
        ("car(S)", "c1", "c2"),
        ("car(S)", "c1", "c3"),
        ("car(S)", "c2", "c1"),
        ("car(S)", "c2", "c3"),
        ("car(S)", "c3", "c1"),
        ("car(S)", "c3", "c2"),
        ("duck(S)", "d1", "d2"),
        ("duck(S)", "d2", "d1"),
    ]
    expected = coordinates["car(S)/c2"].astype(np.float32)
    np.testing.assert_array_equal(pairs[0].target_points, expected.T)
    x, y = expected
    assert pairs[0].target_box == (x.min(), y.min(), x.max(), y.max())


def test_pf_willow_lists_broken_annotations(tmp_path: Path) -> None:
    make_willow(tmp_path)
    (tmp_path / "car(S)/c1.mat").unlink()
    (tmp_path / "car(S)/c2.mat").write_bytes(b"not a mat file")
    savemat(tmp_path / "duck(S)/d1.mat", {"pts_coord": np.zeros((2, 9))})
    make_image(tmp_path / "duck(S)/d3.png")
    savemat(tmp_path / "duck(S)/d3.mat", {"pts_coord": np.full((2, 10), 4.0)})
    make_image(tmp_path / "duck(S)/d4.png")
    savemat(tmp_path / "duck(S)/d4.mat", {"pts_coord": np.arange(20.0).reshape(2, 10)})
    pairs, problems = read_pf_willow(tmp_path)
    assert [(p.source_path.stem, p.target_path.stem) for p in pairs] == [("d2", "d4"), ("d4", "d2")]
    assert len(problems) == 4
    assert "c1.mat is missing" in problems[0]
    assert "c2.mat is not a readable .mat file" in problems[1]
    assert "'pts_coord' (2, 10), got float64 (2, 9)" in problems[2]
    assert "coincide" in problems[3]


def test_pf_willow_refuses_other_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no usable pair"):
        read_pf_willow(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        read_pf_willow(tmp_path / "none")


# --- CUB index -------------------------------------------------------------------------------


def make_cub(root: Path) -> Path:
    """Species 4 and 7 with three images each, species 9 with one; part 2 is never seen."""
    items = []
    for number, folder in ((4, "004.Ani"), (7, "007.Auklet"), (9, "009.Blackbird")):
        for i in range(3 if number != 9 else 1):
            name = f"{folder}/{folder[4:]}_{i}.jpg"
            make_image(root / name)
            points = [[number, i], [10 + i, 20], [0, 0], [5, 6 + i]]
            items.append(
                {
                    "id": len(items),
                    "file": name,
                    "species": number,
                    "box": [1, 2, 30 + i, 25],
                    "kps": points,
                    "vis": [1, int(i != 2), 0, 1],
                }
            )
    path = root / "birds.json"
    path.write_text(json.dumps({"parts": ["beak", "back", "tail", "nape"], "items": items}))
    return path


def names(pairs: list[AnnotatedPair]) -> list[tuple[str, str]]:
    return [(p.source_path.stem, p.target_path.stem) for p in pairs]


def test_cub_pairs_of_one_species(tmp_path: Path) -> None:
    path = make_cub(tmp_path)
    pairs, problems = read_cub_index(path, [4, 7], pairs=12, seed=0, pairing="same")
    assert problems == []
    assert len(set(names(pairs))) == 12  # 2 species x 3 x 2 ordered pairs: all of them
    assert {p.category for p in pairs} == {"004.Ani", "007.Auklet"}
    assert all(p.source_path.parent == p.target_path.parent for p in pairs)
    one = next(p for p in pairs if names([p]) == [("Ani_0", "Ani_2")])
    assert one.source_points.tolist() == [[4, 0], [5, 6]]  # part 1 is hidden in image 2
    assert one.target_points.tolist() == [[4, 2], [5, 8]]
    assert one.target_box == (1, 2, 32, 25)
    both = next(p for p in pairs if names([p]) == [("Ani_0", "Ani_1")])
    assert both.source_points.tolist() == [[4, 0], [10, 20], [5, 6]]


def test_cub_pairs_across_species(tmp_path: Path) -> None:
    pairs, _ = read_cub_index(make_cub(tmp_path), [4, 7], pairs=18, seed=0, pairing="cross")
    assert len(set(names(pairs))) == 18
    assert all(p.source_path.parent != p.target_path.parent for p in pairs)
    assert {p.category for p in pairs} == {"cross-species"}


def test_cub_draw_follows_the_seed_and_takes_a_folder(tmp_path: Path) -> None:
    path = make_cub(tmp_path)

    def draw(where: Path, seed: int) -> list[tuple[str, str]]:
        return names(read_cub_index(where, [4, 7], pairs=6, seed=seed, pairing="same")[0])

    assert draw(path, 1) == draw(tmp_path, 1)
    assert draw(path, 1) != draw(path, 2)


def test_cub_lists_broken_items_and_refuses_too_many(tmp_path: Path) -> None:
    path = make_cub(tmp_path)
    index = json.loads(path.read_text())
    index["items"][0]["vis"] = [1, 1, 0]
    (tmp_path / index["items"][1]["file"]).unlink()
    (tmp_path / index["items"][6]["file"]).unlink()  # of a species nobody asked for
    path.write_text(json.dumps(index))
    with pytest.raises(InputError, match="has only 6 same-species pairs of species 4, 7"):
        read_cub_index(path, [4, 7], pairs=7, seed=0, pairing="same")
    pairs, problems = read_cub_index(path, [4, 7], pairs=6, seed=0, pairing="same")
    assert len(pairs) == 6
    assert len(problems) == 2
    assert "item 0: 'kps' and 'vis'" in problems[0]
    assert "item 1: the image" in problems[1]
    with pytest.raises(InputError, match="no usable image of species 9; 1 item is broken"):
        read_cub_index(path, [9], pairs=1, seed=0, pairing="same")
    with pytest.raises(InputError, match="no usable image of species 8"):
        read_cub_index(path, [4, 8], pairs=1, seed=0, pairing="same")


def test_cub_pairs_of_any_species(tmp_path: Path) -> None:
    path = make_cub(tmp_path)
    pairs, _ = read_cub_index(path, pairs=7 * 6, seed=0, pairing="any")
    assert len(set(names(pairs))) == 42
    assert {p.category for p in pairs} == {"cross-species", "004.Ani", "007.Auklet"}
    for pair in pairs:
        one_species = pair.source_path.parent == pair.target_path.parent
        assert pair.category == (pair.source_path.parent.name if one_species else "cross-species")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"box": [5, 5, 5, 5]}, "item 0: box must be .* positive side"),
        ({"kps": [[None, 1], [1, 1], [1, 1], [1, 1]]}, "item 0: the points of visible parts"),
    ],
)
def test_cub_item_that_cannot_be_scored_spoils_no_draw(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = make_cub(tmp_path)
    index = json.loads(path.read_text())
    index["items"][0].update(changes)
    path.write_text(json.dumps(index))
    pairs, problems = read_cub_index(path, [4, 7], pairs=8, seed=0, pairing="same")
    assert not any("Ani_0" in pair for pair in names(pairs))
    assert len(problems) == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(problems[0])


def test_cub_refuses_other_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"exactly one \.json index, got 0"):
        read_cub_index(tmp_path, [4], pairs=1, seed=0, pairing="same")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(InputError, match="lists 'parts' and 'items'"):
        read_cub_index(tmp_path, [4], pairs=1, seed=0, pairing="same")
