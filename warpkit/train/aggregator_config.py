"""The settings of aggregator training."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from warpkit.checks import require
from warpkit.train.pair_lists import PairListConfig
from warpkit.train.run_settings import RunSettings
from warpkit.train.validation import ValidationConfig
from warpkit.warp.known import KnownWarpConfig

__all__ = ["AggregatorTrainConfig"]


@dataclass(frozen=True)
class AggregatorTrainConfig(RunSettings):
    """A run of aggregator training. A source of labels is used where its pairs a step are given.

    Attributes:
        pairs: annotated pair lists.
        images: training folder for known warps and contour pairs.
        keypoints: folder with annotated images and their JSON index.
        species: groups of the keypoint index that are trained on.
        warp_pairs: pairs a step from known warps of single images.
        warp: how strong those are.
        warp_background: probability that the object of such a pair, where its contour is known,
            stands before another image in the second view; labels then lie on the object alone.
        keypoint_pairs: pairs a step from annotated keypoints.
        contour_pairs: pairs a step labelled by position inside object contours.
        contour_classes: classes whose contours are used.
        backbone: what is frozen and trained over: a model as `--model` names it (`tiny`, `sd15`, a
            diffusers folder, a hub id) or a registered backbone.
        weights: its weights file, if not the backbone's own.
        initial: aggregator checkpoint to start from instead of random weights (warm start), or a
            model whose aggregator that is (`tiny`).
        layer_steps: recorded departing steps; (0,) is one call at the clean input. None, here as
            in the next five, takes that of `initial`, or else the usual.
        num_steps: DDIM steps of a whole run.
        width, bottleneck, groups, order: shape of the network (128, 48, 16, bottleneck-first).
        size: side of the model's input in pixels; None takes the backbone's own.
        sizes: sides to draw from, one a step, instead of `size`.
        learning_rate: AdamW's, decayed to `final_rate` of it by a cosine.
        validation: annotated pairs to score the network on while it trains.
    """

    pairs: tuple[PairListConfig, ...] = ()
    images: Path | None = None
    keypoints: Path | None = None
    species: tuple[int, ...] = ()
    warp_pairs: int = 0
    keypoint_pairs: int = 0
    contour_pairs: int = 0
    contour_classes: tuple[str, ...] = ()
    warp: KnownWarpConfig = field(default_factory=KnownWarpConfig)
    warp_background: float = 0.0
    backbone: str = "tiny"
    weights: Path | None = None
    initial: Path | None = None
    layer_steps: tuple[int, ...] | None = None
    num_steps: int | None = None
    size: int | None = None
    sizes: tuple[int, ...] = ()
    width: int | None = None
    bottleneck: int | None = None
    groups: int | None = None
    order: Literal["resize-first", "bottleneck-first"] | None = None
    steps: int = 2000
    learning_rate: float = 1e-3
    final_rate: float = 0.02
    weight_decay: float = 0.0
    validation: ValidationConfig | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            min(self.warp_pairs, self.keypoint_pairs, self.contour_pairs) >= 0,
            "warp_pairs, keypoint_pairs and contour_pairs must be 0 or more pairs a step",
        )
        require(
            0 <= self.warp_background <= 1,
            f"warp_background is a probability from 0 to 1, got {self.warp_background}",
        )
        require(
            not (self.sizes and self.size is not None),
            f"give size or sizes, not both: got {self.size} and {list(self.sizes)}",
        )
