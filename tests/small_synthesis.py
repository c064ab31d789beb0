"""A synthesis that takes a second."""

from __future__ import annotations

from warpkit.describe.options import ModelOptions
from warpkit.synthesize.config import (
    FilterConfig,
    GenerationConfig,
    MaskConfig,
    PairLabelConfig,
    QualityConfig,
    SplitConfig,
)
from warpkit.synthesize.run import SynthesizeSettings

OPTIONS = ModelOptions(model="tiny", device="cpu", size=32)


def settings(**changes) -> SynthesizeSettings:
    """Two pairs a chunk of generated variants at 32 pixels; about 0.3 s a chunk on one core."""
    values = {
        "pairs": 6,
        "batch": 2,
        "generation": GenerationConfig(steps=2, guidance=1, variant="image"),
        "masks": MaskConfig(kind="whole"),
        "labels": PairLabelConfig(
            points=8,
            least=1,
            # Pictures of 32 pixels after two steps are noise: hardly anything is coherent in them.
            filters=FilterConfig(cycle=0, ratio=None, coherence=0.9),
        ),
        "quality": QualityConfig(images=2, sheets=1),
        "splits": SplitConfig(val=0.2, test=0.2),
    }
    return SynthesizeSettings(**{**values, **changes})
