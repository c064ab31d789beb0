"""The settings of the training of the foreground head."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from warpkit.checks import require
from warpkit.train.run_settings import RunSettings

__all__ = ["ForegroundTrainConfig", "LabelRound"]

_MULTIPLE = 32  # of an input's sides: the classifier's deepest stride


@dataclass(frozen=True, kw_only=True)
class LabelRound:
    """When the averaged head labels the pictures without contours, and which labels are kept.

    Every picture is looked at as it is and mirrored.

    Attributes:
        at: share of the steps that are done before.
        unsure: most pixels with a probability between 0.15 and 0.85, in pixels of the object.
        disagreement: largest mean difference of the probabilities from those of the mirror image.
        area: range of the object's area, share of the picture.
    """

    at: float
    unsure: float = 0.3
    disagreement: float = 0.04
    area: tuple[float, float] = (0.05, 0.8)

    def __post_init__(self) -> None:
        require(0 < self.at < 1, f"at is a share of the steps between 0 and 1, got {self.at:g}")
        require(self.unsure > 0, f"unsure is a positive share, got {self.unsure:g}")
        require(
            0 < self.disagreement <= 1,
            f"disagreement is a difference of probabilities above 0, up to 1, got"
            f" {self.disagreement:g}",
        )
        _check_range("area", self.area)


@dataclass(frozen=True)
class ForegroundTrainConfig(RunSettings):
    """A run of the training of the foreground head.

    Attributes:
        data: training folder with object contours in its index (see `warpkit.train.images`).
        width: channels of the head, a multiple of 8, at least 16.
        side: the short side in pixels that larger pictures are stored at.
        shapes: widths and heights in pixels of the training inputs, multiples of 32, used in turn.
        area: range of an object's area, share of its picture, to be trained on.
        pasted: share of objects that stand before another background.
        busy: share of those whose background may hold objects of its own; which one is meant is
            said by a hint.
        hinted: share of the other pictures that come with a hint.
        rounds: of pseudo-labels on the pictures without contours, in order; () does without.
        pseudo: share of the batch from the pictures with pseudo-labels, if there are that many.
        held_out: this many pictures with contours, spread evenly over them, are not trained on.
        evaluate_every: steps between two evaluations of the averaged head on them, the last step
            included; 0 is never. Evaluations change nothing in the training.
        size: longer side in pixels at which held-out pictures, and those to be labelled, are seen.
    """

    data: Path
    width: int = 96
    steps: int = 9000
    batch_size: int = 64
    learning_rate: float = 1.5e-3
    warmup: int = 200
    final_rate: float = 0.02
    weight_decay: float = 0.02
    gradient_clip: float = 1.0
    ema: float = 0.999
    side: int = 128
    shapes: tuple[tuple[int, int], ...] = ((256, 256), (320, 256), (256, 320), (320, 192))
    area: tuple[float, float] = (0.03, 0.85)
    pasted: float = 0.5
    busy: float = 0.25
    hinted: float = 0.5
    rounds: tuple[LabelRound, ...] = ()
    pseudo: float = 0.35
    held_out: int = 200
    evaluate_every: int = 1500
    size: int = 288

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.batch_size > 0 and self.steps > 0, "batch_size and steps must be positive")
        require(
            self.width >= 16 and self.width % 8 == 0,
            f"width is a multiple of 8 channels, at least 16, got {self.width}",
        )
        require(self.side > 0, f"side is a positive number of pixels, got {self.side}")
        require(0 <= self.ema < 1, f"ema must be at least 0 and below 1, got {self.ema}")
        for name in ("pasted", "busy", "hinted", "pseudo"):
            share = getattr(self, name)
            require(0 <= share <= 1, f"{name} is a share from 0 to 1, got {share}")
        _check_range("area", self.area)
        require(
            len(self.shapes) > 0
            and all(side > 0 and side % _MULTIPLE == 0 for pair in self.shapes for side in pair),
            f"shapes are widths and heights in multiples of {_MULTIPLE} pixels, got"
            f" {[list(pair) for pair in self.shapes]}",
        )
        require(self.size >= _MULTIPLE, f"size is at least {_MULTIPLE} pixels, got {self.size}")
        shares = [one.at for one in self.rounds]
        require(shares == sorted(set(shares)), f"rounds must come one after another, got {shares}")
        require(self.held_out >= 0, f"held_out is a number of pictures, got {self.held_out}")
        require(
            self.evaluate_every >= 0,
            "evaluate_every is a number of steps, or 0 for no evaluation, got"
            f" {self.evaluate_every}",
        )
        require(
            self.held_out > 0 or self.evaluate_every == 0,
            "an evaluation needs pictures with contours that are not trained on: set held_out, or"
            " evaluate_every: 0",
        )


def _check_range(name: str, span: tuple[float, float]) -> None:
    low, high = span
    require(
        0 <= low < high <= 1,
        f"{name} is a range within 0..1, the smaller share first, got {[low, high]}",
    )
