"""`warpkit warp`, `match` and `extract`: parse, call one job, print."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from warpkit.cli.arguments import add_common, add_segmenter, told

__all__ = ["add_extract", "add_match", "add_warp", "extract", "match", "warp"]


def add_warp(commands: Any) -> None:
    """Add the parser of `warp`."""
    parser = commands.add_parser("warp", help="warp one image's object onto another's")
    parser.add_argument("source", type=Path, help="image to take the appearance from")
    parser.add_argument("target", type=Path, help="image to put it on")
    parser.add_argument(
        "--source-mask", type=Path, metavar="FILE", help="mask of the source object"
    )
    parser.add_argument(
        "--target-mask", type=Path, metavar="FILE", help="mask of the target object"
    )
    parser.add_argument(
        "--mask",
        choices=("auto", "none"),
        help="auto (default): find the object of a picture without a mask; none: warp it whole",
    )
    add_segmenter(parser)
    parser.add_argument(
        "--blend",
        choices=("paste", "feather", "poisson"),
        help="feather (default): soft edges and no rim of the old object; paste: replace the mask's"
        " pixels alone; poisson: colours that fit in at the edge",
    )
    parser.add_argument(
        "--tone",
        choices=("keep", "target"),
        help="keep (default): the source's brightness and contrast; target: the target's",
    )
    parser.add_argument(
        "--shading",
        choices=("none", "target"),
        help="none (default), or target: its folds, fur and highlights in the source's colours",
    )
    parser.add_argument(
        "--strength", type=float, metavar="0..1", help="opacity of the warped object (default 1)"
    )
    parser.add_argument(
        "--interpolation",
        choices=("bilinear", "nearest"),
        help="how the source's colours are read (default bilinear)",
    )
    parser.add_argument(
        "--field",
        choices=("coherent", "nearest"),
        help="coherent (default): one smooth field; nearest: the most similar pixel for each pixel"
        " by itself, as the paper",
    )
    parser.add_argument(
        "--mirror",
        choices=("auto", "never", "always"),
        help="mirror the source left-right (default auto: where that fits better)",
    )
    parser.add_argument(
        "--guide",
        action="append",
        metavar='"X,Y>X,Y"|FILE',
        help="a source point and the target point it belongs to; repeat for more, or .csv, .json",
    )
    parser.add_argument(
        "--no-fill",
        dest="fill",
        action="store_const",
        const=False,
        help="leave the target as it is at pixels that do not return to their place when they are"
        " warped back, or that come from outside the source's mask",
    )
    add_common(parser)


def warp(args: argparse.Namespace) -> None:
    """Warp one image's object onto another's."""
    from warpkit.image.warp import WarpSettings, run_warp
    from warpkit.image.warp_words import warp_words
    from warpkit.io.guides import read_guide_flags

    laid = ("blend", "tone", "shading", "strength", "interpolation")
    how = told(WarpSettings, args, ("mask", "segmenter", "text", *laid, "field", "mirror", "fill"))
    guides = read_guide_flags(args.guide)
    result = run_warp(
        args.source,
        args.target,
        args.output,
        source_mask=args.source_mask,
        target_mask=args.target_mask,
        guides=guides,
        **how,
        overwrite=args.overwrite,
    )
    print(warp_words(result, guides=0 if guides is None else len(guides)))
    if result.doubt is not None:
        print(result.doubt)
    print(f"open {args.output / 'overview.png'}")


def add_match(commands: Any) -> None:
    """Add the parser of `match`."""
    parser = commands.add_parser(
        "match",
        help="find points of one image in another",
        description="Find points of one image in another. A match is `valid` if matching back from"
        " it ends within 10 % of the longer side of the source's object (the box of its mask, else"
        " the image) of the point; with filters (--set mutual=true, cycle_distance=8 or"
        " min_similarity=0.7), if it passes these instead.",
    )
    parser.add_argument("source", type=Path, help="image the points are in")
    parser.add_argument("target", type=Path, help="image to find them in")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--points",
        metavar='"X,Y;X,Y"|FILE',
        help="points in the source, in pixels; a file is .csv, .json or .npz",
    )
    which.add_argument("--all", action="store_true", help="points all over the source's object")
    parser.add_argument(
        "--source-mask", type=Path, metavar="FILE", help="mask of the source object"
    )
    parser.add_argument(
        "--target-mask",
        type=Path,
        metavar="FILE",
        help="mask of the object in which points are looked for",
    )
    parser.add_argument(
        "--mask",
        choices=("auto", "none"),
        help="find the object of a picture without a mask (default with --all), or take it whole"
        " (default with --points)",
    )
    add_segmenter(parser)
    parser.add_argument(
        "--field",
        choices=("nearest", "coherent", "auto"),
        help="nearest (default): the most similar pixel; coherent: one smooth field for all points;"
        " auto: coherent where that costs little similarity",
    )
    parser.add_argument(
        "--mirror",
        choices=("auto", "never", "always"),
        help="with a coherent field: mirror the target left-right (default auto: where that fits"
        " better)",
    )
    parser.add_argument(
        "--guide",
        action="append",
        metavar='"X,Y>X,Y"|FILE',
        help="with a coherent field: a source point and the target point it belongs to; repeat for"
        " more, or .csv, .json",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE.json", help="the result (default: print it)"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="draw the matches")
    parser.add_argument(
        "--similarity", type=Path, metavar="FILE.png", help="draw the first point's similarity map"
    )
    add_common(parser, output=False)


def match(args: argparse.Namespace) -> None:
    """Find points of one image in another."""
    from warpkit.checks import counted
    from warpkit.image.match import MatchSettings, parse_points, run_match, valid_rule
    from warpkit.io.guides import read_guide_flags

    how = told(MatchSettings, args, ("mask", "segmenter", "text", "field", "mirror"))
    result = run_match(
        args.source,
        args.target,
        None if args.all else parse_points(args.points),
        output=args.output,
        picture=args.picture,
        similarity=args.similarity,
        source_mask=args.source_mask,
        target_mask=args.target_mask,
        guides=read_guide_flags(args.guide),
        **how,
        overwrite=args.overwrite,
    )
    for path in filter(None, (args.picture, args.similarity)):
        # Without -o the standard output is JSON and nothing else.
        print(f"open {path}", file=sys.stderr if args.output is None else sys.stdout)
    if args.output is None:
        print(json.dumps(result))
    else:
        found = result["valid"]
        print(
            f"{counted(len(found), 'point')} written to {args.output}, {sum(found)} valid"
            f" ({valid_rule(how['settings'].filters)})"
        )


def add_extract(commands: Any) -> None:
    """Add the parser of `extract`."""
    parser = commands.add_parser(
        "extract", help="write what a model computes of images: a descriptor per cell"
    )
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE", help="images, or folders of them"
    )
    parser.add_argument("--half", action="store_true", help="store float16 (half the size)")
    add_common(parser)


def extract(args: argparse.Namespace) -> None:
    """Write the descriptors of images."""
    from warpkit.image.extract import ExtractSettings, run_extract

    flags = ("half",) if args.half else ()
    written = run_extract(
        args.images,
        args.output,
        **told(ExtractSettings, args, flags),
        overwrite=args.overwrite,
    )
    for path in written:
        print(path)
