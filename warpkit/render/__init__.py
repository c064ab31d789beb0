"""Procedural clips with exact masks and exact correspondences."""

from warpkit.render.clips import CLIPS, render_pair
from warpkit.render.frames import (
    RenderedFrame,
    render_frame,
    render_image,
    render_tracks,
    true_motion,
)
from warpkit.render.hard_clips import HARD_CLIPS
from warpkit.render.scene import ClipSpec, Light, SceneLayer

__all__ = [
    "CLIPS",
    "HARD_CLIPS",
    "ClipSpec",
    "Light",
    "RenderedFrame",
    "SceneLayer",
    "render_frame",
    "render_image",
    "render_pair",
    "render_tracks",
    "true_motion",
]
