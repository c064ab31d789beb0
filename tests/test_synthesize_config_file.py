"""The configuration that ships: `configs/synth_tiny.yaml` makes pairs worth keeping."""

from __future__ import annotations

from pathlib import Path

from warpkit.describe.options import ModelOptions
from warpkit.io.config import load_configs
from warpkit.synthesize.pair_pipeline import PairPipeline
from warpkit.synthesize.run import SynthesizeSettings


def test_the_shipped_configuration_makes_a_pair():
    path = Path(__file__).parents[1] / "configs/synth_tiny.yaml"
    options, config = load_configs((ModelOptions, SynthesizeSettings), path)
    assert config.pairs >= 40
    assert len(config.formats) == 5
    maker = PairPipeline(config, options.load_extractor())
    plan = config.plans().pair(1)
    assert plan.category == "Faces_easy"
    (record,) = maker.make([plan])
    assert record.kept, record.meta["reason"]
    assert len(record.meta["source_points"]) >= config.labels.least
