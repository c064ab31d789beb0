"""The rows of every table beside the model: baselines by name, and what tells methods apart.

A baseline that describes images (`DESCRIBERS`) goes through the same matcher and propagation as
the model does; the others answer in their own way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import torch

from warpkit.checks import one_of
from warpkit.describe.extractor import ModelDescriber
from warpkit.evaluate.baselines import Hog, RgbPatches
from warpkit.features.registry import resolve_device
from warpkit.types import Describer

__all__ = [
    "DESCRIBERS",
    "FIELD_BASELINES",
    "MASK_BASELINES",
    "POINT_BASELINES",
    "baseline_describer",
    "describer_digest",
]

# Sides of the model's inputs in pixels. The classifier's grid is coarse: clips need a larger input.
# Patches of colour on 128 cells took five times as long on clips as on 64, for little: J 0.890
# instead of 0.865 on every fifth frame of DAVIS's blackswan.
_PAIR_SIZE = {"hog": 256, "rgb-patches": 128, "random-weights": 128, "efficientnet-lite0-raw": 320}
_CLIP_SIZE = {"hog": 480, "rgb-patches": 64, "random-weights": 128, "efficientnet-lite0-raw": 480}


def _random(size: int, device: torch.device) -> Describer:
    """The embedded model's architecture with weights as they are before training, seed 0."""
    from warpkit.describe.hypercolumns import Hypercolumns
    from warpkit.features.tiny import UnetConfig, build_unet, unet_backbone

    config = UnetConfig()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = build_unet(config)
    backbone = unet_backbone(unet.eval().requires_grad_(False).to(device), config, size=size)
    # The last layer of each resolution: as good as all twelve, and three times as fast.
    last = {layer.stride: layer.name for layer in backbone.spec.layers}
    return Hypercolumns(backbone, name="random-weights", layers=tuple(last.values()))


def _efficientnet(size: int, device: torch.device) -> Describer:
    """Strides 16 and 32 of a classifier trained on ImageNet's labels."""
    from warpkit.describe.hypercolumns import Hypercolumns
    from warpkit.features.efficientnet import EfficientNetBackbone

    backbone = EfficientNetBackbone(device=device, blocks=(10, 15), size=size)
    return Hypercolumns(backbone, name="efficientnet-lite0-raw")


DESCRIBERS: dict[str, Callable[[int, torch.device], Describer]] = {
    "hog": lambda size, device: Hog(size=size),
    "rgb-patches": lambda size, device: RgbPatches(size=size),
    "random-weights": _random,
    "efficientnet-lite0-raw": _efficientnet,
}
POINT_BASELINES = ("identity", *DESCRIBERS)
MASK_BASELINES = ("copy-first", "dis-flow", *DESCRIBERS)
FIELD_BASELINES = ("identity", "dis-flow", *DESCRIBERS)


def baseline_describer(name: str, *, device: str = "auto", clips: bool = False) -> Describer:
    """A describer to compare with.

    Args:
        name: a key of `DESCRIBERS`.
        device: as for models.
        clips: for propagation through clips, where finer grids do better.

    Raises:
        InputError: an unknown name, or a package that is not installed.
    """
    one_of(name, DESCRIBERS, "baseline")
    size = (_CLIP_SIZE if clips else _PAIR_SIZE)[name]
    return DESCRIBERS[name](size, resolve_device(device))


def describer_digest(describer: Describer) -> str:
    """What a describer does, as text: a model's digest, else a hash of what two pictures give.

    Other weights, sizes, steps or libraries give other bits, whatever the names say.
    """
    if isinstance(describer, ModelDescriber):
        return describer.digest()
    digest = hashlib.sha256()
    generator = np.random.default_rng(0)
    for height, width in ((72, 100), (100, 64)):
        coarse = generator.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        picture = np.kron(coarse, np.ones((4, 4, 1), np.uint8))
        (described,) = describer.describe([picture])
        digest.update(repr((described.data.shape, described.cell_height)).encode())
        digest.update(described.data.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
