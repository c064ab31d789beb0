"""warpkit: dense warping and video propagation with Diffusion Hyperfeatures.

    model = warpkit.load("tiny")                                   # runs on a laptop CPU
    found = model.match(source, target, [[x, y]])                  # Matches
    result = model.warp(source, target)                            # WarpResult: a warped image
    for frame in model.propagate(frames, labels=first_labels): ...  # FrameResult per frame

Names are imported when they are first used, so that `import warpkit` stays fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from warpkit.version import __version__

if TYPE_CHECKING:
    from warpkit.api import Model as Model
    from warpkit.api import load as load
    from warpkit.checks import InputError as InputError
    from warpkit.image.match import MatchSettings as MatchSettings
    from warpkit.image.warp import WarpResult as WarpResult
    from warpkit.image.warp import WarpSettings as WarpSettings
    from warpkit.io.frames import open_frames as open_frames
    from warpkit.io.images import read_image as read_image
    from warpkit.io.images import read_rgba as read_rgba
    from warpkit.io.images import write_image as write_image
    from warpkit.io.masks import read_labels as read_labels
    from warpkit.io.masks import read_mask as read_mask
    from warpkit.io.masks import write_labels as write_labels
    from warpkit.io.video import VideoWriter as VideoWriter
    from warpkit.match.settings import MatchFilters as MatchFilters
    from warpkit.propagate.edit_tracking import EditConfig as EditConfig
    from warpkit.propagate.edits import EditLayer as EditLayer
    from warpkit.propagate.label_config import LabelConfig as LabelConfig
    from warpkit.propagate.points import PointConfig as PointConfig
    from warpkit.types import DescriptorMap as DescriptorMap
    from warpkit.types import Matches as Matches
    from warpkit.types import Warp as Warp
    from warpkit.video.config import FrameResult as FrameResult
    from warpkit.video.config import PropagateSettings as PropagateSettings

_HOMES = {
    "DescriptorMap": "warpkit.types",
    "EditConfig": "warpkit.propagate.edit_tracking",
    "EditLayer": "warpkit.propagate.edits",
    "FrameResult": "warpkit.video.config",
    "InputError": "warpkit.checks",
    "LabelConfig": "warpkit.propagate.label_config",
    "MatchFilters": "warpkit.match.settings",
    "MatchSettings": "warpkit.image.match",
    "Matches": "warpkit.types",
    "Model": "warpkit.api",
    "PointConfig": "warpkit.propagate.points",
    "PropagateSettings": "warpkit.video.config",
    "VideoWriter": "warpkit.io.video",
    "Warp": "warpkit.types",
    "WarpSettings": "warpkit.image.warp",
    "WarpResult": "warpkit.image.warp",
    "load": "warpkit.api",
    "open_frames": "warpkit.io.frames",
    "read_image": "warpkit.io.images",
    "read_labels": "warpkit.io.masks",
    "read_mask": "warpkit.io.masks",
    "read_rgba": "warpkit.io.images",
    "write_image": "warpkit.io.images",
    "write_labels": "warpkit.io.masks",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'warpkit' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
