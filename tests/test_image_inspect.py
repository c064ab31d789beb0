"""`warpkit inspect`, `eval sweep` and `bench extract`: numbers, files, refusals."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Ran

import warpkit
from warpkit import viz
from warpkit.bench.extract import BenchExtractSettings, bench_extract
from warpkit.checks import InputError
from warpkit.datasets.dhf import write_dhf_json
from warpkit.datasets.pair import AnnotatedPair
from warpkit.describe import load_extractor
from warpkit.describe.options import ModelOptions
from warpkit.evaluate.commands.sweep import SweepSettings, run_sweep, sweep_pairs
from warpkit.image.inspect import layer_label
from warpkit.types import DescriptorMap

Cli = Callable[..., Ran]

has_matplotlib = importlib.util.find_spec("matplotlib") is not None


# --- inspect ------------------------------------------------------------------------------------


def test_inspect_writes_pictures_and_numbers(cli: Cli, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = cli("inspect", files / "frames/000.png", files / "frames/003.png", "-o", out)
    assert (ran.code, ran.messages) == (0, [])
    names = ["mixing.png", "pca.png", "layers-000.png", "layers-003.png"]
    assert ran.out.splitlines() == [f"open {out / name}" for name in names]
    assert sorted(path.name for path in out.iterdir()) == sorted([*names, "inspect.json"])
    record = json.loads((out / "inspect.json").read_text())
    weights = np.array(record["mixing"]["weights"])
    network = load_extractor("tiny", device="cpu").network
    expected = 100 * torch.softmax(network.mixing_weights.double(), 0)  # type: ignore[union-attr]
    np.testing.assert_allclose(weights.flatten(), expected.numpy(), rtol=1e-5)
    assert sum(record["mixing"]["per_layer"]) == pytest.approx(100)
    largest = record["mixing"]["largest"][0]
    assert largest["percent"] == pytest.approx(weights.max())
    assert largest["layer"] == record["layers"][int(weights[0].argmax())]["name"]
    for image in record["descriptors"]:
        one, two, three = image["variance"]
        assert 1 >= one >= two >= three > 0
    assert len(record["maps"]) == 2
    for maps in record["maps"].values():
        assert [item["layer"] for item in maps] == [layer["name"] for layer in record["layers"]]
        assert {item["timestep"] for item in maps} == {-1}


def test_inspect_of_the_weights_alone(cli: Cli, files: Path, tmp_path: Path) -> None:
    assert cli("inspect", "-o", tmp_path / "a").code == 0
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["inspect.json", "mixing.png"]
    image = files / "frames/000.png"
    assert cli("inspect", image, "--no-layers", "-o", tmp_path / "b").code == 0
    assert "layers-000.png" not in {p.name for p in (tmp_path / "b").iterdir()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "missing.png"], "no such file"),
        (["eval", "sweep", "cub", "--root", "x", "--steps", "4,a"], "--steps must be numbers"),
        (["eval", "sweep", "cub", "--root", "x", "--steps", "4,2"], "steps must increase within"),
        (["eval", "sweep", "cub", "--root", "x", "--fit", "pad"], "stretches images"),
    ],
)
def test_inspect_and_sweep_refuse(
    cli: Cli, tmp_path: Path, arguments: list[str], message: str
) -> None:
    ran = cli(*arguments, "-o", tmp_path / "out", small=False)
    assert ran.code == 2
    assert message in ran.err
    assert list(tmp_path.iterdir()) == []


def test_labels_of_layers() -> None:
    assert layer_label("up_blocks.1.resnets.0.conv2") == "1.0"
    assert layer_label("block.9.key") == "block.9.key"


# --- sweep --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of two pairs, each an image and itself, and the images."""
    folder = tmp_path_factory.mktemp("pairs")
    listed = []
    for seed, (height, width) in enumerate([(64, 64), (48, 80)]):
        generator = np.random.default_rng(seed)
        coarse = generator.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        path = folder / f"{seed}.png"
        warpkit.write_image(path, np.kron(coarse, np.ones((8, 8, 1), np.uint8)))
        points = generator.uniform(4, [width - 5, height - 5], (6, 2)).astype(np.float32)
        box = (0.0, 0.0, float(width), float(height))
        listed.append(AnnotatedPair(path, path, points, points, box, box, "thing"))
    write_dhf_json(folder / "pairs.json", listed, folder)
    return folder


SMALL = SweepSettings(steps=(0, 4), alphas=(0.1, 0.02))
OPTIONS = ModelOptions(model="tiny", device="cpu", size=64, batch_size=2)


def test_sweep_scores_every_layer_timestep_and_mode(pairs: Path, tmp_path: Path) -> None:
    config = replace(SMALL, models=("tiny",))
    table = run_sweep("dhf-json", pairs, tmp_path / "out", settings=config, options=OPTIONS)
    record = json.loads((tmp_path / "out/sweep.json").read_text())
    layers = load_extractor("tiny", device="cpu").backbone.spec.layers
    found = {(row["mode"], row["layer"], row["timestep"]) for row in record["rows"]}
    times = {"inversion": (-1, 60), "noised": (0, 80)}
    assert found == {
        (mode, layer.name, t) for mode, both in times.items() for t in both for layer in layers
    }
    assert len(record["rows"]) == len(found)
    # An image is matched to itself: fine layers find every point to within their cells, for which
    # 64 cells are fine enough.
    clean = [row for row in record["rows"] if row["timestep"] == -1]
    assert all(row["pck"]["0.1"] >= row["pck"]["0.02"] for row in clean)
    assert max(row["pck"]["0.02"] for row in clean) == 100
    assert all(line.count("|") == 7 for line in table.splitlines() if line.startswith("|"))
    pictures = {"layers.png", "models.png"} if has_matplotlib else set()
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"sweep.json", "sweep.md", *pictures}


def test_noise_of_the_sweep_is_the_seeds(pairs: Path) -> None:
    extractor = load_extractor("tiny", device="cpu", size=64, fit="stretch")
    path = pairs / "0.png"
    point = np.array([[9.0, 50.0], [30.0, 31.0], [55.0, 5.0]], np.float32)
    box = (0.0, 0.0, 64.0, 64.0)
    # Against its mirror image, so that something depends on the noise.
    mirrored = pairs / "mirrored.png"
    warpkit.write_image(mirrored, warpkit.read_image(path)[:, ::-1].copy())
    target = np.abs(point - np.float32([63, 0]))
    pair = AnnotatedPair(path, mirrored, point, target, box, box, "")

    def swept(seed: int) -> list[dict[str, float]]:
        config = replace(
            SMALL, modes=("noised",), steps=(20, 40), seed=seed, alphas=(0.02, 0.05, 0.1, 0.3)
        )
        rows = sweep_pairs(
            extractor,
            [pair],
            name="tiny",
            threshold="box",
            settings=config,
            batch_size=2,
            problems=[],
        )
        return [row.pck for row in rows]

    assert swept(0) == swept(0)
    assert swept(0) != swept(1)


def test_a_pair_that_cannot_be_read_is_listed(pairs: Path, tmp_path: Path) -> None:
    extractor = load_extractor("tiny", device="cpu", size=64, fit="stretch")
    points, box = np.array([[9.0, 50.0]], np.float32), (0.0, 0.0, 64.0, 64.0)
    good, bad = pairs / "0.png", tmp_path / "gone.png"
    listed = [AnnotatedPair(good, other, points, points, box, box, "") for other in (bad, good)]
    problems: list[str] = []
    config = replace(SMALL, modes=("inversion",), steps=(0,))

    def sweep(pairs: list[AnnotatedPair]) -> None:
        sweep_pairs(
            extractor,
            pairs,
            name="t",
            threshold="box",
            settings=config,
            batch_size=2,
            problems=problems,
        )

    sweep(listed)
    assert len(problems) == 1
    assert "gone.png" in problems[0]
    with pytest.raises(InputError, match="no pair of the data set could be read"):
        sweep(listed[:1])


# --- bench extract ------------------------------------------------------------------------------


def test_bench_extract_measures_every_way(cli: Cli, tmp_path: Path) -> None:
    arguments = ("--steps", "1,5", "--batches", "1", "--set", "repeats=1")
    ran = cli("bench", "extract", *arguments, "-o", tmp_path / "out", "--json", tmp_path / "j.json")
    assert ran.code == 0
    record = json.loads((tmp_path / "out/bench.json").read_text())
    assert json.loads((tmp_path / "j.json").read_text()) == record
    found = {(row["way"], row["steps"], row["batch"]) for row in record["rows"]}
    assert found == {(way, steps, 1) for way in ("plain", "streaming") for steps in (1, 5)}
    for row in record["rows"]:
        assert (row["input"], row["device"]) == ([32, 32], "cpu")
        assert row["seconds"] == row["seconds_per_image"]
        times = ("images_to_codec_ms", "unet_call_ms", "aggregate_step_ms", "first_seconds")
        assert all(row[name] > 0 for name in times)
        if row["way"] == "streaming":
            assert row["agreement"] > 0.99999
    table = (tmp_path / "out/bench.md").read_text()
    assert table.strip() in ran.out
    assert (tmp_path / "out/bench.png").exists() == has_matplotlib


def test_bench_extract_goes_on_after_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = load_extractor("tiny", device="cpu", size=32)
    encode = type(extractor.backbone.codec).encode  # type: ignore[attr-defined]

    def full(self: object, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, images)

    monkeypatch.setattr(type(extractor.backbone.codec), "encode", full)  # type: ignore[attr-defined]
    config = BenchExtractSettings(steps=(1,), batches=(2, 1), ways=("plain",), repeats=1)
    rows = bench_extract(extractor, config)
    assert [(row.batch, row.seconds is None) for row in rows] == [(1, False), (2, True)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "1,x"], "--steps must be numbers"),
        (["--steps", "51"], "steps must be numbers in 1..50"),
        (["--batches", "0"], "batches must be numbers in 1..512"),
        (["a.png"], "bench extract takes no images"),
        (["--set", "ways=[fast]"], "way of running"),
        (["--set", "ways=[compile]"], "need a CUDA GPU"),
        (["--model", "efficientnet-lite0"], ""),
    ],
)
def test_bench_extract_refuses(
    cli: Cli, tmp_path: Path, arguments: list[str], message: str
) -> None:
    ran = cli("bench", "extract", *arguments, "-o", tmp_path / "out")
    assert ran.code == 2
    assert message in ran.err
    assert list(tmp_path.iterdir()) == []


# --- pictures -----------------------------------------------------------------------------------


def test_a_heat_table_colours_cells_and_not_sums() -> None:
    values = np.array([[0.0, 5.0], [10.0, 0.0], [2.5, 1.0]])
    names = {"rows": ["a", "b", "c"], "columns": ["x", "y"], "title": "t"}
    plain, sums = (viz.heat_table(values, **names, sums=flag) for flag in (False, True))
    lightest = viz.scale_colors(np.array(1.0))
    for picture in (plain, sums):
        assert int((picture == lightest).all(-1).sum()) > 500
    assert sums.shape[0] > plain.shape[0]
    # Whatever the sums are, the largest entry stays the lightest, and there is one of it.
    darkest = int((plain == viz.scale_colors(np.array(0.0))).all(-1).sum())
    assert int((sums == viz.scale_colors(np.array(0.0))).all(-1).sum()) == darkest
    with pytest.raises(InputError, match="needs as many values"):
        viz.heat_table(values, rows=["a"], columns=["x", "y"], title="t")


def test_pca_shares_are_those_of_the_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(5, 6, 7, generator=generator)
    one = DescriptorMap.covering(data, height=12, width=14)
    rows = torch.nn.functional.normalize(data.double(), dim=0).flatten(1).T.numpy()
    variance = np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2
    np.testing.assert_allclose(viz.pca_shares(one), variance[:3] / variance.sum(), rtol=1e-9)
    wide = DescriptorMap.covering(data.reshape(70, 1, 3), height=2, width=6)
    assert sum(viz.pca_shares(wide)) == pytest.approx(1)


@pytest.mark.skipif(not has_matplotlib, reason="needs matplotlib")
def test_curves_have_a_panel_each_and_every_line() -> None:
    points = [(p, line, x, x * n) for p in "ab" for n, line in enumerate("xyz") for x in (1.0, 2.0)]
    both = viz.plot_curves(points, "title", across="x", up="y")
    one = viz.plot_curves(points[:6], "title", across="x", up="y")
    assert both.dtype == np.uint8
    assert both.shape[1] > one.shape[1]
    for number in range(3):
        colour = viz.scale_colors(np.array(0.85 * number / 2)).astype(int)
        assert int((np.abs(both.astype(int) - colour).max(-1) < 3).sum()) > 50
