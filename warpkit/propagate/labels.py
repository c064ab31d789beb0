"""Label propagation: object masks carried through a video without training.

In: the descriptor map and the labels of one or more annotated frames, then the descriptor map of
every following frame, one at a time. Out: the labels of that frame at the original size.
Every cell takes the soft labels of the context cells it resembles most; the context is the
annotated frames, which are never forgotten, and the last few predictions. Memory does not grow
with the length of the clip.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.checks import require
from warpkit.propagate.affinity import Window, blend_cells, nearest_cells
from warpkit.propagate.coverage import (
    cell_coverage,
    check_labels,
    check_object_ids,
    one_hot,
    soft_at_pixels,
)
from warpkit.types import DescriptorMap

__all__ = ["LabelConfig", "LabelFrame", "LabelPropagator"]


@dataclass(frozen=True)
class LabelConfig:
    """How labels are propagated; the defaults are those published for DINO.

    Attributes:
        context: how many of the last frames' predictions are context, beside the annotated ones.
        top_k: how many context cells a cell takes its labels from, over all frames jointly.
        temperature: affinity is `exp(cosine / temperature)`.
        radius: half side of the square window around a cell, as a part of the image's short side,
            so that it means the same on every grid (12 of 60 cells is 0.2); rounded to whole
            cells, at least one.
        window_annotated: whether the window holds for annotated frames too.
        min_evidence: an object is absent from a frame if its largest soft label there is below
            this part of its largest soft label in the annotated frames.
        rescale: whether a present object's soft labels are divided by their largest value before
            pixels are decided, so that thin and blurred objects keep their area.
        harden: whether the context keeps the decided labels instead of the soft ones.
    """

    context: int = 7
    top_k: int = 5
    temperature: float = 0.1
    radius: float = 0.2
    window_annotated: bool = False
    min_evidence: float = 0.2
    rescale: bool = False
    harden: bool = False

    def __post_init__(self) -> None:
        require(self.context >= 0, f"context must be 0 or more frames, got {self.context}")
        require(self.top_k >= 1, f"top_k must be at least 1, got {self.top_k}")
        require(self.temperature > 0, f"temperature must be positive, got {self.temperature}")
        require(
            0 < self.radius < float("inf"),
            f"radius must be positive and finite, got {self.radius}",
        )
        require(
            0 <= self.min_evidence <= 1,
            f"min_evidence must lie between 0 and 1, got {self.min_evidence}",
        )


@dataclass(frozen=True, eq=False)
class LabelFrame:
    """The labels of one frame.

    Attributes:
        labels: uint8 (H, W), object ids, 0 = background.
        confidence: float32 (H, W) in [0, 1], how sure the label of a pixel is. Label propagation:
            the lead of the best label over the second. Dense carriers: the similarity.
        soft: float32 (K, h, w), one plane per object on the grid; the rest to 1 is background.
    """

    labels: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.float32]
    soft: Tensor


@dataclass(frozen=True, eq=False)
class _ContextFrame:
    unit: Tensor  # (h, w, C), unit descriptors
    soft: Tensor  # (K, h, w)


class LabelPropagator:
    """Propagates the labels of annotated frames, frame by frame.

    Source: the protocol of DINO and DIFT for video label propagation (windowed top-k affinity).

    Example:
        >>> import numpy as np, torch
        >>> first = DescriptorMap.covering(torch.eye(4).reshape(4, 2, 2), height=4, width=4)
        >>> labels = np.zeros((4, 4), np.uint8)
        >>> labels[:2, :2] = 3
        >>> propagator = LabelPropagator(LabelConfig(top_k=1), object_ids=[3])
        >>> propagator.annotate(first, labels)
        >>> propagator.step(first).labels[0, 0].item()
        3
    """

    def __init__(self, config: LabelConfig, object_ids: Sequence[int]) -> None:
        self.config = config
        self.object_ids = check_object_ids(object_ids)
        self._annotated: list[_ContextFrame] = []
        self._recent: deque[_ContextFrame] = deque(maxlen=config.context)
        self._layout: tuple[int, int, int, int, int, float, float] | None = None

    def annotate(self, descriptors: DescriptorMap, labels: npt.NDArray[np.uint8]) -> None:
        """Add a frame whose labels are known: it stays context for the rest of the clip.

        Args:
            labels: uint8 (H, W), object ids, 0 = background.

        Raises:
            InputError: for labels of another size or with unknown ids, or another grid.
        """
        self._check_layout(descriptors)
        check_labels(labels, self.object_ids, height=descriptors.height, width=descriptors.width)
        planes = one_hot(labels, self.object_ids, descriptors.data.device)
        self._annotated.append(
            _ContextFrame(_unit(descriptors), cell_coverage(planes, descriptors))
        )

    def step(self, descriptors: DescriptorMap) -> LabelFrame:
        """The labels of the next frame, which then becomes context.

        Raises:
            InputError: if no frame is annotated yet, or the grid is another one.
        """
        require(bool(self._annotated), "no frame is annotated: call annotate before step")
        self._check_layout(descriptors)
        unit = _unit(descriptors)
        frames = [*self._annotated, *self._recent]
        window = self._window(descriptors)
        first = window if self.config.window_annotated else None
        windows = [first] * len(self._annotated) + [window] * len(self._recent)
        matches = nearest_cells(unit, [f.unit for f in frames], windows, k=self.config.top_k)
        values = torch.cat([frame.soft.flatten(1).T for frame in frames])
        blended = blend_cells(matches, values, temperature=self.config.temperature)
        soft = blended.T.reshape(-1, *descriptors.grid_size).contiguous()
        soft = self._without_absent(soft)
        labels, confidence = self._decide(soft, descriptors)
        kept = soft
        if self.config.harden:
            kept = cell_coverage(one_hot(labels, self.object_ids, soft.device), descriptors)
        self._recent.append(_ContextFrame(unit, kept))
        return LabelFrame(labels, confidence, soft)

    def state(self) -> dict[str, Tensor]:
        """What `restore` needs beside the frames themselves.

        Returns:
            `object_ids` int64 (K,) and `soft` float32 (n, K, h, w): the labels kept for the last
            `n <= context` frames, oldest first.
        """
        require(bool(self._annotated), "no frame is annotated: there is no state to keep")
        empty = self._annotated[0].soft.new_empty((0, *self._annotated[0].soft.shape))
        soft = torch.stack([f.soft for f in self._recent]) if self._recent else empty
        return {"object_ids": torch.tensor(self.object_ids), "soft": soft.clone()}

    def restore(
        self,
        state: dict[str, Tensor],
        context: Sequence[DescriptorMap],
        annotations: Sequence[tuple[DescriptorMap, npt.NDArray[np.uint8]]],
    ) -> None:
        """Go back to a kept state; what follows is bit for bit what it would have been.

        Args:
            state: what `state` returned, from a propagator of the same configuration and objects.
            context: descriptor maps of the frames of `state["soft"]`, oldest first.
            annotations: descriptor map and labels of every annotated frame, in the order added.

        Raises:
            InputError: if state, frames and objects do not belong together.
        """
        soft = state["soft"]
        require(
            tuple(state["object_ids"].tolist()) == self.object_ids,
            f"the kept state is of the objects {state['object_ids'].tolist()}, this run of"
            f" {list(self.object_ids)}: start afresh",
        )
        require(
            len(soft) == len(context) and len(context) <= self.config.context,
            f"the kept state holds {len(soft)} frames, {len(context)} were given and the"
            f" configuration keeps {self.config.context}: give the frames that the state holds",
        )
        self._annotated.clear()
        self._recent.clear()
        self._layout = None
        for descriptors, labels in annotations:
            self.annotate(descriptors, labels)
        for descriptors, kept in zip(context, soft, strict=True):
            self._check_layout(descriptors)
            require(
                tuple(kept.shape) == (len(self.object_ids), *descriptors.grid_size),
                f"the kept state is on a grid of {tuple(kept.shape[1:])} cells, the frames on"
                f" {descriptors.grid_size}: start afresh",
            )
            # A copy of its own: the caller's tensor may change, and rounding in matrix products
            # may depend on where in memory a tensor starts.
            kept = kept.to(descriptors.data.device, copy=True)
            self._recent.append(_ContextFrame(_unit(descriptors), kept))

    def _check_layout(self, descriptors: DescriptorMap) -> None:
        layout = (
            descriptors.channels,
            *descriptors.grid_size,
            descriptors.height,
            descriptors.width,
            descriptors.cell_height,
            descriptors.cell_width,
        )
        self._layout = self._layout or layout
        require(
            layout == self._layout,
            "all frames of a clip must agree in channels, grid, image size and cell size: expected"
            f" {self._layout}, got {layout}",
        )

    def _window(self, descriptors: DescriptorMap) -> Window:
        reach = self.config.radius * min(descriptors.height, descriptors.width)
        rows = int(reach / descriptors.cell_height + 0.5)
        columns = int(reach / descriptors.cell_width + 0.5)
        return max(1, rows), max(1, columns)

    def _without_absent(self, soft: Tensor) -> Tensor:
        """Soft labels with the planes of absent objects set to zero."""
        known = torch.stack([frame.soft.flatten(1).amax(dim=1) for frame in self._annotated])
        evidence = soft.flatten(1).amax(dim=1)
        present = (evidence > 0) & (evidence >= self.config.min_evidence * known.amax(dim=0))
        return soft * present[:, None, None]

    def _decide(
        self, soft: Tensor, descriptors: DescriptorMap
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
        """Labels and confidence at the original size: the largest of the objects and the rest."""
        if self.config.rescale:
            soft = soft / soft.flatten(1).amax(dim=1).clamp(min=1e-12)[:, None, None]
        objects = soft_at_pixels(soft, descriptors)
        background = (1 - objects.sum(dim=0, keepdim=True)).clamp(min=0)
        classes = torch.cat([background, objects])
        best, winner = classes.max(dim=0)
        second = classes.scatter_(0, winner[None], -1.0).amax(dim=0)
        total = objects.sum(dim=0) + background[0]
        ids = torch.tensor([0, *self.object_ids], dtype=torch.uint8, device=soft.device)
        confidence = ((best - second) / total).float()
        return ids[winner].cpu().numpy(), confidence.cpu().numpy()


def _unit(descriptors: DescriptorMap) -> Tensor:
    """Unit descriptors (h, w, C), contiguous."""
    return F.normalize(descriptors.data.float().permute(1, 2, 0).contiguous(), dim=2, eps=1e-12)
