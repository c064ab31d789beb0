"""Labels brought from the first frame to frame t by one field, without context.

In: the labels of the first frame and the descriptor maps of both frames. Out: the labels of frame
t at its original size. `backward-warp` lets every pixel of frame t take the label of its match in
the first frame; `forward-warp`, the paper's way, throws the object pixels of the first frame onto
frame t (softmax splatting).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from warpkit.checks import one_of, require
from warpkit.coords import sample_nearest
from warpkit.match.matcher import Matcher
from warpkit.match.settings import MatchFilters
from warpkit.propagate.coverage import cell_coverage, check_labels, check_object_ids, one_hot
from warpkit.propagate.label_decision import LabelFrame
from warpkit.types import DescriptorMap, Warp
from warpkit.warp.field import dense_warp, dense_warps
from warpkit.warp.splat import Splat, forward_splat, softmax_weight

__all__ = ["WarpMode", "throw", "warp_labels", "warp_labels_many"]

WarpMode = Literal["backward-warp", "forward-warp"]


def warp_labels(
    labels: npt.NDArray[np.uint8],
    object_ids: list[int] | tuple[int, ...],
    first: DescriptorMap,
    frame: DescriptorMap,
    *,
    mode: WarpMode = "backward-warp",
    matcher: Matcher | None = None,
    filters: MatchFilters | None = None,
    temperature: float = 0.05,
    closing: int = 2,
) -> LabelFrame:
    """Labels of the first frame warped to another frame: `warp_labels_many` for one frame."""
    return warp_labels_many(
        labels,
        object_ids,
        first,
        [frame],
        mode=mode,
        matcher=matcher,
        filters=filters,
        temperature=temperature,
        closing=closing,
    )[0]


def warp_labels_many(
    labels: npt.NDArray[np.uint8],
    object_ids: list[int] | tuple[int, ...],
    first: DescriptorMap,
    frames: Sequence[DescriptorMap],
    *,
    mode: WarpMode = "backward-warp",
    matcher: Matcher | None = None,
    filters: MatchFilters | None = None,
    temperature: float = 0.05,
    closing: int = 2,
) -> list[LabelFrame]:
    """Labels of the first frame warped to other frames by dense fields.

    With `backward-warp` the frames are matched together, which on a GPU is faster than one by one.

    Args:
        labels: uint8 (H, W), labels of the first frame, 0 = background.
        object_ids: ids of the objects, the planes of `LabelFrame.soft`.
        first: descriptors of the first frame.
        frames: descriptors of the frames to label.
        mode: `backward-warp` or `forward-warp`.
        matcher: search engine; None takes the default of `dense_warp`.
        filters: which matches count, see `dense_warp`.
        temperature: `forward-warp` only: pixels that land on one place are weighted by
            `exp(similarity / temperature)`.
        closing: `forward-warp` only: radius in pixels of the closing that fills small holes in an
            object; it adds pixels to an object that landed, never an object. 0 closes nothing.

    Returns:
        Labels of every frame, in order; `confidence` is the similarity of the match (0 where none,
        or closed), `soft` the share of every cell that each object covers.

    Raises:
        InputError: for labels that do not fit the first frame, or without any object.

    Source: for `forward-warp`, the dense warping of Diffusion Hyperfeatures (Luo et al., NeurIPS
    2023).
    """
    one_of(mode, ("backward-warp", "forward-warp"), "mode")
    ids = check_object_ids(object_ids)
    labels = check_labels(labels, ids, height=first.height, width=first.width)
    require(bool(labels.any()), "the labels of the first frame are all background")
    if mode == "backward-warp":
        warps = dense_warps(first, frames, matcher=matcher, filters=filters)
        pairs = zip(warps, frames, strict=True)
        return [_warped_backward(labels, ids, warp, frame) for warp, frame in pairs]
    object_mask = torch.from_numpy(labels > 0).to(first.data.device)
    found = []
    for frame in frames:
        landing = dense_warp(
            frame,
            first,
            target_mask=object_mask,
            matcher=matcher,
            filters=filters,
        )
        found.append(_warped_forward(labels, ids, landing, frame, temperature, closing))
    return found


def _warped_backward(
    labels: npt.NDArray[np.uint8], ids: tuple[int, ...], warp: Warp, frame: DescriptorMap
) -> LabelFrame:
    there = torch.tensor(labels, device=warp.valid.device)
    taken = sample_nearest(there, warp.source_xy.reshape(-1, 2)).view(warp.valid.shape)
    found = torch.where(warp.valid, taken, 0).cpu().numpy()
    return _label_frame(found, torch.where(warp.valid, warp.similarity, 0), ids, frame)


def _warped_forward(
    labels: npt.NDArray[np.uint8],
    ids: tuple[int, ...],
    landing: Warp,
    frame: DescriptorMap,
    temperature: float,
    closing: int,
) -> LabelFrame:
    planes = one_hot(labels, ids, landing.valid.device)
    splat = throw(torch.cat([planes, landing.similarity[None]]), landing, temperature)
    of_plane = torch.tensor(ids, dtype=torch.uint8, device=landing.valid.device)
    winner = of_plane[splat.values[:-1].argmax(dim=0)]
    found = torch.where(splat.hole, 0, winner).cpu().numpy()
    similarity = torch.where(splat.hole, 0, splat.values[-1])
    return _label_frame(_close_holes(found, ids, closing), similarity, ids, frame)


def _label_frame(
    labels: npt.NDArray[np.uint8], similarity: Tensor, ids: tuple[int, ...], frame: DescriptorMap
) -> LabelFrame:
    soft = cell_coverage(one_hot(labels, ids, frame.data.device), frame)
    return LabelFrame(labels, similarity.clamp(0, 1).float().cpu().numpy(), soft)


def throw(values: Tensor, landing: Warp, temperature: float) -> Splat:
    """Values of the first frame thrown to where its pixels land in frame t (softmax splatting).

    Args:
        values: float (C, H, W) over the first frame.
        landing: for every pixel of the first frame its place in frame t: a warp whose target is
            the first frame and whose source is frame t.
        temperature: pixels are weighted by `exp(similarity / temperature)`.

    Returns:
        The values over frame t.
    """
    return forward_splat(
        values,
        landing.source_xy,
        softmax_weight(landing.similarity, temperature, landing.valid),
        height=landing.source_height,
        width=landing.source_width,
    )


def _close_holes(
    labels: npt.NDArray[np.uint8], object_ids: tuple[int, ...], radius: int
) -> npt.NDArray[np.uint8]:
    """Labels with background pixels inside an object's closing given to that object.

    Objects are closed one by one in the given order and never take each other's pixels.
    """
    if radius <= 0:
        return labels
    import cv2

    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    closed = labels.copy()
    for i in object_ids:
        # Closing with a margin: at the border of the bare array OpenCV would close outwards.
        plane = np.pad((labels == i).astype(np.uint8), radius)
        full = cv2.morphologyEx(plane, cv2.MORPH_CLOSE, disc)
        full = full[radius:-radius, radius:-radius]
        closed[(full > 0) & (closed == 0)] = i
    return closed
