"""How many generated images a classifier takes for what was asked for, at several settings.

    python examples/score_samples.py data/train -o out \
        --setting guidance=4 --setting guidance=4,pag_scale=3,skip=5

`data/train` is the UNet's training folder. A linear classifier over EfficientNet-Lite0 learns the
classes from its photographs; what it says of photographs that were held out is the figure to
compare with. Every class is generated with the same seeds, nothing is picked. The UNet's layers
were trained to predict that network's features: compare settings of one UNet.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from recognition import Recogniser
from scripts import errors_in_one_line

from warpkit.checks import InputError
from warpkit.evaluate.generation import sample_grid
from warpkit.features import create_backbone
from warpkit.features.diffusion import DiffusionBackbone
from warpkit.features.tiny import TINY_WEIGHTS
from warpkit.io.images import write_image
from warpkit.train.images import load_images

DEFAULTS: dict[str, Any] = {"steps": 20, "guidance": 4.0, "pag_scale": 0.0, "skip": 0, "eta": 1.0}


def setting(text: str) -> dict[str, Any]:
    """`guidance=4,skip=5` over the defaults."""
    given = dict(DEFAULTS)
    for item in filter(None, text.split(",")):
        name, _, value = item.partition("=")
        if name not in DEFAULTS:
            raise argparse.ArgumentTypeError(f"no setting '{name}', one of {', '.join(DEFAULTS)}")
        given[name] = type(DEFAULTS[name])(value)
    return given


parser = argparse.ArgumentParser()
parser.add_argument("data", type=Path)
parser.add_argument("-o", "--output", type=Path, required=True)
parser.add_argument("--weights", type=Path, default=TINY_WEIGHTS, help="a trained UNet")
parser.add_argument("--setting", type=setting, action="append", metavar="NAME=VALUE,...")
parser.add_argument("--count", type=int, default=4, help="images a class: seeds 0, 1, ...")
parser.add_argument("--limit", type=int, help="photographs to read")
parser.add_argument(
    "--held-out", type=int, default=2000, help="of these, to test the classifier on"
)
parser.add_argument("--shown", nargs="*", default=[], help="classes of the pictures to look at")
parser.add_argument("--device", default="auto")
errors_in_one_line()
args = parser.parse_args()

args.output.mkdir(parents=True, exist_ok=True)
photographs, held_out = load_images(args.data, limit=args.limit).hold_out(args.held_out)
judge = Recogniser(create_backbone("efficientnet-lite0", device=args.device), photographs, held_out)
print(f"photographs held out: {100 * judge.held_out.top1:.1f} / {100 * judge.held_out.top5:.1f} %")

for number, given in enumerate(args.setting or [DEFAULTS]):
    options = dict(given)
    backbone = create_backbone(
        "tiny", device=args.device, weights=args.weights, num_steps=options.pop("steps")
    )
    if not isinstance(backbone, DiffusionBackbone):
        raise InputError(f"'{backbone.spec.name}' does not generate")
    asked = [(name, seed) for name in judge.classes for seed in range(args.count)]
    made = []
    for start in range(0, len(asked), 50):
        names, seeds = zip(*asked[start : start + 50], strict=True)
        noise = backbone.noise(seeds, height=backbone.spec.size, width=backbone.spec.size)
        guidance = {"guidance_scale": options["guidance"], "pag_scale": options["pag_scale"]}
        made.append(
            backbone.generate(
                names, noise, **guidance, skip=options["skip"], eta=options["eta"], seeds=seeds
            )
        )
    found = judge(torch.cat(made), [name for name, _ in asked])
    words = ", ".join(f"{name} {value:g}" for name, value in given.items())
    print(f"{words}: {100 * found.top1:.1f} / {100 * found.top5:.1f} %", flush=True)
    if args.shown:
        grid = sample_grid(backbone, args.shown, seeds=range(args.count), height=96, **options)
        write_image(args.output / f"samples-{number:02d}.png", grid)
