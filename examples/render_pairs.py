"""Write annotated image pairs with exact correspondences, cut from the project's own clips.

    python examples/render_pairs.py pairs --count 60
    warpkit eval pck synth --root pairs

A pair is two frames of a clip; its points are random object pixels of the first that both frames
show. `pairs.json` has the JSON form of Diffusion Hyperfeatures' pair lists.
"""

import argparse
from pathlib import Path

import numpy as np

from warpkit.io.images import write_image
from warpkit.io.pairs import AnnotatedPair, write_dhf_json
from warpkit.render import CLIPS, render_frame

parser = argparse.ArgumentParser()
parser.add_argument("output", type=Path)
parser.add_argument("--count", type=int, default=60)
parser.add_argument("--points", type=int, default=12)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()

generator = np.random.default_rng(args.seed)
names = sorted(CLIPS)


def box(mask: np.ndarray) -> tuple[float, float, float, float]:
    """The box x1, y1, x2, y2 around the pixels of a mask."""
    y, x = np.nonzero(mask)
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def image(name: str, t: int) -> Path:
    """The image file of a clip's frame; its folder is made."""
    path = args.output / name / f"{t:03d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


pairs = []
for number in range(args.count):
    name = names[number % len(names)]
    t = int(generator.integers(1, CLIPS[name].frames))
    # The renderer's truth is between frame 0 and another one.
    source, target = render_frame(CLIPS[name], 0), render_frame(CLIPS[name], t)
    rows, columns = np.nonzero((source.labels > 0) & target.target_visible)
    chosen = generator.choice(len(rows), size=min(args.points, len(rows)), replace=False)
    y, x = rows[chosen], columns[chosen]
    if len(x) == 0 or not (target.labels > 0).any():
        continue
    for frame, place in ((source, image(name, 0)), (target, image(name, t))):
        write_image(place, frame.image)
    pairs.append(
        AnnotatedPair(
            image(name, 0),
            image(name, t),
            np.stack([x, y], axis=1).astype(np.float32),
            target.target_xy[y, x],
            box(source.labels > 0),
            box(target.labels > 0),
            name,
        )
    )
write_dhf_json(args.output / "pairs.json", pairs, args.output)
print(f"{len(pairs)} pairs in {args.output / 'pairs.json'}")
