"""Keypoint accuracy (PCK) of a model beside trivial baselines.

    python examples/score_matching.py willow DIR          # PF-WILLOW folders (.png + .mat)
    python examples/score_matching.py cub DIR --species 4 7 10 [--cross]
    python examples/score_matching.py dhf FILE.json IMAGES

Prints PCK at 0.05 and 0.1 of the target box's longer side, pooled per point, with 95 % intervals.
"""

import argparse
import time
from pathlib import Path

from tqdm import tqdm

import warpkit
from warpkit.evaluate import RgbPatches, predict_identity, predict_pairs, score_pairs
from warpkit.io.pairs import read_cub_index, read_dhf_json, read_pf_willow

parser = argparse.ArgumentParser()
parser.add_argument("dataset", choices=("willow", "cub", "dhf"))
parser.add_argument("paths", nargs="+", type=Path)
parser.add_argument("--species", type=int, nargs="+", default=[4, 7, 10])
parser.add_argument("--cross", action="store_true", help="CUB pairs of different species")
parser.add_argument("--pairs", type=int, default=300, help="how many CUB pairs to draw")
parser.add_argument("--model", default="tiny")
parser.add_argument("--aggregator", type=Path)
parser.add_argument("--weights", type=Path, help="backbone weights of the embedded model")
parser.add_argument("--only-model", action="store_true", help="leave the baselines out")
args = parser.parse_args()

if args.dataset == "willow":
    pairs, problems = read_pf_willow(args.paths[0])
elif args.dataset == "cub":
    pairs, problems = read_cub_index(
        args.paths[0], args.species, pairs=args.pairs, seed=0, same_species=not args.cross
    )
else:
    pairs, problems = read_dhf_json(*args.paths)
for problem in problems:
    print("left out:", problem)

options = {} if args.weights is None else {"weights": args.weights}
extractor = warpkit.load(args.model, aggregator=args.aggregator, **options)
rows = {args.model: lambda: predict_pairs(extractor, pairs)}
if not args.only_model:
    rows = {
        "identity": lambda: predict_identity(pairs),
        "RGB patches": lambda: predict_pairs(RgbPatches(), pairs),
        **rows,
    }
for name, predict in rows.items():
    started = time.perf_counter()
    predictions = list(tqdm(predict(), total=len(pairs), desc=name, leave=False, disable=None))
    seconds = time.perf_counter() - started
    report = score_pairs(predictions, alphas=(0.05, 0.1))
    cells = []
    for alpha in (0.05, 0.1):
        low, high = report.interval[alpha]["box"]["per_point"]
        cells.append(
            f"@{alpha}: {report.pck[alpha]['box']['per_point']:.1f} [{low:.1f}, {high:.1f}]"
        )
    print(f"{name:12} {'  '.join(cells)}  ({report.pairs} pairs, {seconds:.0f} s)")
    if name == args.model and len(report.per_category) > 1:
        for category, scores in report.per_category.items():
            print(f"    {category:16} @0.1: {scores.pck[0.1]['box']['per_point']:.1f}")
