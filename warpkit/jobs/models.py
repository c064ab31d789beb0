"""What `warpkit models` tells about the models."""

from __future__ import annotations

from warpkit.aggregate.models import MODELS

__all__ = ["list_models"]


def list_models() -> list[dict[str, str]]:
    """One row per model alias: name, what it is, licence, size of its weights."""
    return [
        {
            "model": preset.name,
            "what": preset.summary,
            "licence": preset.licence,
            "weights": preset.size,
        }
        for preset in MODELS.values()
    ]
