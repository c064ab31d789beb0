"""What tells an object from everything else: a linear model, learned while a clip is propagated.

In: what each cell of a frame looks like, and soft labels of the frame. Out: for the cells of any
frame a score per object, about 1 on it and -1 off it.
Nearest neighbours ask what a cell resembles most; the model knows as well what the object never
looked like, in the whole annotated frame and, with less weight, in all frames since.

Source: ridge regression with a target of 1 and -1 and weights that balance object and rest; the
idea of a model fitted during inference is from Bhat et al., "Learning what to learn for video
object segmentation", ECCV 2020, and Robinson et al., "Learning fast and robust target models for
video object segmentation", CVPR 2020.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ObjectModel", "cell_features", "object_scores"]

# What lies around a cell is the mean of so many cells in every direction.
_AROUND = 2
# What was learned in a propagated frame counts so much in the next one: else a long clip's frames
# would outweigh the annotated ones.
_KEPT = 0.95
# Scores beyond this say no more.
_LIMIT = 1.5


def cell_features(cells: Tensor) -> Tensor:
    """What the model regresses on: (h * w, 2 C + 1): cells, means around them, and ones.

    Args:
        cells: float (h, w, C).
    """
    features = torch.cat([cells, _around(cells), torch.ones_like(cells[..., :1])], dim=-1)
    return features.flatten(0, 1)


class ObjectModel:
    """Ridge regression of every object against the rest of the frame.

    Args:
        penalty: weight of the squared coefficients beside a mean of squared errors.

    Attributes:
        updates: float (K, D, D + 1), what frames since the annotated ones add to the moments; for
            `restore`.
    """

    def __init__(self, penalty: float) -> None:
        self._penalty = penalty
        self._known: Tensor | None = None
        self.updates: Tensor | None = None

    def annotate(self, cells: Tensor, soft: Tensor) -> None:
        """Learn from a frame whose labels are known.

        Args:
            cells: float (h, w, C).
            soft: float (K, h, w) in [0, 1].
        """
        one = soft.new_ones(len(soft))
        moments = _moments(cell_features(cells), soft.flatten(1), one)
        self._known = moments if self._known is None else self._known + moments

    def update(self, cells: Tensor, soft: Tensor, rate: float) -> None:
        """Learn from a frame that was propagated, the more the surer its labels are.

        Earlier ones are forgotten by a twentieth each time.

        Args:
            cells: float (h, w, C).
            soft: float (K, h, w) in [0, 1]; an object that is nowhere likelier than 0.8 teaches
                nothing.
            rate: weight beside an annotated frame, if every cell were certain.
        """
        soft = soft.flatten(1)
        certainty = (2 * soft - 1).abs().mean(dim=1) * (soft.amax(dim=1) > 0.8)
        moments = _moments(cell_features(cells), (soft > 0.5).float(), rate * certainty)
        self.updates = moments if self.updates is None else _KEPT * self.updates + moments

    def forget(self) -> None:
        """Drop what was learned from propagated frames, as at a scene cut."""
        self.updates = None

    def coefficients(self) -> Tensor:
        """float (K, D), to be given to `scores`."""
        assert self._known is not None, "annotate before asking"
        moments = self._known if self.updates is None else self._known + self.updates
        ridge = self._penalty * torch.eye(moments.shape[1], device=moments.device)
        # Symmetric and positive definite.
        factor, _ = torch.linalg.cholesky_ex(moments[..., :-1] + ridge)
        return torch.cholesky_solve(moments[..., -1:], factor)[..., 0]


def object_scores(cells: Tensor, coefficients: Tensor) -> Tensor:
    """Scores of the cells of a frame, in [-1.5, 1.5]: float (K, h, w).

    As `cell_features(cells) @ coefficients.T`, but the means around cells are taken of scores, of
    which there are fewer than of channels.

    Args:
        cells: float (h, w, C).
        coefficients: float (K, 2 C + 1), of an `ObjectModel`.
    """
    channels = cells.shape[-1]
    here, around, constant = coefficients.split([channels, channels, 1], dim=1)
    scores = cells @ here.T + _around(cells @ around.T) + constant.T
    return scores.permute(2, 0, 1).clamp(-_LIMIT, _LIMIT)


def _around(cells: Tensor) -> Tensor:
    """Means of (h, w, C) over the square around every cell; the border's cells are repeated."""
    planes = F.pad(cells.permute(2, 0, 1)[None], (_AROUND,) * 4, mode="replicate")
    return F.avg_pool2d(planes, 2 * _AROUND + 1, stride=1)[0].permute(1, 2, 0)


def _moments(features: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted moments (K, D, D + 1) of features with themselves and with targets of 1 and -1.

    Object and rest weigh the same, however few cells the object has.

    Args:
        features: float (N, D).
        labels: float (K, N) in [0, 1].
        weights: float (K,), of all cells together.
    """
    inside = labels / labels.sum(dim=1, keepdim=True).clamp(min=1)
    outside = (1 - labels) / (1 - labels).sum(dim=1, keepdim=True).clamp(min=1)
    weight = weights[:, None] * (inside + outside) / 2
    moments = []
    for plane, target in zip(weight, 2 * labels - 1, strict=True):
        weighted = features * plane[:, None]
        moments.append(weighted.T @ torch.cat([features, target[:, None]], dim=1))
    return torch.stack(moments)
