"""The embedded model's architecture, file and loop; its trained weights are not needed here."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import warpkit
from warpkit.checks import InputError
from warpkit.features.registry import create_backbone
from warpkit.features.tiny import UnetConfig, build_unet, load_unet, save_unet

SMALL = UnetConfig(
    channels=(8, 8, 16, 16), blocks=1, attention_levels=(3,), groups=4, head=8, classes=("a", "b")
)


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return build_unet(SMALL).eval()


@pytest.fixture
def file(unet, tmp_path):
    path = tmp_path / "unet.safetensors"
    save_unet(path, unet, SMALL, steps=7)
    return path


def test_round_trip(unet, file):
    back, config = load_unet(file)
    assert config == SMALL
    assert not back.training
    assert not any(p.requires_grad for p in back.parameters())
    for name, value in unet.state_dict().items():
        found = back.state_dict()[name]
        assert found.dtype == torch.float32
        assert torch.equal(found, value.half().float())
    with safe_open(str(file), framework="pt") as opened:
        assert json.loads(opened.metadata()["record"]) == {"steps": 7}


def test_the_file_s_model_computes_what_the_saved_one_does(unet, file):
    back, _ = load_unet(file)
    latent = torch.randn(1, 12, 8, 16, generator=torch.Generator().manual_seed(0))
    arguments = {"encoder_hidden_states": None, "class_labels": torch.tensor([2])}
    with torch.no_grad():
        expected = unet(latent, torch.tensor([-1]), **arguments)[0]
        found = back(latent, torch.tensor([-1]), **arguments)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-3)


def test_the_backbone_states_its_layers_and_gives_them(file):
    backbone = create_backbone("tiny", device="cpu", weights=file, steps=(0, 2), num_steps=5)
    spec = backbone.spec
    assert [layer.stride for layer in spec.layers] == [16, 16, 8, 8, 4, 4, 2, 2]
    assert [layer.channels for layer in spec.layers] == [16, 16, 16, 16, 8, 8, 8, 8]
    assert (spec.multiple, spec.output_stride, spec.size, spec.side) == (16, 2, 128, "short")
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    steps = list(backbone.features(images))
    assert [(s.entry, s.step, s.timestep) for s in steps] == [(0, 0, -1), (1, 2, 200)]
    for layer in spec.layers:
        size = (32 // layer.stride, 48 // layer.stride)
        assert steps[0].maps[layer.name].shape == (2, layer.channels, *size)


def test_a_model_file_names_a_trained_unet(file, tmp_path):
    """In place of the one that ships; without an aggregator its raw layers are read."""
    model = tmp_path / "own.yaml"
    model.write_text(
        f"backbone: tiny\nunet: {file}\nlayers: [up_blocks.2.resnets.1.conv2]\nsize: 32\n"
    )
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    own, weights = warpkit.load(str(model)), load_unet(file)[0].state_dict()
    assert own.describe([image])[0].data.shape[0] == 8
    used = own.describer.backbone.unet.state_dict()
    assert used.keys() == weights.keys()
    assert all(torch.equal(used[name], weights[name]) for name in weights)
    with pytest.raises(InputError, match=r"gone\.safetensors"):
        warpkit.load("tiny", unet=str(tmp_path / "gone.safetensors"))


def test_a_class_is_a_prompt(file):
    backbone = create_backbone("tiny", device="cpu", weights=file, num_steps=3)
    noise = backbone.noise([1], height=16, width=32)
    assert noise.shape == (1, 12, 8, 16)
    image = backbone.generate(["a"], noise)
    assert image.shape == (1, 3, 16, 32)
    assert not torch.equal(image, backbone.generate(["b"], noise))
    with pytest.raises(InputError, match=r"unknown class 'c'. The model's classes are a, b"):
        backbone.generate(["c"], noise)


def test_bad_files_are_refused(file, tmp_path):
    with pytest.raises(InputError, match=r"no embedded-model weights at .*nothing"):
        load_unet(tmp_path / "nothing")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(InputError, match="is not a readable safetensors file"):
        load_unet(file)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "holds no warpkit UNet"),
        ({"unet": "["}, "its metadata 'unet' is no JSON"),
        ({"unet": '{"colour": 1}'}, "was written by another version of warpkit.*colour"),
        ({"unet": '{"classes": ["a"]}'}, "does not match its own configuration: Missing key"),
    ],
)
def test_bad_metadata_is_refused(tmp_path, metadata, message):
    path = tmp_path / "unet.safetensors"
    save_file({"x": torch.ones(1)}, str(path), metadata=metadata)
    with pytest.raises(InputError, match=message):
        load_unet(path)
