"""Options that commands share, and how they become a configuration."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

__all__ = [
    "add_common",
    "add_config",
    "add_model",
    "add_segmenter",
    "comma_list",
    "configuration",
    "coordinates_joined",
    "model_options",
    "told",
]

T = TypeVar("T")

# Flags that spell a key of the command's configuration.
MODEL_FLAGS = ("model", "device", "aggregator", "size", "fit", "engine")

# Flags that spell a key of another name.
SPELLED = {
    "list": "split",
    "split": "data.split",
    "category": "data.category",
    "species": "data.species",
    "pairing": "data.pairing",
    "prompts": "generation.prompts",
    "mask_kind": "masks.kind",
    "mask_segmenter": "masks.segmenter",
}


def comma_list(text: str) -> list[str]:
    """The items of `a,b,c`."""
    return [item.strip() for item in text.split(",") if item.strip()]


def coordinates_joined(arguments: Sequence[str]) -> list[str]:
    """Arguments with `--points=-1,3` for `--points -1,3`, which argparse takes for an option."""
    joined: list[str] = []
    for text in arguments:
        option = bool(joined) and re.fullmatch(r"--[a-z][a-z-]*", joined[-1])
        if option and re.match(r"-\.?\d[^,=]*[,=]", text):
            joined[-1] += f"={text}"
        else:
            joined.append(text)
    return joined


def add_common(parser: argparse.ArgumentParser, output: str | bool = True) -> None:
    """Options that all commands with a model share."""
    if output:
        default = Path(output) if isinstance(output, str) else None
        parser.add_argument(
            *("-o", "--output"),
            type=Path,
            metavar="DIR",
            default=default,
            required=default is None,
            help="the folder to fill",
        )
    parser.add_argument("--overwrite", action="store_true", help="replace existing results")
    add_model(parser)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Options of the model, and of where settings come from."""
    parser.add_argument(
        "--model",
        help="a name of `warpkit models`, FILE.yaml, a folder or an id of the Hugging Face hub"
        " (default embedded; tiny where a single network is needed)",
    )
    parser.add_argument("--device", help="auto (default), cpu, cuda, cuda:N, mps")
    parser.add_argument(
        "--aggregator",
        metavar="FILE",
        help="another aggregator for the model (.safetensors or .pt)",
    )
    parser.add_argument(
        "--size",
        type=int,
        metavar="N",
        help="side in pixels to which images are resized for the model (default: the model's own)",
    )
    parser.add_argument(
        "--fit",
        choices=("pad", "stretch"),
        help="how images are resized: keep proportions and pad, or stretch to a square (default:"
        " the model's own)",
    )
    parser.add_argument(
        "--engine",
        metavar="NAME",
        help="what searches nearest neighbours: auto (default), grid, faiss or reference",
    )
    add_config(parser)


def add_segmenter(parser: argparse.ArgumentParser) -> None:
    """Options of what finds objects in place of the foreground head."""
    parser.add_argument(
        "--segmenter",
        metavar="sam2|sam3|clipseg|FOLDER",
        help="find it by a published model (downloaded once; `warpkit models` has licences, sizes)",
    )
    parser.add_argument("--text", metavar='"dog"', help="what to find, for sam3 and clipseg")


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", type=Path, metavar="FILE.yaml", help="file of settings")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one setting; repeat for more. A wrong key names all there are",
    )


def configuration(cls: type[T], args: argparse.Namespace, flags: Sequence[str] = ()) -> T:
    """A configuration without a model: file, then flags, then --set."""
    from warpkit.io.config import load_config

    return load_config(cls, args.config, _overrides(args, flags))


def model_options(args: argparse.Namespace) -> Any:
    """The options of the model alone."""
    from warpkit.describe.options import ModelOptions

    return configuration(ModelOptions, args, MODEL_FLAGS)


def told(
    settings: Any, args: argparse.Namespace, flags: Sequence[str] = (), *, model: str | None = None
) -> dict[str, Any]:
    """The settings of a task and the options of its model, from one file, flags and --set.

    Args:
        settings: class of the settings.
        flags: those of the task, which spell keys of the settings.
        model: the default, where the task has its own.

    Returns:
        `settings` and `options`, as tasks take them.
    """
    from warpkit.describe.options import ModelOptions
    from warpkit.io.config import load_configs

    base = ModelOptions() if model is None else ModelOptions(model=model)
    overrides = _overrides(args, (*MODEL_FLAGS, *flags))
    options, found = load_configs((base, settings), args.config, overrides)
    return {"settings": found, "options": options}


def _overrides(args: argparse.Namespace, flags: Sequence[str]) -> list[str]:
    given = [(flag, getattr(args, flag, None)) for flag in flags]
    # JSON spells every scalar in a way that YAML reads back as the same value.
    overrides = [
        f"{SPELLED.get(key, key)}={json.dumps(value)}" for key, value in given if value is not None
    ]
    return [*overrides, *args.set]
