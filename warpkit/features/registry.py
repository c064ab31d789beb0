"""The table of backbones: a name, a function that builds one. Adding a backbone is one line here.

A factory takes `device` (already resolved) and options, and returns a `Backbone`. `steps` and
`num_steps` are always among the options: the aggregator at hand says what must be recorded.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from warpkit.checks import InputError, one_of, require, same_definition
from warpkit.features.backbone import Backbone

__all__ = ["backbone_names", "create_backbone", "register_backbone", "resolve_device"]

Factory = Callable[..., Backbone]
F = TypeVar("F", bound=Factory)

# Name -> module that registers it: modules are imported when they are asked for.
_BUILT_IN = {
    "tiny": "warpkit.features.tiny",
    "stable-diffusion": "warpkit.features.stable_diffusion",
    "vit": "warpkit.features.vit",
    "efficientnet-lite0": "warpkit.features.efficientnet",
}
_factories: dict[str, Factory] = {}


def register_backbone(name: str) -> Callable[[F], F]:
    """Decorator that enters a factory under a name.

    Raises:
        InputError: the name is taken by another factory.
    """

    def enter(factory: F) -> F:
        taken = _factories.get(name)
        require(
            taken is None or same_definition(taken, factory),
            f"a backbone named '{name}' is registered already: choose another name",
        )
        _factories[name] = factory
        return factory

    return enter


def backbone_names() -> list[str]:
    """Every registered name, built-in ones first."""
    return list(dict.fromkeys([*_BUILT_IN, *_factories]))


def create_backbone(name: str, *, device: str = "auto", **options: Any) -> Backbone:
    """Build a backbone by name.

    Args:
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        options: passed to the factory.

    Raises:
        InputError: an unknown name, or a device that is not there.
    """
    one_of(name, backbone_names(), "backbone")
    if name not in _factories:
        importlib.import_module(_BUILT_IN[name])
    return _factories[name](device=resolve_device(device), **options)


def resolve_device(device: str) -> torch.device:
    """`auto` is CUDA, else Apple MPS, else the CPU; anything else must exist.

    Raises:
        InputError: the device is unknown or not available here.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise InputError(
            f"unknown device '{device}': expected auto, cpu, cuda, cuda:N or mps"
        ) from error
    require(
        resolved.type in ("cpu", "cuda", "mps"),
        f"unknown device '{device}': expected auto, cpu, cuda, cuda:N or mps",
    )
    require(
        resolved.type != "cuda" or torch.cuda.is_available(),
        f"device '{device}' asked for, but torch sees no CUDA GPU here: use --device cpu",
    )
    require(
        resolved.type != "cuda" or (resolved.index or 0) < torch.cuda.device_count(),
        f"device '{device}' asked for, but torch sees {torch.cuda.device_count()} CUDA GPUs here",
    )
    require(
        resolved.type != "mps" or torch.backends.mps.is_available(),
        "device 'mps' asked for, but torch sees no Apple GPU here: use --device cpu",
    )
    return resolved
