"""The named demo clips, and a still pair cut from them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from warpkit.checks import one_of, require
from warpkit.render.drawing import Style
from warpkit.render.frames import RenderedFrame, render_frame
from warpkit.render.motion import Camera, Curve, Flap, Pose, Squeeze, Step, Wave
from warpkit.render.scene import ClipSpec, Light, SceneLayer

__all__ = [
    "CLIPS",
    "ClipSpec",
    "Light",
    "RenderedFrame",
    "SceneLayer",
    "render_frame",
    "render_pair",
]

_UP = -math.pi / 2  # turns a drawing's +x to the top of the frame


def _turtle(
    label: int, body: tuple[Step, ...], style: Style, edited: Style
) -> tuple[SceneLayer, ...]:
    """A turtle: four paddles that beat around their hinges, under a shell with a head."""
    paddles = (
        # hinge x, hinge y, angle at rest, beat, size, phase
        (0.2, 0.17, 1.25, 0.42, 0.95, 0.0),
        (-0.23, 0.13, 2.3, 0.28, 0.62, 0.45),
    )
    layers = []
    for x, y, rest, beat, size, phase in paddles:
        for side in (1, -1):
            hinge = Pose(
                x=Curve(x),
                y=Curve(side * y),
                angle=Curve(side * rest, swing=side * beat, period=1.3, phase=phase),
                scale=Curve(size),
                mirror=side < 0,
            )
            layers.append(SceneLayer("paddle", label, (hinge, *body), style, edited))
    return (*layers, SceneLayer("turtle", label, body, style, edited))


_BEETLE = ClipSpec(
    name="beetle",
    height=192,
    width=320,
    frames=48,
    frame_rate=24,
    seed=3,
    scenery="ground",
    objects=(
        SceneLayer(
            "beetle",
            1,
            (
                Pose(
                    x=Curve(-0.42, rate=0.38),
                    y=Curve(0.1, rate=-0.08),
                    angle=Curve(-0.5, rate=0.75),
                    scale=Curve(0.6),
                ),
            ),
            Style("d8321f", "1c1618", "f4c430", dark="1c1618"),
            Style("1f8fc4", "ffd84a", "ffffff", dark="141c2c", pattern="stripes"),
        ),
    ),
    light=Light(shadow=0.4),
    summary="A ladybird walks over pebbles: rigid translation and rotation.",
)

_FISH = ClipSpec(
    name="fish",
    height=192,
    width=320,
    frames=48,
    frame_rate=24,
    seed=5,
    scenery="reef",
    objects=(
        SceneLayer(
            "fish",
            1,
            (
                Wave(0.13, anchor=0.3, reach=0.85, length=1.05, period=0.8),
                Pose(
                    x=Curve(-0.26, rate=0.24),
                    y=Curve(-0.06, swing=0.05, period=2.2),
                    angle=Curve(-0.06, swing=0.12, period=2.2, phase=0.25),
                    scale=Curve(0.74),
                ),
            ),
            Style("f4782a", "fff8f0", "f7a23c", dark="30160f", pattern="bands"),
            Style("7a3fc0", "ffe14d", "f25c8a", dark="221038", pattern="star"),
        ),
    ),
    summary="A striped fish swims along a reef: the body waves, the fins follow.",
)

_TURTLE = ClipSpec(
    name="turtle",
    height=192,
    width=320,
    frames=54,
    frame_rate=24,
    seed=8,
    scenery="seabed",
    objects=(
        *_turtle(
            1,
            (
                Pose(
                    x=Curve(-0.42, rate=0.36),
                    y=Curve(0.06, rate=-0.04),
                    angle=Curve(-0.12, swing=0.14, period=2.6),
                    scale=Curve(0.66),
                ),
            ),
            Style("8a5a2b", "c99a4e", "e5d39a", dark="2c2a18"),
            Style("b02a3f", "f6c945", "bfe3a0", dark="2a1a24", pattern="zigzag"),
        ),
        *(
            SceneLayer(
                "kelp",
                0,
                (
                    Wave(0.12, anchor=1.4, reach=2.4, length=1.6, period=3.0, phase=phase),
                    Pose(x=Curve(x), y=Curve(0.1), angle=Curve(_UP + tilt), scale=Curve(0.8)),
                ),
                Style("3f7d2f", "6fa83f", "a8cf6a", dark="1a3018"),
            )
            for x, tilt, phase in ((0.06, 0.1, 0.0), (0.3, -0.06, 0.4))
        ),
    ),
    light=Light(shadow=0.3),
    summary="A paddling turtle passes behind swaying kelp: moving parts and occlusion.",
)

_BUTTERFLY = ClipSpec(
    name="butterfly",
    height=192,
    width=320,
    frames=48,
    frame_rate=24,
    seed=2,
    scenery="meadow",
    objects=(
        SceneLayer(
            "butterfly",
            1,
            (
                Flap(Curve(0.78, swing=0.2, period=0.9, phase=0.25), body=0.045),
                Pose(
                    x=Curve(-0.1, rate=0.2),
                    y=Curve(0.05, rate=-0.05, swing=0.02, period=0.9),
                    angle=Curve(-1.0, rate=0.3),
                    scale=Curve(0.62),
                ),
            ),
            Style("f08a24", "f5b33c", "3f7fd0", dark="2a1710"),
            Style("3f6fe0", "58c4e8", "ffe45c", dark="141a3a", pattern="spots"),
        ),
    ),
    camera=Camera(
        x=Curve(-0.12, rate=0.22),
        y=Curve(0.06, rate=-0.07),
        angle=Curve(0.0, rate=-0.05),
        zoom=Curve(0.85, rate=0.22),
    ),
    light=Light(shadow=0.35),
    summary="A butterfly over a meadow while the camera pans, turns and zooms in.",
)

_JELLYFISH = ClipSpec(
    name="jellyfish",
    height=163,
    width=241,
    frames=50,
    frame_rate=20,
    seed=6,
    scenery="deep",
    objects=(
        SceneLayer(
            "jellyfish",
            1,
            (
                Squeeze(0.16, length=1.1, period=1.25),
                Wave(0.12, anchor=0.05, reach=0.6, length=0.7, period=1.25),
                Pose(
                    x=Curve(-0.2, rate=0.15),
                    y=Curve(0.02, rate=-0.05, swing=0.025, period=1.25),
                    angle=Curve(_UP + 0.1, rate=0.16),
                    scale=Curve(0.7, rate=0.05),
                ),
            ),
            Style("e86aa8", "8a5ad8", "ffd9ec", dark="3a1a50"),
            Style("46c46a", "1f8f8a", "ffe45c", dark="0c2f2a", pattern="spots"),
        ),
    ),
    light=Light(
        gain=Curve(0.95, swing=0.17, period=2.5, phase=0.15),
        warmth=Curve(0.0, swing=0.06, period=2.5),
        slope=Curve(0.0, rate=0.12),
    ),
    summary="A pulsing jellyfish in changing light, in frames of odd size.",
)

_BALLOONS = ClipSpec(
    name="balloons",
    height=192,
    width=320,
    frames=50,
    frame_rate=24,
    seed=4,
    scenery="sky",
    objects=(
        SceneLayer(
            "balloon",
            1,
            (
                Pose(
                    x=Curve(0.36, rate=-0.32),
                    y=Curve(-0.04, rate=-0.02),
                    angle=Curve(_UP, swing=0.09, period=2.4),
                    scale=Curve(0.6, rate=-0.05),
                ),
            ),
            Style("2f7fc8", "f4f0e0", "e8b030", dark="1a2438"),
            Style("2a9a62", "f2e6a0", "d8468a", dark="14301f", pattern="zigzag"),
        ),
        SceneLayer(
            "balloon",
            2,
            (
                Pose(
                    x=Curve(-0.36, rate=0.3),
                    y=Curve(0.08, rate=-0.05),
                    angle=Curve(_UP, swing=-0.1, period=2.8, phase=0.2),
                    scale=Curve(0.62, rate=0.06),
                ),
            ),
            Style("d83a34", "f6c445", "7a2040", dark="381414"),
            Style("6a3fb0", "e86a3c", "2a1a60", dark="1c1030", pattern="star"),
        ),
    ),
    summary="Two hot-air balloons cross: two objects, one in front of the other.",
)

CLIPS: dict[str, ClipSpec] = {
    spec.name: spec for spec in (_BEETLE, _FISH, _TURTLE, _BUTTERFLY, _JELLYFISH, _BALLOONS)
}


def render_pair(
    seed: int = 0, *, name: str = "fish", restyled: bool = False
) -> tuple[RenderedFrame, RenderedFrame]:
    """A still pair with exact correspondence: frame 0 of a clip and a later frame.

    The target's `source_xy` and `visible` are the true warp from target to source. The scenery
    and the moment of the target follow from the seed.

    Args:
        seed: 0 gives the clip's own scenery.
        name: a name of `CLIPS`.
        restyled: paint the source's object in its edited style, so that source and target show
            the same kind of object in different colours.

    Returns:
        `(source, target)`.

    Raises:
        InputError: for an unknown clip or a negative seed.
    """
    require(seed >= 0, f"the seed must not be negative, got {seed}")
    spec = CLIPS[one_of(name, CLIPS, "clip")]
    spec = replace(spec, seed=spec.seed + seed)
    # The second half of the clip, so that the object has moved and turned visibly.
    moment = int(np.random.default_rng(seed).integers(spec.frames // 2, spec.frames))
    return render_frame(spec, 0, edited=restyled), render_frame(spec, moment)
