"""Annotated image pairs: two images, corresponding points, object boxes.

Every reader returns the usable pairs and a list of problems, one line for every item left out.
"""

from warpkit.io.pairs.cub import Pairing, read_cub, read_cub_index
from warpkit.io.pairs.dhf import read_dhf_json, write_dhf_json
from warpkit.io.pairs.pair import AnnotatedPair, Box
from warpkit.io.pairs.pf_pascal import read_pf_pascal
from warpkit.io.pairs.pf_willow import read_pf_willow
from warpkit.io.pairs.spair import read_spair
from warpkit.io.pairs.synth import read_synth
from warpkit.io.pairs.tss import DensePair, read_tss, read_tss_dense
from warpkit.io.pairs.usable import usable_pairs

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
