"""Do features of several inversion steps beat those of one call at the clean input?

    python examples/compare_steps.py pf-willow --root DIR [--pairs 60] [--steps 0 4 9]
    python examples/compare_steps.py pf-willow --root DIR --aggregators ONE MULTI

Raw features need no training: the chosen decoder layers of all recorded steps, each of unit length,
stacked (hypercolumns). With `--aggregators` two aggregators of one recipe are compared instead,
trained with other `layer_steps`. The same pairs are scored for both, so the interval of the
difference is over pairs.
"""

import argparse
from pathlib import Path

import numpy as np
from scripts import errors_in_one_line

from warpkit.checks import require
from warpkit.describe import load_extractor
from warpkit.describe.hypercolumns import Hypercolumns
from warpkit.evaluate.bootstrap import bootstrap_mean
from warpkit.evaluate.keypoints import pck, score_pairs
from warpkit.evaluate.predict import predict_pairs
from warpkit.evaluate.sets.pair_sets import PairSetOptions, read_pair_set
from warpkit.features import create_backbone
from warpkit.features.tiny import TINY_WEIGHTS
from warpkit.types import Describer

parser = argparse.ArgumentParser()
parser.add_argument("dataset", help="as `warpkit eval pck` names it")
parser.add_argument("--root", type=Path, required=True, help="the data set")
parser.add_argument("--pairs", type=int, help="draw so many pairs")
parser.add_argument("--species", type=int, nargs="+", default=(), help="of cub")
parser.add_argument("--pairing", choices=("same", "cross", "any"), default="same", help="of cub")
parser.add_argument("--weights", type=Path, default=TINY_WEIGHTS, help="a trained UNet")
parser.add_argument("--steps", type=int, nargs="+", default=[0, 4, 9], help="of 50, departing")
parser.add_argument("--layers", type=int, nargs="+", help="of the decoder; by default all")
parser.add_argument("--aggregators", type=Path, nargs=2, metavar=("ONE", "MULTI"))
parser.add_argument("--size", type=int, help="side of the model's input in pixels")
parser.add_argument("--device", default="auto")
errors_in_one_line()
args = parser.parse_args()


def raw(steps: tuple[int, ...]) -> Hypercolumns:
    backbone = create_backbone("tiny", device=args.device, weights=args.weights, steps=steps)
    names = [layer.name for layer in backbone.spec.layers]
    for layer in args.layers or ():
        require(0 <= layer < len(names), f"layers lie in 0..{len(names) - 1}, got {layer}")
    layers = None if args.layers is None else [names[i] for i in args.layers]
    return Hypercolumns(backbone, name=f"raw, steps {list(steps)}", size=args.size, layers=layers)


def trained(path: Path) -> tuple[str, Describer]:
    extractor = load_extractor(
        "tiny", device=args.device, aggregator=path, size=args.size, weights=args.weights
    )
    return f"{path}, steps {list(extractor.backbone.spec.steps)}", extractor


options = PairSetOptions(species=tuple(args.species), pairing=args.pairing)
pairs = read_pair_set(args.dataset, args.root, options=options, count=args.pairs).pairs
if args.aggregators:
    methods = [trained(path) for path in args.aggregators]
else:
    methods = [(m.name, m) for m in (raw((0,)), raw(tuple(args.steps)))]

scores = []
for name, describer in methods:
    predictions = list(predict_pairs(describer, pairs))
    report = score_pairs(predictions)
    shown = ", ".join(
        f"PCK@{alpha} {report.pck[alpha]['box']['per_point']:.1f}"
        f" [{report.interval[alpha]['box']['per_point'][0]:.1f},"
        f" {report.interval[alpha]['box']['per_point'][1]:.1f}]"
        for alpha in (0.05, 0.1)
    )
    print(f"{name}: {shown} ({len(pairs)} pairs)")
    scores.append(
        [
            pck(p.predicted, p.pair.target_points, length=p.length("box"), alpha=0.1)
            for p in predictions
        ]
    )
difference = np.subtract(scores[1], scores[0])
points = [len(pair) for pair in pairs]
low, high = bootstrap_mean(difference, seed=0, weights=points)
mean = np.average(difference, weights=points)
print(f"difference at 0.1: {mean:+.1f} [{low:+.1f}, {high:+.1f}]")
