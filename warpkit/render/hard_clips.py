"""Clips that are hard to follow: motion of more than 40 pixels a frame, occlusion, leaving.

They are kept apart from `CLIPS`, on which published figures rest.
"""

from __future__ import annotations

import math

from warpkit.render.drawing import Style
from warpkit.render.motion import Camera, Curve, Flap, Pose, Wave
from warpkit.render.scene import ClipSpec, Light, SceneLayer

__all__ = ["HARD_CLIPS"]

_UP = -math.pi / 2  # turns a drawing's +x to the top of the frame

_DART = ClipSpec(
    name="dart",
    height=192,
    width=320,
    frames=32,
    frame_rate=24,
    seed=11,
    scenery="reef",
    objects=(
        SceneLayer(
            "fish",
            1,
            (
                Wave(0.1, anchor=0.3, reach=0.85, length=1.05, period=0.8),
                Pose(
                    # A loop of 0.29 frame heights' radius in 8 frames: 43 pixels a frame.
                    x=Curve(-0.25, rate=0.3, swing=0.29, period=1 / 3, phase=0.25),
                    y=Curve(0.0, swing=0.29, period=1 / 3),
                    angle=Curve(0.0, swing=0.1, period=1.0),
                    scale=Curve(0.46),
                ),
            ),
            Style("e0c33a", "2f6fc0", "f4efe0", dark="20252c", pattern="stripes"),
            Style("c03a7a", "f0f0e0", "6ad0c8", dark="20102c", pattern="spots"),
        ),
    ),
    summary="A fish darts about in tight loops: 43 pixels a frame.",
)

_SHAKE = ClipSpec(
    name="shake",
    height=192,
    width=320,
    frames=32,
    frame_rate=24,
    seed=13,
    scenery="ground",
    objects=(
        SceneLayer(
            "beetle",
            1,
            (
                Pose(
                    x=Curve(-0.15, rate=0.2),
                    y=Curve(0.05, rate=-0.06),
                    angle=Curve(-0.3, rate=0.5),
                    scale=Curve(0.5),
                ),
            ),
            Style("3f8f4a", "1a2018", "d8e06a", dark="141c14"),
            Style("e0812f", "5a2a80", "ffffff", dark="241430", pattern="spots"),
        ),
    ),
    camera=Camera(
        x=Curve(0.0, rate=0.05, swing=0.32, period=0.4),
        y=Curve(0.0, swing=0.13, period=0.27),
        angle=Curve(0.0, swing=0.06, period=0.7),
    ),
    light=Light(shadow=0.4),
    summary="A beetle under a shaken camera: up to 50 pixels a frame.",
)

_ZIGZAG = ClipSpec(
    name="zigzag",
    height=192,
    width=320,
    frames=32,
    frame_rate=24,
    seed=17,
    scenery="meadow",
    objects=(
        SceneLayer(
            "butterfly",
            1,
            (
                Flap(Curve(0.78, swing=0.18, period=0.9, phase=0.25), body=0.045),
                Pose(
                    x=Curve(0.0, swing=0.5, period=0.42, phase=0.1),
                    y=Curve(0.0, swing=0.2, period=0.27),
                    angle=Curve(-1.2, swing=0.25, period=1.1),
                    scale=Curve(0.46),
                ),
            ),
            Style("e8d24a", "f2f2e4", "c0504a", dark="2a2416"),
            Style("2fb08a", "7a4fd0", "ffd8e0", dark="0e2430", pattern="zigzag"),
        ),
    ),
    light=Light(shadow=0.35),
    summary="A butterfly zigzags over a meadow: up to 60 pixels a frame.",
)

_THICKET = ClipSpec(
    name="thicket",
    height=192,
    width=320,
    frames=48,
    frame_rate=24,
    seed=19,
    scenery="reef",
    objects=(
        SceneLayer(
            "fish",
            1,
            (
                Wave(0.11, anchor=0.3, reach=0.85, length=1.05, period=0.8),
                Pose(
                    x=Curve(-0.55, rate=0.55),
                    y=Curve(0.0, swing=0.04, period=1.6),
                    angle=Curve(0.0, swing=0.1, period=1.6, phase=0.25),
                    scale=Curve(0.5),
                ),
            ),
            Style("4a7fd0", "f4d84a", "c8e0f0", dark="141c30", pattern="zigzag"),
            Style("d04a3a", "f8f0d8", "f0a030", dark="30100c", pattern="star"),
        ),
        *(
            SceneLayer(
                "kelp",
                0,
                (
                    Wave(0.1, anchor=1.4, reach=2.4, length=1.6, period=3.0, phase=phase),
                    Pose(x=Curve(x), y=Curve(0.1), angle=Curve(_UP + tilt), scale=Curve(size)),
                ),
                Style("2f6d3f", "5f9f4f", "a8cf7a", dark="12301c"),
            )
            for x, tilt, size, phase in (
                (-0.22, 0.08, 0.8, 0.0),
                (0.05, -0.1, 0.95, 0.3),
                (0.3, 0.05, 0.85, 0.6),
            )
        ),
    ),
    summary="A fish swims behind three stems of kelp: occlusion all along.",
)

_RETURN = ClipSpec(
    name="return",
    height=192,
    width=320,
    frames=48,
    frame_rate=24,
    seed=23,
    scenery="reef",
    objects=(
        SceneLayer(
            "fish",
            1,
            (
                Wave(0.1, anchor=0.3, reach=0.85, length=1.05, period=0.8),
                Pose(
                    x=Curve(0.1, swing=1.3, period=3.4),
                    y=Curve(-0.05, swing=0.08, period=1.6),
                    angle=Curve(0.0, swing=0.1, period=1.6, phase=0.25),
                    scale=Curve(0.46),
                ),
            ),
            Style("d0703a", "f0e6c8", "3a60a8", dark="301c14", pattern="stripes"),
            Style("3aa0c0", "202040", "f0c040", dark="101c30", pattern="star"),
        ),
    ),
    summary="A fish leaves the frame and comes back.",
)

HARD_CLIPS: dict[str, ClipSpec] = {
    spec.name: spec for spec in (_DART, _SHAKE, _ZIGZAG, _THICKET, _RETURN)
}
