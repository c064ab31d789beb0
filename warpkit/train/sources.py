"""The label sources of a configuration, by name, with the pairs each gives a step."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from warpkit.checks import InputError, require
from warpkit.train.aggregator_config import AggregatorTrainConfig
from warpkit.train.images import load_images
from warpkit.train.pair_lists import AnnotatedPairs, PairListConfig, digest, read_pair_list
from warpkit.train.pairs import ContourPairs, KeypointPairs, PairSource, WarpPairs

__all__ = ["PairStream", "create_sources"]


@dataclass(frozen=True)
class PairStream:
    """A source in use.

    Attributes:
        name: in logs.
        pairs: drawn from.
        count: pairs a step.
        content: what tells its data from others, where `identity` of a path does not.
    """

    name: str
    pairs: PairSource
    count: int
    content: str | None = None


def create_sources(
    config: AggregatorTrainConfig, device: torch.device, *, size: int
) -> list[PairStream]:
    """Every source that the configuration asks for.

    Args:
        size: the largest side of an input in pixels.

    Raises:
        InputError: none is asked for, or the data of one are missing or broken.
    """
    sources: list[PairStream] = []
    if config.warp_pairs or config.contour_pairs:
        if config.images is None:
            raise InputError("warp_pairs and contour_pairs need `images`, a training folder")
        store = load_images(config.images, side=size, limit=config.limit or None).to(device)
        if config.warp_pairs:
            warps = WarpPairs(store, config.warp, background=config.warp_background)
            sources.append(PairStream("warps", warps, config.warp_pairs))
        if config.contour_pairs:
            contours = ContourPairs(store, config.contour_classes)
            sources.append(PairStream("contours", contours, config.contour_pairs))
    if config.keypoint_pairs:
        if config.keypoints is None:
            raise InputError("keypoint_pairs needs `keypoints`, a folder with a JSON index")
        keypoints = KeypointPairs(
            config.keypoints, groups=config.species, device=device, side=size * 9 // 8
        )
        sources.append(PairStream("keypoints", keypoints, config.keypoint_pairs))
    for number, listed in enumerate(config.pairs):
        name = "pairs" if len(config.pairs) == 1 else f"pairs{number}"
        sources.append(_annotated(listed, device, name=name, side=size * 9 // 8))
    require(
        len(sources) > 0,
        "no training pairs: set pairs, warp_pairs, keypoint_pairs or contour_pairs",
    )
    return sources


def _annotated(listed: PairListConfig, device: torch.device, *, name: str, side: int) -> PairStream:
    annotated = read_pair_list(listed)
    pairs = AnnotatedPairs(
        annotated,
        device=device,
        view=listed.view,
        flip=listed.flip,
        side=side,
        cache=listed.cache,
    )
    # Folders may move, and the cache changes no draw.
    how = (listed.count, listed.view, listed.flip)
    return PairStream(name, pairs, listed.count, f"{digest(annotated)} {how}")
