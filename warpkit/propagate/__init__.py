"""Masks, edits and points propagated through a video: label propagation, dense fields, layers."""

from warpkit.propagate.edit_models import EDIT_MODELS, EditFit, EditModel
from warpkit.propagate.edit_tracking import EditConfig, EditTracker
from warpkit.propagate.edits import (
    EditLayer,
    closest_decoding,
    colormap_layer,
    composite,
    warp_edit,
)
from warpkit.propagate.field_labels import WarpMode, warp_labels, warp_labels_many
from warpkit.propagate.label_config import LabelConfig
from warpkit.propagate.label_decision import LabelFrame
from warpkit.propagate.labels import Annotation, LabelPropagator
from warpkit.propagate.points import PointConfig, PointTracker, TrackedPoints

__all__ = [
    "EDIT_MODELS",
    "Annotation",
    "EditConfig",
    "EditFit",
    "EditLayer",
    "EditModel",
    "EditTracker",
    "LabelConfig",
    "LabelFrame",
    "LabelPropagator",
    "PointConfig",
    "PointTracker",
    "TrackedPoints",
    "WarpMode",
    "closest_decoding",
    "colormap_layer",
    "composite",
    "warp_edit",
    "warp_labels",
    "warp_labels_many",
]
