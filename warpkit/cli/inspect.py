"""`warpkit inspect`: what a model's aggregator and layers look at."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from warpkit.cli.options import add_common, comma_list, told

__all__ = ["add_inspect", "inspect"]


def add_inspect(commands: Any) -> None:
    """Add the `inspect` command to the parser's."""
    parser = commands.add_parser(
        "inspect",
        help="draw mixing weights, descriptors and layers; sweep: PCK of every layer",
        description="warpkit inspect [IMAGE ...] draws the aggregator's mixing weights and the main"
        " directions of descriptors and layers; warpkit inspect sweep DATASET --root DIR measures"
        " the PCK of every raw layer and timestep.",
    )
    parser.add_argument("what", nargs="*", metavar="IMAGE | sweep DATASET")
    parser.add_argument("--no-layers", action="store_true", help="draw no single layers")
    sweep = parser.add_argument_group("sweep")
    sweep.add_argument("--root", type=Path, metavar="DIR", help="the data set")
    sweep.add_argument("--models", type=comma_list, metavar="A,B", help="models to compare")
    sweep.add_argument("--modes", type=comma_list, metavar="A,B", help="inversion, noised")
    sweep.add_argument("--steps", type=comma_list, metavar="A,B", help="departing steps of 50")
    sweep.add_argument("--pairs", type=int, metavar="N", help="draw N pairs")
    sweep.add_argument("--json", type=Path, metavar="FILE", help="also write the JSON here")
    add_common(parser)


def inspect(args: argparse.Namespace) -> None:
    """Run `warpkit inspect`."""
    from warpkit.checks import require

    if args.what[:1] == ["sweep"]:
        _sweep(args)
        return
    for name in ("root", "models", "modes", "steps", "pairs", "json"):
        require(
            getattr(args, name) is None,
            f"--{name} belongs to the sweep: warpkit inspect sweep DATASET --root DIR",
        )
    from warpkit.image.inspect import InspectSettings, run_inspect

    args.layers = False if args.no_layers else None
    how = told(InspectSettings, args, ("layers",), model="tiny")
    for path in run_inspect(args.what, args.output, **how, overwrite=args.overwrite):
        print(f"open {path}")


def _sweep(args: argparse.Namespace) -> None:
    from warpkit.checks import one_of, require
    from warpkit.evaluate.commands.sweep import SweepSettings, run_sweep
    from warpkit.evaluate.sets.pair_sets import PAIR_SETS

    require(
        len(args.what) == 2 and args.root is not None,
        "expected warpkit inspect sweep DATASET --root DIR, with a data set of"
        f" {', '.join(PAIR_SETS)}",
    )
    dataset = one_of(args.what[1], PAIR_SETS, "data set")
    if args.steps is not None:
        require(
            all(text.isdigit() for text in args.steps),
            f"--steps must be numbers such as 0,9, got {','.join(args.steps)}",
        )
        args.steps = [int(text) for text in args.steps]
    flags = ("models", "modes", "steps", "pairs")
    how = told(SweepSettings, args, flags, model="tiny")
    table = run_sweep(
        dataset,
        args.root,
        args.output,
        json_file=args.json,
        **how,
        overwrite=args.overwrite,
    )
    print(f"{table}\n\nopen {args.output / 'layers.png'} and {args.output / 'models.png'}")
