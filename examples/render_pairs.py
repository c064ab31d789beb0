"""Write annotated image pairs with exact correspondences, cut from the project's own clips.

    python examples/render_pairs.py pairs --count 60
    warpkit eval pck synth --root pairs

A pair is two frames of a clip; its points are random object pixels of the first that both frames
show. `pairs.json` has the JSON form of Diffusion Hyperfeatures' pair lists.
"""

import argparse
from pathlib import Path

from scripts import errors_in_one_line

from warpkit.synthesize.browse import write_rendered_set

parser = argparse.ArgumentParser()
parser.add_argument("output", type=Path)
parser.add_argument("--count", type=int, default=60)
parser.add_argument("--points", type=int, default=12)
parser.add_argument("--seed", type=int, default=0)
errors_in_one_line()
args = parser.parse_args()

pairs = write_rendered_set(args.output, count=args.count, points=args.points, seed=args.seed)
print(f"{len(pairs)} pairs in {args.output / 'pairs.json'}")
