"""Aggregator checkpoints: our own single safetensors file, and the published `.pt` layout.

Our file keeps the whole configuration in the safetensors header. The published layout is a pickle
with `aggregation_network` (state dict) beside `config`; it is read with `weights_only=True`, so a
file that holds code is refused.
"""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from warpkit.aggregate.network import AggregationConfig, AggregationNetwork
from warpkit.checks import InputError, first_line, is_file, require
from warpkit.features.backbone import BackboneSpec
from warpkit.features.model_sources import release_name
from warpkit.io.tensors import read_tensors, write_tensors
from warpkit.io.whole import written_whole

__all__ = [
    "check_fits",
    "load_aggregator",
    "load_published",
    "save_aggregator",
    "save_published",
]

# What reading nonsense can raise: wrong types, wrong keys, sizes beyond all memory.
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)

_SD_LAYERS = tuple(f"up_blocks.{i}.resnets.{j}.conv2" for i in range(4) for j in range(3))


def save_aggregator(
    path: Path, network: AggregationNetwork, *, half: bool = True, **record: Any
) -> None:
    """Write weights and configuration into one safetensors file, in one step.

    Args:
        half: in half precision, else as they are.
        record: JSON-able facts about the training, kept in the file's metadata.
    """
    tensors = {
        name: (value.half() if half else value).contiguous().cpu()
        for name, value in network.state_dict().items()
    }
    metadata = {
        "aggregator": json.dumps(asdict(network.config)),
        "record": json.dumps(record),
    }
    write_tensors(path, tensors, metadata)


def load_aggregator(path: Path | str, *, model: str | None = None) -> AggregationNetwork:
    """Read an aggregator: a `.safetensors` file of ours, or a published `.pt` file.

    Args:
        model: for a published file, the backbone it belongs to when its config does not say.

    Raises:
        InputError: missing, unreadable, refused (code inside), or of another layout.
    """
    path = Path(path)
    require(is_file(path), f"no aggregator checkpoint at {path}")
    if path.suffix != ".safetensors":
        return load_published(path, model=model)
    with _reading(path):
        return _load_own(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file leads to into one line that names it."""
    try:
        yield
    except InputError:
        raise
    except _DAMAGE as error:
        raise InputError(
            f"{path} is damaged or no aggregator ({type(error).__name__}: {first_line(error)})"
        ) from error


def _load_own(path: Path) -> AggregationNetwork:
    try:
        tensors, metadata = read_tensors(path)
        require(
            "aggregator" in metadata,
            f"{path} holds no warpkit aggregator (no 'aggregator' in its metadata)",
        )
        raw: dict[str, Any] = json.loads(metadata["aggregator"])
        state = {name: tensor.float() for name, tensor in tensors.items()}
    except SafetensorError as error:
        raise InputError(f"{path} is not a readable safetensors file: {error}") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: its metadata 'aggregator' is no JSON: {error}") from error
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
    try:
        config = AggregationConfig(**values)
    except TypeError as error:
        raise InputError(
            f"{path} was written by another version of warpkit: its configuration does not read"
            f" here ({error})"
        ) from error
    return _build(config, state, path)


def load_published(path: Path | str, *, model: str | None = None) -> AggregationNetwork:
    """Read a checkpoint in the layout of the authors' `aggregation_network*.pt`.

    The number of layers and all widths are read from the tensors, the steps from the config:
    departing step = num_timesteps - 1 - save_timestep.

    Raises:
        InputError: not that layout, tensors missing or left over, or code inside the pickle.
    """
    path = Path(path)
    require(is_file(path), f"no aggregator checkpoint at {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    # What torch's reader raises for bytes that are no pickle at all.
    except (RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, struct.error) as e:
        raise InputError(f"{path} is not a readable PyTorch checkpoint") from e
    except pickle.UnpicklingError as error:
        if "Unsupported operand" in str(error):
            raise InputError(f"{path} is not a readable PyTorch checkpoint") from error
        raise InputError(
            f"{path} was refused: it holds more than tensors and plain values, so loading it could"
            " run code. Published aggregators hold neither; this file may be harmful"
        ) from error
    require(
        isinstance(content, Mapping) and {"aggregation_network", "config"} <= content.keys(),
        f"{path} is no published aggregator: expected the keys 'aggregation_network' and 'config'",
    )
    with _reading(path):
        return _read_published(content, model, path)


def _read_published(
    content: Mapping[str, Any], model: str | None, path: Path
) -> AggregationNetwork:
    state: dict[str, Tensor] = dict(content["aggregation_network"])
    config: Mapping[str, Any] = content["config"]
    count = 1 + max(
        (int(key.split(".")[1]) for key in state if key.startswith("bottleneck_layers.")),
        default=-1,
    )
    first = "bottleneck_layers.{}.0.conv{}.weight"
    require(
        count > 0
        and all(first.format(i, j) in state for i in range(count) for j in (1, 3))
        and "save_timestep" in config
        and "num_timesteps" in config,
        f"{path}: expected bottleneck_layers.N.0.conv1..3.weight, and save_timestep and"
        " num_timesteps in its config",
    )
    num_steps, saved = int(config["num_timesteps"]), [int(s) for s in config["save_timestep"]]
    # Mixing weights are stored in the order of save_timestep: from clean to noisy.
    require(
        saved == sorted(saved, reverse=True),
        f"{path}: expected save_timestep from large to small, as the published files have it, got"
        f" {saved}",
    )
    order = config.get("order", "resize-first")
    require(
        order in ("resize-first", "bottleneck-first"),
        f"{path}: expected the order resize-first or bottleneck-first, got {order!r}",
    )
    # The authors' files do not state the number of groups; all of them use 32.
    widths = state[first.format(0, 3)].shape
    usual = _SD_LAYERS if count == len(_SD_LAYERS) else tuple(f"layer{i}" for i in range(count))
    built = AggregationConfig(
        model=str(config.get("model_id") or model or "unknown"),
        layers=tuple(str(name) for name in config.get("layers", usual)),
        channels=tuple(int(state[first.format(i, 1)].shape[1]) for i in range(count)),
        steps=tuple(num_steps - 1 - s for s in saved),
        num_steps=num_steps,
        width=int(widths[0]),
        bottleneck=int(widths[1]),
        groups=int(config.get("num_norm_groups", 32)),
        order=order,
    )
    return _build(built, state, path)


def save_published(path: Path, network: AggregationNetwork) -> None:
    """Write a network in the published layout, in float32, for the authors' own code.

    That code resizes before the bottlenecks: a network of the other order gives it other
    descriptors, though `load_published` gives the same ones back.

    Raises:
        OutputError: the file cannot be written.
    """
    config = network.config
    content = {
        "aggregation_network": {k: v.detach().cpu() for k, v in network.state_dict().items()},
        "config": {
            "model_id": config.model,
            "save_timestep": [config.num_steps - 1 - s for s in config.steps],
            "num_timesteps": config.num_steps,
            "projection_dim": config.width,
            "num_norm_groups": config.groups,
            # What the authors' files leave open; their code does not look at it.
            "layers": list(config.layers),
            "order": config.order,
        },
    }
    with written_whole(path, RuntimeError) as partial:
        torch.save(content, partial)


def check_fits(config: AggregationConfig, spec: BackboneSpec, *, checkpoint: str) -> None:
    """Raise unless an aggregator's model, layers and steps are those of a backbone.

    Published models are told apart by name, since Stable Diffusion 1.5 and 2.1 have the same
    layers; a folder's name says nothing about what is in it.

    Raises:
        InputError: names the checkpoint's side and the backbone's side.
    """

    def fail(what: str, theirs: object, ours: object) -> None:
        raise InputError(
            f"{checkpoint} (for '{config.model}') does not fit the backbone '{spec.name}': it"
            f" expects {what} {theirs}, the backbone gives {ours}"
        )

    theirs, ours = release_name(config.model), release_name(spec.name)
    if theirs is not None and ours is not None and theirs != ours:
        fail("the features of", f"'{theirs}'", f"those of '{ours}'")
    channels = tuple(layer.channels for layer in spec.layers)
    if config.channels != channels:
        fail("layers of", f"{list(config.channels)} channels", list(channels))
    names = tuple(layer.name for layer in spec.layers)
    if config.layers != names:
        fail("the layers", list(config.layers), list(names))
    if (config.steps, config.num_steps) != (spec.steps, spec.num_steps):
        fail(
            "the recorded steps",
            f"{list(config.steps)} of {config.num_steps}",
            f"{list(spec.steps)} of {spec.num_steps}",
        )


def _build(
    config: AggregationConfig, state: Mapping[str, Tensor], path: Path
) -> AggregationNetwork:
    try:
        # Takes no memory before the shapes of the file are compared with it.
        with torch.device("meta"):
            network = AggregationNetwork(config)
    except ValueError as error:  # a width that the groups do not divide
        raise InputError(f"{path} holds an impossible configuration: {error}") from error
    try:
        weights = {k: v.float() for k, v in state.items()}
        network.load_state_dict(weights, strict=True, assign=True)
    except RuntimeError as error:
        detail = "; ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise InputError(f"{path} does not match its own configuration: {detail}") from error
    require(
        all(bool(value.isfinite().all()) for value in network.state_dict().values()),
        f"{path} holds values that are no finite numbers: its training went wrong",
    )
    network.requires_grad_(False)
    return network.eval()
