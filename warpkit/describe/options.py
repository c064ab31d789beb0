"""The options of a model that every task shares, and settings of tasks, which hold none of them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self

import torch

from warpkit.checks import is_file, require
from warpkit.describe.cache import DescriptorCache
from warpkit.describe.extractor import Extractor, ModelDescriber
from warpkit.describe.load import load_extractor
from warpkit.describe.model_file import check_size
from warpkit.describe.table import EMBEDDED, is_model_file, resolve_model
from warpkit.features.registry import resolve_device
from warpkit.features.unet_calls import Acceleration
from warpkit.io.config import to_dict
from warpkit.runs.cache import file_sha256

__all__ = ["ModelOptions", "TaskSettings"]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model describes the images, where it runs, which engine matches.

    Attributes:
        model: an alias (`tiny`, `sd15`, `sd15-onestep`, `sd21`, `dino`, `dinov2`, ...), a model
            file (.yaml), a folder, a single safetensors file, a hub id, or a registered backbone.
        device: `auto`, `cpu`, `cuda`, `cuda:N`, `mps`.
        aggregator: checkpoint file; by default the model's own.
        size: side of the model's input in pixels; by default the model's own.
        fit: `pad` keeps the aspect ratio, `stretch` resizes to a square (the paper).
        engine: name of a matching engine (`match.matcher.matcher_names`); `auto` picks one by the
            size of the problem.
        batch_size: images that are described at once.
        acceleration: `none`, `graphs` (CUDA graphs), `compile` (compiled as well: about a
            minute for every input and batch size, then the fastest); `auto` is `graphs` on CUDA.
        descriptor_cache: folder that keeps descriptors between runs, in half precision.
        descriptor_cache_gb: most gigabytes in it; the least recently used ones go.
    """

    model: str = "embedded"
    device: str = "auto"
    aggregator: Path | None = None
    size: int | None = None
    fit: Literal["pad", "stretch"] | None = None
    engine: str = "auto"
    batch_size: int = 8
    acceleration: Acceleration = "auto"
    descriptor_cache: Path | None = None
    descriptor_cache_gb: float = 20.0

    def __post_init__(self) -> None:
        check_size(self.size)

    def recorded_facts(self) -> dict[str, Any]:
        """What a run record keeps of a model file: its content, since files change."""
        preset = resolve_model(self.model) if is_model_file(self.model) else None
        if preset is None or preset.config is None:
            return {}
        facts: dict[str, Any] = {"model_file": to_dict(preset.config)}
        named = {name: getattr(preset.config, name) for name in ("unet", "aggregator")}
        weights = {
            name: file_sha256(Path(str(file)))
            for name, file in named.items()
            if file is not None and is_file(str(file))
        }
        return facts | ({"model_weights": weights} if weights else {})

    def least_cells(self, *, height: int, width: int) -> int:
        """Cells that the map of an image has at least, before the model is loaded.

        0 where only the loaded model tells.
        """
        grid = None if self.aggregator is not None else resolve_model(self.model).grid
        if grid is None:
            return 0
        side = (self.size or grid[0]) // grid[1]
        # Some models bring the long side to their size.
        return side * side * min(height, width) // max(height, width)

    def torch_device(self) -> torch.device:
        """Where the model will run.

        Raises:
            InputError: there is no such device.
        """
        return resolve_device(self.device)

    def at_hand(self) -> bool:
        """Whether the model ships and runs on the CPU: it is loaded in less than a second.

        Raises:
            InputError: there is no such device.
        """
        return self.model in EMBEDDED and self.torch_device().type == "cpu"

    def load_extractor(self) -> ModelDescriber:
        """The model, ready to describe images."""
        cache = None
        if self.descriptor_cache is not None:
            cache = DescriptorCache(self.descriptor_cache, limit_gb=self.descriptor_cache_gb)
        # Not every backbone has a UNet to accelerate.
        asked = {} if self.acceleration == "auto" else {"acceleration": self.acceleration}
        return load_extractor(
            self.model,
            device=self.device,
            aggregator=self.aggregator,
            size=self.size,
            fit=self.fit,
            batch_size=self.batch_size,
            cache=cache,
            **asked,
        )

    def load_single(self) -> Extractor:
        """The model, for jobs that look into it.

        Raises:
            InputError: it combines several.
        """
        resolve_model(self.model).single()
        (part,) = self.load_extractor().parts
        return part


class TaskSettings:
    """What a task is told, apart from the model that it is given.

    Raises:
        InputError: an option of the model among the settings.
    """

    def __new__(cls, *args: Any, **given: Any) -> Self:
        """Refuse options of a model: an unused one would be ignored in silence."""
        misplaced = sorted({item.name for item in fields(ModelOptions)} & given.keys())
        require(
            not misplaced,
            f"{', '.join(misplaced)}: no setting of a task but an option of the model: give it to"
            f" warpkit.load(...), or to ModelOptions beside {cls.__name__}",
        )
        return super().__new__(cls)
