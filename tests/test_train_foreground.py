"""Training of the foreground head: runs, resuming, what is said of bad data and settings."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from outlined_pictures import rectangle, write_outlined, write_pictures
from safetensors import safe_open
from training_runs import assert_same_run, assert_same_weights, killed_and_resumed, rows

from warpkit.checks import InputError
from warpkit.features.efficientnet import EfficientNetBackbone
from warpkit.features.foreground import HINTS, ForegroundModel
from warpkit.io.images import read_image
from warpkit.train import foreground as module
from warpkit.train.foreground import ForegroundTrainConfig, train_foreground
from warpkit.train.foreground_config import LabelRound

ROOT = Path(__file__).parents[1]
STEPS = 5
FINISHED = "foreground-head.safetensors"
# An untrained head is never sure.
ANY = {"unsure": 1e9, "disagreement": 1.0, "area": (0.0, 1.0)}


@pytest.fixture(scope="module", autouse=True)
def one_classifier() -> Iterator[None]:
    """Loaded once for all runs: it is frozen."""
    backbone = EfficientNetBackbone(device=torch.device("cpu"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "EfficientNetBackbone", lambda device: backbone)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_outlined(tmp_path_factory.mktemp("data") / "outlined")


@pytest.fixture(scope="module")
def config(folder: Path) -> ForegroundTrainConfig:
    """All there is: pseudo-labels after steps 2 and 3, evaluations after 2, 4 and 5."""
    return ForegroundTrainConfig(
        data=folder,
        width=16,
        steps=STEPS,
        batch_size=4,
        learning_rate=1e-2,
        warmup=2,
        ema=0.5,
        shapes=((32, 32), (64, 32)),
        pseudo=0.5,
        rounds=(LabelRound(at=0.4, **ANY), LabelRound(at=0.6, **ANY)),
        held_out=2,
        evaluate_every=2,
        size=32,
        log_every=1,
        tracker="none",
        device="cpu",
    )


@pytest.fixture(scope="module")
def whole(config: ForegroundTrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run."""
    output = tmp_path_factory.mktemp("runs") / "whole"
    assert train_foreground(config, output) == output / "foreground-head.safetensors"
    return output


def assert_same(first: Path, second: Path) -> None:
    """The same run, and the same figures in its record."""
    assert_same_run(first, second, FINISHED)
    records = [json.loads((output / "run.json").read_bytes()) for output in (first, second)]
    for key in ("held_out/iou", "held_out/iou_median", "held_out/iou_box", "pseudo_labels"):
        assert records[0][key] == records[1][key]


def test_a_run_ends_with_a_head_that_loads(whole, config):
    path = whole / "foreground-head.safetensors"
    model = ForegroundModel(torch.device("cpu"), path)
    logits = model.logits(torch.rand(1, 3, 32, 64), torch.zeros(1, len(HINTS), 32, 64))
    assert logits.shape == (1, 1, 8, 16)
    state = torch.load(whole / "state.pt", weights_only=True)
    averages = dict(zip(dict(model.head.named_parameters()), state["mean"], strict=True))
    for name, weight in model.head.state_dict().items():
        assert torch.equal(weight, averages[name].half().float())
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"steps": "5", "seed": "0", "images": "4"}
    record = json.loads((whole / "run.json").read_bytes())
    assert (record["objects"], record["held_out_images"], record["unlabelled_images"]) == (4, 2, 4)
    assert 0 < record["pseudo_labels"] <= 4
    evaluations = [row for row in rows(whole) if "held_out/iou" in row]
    assert [row["step"] for row in evaluations] == [1, 3, 4]
    assert record["held_out/iou"] == evaluations[-1]["held_out/iou"]
    # Two held-out pictures: as they are, found, and true.
    assert read_image(whole / "samples" / "step-000005.png").shape == (3 * 33, 2 * 40, 3)


def test_every_step_learns_from_pictures_of_its_own(whole):
    losses = [row["loss"] for row in rows(whole) if "loss" in row]
    assert len(set(losses)) == STEPS
    assert all(np.isfinite(losses))


def test_evaluations_change_nothing(config, whole, tmp_path):
    train_foreground(dataclasses.replace(config, evaluate_every=0), tmp_path)
    assert_same_weights(whole / FINISHED, tmp_path / FINISHED)
    assert not (tmp_path / "best.safetensors").exists()


def test_pseudo_labels_change_the_training(config, whole, tmp_path):
    train_foreground(dataclasses.replace(config, rounds=(), evaluate_every=0), tmp_path)
    a, b = ([row for row in rows(run) if "loss" in row] for run in (whole, tmp_path))
    assert a[:2] == b[:2]
    assert a[2] != b[2]


# Kill and restart


def test_a_run_stopped_after_every_step_ends_the_same(config, whole, tmp_path):
    hurried = dataclasses.replace(config, stop_after=1e-9)
    results = [train_foreground(hurried, tmp_path) for _ in range(STEPS)]
    assert results == [None] * (STEPS - 1) + [tmp_path / "foreground-head.safetensors"]
    assert_same(whole, tmp_path)


@pytest.mark.parametrize(
    ("name", "kills", "save_every"),
    [
        ("mask_loss", (2, 7), 0.0),
        ("mask_loss", (9,), 1e9),
        ("pseudo_labels", (1, 2), 0.0),
        ("score_held_out", (2,), 0.0),
        ("write_samples", (3,), 1e9),
        ("save_foreground_head", (1,), 0.0),
        ("write_json", (1,), 0.0),
    ],
)
def test_a_run_killed_anywhere_ends_the_same(config, whole, tmp_path, name, kills, save_every):
    """In a step, a round of labels, an evaluation, before a file; with the last state or none."""
    config = dataclasses.replace(config, save_every=save_every)
    for kill in kills:
        output = tmp_path / str(kill)
        killed_and_resumed(train_foreground, config, output, owner=module, name=name, call=kill)
        assert_same(whole, output)


def test_a_run_of_other_settings_is_left_alone(config, whole):
    before = (whole / "state.pt").read_bytes()
    with pytest.raises(InputError, match=r"(?s)another configuration.*seed"):
        train_foreground(dataclasses.replace(config, seed=1), whole)
    assert (whole / "state.pt").read_bytes() == before


# Bad data and settings


def test_pictures_without_contours_are_refused(config, tmp_path):
    picture = np.zeros((32, 32, 3), np.uint8)
    data = write_pictures(tmp_path / "data", [(picture, None), (picture, [[1, 2], [1, 2]])])
    with pytest.raises(InputError, match=r"data holds no object contours: give shards whose"):
        train_foreground(dataclasses.replace(config, data=data), tmp_path / "out")


def test_an_empty_folder_is_refused(config, tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(InputError, match="holds no training images"):
        train_foreground(dataclasses.replace(config, data=tmp_path / "data"), tmp_path / "out")


def test_objects_that_are_all_too_small_are_refused(config, tmp_path):
    picture = np.zeros((40, 40, 3), np.uint8)
    data = write_pictures(tmp_path / "data", [(picture, rectangle(3, 3, 4, 4))] * 3)
    with pytest.raises(InputError, match=r"none of the 2 objects.*has an area within \[0.03, 0.85"):
        train_foreground(dataclasses.replace(config, data=data, held_out=1), tmp_path / "out")


def test_too_many_held_out_pictures_are_refused(config, tmp_path):
    with pytest.raises(InputError, match=r"held_out must leave something.*got 6 of 6 images"):
        train_foreground(dataclasses.replace(config, held_out=6), tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 12}, "width is a multiple of 8 channels, at least 16, got 12"),
        ({"shapes": ((256, 250),)}, r"multiples of 32 pixels, got \[\[256, 250\]\]"),
        ({"shapes": ()}, "shapes are widths and heights"),
        ({"pasted": 1.5}, "pasted is a share from 0 to 1, got 1.5"),
        ({"area": (0.5, 0.1)}, r"area is a range within 0..1.*got \[0.5, 0.1\]"),
        ({"held_out": 0}, "an evaluation needs pictures with contours"),
        ({"evaluate_every": -1}, "evaluate_every is a number of steps"),
        ({"size": 16}, "size is at least 32 pixels, got 16"),
        ({"steps": 0}, "steps must be positive"),
        (
            {"rounds": (LabelRound(at=0.6), LabelRound(at=0.3))},
            r"rounds must come one after another, got \[0.6, 0.3\]",
        ),
    ],
)
def test_settings_are_checked(config, changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(config, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"at": 1.0}, "at is a share of the steps between 0 and 1, got 1"),
        ({"at": 0.5, "unsure": 0.0}, "unsure is a positive share"),
        ({"at": 0.5, "disagreement": 2.0}, "disagreement is a difference of probabilities"),
        ({"at": 0.5, "area": (0.9, 0.2)}, "area is a range"),
    ],
)
def test_rounds_are_checked(changes, message):
    with pytest.raises(InputError, match=message):
        LabelRound(**changes)


def test_the_shipped_configuration_trains_without_the_large_libraries(folder, tmp_path):
    """From the command line, in a process of its own where they cannot be imported."""
    absent = ("diffusers", "transformers", "kornia", "av", "faiss", "cv2", "scipy")
    code = (
        f"import sys\nsys.modules.update(dict.fromkeys({absent}))\n"
        "from warpkit.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    )
    settings = {
        "data": folder,
        "steps": 2,
        "batch_size": 2,
        "width": 16,
        "shapes": "[[32, 32]]",
        "size": 32,
        "held_out": 1,
        "evaluate_every": 2,
        "device": "cpu",
        "tracker": "none",
    }
    done = subprocess.run(
        [
            *(sys.executable, "-c", code, "train", "foreground", "-o", tmp_path / "out"),
            *("-c", ROOT / "configs" / "foreground.yaml"),
            *(word for key, value in settings.items() for word in ("--set", f"{key}={value}")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"written to {tmp_path / 'out' / 'foreground-head.safetensors'}\n"
    assert "step 2: IoU of 1 held-out objects" in done.stderr
