"""`warpkit app`, `warpkit mask` and `warpkit frame`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from warpkit.cli.arguments import add_model, add_segmenter, model_options

__all__ = ["add_app", "add_frame", "add_mask", "app", "frame", "mask"]


def add_app(commands: Any) -> None:
    """Add the parser of `app`."""
    parser = commands.add_parser("app", help="open warpkit as a page in the browser")
    parser.add_argument(
        "--port",
        type=int,
        default=7860,
        help="port on this machine (default 7860; 0: any free one)",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="keep results in this empty or new folder (default: a temporary one)",
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
        "--frame",
        metavar="AT",
        help="frame of a video: its number, 2.5s or a timecode 00:00:02:12 (default 0, the first)",
    )
    parser.add_argument(
        "--box", metavar='"X1,Y1,X2,Y2"', help="a box around the whole object, in pixels or percent"
    )
    parser.add_argument(
        "--point", action="append", metavar='"X,Y"', help="a point on the object; repeat for more"
    )
    parser.add_argument(
        *("--not", "--background"),
        dest="background",
        action="append",
        metavar='"X,Y"',
        help="a point that is not on it; repeat for more",
    )
    add_segmenter(parser)
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N, mps")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE.png", help="the mask to write"
    )
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
        f"the object covers {share:.2g} % of the image; confidence {100 * found.agreement:.0f} %"
        f" (how far zoomed and mirrored views agree)\nwritten to {args.output}; check {preview}"
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
        "--at",
        default="0",
        help="which frame: its number, 2.5s or a timecode 00:00:02:12 (default 0, the first)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE.png", help="the image to write"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def frame(args: argparse.Namespace) -> None:
    """Write a frame."""
    from warpkit.video.frame import run_frame

    index = run_frame(args.video, args.output, at=args.at, overwrite=args.overwrite)
    print(f"frame {index} written to {args.output}")
