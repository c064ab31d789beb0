"""Stable Diffusion in one file: the same weights as in a folder, offline; strange files refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from original_names import save_single_file
from safetensors.torch import load_file, save_file
from small_pipeline import save_small_pipeline

from warpkit.checks import InputError
from warpkit.describe import load_extractor
from warpkit.features import single_file as module
from warpkit.features.codecs import TextConditioner
from warpkit.features.model_sources import Release
from warpkit.features.single_file import EmptyPromptTokens, load_single_file, unet_config
from warpkit.features.stable_diffusion import load_parts, stable_diffusion_backbone

CPU = torch.device("cpu")
SIZES = {
    "unet": {
        "sample_size": 8,
        "block_out_channels": (8, 8, 16, 16),
        "attention_head_dim": 4,
        "norm_num_groups": 4,
    },
    "vae": {"block_out_channels": (4, 4, 4, 4), "norm_num_groups": 2, "layers_per_block": 1},
    "text_encoder": {
        "vocab_size": 12,
        "hidden_size": 12,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 7,
        "bos_token_id": 10,
        "eos_token_id": 11,
        "pad_token_id": 11,
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_pipeline(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture(scope="module")
def file(folder: Path) -> Path:
    parts = load_parts(str(folder), torch.float32)
    return save_single_file(
        folder / "model.safetensors",
        unet=parts.unet,
        vae=parts.vae,
        text_encoder=parts.text_encoder,
    )


@pytest.fixture(autouse=True)
def nothing_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    """No vocabulary of a base model is found."""
    gone = Release(("nobody/no-such-model",), "none", 0.0)
    for alias in ("sd15", "sd14", "sd13", "sd21", "sd21-v"):
        monkeypatch.setitem(module.find_source.__globals__["RELEASES"], alias, gone)


def test_the_weights_are_those_of_the_folder(file, folder):
    ours = load_single_file(file, torch.float32, sizes=SIZES)
    theirs = load_parts(str(folder), torch.float32)
    for name in ("unet", "vae", "text_encoder"):
        found, expected = getattr(ours, name).state_dict(), getattr(theirs, name).state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected), name
    assert ours.scheduler["prediction_type"] == "epsilon"


def test_the_empty_prompt_needs_no_vocabulary(file, folder):
    ours = load_single_file(file, torch.float32, sizes=SIZES)
    theirs = load_parts(str(folder), torch.float32)
    assert isinstance(ours.tokenizer, EmptyPromptTokens)
    found = TextConditioner(ours.tokenizer, ours.text_encoder)(["", ""])["encoder_hidden_states"]
    expected = TextConditioner(theirs.tokenizer, theirs.text_encoder)([""])
    assert torch.equal(found[:1], expected["encoder_hidden_states"])
    assert torch.equal(found[1], found[0])
    with pytest.raises(InputError, match="the prompt 'a cat' needs a vocabulary, which a model in"):
        TextConditioner(ours.tokenizer, ours.text_encoder)(["a cat"])


def test_a_single_file_is_a_model(file, folder, monkeypatch):
    def small(path: Path, dtype: torch.dtype, **options: object) -> object:
        return load_single_file(path, dtype, sizes=SIZES, **options)

    monkeypatch.setattr("warpkit.features.stable_diffusion.load_single_file", small)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    first, second = (
        next(stable_diffusion_backbone(device=CPU, model=str(m), num_steps=1).features(images))
        for m in (file, folder)
    )
    assert all(torch.equal(first.maps[name], second.maps[name]) for name in second.maps)
    with pytest.raises(InputError, match="has no aggregator of its own"):
        load_extractor(str(file), device="cpu")


def test_the_built_in_architectures_have_the_published_sizes():
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    def count(part: torch.nn.Module) -> int:
        return sum(p.numel() for p in part.parameters())

    with torch.device("meta"):
        assert count(UNet2DConditionModel(**unet_config(768))) == 859_520_964
        assert count(UNet2DConditionModel(**unet_config(1024))) == 865_910_724
        assert count(AutoencoderKL(**module._VAE)) == 83_653_863
        for width, parameters in ((768, 123_060_480), (1024, 340_387_840)):
            config = CLIPTextConfig(**{**module._TEXT, **module._TEXTS[width]})
            assert count(CLIPTextModel(config)) == parameters


@pytest.mark.parametrize(
    ("drop", "add", "message"),
    [
        ("first_stage_model.", {}, "the weights of its AutoencoderKL are incomplete|another archi"),
        ("model.diffusion_model.out.2.weight", {}, "UNet2DConditionModel is of another architect"),
        ("cond_stage_model.", {}, "CLIPTextModel is of another architecture: Missing"),
        ("model.diffusion_model.", {}, "is no Stable Diffusion checkpoint in one file"),
        ("", {"conditioner.embedders.0.x": (1,)}, "is a Stable Diffusion XL or later"),
        (
            "model.diffusion_model.input_blocks.0.0.weight",
            {"model.diffusion_model.input_blocks.0.0.weight": (8, 9, 3, 3)},
            "its UNet takes 9 channels, its VAE gives 4",
        ),
        (
            "cond_stage_model.",
            {"cond_stage_model.model.positional_embedding": (7, 12)},
            "is a Stable Diffusion 2.x, and its weights do not say what they predict: give predict",
        ),
    ],
)
def test_other_files_are_refused(file, tmp_path, drop, add, message):
    tensors = {k: v for k, v in load_file(file).items() if not drop or not k.startswith(drop)}
    tensors |= {name: torch.zeros(shape) for name, shape in add.items()}
    changed = tmp_path / "changed.safetensors"
    save_file(tensors, changed)
    with pytest.raises(InputError, match=message):
        load_single_file(changed, torch.float32, sizes=SIZES)


def test_files_that_may_hold_code_or_are_cut_are_refused(tmp_path):
    pickle = tmp_path / "model.ckpt"
    pickle.write_bytes(b"abc")
    with pytest.raises(InputError, match=r"model\.ckpt may hold code and is not read"):
        load_parts(str(pickle), torch.float32)
    cut = tmp_path / "model.safetensors"
    cut.write_bytes(b"abc")
    with pytest.raises(InputError, match="is not a readable safetensors file"):
        load_parts(str(cut), torch.float32)
    with pytest.raises(InputError, match="no model file at"):
        load_parts(str(tmp_path / "none.safetensors"), torch.float32)


# Weights of the UNet alone


def test_noise_free_weights_drop_into_the_unet(folder, tmp_path):
    parts = load_parts(str(folder), torch.float32)
    changed = {k: v + 0.01 for k, v in parts.unet.state_dict().items()}
    weights = tmp_path / "noise-free.safetensors"
    save_file(changed, weights)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    options = {"mode": "clean", "timestep": 261, "steps": (0,), "num_steps": 1}
    backbone = stable_diffusion_backbone(
        device=CPU, model=str(folder), unet=str(weights), **options
    )
    state = backbone.unet.state_dict()
    assert all(torch.equal(state[name], changed[name]) for name in changed)
    (step,) = backbone.features(images)
    assert step.timestep == 261
    (plain,) = stable_diffusion_backbone(device=CPU, model=str(folder), **options).features(images)
    assert not torch.equal(
        plain.maps["up_blocks.1.resnets.1.conv2"], step.maps["up_blocks.1.resnets.1.conv2"]
    )


def test_weights_of_another_unet_are_refused(folder, tmp_path):
    state = load_parts(str(folder), torch.float32).unet.state_dict()
    state = {k: v.clone() for k, v in state.items()}
    file = tmp_path / "unet.safetensors"

    def refused(tensors: dict[str, torch.Tensor], message: str) -> None:
        save_file(tensors, file)
        with pytest.raises(InputError, match=message):
            stable_diffusion_backbone(device=CPU, model=str(folder), unet=str(file), num_steps=1)

    refused(
        {k: v for k, v in state.items() if k != "conv_in.weight"},
        r"1 of its \d+ tensors are missing \(such as conv_in.weight\), 0 are unknown to it",
    )
    refused(state | {"more": torch.zeros(1)}, r"1 are unknown to it \(such as more\)")
    refused(
        state | {"conv_in.bias": torch.zeros(9)},
        r"'conv_in.bias' is \(9,\) there, \(8,\) in the model",
    )
    with pytest.raises(InputError, match=r"'none\.safetensors' is no file here; on the hub"):
        stable_diffusion_backbone(
            device=CPU, model=str(folder), unet="none.safetensors", num_steps=1
        )
