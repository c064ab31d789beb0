"""Stable Diffusion loads from a diffusers folder, offline, and says clearly when it cannot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_pipeline import save_small_pipeline

import warpkit.features.model_sources as module
from warpkit.aggregate.checkpoint import save_aggregator
from warpkit.aggregate.network import AggregationConfig, AggregationNetwork
from warpkit.checks import InputError
from warpkit.describe import load_extractor
from warpkit.features.diffusion_settings import recorded_steps
from warpkit.features.model_sources import release_name
from warpkit.features.registry import backbone_names, create_backbone, register_backbone
from warpkit.features.registry import resolve_device as resolve
from warpkit.features.stable_diffusion import stable_diffusion_backbone

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Stable Diffusion of a few thousand weights in the layout of diffusers."""
    return save_small_pipeline(tmp_path_factory.mktemp("stable-diffusion"))


@pytest.fixture
def altered(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the model with some values of one configuration file changed."""

    def alter(part: str, **values: Any) -> Path:
        copy = tmp_path / "altered"
        shutil.copytree(folder, copy)
        file = copy / part
        content = json.loads(file.read_text(encoding="utf-8")) | values
        file.write_text(json.dumps(content), encoding="utf-8")
        return copy

    return alter


def test_a_folder_gives_the_twelve_decoder_layers(folder):
    backbone = stable_diffusion_backbone(device=CPU, model=str(folder))
    spec = backbone.spec
    assert [layer.name for layer in spec.layers] == [
        f"up_blocks.{i}.resnets.{j}.conv2" for i in range(4) for j in range(3)
    ]
    assert [layer.channels for layer in spec.layers] == [16] * 6 + [8] * 6
    assert [layer.stride for layer in spec.layers] == [64] * 3 + [32] * 3 + [16] * 3 + [8] * 3
    assert (spec.steps, spec.num_steps) == (recorded_steps(50), 50)
    assert (spec.multiple, spec.output_stride, spec.size, spec.side) == (64, 8, 512, "long")
    assert backbone.schedule.prediction == "epsilon"
    assert not any(p.requires_grad for p in backbone.unet.parameters())


def test_features_have_the_stated_channels_and_strides(folder):
    backbone = stable_diffusion_backbone(device=CPU, model=str(folder), num_steps=1)
    assert backbone.spec.steps == (0,)
    images = torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    (step,) = backbone.features(images)
    assert (step.entry, step.timestep) == (0, -1)
    for layer in backbone.spec.layers:
        size = (64 // layer.stride, 128 // layer.stride)
        assert step.maps[layer.name].shape == (2, layer.channels, *size)
    (again,) = backbone.features(images)
    assert all(torch.equal(again.maps[name], step.maps[name]) for name in step.maps)


def test_generation_hands_out_the_features_of_its_own_run(folder):
    backbone = stable_diffusion_backbone(device=CPU, model=str(folder), num_steps=4, steps=(0, 3))
    noise = backbone.noise([1], height=64, width=64)
    seen: list[tuple[int, int]] = []
    image = backbone.generate(
        ["a cat"], noise, on_features=lambda f: seen.append((f.entry, f.timestep))
    )
    assert image.shape == (1, 3, 64, 64)
    assert seen == [(1, 750), (0, 0)]
    assert torch.equal(image, backbone.generate(["a cat"], noise))
    assert not torch.equal(image, backbone.generate(["a bat"], noise))


def test_prompts_are_embedded_once(folder):
    backbone = stable_diffusion_backbone(device=CPU, model=str(folder), num_steps=1)
    calls: list[list[str]] = []
    conditioner = backbone.conditioner
    backbone.conditioner = lambda prompts: calls.append(list(prompts)) or conditioner(prompts)
    for _ in range(3):
        list(backbone.features(torch.rand(2, 3, 64, 64)))
    assert calls == [[""]]


def test_the_prediction_type_is_read_from_the_scheduler(altered):
    path = altered("scheduler/scheduler_config.json", prediction_type="v_prediction")
    backbone = stable_diffusion_backbone(device=CPU, model=str(path))
    assert backbone.schedule.prediction == "v_prediction"


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        (
            "scheduler/scheduler_config.json",
            {"prediction_type": "sample"},
            "unknown prediction type 'sample'",
        ),
        (
            "scheduler/scheduler_config.json",
            {"beta_schedule": "linear"},
            "uses the beta schedule 'linear': Diffusion Hyperfeatures needs 'scaled_linear'",
        ),
    ],
)
def test_another_noise_schedule_is_refused(altered, part, values, message):
    with pytest.raises(InputError, match=message) as caught:
        stable_diffusion_backbone(device=CPU, model=str(altered(part, **values)))
    assert "was not found" not in str(caught.value)


def test_an_inpainting_model_is_refused(folder, tmp_path):
    from diffusers import UNet2DConditionModel

    copy = tmp_path / "inpainting"
    shutil.copytree(folder, copy)
    config = dict(UNet2DConditionModel.load_config(copy / "unet")) | {"in_channels": 9}
    UNet2DConditionModel.from_config(config).save_pretrained(copy / "unet")
    with pytest.raises(InputError, match="its UNet takes 9 channels, its VAE gives 4"):
        stable_diffusion_backbone(device=CPU, model=str(copy))


def test_a_unet_for_another_text_encoder_is_refused(folder, tmp_path):
    from diffusers import UNet2DConditionModel

    copy = tmp_path / "larger"
    shutil.copytree(folder, copy)
    config = dict(UNet2DConditionModel.load_config(copy / "unet")) | {"cross_attention_dim": 20}
    UNet2DConditionModel.from_config(config).save_pretrained(copy / "unet")
    with pytest.raises(
        InputError, match="its UNet attends to 20 channels, its text encoder gives 12; Stable"
    ):
        stable_diffusion_backbone(device=CPU, model=str(copy))


def test_a_folder_without_unet_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"is a folder but no diffusers model: expected unet/conf"):
        stable_diffusion_backbone(device=CPU, model=str(tmp_path))


def test_a_folder_with_a_missing_part_names_it(folder, tmp_path):
    copy = tmp_path / "partial"
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "vae")
    with pytest.raises(InputError, match=r"partial': its part 'vae' is missing or cannot be read"):
        stable_diffusion_backbone(device=CPU, model=str(copy))


def test_a_model_that_is_not_in_the_cache_is_one_clear_error(monkeypatch):
    release = module.Release(("nobody/no-such-model", "nobody/nor-this-one"), "none", 0.0)
    monkeypatch.setitem(module.RELEASES, "sd15", release)
    with pytest.raises(InputError) as caught:
        stable_diffusion_backbone(device=CPU, model="sd15", local_files_only=True)
    message = str(caught.value)
    assert message.startswith("model 'sd15' was not found in the local cache (offline mode); tried")
    # Every id the model has lived at was tried, and the way out is named.
    assert "nobody/no-such-model: " in message
    assert "nobody/nor-this-one: " in message
    assert "`warpkit models download sd15`" in message
    assert "\n" not in message


def test_later_ids_are_tried_when_the_first_is_gone(folder, monkeypatch):
    release = module.Release(("gone/gone", str(folder)), "none", 0.0)
    monkeypatch.setitem(module.RELEASES, "moved", release)
    backbone = stable_diffusion_backbone(
        device=CPU, model="moved", num_steps=1, local_files_only=True
    )
    assert backbone.spec.name == "moved"


def test_published_models_are_known_by_all_their_ids():
    assert release_name("sd15") == "sd15"
    assert release_name("runwayml/stable-diffusion-v1-5") == "sd15"
    assert release_name("stabilityai/stable-diffusion-2-1-base") == "sd21"
    assert release_name("someone/something") is None


def test_load_describes_with_a_folder_and_its_aggregator(folder, tmp_path):
    backbone = stable_diffusion_backbone(device=CPU, model=str(folder), num_steps=1)
    layers = backbone.spec.layers
    torch.manual_seed(0)
    network = AggregationNetwork(
        AggregationConfig(
            model=str(folder),
            layers=tuple(layer.name for layer in layers),
            channels=tuple(layer.channels for layer in layers),
            steps=(0,),
            num_steps=1,
            width=8,
            bottleneck=4,
            groups=2,
        )
    )
    file = tmp_path / "aggregator.safetensors"
    save_aggregator(file, network)
    extractor = load_extractor(str(folder), device="cpu", aggregator=file, size=128)
    image = np.random.default_rng(0).integers(0, 256, (100, 64, 3), dtype=np.uint8)
    (found,) = extractor.describe([image])
    # Long side 128: 128 x 82 pixels in an input of 128 x 128, 8 pixels a cell.
    assert found.data.shape == (8, 16, 10)
    assert found.data.dtype == torch.float32
    assert (found.height, found.width) == (100, 64)
    assert (found.cell_height, found.cell_width) == (6.25, 8 * 64 / 82)


def test_registry_and_devices():
    assert backbone_names()[:2] == ["tiny", "stable-diffusion"]
    with pytest.raises(
        InputError, match="unknown backbone 'stable-difusion': expected one of tiny"
    ):
        create_backbone("stable-difusion")
    with pytest.raises(InputError, match="a backbone named 'stable-diffusion' is registered alre"):
        register_backbone("stable-diffusion")(lambda **_: None)

    def stable_diffusion_backbone() -> None: ...

    stable_diffusion_backbone.__qualname__ = "stable_diffusion_backbone"  # but of this module
    with pytest.raises(InputError, match="is registered already"):
        register_backbone("stable-diffusion")(stable_diffusion_backbone)
    assert resolve("cpu") == CPU
    with pytest.raises(InputError, match="unknown device 'gpu': expected auto, cpu, cuda, cuda:N"):
        resolve("gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="device 'cuda:1' asked for, but torch sees no CUDA GPU"):
        resolve("cuda:1")


# Single calls, and what the UNet predicts


def test_noised_features_are_one_denoising_call_of_the_noised_latent(folder):
    options = {"device": CPU, "model": str(folder), "steps": (0,), "num_steps": 1}
    backbone = stable_diffusion_backbone(mode="noised", timestep=261, seed=5, **options)
    images = torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    (found,) = backbone.features(images)
    assert (found.entry, found.timestep) == (0, 261)
    # Written out: q(x_t | x_0) with the seed's noise, the same for both images.
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    a = torch.cumprod(1 - betas, 0)[261]
    noise = torch.randn(4, 8, 16, generator=torch.Generator().manual_seed(5))
    latent = a.sqrt() * backbone.codec.encode(images) + (1 - a).sqrt() * noise
    prompt = backbone.conditioner(["", ""])["encoder_hidden_states"]
    name = "up_blocks.2.resnets.0.conv2"
    seen = {}
    handle = backbone.unet.get_submodule(name).register_forward_hook(
        lambda _module, _inputs, output: seen.update(map=output)
    )
    backbone.unet(latent, torch.tensor([261, 261]), encoder_hidden_states=prompt)
    handle.remove()
    torch.testing.assert_close(found.maps[name], seen["map"])
    other = stable_diffusion_backbone(mode="noised", timestep=261, seed=6, **options)
    assert not torch.equal(next(other.features(images)).maps[name], found.maps[name])


def test_noised_features_pair_with_generation_by_index(folder):
    backbone = stable_diffusion_backbone(
        device=CPU, model=str(folder), mode="noised", layers=("up_blocks.1.resnets.1.conv2",)
    )
    steps = list(backbone.features(torch.rand(1, 3, 64, 64)))
    assert [step.timestep for step in steps] == [0, 80, 180, 280, 380, 480, 580, 680, 780, 880, 980]
    assert [step.entry for step in steps] == list(range(11))
    assert all(list(step.maps) == ["up_blocks.1.resnets.1.conv2"] for step in steps)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "noised", "timestep": 1000}, r"timestep must lie in 0\.\.999, got 1000"),
        ({"mode": "backwards"}, "unknown mode of reading images 'backwards'"),
        ({"layers": ()}, "layers must be different ones in the decoder's order"),
        (
            {"layers": ("up_blocks.1.resnets.1.conv2", "up_blocks.0.resnets.0.conv2")},
            "in the decoder's order",
        ),
        ({"layers": ("up_blocks.9.resnets.0.conv2",)}, "unknown layer of .*: expected one of up_b"),
    ],
)
def test_bad_settings_are_refused(folder, options, message):
    with pytest.raises(InputError, match=message):
        stable_diffusion_backbone(device=CPU, model=str(folder), steps=(0,), num_steps=1, **options)


def test_a_model_that_predicts_v_inverts_as_its_twin_that_predicts_epsilon(folder, altered):
    """The same network, its output turned into v: v = (eps - sigma x) / alpha."""
    options = {"device": CPU, "num_steps": 5, "steps": (0, 2, 4)}
    epsilon = stable_diffusion_backbone(model=str(folder), **options)
    path = altered("scheduler/scheduler_config.json", prediction_type="v_prediction")
    twin = stable_diffusion_backbone(model=str(path), **options)

    def to_v(_module, inputs, output):
        a = twin.schedule.alpha_bar(int(inputs[1][0]))
        return ((output[0] - (1 - a) ** 0.5 * inputs[0]) / a**0.5,)

    twin.unet.register_forward_hook(to_v)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for first, second in zip(epsilon.features(images), twin.features(images), strict=True):
        for name, expected in first.maps.items():
            torch.testing.assert_close(second.maps[name], expected, rtol=1e-3, atol=1e-4)


def test_a_schedule_rescaled_to_zero_terminal_snr_is_refused(altered):
    path = altered("scheduler/scheduler_config.json", rescale_betas_zero_snr=True)
    with pytest.raises(InputError, match="rescaled to zero terminal SNR: Diffusion Hyperfeatures"):
        stable_diffusion_backbone(device=CPU, model=str(path))


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("unet", "diffusion_pytorch_model.safetensors"),
        ("vae", "diffusion_pytorch_model.safetensors"),
        ("text_encoder", "model.safetensors"),
    ],
)
def test_weights_that_are_not_all_there_are_refused(altered, part, name):
    from safetensors.torch import load_file, save_file

    path = altered("scheduler/scheduler_config.json")
    state = load_file(path / part / name)
    lost = sorted(state)[0]
    save_file({k: v for k, v in state.items() if k != lost}, path / part / name, {"format": "pt"})
    with pytest.raises(InputError, match=f"lacks 1 weights of its part '{part}', such as"):
        stable_diffusion_backbone(device=CPU, model=str(path))


def test_a_transformer_is_refused(altered):
    path = altered("unet/config.json", _class_name="SD3Transformer2DModel")
    with pytest.raises(
        InputError, match="its denoiser is a SD3Transformer2DModel, expected a UNet"
    ):
        stable_diffusion_backbone(device=CPU, model=str(path))
