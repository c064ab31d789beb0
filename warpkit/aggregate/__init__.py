"""Aggregation: layer features of all recorded steps to one descriptor per cell."""

from warpkit.aggregate.checkpoint import (
    check_fits,
    load_aggregator,
    load_published,
    save_aggregator,
    save_published,
)
from warpkit.aggregate.extractor import Extractor, load_extractor
from warpkit.aggregate.models import MODELS, ModelPreset, resolve_model
from warpkit.aggregate.network import AggregationConfig, AggregationNetwork

__all__ = [
    "MODELS",
    "AggregationConfig",
    "AggregationNetwork",
    "Extractor",
    "ModelPreset",
    "check_fits",
    "load_aggregator",
    "load_extractor",
    "load_published",
    "resolve_model",
    "save_aggregator",
    "save_published",
]
