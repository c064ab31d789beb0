"""Label propagation: object masks taken through a video without training.

In: the descriptor map and the labels of one or more annotated frames, then the descriptor map of
every following frame, one at a time, each with its image. Out: the labels of that frame at the
original size.
Every cell takes the soft labels of the context cells it resembles most, in descriptor and colour;
the context is the annotated frames, which are never forgotten, and the last few predictions. A
linear model of what tells each object from the rest, and a network that knows objects in general,
add their evidence. The borders of the decided masks follow the edges of the image. Memory does not
grow with the length of the clip.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.arrays import Image
from warpkit.checks import check_image, check_same_size, counted, require
from warpkit.propagate.affinity import Window, principal_directions, with_colour
from warpkit.propagate.agreement import AgreementMeter, Evidence
from warpkit.propagate.cell_values import propagate_values
from warpkit.propagate.coverage import (
    cell_colours,
    cell_coverage,
    check_labels,
    check_object_ids,
    finer_grid,
    one_hot,
)
from warpkit.propagate.label_config import LabelConfig
from warpkit.propagate.label_decision import CERTAIN, LabelFrame, decide_labels
from warpkit.propagate.object_model import ObjectModel, object_scores
from warpkit.propagate.objectness import BoxLook, object_evidence
from warpkit.types import DescriptorMap

__all__ = ["Annotation", "LabelPropagator"]


# Less than this is no label: cells that may take none need not be searched for.
_CRUMB = 0.05


@dataclass(frozen=True, eq=False)
class Annotation:
    """A frame whose labels are known.

    Attributes:
        descriptors: of the frame.
        labels: uint8 (H, W), object ids, 0 = background.
        image: uint8 RGB (H, W, 3), the frame itself; None where the settings need none.
    """

    descriptors: DescriptorMap
    labels: npt.NDArray[np.uint8]
    image: Image | None = None


@dataclass(frozen=True, eq=False)
class _ContextFrame:
    cells: Tensor  # (h, w, C), descriptors and colours
    norm: Tensor  # (h, w), added to the similarity of a cell
    soft: Tensor  # (K, h, w)

    def keys(self, coefficients: Tensor | None, weight: float) -> Tensor:
        """(h, w, C + K + 1), what queries are multiplied with."""
        scores = _scaled_scores(self.cells, coefficients, weight)
        norm = self.norm - scores.square().sum(dim=-1) / 2
        return torch.cat([self.cells, scores, norm[..., None]], dim=-1)


def _scaled_scores(cells: Tensor, coefficients: Tensor | None, weight: float) -> Tensor:
    """(h, w, K), whose products are `2 * weight` times those of scores; K is 0 without models."""
    if coefficients is None:
        return cells[..., :0]
    return (2 * weight) ** 0.5 * object_scores(cells, coefficients).permute(1, 2, 0)


class LabelPropagator:
    """Propagates the labels of annotated frames, frame by frame.

    Source: the protocol of DINO and DIFT for video label propagation (windowed top-k affinity);
    for the model of each object see `warpkit.propagate.object_model`.

    Args:
        look: what looks at the box of an object where `config.objectness` asks for it; without it
            nothing does.

    Attributes:
        agreement: float (K, len(AGREEMENTS)), how far the evidence agreed in the frame propagated
            last, on the CPU; see `warpkit.propagate.agreement`. None before the first.

    Example:
        >>> import numpy as np, torch
        >>> first = DescriptorMap.covering(torch.eye(4).reshape(4, 2, 2), height=4, width=4)
        >>> labels = np.zeros((4, 4), np.uint8)
        >>> labels[:2, :2] = 3
        >>> image = np.zeros((4, 4, 3), np.uint8)
        >>> propagator = LabelPropagator(LabelConfig(top_k=1), object_ids=[3])
        >>> propagator.annotate(first, labels, image)
        >>> propagator.step(first, image).labels[0, 0].item()
        3
    """

    def __init__(
        self, config: LabelConfig, object_ids: Sequence[int], *, look: BoxLook | None = None
    ) -> None:
        self.config = config
        self._look = look if config.objectness > 0 else None
        self._model = ObjectModel(config.ridge_penalty) if config.has_model else None
        self.object_ids = check_object_ids(object_ids)
        self.agreement: Tensor | None = None
        self._meter = AgreementMeter()
        self._annotated: list[_ContextFrame] = []
        self._recent: deque[_ContextFrame] = deque(maxlen=config.context)
        self._layout: tuple[int, int, int, int, int, float, float] | None = None
        self._directions: Tensor | None = None  # (C, channels), of the first annotated frame

    def annotate(
        self,
        descriptors: DescriptorMap,
        labels: npt.NDArray[np.uint8],
        image: Image | None = None,
    ) -> None:
        """Add a frame whose labels are known: it stays context for the rest of the clip.

        Args:
            labels: uint8 (H, W), object ids, 0 = background.
            image: uint8 RGB (H, W, 3), the frame; needed unless `colour` and `sharpen` are 0.

        Raises:
            InputError: for labels or an image of another size, unknown ids, or another grid.
        """
        image = self._check(descriptors, image)
        descriptors = finer_grid(descriptors, self.config.refine)
        labels = check_labels(
            labels, self.object_ids, height=descriptors.height, width=descriptors.width
        )
        planes = one_hot(labels, self.object_ids, descriptors.data.device)
        if self._directions is None and 0 < self.config.channels < descriptors.channels:
            self._directions = principal_directions(_unit(descriptors), self.config.channels)
        cells, norm = self._cells(descriptors, image)
        soft = cell_coverage(planes, descriptors)
        if self._model is not None:
            self._model.annotate(cells, soft)
        self._meter.annotate(cells, norm, soft)
        self._annotated.append(_ContextFrame(cells, norm + self.config.annotated_bias, soft))

    def step(self, descriptors: DescriptorMap, image: Image | None = None) -> LabelFrame:
        """The labels of the next frame, which then becomes context.

        Args:
            image: uint8 RGB (H, W, 3), the frame; needed unless `colour` and `sharpen` are 0.

        Raises:
            InputError: if no frame is annotated yet, or the grid or the image's size is another.
        """
        image = None if image is None else check_image(image, "a frame")
        soft, finer = self.propagate(descriptors, image)
        decided = decide_labels(soft, descriptors, image, self.object_ids, self.config, finer)
        return replace(decided, agreement=self.agreement)

    def propagate(
        self, descriptors: DescriptorMap, image: Image | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """As `step`, but before pixels are decided.

        Returns:
            The soft labels (K, h, w), and, where objects are looked at, what `decide_labels` takes
            as `finer`.
        """
        require(bool(self._annotated), "no frame is annotated: call annotate before step")
        image = self._check(descriptors, image)
        coarse, descriptors = descriptors, finer_grid(descriptors, self.config.refine)
        cells, norm = self._cells(descriptors, image)
        frames = [*self._annotated, *self._recent]
        window = self._window(descriptors)
        first = window if self.config.window_annotated else None
        windows = [first] * len(self._annotated) + [window] * len(self._recent)
        weight = self.config.ridge_similarity
        coefficients = None if self._model is None else self._model.coefficients()
        scores, one = _scaled_scores(cells, coefficients, weight), torch.ones_like(norm)
        blended = propagate_values(
            torch.cat([cells, scores, one[..., None]], dim=-1),
            [frame.keys(coefficients, weight) for frame in frames],
            windows,
            [frame.soft.flatten(1).T for frame in frames],
            k=self.config.top_k,
            temperature=self.config.temperature,
        )
        soft = blended.T.reshape(-1, *descriptors.grid_size).contiguous()
        soft, evidence, finer = self._with_evidence(soft, cells, coefficients, descriptors, image)
        soft = self._without_absent(soft)
        self.agreement = self._meter.measure(cells, norm, soft, evidence).cpu()
        kept = soft
        if self.config.harden:
            decided = decide_labels(soft, coarse, image, self.object_ids, self.config, finer)
            planes = one_hot(decided.labels, self.object_ids, soft.device)
            kept = cell_coverage(planes, descriptors)
        if self._model is not None:
            self._model.update(cells, kept, self.config.ridge_rate)
        self._recent.append(_ContextFrame(cells, norm, kept))
        return soft, finer

    def forget(self) -> None:
        """Drop the last predictions, as at a scene cut; the annotated frames stay."""
        self._recent.clear()
        if self._model is not None:
            self._model.forget()

    def state(self) -> dict[str, Tensor]:
        """What `restore` needs beside the frames themselves.

        Returns:
            `object_ids` int64 (K,) and `soft` float32 (n, K, h, w): the labels kept for the last
            `n <= context` frames, oldest first; where objects have models, also `updates`, what
            these learned in propagated frames.
        """
        require(bool(self._annotated), "no frame is annotated: there is no state to keep")
        empty = self._annotated[0].soft.new_empty((0, *self._annotated[0].soft.shape))
        soft = torch.stack([f.soft for f in self._recent]) if self._recent else empty
        state = {"object_ids": torch.tensor(self.object_ids), "soft": soft.clone()}
        if self._model is not None and self._model.updates is not None:
            state["updates"] = self._model.updates.clone()
        return state

    def restore(
        self,
        state: Mapping[str, Tensor],
        context: Sequence[DescriptorMap],
        annotations: Sequence[Annotation],
        images: Sequence[Image | None] | None = None,
    ) -> None:
        """Go back to a kept state; what follows is bit for bit what it would have been.

        Args:
            state: what `state` returned, from a propagator of the same configuration and objects.
            context: descriptor maps of the frames of `state["soft"]`, oldest first.
            annotations: every annotated frame, in the order added.
            images: uint8 RGB (H, W, 3), the images of `context`; needed unless `colour` and
                `sharpen` are 0.

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
            f"the kept state holds {counted(len(soft), 'frame')}, {len(context)} were given and the"
            f" configuration keeps {self.config.context}: give the frames that the state holds",
        )
        images = [None] * len(context) if images is None else images
        require(
            len(images) == len(context),
            f"{len(context)} context frames were given, but {len(images)} images of them",
        )
        self._annotated.clear()
        self._recent.clear()
        self._layout = self._directions = None
        self._meter = AgreementMeter()
        if self._model is not None:
            self._model = ObjectModel(self.config.ridge_penalty)
        for known in annotations:
            self.annotate(known.descriptors, known.labels, known.image)
        for descriptors, image, kept in zip(context, images, soft, strict=True):
            image = self._check(descriptors, image)
            descriptors = finer_grid(descriptors, self.config.refine)
            require(
                tuple(kept.shape) == (len(self.object_ids), *descriptors.grid_size),
                f"the kept state is on a grid of {tuple(kept.shape[1:])} cells, the frames on"
                f" {descriptors.grid_size}: start afresh",
            )
            # A copy of its own: the caller's tensor may change, and rounding in matrix products
            # may depend on where in memory a tensor starts.
            kept = kept.to(descriptors.data.device, copy=True)
            self._recent.append(_ContextFrame(*self._cells(descriptors, image), kept))
        if self._model is not None and "updates" in state:
            device = self._annotated[0].soft.device
            self._model.updates = state["updates"].to(device, copy=True)

    def _check(self, descriptors: DescriptorMap, image: Image | None) -> Image | None:
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
        require(
            image is not None or not (self.config.needs_images or self._look is not None),
            "label propagation compares colours, looks at objects and follows image edges: give"
            " every frame's image, or set colour, objectness and sharpen to 0",
        )
        if image is not None:
            image = check_image(image, "a frame")
            check_same_size(
                image,
                np.empty((descriptors.height, descriptors.width)),
                "a frame's image",
                "what its descriptors describe",
            )
        return image

    def _cells(self, descriptors: DescriptorMap, image: Image | None) -> tuple[Tensor, Tensor]:
        """What cells look like (h, w, C), and what is added to their similarities (h, w)."""
        unit = _unit(descriptors)
        if self._directions is not None:
            unit = unit @ self._directions
        if self.config.colour == 0:
            return unit, torch.zeros_like(unit[..., 0])
        assert image is not None
        _, keys = with_colour(unit, cell_colours(image, descriptors), weight=self.config.colour)
        return keys[..., :-1].contiguous(), keys[..., -1]

    def _with_evidence(
        self,
        soft: Tensor,
        cells: Tensor,
        coefficients: Tensor | None,
        descriptors: DescriptorMap,
        image: Image | None,
    ) -> tuple[Tensor, Evidence, Tensor | None]:
        """Soft labels (K, h, w) with all evidence, what there was of it, and `finer`."""
        scores = cells_seen = finer = None
        if coefficients is None and self._look is None:
            return soft, Evidence(), None
        odds = torch.logit(soft, eps=CERTAIN)
        if coefficients is not None:
            scores = object_scores(cells, coefficients)
            odds += self.config.ridge * scores
        if self._look is not None:
            assert image is not None
            likely = odds.sigmoid()
            seen = object_evidence(likely, descriptors, image, self._look)
            cells_seen = seen.cells
            # It decides where the rest is undecided: counted in full, it would be counted again in
            # every frame that takes these labels, and take in what passes in front of the object.
            odds += self.config.objectness * 4 * likely * (1 - likely) * cells_seen
            finer = self.config.objectness * seen.finer
        soft = odds.sigmoid()
        soft = soft.masked_fill(soft < _CRUMB, 0)
        return soft / soft.sum(dim=0).clamp(min=1), Evidence(scores, cells_seen), finer

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


def _unit(descriptors: DescriptorMap) -> Tensor:
    """Unit descriptors (h, w, C), contiguous."""
    return F.normalize(descriptors.data.float().permute(1, 2, 0).contiguous(), dim=2, eps=1e-12)
