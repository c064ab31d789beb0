"""Coherent fields between two descriptor maps: solved whole, not pixel by pixel.

Holds the solver, its levels and layers, guides and quality figures. Imports neither files nor
models, and nothing of warping or propagation.
"""

from warpkit.coherent.config import MIRRORS, CoherentConfig, Mirror
from warpkit.coherent.field import CoherentField, FieldTask, coherent_field, coherent_fields
from warpkit.coherent.guides import Guides
from warpkit.coherent.labels import coherent_warp_of_labels
from warpkit.coherent.points import (
    FIELDS,
    FieldMatches,
    FieldName,
    match_points_coherent,
    points_config,
)
from warpkit.coherent.quality import FieldQuality

__all__ = [
    "FIELDS",
    "MIRRORS",
    "CoherentConfig",
    "CoherentField",
    "FieldMatches",
    "FieldName",
    "FieldQuality",
    "FieldTask",
    "Guides",
    "Mirror",
    "coherent_field",
    "coherent_fields",
    "coherent_warp_of_labels",
    "match_points_coherent",
    "points_config",
]
