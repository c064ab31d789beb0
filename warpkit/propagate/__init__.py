"""Masks and edits carried through a video: label propagation, dense carriers, edit layers."""

from warpkit.propagate.edits import EditLayer as EditLayer
from warpkit.propagate.edits import carry_edit as carry_edit
from warpkit.propagate.edits import colormap_layer as colormap_layer
from warpkit.propagate.edits import composite as composite
from warpkit.propagate.fields import CarryMode as CarryMode
from warpkit.propagate.fields import carry_labels as carry_labels
from warpkit.propagate.labels import LabelConfig as LabelConfig
from warpkit.propagate.labels import LabelFrame as LabelFrame
from warpkit.propagate.labels import LabelPropagator as LabelPropagator
