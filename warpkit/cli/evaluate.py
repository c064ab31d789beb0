"""`warpkit eval`: pck, davis, warp, tapvid, sweep, table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from warpkit.cli.arguments import add_common, comma_list, told

__all__ = ["add_eval", "evaluate"]

_PAIR_SETS = ("spair71k", "dhf-json", "cub", "pf-pascal", "pf-willow", "tss", "synth")


def add_eval(commands: Any) -> None:
    """Add the `eval` commands to the parser's."""
    parser = commands.add_parser("eval", help="score a model, baselines or anybody's predictions")
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")

    pck = kinds.add_parser(
        "pck", help="keypoints: PCK (percentage of correct keypoints) on annotated image pairs"
    )
    pck.add_argument("dataset", choices=_PAIR_SETS, metavar="DATASET", help=", ".join(_PAIR_SETS))
    pck.add_argument(
        "--root", type=Path, required=True, metavar="DIR", help="folder of the data set"
    )
    pck.add_argument(
        "--alpha",
        type=comma_list,
        metavar="A,B",
        help="tolerances, as fractions of the longer side of the object's box, or of the image"
        " where that is the data set's custom (default 0.05,0.1,0.15)",
    )
    pck.add_argument("--pairs", type=int, metavar="N", help="score N pairs drawn at random")
    pck.add_argument("--seed", type=int, help="seed of that draw and of the confidence intervals")
    pck.add_argument("--split", help="train, val or test")
    pck.add_argument("--category", help="one category of spair71k")
    pck.add_argument("--species", type=comma_list, metavar="N,M", help="species of cub, by number")
    pck.add_argument(
        "--pairing",
        choices=("same", "cross", "any"),
        help="whether a pair of cub is of one species (same), two (cross) or either",
    )
    _add_field(pck, ("nearest", "coherent", "auto"), "the target")
    pck.add_argument(
        "--boxes",
        action="store_true",
        default=None,
        help="match only inside boxes around the annotated points, widened by 12 %%, in both"
        " images; this uses the annotation: compare only with other results with --boxes",
    )
    pck.add_argument(
        "--predictions", type=Path, metavar="FILE", help="score the predictions of this file"
    )
    pck.add_argument(
        "--write-pairs",
        type=Path,
        metavar="FILE",
        help="only write the list of pairs, for predictions by another program",
    )
    _add_scoring(pck, "identity, hog, rgb-patches, random-weights, efficientnet-lite0-raw, or all")
    _add_cache(pck)

    davis = kinds.add_parser(
        "davis",
        help="masks: J (overlap, intersection over union) and F (accuracy of outlines) on annotated"
        " clips",
    )
    davis.add_argument(
        "--root", type=Path, required=True, metavar="DIR", help="folder of the data set"
    )
    davis.add_argument(
        "--year",
        choices=("2016", "2017"),
        help="annotations of one object (2016) or of several (2017)",
    )
    davis.add_argument("--split", help="a list of sequences in ImageSets, such as 2017/val")
    davis.add_argument("--sequences", type=comma_list, metavar="A,B", help="only these sequences")
    davis.add_argument(
        "--all-frames", action="store_true", help="score the first and last frame too"
    )
    davis.add_argument("--workers", type=int, help="number of processes that score")
    davis.add_argument(
        "--predictions", type=Path, metavar="DIR", help="score the masks DIR/<sequence>/*.png"
    )
    _add_scoring(
        davis, "copy-first, dis-flow, hog, rgb-patches, random-weights, efficientnet-lite0-raw, all"
    )
    _add_cache(davis)

    warp = kinds.add_parser(
        "warp", help="dense fields: end-point error and PCK (percentage of correct pixels)"
    )
    warp.add_argument(
        "fields",
        nargs="?",
        choices=("clips", "tss", "known"),
        metavar="SET",
        help="clips: rendered clips (default without --root); tss: the data set TSS; known: images"
        " bent by known warps",
    )
    warp.add_argument("--root", type=Path, metavar="DIR", help="folder of TSS, or of any images")
    warp.add_argument(
        "--alpha",
        type=comma_list,
        metavar="A,B",
        help="tolerances, as fractions of the source image's longer side",
    )
    warp.add_argument("--pairs", type=int, metavar="N", help="score N pairs drawn at random")
    warp.add_argument("--seed", type=int, help="seed of that draw and of the confidence intervals")
    _add_field(warp, ("nearest", "coherent"), "the source")
    warp.add_argument(
        "--masks",
        action="store_true",
        default=None,
        help="give the methods the object masks: of clips both, of tss the target's",
    )
    _add_scoring(
        warp, "identity, dis-flow, hog, rgb-patches, random-weights, efficientnet-lite0-raw, all"
    )

    tapvid = kinds.add_parser(
        "tapvid", help="point tracks: scores of TAP-Vid on the rendered clips"
    )
    tapvid.add_argument("--clips", type=comma_list, metavar="A,B", help="only these clips")
    tapvid.add_argument(
        "--query-mode",
        choices=("first", "strided"),
        help="points of the first frame (default), or of every few frames",
    )
    tapvid.add_argument("--seed", type=int, help="seed of the points that are drawn")
    tapvid.add_argument("--json", type=Path, metavar="FILE", help="also write the JSON here")
    tapvid.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder for result.json")
    add_common(tapvid, output=False)

    sweep = kinds.add_parser("sweep", help="PCK of every raw layer and timestep, model by model")
    sweep.add_argument("dataset", choices=_PAIR_SETS, metavar="DATASET", help=", ".join(_PAIR_SETS))
    sweep.add_argument(
        "--root", type=Path, required=True, metavar="DIR", help="folder of the data set"
    )
    sweep.add_argument("--models", type=comma_list, metavar="A,B", help="models to compare")
    sweep.add_argument(
        "--modes", type=comma_list, metavar="A,B", help="how features are taken: inversion, noised"
    )
    sweep.add_argument("--steps", type=comma_list, metavar="A,B", help="diffusion steps, of 50")
    sweep.add_argument("--pairs", type=int, metavar="N", help="score N pairs drawn at random")
    sweep.add_argument("--json", type=Path, metavar="FILE", help="also write the JSON here")
    add_common(sweep)

    table = kinds.add_parser(
        "table", help="put results of several runs into one table, with pictures"
    )
    table.add_argument(
        "results",
        nargs="+",
        type=Path,
        metavar="RESULT",
        help="result.json files, or folders that hold one",
    )
    table.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="the folder to fill"
    )
    table.add_argument("--no-pictures", action="store_true", help="write the table alone")
    table.add_argument(
        "--no-published", action="store_true", help="leave out the numbers that papers state"
    )
    table.add_argument("--overwrite", action="store_true", help="replace existing results")


def _add_field(parser: argparse.ArgumentParser, fields: tuple[str, ...], turned: str) -> None:
    parser.add_argument(
        "--field",
        choices=fields,
        help="nearest (default, as published numbers are measured): the most similar pixel;"
        " coherent: one smooth field for each pair"
        + ("; auto: decided for each pair" * ("auto" in fields)),
    )
    parser.add_argument(
        "--mirror",
        choices=("auto", "never", "always"),
        help=f"with a coherent field: mirror {turned} left-right (default auto: where that fits"
        " better)",
    )


def _add_scoring(parser: argparse.ArgumentParser, baselines: str) -> None:
    parser.add_argument(
        "--baselines", type=comma_list, metavar="A,B", help=f"also score: {baselines}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the JSON here")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for result.json and the predictions",
    )
    add_common(parser, output=False)


def _add_cache(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="folder in which predictions are kept between runs",
    )
    parser.add_argument(
        "--no-cache", action="store_true", help="neither keep nor use predictions of earlier runs"
    )


def _cache(args: argparse.Namespace) -> Path | None:
    from warpkit.runs.cache import writable_cache

    if args.no_cache:
        return None
    return args.cache or writable_cache()


def _files(args: argparse.Namespace) -> dict[str, Any]:
    """What is read and written beside the data set."""
    return {
        "output": args.output,
        "json_file": args.json,
        "predictions": args.predictions,
        "cache": _cache(args),
        "overwrite": args.overwrite,
    }


def _numbers(args: argparse.Namespace) -> None:
    """Spell lists of numbers as the configuration does."""
    from warpkit.checks import InputError

    for flag, name, kind in (("alpha", "alphas", float), ("species", "species", int)):
        texts = getattr(args, flag, None)
        if texts is None:
            continue
        try:
            setattr(args, name, [kind(text) for text in texts])
        except ValueError as error:
            raise InputError(
                f"--{flag} must be numbers such as 1,2 with commas between, got {','.join(texts)}"
            ) from error


def _show(result: dict[str, Any], output: Path | None) -> None:
    from warpkit.checks import counted
    from warpkit.evaluate.tables import as_markdown, result_table

    for line in result["left_out"]:
        print(f"left out: {line}", file=sys.stderr)
    if result.get("unused_predictions"):
        count = result["unused_predictions"]
        words = f"{counted(count, 'prediction')} without a pair, not used"
        print(words, file=sys.stderr)
    print(as_markdown(result_table(result)))
    if output is not None:
        print(f"\nresults in {output}; pictures: warpkit eval table {output} -o DIR")


def _pck(args: argparse.Namespace) -> None:
    from warpkit.checks import counted
    from warpkit.evaluate.commands.pck import EvalPckSettings, list_pairs, run_eval_pck

    _numbers(args)
    flags = ("alphas", "pairs", "seed", "split", "category", "species", "pairing", "baselines")
    extra = ("field", "mirror", "boxes")
    how = told(EvalPckSettings, args, (*flags, *extra))
    if args.write_pairs is not None:
        count, problems = list_pairs(
            args.dataset, args.root, args.write_pairs, **how, overwrite=args.overwrite
        )
        for line in problems:
            print(f"left out: {line}", file=sys.stderr)
        print(f"{counted(count, 'pair')} listed in {args.write_pairs}")
        return
    result = run_eval_pck(args.dataset, args.root, **how, **_files(args))
    _show(result, args.output)


def _davis(args: argparse.Namespace) -> None:
    from warpkit.evaluate.commands.davis import EvalDavisSettings, run_eval_davis

    if not args.all_frames:
        args.all_frames = None
    flags = ("year", "list", "sequences", "all_frames", "workers", "baselines")
    args.list = args.split
    how = told(EvalDavisSettings, args, flags)
    result = run_eval_davis(args.root, **how, **_files(args))
    _show(result, args.output)


def _warp(args: argparse.Namespace) -> None:
    from warpkit.evaluate.commands.warp import EvalWarpSettings, run_eval_warp

    _numbers(args)
    flags = ("alphas", "pairs", "seed", "baselines", "field", "mirror", "masks")
    how = told(EvalWarpSettings, args, flags)
    result = run_eval_warp(
        args.fields,
        args.root,
        output=args.output,
        json_file=args.json,
        **how,
        overwrite=args.overwrite,
    )
    _show(result, None)


def _tapvid(args: argparse.Namespace) -> None:
    from warpkit.evaluate.commands.tapvid import EvalTapvidSettings, run_eval_tapvid

    flags = ("clips", "query_mode", "seed")
    result = run_eval_tapvid(
        output=args.output,
        json_file=args.json,
        **told(EvalTapvidSettings, args, flags),
        overwrite=args.overwrite,
    )
    print("| method | clip | average Jaccard | < delta avg | occlusion accuracy |")
    print("|---|---|---|---|---|")
    for row in [result, *result["baselines"]]:
        for clip, scores in [("mean", row), *row["clips"].items()]:
            numbers = (scores[key] for key in ("average_jaccard", "position", "occlusion"))
            cells = " | ".join(f"{100 * value:.1f}" for value in numbers)
            print(f"| {row['method']} | {clip} | {cells} |")


def _table(args: argparse.Namespace) -> None:
    from warpkit.evaluate.commands.table import run_eval_table

    print(
        run_eval_table(
            args.results,
            args.output,
            pictures=not args.no_pictures,
            published=not args.no_published,
            overwrite=args.overwrite,
        )
    )
    print(f"open {args.output / 'table.html'}")


def _sweep(args: argparse.Namespace) -> None:
    from warpkit.checks import require
    from warpkit.evaluate.commands.sweep import SweepSettings, run_sweep

    if args.steps is not None:
        require(
            all(text.isdigit() for text in args.steps),
            f"--steps must be numbers such as 0,9, got {','.join(args.steps)}",
        )
        args.steps = [int(text) for text in args.steps]
    flags = ("models", "modes", "steps", "pairs")
    table = run_sweep(
        args.dataset,
        args.root,
        args.output,
        json_file=args.json,
        **told(SweepSettings, args, flags, model="tiny"),
        overwrite=args.overwrite,
    )
    print(f"{table}\n\nopen {args.output / 'layers.png'} and {args.output / 'models.png'}")


_KINDS = {
    "pck": _pck,
    "davis": _davis,
    "warp": _warp,
    "tapvid": _tapvid,
    "sweep": _sweep,
    "table": _table,
}


def evaluate(args: argparse.Namespace) -> None:
    """Run `warpkit eval KIND`."""
    _KINDS[args.kind](args)
