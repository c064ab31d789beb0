"""`warpkit inspect`: what a model's aggregator weighs, and what its layers tell apart."""

from __future__ import annotations

import argparse
from typing import Any

from warpkit.cli.arguments import add_common, told

__all__ = ["add_inspect", "inspect"]


def add_inspect(commands: Any) -> None:
    """Add the `inspect` command to the parser's."""
    parser = commands.add_parser(
        "inspect",
        help="draw what a model tells apart in pictures, and by which layers",
        description="Draws the aggregator's mixing weights and the main directions of descriptors"
        " and layers; without images the weights alone.",
    )
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="images whose descriptors are drawn"
    )
    parser.add_argument(
        "--no-layers", action="store_true", help="leave out the pictures of single layers"
    )
    add_common(parser)


def inspect(args: argparse.Namespace) -> None:
    """Run `warpkit inspect`."""
    from warpkit.image.inspect import InspectSettings, run_inspect

    args.layers = False if args.no_layers else None
    how = told(InspectSettings, args, ("layers",), model="tiny")
    for path in run_inspect(args.images, args.output, **how, overwrite=args.overwrite):
        print(f"open {path}")
