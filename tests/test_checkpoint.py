"""Aggregator checkpoints: strict names, safe files, a clear word when one does not fit."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from aggregation_toys import (
    all_at_once,
    small_config,
    small_network,
)
from published_checkpoints import SD15_CHANNELS, SD15_CONFIG, published_state
from safetensors.torch import save_file

from warpkit.aggregate.checkpoint import (
    check_fits,
    load_aggregator,
    load_published,
    save_aggregator,
    save_published,
)
from warpkit.aggregate.network import AggregationConfig
from warpkit.checks import InputError
from warpkit.features.backbone import BackboneSpec, Layer, StepFeatures

# Checkpoints


@torch.no_grad()
def test_a_published_file_loads_by_its_names_and_gives_the_formula(tmp_path):
    state = published_state()
    file = tmp_path / "aggregation_network.pt"
    torch.save({"aggregation_network": state, "config": SD15_CONFIG}, file)
    network = load_published(file)
    assert network.state_dict().keys() == state.keys()
    assert all(torch.equal(network.state_dict()[name], state[name]) for name in state)
    config = network.config
    assert config.model == "runwayml/stable-diffusion-v1-5"
    assert config.channels == SD15_CHANNELS
    assert config.layers[4] == "up_blocks.1.resnets.1.conv2"
    assert config.steps == (0, 4, 9, 14, 19, 24, 29, 34, 39, 44, 49)
    assert (config.num_steps, config.width, config.bottleneck, config.groups) == (50, 384, 96, 32)
    assert config.order == "resize-first"
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())

    generator = torch.Generator().manual_seed(0)
    strides = (8,) * 3 + (4,) * 3 + (2,) * 3 + (1,) * 3
    maps = [
        [
            torch.randn(1, c, -(-6 // stride), 8 // stride, generator=generator)
            for c, stride in zip(SD15_CHANNELS, strides, strict=True)
        ]
        for _ in config.steps
    ]
    steps = (
        StepFeatures(entry, step, 0, dict(zip(config.layers, maps[entry], strict=True)))
        for entry, step in enumerate(config.steps)
    )
    found = network(steps, (6, 8))
    expected = all_at_once(state, maps, grid=(6, 8), groups=32)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_one_step_file_takes_the_given_model(tmp_path):
    file = tmp_path / "one.pt"
    config = {"save_timestep": [0], "num_timesteps": 1}
    content = {"aggregation_network": published_state((32,), 1), "config": config}
    torch.save(content, file)
    network = load_aggregator(file, model="sd15")
    assert network.config.model == "sd15"
    assert (network.config.steps, network.config.num_steps) == ((0,), 1)
    assert network.config.layers == ("layer0",)
    assert load_published(file).config.model == "unknown"
    # What the file says counts more than what the caller expects.
    torch.save(content | {"config": config | {"model_id": "other"}}, file)
    assert load_published(file, model="sd15").config.model == "other"


class Attack:
    """Unpickles to a call."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.target}'",)


def test_a_file_that_carries_code_is_refused_and_not_run(tmp_path):
    touched = tmp_path / "touched"
    file = tmp_path / "aggregation_network.pt"
    content = {"aggregation_network": {}, "config": SD15_CONFIG, "more": Attack(touched)}
    torch.save(content, file)
    with pytest.raises(InputError, match="was refused: it holds more than tensors and plain valu"):
        load_aggregator(file)
    file.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(InputError, match="was refused: it holds more than tensors and plain valu"):
        load_aggregator(file)
    assert not touched.exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_truncated_files_are_refused(tmp_path, suffix):
    file = tmp_path / f"aggregator{suffix}"
    network = small_network()
    if suffix == ".pt":
        save_published(file, network)
    else:
        save_aggregator(file, network)
    whole = file.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"is not a readable|was refused"):
            load_aggregator(file)


@pytest.mark.parametrize(
    "content",
    [b"hello world", b"\x80\x02garb\x95\x85", b"h\x05", b"X\xff", b"G\x00", b"PK\x03\x04"],
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_garbage_is_unreadable(tmp_path, content, suffix):
    file = tmp_path / f"garbage{suffix}"
    file.write_bytes(content)
    with pytest.raises(
        InputError, match=r"is not a readable (PyTorch checkpoint|safetensors file)"
    ):
        load_aggregator(file)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no aggregator checkpoint at .*nothing.pt"):
        load_aggregator(tmp_path / "nothing.pt")
    with pytest.raises(InputError, match=r"no aggregator checkpoint at .*nothing.pt"):
        load_published(tmp_path / "nothing.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "is no published aggregator: expected the keys 'aggregation_network' and 'conf"),
        ({"state_dict": {}}, "is no published aggregator: expected the keys"),
        (
            {"aggregation_network": {"weight": torch.ones(1)}, "config": SD15_CONFIG},
            "expected bottleneck_layers.N.0.conv1..3.weight, and save_timestep",
        ),
        (
            {"aggregation_network": published_state((32,), 1), "config": {"num_timesteps": 1}},
            "expected bottleneck_layers.N.0.conv1..3.weight, and save_timestep",
        ),
        (
            {
                "aggregation_network": published_state((32,), 2),
                "config": {"num_timesteps": 50, "save_timestep": [0, 49]},
            },
            "expected save_timestep from large to small",
        ),
        (
            {
                "aggregation_network": published_state((32,), 2),
                "config": {"num_timesteps": 50, "save_timestep": [0]},
            },
            "does not match its own configuration: size mismatch for mixing_weights",
        ),
        (
            {
                "aggregation_network": published_state((32,), 1),
                "config": {"num_timesteps": 1, "save_timestep": [0], "num_norm_groups": 5},
            },
            "holds an impossible configuration",
        ),
    ],
)
def test_other_pickles_are_refused(tmp_path, content, message):
    file = tmp_path / "aggregation_network.pt"
    torch.save(content, file)
    with pytest.raises(InputError, match=message) as caught:
        load_published(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", ["missing", "left over"])
def test_names_are_strict(tmp_path, change):
    state = published_state((32,), 1)
    if change == "missing":
        del state["bottleneck_layers.0.0.shortcut.norm.bias"]
    else:
        state["bottleneck_layers.0.0.conv1.bias"] = torch.zeros(96)
    file = tmp_path / "aggregation_network.pt"
    config = {"num_timesteps": 1, "save_timestep": [0]}
    torch.save({"aggregation_network": state, "config": config}, file)
    with pytest.raises(InputError, match=r"does not match its own configuration: .*(Miss|Unexp)"):
        load_published(file)


def test_published_round_trip(tmp_path):
    network = small_network(steps=(0, 4, 9))
    file = tmp_path / "mine.pt"
    save_published(file, network)
    content = torch.load(file, weights_only=True)
    assert content["config"]["save_timestep"] == [9, 5, 0]
    assert content["config"]["projection_dim"] == 8
    back = load_published(file)
    assert back.config.steps == (0, 4, 9)
    assert back.config.channels == network.config.channels
    # The authors' files do not name their layers; ours do.
    assert back.config == network.config
    assert (back.config.groups, back.config.width, back.config.bottleneck) == (2, 8, 4)
    for name, value in network.state_dict().items():
        assert torch.equal(back.state_dict()[name], value)


def test_the_order_survives_the_published_layout(tmp_path):
    network = small_network(order="bottleneck-first")
    file = tmp_path / "mine.pt"
    save_published(file, network)
    assert load_published(file).config == network.config
    content = torch.load(file, weights_only=True)
    content["config"]["order"] = "upside-down"
    torch.save(content, file)
    with pytest.raises(InputError, match="resize-first or bottleneck-first, got 'upside-down'"):
        load_published(file)


def test_files_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    network = small_network()
    for write, name in ((save_aggregator, "a.safetensors"), (save_published, "a.pt")):
        with pytest.raises(InputError, match=rf"cannot write .*{name}: .+") as caught:
            write(tmp_path / "gone" / name, network)
        assert "\n" not in str(caught.value)
        write(tmp_path / name, network)
        before = (tmp_path / name).read_bytes()

        def full(*_: object) -> None:
            raise OSError("No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", full)
            with pytest.raises(InputError, match=f"cannot write .*{name}: No space left"):
                write(tmp_path / name, network)
        assert (tmp_path / name).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pt", "a.safetensors"]


def test_round_trip_keeps_configuration_and_half_precision_weights(tmp_path):
    from safetensors import safe_open

    network = small_network(order="bottleneck-first")
    file = tmp_path / "aggregator.safetensors"
    save_aggregator(file, network, steps=3, source="a test")
    back = load_aggregator(file)
    assert back.config == network.config
    for name, value in network.state_dict().items():
        assert torch.equal(back.state_dict()[name], value.half().float())
    with safe_open(str(file), framework="pt") as opened:
        assert json.loads(opened.metadata()["record"]) == {"steps": 3, "source": "a test"}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "holds no warpkit aggregator"),
        ({"other": "1"}, "holds no warpkit aggregator"),
        ({"aggregator": "{"}, "its metadata 'aggregator' is no JSON"),
        ({"aggregator": '{"model": "x", "colour": 3}'}, "was written by another version.*colour"),
        ({"aggregator": '{"model": "x"}'}, "was written by another version of warpkit"),
    ],
)
def test_unknown_metadata_is_refused(tmp_path, metadata, message):
    file = tmp_path / "aggregator.safetensors"
    save_file({"mixing_weights": torch.ones(1)}, str(file), metadata=metadata)
    with pytest.raises(InputError, match=message):
        load_aggregator(file)


# Whether a checkpoint fits a backbone


def sd_spec(name: str = "sd15", **changes: Any) -> BackboneSpec:
    layers = tuple(
        Layer(f"up_blocks.{i // 3}.resnets.{i % 3}.conv2", channels, 64 >> i // 3)
        for i, channels in enumerate(SD15_CHANNELS)
    )
    values: dict[str, Any] = {
        "name": name,
        "layers": layers,
        "steps": (0, 4, 9, 14, 19, 24, 29, 34, 39, 44, 49),
        "num_steps": 50,
        "multiple": 64,
        "size": 512,
        "output_stride": 8,
    }
    return BackboneSpec(**values | changes)


def sd_config(model: str, **changes: Any) -> AggregationConfig:
    spec = sd_spec()
    values: dict[str, Any] = {
        "model": model,
        "layers": tuple(layer.name for layer in spec.layers),
        "channels": SD15_CHANNELS,
        "steps": spec.steps,
        "num_steps": 50,
    }
    return AggregationConfig(**values | changes)


def test_a_checkpoint_fits_its_model_under_every_name():
    for model in ("sd15", "runwayml/stable-diffusion-v1-5", "unknown"):
        for name in ("sd15", "stable-diffusion-v1-5/stable-diffusion-v1-5", "/models/mine"):
            check_fits(sd_config(model), sd_spec(name), checkpoint="x.pt")


def test_a_checkpoint_for_another_model_names_both():
    # The two have the same layers: only the name tells them apart.
    with pytest.raises(InputError) as caught:
        check_fits(
            sd_config("stabilityai/stable-diffusion-2-1-base"), sd_spec(), checkpoint="sd21.pt"
        )
    assert str(caught.value) == (
        "sd21.pt (for 'stabilityai/stable-diffusion-2-1-base') does not fit the backbone 'sd15':"
        " it expects the features of 'sd21', the backbone gives those of 'sd15'"
    )


def test_other_channels_layers_and_steps_name_both_sides():
    with pytest.raises(
        InputError,
        match=r"\(for 'toy'\) does not fit the backbone 'sd15': it expects layers of"
        r" \[6, 8, 4, 12\] channels, the backbone gives \[1280, 1280",
    ):
        check_fits(small_config(), sd_spec(), checkpoint="the aggregator")
    with pytest.raises(InputError, match=r"it expects the layers \['layer0', .*gives \['up_bl"):
        named = tuple(f"layer{i}" for i in range(12))
        check_fits(sd_config("sd15", layers=named), sd_spec(), checkpoint="x.pt")
    with pytest.raises(
        InputError,
        match=r"it expects the recorded steps \[0\] of 1, the backbone gives \[0, 4, .*49\] of 50",
    ):
        check_fits(sd_config("sd15", steps=(0,), num_steps=1), sd_spec(), checkpoint="x.pt")


@pytest.mark.parametrize(
    "change",
    [
        {"groups": 0},
        {"groups": "a"},
        {"width": -4},
        {"channels": [10**9, 8, 4, 12]},
        {"steps": 3},
        {"layers": None},
    ],
)
def test_nonsense_in_the_configuration_is_one_line(tmp_path, change):
    file = tmp_path / "a.safetensors"
    network = small_network()
    values = {**vars(network.config), **change}
    save_file(network.state_dict(), file, {"aggregator": json.dumps(values)})
    with pytest.raises(InputError, match=r"a\.safetensors") as caught:
        load_aggregator(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("metadata", ["[1, 2]", "3", "null"])
def test_a_configuration_that_is_no_mapping_is_one_line(tmp_path, metadata):
    file = tmp_path / "a.safetensors"
    save_file(small_network().state_dict(), file, {"aggregator": metadata})
    with pytest.raises(InputError, match="damaged or no aggregator"):
        load_aggregator(file)


@pytest.mark.parametrize(
    "config",
    [
        None,
        {"save_timestep": 3, "num_timesteps": 1},
        {"save_timestep": ["a"], "num_timesteps": 1},
        {"save_timestep": [0], "num_timesteps": "z"},
        {"save_timestep": [0], "num_timesteps": 1, "num_norm_groups": 0},
    ],
)
def test_nonsense_in_a_published_configuration_is_one_line(tmp_path, config):
    file = tmp_path / "a.pt"
    state = small_network(steps=(0,), num_steps=1).state_dict()
    torch.save({"aggregation_network": state, "config": config}, file)
    with pytest.raises(InputError, match=r"a\.pt"):
        load_aggregator(file)


def test_values_that_are_not_finite_are_refused(tmp_path):
    network = small_network()
    with torch.no_grad():
        network.mixing_weights[1] = torch.nan
    save_aggregator(tmp_path / "a.safetensors", network)
    with pytest.raises(InputError, match="no finite numbers"):
        load_aggregator(tmp_path / "a.safetensors")
