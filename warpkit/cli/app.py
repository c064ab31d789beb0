"""`warpkit app`, `warpkit mask` and `warpkit frame`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from warpkit.cli.arguments import add_model, add_segmenter, model_options

__all__ = ["add_app", "add_frame", "add_mask", "app", "frame", "mask"]


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
    parser = commands.add_parser("mask", help="find the object of an image or of a video's frame")
    parser.add_argument("image", type=Path, help="image, video or folder of frames")
    parser.add_argument(
        "--frame", metavar="AT", help="of a video: number, 2.5s or 00:00:02:12 (default the first)"
    )
    parser.add_argument(
        "--box", metavar='"X1,Y1,X2,Y2"', help="around the whole object, in pixels or percent"
    )
    parser.add_argument(
        "--point", action="append", metavar='"X,Y"', help="on the object; again for more"
    )
    parser.add_argument(
        *("--not", "--background"),
        dest="background",
        action="append",
        metavar='"X,Y"',
        help="a point that is not on it; again for more",
    )
    add_segmenter(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.png")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")


def mask(args: argparse.Namespace) -> None:
    """Write a mask."""
    from warpkit.image.mask import run_mask

    found, preview = run_mask(
        args.image,
        args.output,
        frame=args.frame,
        box=args.box,
        points=args.point or (),
        background=args.background or (),
        segmenter=args.segmenter,
        text=args.text,
        device=args.device,
        overwrite=args.overwrite,
    )
    share = 100 * found.mask.mean()
    print(
        f"the object: {share:.3g} % of the image, several looks agree on {found.agreement:.0%} of"
        f" it; written to {args.output}, look at {preview}"
    )
    if found.doubts:
        more = {
            "a box around the object (--box)": args.box,
            "a point on it (--point)": args.point,
            "a point off it (--not)": args.background,
        }
        helps = [what for what, given in more.items() if not given] or ["other points"]
        print(f"doubtful: {' and '.join(found.doubts)}; what helps: {', '.join(helps)}")


def add_frame(commands: Any) -> None:
    """Add the parser of `frame`."""
    parser = commands.add_parser("frame", help="write a frame of a video, to paint on it")
    parser.add_argument("video", type=Path, help="video or folder of frames")
    parser.add_argument(
        "--at", default="0", help="number, 2.5s or 00:00:02:12 (default 0, the first)"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.png")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def frame(args: argparse.Namespace) -> None:
    """Write a frame."""
    from warpkit.video.frame import run_frame

    index = run_frame(args.video, args.output, at=args.at, overwrite=args.overwrite)
    print(f"frame {index} written to {args.output}")
