"""Masks, edits and points carried through a video: label propagation, dense carriers, layers."""

from warpkit.propagate.edit_tracking import EditConfig, EditTracker
from warpkit.propagate.edits import (
    EditLayer,
    carry_edit,
    closest_decoding,
    colormap_layer,
    composite,
)
from warpkit.propagate.field_labels import CarryMode, carry_labels, carry_labels_many
from warpkit.propagate.label_config import LabelConfig
from warpkit.propagate.labels import Annotation, LabelFrame, LabelPropagator
from warpkit.propagate.points import PointConfig, PointTracker, TrackedPoints

__all__ = [
    "Annotation",
    "CarryMode",
    "EditConfig",
    "EditLayer",
    "EditTracker",
    "LabelConfig",
    "LabelFrame",
    "LabelPropagator",
    "PointConfig",
    "PointTracker",
    "TrackedPoints",
    "carry_edit",
    "carry_labels",
    "carry_labels_many",
    "closest_decoding",
    "colormap_layer",
    "composite",
]
