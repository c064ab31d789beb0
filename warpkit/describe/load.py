"""A model by its name: backbone, aggregator and settings put together, ready to describe images.

In: an alias, a file, a folder or a hub id. Out: a `ModelDescriber`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from warpkit.checks import require
from warpkit.coords import FitMode
from warpkit.describe.assembly import assemble
from warpkit.describe.cache import DescriptorCache
from warpkit.describe.combined import CombinedExtractor
from warpkit.describe.extractor import Extractor, ModelDescriber
from warpkit.describe.model_file import check_size
from warpkit.describe.table import ModelPreset, resolve_model

__all__ = ["load_extractor"]


def load_extractor(
    model: str = "embedded",
    *,
    device: str = "auto",
    aggregator: str | Path | None = None,
    size: int | None = None,
    fit: FitMode | None = None,
    batch_size: int = 8,
    cache: DescriptorCache | None = None,
    **options: Any,
) -> ModelDescriber:
    """Load a model with its aggregator, ready to describe images.

    Args:
        model: `embedded` (the default, with the package) or its parts `efficientnet-lite0` and
            `tiny`, `sd15`, `sd15-onestep`, `sd21`, `dino`, `dinov2`,
            a model file (`FILE.yaml`, see `ModelConfig`), the folder of a diffusers or transformers
            model, a single safetensors file, a hub id, the name of a registered backbone, or
            several joined by `+` (`0.7*sd15-onestep+0.3*dinov2`; equal shares without numbers).
        device: `auto`, `cpu`, `cuda`, `cuda:N`, `mps`.
        aggregator: checkpoint file, or the alias of a published one; by default the one that
            belongs to the model.
        size: side of the backbone's input in pixels; of a combined model's first part, and the
            others keep their proportion to it.
        fit: `pad` keeps the aspect ratio, `stretch` resizes to a square as the paper does.
        batch_size: images that are described at once.
        cache: keeps descriptors between runs.
        options: passed to the backbone's factory (single models only).

    Raises:
        InputError: unknown or missing model, or an aggregator made for another one.

    Example:
        >>> import numpy as np
        >>> extractor = load_extractor("tiny", device="cpu")
        >>> extractor.describe([np.zeros((128, 128, 3), np.uint8)])[0].data.shape
        torch.Size([128, 64, 64])
    """
    check_size(size)
    preset = resolve_model(model)
    if preset.parts:
        require(
            aggregator is None and not options,
            f"'{model}' combines models that have aggregators and options of their own: give"
            " --aggregator and backbone options with a single model",
        )
        return _load_combined(
            preset, device=device, size=size, fit=fit, batch_size=batch_size, cache=cache
        )
    backbone, network = assemble(preset, device=device, aggregator=aggregator, options=options)
    config = preset.config
    if config is not None:
        size = config.size if size is None else size
        # Another fit asked for leaves the paper's way of loading, which is a stretch.
        load_size = config.load_size if fit in (None, "stretch") else None
        fit = fit or config.fit
    else:
        load_size = None
    return Extractor(
        backbone,
        network,
        name=preset.name,
        size=size,
        fit=fit,
        load_size=load_size,
        batch_size=batch_size,
        cache=cache,
    )


def _load_combined(
    preset: ModelPreset,
    *,
    device: str,
    size: int | None,
    fit: FitMode | None,
    batch_size: int,
    cache: DescriptorCache | None,
) -> CombinedExtractor:
    parts: list[Extractor] = []
    for name, _ in preset.parts:
        part = load_extractor(
            name,
            device=device,
            size=preset.part_sizes.get(name),
            fit=fit,
            batch_size=batch_size,
            cache=cache,
        )
        parts += part.parts
    if size is not None:
        usual = parts[0].size
        parts = [part.resized(max(1, round(part.size * size / usual))) for part in parts]
    return CombinedExtractor(parts, [share for _, share in preset.parts], name=preset.name)
