"""Images in, descriptor maps out: a model by its name, from the table or a file, ready to use.

Holds the table of models, model files, extractors and the cache of descriptors. Must not import
`match`, `warp`, `propagate` or any task: descriptors do not know what they are compared with.
"""

from warpkit.describe.extractor import Extractor
from warpkit.describe.load import load_extractor
from warpkit.describe.table import MODELS, ModelPreset, resolve_model

__all__ = [
    "MODELS",
    "Extractor",
    "ModelDescriber",
    "ModelPreset",
    "load_extractor",
    "resolve_model",
]
