"""The configuration that ships: `configs/synth_tiny.yaml` makes pairs worth keeping."""

from __future__ import annotations

from pathlib import Path

from warpkit.io.config import load_config
from warpkit.synthesize.maker import PairMaker
from warpkit.synthesize.run import SynthesizeConfig


def test_the_shipped_configuration_makes_a_pair():
    path = Path(__file__).parents[1] / "configs/synth_tiny.yaml"
    config = load_config(SynthesizeConfig, path)
    assert config.pairs >= 40
    assert len(config.formats) == 5
    maker = PairMaker(config, config.load_extractor(), config.load_matcher())
    plan = config.plans().pair(1)
    assert plan.category == "Faces-easy"
    (record,) = maker.make([plan])
    assert record.kept, record.meta["reason"]
    assert len(record.meta["source_points"]) >= config.labels.least
