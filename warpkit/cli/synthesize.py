"""`warpkit synthesize`: parse, call one job, print."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from warpkit.cli.arguments import add_model, told

__all__ = ["add_synthesize", "synthesize"]

_FLAGS = ("images", "mask_kind", "mask_segmenter", "pairs", "executor", "workers")


def add_synthesize(commands: Any) -> None:
    """Add the command `synthesize` and its sub-command `verify`."""
    parser = commands.add_parser(
        "synthesize", help="make a data set of image pairs with matching points"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="the folder to fill")
    parser.add_argument("--overwrite", action="store_true", help="replace existing results")
    parser.add_argument(
        "--pairs", type=int, metavar="N", help="how many pairs to make (default 40)"
    )
    parser.add_argument(
        "--images",
        type=str,
        metavar="DIR",
        help="pair the photographs of this folder, which has one folder per category (default:"
        " generate images)",
    )
    parser.add_argument(
        "--mask",
        choices=("auto", "none"),
        help="find the object of each picture (default of --images), or take it whole",
    )
    parser.add_argument(
        "--segmenter",
        dest="mask_segmenter",
        metavar="sam2|sam3|clipseg|FOLDER",
        help="find it by a published model, sam3 and clipseg by the category's name",
    )
    parser.add_argument(
        "--known-warps",
        action="store_true",
        help="pair each image with a copy bent by a known warp: the labels are exact",
    )
    parser.add_argument(
        "--prompts",
        metavar="FILE",
        help="prompts for generated images: one per line, or category<TAB>prompt",
    )
    parser.add_argument(
        "--executor",
        choices=("local", "ray"),
        help="where pairs are made: this machine (default) or a Ray cluster",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="number of workers of --executor ray"
    )
    add_model(parser)
    actions = parser.add_subparsers(dest="action", metavar="verify DIR")
    verify = actions.add_parser("verify", help="check a finished set")
    verify.add_argument("folder", type=Path, metavar="DIR", help="folder of the set")


def synthesize(args: argparse.Namespace) -> None:
    """Make a set, or check one."""
    from warpkit.checks import counted, require

    if args.action == "verify":
        from warpkit.synthesize.verify import verify_set

        print("\n".join(verify_set(args.folder)))
        return
    require(args.output is not None, "say where to write: -o DIR")
    from warpkit.synthesize.run import SynthesizeSettings, run_synthesize

    args.mask_kind = {"auto": "auto", "none": "whole"}.get(args.mask)
    flags = [*_FLAGS]
    if args.known_warps:
        flags.append("known_warps")
    if args.prompts is not None:
        flags.append("prompts")
    how = told(SynthesizeSettings, args, flags)
    facts = run_synthesize(args.output, **how, overwrite=args.overwrite)
    dropped = ", ".join(f"{reason} {count}" for reason, count in facts["dropped"].items())
    splits = ", ".join(f"{name} {count}" for name, count in facts["splits"].items())
    made = counted(facts["pairs"], "pair")
    print(f"{facts['kept']} of {made} kept ({splits}), {counted(facts['points'], 'point')}")
    if dropped:
        print(f"dropped: {dropped}")
    print(f"open {args.output / 'README.md'} and {args.output / 'sheets'}")
