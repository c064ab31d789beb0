"""The few lines from Python: load a model, then describe, match, warp, propagate with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from warpkit.arrays import Image, Mask
from warpkit.coords import FitMode
from warpkit.describe.load import load_extractor
from warpkit.image.match import MatchSettings, match
from warpkit.image.warp import WarpResult, WarpSettings, warp
from warpkit.match.matcher import Matcher, create_matcher
from warpkit.propagate import EditLayer
from warpkit.types import Describer, DescriptorMap, Matches
from warpkit.video.config import FrameResult, PropagateSettings
from warpkit.video.propagate import propagate

__all__ = ["Model", "load"]


class Model:
    """A describer and a matching engine, with the main jobs as methods.

    Args:
        describer: turns images into descriptor maps.
        matcher: matching engine; None picks one by the size of the problem.
    """

    def __init__(self, describer: Describer, matcher: Matcher | None = None) -> None:
        self.describer, self.matcher = describer, matcher

    @property
    def name(self) -> str:
        """Short name for reports."""
        return self.describer.name

    def describe(self, images: Sequence[Image]) -> list[DescriptorMap]:
        """One descriptor map for every uint8 RGB image (H, W, 3), in order."""
        return self.describer.describe(images)

    def match(
        self,
        source: Image,
        target: Image,
        points: npt.ArrayLike | None = None,
        *,
        source_mask: Mask | None = None,
        target_mask: Mask | None = None,
        settings: MatchSettings | None = None,
    ) -> Matches:
        """Find points (N, 2) of the source, or its object, in the target (see
        `warpkit.image.match.match`).
        """
        return match(
            source,
            target,
            points,
            describer=self.describer,
            source_mask=source_mask,
            target_mask=target_mask,
            settings=settings,
            matcher=self.matcher,
        )

    def warp(
        self,
        source: Image,
        target: Image,
        *,
        source_mask: Mask | None = None,
        target_mask: Mask | None = None,
        guides: npt.ArrayLike | None = None,
        settings: WarpSettings | None = None,
    ) -> WarpResult:
        """Warp the source's appearance onto the target (see `warpkit.image.warp.warp`)."""
        return warp(
            source,
            target,
            describer=self.describer,
            source_mask=source_mask,
            target_mask=target_mask,
            guides=guides,
            settings=settings,
            matcher=self.matcher,
        )

    def propagate(
        self,
        images: Iterable[Image],
        *,
        labels: npt.NDArray[np.uint8] | None = None,
        edit: EditLayer | None = None,
        points: npt.ArrayLike | None = None,
        annotations: Mapping[int, npt.NDArray[np.uint8]] | None = None,
        settings: PropagateSettings | None = None,
    ) -> Iterator[FrameResult]:
        """Propagate labels, an edit and points of the first frame, and labels of further ones.

        See `warpkit.video.propagate.propagate`.
        """
        return propagate(
            images,
            describer=self.describer,
            labels=labels,
            edit=edit,
            points=points,
            annotations=annotations,
            settings=settings,
            matcher=self.matcher,
        )


def load(
    model: str = "embedded",
    *,
    device: str = "auto",
    aggregator: str | Path | None = None,
    size: int | None = None,
    fit: FitMode | None = None,
    engine: str = "auto",
    **options: Any,
) -> Model:
    """Load a model with its aggregator and matching engine, ready for the main jobs.

    Args:
        model: `embedded` (ships with the package) or its parts `efficientnet-lite0` and `tiny`,
            `sd15`, `sd15-onestep`, `sd21`, `dino`, `dinov2`,
            a model file (.yaml), the folder of a diffusers or transformers model, a single
            safetensors file, a hub id, or the name of a registered backbone.
        device: `auto`, `cpu`, `cuda`, `cuda:N`, `mps`.
        aggregator: checkpoint file; by default the one that belongs to the model.
        size: side of the model's input in pixels.
        fit: `pad` keeps the aspect ratio, `stretch` resizes to a square as the paper does.
        engine: matching engine; `auto` picks one by the size of the problem.
        options: passed to the backbone's factory.

    Raises:
        InputError: unknown or missing model, or an aggregator made for another one.

    Example:
        >>> import numpy as np, warpkit
        >>> model = warpkit.load("tiny", device="cpu")
        >>> image = np.zeros((128, 160, 3), np.uint8)
        >>> model.describe([image])[0].data.shape
        torch.Size([128, 64, 80])
    """
    extractor = load_extractor(
        model, device=device, aggregator=aggregator, size=size, fit=fit, **options
    )
    return Model(extractor, None if engine == "auto" else create_matcher(engine))
