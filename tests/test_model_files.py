"""Model files: every preset of `configs/` loads and runs, on small random models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_models import save_all, stand_in

from warpkit.aggregate.checkpoint import load_aggregator, save_aggregator
from warpkit.aggregate.network import AggregationConfig, AggregationNetwork
from warpkit.aggregate.pruning import kept_entries, restrict
from warpkit.checks import InputError
from warpkit.describe import load_extractor, resolve_model
from warpkit.features.model_sources import RELEASES
from warpkit.io.config import load_config

ROOT = Path(__file__).parents[1]
FILES = {path.stem: path for path in sorted((ROOT / "configs").glob("[pm]*/*.yaml"))}
LAYER_4 = "up_blocks.1.resnets.1.conv2"

# Channels of the descriptor, recorded departing steps, recorded layers, of the small models.
RECORDED = (0, 4, 9, 14, 19, 24, 29, 34, 39, 44, 49)
EXPECTED = {
    "ours": (384, RECORDED, 12),
    "ours-one-step": (384, (0,), 12),
    "ours-sd21": (384, RECORDED, 12),
    "ours-stop-1": (384, (0,), 12),
    "ours-stop-5": (384, (0, 4), 12),
    "ours-stop-10": (384, (0, 4, 9), 12),
    "ours-pruned": (384, None, 1),
    "ours-top-10": (384, None, None),
    "sd-layer-pruned": (None, None, 1),
    "sd-layer-4": (16, (0,), 1),
    "sd-concat-all": (144, (0,), 12),
    "sd-noised": (16, (0,), 1),
    "sd13-layer-4": (16, (0,), 1),
    "sd14-layer-4": (16, (0,), 1),
    "dino": (12, (0,), 1),
    "dinov2": (12, (0,), 1),
    "dino-concat-all": (144, (0,), 12),
    "dinov2-concat-all": (144, (0,), 12),
    "dino-aggregated": (8, (0,), 12),
    "dinov2-aggregated": (8, (0,), 12),
    "cleandift": (16, (0,), 1),
    "dino-log-bins": (204, (0,), 1),
    "sd15-native": (384, RECORDED, 12),
    "sd21-v": (16, (0,), 1),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_all(tmp_path_factory.mktemp("models"))


@pytest.fixture
def small(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every alias finds a small model; trained aggregators lie where the files expect them."""
    stand_in(monkeypatch, root, tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    for name, facet in (("dino", "key"), ("dinov2", "token")):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        layers = tuple(f"block.{i}.{facet}" for i in range(12))
        config = AggregationConfig(name, layers, (12,) * 12, (0,), 1, 8, 4, 2)
        torch.manual_seed(0)
        save_aggregator(folder / "aggregator.safetensors", AggregationNetwork(config))
    return root


def picture(height: int = 40, width: int = 56) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_every_file_has_its_expectation():
    assert sorted(FILES) == sorted(EXPECTED)


@pytest.mark.parametrize("name", FILES)
def test_every_model_file_loads_and_runs(small, name, monkeypatch):
    if name == "cleandift":  # the weights on the hub: here, those of the small UNet itself
        weights = small / "sd" / "unet" / "diffusion_pytorch_model.safetensors"
        monkeypatch.setattr("warpkit.features.stable_diffusion.find_file", lambda *_, **__: weights)
    extractor = load_extractor(str(FILES[name]), device="cpu", size=64)
    channels, steps, layers = EXPECTED[name]
    spec = extractor.backbone.spec
    (found,) = extractor.describe([picture()])
    assert extractor.name == name
    assert (found.height, found.width) == (40, 56)
    assert found.channels == (channels or spec.layers[0].channels)
    assert steps is None or spec.steps == steps
    assert layers is None or len(spec.layers) == layers
    assert bool(found.data.isfinite().all())
    assert float(found.data.std(dim=(1, 2)).mean()) > 0
    config = resolve_model(str(FILES[name])).config
    assert extractor.load_size == config.load_size
    assert extractor.fit == (config.fit or "pad")


def test_a_command_takes_a_model_file(small, cli, tmp_path):
    from warpkit.io.images import write_image

    write_image(tmp_path / "a.png", picture())
    done = cli("extract", "a.png", "-o", "out", "--model", FILES["sd-layer-4"])
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert record["config"]["model"] == str(FILES["sd-layer-4"])
    assert record["model_file"]["layers"] == [LAYER_4]


# What the settings mean


def direction(extractor) -> torch.Tensor:
    (found,) = extractor.describe([picture()])
    return F.normalize(found.data.flatten(1), dim=0)


def write_file(path: Path, **settings: object) -> str:
    import yaml

    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return str(path)


def test_early_stopping_is_the_sum_over_what_was_recorded(small, tmp_path):
    """Written out: the first two steps' entries with their weights of the whole softmax."""
    file = write_file(tmp_path / "m.yaml", backbone="sd15", aggregator="sd15", stop_after=5)
    extractor = load_extractor(file, device="cpu", size=64)
    whole = load_extractor("sd15", device="cpu", size=64)
    inputs = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    weights = torch.softmax(whole.network.mixing_weights, 0).reshape(11, 12)
    total = torch.zeros(1, 384, 8, 8)
    for step in whole.backbone.features(inputs):
        if step.step > 4:
            break
        for layer, maps in enumerate(step.maps.values()):
            up = F.interpolate(maps, size=(8, 8), mode="bilinear", align_corners=False)
            total += weights[step.entry, layer] * whole.network.bottleneck_layers[layer](up)
    found = extractor.aggregate(inputs)
    kept = weights[:2].sum()
    torch.testing.assert_close(found * kept, total, rtol=1e-4, atol=1e-5)


def test_pruning_keeps_the_entry_of_the_greatest_weight(small, tmp_path):
    path = resolve_model("sd15").aggregator_file()
    network = load_aggregator(path)
    best = int(network.mixing_weights.argmax())
    assert kept_entries(network, top=1) == [divmod(best, 12)]
    assert len(kept_entries(network, top=10)) == 10
    assert set(kept_entries(network, stop_after=10, top=3)) <= {
        (s, k) for s in range(3) for k in range(12)
    }
    extractor = load_extractor(str(FILES["sd-layer-pruned"]), device="cpu", size=64)
    step, layer = divmod(best, 12)
    spec = extractor.backbone.spec
    assert spec.steps == (network.config.steps[step],)
    assert [item.name for item in spec.layers] == [network.config.layers[layer]]
    # The raw map itself, resized to the output grid.
    inputs = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    whole = load_extractor("sd15", device="cpu", size=64).backbone
    (raw,) = (s.maps[spec.layers[0].name] for s in whole.features(inputs) if s.entry == step)
    expected = F.interpolate(raw, size=(8, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(extractor.aggregate(inputs), expected)


def test_restricting_to_every_entry_changes_nothing(small):
    network = load_aggregator(resolve_model("sd15-onestep").aggregator_file())
    again = restrict(network, kept_entries(network))
    assert again.config == network.config
    torch.testing.assert_close(again.mixing(), network.mixing())
    few = restrict(network, [(0, 2), (0, 5)])
    ratio = network.mixing()[0, 2] / network.mixing()[0, 5]
    torch.testing.assert_close(few.mixing()[0, 0] / few.mixing()[0, 1], ratio)


def test_images_are_reduced_before_they_are_enlarged(small, tmp_path):
    settings = {"backbone": "sd15", "layers": [LAYER_4], "fit": "stretch"}
    plain = load_extractor(write_file(tmp_path / "a.yaml", **settings), device="cpu", size=64)
    file = write_file(tmp_path / "b.yaml", load_size=16, **settings)
    reduced = load_extractor(file, device="cpu", size=64)
    image = picture(64, 64)
    seen = []
    reduced.aggregate = lambda inputs: seen.append(inputs) or torch.zeros(1, 4, 8, 8)
    (found,) = reduced.describe([image])
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    small_one = F.interpolate(tensor, size=16, mode="bilinear", align_corners=False, antialias=True)
    expected = F.interpolate(small_one, size=64, mode="bilinear", align_corners=False)
    torch.testing.assert_close(seen[0], expected)
    (other,) = plain.describe([image])
    assert (found.cell_height, found.cell_width) == (other.cell_height, other.cell_width)
    # Another fit asked for leaves the paper's way of loading.
    assert load_extractor(file, device="cpu", size=64, fit="pad").load_size is None


# Errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "sd15", "top": 3}, "choose among an aggregator's entries: name the aggrega"),
        (
            {"backbone": "sd15", "aggregator": "sd15", "steps": [0]},
            "steps, num_steps and layers are those of the aggregator",
        ),
        ({"backbone": "sd15", "load_size": 224}, "load_size is a positive side in pixels and need"),
        ({"backbone": "sd15", "agregator": "sd15"}, "did you mean 'aggregator'"),
        ({"backbone": "sd15", "aggregator": "none.pt"}, "no aggregator checkpoint at none.pt"),
        ({"backbone": "x.yaml"}, "its backbone is a model file itself"),
        ({"backbone": "sd15", "mode": "noisy"}, "did you mean 'noised'"),
        (
            {"backbone": "sd15", "timestep": 5, "steps": [0], "num_steps": 1},
            "a timestep is for the modes noised and clean",
        ),
        ({"backbone": "sd15", "stride": 4}, "does not take all of .*stride"),
        ({"backbone": "sd15", "layers": ["up_blocks.1.resnet.1.conv2"]}, f"mean '{LAYER_4}'"),
        ({"backbone": "dino", "layers": ["block.12.key"]}, "no layer 'block.12.key': expected blo"),
        ({"backbone": "dino", "layers": ["block.1.keys"]}, "unknown facet 'keys'"),
        ({"backbone": "dino", "stride": 5}, r"lies in 1\.\.8 and differs from it by an even numb"),
        ({"backbone": "sd15", "aggregator": "sd15", "top": 1000}, r"top must lie in 1\.\.132"),
        (
            {"backbone": "sd21", "aggregator": "sd15"},
            r"does not fit the backbone 'sd21': it expects the features of 'sd15'",
        ),
        (
            {"backbone": "dinov2", "aggregator": "sd15"},
            r"does not fit the backbone 'dinov2': it expects the features of 'sd15'",
        ),
    ],
)
def test_bad_model_files_are_refused(small, tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        load_extractor(write_file(tmp_path / "m.yaml", **settings), device="cpu", size=64)


def test_a_model_file_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"none\.yaml: no such configuration file"):
        load_extractor("none.yaml", device="cpu")


def test_the_documentation_has_every_file():
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert [name for name in FILES if f"/{name}.yaml)" not in text] == []
    for alias in RELEASES:
        assert f"| `{alias}`" in text


def test_the_files_name_no_unknown_key():
    from warpkit.describe.model_file import ModelConfig

    for path in FILES.values():
        text = path.read_text(encoding="utf-8")
        assert text.startswith("# "), f"{path.name} says at its top what it is"
        assert load_config(ModelConfig, path).backbone
