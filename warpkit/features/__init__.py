"""Backbones: images in, features of layers and noise levels out."""

from warpkit.features.backbone import Backbone, BackboneSpec, Layer, StepFeatures
from warpkit.features.ddim import DdimSchedule
from warpkit.features.registry import (
    backbone_names,
    create_backbone,
    register_backbone,
    resolve_device,
)
from warpkit.features.taps import TapError, decoder_taps, record_taps

__all__ = [
    "Backbone",
    "BackboneSpec",
    "DdimSchedule",
    "Layer",
    "StepFeatures",
    "TapError",
    "backbone_names",
    "create_backbone",
    "decoder_taps",
    "record_taps",
    "register_backbone",
    "resolve_device",
]
