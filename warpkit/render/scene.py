"""What a clip is made of: layers over a scenery, seen by a camera, in a light."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from warpkit.checks import one_of, require
from warpkit.render.creatures import CREATURES
from warpkit.render.drawing import Style
from warpkit.render.motion import Array, Camera, Curve, Step
from warpkit.render.scenery import SCENERIES
from warpkit.render.things import THINGS

__all__ = ["DRAWINGS", "ClipSpec", "Light", "SceneLayer"]

DRAWINGS = {**CREATURES, **THINGS}


@dataclass(frozen=True)
class Light:
    """How bright the picture is; it changes colours, never masks or correspondences.

    Attributes:
        gain: brightness of the whole frame; 1 leaves it as painted.
        warmth: shift from blue to red, about -0.3 to 0.3.
        slope: brightness added per frame height from left to right.
        shadow: darkness in [0, 1] of the soft shadow that objects throw to the lower right.
    """

    gain: Curve = field(default_factory=lambda: Curve(1.0))
    warmth: Curve = field(default_factory=Curve)
    slope: Curve = field(default_factory=Curve)
    shadow: float = 0.0


@dataclass(frozen=True)
class SceneLayer:
    """One drawing that moves: an object, a part of one, or scenery that passes in front.

    Attributes:
        drawing: a name of `DRAWINGS`.
        label: object id of its pixels, 1 to 255; 0 for scenery. Parts of one object share an id.
        steps: the chain from material to world coordinates, applied in order.
        style: what it is painted with.
        edited_style: what it is painted with in the edited clip; None leaves it as it is.
    """

    drawing: str
    label: int
    steps: tuple[Step, ...]
    style: Style
    edited_style: Style | None = None

    def __post_init__(self) -> None:
        one_of(self.drawing, DRAWINGS, "drawing")
        require(0 <= self.label <= 255, f"a layer's label must be 0 to 255, got {self.label}")
        require(
            self.edited_style is None or self.label > 0,
            f"layer '{self.drawing}' is scenery (label 0) and cannot have an edited style",
        )

    def forward(self, x: Array, y: Array, seconds: float) -> tuple[Array, Array]:
        """Material to world coordinates."""
        for step in self.steps:
            x, y = step.forward(x, y, seconds)
        return x, y

    def inverse(self, x: Array, y: Array, seconds: float) -> tuple[Array, Array]:
        """World to material coordinates."""
        for step in reversed(self.steps):
            x, y = step.inverse(x, y, seconds)
        return x, y

    def distance(self, x: Array, y: Array, *, margin: float = 0.0) -> Array:
        """Signed distance at material points; infinite farther than `margin` from the bounds."""
        x0, y0, x1, y1 = DRAWINGS[self.drawing].bounds
        near = (x > x0 - margin) & (x < x1 + margin) & (y > y0 - margin) & (y < y1 + margin)
        distance = np.full(x.shape, np.inf)
        distance[near] = DRAWINGS[self.drawing].distance(x[near], y[near])
        return distance

    def covers(self, x: Array, y: Array) -> npt.NDArray[np.bool_]:
        """Whether material points lie on the drawing."""
        return self.distance(x, y) < 0

    def colours(self, x: Array, y: Array, *, edited: bool) -> Array:
        """Colours (N, 3) in [0, 1] of material points (N,) on the drawing."""
        style = self.edited_style if edited and self.edited_style else self.style
        return DRAWINGS[self.drawing].paint(x, y, style)


@dataclass(frozen=True)
class ClipSpec:
    """A clip in full: the same specification always renders to the same bytes.

    Convention: frame t shows the time `t / frame_rate` seconds; world coordinates are frame
    heights from the centre of the frame (see `warpkit.render.motion`).

    Attributes:
        name: name for files and reports.
        height, width: frame size in pixels.
        frames: number of frames.
        frame_rate: frames per second.
        seed: seed of everything random in the scenery.
        scenery: a name of `scenery.SCENERIES`.
        objects: layers from back to front.
        camera: the view.
        light: brightness and shadow.
        supersampling: colour samples per pixel side; labels are always those of pixel centres.
        summary: one sentence that says what the clip shows.
    """

    name: str
    height: int
    width: int
    frames: int
    frame_rate: int
    seed: int
    scenery: str
    objects: tuple[SceneLayer, ...]
    camera: Camera = field(default_factory=Camera)
    light: Light = field(default_factory=Light)
    supersampling: int = 3
    summary: str = ""

    def __post_init__(self) -> None:
        require(
            min(self.height, self.width) >= 2,
            f"clip '{self.name}' needs at least 2 x 2 pixels, got {self.height} x {self.width}",
        )
        require(
            self.frames >= 1 and self.frame_rate >= 1 and self.supersampling >= 1,
            f"clip '{self.name}' needs at least one frame, one frame per second and one sample per"
            f" pixel, got {self.frames}, {self.frame_rate}, {self.supersampling}",
        )
        require(self.seed >= 0, f"the seed must not be negative, got {self.seed}")
        one_of(self.scenery, SCENERIES, "scenery")

    def without_objects(self, seconds: float) -> ClipSpec:
        """The scenery that is seen at a time: a still of one frame, in plain light."""
        camera = self.camera.still(seconds)
        return replace(
            self, name="", summary="", frames=1, objects=(), camera=camera, light=Light()
        )
