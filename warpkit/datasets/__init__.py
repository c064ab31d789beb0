"""Annotated image pairs: two images, corresponding points, object boxes.

Every reader returns the usable pairs and a list of problems, one line for every item left out.
"""

from warpkit.datasets.cub import Pairing, read_cub, read_cub_index
from warpkit.datasets.dhf import read_dhf_json, write_dhf_json
from warpkit.datasets.pair import AnnotatedPair, Box
from warpkit.datasets.pf_pascal import read_pf_pascal
from warpkit.datasets.pf_willow import read_pf_willow
from warpkit.datasets.spair import read_spair
from warpkit.datasets.synth import read_synth
from warpkit.datasets.tss import DensePair, read_tss, read_tss_dense
from warpkit.datasets.usable import usable_pairs

__all__ = [
    "AnnotatedPair",
    "Box",
    "DensePair",
    "Pairing",
    "read_cub",
    "read_cub_index",
    "read_dhf_json",
    "read_pf_pascal",
    "read_pf_willow",
    "read_spair",
    "read_synth",
    "read_tss",
    "read_tss_dense",
    "usable_pairs",
    "write_dhf_json",
]
