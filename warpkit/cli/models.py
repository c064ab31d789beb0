"""`warpkit models`: parse, call one job, print."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["add_models", "models"]


def add_models(commands: Any) -> None:
    """The command `models` with its actions; without one it lists."""
    parser = commands.add_parser("models", help="list, download, verify and convert models")
    parser.add_argument("--json", action="store_true", help="print JSON")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    listing = actions.add_parser("list", help="the models, their licences and sizes (default)")
    listing.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print JSON"
    )
    download = actions.add_parser("download", help="fetch a model; shows licence and size first")
    download.add_argument("model", help="alias, hub id or model file (.yaml)")
    download.add_argument("--revision", help="branch, tag or commit of the hub repository")
    download.add_argument("--yes", action="store_true", help="do not ask")
    verify = actions.add_parser("verify", help="compare a model with the hashes of its download")
    verify.add_argument("model", help="alias, hub id or model file (.yaml)")
    convert = actions.add_parser(
        "convert",
        help="turn an aggregator .pt into .safetensors, or a model in one file into a folder",
    )
    convert.add_argument("file", type=Path, metavar="FILE", help="what to convert")
    convert.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE|DIR", help="what to write"
    )
    convert.add_argument("--model", help="the model an aggregator must fit")
    convert.add_argument(
        "--prediction",
        choices=("epsilon", "v_prediction"),
        help="what a Stable Diffusion 2.x in one file predicts",
    )
    convert.add_argument("--overwrite", action="store_true", help="replace existing results")


def models(args: argparse.Namespace) -> None:
    """Run `warpkit models`."""
    from warpkit.describe.manage import convert_model, download_model, verify_model

    if args.action == "download":
        lines = download_model(
            args.model, revision=args.revision, confirm=_yes if args.yes else _ask
        )
        print("\n".join(lines))
    elif args.action == "verify":
        print("\n".join(verify_model(args.model)))
    elif args.action == "convert":
        print(
            convert_model(
                args.file,
                args.output,
                model=args.model,
                prediction=args.prediction,
                overwrite=args.overwrite,
            )
        )
    else:
        _list(args.json)


def _list(as_json: bool) -> None:
    from warpkit.describe.manage import list_models

    rows = list_models()
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]}
    for row in [{key: key for key in rows[0]}, *rows]:
        print("  ".join(f"{row[key]:{widths[key]}}" for key in row).rstrip())


def _yes(question: str) -> bool:
    print(question, file=sys.stderr)
    return True


def _ask(question: str) -> bool:
    from warpkit.checks import require

    require(
        sys.stdin.isatty(),
        f"{question}: add --yes to agree where nobody can be asked",
    )
    print(f"{question}\nDownload? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
