"""Small random stand-ins for every published model, found under their aliases."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from published_checkpoints import SD15_CONFIG, published_state
from small_pipeline import save_small_pipeline

from warpkit.describe import published
from warpkit.features import model_sources

CHANNELS = (16,) * 6 + (8,) * 6
"""Channels of the 12 decoder layers of the small pipeline."""


def save_small_vit(root: Path, kind: str) -> Path:
    """A random DINO (`vit`, patches of 8) or DINOv2 (`dinov2`, of 14) of 12 blocks, 12 channels."""
    from transformers import Dinov2Config, Dinov2Model, ViTConfig, ViTModel

    shape = {"hidden_size": 12, "num_hidden_layers": 12, "num_attention_heads": 3}
    torch.manual_seed(0)
    if kind == "vit":
        config = ViTConfig(intermediate_size=24, image_size=32, patch_size=8, **shape)
        net = ViTModel(config, add_pooling_layer=False)
    else:
        net = Dinov2Model(Dinov2Config(mlp_ratio=2, image_size=42, patch_size=14, **shape))
    net.save_pretrained(root)
    return root


def save_published(path: Path, channels: tuple[int, ...] = CHANNELS, *, one_step: bool) -> Path:
    """A random aggregator in the published layout, of the published widths."""
    steps = {"save_timestep": [0], "num_timesteps": 1} if one_step else {}
    content = {
        "aggregation_network": published_state(channels, 1 if one_step else 11),
        "config": {**SD15_CONFIG, **steps},
    }
    if "sdv2" in path.name:
        content["config"] |= {"model_id": "stabilityai/stable-diffusion-2-1-base"}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def stand_in(monkeypatch: pytest.MonkeyPatch, root: Path, cache: Path) -> None:
    """Let every alias find a small model under `root`, which `save_all` has filled."""
    for alias, release in model_sources.RELEASES.items():
        kind = {"dino": "vit", "dinov2": "dinov2"}.get(alias, "sd")
        changed = dataclasses.replace(release, hub_ids=(str(root / kind), *release.hub_ids))
        monkeypatch.setitem(model_sources.RELEASES, alias, changed)

    def find(name: str, **_: object) -> Path:
        return root / Path(name).name

    monkeypatch.setattr(published, "find_file", find)
    monkeypatch.setenv("WARPKIT_CACHE", str(cache))


def save_all(root: Path) -> Path:
    """Every model that `stand_in` offers."""
    save_small_pipeline(root / "sd")
    for kind in ("vit", "dinov2"):
        save_small_vit(root / kind, kind)
    for name in ("aggregation_network", "aggregation_network_sdv2-1"):
        save_published(root / f"{name}.pt", one_step=False)
    save_published(root / "aggregation_network_one-step.pt", one_step=True)
    return root
