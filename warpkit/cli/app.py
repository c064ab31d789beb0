"""`warpkit app` and `warpkit mask`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from warpkit.cli.arguments import add_model, model_options

__all__ = ["add_app", "add_mask", "app", "mask"]


def add_app(commands: Any) -> None:
    """Add the parser of `app`."""
    parser = commands.add_parser("app", help="a page in the browser: click, paint, look")
    parser.add_argument("--port", type=int, default=7860, help="of 127.0.0.1 (0: any free one)")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="work in this empty or new folder"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="browse synthesised sets below this folder"
    )
    parser.add_argument("--open", action="store_true", help="open the browser")
    add_model(parser)  # chosen at first


def app(args: argparse.Namespace) -> None:
    """Serve the page."""
    from warpkit.app.server import serve

    serve(
        model_options(args),
        port=args.port,
        folder=args.folder,
        data=args.data,
        open_browser=args.open,
    )


def add_mask(commands: Any) -> None:
    """Add the parser of `mask`."""
    parser = commands.add_parser("mask", help="cut an object out of an image by a box around it")
    parser.add_argument("image", type=Path)
    parser.add_argument("--box", required=True, help='"x1,y1,x2,y2" in pixels')
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.png")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def mask(args: argparse.Namespace) -> None:
    """Write a mask."""
    from warpkit.image.cutout import parse_box, run_mask

    found = run_mask(args.image, parse_box(args.box), args.output, overwrite=args.overwrite)
    print(f"{int(found.sum())} pixels of the object written to {args.output}")
