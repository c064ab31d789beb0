"""Masks, edits and points carried through a video: label propagation, dense carriers, layers."""

from warpkit.propagate.edits import EditLayer, carry_edit, colormap_layer, composite
from warpkit.propagate.fields import CarryMode, carry_labels, carry_labels_many
from warpkit.propagate.labels import Annotation, LabelConfig, LabelFrame, LabelPropagator
from warpkit.propagate.points import TrackedPoints, carry_points

__all__ = [
    "Annotation",
    "CarryMode",
    "EditLayer",
    "LabelConfig",
    "LabelFrame",
    "LabelPropagator",
    "TrackedPoints",
    "carry_edit",
    "carry_labels",
    "carry_labels_many",
    "carry_points",
    "colormap_layer",
    "composite",
]
