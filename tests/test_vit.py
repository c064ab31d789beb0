"""DINO and DINOv2: the very features of transformers, at the right place of the image."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import save_small_vit
from torch import Tensor, nn

from warpkit.aggregate.checkpoint import load_aggregator
from warpkit.checks import InputError
from warpkit.features.log_bins import bin_count, log_bins
from warpkit.features.vit import VitBackbone, load_vit, vit_backbone

CPU = torch.device("cpu")
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def network(kind: str, *, blocks: int = 3, width: int = 12, heads: int = 3) -> nn.Module:
    from transformers import Dinov2Config, Dinov2Model, ViTConfig, ViTModel

    shape = {
        "hidden_size": width,
        "num_hidden_layers": blocks,
        "num_attention_heads": heads,
    }
    torch.manual_seed(1)
    if kind == "vit":
        config = ViTConfig(intermediate_size=4 * width, image_size=32, patch_size=8, **shape)
        return ViTModel(config, add_pooling_layer=False).eval()
    return Dinov2Model(Dinov2Config(image_size=42, patch_size=14, **shape)).eval()


def images(height: int, width: int, batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def hidden_states(net: nn.Module, pixels: Tensor) -> list[Tensor]:
    """Inputs of the blocks and the output of the last, by the forward pass of transformers."""
    more = {"interpolate_pos_encoding": True} if net.config.model_type == "vit" else {}
    return list(net((pixels - MEAN) / STD, output_hidden_states=True, **more).hidden_states)


def as_map(tokens: Tensor, rows: int, columns: int) -> Tensor:
    return tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, rows, columns)


@pytest.mark.parametrize(
    ("kind", "size"), [("vit", (384, 6)), ("dinov2", (768, 12))], ids=["vits8", "vitb14"]
)
def test_the_features_are_those_of_transformers_at_the_real_sizes(kind, size):
    width, heads = size
    net = network(kind, blocks=12, width=width, heads=heads)
    patch = net.config.patch_size
    pixels = images(2 * patch, 3 * patch, batch=1)
    names = ("block.0.token", "block.9.key", "block.9.value", "block.11.token")
    (step,) = VitBackbone(net, name="x", layers=names).features(pixels)
    states = hidden_states(net, pixels)
    blocks = net.layers if kind == "vit" else net.encoder.layer
    block = blocks[9]
    normed = (block.layernorm_before if kind == "vit" else block.norm1)(states[9])
    expected = {
        "block.0.token": states[1],
        "block.9.key": block.attention.k_proj(normed),
        "block.9.value": block.attention.v_proj(normed),
        "block.11.token": states[12],
    }
    assert (step.entry, step.timestep) == (0, -1)
    for name in names:
        assert step.maps[name].shape == (1, width, 2, 3)
        torch.testing.assert_close(step.maps[name], as_map(expected[name], 2, 3))


def test_every_block_is_a_layer_of_the_usual_facet():
    dino, dinov2 = (VitBackbone(network(kind), name="x") for kind in ("vit", "dinov2"))
    assert [layer.name for layer in dino.spec.layers] == [f"block.{i}.key" for i in range(3)]
    assert [layer.name for layer in dinov2.spec.layers] == [f"block.{i}.token" for i in range(3)]
    assert {layer.channels for layer in dino.spec.layers} == {12}
    assert (dino.spec.multiple, dino.spec.output_stride, dinov2.spec.output_stride) == (8, 8, 14)
    assert dino.spec.steps == (0,)


@torch.no_grad()
def test_overlapping_patches_lie_where_their_cells_are():
    """A projection that reads the four middle pixels: cell u reads pixels 4 u + 1 and 4 u + 2."""
    net = network("vit")
    projection = net.embeddings.patch_embeddings.projection
    projection.weight.zero_()
    projection.bias.zero_()
    projection.weight[0, 0, 3:5, 3:5] = 0.25
    net.embeddings.position_embeddings.zero_()
    backbone = VitBackbone(net, name="x", stride=4)
    pixels = images(12, 20, batch=1)
    tokens, grid = backbone._embed(pixels)
    assert grid == (3, 5)
    red = ((pixels - MEAN) / STD)[0, 0]
    for row, column in itertools.product(range(3), range(5)):
        part = red[4 * row + 1 : 4 * row + 3, 4 * column + 1 : 4 * column + 3]
        found = as_map(tokens, 3, 5)[0, 0, row, column]
        torch.testing.assert_close(found, part.mean())
    (step,) = backbone.features(pixels)
    assert step.maps["block.2.key"].shape == (1, 12, 3, 5)


def test_log_bins_are_means_around_each_cell():
    """Against loops: level k averages 3^k x 3^k cells, 3^k away, clamped at the border."""
    maps = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    found = log_bins(maps, 2)
    assert found.shape == (2, 3 * bin_count(2), 5, 7)
    assert bin_count(2) == 17
    for row, column in itertools.product(range(5), range(7)):
        parts = [maps[:, :, row, column]]
        for reach in (1, 3):
            for dy, dx in itertools.product((-reach, 0, reach), repeat=2):
                if dy == dx == 0:
                    continue
                y, x = min(max(row + dy, 0), 4), min(max(column + dx, 0), 6)
                half = reach // 2
                rows = slice(max(y - half, 0), y + half + 1)
                columns = slice(max(x - half, 0), x + half + 1)
                parts.append(maps[:, :, rows, columns].mean(dim=(2, 3)))
        torch.testing.assert_close(found[:, :, row, column], torch.cat(parts, dim=1))
    with pytest.raises(InputError, match="need at least one level, got 0"):
        log_bins(maps, 0)


def test_bins_multiply_the_channels():
    net = network("vit")
    plain, binned = (VitBackbone(net, name="x", bins=bins) for bins in (0, 1))
    assert binned.spec.layers[0].channels == 12 * 9
    pixels = images(24, 16)
    (first,), (second,) = plain.features(pixels), binned.features(pixels)
    assert torch.equal(second.maps["block.1.key"], log_bins(first.maps["block.1.key"], 1))


def test_a_folder_loads_and_other_models_are_refused(tmp_path):
    folder = save_small_vit(tmp_path / "dinov2", "dinov2")
    backbone = vit_backbone(device=CPU, model=str(folder), layers=("block.11.token",))
    assert backbone.patch == 14
    assert not any(p.requires_grad for p in backbone.net.parameters())
    with pytest.raises(InputError, match="has the one step 0 of 1, got steps"):
        vit_backbone(device=CPU, model=str(folder), steps=(0, 4), num_steps=50)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "resnet"}')
    with pytest.raises(InputError, match="a model of type 'resnet': expected vit"):
        load_vit(str(tmp_path / "other"))
    with pytest.raises(InputError, match=r"is a folder but no transformers model: expected config"):
        load_vit(str(tmp_path))
    state = load_file(folder / "model.safetensors")
    state.pop("layernorm.bias")
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"lacks 1 of its weights, such as layernorm\.bias"):
        load_vit(str(folder))
    (folder / "model.safetensors").write_bytes(b"abc")
    with pytest.raises(InputError, match="cannot be read"):
        load_vit(str(folder))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ("block.3.key",)}, r"no layer 'block\.3\.key': expected block\.0\.key to"),
        ({"layers": ("9.key",)}, "has no layer '9.key'"),
        ({"layers": ("block.1.kee",)}, "unknown facet 'kee'"),
        ({"layers": ("block.2.key", "block.1.key")}, "in rising order of blocks"),
        ({"stride": 16}, r"lies in 1\.\.8"),
        ({"bins": -1}, "are 0 or more, got -1"),
    ],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        VitBackbone(network("vit"), name="x", **options)


def test_an_aggregator_trains_over_its_blocks(cli, tmp_path, monkeypatch):
    """As the head of configs/paper/dino-aggregated.yaml says it."""
    from test_train_pair_lists import write_spair

    root = Path(__file__).parents[1]
    folder = save_small_vit(tmp_path / "dino", "vit")
    write_spair(tmp_path / "data" / "SPair-71k")
    monkeypatch.chdir(tmp_path)
    done = cli(
        *("train", "aggregator", "-c", root / "configs/train_spair.yaml", "-o", "runs/dino"),
        *("--set", f"backbone={folder}", "--set", "layer_steps=null", "--set", "num_steps=null"),
        *("--set", "size=32", "--set", "steps=1", "--set", "device=cpu", "--set", "tracker=none"),
        *("--set", "validation=null"),
        small=False,
    )
    assert done.code == 0, done.err
    config = load_aggregator(Path("runs/dino/aggregator.safetensors")).config
    assert config.layers == tuple(f"block.{i}.key" for i in range(12))
    image = tmp_path / "data/SPair-71k/JPEGImages/cat/a.jpg"
    described = cli(
        *("extract", image, "-o", "out", "--model", folder),
        *("--aggregator", "runs/dino/aggregator.safetensors"),
    )
    assert described.code == 0, described.err
