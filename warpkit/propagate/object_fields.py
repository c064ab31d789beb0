"""The field of one object: where every pixel of frame t is in the first frame.

In: frames, masks of the object and its cells' descriptors. Out: a smooth field around the object
and how well the frame agrees with it.

Each frame is registered to the FIRST one: its field is guessed, from the frame before and from
descriptors, the first frame is warped by the guess, and optical flow between the warped and the
true frame corrects it. So errors do not add up along the clip, motion may be large (descriptors
find it), and small motion is followed to a fraction of a pixel (flow measures it).

Where there is no frame before, at a cut or when the object comes back, two more kinds of guesses
are tried: a coherent field, and the object turned as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from warpkit.arrays import Image, Mask
from warpkit.coords import pixel_grid
from warpkit.propagate.cell_matches import ObjectCells, PointMatches, match_cells
from warpkit.propagate.coherent_matches import coherent_matches
from warpkit.propagate.flow import flow_between, grey_of
from warpkit.propagate.poses import turned_fields
from warpkit.propagate.smooth_fields import (
    affine_values,
    edge_weight,
    fit_weighted_affine,
    smooth_values,
)
from warpkit.types import DescriptorMap

__all__ = ["ObjectField", "ObjectTracker", "sample"]

Array = npt.NDArray[np.float32]

_MARGIN = 24  # pixels around the mask that take part
_SAMPLES = 2000  # pixels that an affine fit looks at
_SCALES = (48.0, 16.0, 6.0, 2.0)  # of smoothing, pixels
_TOLERANCE = 0.06  # colour difference that halves the trust in a pixel
_LEAST_SCALE = 0.05  # affine maps that shrink more have lost the object
_NOISE = 2.0  # gradients, levels a pixel, of which motion is half known
_BAD = 0.12  # mean difference of colours around a pixel where a field fails
_PART = 0.15  # of what fails, that another guess must mend
_FEW = 0.02  # part of the object that may fail
_CLOSE = 0.2  # pixels, corrections on average below which one is enough
_LEAK = 0.2  # a frame's share of smoothing the whole field, beside that of what changes
_POSES = 2  # of the object turned as a whole, those that fit best are corrected
_FAITH = 0.85  # costs of the guess from the frame before count this much


@dataclass(frozen=True, eq=False)
class ObjectField:
    """Where the pixels of a frame are in the first frame, if they belong to the object.

    Attributes:
        source_xy: float32 (H, W, 2), pixels of the first frame; affine away from the object.
        error: float32 (H, W), colour difference between the frame and the first frame so warped,
            0 to 1; 1 where it was not computed.
    """

    source_xy: Array
    error: Array


def sample(values: npt.NDArray[Any], xy: Array) -> npt.NDArray[Any]:
    """Values (H, W, ...) at points (h, w, 2), bilinear, repeated beyond the border."""
    import cv2

    return cv2.remap(values, xy, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]


class ObjectTracker:
    """Follows one object from the first frame.

    Args:
        image: uint8 (H, W, 3), the first frame.
        mask: bool (H, W), the object in it.
        cells: its cells.
        descriptors: of the frame, over pixels of `image`.
    """

    def __init__(
        self, image: Image, mask: Mask, cells: ObjectCells, descriptors: DescriptorMap
    ) -> None:
        self._image, self._mask, self._cells, self._descriptors = image, mask, cells, descriptors
        self._soft = mask.astype(np.float32)
        self.places = pixel_grid(height=mask.shape[0], width=mask.shape[1]).numpy()
        self.field: Array | None = self.places

    def step(
        self,
        image: Image,
        mask: Mask,
        cells: ObjectCells,
        descriptors: DescriptorMap,
        back: Array | None,
    ) -> ObjectField | None:
        """The field of the next frame.

        Args:
            image: uint8 (H, W, 3), the frame.
            mask: bool (H, W), the object in it.
            cells: its cells.
            descriptors: of the frame, over pixels of `image`.
            back: float32 (H, W, 2), displacement of every pixel to the frame before.

        Returns:
            None where the mask is empty; the next frame then begins anew from descriptors.
        """
        if not mask.any():
            self.field = None
            return None
        area = _Area(image, mask, self._image, self._soft, self.places)
        guesses: list[tuple[float, Array]] = []
        if self.field is not None and back is not None:
            moved_to = area.increment(back[area.box], area.weight)
            guesses.append((_FAITH, sample(self.field, moved_to)))
            moved = self._moved(area, mask)
            if moved is not None:
                guesses.append((1.0, moved))
        matches = match_cells(self._cells, cells)
        if matches is not None:
            guesses.append((1.0, area.through(matches, stiff=True)))
            guesses.append((1.0, area.through(matches, stiff=False)))
        if self.field is None:
            found = [guess for _, guess in guesses] + self._anew(area, descriptors, mask)
            if not found:
                return None
            best = _best_anew(area, found)
        elif not guesses:
            self.field = None
            return None
        else:
            best = _best(area, guesses)
        self.field = area.everywhere(best)
        error = np.ones(mask.shape, np.float32)
        error[area.box] = best.error
        return ObjectField(self.field, error)

    def _anew(self, area: _Area, descriptors: DescriptorMap, mask: Mask) -> list[Array]:
        """Guesses that take longer, for an object that was not in sight a frame before."""
        if not self._mask.any():
            return []
        masks = {"first_mask": self._mask, "mask": mask}
        whole = coherent_matches(self._descriptors, descriptors, **masks)
        poses = turned_fields(area.places, **masks)
        poses.sort(key=lambda guess: area.cost(guess)[0])
        return [area.through(whole, stiff=False), *poses[:_POSES]]

    def _moved(self, area: _Area, mask: Mask) -> Array | None:
        """The field of the frame before, moved so that its object covers the mask."""
        assert self.field is not None
        before = sample(self._soft, self.field) > 0.5
        if not before.any():
            return None
        shift = [self.places[part].mean(axis=0) for part in (before, mask)]
        return sample(self.field, (self.places - (shift[1] - shift[0]))[area.box])


def _best(area: _Area, guesses: list[tuple[float, Array]]) -> _Tried:
    """The best guess corrected, mended by the others where it fails.

    Guesses that are worse already than the best one corrected are not corrected, as long as that
    fails nowhere.
    """
    costs = [(faith * area.cost(guess)[0], faith, guess) for faith, guess in guesses]
    costs.sort(key=lambda item: item[0])
    best, lowest = None, np.inf
    others: list[Array] = []
    for cost, faith, guess in costs:
        if best is not None and cost >= lowest:
            others.append(guess)
            continue
        tried = area.refined(guess)
        if best is None or faith * tried.cost < lowest:
            others += [] if best is None else [best.xy]
            best, lowest = tried, faith * tried.cost
        else:
            others.append(tried.xy)
    assert best is not None
    # What was far off is corrected once more.
    if best.step > _CLOSE:
        again = area.refined(best.xy)
        best = again if again.cost < best.cost else best
    return area.mended(best, others)


def _best_anew(area: _Area, guesses: list[Array]) -> _Tried:
    """The best guess where all may be far off: each is corrected, and mended by the others."""
    tried = []
    for guess in guesses:
        once = area.refined(guess)
        twice = area.refined(once.xy) if once.step > _CLOSE else once
        tried.append(twice if twice.cost < once.cost else once)
    tried.sort(key=lambda one: one.cost)
    return area.mended(tried[0], [other.xy for other in tried[1:]])


@dataclass(frozen=True, eq=False)
class _Tried:
    xy: Array
    error: Array
    affine: npt.NDArray[np.float64]
    cost: float
    step: float  # mean length of the correction on the object, pixels


def _without(image: Image, mask: Mask) -> Array:
    """An image (h, w, 3) with the mask filled smoothly from what is around it."""
    import cv2

    grown = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    known = (~grown).astype(np.float32)
    size = (max(1, mask.shape[1] // 4), max(1, mask.shape[0] // 4))
    parts = np.dstack([image * known[..., None], known]).astype(np.float32)
    small = cv2.resize(parts, size, interpolation=cv2.INTER_AREA)
    filled = np.full((size[1], size[0], 3), 128.0, np.float32)
    for sigma in (16.0, 4.0, 1.0):
        near = cv2.GaussianBlur(small, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
        filled = (near[..., :3] + 1e-3 * filled) / (near[..., 3:] + 1e-3)
    whole = cv2.resize(filled, mask.shape[::-1])
    result: Array = np.where(grown[..., None], whole, image).astype(np.float32)
    return result


class _Area:
    """The part of a frame around the object."""

    def __init__(self, image: Image, mask: Mask, first: Image, soft: Array, places: Array) -> None:
        import cv2

        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        self.box = tuple(
            slice(max(0, int(ends[0]) - _MARGIN), int(ends[-1]) + 1 + _MARGIN)
            for ends in (rows, columns)
        )
        self.places = places[self.box]
        self.all_places = places
        self.mask = mask[self.box]
        self.image = np.ascontiguousarray(image[self.box])
        self.grey = grey_of(self.image)
        self.first, self.soft = first, soft
        inner = cv2.erode(self.mask.astype(np.uint8), np.ones((3, 3), np.uint8))
        self.weight = (inner if inner.any() else self.mask).astype(np.float32)
        self.behind = _without(self.image, self.mask)
        self.edges = edge_weight(self.grey, noise=_NOISE)

    def refined(self, guess: Array) -> _Tried:
        """A guess corrected by optical flow between the first frame warped by it and the frame."""
        # What is behind the object moved otherwise: there the frame's own background stands.
        there = sample(self.soft, guess)[..., None]
        warped = there * sample(self.first, guess) + (1 - there) * self.behind
        warped = np.rint(warped).astype(np.uint8)
        step = flow_between(self.grey, grey_of(warped))
        found = sample(guess, self.places - self.places[0, 0] + step)
        error = self.difference(sample(self.first, found))
        trust = self.weight / (1 + (error / _TOLERANCE) ** 2)
        # What the step adds is smoothed at once, the field itself only little by little: what has
        # been found of parts that move on their own stays.
        found = sample(guess, self.increment(step, trust) - self.places[0, 0])
        affine, xy = self._regular(found, trust)
        xy = found + _LEAK * (xy - found)
        cost, error = self.cost(xy)
        far = float(np.linalg.norm(step[self.mask], axis=1).mean())
        return _Tried(xy, error, affine, cost, far)

    def mended(self, best: _Tried, others: list[Array]) -> _Tried:
        """The best field with parts of others where it fails: parts that move on their own."""
        import cv2

        badness = self._badness(best.xy, best.error)
        failing = badness > _BAD
        if failing[self.mask].mean() < _FEW:
            return best
        for other in others:
            # Corrections take time: only where the guess is better as it is on part of what fails.
            hope = self._badness(other, self.difference(sample(self.first, other))) < badness
            if hope[failing].sum() < _PART * failing.sum():
                continue
            tried = self.refined(other)
            if tried.cost < best.cost:
                best, tried = tried, best
                badness = self._badness(best.xy, best.error)
                failing = badness > _BAD
            better = self._badness(tried.xy, tried.error) < 0.6 * badness
            share = cv2.GaussianBlur((better & failing).astype(np.float32), (0, 0), 2.0)[..., None]
            if better[failing].sum() < _PART * failing.sum():
                continue
            mixed = self.refined((1 - share) * best.xy + share * tried.xy)
            if mixed.cost < best.cost:
                best = mixed
                badness = self._badness(best.xy, best.error)
                failing = badness > _BAD
        return best

    def _badness(self, xy: Array, error: Array) -> Array:
        """How badly a field fits around every pixel of the mask: (h, w)."""
        import cv2

        weight = self.mask.astype(np.float32)
        outside = sample(self.soft, xy) < 0.5
        bad = (np.minimum(error, 0.3) + 0.3 * outside) * weight
        near: Array = cv2.blur(bad, (9, 9)) / (cv2.blur(weight, (9, 9)) + 1e-3)
        return near * weight

    def cost(self, xy: Array) -> tuple[float, Array]:
        """How badly a field fits frame and mask, and the colour differences (h, w)."""
        error = self.difference(sample(self.first, xy))
        overlap = sample(self.soft, xy) > 0.5
        union = (overlap | self.mask).sum()
        cost = float(np.minimum(error[self.mask], 0.3).mean())
        return cost + 0.1 * (1 - float((overlap & self.mask).sum()) / float(union)), error

    def difference(self, warped: Image) -> Array:
        """Colour difference to the frame, most of what is the same all around forgiven."""
        import cv2

        a, b = (cv2.blur(part, (3, 3)).astype(np.float32) / 255 for part in (self.image, warped))
        weight = self.mask.astype(np.float32)
        low = cv2.blur((a - b) * weight[..., None], (31, 31))
        low = low / (cv2.blur(weight, (31, 31))[..., None] + 1e-3)
        apart = np.abs(a - b - low) + 0.25 * np.abs(low)
        mean = (apart[..., 0] + apart[..., 1] + apart[..., 2]) / 3
        return mean.astype(np.float32, copy=False)

    def increment(self, step: Array, weight: Array) -> Array:
        """Places to which a step leads, smoothed."""
        return self._regular(self.places + step, weight)[1]

    def _regular(self, xy: Array, weight: Array) -> tuple[npt.NDArray[np.float64], Array]:
        places = np.flatnonzero(weight.ravel() > 0)
        places = places[:: max(1, len(places) // _SAMPLES)]
        here, there = self.places.reshape(-1, 2)[places], xy.reshape(-1, 2)[places]
        rough = fit_weighted_affine(here, there, weight.ravel()[places])
        if abs(np.linalg.det(rough[:, :2])) < _LEAST_SCALE**2:
            return rough, affine_values(rough, self.places)
        # Edges know motion across themselves, in directions of this frame: what the field adds to
        # the affine map is measured there too.
        trust = self.edges * weight[..., None]
        back = np.linalg.inv(rough[:, :2])
        moved = ((xy - rough[:, 2]) @ back.T).astype(np.float32)
        fine = fit_weighted_affine(here, moved.reshape(-1, 2)[places], trust.reshape(-1, 3)[places])
        base = affine_values(fine, self.places)
        moved = base + smooth_values(moved - base, trust, _SCALES)
        affine = np.column_stack(
            [rough[:, :2] @ fine[:, :2], rough[:, :2] @ fine[:, 2] + rough[:, 2]]
        )
        return affine, affine_values(rough, moved)

    def through(self, matches: PointMatches, *, stiff: bool) -> Array:
        """A smooth field through scattered matches.

        Args:
            stiff: whether matches far from the affine map of all count little. If not, parts may
                move on their own, and wrong matches do more harm.
        """
        affine = fit_weighted_affine(matches.xy, matches.source_xy, matches.weight)
        away = matches.source_xy - affine_values(affine, matches.xy)
        far = np.linalg.norm(away, axis=1) / (3 * matches.cell)
        weight = matches.weight
        if stiff:
            weight = (weight / (1 + far**2) ** 2).astype(np.float32)
        values = np.zeros((*self.mask.shape, 2), np.float32)
        local = np.rint(matches.xy - self.places[0, 0]).astype(int)
        size = np.array(self.mask.shape[::-1])
        inside = ((local >= 0) & (local < size)).all(axis=1)
        at = (local[inside, 1], local[inside, 0])
        values[at] = away[inside]
        known = np.zeros(self.mask.shape, np.float32)
        # One pixel stands for its whole cell.
        known[at] = weight[inside] * matches.cell**2
        smooth = smooth_values(values, known, tuple(s * matches.cell for s in (6.0, 1.5)))
        return affine_values(affine, self.places) + smooth

    def everywhere(self, tried: _Tried) -> Array:
        """The field over the whole frame."""
        whole = affine_values(tried.affine, self.all_places)
        whole[self.box] = tried.xy
        return whole
