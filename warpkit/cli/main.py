"""The command line: parse, call one job, print. `warpkit --help` imports nothing heavy."""

from __future__ import annotations

import argparse
import atexit
import gc
import importlib
import io
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from warpkit.cli.app import add_app, add_frame, add_mask, app, frame, mask
from warpkit.cli.arguments import (
    add_common,
    add_config,
    comma_list,
    configuration,
    coordinates_joined,
    told,
)
from warpkit.cli.evaluate import add_eval, evaluate
from warpkit.cli.images import add_extract, add_match, add_warp, extract, match, warp
from warpkit.cli.inspect import add_inspect, inspect
from warpkit.cli.models import add_models, models
from warpkit.cli.synthesize import add_synthesize, synthesize
from warpkit.version import __version__

__all__ = ["command_parser", "main"]


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, as every command does."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help shows all options)\n")


def command_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(
        prog="warpkit",
        description="Put the object of one picture onto that of another, follow masks, edits and"
        " points through a video, and make data sets of matching points: dense warping and video"
        " propagation with Diffusion Hyperfeatures.",
        epilog="First steps: `warpkit demo`, or `warpkit warp A.jpg B.jpg -o out` with two pictures"
        " of one kind of thing. `warpkit COMMAND --help` explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"warpkit {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo", help="warp a pair of photographs, and follow a mask and an edit through a clip"
    )
    demo.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="your own pair")
    demo.add_argument(
        "--source-mask", type=Path, metavar="FILE", help="mask of the first image's object"
    )
    demo.add_argument(
        "--target-mask", type=Path, metavar="FILE", help="mask of the second image's object"
    )
    add_common(demo, output="warpkit-demo")

    add_warp(commands)
    add_match(commands)
    add_mask(commands)
    add_frame(commands)

    propagate = commands.add_parser(
        "propagate", help="follow masks, an edit or points through a video"
    )
    propagate.add_argument("video", type=Path, help="video file or folder of frames")
    propagate.add_argument(
        "--mask",
        action="append",
        metavar="[FRAME=]PNG",
        help="objects of the frame with this number or name (by default the frame that the file is"
        " named after, else the first); repeat for more frames",
    )
    propagate.add_argument(
        "--update",
        action="store_true",
        help="the output is a finished run with other masks: recompute only what they change",
    )
    propagate.add_argument(
        "--edit",
        type=Path,
        metavar="FILE",
        help="the first frame, repainted; or a transparent picture to lay over it",
    )
    propagate.add_argument(
        "--colormap",
        action="store_true",
        help="as an edit, paint every place of the masked object in its own colour",
    )
    propagate.add_argument(
        "--points",
        metavar='"X,Y;X,Y"|FILE',
        help='FILE.csv, .json or .npz, or "x,y;x,y" in the first frame, "frame:x,y" in others',
    )
    propagate.add_argument(
        "--mode",
        choices=("label", "backward-warp", "forward-warp"),
        help="how masks are propagated: label (default) with context frames; backward-warp and"
        " forward-warp from the first frame alone, by a dense field to each frame",
    )
    propagate.add_argument(
        "--edit-mode",
        choices=("track", "rigid", "affine", "planar", "free", "backward-warp", "forward-warp"),
        help="how an edit is propagated: rigid (moved, turned, resized), affine (sheared as well)"
        " and planar (in perspective) as one flat part, free bends it with the object, track"
        " (default) takes of these what explains the frames best; backward-warp and forward-warp"
        " use a dense field to each frame",
    )
    propagate.add_argument(
        "--start", type=int, metavar="N", default=0, help="first frame (default 0)"
    )
    propagate.add_argument(
        "--end", type=int, metavar="N", help="frame to stop before (default: the end)"
    )
    propagate.add_argument(
        "--stride", type=int, metavar="N", default=1, help="take every N-th frame (default 1)"
    )
    propagate.add_argument(
        "--cuts",
        choices=("restart", "stop", "ignore"),
        help="where a new scene begins: restart (default) from the annotated frames, stop there, or"
        " ignore it",
    )
    propagate.add_argument(
        "--export",
        type=comma_list,
        default=[],
        metavar="A,B",
        help="more results: png, prores, ffv1 (objects and edits with transparency), coco (masks)",
    )
    propagate.add_argument(
        "--names",
        choices=("auto", "frames", "number"),
        default="auto",
        help="names of results: as the frames, by number from 0, or (auto, default) as the frames"
        " where those are named by numbers",
    )
    add_common(propagate)

    add_synthesize(commands)
    add_app(commands)
    add_models(commands)
    add_inspect(commands)
    add_extract(commands)
    add_eval(commands)

    bench = commands.add_parser("bench", help="measure speed and memory side by side")
    bench.add_argument(
        "what",
        choices=("match", "extract", "propagate"),
        help="what is measured: matching engines, extraction, or propagation",
    )
    bench.add_argument(
        "images",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="match: your own pair of images; propagate: a video and the mask of its first frame",
    )
    bench.add_argument("--frames", type=int, help="propagate: how many frames (default 16)")
    bench.add_argument("--json", type=Path, metavar="FILE", help="also write the JSON here")
    bench.add_argument("--sizes", help='match, propagate: sizes of images, such as "512,1920x1080"')
    bench.add_argument("--steps", help="extract: UNet calls per image (default 1,5,10,50)")
    bench.add_argument("--batches", help="extract: images per batch (default 1,2,8,32)")
    add_common(bench, output="warpkit-bench")

    train = commands.add_parser(
        "train", help="train an aggregator, a small backbone or the foreground head"
    )
    kinds = train.add_subparsers(dest="kind", required=True, metavar="KIND")
    for kind, what in (
        ("aggregator", "aggregator"),
        ("backbone", "backbone"),
        ("foreground", "head that finds objects"),
    ):
        trainer = kinds.add_parser(kind, help=f"train the {what}")
        trainer.add_argument(
            "-o", "--output", type=Path, required=True, metavar="DIR", help="the folder to fill"
        )
        add_config(trainer)
    export = kinds.add_parser(
        "export", help="write an aggregator as the authors publish theirs (.pt)"
    )
    export.add_argument("checkpoint", type=Path, help="aggregator.safetensors of a run")
    export.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE.pt", help="the file to write"
    )
    export.add_argument("--overwrite", action="store_true", help="replace an existing file")
    _describe(parser)
    return parser


def _describe(parser: argparse.ArgumentParser) -> None:
    """Let every command's own help begin with the line that the list of commands has for it."""
    for group in parser._actions:
        if isinstance(group, argparse._SubParsersAction):
            about = {choice.dest: choice.help or "" for choice in group._choices_actions}
            for name, command in group.choices.items():
                text = about[name].replace("%%", "%")
                command.description = command.description or f"{text[:1].upper()}{text[1:]}."
                _describe(command)


def _demo(args: argparse.Namespace) -> None:
    from warpkit.demo import DemoSettings, run_demo

    how = told(DemoSettings, args)
    report = run_demo(
        args.output,
        images=args.images,
        source_mask=args.source_mask,
        target_mask=args.target_mask,
        **how,
        overwrite=args.overwrite,
    )
    print("\n".join(report))


def _propagate(args: argparse.Namespace) -> None:
    from warpkit.io.points import read_queries
    from warpkit.video.annotations import parse_masks
    from warpkit.video.config import PropagateSettings
    from warpkit.video.run import run_propagate

    how = told(PropagateSettings, args, ("mode", "edit_mode", "cuts"))
    output = run_propagate(
        args.video,
        args.output,
        mask=parse_masks(args.mask or []),
        edit=args.edit,
        colormap=args.colormap,
        points=None if args.points is None else read_queries(args.points, start=args.start),
        start=args.start,
        end=args.end,
        stride=args.stride,
        export=args.export,
        names=args.names,
        **how,
        overwrite=args.overwrite,
        update=args.update,
    )
    shown = [name for name in ("edited.mp4", "overlay.mp4") if (output / name).is_file()]
    print(f"open {output / shown[0]}" if shown else f"results in {output}")
    if summary := json.loads((output / "report.json").read_text(encoding="utf-8"))["summary"]:
        print(summary)
    print(f"how good it promises to be, and which frames to check: {output / 'report.html'}")


def _bench(args: argparse.Namespace) -> None:
    for name in ("sizes", "steps", "batches"):
        text = getattr(args, name)
        if text is not None:
            setattr(args, name, comma_list(text))
    if args.what == "extract":
        table = _bench_extract(args)
    elif args.what == "propagate":
        print(f"{_bench_propagate(args)}\n\nresults in {args.output}")
        return
    else:
        from warpkit.bench.match import BenchMatchSettings, run_bench_match

        table = run_bench_match(
            args.output,
            images=args.images,
            json_file=args.json,
            **told(BenchMatchSettings, args, ("sizes",)),
            overwrite=args.overwrite,
        )
    print(f"{table}\n\nopen {args.output / 'bench.png'}")


def _bench_propagate(args: argparse.Namespace) -> str:
    from warpkit.bench.propagate import BenchPropagateSettings, run_bench_propagate

    return run_bench_propagate(
        args.output,
        clip=args.images,
        json_file=args.json,
        **told(BenchPropagateSettings, args, ("sizes", "frames")),
        overwrite=args.overwrite,
    )


def _bench_extract(args: argparse.Namespace) -> str:
    from warpkit.bench.extract import BenchExtractSettings, run_bench_extract
    from warpkit.checks import require

    require(not args.images, "bench extract takes no images: time does not depend on them")
    for name in ("steps", "batches"):
        texts = getattr(args, name)
        if texts is not None:
            require(
                all(text.isdigit() for text in texts),
                f"--{name} must be numbers such as 1,10, got {','.join(texts)}",
            )
            setattr(args, name, [int(text) for text in texts])
    return run_bench_extract(
        args.output,
        json_file=args.json,
        **told(BenchExtractSettings, args, ("steps", "batches"), model="tiny"),
        overwrite=args.overwrite,
    )


def _train(args: argparse.Namespace) -> None:
    if args.kind == "export":
        from warpkit.train.export import run_export

        run_export(args.checkpoint, args.output, overwrite=args.overwrite)
        print(f"written to {args.output}")
        return
    if args.kind == "aggregator":
        from warpkit.train.aggregator import AggregatorTrainConfig, train_aggregator

        finished = train_aggregator(configuration(AggregatorTrainConfig, args), args.output)
    elif args.kind == "backbone":
        from warpkit.train.backbone import BackboneTrainConfig, train_backbone

        finished = train_backbone(configuration(BackboneTrainConfig, args), args.output)
    else:
        from warpkit.train.foreground import ForegroundTrainConfig, train_foreground

        finished = train_foreground(configuration(ForegroundTrainConfig, args), args.output)
    if int(os.environ.get("RANK", "0")) > 0:
        return  # one of several processes speaks
    if finished is None:
        print(f"stopped early; the same command goes on from {args.output / 'state.pt'}")
    else:
        print(f"written to {finished}")


_COMMANDS: dict[str, Any] = {
    "demo": _demo,
    "warp": warp,
    "match": match,
    "propagate": _propagate,
    "extract": extract,
    "bench": _bench,
    "eval": evaluate,
    "app": app,
    "inspect": inspect,
    "frame": frame,
    "mask": mask,
    "models": models,
    "synthesize": synthesize,
    "train": _train,
}


# What the commands run that take seconds, not minutes.
_RUNS = {
    "demo": "warpkit.demo",
    "warp": "warpkit.image.warp",
    "match": "warpkit.image.match",
    "propagate": "warpkit.video.run",
    "extract": "warpkit.image.extract",
    "inspect": "warpkit.image.inspect",
    "mask": "warpkit.image.mask",
}

# Who names no command, or none of its kinds, asks what there is.
_BARE: tuple[list[str], ...] = ([], ["eval"], ["train"])


def _import_for_good(command: str) -> None:
    """Import what a command runs. It stays to the end, so nobody need look for garbage in it: not
    while it is imported, not later, not as the process ends. A second of five goes into that.
    """
    gc.disable()
    try:
        importlib.import_module(_RUNS[command])
    finally:
        gc.freeze()
        gc.enable()
        atexit.register(gc.freeze)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0, 2 for bad input, 130 when interrupted)."""
    told = coordinates_joined(sys.argv[1:] if argv is None else argv)
    args = command_parser().parse_args([*told, "--help"] if told in _BARE else told)
    # Both libraries warn about torchvision, which warpkit does not need.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    # Waiting threads that spin make a run on a busy machine several times slower; read by OpenMP
    # when torch and FAISS are loaded, which is later than here.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("warpkit").setLevel(logging.INFO)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it retries aloud when offline
    from warpkit.checks import InputError

    for stream in (sys.stdout, sys.stderr):
        # No name of a folder is worth a failure behind finished work.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        if argv is None and args.command in _RUNS:  # the process is this command
            _import_for_good(args.command)
        _COMMANDS[args.command](args)
    except InputError as error:
        print(f"warpkit {args.command}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"warpkit {args.command}: {error}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        from warpkit.describe.extractor import out_of_memory
        from warpkit.runs.memory import refused_words

        if not out_of_memory(error):
            raise
        print(f"warpkit {args.command}: {refused_words(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        again = "; the same command goes on from here"
        resumed = ("propagate", "train", "eval", "extract", "synthesize")
        hint = again if args.command in resumed else ""
        print(f"warpkit {args.command}: interrupted{hint}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
