"""Masks propagated through rendered clips, against the renderer's exact ones.

    python examples/score_masks.py
    python examples/score_masks.py --clips fish return --models tiny --height 480 --frames 16

For every clip: J (mean over objects and over the frames after the first in which the object is to
be seen), the frames in which an object is shown though the truth has none of it, those in which it
is missed though it covers a thousandth of the frame, and ids that were not annotated. A clip counts
as open if at least 95 % of what the first frame shows of its objects is to be seen in every frame.

With `--height` a clip is rendered at that height. `--like 480` also takes the clip at that height
and prints its J against the truth of that size.
"""

import argparse
from dataclasses import replace

import numpy as np
from scripts import errors_in_one_line

import warpkit
from warpkit.io.config import load_config
from warpkit.render import CLIPS, HARD_CLIPS, ClipSpec, RenderedFrame, render_frame

SPECS = CLIPS | HARD_CLIPS

parser = argparse.ArgumentParser()
parser.add_argument("--clips", nargs="+", choices=sorted(SPECS), default=list(SPECS))
parser.add_argument("--frames", type=int, help="only the first so many frames of each clip")
parser.add_argument("--height", type=int, help="render at this height instead of the clip's own")
parser.add_argument("--like", type=int, help="a second height to compare with")
parser.add_argument("--models", nargs="+", default=["embedded"])
parser.add_argument("--set", action="append", default=[], help="settings, e.g. label.top_k=10")
errors_in_one_line()
args = parser.parse_args()

config = load_config(warpkit.PropagateSettings, None, args.set)
models = {name: warpkit.load(name) for name in args.models}


def rendered(spec: ClipSpec, height: int | None) -> list[RenderedFrame]:
    """The frames asked for."""
    if height is not None:
        # Even sizes; larger frames are smooth without many samples in a pixel.
        width = 2 * round(height * spec.width / spec.height / 2)
        spec = replace(spec, height=height, width=width, supersampling=1)
    return [render_frame(spec, t) for t in range(min(spec.frames, args.frames or spec.frames))]


def score(model: warpkit.Model, frames: list[RenderedFrame]) -> tuple[float, int, int, set[int]]:
    """Mean J, frames shown in vain, frames missed, ids that nobody gave."""
    first = frames[0].labels
    known = {int(i) for i in np.unique(first) if i > 0}
    run = model.propagate([frame.image for frame in frames], labels=first, settings=config)
    overlaps, shown, missed = [], 0, 0
    invented: set[int] = set()
    for result, frame in zip(run, frames, strict=True):
        if result.position == 0:
            continue
        assert result.labels is not None
        invented |= {int(i) for i in np.unique(result.labels)} - known - {0}
        for i in known:
            ours, theirs = result.labels == i, frame.labels == i
            if theirs.any():
                overlaps.append((ours & theirs).sum() / (ours | theirs).sum())
                missed += int(not ours.any() and theirs.mean() > 1e-3)
            else:
                shown += int(ours.any())
    return float(np.mean(overlaps)), shown, missed, invented


print("clip        open   model     |     J   shown in vain   missed   invented ids")
for name in args.clips:
    frames = rendered(SPECS[name], args.height)
    first = frames[0].labels > 0
    seen = min(float(frame.target_visible[first].mean()) for frame in frames)
    for model_name, model in models.items():
        mean, shown, missed, invented = score(model, frames)
        line = (
            f"{name:11} {'yes' if seen >= 0.95 else 'no':6} {model_name:9} | {mean:.3f}"
            f" {shown:15} {missed:8}   {sorted(invented) or '-'}"
        )
        if args.like is not None:
            line += f"   J at height {args.like}: "
            line += f"{score(model, rendered(SPECS[name], args.like))[0]:.3f}"
        print(line, flush=True)
