"""PCK during training, on annotated pairs that nothing is learned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from warpkit.aggregate.network import AggregationNetwork
from warpkit.checks import require
from warpkit.datasets.pair import AnnotatedPair
from warpkit.describe.extractor import Extractor
from warpkit.evaluate.keypoints import score_pairs
from warpkit.evaluate.predict import predict_pairs
from warpkit.features.backbone import Backbone
from warpkit.train.pair_lists import PairList, digest, read_pair_list
from warpkit.types import Describer

__all__ = [
    "ALPHA",
    "ScoredPairs",
    "Validation",
    "ValidationConfig",
    "scored_pairs",
    "validation_pck",
]

ALPHA = 0.1


@dataclass(frozen=True, kw_only=True)
class ScoredPairs(PairList):
    """Which pairs are looked at.

    Attributes:
        count: at most this many pairs, spread evenly over the list (0 = all).
        size: side of the model's input in pixels; None takes the run's, or the backbone's own.
        fit: how images are brought to that size; None is the backbone's way.
    """

    count: int = 0
    size: int | None = None
    fit: Literal["pad", "stretch"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.count >= 0, f"count is a number of pairs or 0 for all, got {self.count}")


@dataclass(frozen=True, kw_only=True)
class ValidationConfig(ScoredPairs):
    """Which pairs are looked at, and when.

    Attributes:
        every: steps between two looks; the last step is looked at as well.
    """

    every: int = 250

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.every > 0, f"every is a positive number of steps, got {self.every}")


def scored_pairs(config: ScoredPairs) -> tuple[AnnotatedPair, ...]:
    """The pairs that a configuration names.

    Raises:
        InputError: no such list, or no usable pair in it.
    """
    pairs = read_pair_list(config)
    if 0 < config.count < len(pairs):
        pairs = tuple(pairs[i * len(pairs) // config.count] for i in range(config.count))
    return pairs


@torch.no_grad()
def validation_pck(describer: Describer, pairs: tuple[AnnotatedPair, ...]) -> float:
    """PCK@0.1 of the target box, per point, in percent."""
    predictions = predict_pairs(describer, pairs, keep_bytes=2**28)
    report = score_pairs(predictions, alphas=(ALPHA,), resamples=1)
    return report.pck[ALPHA]["box"]["per_point"]


class Validation:
    """PCK@0.1 of the target box, per point, in percent.

    Args:
        backbone: what the network reads.
        size: side of the model's input where the configuration names none.
    """

    def __init__(self, config: ValidationConfig, backbone: Backbone, *, size: int | None) -> None:
        self.config, self.backbone = config, backbone
        self.size = size if config.size is None else config.size
        self.pairs = scored_pairs(config)

    @property
    def content(self) -> str:
        """What tells this validation from others, wherever its images lie."""
        return f"{digest(self.pairs)} {(self.config.every, self.size, self.config.fit)}"

    def due(self, done: int, steps: int) -> bool:
        """Whether to look after `done` of `steps` steps."""
        return done % self.config.every == 0 or done == steps

    def __call__(self, network: AggregationNetwork) -> float:
        extractor = Extractor(
            self.backbone, network, size=self.size, fit=self.config.fit, batch_size=4
        )
        return validation_pck(extractor, self.pairs)
