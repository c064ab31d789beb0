"""Motion with an analytic inverse: curves over time, poses, deformations and the camera.

Every step maps points one way and back in closed form, so the correspondences that follow from
them are exact to float64 rounding: nothing is inverted by iteration.

Convention: material coordinates are those in which an object is drawn; world coordinates are
measured in frame heights, x to the right, y down, with the origin at the centre of the frame of a
camera at rest. Angles are radians and turn x towards y (clockwise on the screen). Times are
seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Camera", "Curve", "Flap", "Pose", "Squeeze", "Step", "Wave"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A number over time: `start + rate * t + swing * sin(2 pi (t / period + phase))`.

    Attributes:
        start: value that the swing goes around at time 0.
        rate: change per second.
        swing: amplitude.
        period: seconds of one swing.
        phase: in periods.
    """

    start: float = 0.0
    rate: float = 0.0
    swing: float = 0.0
    period: float = 1.0
    phase: float = 0.0

    def at(self, seconds: float) -> float:
        """The value at a time."""
        turn = 2 * math.pi * (seconds / self.period + self.phase)
        return self.start + self.rate * seconds + self.swing * math.sin(turn)


STILL = Curve()
ONE = Curve(1.0)


class Step(Protocol):
    """One map of a chain from material to world coordinates, with its exact inverse."""

    def forward(self, x: Array, y: Array, seconds: float) -> tuple[Array, Array]:
        """Points taken from the object's side to the world's side."""
        ...

    def inverse(self, x: Array, y: Array, seconds: float) -> tuple[Array, Array]:
        """Points taken back: the inverse of `forward` at the same time."""
        ...


def _rotate(x: Array, y: Array, angle: float) -> tuple[Array, Array]:
    c, s = math.cos(angle), math.sin(angle)
    return c * x - s * y, s * x + c * y


@dataclass(frozen=True)
class Pose:
    """Scale, mirror, turn, then move: where an object (or a part on its object) is.

    Attributes:
        x, y: place of the origin of the inner coordinates.
        angle: turn in radians.
        scale: outer units per inner unit; positive.
        mirror: flip the inner y first, for left and right parts of one drawing.
    """

    x: Curve = STILL
    y: Curve = STILL
    angle: Curve = STILL
    scale: Curve = ONE
    mirror: bool = False

    def forward(self, x: Array, y: Array, seconds: float) -> tuple[Array, Array]:
        """Inner to outer coordinates."""
        scale = self.scale.at(seconds)
        x, y = _rotate(x * scale, y * (-scale if self.mirror else scale), self.angle.at(seconds))
        return x + self.x.at(seconds), y + self.y.at(seconds)

    def inverse(self, x: Array, y: Array, seconds: float) -> tuple[Array, Array]:
        """Outer to inner coordinates."""
        scale = self.scale.at(seconds)
        x, y = x - self.x.at(seconds), y - self.y.at(seconds)
        x, y = _rotate(x, y, -self.angle.at(seconds))
        return x / scale, y / (-scale if self.mirror else scale)


@dataclass(frozen=True)
class Wave:
    """A wave that runs along x and moves points sideways, such as a swimming body.

    `y' = y + a(x) sin(2 pi (x / length + t / period + phase))` with the amplitude
    `a(x) = amplitude * ((anchor - x) / reach)^2` behind the anchor and 0 before it. It is a shear
    that depends on x alone, so its inverse is the same shear subtracted.

    Attributes:
        amplitude: sideways movement at distance `reach` behind the anchor, in drawing units.
        anchor: x from which the wave grows towards smaller x.
        reach: distance from the anchor at which `amplitude` is reached.
        length: wavelength.
        period: seconds of one wave.
        phase: in periods.
    """

    amplitude: float
    anchor: float
    reach: float
    length: float
    period: float
    phase: float = 0.0

    def _shift(self, x: Array, seconds: float) -> Array:
        growth = np.maximum(self.anchor - x, 0.0) / self.reach
        turn = 2 * math.pi * (x / self.length + seconds / self.period + self.phase)
        return self.amplitude * growth**2 * np.sin(turn)

    def forward(self, x: Array, y: Array, seconds: float) -> tuple[Array, Array]:
        """Straight to waved coordinates."""
        return x, y + self._shift(x, seconds)

    def inverse(self, x: Array, y: Array, seconds: float) -> tuple[Array, Array]:
        """Waved to straight coordinates."""
        return x, y - self._shift(x, seconds)


@dataclass(frozen=True)
class Squeeze:
    """Width that breathes along the length, such as the bell of a jellyfish.

    `y' = y * (1 + amplitude * sin(2 pi (x / length + t / period + phase)))`: the factor depends on
    x alone, so the inverse divides by it. `amplitude` is below 1.
    """

    amplitude: float
    length: float
    period: float
    phase: float = 0.0

    def _factor(self, x: Array, seconds: float) -> Array:
        turn = 2 * math.pi * (x / self.length + seconds / self.period + self.phase)
        return 1.0 + self.amplitude * np.sin(turn)

    def forward(self, x: Array, y: Array, seconds: float) -> tuple[Array, Array]:
        """Relaxed to squeezed coordinates."""
        return x, y * self._factor(x, seconds)

    def inverse(self, x: Array, y: Array, seconds: float) -> tuple[Array, Array]:
        """Squeezed to relaxed coordinates."""
        return x, y / self._factor(x, seconds)


@dataclass(frozen=True)
class Flap:
    """Wings on both sides of the x axis that open and close, seen from above.

    Points within `body` of the axis stay; beyond it the distance is scaled by `opening` (positive,
    at most 1 for a wing seen at its full width). Piecewise linear, hence invertible piecewise.
    """

    opening: Curve
    body: float

    def _scale(self, y: Array, factor: float) -> Array:
        beyond = np.maximum(np.abs(y) - self.body, 0.0)
        return np.where(beyond > 0, np.sign(y) * (self.body + beyond * factor), y)

    def forward(self, x: Array, y: Array, seconds: float) -> tuple[Array, Array]:
        """Flat to flapped coordinates."""
        return x, self._scale(y, self.opening.at(seconds))

    def inverse(self, x: Array, y: Array, seconds: float) -> tuple[Array, Array]:
        """Flapped to flat coordinates."""
        return x, self._scale(y, 1.0 / self.opening.at(seconds))


@dataclass(frozen=True)
class Camera:
    """The view: world points relative to the camera's place, turned and zoomed.

    Attributes:
        x, y: world point at the centre of the frame.
        angle: turn of the picture in radians.
        zoom: 1 shows a world height of 1 in the frame.
    """

    x: Curve = STILL
    y: Curve = STILL
    angle: Curve = STILL
    zoom: Curve = ONE

    def forward(self, x: Array, y: Array, seconds: float) -> tuple[Array, Array]:
        """World to view coordinates (frame heights from the frame's centre)."""
        zoom = self.zoom.at(seconds)
        x, y = _rotate(x - self.x.at(seconds), y - self.y.at(seconds), self.angle.at(seconds))
        return x * zoom, y * zoom

    def inverse(self, x: Array, y: Array, seconds: float) -> tuple[Array, Array]:
        """View to world coordinates."""
        zoom = self.zoom.at(seconds)
        x, y = _rotate(x / zoom, y / zoom, -self.angle.at(seconds))
        return x + self.x.at(seconds), y + self.y.at(seconds)

    def still(self, seconds: float) -> Camera:
        """The camera that rests where this one is at a time."""
        curves = (self.x, self.y, self.angle, self.zoom)
        return Camera(*(Curve(curve.at(seconds)) for curve in curves))
