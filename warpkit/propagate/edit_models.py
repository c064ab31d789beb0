"""Which model an edit is propagated by: a flat part moved as one, or the object's smooth field.

In: frames, the object's smooth field if there is one. Out: for every frame where its pixels are in
the first one, with what opacity the edit is to be laid on, and which model says so.

A similarity, an affine map, a homography and the smooth field are followed side by side. Each
frame is compared with the first one warped by each of them; the model with the lowest cost, which
grows with its freedom, is taken, and stays until another is clearly better for some frames.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from warpkit.arrays import Mask, mask_box
from warpkit.coords import grid_to_pixel, pixel_grid, pixel_to_grid
from warpkit.propagate.object_fields import sample
from warpkit.propagate.plane_alignment import (
    PLANE_MODELS,
    FramePyramid,
    Matrix,
    correlation,
    first_places,
    mapped,
)
from warpkit.propagate.plane_tracking import PlaneFit, PlaneTracker, flat_part, part_motion
from warpkit.propagate.smooth_fields import fit_weighted_affine

__all__ = ["EDIT_MODELS", "EditFit", "EditModel", "EditModels", "LaidEdit"]

EditModel = Literal["rigid", "affine", "planar", "free"]
EDIT_MODELS: tuple[EditModel, ...] = (*PLANE_MODELS, "free")

Array = npt.NDArray[np.float32]
Grey = npt.NDArray[np.uint8]

# What fits as badly as one of more freedom is the better: costs count this much more with freedom.
_FREEDOM: dict[EditModel, float] = {"rigid": 1.0, "affine": 1.05, "planar": 1.1, "free": 1.6}
_WHOLE = 0.8  # of an object under the edit, from which it is to cover all of it
_BENDING = 0.5  # what a field costs that bends the edit wholly out of its shape
_LEAST_BENT = 20  # pixels of the edit, for its bending to be measured
_SAMPLES = 4000
_NOISE = 0.02  # of 1 - correlation, that no model explains
_MEMORY = 0.8  # of the mean cost, kept from frame to frame
_FLAT = 0.4  # mean cost above which no flat model takes over
_SWITCH = 0.9  # of its cost, below which another model takes over
_CHEAP = 2  # lists of guesses that take little time
_SEARCH = 5  # frames between those in which the dear ones are tried for what is lost
_TURN = 0.35  # of what is left to a change of models, a frame
_TURNED = 0.95  # share from which one model has taken over
_SURE = 0.45  # agreement of the smooth field, to take over from a flat model
_POINTS = 200  # that are followed from frame to frame


@dataclass(frozen=True)
class EditFit:
    """How the edit of an object was propagated to one frame.

    Attributes:
        model: `rigid`, `affine`, `planar`, or `free` for the smooth field.
        agreement: correlation of the frame with the first one warped by it, around the edit and
            after local normalisation; -1 to 1. None if it was not asked for.
        lost: whether the place of the edit is not known.
    """

    model: EditModel
    agreement: float | None
    lost: bool


@dataclass(frozen=True, eq=False)
class LaidEdit:
    """Where an edit is to be laid on.

    Attributes:
        shares: how much each model counts, together 1 or, if none knows the place, 0; more than one
            counts while one takes over from another.
        maps: (3, 3) of the flat models that count, from the first frame's pixels to the frame's.
        outline: (N, 2), pixels of the first frame around the edit.
        opacity: of what the flat models show.
    """

    shares: Mapping[EditModel, float]
    maps: Mapping[EditModel, Matrix]
    outline: Matrix
    opacity: float

    @property
    def flat(self) -> float:
        """The share of the flat models."""
        return sum(share for model, share in self.shares.items() if model != "free")

    def corners(self) -> list[Matrix]:
        """Where each flat model has the outline, pixels of the frame."""
        return [mapped(homography, self.outline) for homography in self.maps.values()]

    def places(self, grid: Array, free: Array | None) -> Array:
        """Where pixels (h, w, 2) of the frame are in the first one.

        Args:
            free: what the smooth field says of them; not needed where it does not count.
        """
        total = np.zeros(grid.shape, np.float32)
        for model, share in self.shares.items():
            if model == "free":
                assert free is not None
                total += share * free
            else:
                total += share * first_places(self.maps[model], grid, self.outline)
        return total


class EditModels:
    """Follows the edit of one object by several models.

    Args:
        grey: uint8 (H, W), the first frame.
        small: uint8 (h, w), the same at the size at which smooth fields are.
        edited: bool (H, W), where the edit is.
        mask: bool (H, W), the object; None if it is not known.
        models: what may be taken; `free` is given to every step.

    Attributes:
        whole: whether the edit covers about all of the object.
    """

    def __init__(
        self,
        grey: Grey,
        small: Grey,
        edited: Mask,
        mask: Mask | None,
        models: Sequence[EditModel],
    ) -> None:
        import cv2

        self._models = tuple(models)
        self._outlined = mask is not None
        self.whole = mask is not None and float(edited[mask].mean()) > _WHOLE
        x1, y1, x2, y2 = mask_box(edited)
        self._outline = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float64)
        self._part, weight = flat_part(grey, edited, mask)
        size = small.shape[1::-1]
        self._first = small.astype(np.float32)
        self._weight = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
        self._edited = cv2.resize(edited.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        self._ratio = np.array(size) / grey.shape[1::-1]
        self._trackers = {m: PlaneTracker(self._part, m) for m in PLANE_MODELS if m in models}
        inside = (weight > 0).astype(np.uint8)
        corners = cv2.goodFeaturesToTrack(grey, _POINTS, 0.005, 3, mask=inside)
        self._points = np.zeros((0, 2)) if corners is None else corners[:, 0].astype(np.float64)
        self.begin(at_first=True)

    @property
    def part(self) -> Mask:
        """The edit and what is around it as far as it is looked at, (h, w), at the smaller size."""
        return np.asarray(self._weight > 0)

    def begin(self, *, at_first: bool) -> None:
        """Go on behind the first frame, or somewhere else in the clip."""
        for tracker in self._trackers.values():
            tracker.begin(at_first=at_first)
        self._costs = np.full(len(self._models), np.nan)
        self._shares = np.zeros(len(self._models))
        self._choice, self._missed = -1, 0
        self._centre = np.full(2, np.nan)

    def hide(self) -> None:
        """The object is not to be seen: it must be found again."""
        for tracker in self._trackers.values():
            tracker.fit = None
        self._centre = np.full(2, np.nan)

    def step(
        self,
        grey: Grey,
        mask: Mask,
        small: Grey,
        before: Grey | None,
        search: Callable[[], Iterator[list[Matrix]]],
        free: Array | None,
    ) -> tuple[EditFit, LaidEdit]:
        """Follow the edit to the next frame.

        Args:
            grey: uint8 (H, W), the frame.
            mask: bool (H, W), the object in it, not empty.
            small: uint8 (h, w), the frame at the smaller size.
            before: the same of the frame before; None where there is none.
            search: gives lists of maps (3, 3) from the first frame to this one, both at the
                smaller size, to be tried where the edit is not found from the frame before; the
                first one comes from the smooth field, if there is one.
            free: float32 (h, w, 2), where the smooth field says that the pixels of `small` are in
                the first frame at that size; None if there is none.
        """
        pyramid = FramePyramid(grey, mask if self._outlined else None)
        motion, shifts = self._motions(mask, small, before)
        shrink = np.diag([*self._ratio, 1.0])
        shrink[:2, 2] = self._ratio / 2 - 0.5
        grow = np.linalg.inv(shrink)
        batches, known_batches = search(), list[list[Matrix]]()
        # As long as the smooth field is taken nothing dearer is tried; and all of it now and then.
        freely = self._choice >= 0 and self._models[self._choice] == "free"
        most = 1 if freely else _CHEAP if self._missed % _SEARCH else None

        def searched() -> Iterator[list[Matrix]]:
            # What a simpler model found is a guess for the next.
            yield [fit.homography for fit in fits.values() if not fit.lost]
            for number in itertools.islice(itertools.count(), most):
                if number == len(known_batches):
                    batch = next(batches, None)
                    if batch is None:
                        return
                    known_batches.append([grow @ guess @ shrink for guess in batch])
                yield known_batches[number]

        fits: dict[EditModel, PlaneFit] = {}
        for model, tracker in self._trackers.items():
            astray = freely and (tracker.fit is None or tracker.fit.lost)
            # What is not laid on need not be followed to a part of a pixel.
            coarse = bool(self._choice >= 0 and self._shares[self._models.index(model)] == 0)
            fit = tracker.step(pyramid, motion, [] if astray else shifts, searched, coarse=coarse)
            if fit is not None:
                fits[model] = fit
        self._missed = 0 if any(not fit.lost for fit in fits.values()) else self._missed + 1
        misfits = self._misfits(small, mask, fits, free)
        bent = 0.0 if free is None else self._bending(small, mask, free)
        choice = self._choose(misfits, fits, bent)
        known = np.array([m in fits or (m == "free" and free is not None) for m in self._models])
        self._shares *= known & known[self._choice]
        self._shares /= max(float(self._shares.sum()), 1e-9)
        if known[self._choice]:
            taken = np.arange(len(self._models)) == self._choice
            self._shares += (_TURN if self._shares.any() else 1.0) * (taken - self._shares)
            if self._shares[self._choice] > _TURNED:
                self._shares = taken.astype(np.float64)
        shares = {m: float(w) for m, w in zip(self._models, self._shares, strict=True) if w > 0}
        maps: dict[EditModel, Matrix] = {m: fits[m].homography for m in shares if m in fits}
        shown = sum(share * fits[m].opacity for m, share in shares.items() if m in fits)
        flat = sum(share for m, share in shares.items() if m in fits)
        lost = choice != "free" and (choice not in fits or fits[choice].lost)
        return (
            EditFit(choice, round(misfits.get(choice, (0.0, 0.0))[0], 4), lost),
            LaidEdit(shares, maps, self._outline, shown / flat if flat else 0.0),
        )

    def _motions(
        self, mask: Mask, small: Grey, before: Grey | None
    ) -> tuple[Matrix | None, list[Matrix]]:
        """The part's motion since the frame before, and others that it may have made."""
        rows, columns = np.nonzero(mask)
        centre = np.array([columns.mean(), rows.mean()])
        shift = np.eye(3)
        shift[:2, 2] = np.nan_to_num(centre - self._centre)
        self._centre = centre
        fits = [tracker.fit for tracker in self._trackers.values() if tracker.fit is not None]
        motion = None
        if fits and before is not None and len(self._points):
            best = max(fits, key=lambda fit: fit.agreement)
            there = mapped(best.homography, self._points)
            motion = part_motion(there, before, small, float(self._ratio[0]))
        return motion, [np.eye(3), shift]

    def _misfits(
        self, small: Grey, mask: Mask, fits: Mapping[EditModel, PlaneFit], free: Array | None
    ) -> dict[EditModel, tuple[float, float]]:
        """How far the frame looks as the first one warped by each model, around the edit: a
        correlation, and the share of the edit that a model leaves or puts where it is not.
        """
        import cv2

        if len(self._models) == 1:
            return {model: (fit.agreement, 0.0) for model, fit in fits.items()}
        height, width = small.shape
        seen = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        seen = np.asarray(seen if self._outlined else np.ones_like(seen))
        x1, y1, x2, y2 = map(int, mask_box(seen > 0))
        box = slice(y1, y2 + 1), slice(x1, x2 + 1)
        grid = pixel_grid(height=height, width=width).numpy()[box]
        cell = 1 / self._ratio
        there: dict[EditModel, Array] = {} if free is None else {"free": free[box]}
        for model, fit in fits.items():
            at = np.asarray(grid_to_pixel(grid, cell), np.float32)
            places = first_places(fit.homography, at, self._outline)
            there[model] = np.asarray(pixel_to_grid(places, cell), np.float32)
        shown, seen = small[box].astype(np.float32), seen[box]
        found: dict[EditModel, tuple[float, float]] = {}
        for model, xy in there.items():
            weight = np.asarray(sample(self._weight, xy) * seen, np.float32)
            edited = sample(self._edited, xy)
            warped = np.asarray(sample(self._first, xy), np.float32)
            inner = np.asarray(edited * seen, np.float32)
            agreement, wrong = correlation(warped, shown, weight, inner)
            if self.whole:  # then it is to cover the object, and nothing else
                wrong += 1 - float(inner.sum() / max(float(np.maximum(edited, seen).sum()), 1e-6))
            found[model] = agreement, wrong
        return found

    def _bending(self, small: Grey, mask: Mask, free: Array) -> float:
        """How far a smooth field bends the edit: the median difference between its slopes and those
        of an affine map, as a part of the latter, at most 1.
        """
        import cv2

        size = small.shape[1::-1]
        seen = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5
        if len(self._models) == 1 or not seen.any():
            return 0.0
        x1, y1, x2, y2 = map(int, mask_box(seen))
        field = free[y1 : y2 + 1, x1 : x2 + 1]
        on = (sample(self._edited, field) > 0.5) & seen[y1 : y2 + 1, x1 : x2 + 1]
        if on.sum() < _LEAST_BENT or min(on.shape) < 2:
            return 0.0
        y, x = np.nonzero(on)
        some = slice(None, None, max(1, len(x) // _SAMPLES))
        y, x = y[some], x[some]
        xy = np.column_stack([x, y]).astype(np.float32)
        affine = fit_weighted_affine(xy, field[y, x], np.ones(len(xy), np.float32))[:, :2]
        slopes = np.stack([np.gradient(field, axis=axis)[y, x] for axis in (1, 0)], axis=2)
        away = np.linalg.pinv(affine) @ slopes - np.eye(2)
        return min(1.0, float(np.median(np.linalg.norm(away, axis=(1, 2)))))

    def _choose(
        self,
        misfits: Mapping[EditModel, tuple[float, float]],
        fits: Mapping[EditModel, PlaneFit],
        bent: float,
    ) -> EditModel:
        """The model to be taken."""
        costs = []
        for model in self._models:
            agreement, wrong = misfits.get(model, (0.0, 0.0))
            if model != "free" and (model not in fits or fits[model].lost):
                agreement = 0.0
            cost = (_NOISE + 1 - max(0.0, agreement) + wrong) * _FREEDOM[model]
            costs.append(cost + _BENDING * bent if model == "free" else cost)
        new = np.array(costs)
        self._costs = np.where(
            np.isnan(self._costs), new, _MEMORY * self._costs + (1 - _MEMORY) * new
        )
        # What no flat model explains well is left to the smooth field, and what they have lost is
        # not smeared by it over what is there now.
        names = np.array(self._models)
        costs_now = np.where((names == "free") | (self._costs < _FLAT), self._costs, np.inf)
        if self._choice < 0:
            self._choice = int(np.argmin(costs_now if "free" in names else self._costs))
        else:
            best = int(np.argmin(costs_now))
            sure = names[best] != "free" or misfits.get("free", (0.0, 0.0))[0] >= _SURE
            if sure and costs_now[best] < _SWITCH * self._costs[self._choice]:
                self._choice = best
        return self._models[self._choice]

    def state(self) -> dict[str, torch.Tensor]:
        """What `restore` needs."""
        fits = np.full((len(self._trackers), 12), np.nan)
        for row, tracker in zip(fits, self._trackers.values(), strict=True):
            if tracker.fit is not None:
                fit = tracker.fit
                row[:] = [*fit.homography.ravel(), fit.agreement, fit.lost, fit.opacity]
        counts = float(self._choice), float(self._missed)
        rest = [*self._costs, *self._shares, *self._centre, *counts]
        return {"fits": torch.from_numpy(fits), "choice": torch.tensor(rest, dtype=torch.float64)}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go back to what `state` returned; without that, to somewhere in the clip."""
        self.begin(at_first=False)
        if not state:
            return
        for row, tracker in zip(state["fits"].numpy(), self._trackers.values(), strict=True):
            known = np.isfinite(row).all()
            homography, rest = row[:9].reshape(3, 3), row[9:].tolist()
            tracker.fit = PlaneFit(homography, rest[0], bool(rest[1]), rest[2]) if known else None
        rest = state["choice"].numpy()
        count = len(self._models)
        self._costs, self._shares = rest[:count].copy(), rest[count : 2 * count].copy()
        self._centre, self._choice, self._missed = rest[-4:-2].copy(), int(rest[-2]), int(rest[-1])
