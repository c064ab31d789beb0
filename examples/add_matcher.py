"""Add a matcher in one file, and use it end to end: describe two pictures, match points.

    python examples/add_matcher.py

The matcher is a toy: the whole score matrix at once, in numpy. To ship one with warpkit, move its
file to `warpkit/match/` and add one line to `_ENGINES` in `warpkit/match/matcher.py`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from warpkit.coords import sample_descriptors
from warpkit.match.matcher import (
    Matcher,
    Neighbours,
    check_search,
    create_matcher,
    register_matcher,
)
from warpkit.match.points import match_points
from warpkit.types import DescriptorMap, Sites

# --- The matcher: descriptors at the sites in, the best key sites of every query out. -----------


@register_matcher("numpy")
class NumpyMatcher(Matcher):
    """Exact search by one matrix product; memory grows with queries times keys."""

    def search(
        self,
        query: DescriptorMap,
        key: DescriptorMap,
        queries: Sites,
        keys: Sites,
        *,
        k: int = 1,
    ) -> Neighbours:
        """See `Matcher.search`."""
        check_search(query, key, k=k)
        query_rows = sample_descriptors(query, queries.xy).cpu().numpy()
        key_rows = sample_descriptors(key, keys.xy).cpu().numpy()
        scores = query_rows @ key_rows.T
        # A zero descriptor has no direction: it neither finds nor is found.
        scores[~query_rows.any(axis=1)] = -np.inf
        scores[:, ~key_rows.any(axis=1)] = -np.inf
        # A stable order prefers the lowest index among equal scores.
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(scores, order, axis=1)
        missing = np.isinf(best)
        index = torch.full((len(queries), k), -1)
        similarity = torch.zeros(len(queries), k)
        index[:, : order.shape[1]] = torch.from_numpy(np.where(missing, -1, order))
        similarity[:, : order.shape[1]] = torch.from_numpy(np.where(missing, 0.0, best))
        device = query.data.device
        return Neighbours(index.to(device), similarity.clamp(-1.0, 1.0).to(device))


# --- Its use. ------------------------------------------------------------------------------------


def picture(left: int, top: int) -> npt.NDArray[np.uint8]:
    """A square of many colours on grey, its corner at (left, top): uint8 (60, 80, 3)."""
    y, x = np.mgrid[:24, :24] / 23
    image = np.full((60, 80, 3), 96, np.uint8)
    image[top : top + 24, left : left + 24] = 255 * np.stack([x, y, 1 - x], axis=-1)
    return image


class ColourDescriber:
    """A describer that anybody can bring: colours against grey, one cell a pixel."""

    name = "colours"

    def describe(self, images: list[npt.NDArray[np.uint8]]) -> list[DescriptorMap]:
        """One map (3, H, W) for every image (H, W, 3)."""
        maps = []
        for image in images:
            data = torch.from_numpy(image).permute(2, 0, 1).float() - 96
            maps.append(DescriptorMap.covering(data, height=image.shape[0], width=image.shape[1]))
        return maps


def main() -> None:
    """Match three points of a square to the same square elsewhere, with the toy and the truth."""
    source, target = ColourDescriber().describe([picture(5, 8), picture(43, 21)])
    points = [[10.0, 12.0], [17.0, 25.0], [24.0, 16.0]]
    mask = torch.zeros(target.height, target.width, dtype=torch.bool)
    mask[21:45, 43:67] = True  # where the square is: the only candidates
    toy, truth = (
        match_points(source, target, points, target_mask=mask, matcher=create_matcher(name))
        for name in ("numpy", "reference")
    )
    for start, end in zip(points, toy.target_xy[:, 0].tolist(), strict=True):
        print(f"({start[0]:g}, {start[1]:g}) -> ({end[0]:g}, {end[1]:g})")
    same = int((toy.target_xy == truth.target_xy).all(-1).sum())
    print(f"numpy: {same} of {len(points)} matches agree with the reference")


if __name__ == "__main__":
    main()
