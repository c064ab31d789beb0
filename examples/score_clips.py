"""Region similarity J and boundary accuracy F on the project's own clips, beside baselines.

    python examples/score_clips.py videos

A clip is `NAME.mp4` with its true masks in `NAME/masks/*.png`. J and F are means over its objects
and over the frames that count: not the first, which is given, nor the last. The final means are
over the objects of all clips, as DAVIS takes them. DAVIS itself: `warpkit eval davis`.

The baselines start from the same first mask: it is copied, or follows chained OpenCV DIS flow.
"""

import argparse
import time
from pathlib import Path

from scripts import errors_in_one_line

import warpkit
from warpkit.checks import counted
from warpkit.evaluate.baselines import copy_first_labels, flow_labels
from warpkit.evaluate.jaccard import SequenceScore, mean_sequence_scores, score_sequence
from warpkit.io.config import load_config
from warpkit.io.frames import open_frames
from warpkit.io.masks import read_labels

parser = argparse.ArgumentParser()
parser.add_argument("root", type=Path)
parser.add_argument("--model", default="tiny")
parser.add_argument("--mode", choices=("label", "backward-warp", "forward-warp"), default="label")
parser.add_argument("--set", action="append", default=[], help="settings, e.g. label.top_k=10")
errors_in_one_line()
args = parser.parse_args()

config = load_config(warpkit.PropagateSettings, None, [f"mode={args.mode}", *args.set])
model = warpkit.load(args.model)

scores: dict[str, dict[str, SequenceScore]] = {}
for path in sorted(args.root.glob("*.mp4")):
    images = [frame.image for frame in open_frames(path)]
    truth = [read_labels(mask) for mask in sorted((args.root / path.stem / "masks").glob("*.png"))]
    if len(truth) < 3:
        frames = counted(len(truth), "frame")
        print(f"left out: {path.stem} has {frames}, none between the first and the last")
        continue
    started = time.perf_counter()
    results = model.propagate(images, labels=truth[0], settings=config)
    predictions = {args.model: [result.labels for result in results]}
    seconds = (time.perf_counter() - started) / len(images)
    predictions["copy"] = copy_first_labels(truth[0], frames=len(images))
    predictions["DIS flow"] = flow_labels(images, truth[0])
    cells = []
    for method, labels in predictions.items():
        score = score_sequence(labels, truth)
        scores.setdefault(method, {})[path.stem] = score
        cells.append(f"{method} J {score.J:.3f} F {score.F:.3f}")
    print(f"{path.stem:14} {'   '.join(cells)}   ({seconds:.2f} s a frame)", flush=True)
for method, sequences in scores.items():
    report = mean_sequence_scores(sequences)
    objects = sum(len(score.objects) for score in sequences.values())
    print(
        f"mean {method:10} J {report.J:.3f}  F {report.F:.3f}  J&F {report.JF:.3f}"
        f"  ({objects} objects)"
    )
