"""Probes of backbone training, what it starts from, and that a kill anywhere changes nothing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pair_folders import SIZES, write_ramps
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from training_runs import assert_same_run, assert_same_weights, killed_and_resumed, rows

from warpkit.checks import InputError
from warpkit.datasets.synth import read_synth
from warpkit.describe.hypercolumns import Hypercolumns
from warpkit.evaluate.keypoints import score_pairs
from warpkit.evaluate.predict import predict_pairs
from warpkit.features import create_backbone
from warpkit.features.codecs import UnshuffleCodec
from warpkit.features.tiny import UnetConfig, build_unet, load_unet, unet_backbone
from warpkit.io.images import read_image
from warpkit.train import backbone as module
from warpkit.train import probes as probes_module
from warpkit.train.backbone import AlignmentConfig, BackboneTrainConfig, train_backbone
from warpkit.train.backbone_config import ProbePairs, SamplesConfig
from warpkit.train.backbone_start import averaged_unet, starting_unet
from warpkit.train.images import centre_views, load_images
from warpkit.train.probes import LEVELS, Probes, held_out_loss

STEPS = 5
FINISHED = "unet.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine random pictures in three class folders."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for i in range(9):
        path = root / ("cat", "cow", "dog")[i % 3] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        coarse = generator.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse.repeat(6, 0).repeat(6, 1)).save(path)
    return root


@pytest.fixture(scope="module")
def ramps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ramps(tmp_path_factory.mktemp("ramps") / "pairs", SIZES)


def plain(folder: Path, **changes: Any) -> BackboneTrainConfig:
    values: dict[str, Any] = {
        "data": folder,
        "steps": STEPS,
        "batch_size": 2,
        "warmup": 2,
        "learning_rate": 5e-3,
        "ema": 0.5,
        "sizes": (16, 24),
        "channels": (8, 8),
        "blocks": 1,
        "attention_levels": (1,),
        "groups": 4,
        "alignment": AlignmentConfig(weight=0),
        "held_out": 2,
        "log_every": 1,
        "tracker": "none",
        "device": "cpu",
    }
    return BackboneTrainConfig(**values | changes)


@pytest.fixture(scope="module")
def probed(folder: Path, ramps: Path) -> BackboneTrainConfig:
    """All probes, after every other step and the last."""
    return plain(
        folder,
        probe_every=2,
        validation=ProbePairs(synth=ramps, layers=(1, 2), each=True),
        samples=SamplesConfig(count=2, seeds=(3,), steps=2),
    )


@pytest.fixture(scope="module")
def whole(probed: BackboneTrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run with probes."""
    output = tmp_path_factory.mktemp("whole")
    assert train_backbone(probed, output) == output / "unet.safetensors"
    return output


# Probes change nothing


def test_a_run_without_probes_ends_with_the_same_weights(folder, whole, tmp_path):
    finished = train_backbone(plain(folder), tmp_path)
    assert_same_weights(finished, whole / "unet.safetensors")
    training = [row for row in rows(whole) if "diffusion" in row]
    assert rows(tmp_path) == training
    assert not (tmp_path / "samples").exists()
    assert not (tmp_path / "best.safetensors").exists()


def test_the_last_state_of_a_run_is_the_same_with_and_without_probes(folder, probed, tmp_path):
    """Not only the averages: weights and optimiser too."""
    states = []
    for name, config in (("with", probed), ("without", plain(folder))):
        train_backbone(config, tmp_path / name)
        states.append(torch.load(tmp_path / name / "state.pt", weights_only=True))
    for key in ("master", "mean"):
        assert all(torch.equal(a, b) for a, b in zip(*(s[key] for s in states), strict=True))
    moments = [state["optimiser"]["state"] for state in states]
    for i, values in moments[0].items():
        assert all(torch.equal(value, moments[1][i][name]) for name, value in values.items())


# Kill and restart


def test_a_run_stopped_after_every_step_ends_the_same(probed, whole, tmp_path):
    hurried = dataclasses.replace(probed, stop_after=1e-9)
    results = [train_backbone(hurried, tmp_path) for _ in range(STEPS)]
    assert results == [None] * (STEPS - 1) + [tmp_path / "unet.safetensors"]
    assert_same_run(whole, tmp_path, FINISHED)


@pytest.mark.parametrize(
    ("owner", "name", "kills", "save_every"),
    [
        (module, "min_snr_weight", (1, 2, 3, 4, 5), 0.0),
        (module, "min_snr_weight", (4,), 1e9),
        (Probes, "__call__", (2,), 0.0),
        (Probes, "__call__", (3,), 1e9),
        (module, "write_samples", (2,), 0.0),
        (module, "save_unet", (1,), 0.0),
        (module, "write_json", (1,), 1e9),
    ],
)
def test_a_run_killed_anywhere_ends_the_same(
    probed, whole, tmp_path, owner, name, kills, save_every
):
    """In a step, a probe, before the best and the last file; the state just written, or none."""
    config = dataclasses.replace(probed, save_every=save_every)
    for kill in kills:
        output = tmp_path / str(kill)
        killed_and_resumed(train_backbone, config, output, owner=owner, name=name, call=kill)
        assert_same_run(whole, output, FINISHED)


@pytest.mark.parametrize("save_every", [0.0, 1e9])
def test_the_tracker_of_a_killed_run_reads_like_that_of_a_whole_one(
    probed, whole, tmp_path, save_every
):
    """Figures that were written after the last state, or without any, are hidden."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = dataclasses.replace(probed, tracker="tensorboard", save_every=save_every)
    where = {"owner": module, "name": "min_snr_weight", "call": 4}
    killed_and_resumed(train_backbone, config, tmp_path, **where)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    names = {name for row in rows(whole) for name in row} - {"step"}
    assert set(events.Tags()["scalars"]) == names
    for name in names:
        found = [(event.step, event.value) for event in events.Scalars(name)]
        expected = [(row["step"], row[name]) for row in rows(whole) if name in row]
        assert [step for step, _ in found] == [step for step, _ in expected], name
        assert [value for _, value in found] == pytest.approx([value for _, value in expected])
    assert [event.step for event in events.Images("samples")] == [1, 3, 4]


def test_a_run_goes_on_only_with_the_same_probes(probed, folder, ramps, tmp_path):
    config = dataclasses.replace(probed, stop_after=1e-9)
    assert train_backbone(config, tmp_path) is None
    for changes, named in (
        ({"validation": ProbePairs(synth=ramps, layers=(1,), each=True)}, "validation"),
        ({"validation": ProbePairs(synth=ramps, layers=(1, 2), each=True, count=1)}, "validation"),
        ({"held_out": 1}, "held_out: 2 then, 1 now"),
        ({"sizes": (16,)}, r"sizes: .* then, \[16\] now"),
    ):
        with pytest.raises(InputError, match=rf"of another configuration \({named}"):
            train_backbone(dataclasses.replace(config, **changes), tmp_path)


# What probes measure


def test_validation_is_the_pck_of_raw_features_and_the_best_is_kept(whole, ramps):
    scores = {row["step"]: row["validation"] for row in rows(whole) if "validation" in row}
    assert sorted(scores) == [1, 3, 4]
    pairs, _ = read_synth(ramps)

    def score(name: str, layers: tuple[int, ...]) -> float:
        backbone = create_backbone("tiny", device="cpu", weights=whole / name, size=16)
        names = [backbone.spec.layers[i].name for i in layers]
        describer = Hypercolumns(backbone, name="raw", layers=names)
        return score_pairs(predict_pairs(describer, pairs)).pck[0.1]["box"]["per_point"]

    last = next(row for row in rows(whole) if row["step"] == 4 and "validation" in row)
    # Stored weights are rounded to half precision: a point of 17 may fall to another cell.
    assert score("unet.safetensors", (1, 2)) == pytest.approx(last["validation"], abs=6)
    assert score("unet.safetensors", (1,)) == pytest.approx(last["validation/layer1"], abs=6)
    assert score("unet.safetensors", (2,)) == pytest.approx(last["validation/layer2"], abs=6)
    best = max(scores.values())
    with safe_open(str(whole / "best.safetensors"), framework="pt") as file:
        record = json.loads(file.metadata()["record"])
    assert record["validation"] == best
    # Of equal scores the first.
    assert record["steps"] == 1 + min(step for step, value in scores.items() if value == best)
    run = json.loads((whole / "run.json").read_text(encoding="utf-8"))
    assert (run["best_validation"], run["images"], run["held_out_images"]) == (best, 7, 2)


def test_probes_see_the_averaged_weights(whole, folder):
    """The loss in the log is that of the stored averages, not of the weights that are trained."""
    unet, config = load_unet(whole / "unet.safetensors")
    _, held_out = load_images(folder, side=24).hold_out(2)
    found = held_out_loss(unet, config, held_out, size=16)
    last = rows(whole)[-1]
    assert list(found) == list(LEVELS)
    for level, loss in found.items():
        assert last[f"held_out/t{level}"] == pytest.approx(loss, rel=2e-3)
    assert last["held_out"] == pytest.approx(sum(found.values()) / len(LEVELS), rel=2e-3)


def test_held_out_loss_is_the_error_of_the_noise(folder, monkeypatch):
    store = load_images(folder, side=16)
    config = UnetConfig(channels=(8, 8), classes=("cat", "cow", "dog"))
    seen: list[tuple[int, int]] = []

    def knowing(noisy, t, _, *, class_labels, return_dict):
        """Says the noise, but for a quarter, from what it knows of the pictures."""
        start = 4 * sum(1 for level, _ in seen if level == int(t[0]))
        seen.append((int(t[0]), int(class_labels.unique())))
        index = torch.arange(start, start + len(noisy))
        latent = UnshuffleCodec(2).encode(centre_views(store, index, size=16))
        alpha = float(UnetConfig().schedule().alphas_cumprod[t[0]])
        return ((noisy - alpha**0.5 * latent) / (1 - alpha) ** 0.5 + 0.25,)

    monkeypatch.setattr(probes_module, "_BATCH", 4)
    found = held_out_loss(knowing, config, store, size=16)
    assert found == pytest.approx(dict.fromkeys(LEVELS, 0.25**2), rel=1e-3)
    assert sorted(seen) == [(level, 3) for level in LEVELS for _ in range(3)]


def test_held_out_images_are_spread_and_never_trained_on(folder):
    store = load_images(folder, side=16)
    rest, held = store.hold_out(3)
    assert (len(rest), len(held)) == (6, 3)
    assert held.labels.tolist() == [0, 1, 2]
    assert rest.classes == held.classes == store.classes
    every = {image.numpy().tobytes() for image in store.pixels}
    kept = {image.numpy().tobytes() for image in rest.pixels}
    assert kept | {image.numpy().tobytes() for image in held.pixels} == every
    assert len(kept) == 6
    assert len(store.hold_out(0)[1]) == 0
    with pytest.raises(InputError, match="held_out must leave something to train on: got 9 of 9"):
        store.hold_out(9)


def test_sample_grids_are_written(whole, probed):
    names = sorted(path.name for path in (whole / "samples").iterdir())
    assert names == ["step-000002.png", "step-000004.png", "step-000005.png"]
    first, last = (read_image(whole / "samples" / name) for name in (names[0], names[-1]))
    # Two tiles of 16 columns, and the gaps between and around.
    assert first.shape[1] == 2 * 16 + 3 * 6
    assert (first != last).any()


# Crop sizes


def test_crop_sizes_are_drawn_for_every_step(folder):
    store = load_images(folder, side=24)
    config = plain(folder)
    sides = [module._batch(config, store, step)[0].shape[-1] for step in range(40)]
    assert set(sides) == {16, 24}
    assert 10 < sides.count(16) < 30
    again = [module._batch(config, store, step)[0].shape[-1] for step in range(40)]
    assert sides == again
    # The pictures of a step do not depend on it.
    one = plain(folder, sizes=(16,))
    step = sides.index(16)
    assert torch.equal(module._batch(config, store, step)[0], module._batch(one, store, step)[0])


# Where a run starts


def test_a_run_goes_on_from_given_weights(folder, whole, tmp_path):
    config = plain(
        folder,
        initial=whole / "unet.safetensors",
        channels=None,
        blocks=None,
        attention_levels=None,
        groups=None,
    )
    classes = ("cow", "mouse", "cat")
    unet, found, path = starting_unet(config, classes)
    start, given = load_unet(whole / "unet.safetensors")
    assert path == whole / "unet.safetensors"
    assert dataclasses.replace(found, classes=given.classes) == given
    before, after = start.state_dict(), unet.state_dict()
    # Classes by name; a new one, and none at all, as the null class was.
    rows_before = before.pop("class_embedding.weight")
    assert torch.equal(after.pop("class_embedding.weight"), rows_before[[1, 3, 0, 3]])
    assert all(torch.equal(before[name], after[name]) for name in before)

    finished = train_backbone(dataclasses.replace(config, learning_rate=1e-9), tmp_path / "run")
    assert all(
        torch.allclose(value.float(), before[name], atol=2e-3)
        for name, value in load_file(finished).items()
        if name in before
    )
    run = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert len(run["inputs"]["initial"]) == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"channels": (8, 12)},
            r"its channels is \(8, 8\), the configuration says \(8, 12\); leave",
        ),
        ({"initial": Path("none.safetensors")}, "no embedded-model weights at none.safetensors"),
        ({"initial": None, "groups": 3}, "channels and groups do not go together"),
        ({"sizes": (16, 21)}, "crops of 21 pixels do not suit this UNet: .* multiples of 4"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(folder, whole, changes, message):
    config = plain(folder, **{"initial": whole / "unet.safetensors"} | changes)
    with pytest.raises(InputError, match=message):
        starting_unet(config, ("cat", "cow", "dog"))


def test_the_shape_of_the_embedded_model_is_the_default(folder):
    shape = {"channels": None, "blocks": None, "attention_levels": None, "groups": None}
    config = plain(folder, initial=Path("tiny"), sizes=(), **shape)
    _, found, _ = starting_unet(config, ("dog",))
    _, usual, _ = starting_unet(dataclasses.replace(config, initial=None), ("dog",))
    assert dataclasses.replace(found, beta_end=usual.beta_end) == usual
    assert config.input_sizes == (128,)


def test_the_noise_schedule_is_trained_and_kept(folder, whole, tmp_path):
    usual, noisier = plain(folder), plain(folder, beta_end=0.03)
    finished = train_backbone(noisier, tmp_path / "run")
    unet, config = load_unet(finished)
    assert config.beta_end == 0.03
    assert config.schedule(10).alpha_bar(900) < 0.01 * UnetConfig().schedule(10).alpha_bar(900)
    assert unet_backbone(unet, config).schedule == config.schedule()
    # Other noise, other weights; what goes on from them keeps the schedule.
    plainly = load_file(train_backbone(usual, tmp_path / "usual"))
    assert any(not torch.equal(plainly[name], value) for name, value in load_file(finished).items())
    shape = {"channels": None, "blocks": None, "attention_levels": None, "groups": None}
    later = plain(folder, initial=finished, **shape)
    assert starting_unet(later, config.classes)[1].beta_end == 0.03
    with pytest.raises(InputError, match=r"beta_end lies between 0.00085, .* and 0.5, got 0.7"):
        plain(folder, beta_end=0.7)


def test_averages_are_shared_and_no_random_number_is_drawn():
    config = UnetConfig(channels=(8, 8), blocks=1, attention_levels=(), groups=4)
    tensors = {k: v.clone() for k, v in build_unet(config).state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    unet = averaged_unet(config, tensors)
    assert torch.equal(torch.rand(2), expected)
    tensors["conv_in.bias"].fill_(7)
    assert float(unet.conv_in.bias[0]) == 7
    assert not any(p.requires_grad for p in unet.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probe_every": 0}, "validation and samples are probes: say how often with probe_every"),
        (
            {"validation": None, "samples": None, "held_out": 0},
            "probe_every needs something to probe: set validation, samples or held_out",
        ),
        ({"probe_every": -1}, "probe_every is a number of steps, or 0 for no probes, got -1"),
        ({"size": 16}, r"give size or sizes, not both: got 16 and \[16, 24\]"),
        ({"crop_area": (0.9, 0.5)}, "crop_area is a range within 0..1"),
        ({"null_class": 1.5}, "null_class is a share from 0 to 1, got 1.5"),
        ({"clean_below": 0}, "clean_below is a timestep from 1 to 1000, got 0"),
        ({"ema": 1.0}, "ema must be at least 0 and below 1, got 1.0"),
        ({"held_out": -1}, "held_out is a number of images, got -1"),
        ({"log_every": 0}, "log_every is a positive number, got 0"),
    ],
)
def test_bad_settings_are_refused(probed, changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(probed, **changes)


def test_bad_probes_are_refused(probed, ramps, tmp_path):
    with pytest.raises(InputError, match="layers must be decoder layers from 0 to 11 in strictly"):
        ProbePairs(synth=ramps, layers=(2, 1))
    with pytest.raises(InputError, match=r"steps must lie in 1\.\.1000, got 0"):
        SamplesConfig(steps=0)
    for changes, message in (
        ({"validation": ProbePairs(synth=ramps, layers=(4,))}, "decoder has 4 layers"),
        ({"samples": SamplesConfig(classes=("dgo",))}, "dgo.*dog"),
        ({"held_out": 9}, "held_out must leave something to train on: got 9 of 9 images"),
    ):
        with pytest.raises(InputError, match=message):
            train_backbone(dataclasses.replace(probed, **changes), tmp_path)
