"""The shipped training configurations, run at toy size as a user runs them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pair_folders import write_spair
from small_pipeline import save_small_pipeline

from warpkit.aggregate.checkpoint import load_aggregator
from warpkit.describe import load_extractor
from warpkit.features.diffusion_settings import recorded_steps
from warpkit.io.config import load_config
from warpkit.io.images import read_image
from warpkit.train.aggregator import AggregatorTrainConfig
from warpkit.train.backbone import BackboneTrainConfig
from warpkit.train.backbone_config import SamplesConfig
from warpkit.train.foreground_config import ForegroundTrainConfig

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize(
    "name", [name for name in CONFIGS if name not in ("propagate.yaml", "synth_tiny.yaml")]
)
def test_every_training_configuration_is_read(name):
    kinds = {"backbone": BackboneTrainConfig, "foreground": ForegroundTrainConfig}
    kind = next((kinds[word] for word in kinds if word in name), AggregatorTrainConfig)
    assert load_config(kind, ROOT / "configs" / name).steps > 0


def test_the_probes_in_the_backbone_s_configuration_are_read(tmp_path):
    """As they stand there in comments."""
    text = (ROOT / "configs/tiny_backbone.yaml").read_text(encoding="utf-8")
    block = text.split("change nothing in the training:\n")[1]
    path = tmp_path / "probes.yaml"
    lines = [line.removeprefix("# ") for line in block.splitlines()]
    path.write_text("data: data/train\n" + "\n".join(lines), encoding="utf-8")
    config = load_config(BackboneTrainConfig, path)
    assert (config.held_out, config.probe_every) == (512, 1000)
    assert (config.validation.count, config.validation.layers) == (100, (5, 7))
    assert config.samples == SamplesConfig(guidance=8, pag_scale=3, steps=20, skip=5)


def test_the_recipe_of_the_paper():
    config = load_config(AggregatorTrainConfig, ROOT / "configs/train_spair.yaml")
    assert config.layer_steps == recorded_steps(50)
    (pairs,) = config.pairs
    assert (pairs.count, pairs.view, pairs.split, pairs.flip) == (1, "stretch", "train", 0)
    shape = (config.width, config.bottleneck, config.groups, config.order)
    assert shape == (384, 96, 32, "resize-first")
    assert (config.steps, config.learning_rate, config.weight_decay) == (5000, 1e-3, 0)
    assert (config.backbone, config.size, config.final_rate) == ("sd15", 512, 1)


def test_the_recipe_of_the_paper_trains_and_exports(cli, tmp_path, monkeypatch):
    """Over a random pipeline of its layers and steps; widths are the published ones."""
    monkeypatch.chdir(tmp_path)
    backbone = save_small_pipeline(tmp_path / "pipeline")
    spair = write_spair(tmp_path / "data" / "SPair-71k")
    shutil.copytree(spair / "PairAnnotation" / "trn", spair / "PairAnnotation" / "val")
    done = cli(
        *("train", "aggregator", "-c", ROOT / "configs/train_spair.yaml", "-o", "runs/spair"),
        *("--set", f"backbone={backbone}", "--set", "size=64", "--set", "steps=1"),
        *("--set", "device=cpu", "--set", "tracker=none"),
        small=False,
    )
    assert done.code == 0, done.err
    trained = Path("runs/spair/aggregator.safetensors")
    found = load_aggregator(trained).config
    assert found.channels == (16,) * 6 + (8,) * 6
    assert (found.steps, found.num_steps) == (recorded_steps(50), 50)
    rows = [json.loads(line) for line in Path("runs/spair/log.jsonl").read_text().splitlines()]
    assert [set(row) - {"seconds"} for row in rows] == [
        {"step", "pairs"},
        {"step", "validation"},
    ]

    exported = cli(*("train", "export", trained, "-o", "aggregation_network.pt"), small=False)
    assert (exported.code, exported.out) == (0, "written to aggregation_network.pt\n")
    content = torch.load("aggregation_network.pt", weights_only=True)
    # As the published files have it: the most noisy of 50 generating steps is saved last.
    assert content["config"]["save_timestep"] == [49, 45, 40, 35, 30, 25, 20, 15, 10, 5, 0]
    assert content["config"]["projection_dim"] == 384
    image = read_image(spair / "JPEGImages" / "cat" / "a.jpg")
    first, second = (
        load_extractor(str(backbone), device="cpu", aggregator=file, size=64).describe([image])[0]
        for file in (trained, "aggregation_network.pt")
    )
    assert torch.equal(first.data, second.data)


def test_an_export_of_the_other_order_says_what_it_is_worth(cli, tmp_path, caplog):
    own = ROOT / "warpkit/weights/tiny-aggregator.safetensors"
    target = tmp_path / "tiny.pt"
    done = cli("train", "export", own, "-o", target, small=False)
    assert done.code == 0
    assert "the authors' own code would compute other descriptors" in caplog.text
    assert load_aggregator(target).config == load_aggregator(own).config
    again = cli("train", "export", own, "-o", target, small=False)
    assert again.code == 2
    assert "tiny.pt exists: give --overwrite" in again.err
    assert cli("train", "export", own, "-o", target, "--overwrite", small=False).code == 0
    lost = cli("train", "export", own, "-o", tmp_path / "no" / "x.pt", small=False)
    assert lost.code == 2
    assert "the folder" in lost.err


# The section of docs/training.md


def commands() -> list[list[str]]:
    """The commands of "Train on your own data", lines that go on joined."""
    text = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    section = text.split("## Train on your own data")[1].split("\n## ")[0]
    (block,) = re.findall(r"^```\n(warpkit train.*?)^```", section, re.MULTILINE | re.DOTALL)
    return [shlex.split(line, comments=True) for line in block.replace("\\\n", " ").splitlines()]


def test_a_folder_of_pairs_trains_as_the_docs_say(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subprocess.run(
        [sys.executable, ROOT / "examples/render_pairs.py", "mine", "--count", "3"], check=True
    )
    shutil.copytree(ROOT / "configs", "configs")
    train, evaluate = commands()
    assert train == [
        "warpkit",
        "train",
        "aggregator",
        "-c",
        "configs/own_pairs.yaml",
        "-o",
        "runs/mine",
    ]
    done = cli(
        *train[1:],
        *("--set", "steps=2", "--set", "size=32", "--set", "device=cpu", "--set", "tracker=none"),
        small=False,
    )
    assert done.code == 0, done.err
    assert done.out == "written to runs/mine/aggregator.safetensors\n"
    scored = cli(
        *evaluate[1:],
        "--size",
        "32",
        "--device",
        "cpu",
        "--no-cache",
        "--json",
        "r.json",
        small=False,
    )
    assert scored.code == 0, scored.err
    assert "pair list" in scored.out
    assert json.loads(Path("r.json").read_text(encoding="utf-8"))
