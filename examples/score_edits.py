"""Edits propagated through rendered clips, against the renderer's own re-textured clips.

    python examples/score_edits.py
    python examples/score_edits.py --clips fish turtle --frames 24 --models tiny --pictures out
    python examples/score_edits.py --stickers --set edit_mode=planar

For every clip: the mean absolute colour error inside the true object (percent of the colour
range), and the flicker: the colour difference of neighbouring frames along the true motion, as a
multiple of the re-textured clip's own. Beside them the same for chained OpenCV DIS flow, and the
input's flicker, and J of the masks that were propagated (mean over objects and the frames in which
they are to be seen). A clip counts as hard if its objects move more than 40 pixels between two
frames, or if more than a twentieth of what the first frame shows of them is hidden somewhere.

`--stickers` scores instead a sticker on the side of a box like a car, which turns and drives away:
the mean distance of its corners from where they belong, percent of its size, in all frames and in
the last, the share of corners that are to be seen, and the models that the edit was moved by.

`--pictures` writes, for the middle and last frame, input | edit of every model | truth | DIS flow.
"""

import argparse
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from edit_scores import edit_error, flicker, flow_edits
from scripts import errors_in_one_line
from sticker_clips import MOTIONS, coded_sticker, render_box, sticker_error, text_sticker

import warpkit
from warpkit.io.config import load_config
from warpkit.io.images import write_image
from warpkit.render import CLIPS, HARD_CLIPS, render_frame, render_image, true_motion

SPECS = CLIPS | HARD_CLIPS

parser = argparse.ArgumentParser()
parser.add_argument("--clips", nargs="+", choices=sorted(SPECS), default=list(SPECS))
parser.add_argument("--frames", type=int, help="only the first so many frames of each clip")
parser.add_argument("--height", type=int, help="render at this height instead of the clip's own")
parser.add_argument("--samples", type=int, help="per pixel along each side; fewer render sooner")
parser.add_argument("--models", nargs="+", default=["embedded"])
parser.add_argument("--size", type=int)
parser.add_argument("--set", action="append", default=[], help="e.g. edit_mode=backward-warp")
parser.add_argument(
    "--stickers", nargs="*", choices=MOTIONS, help="score stickers on a box instead, so moved"
)
parser.add_argument("--pictures", type=Path, help="folder for pictures to look at")
errors_in_one_line()
args = parser.parse_args()

config = load_config(warpkit.PropagateSettings, None, args.set)
models = {name: warpkit.load(name, size=args.size) for name in args.models}


def score_stickers() -> None:
    """A row for every motion of the box and every model."""
    print("motion      model     | corner error, %   largest   last | seen | models (frames)")
    for motion in args.stickers or MOTIONS:
        count = args.frames or 60
        clip = list(render_box(motion, count, height=args.height or 480, samples=args.samples or 2))
        images, labels = [frame.image for frame in clip], clip[0].mask.astype(np.uint8)
        for name, model in models.items():
            run = list(
                model.propagate(images, labels=labels, edit=coded_sticker(clip[0]), settings=config)
            )[1:]
            scores = [sticker_error(r.layer, f) for r, f in zip(run, clip[1:], strict=True)]
            errors = 100 * np.array([error for error, _ in scores])
            seen = np.mean([share for _, share in scores])
            taken = Counter(fit.model for result in run for fit in result.fits.values())
            moved = ", ".join(f"{model} {frames}" for model, frames in taken.items())
            print(
                f"{motion:11} {name:9} | {np.nanmean(errors):15.2f} {np.nanmax(errors):9.2f}"
                f" {errors[-1]:6.2f} | {seen:4.2f} | {moved}",
                flush=True,
            )
            if args.pictures is not None:
                args.pictures.mkdir(parents=True, exist_ok=True)
                written = model.propagate(
                    images, labels=labels, edit=text_sticker(clip[0]), settings=config
                )
                shown = [r.edited for r in written if r.position in (count // 2, count - 1)]
                write_image(args.pictures / f"sticker-{motion}-{name}.png", np.hstack(shown))


def mean(values: list[float | None]) -> float:
    return float(np.mean([value for value in values if value is not None]))


def mean_j(predicted: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """Mean J of the objects of the first frame where they are to be seen, the first left out."""
    overlaps = [
        (found == i)[true == i].sum() / ((found == i) | (true == i)).sum()
        for found, true in zip(predicted[1:], truth[1:], strict=True)
        for i in np.unique(truth[0])
        if i > 0 and (true == i).any()
    ]
    return float(np.mean(overlaps))


if args.stickers is not None:
    score_stickers()
    raise SystemExit

print(
    "clip        kind   model     | edit error, %   DIS flow   ratio"
    " | flicker, x true   DIS flow   input | mask J"
)
for name in args.clips:
    spec = SPECS[name]
    if args.height is not None:
        width = round(args.height * spec.width / spec.height)
        spec = replace(spec, height=args.height, width=width)
    if args.samples is not None:
        spec = replace(spec, supersampling=args.samples)
    count = min(spec.frames, args.frames or spec.frames)
    images, truths, true_labels, masks, motions, hidden = [], [], [], [], [], 0.0
    labels = None
    speed = 0.0
    for t in range(count):
        frame = render_frame(spec, t)
        labels = frame.labels if labels is None else labels
        images.append(frame.image)
        truths.append(render_image(spec, t, edited=True))
        true_labels.append(frame.labels)
        masks.append(frame.labels > 0)
        hidden = max(hidden, 1 - float(frame.target_visible[labels > 0].mean()))
        motions.append(true_motion(spec, t, max(t - 1, 0)))
        if t > 0 and masks[t].any():
            y, x = np.nonzero(masks[t])
            step = motions[t][0][y, x] - np.stack([x, y], axis=1)
            speed = max(speed, float(np.linalg.norm(step, axis=1).mean()))
    edit = warpkit.EditLayer.from_edited_frame(images[0], truths[0])
    # Antialiased rims and shadows beyond the mask are none of the object.
    inside = warpkit.EditLayer(edit.premultiplied * (labels > 0)[..., None])
    clips = {"true": truths, "input": images, "flow": list(flow_edits(images, edit))}
    seconds, region = {}, {}
    for method, model in models.items():
        started = time.perf_counter()
        run = list(model.propagate(images, labels=labels, edit=inside, settings=config))
        clips[method] = [result.edited for result in run]
        region[method] = mean_j([result.labels for result in run], true_labels)
        seconds[method] = (time.perf_counter() - started) / count
    errors, flickers = {}, {}
    for method, edited in clips.items():
        later = range(1, count)
        errors[method] = mean([edit_error(edited[t], truths[t], masks[t]) for t in later])
        flickers[method] = mean(
            [
                flicker(edited[t - 1], edited[t], motions[t][0], masks[t] & motions[t][1])
                for t in later
            ]
        )
    times = {method: value / flickers["true"] for method, value in flickers.items()}
    for method in models:
        print(
            f"{name:11} {'hard' if speed > 40 or hidden > 0.05 else 'smooth':6} {method:9} |"
            f" {100 * errors[method]:13.2f} {100 * errors['flow']:10.2f}"
            f" {errors[method] / errors['flow']:7.2f} |"
            f" {times[method]:15.2f} {times['flow']:10.2f} {times['input']:7.2f} |"
            f" {region[method]:6.3f}"
            f"   ({speed:.0f} px a frame, {100 * hidden:.0f} % hidden,"
            f" {seconds[method]:.2f} s a frame)",
            flush=True,
        )
    if args.pictures is not None:
        args.pictures.mkdir(parents=True, exist_ok=True)
        for t in sorted({count // 2, count - 1}):
            row = [images[t], *(clips[m][t] for m in models), truths[t], clips["flow"][t]]
            write_image(args.pictures / f"{name}-{t:03d}.png", np.hstack(row))
