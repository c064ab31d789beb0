"""Procedural clips with exact masks and exact correspondences."""

from warpkit.render.clips import CLIPS, render_pair
from warpkit.render.frames import RenderedFrame, render_clip, render_frame
from warpkit.render.scene import ClipSpec, Layer, Light

__all__ = [
    "CLIPS",
    "ClipSpec",
    "Layer",
    "Light",
    "RenderedFrame",
    "render_clip",
    "render_frame",
    "render_pair",
]
