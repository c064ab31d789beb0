"""A model file: backbone, what is read from it, and how the layers become one descriptor.

`--model FILE.yaml` names one; `configs/paper/` holds one for each row of the paper's tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from warpkit.checks import require
from warpkit.coords import FitMode
from warpkit.features.ddim import Prediction
from warpkit.features.diffusion_settings import Mode

__all__ = ["ModelConfig"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What a model file says.

    Attributes:
        backbone: an alias (`sd15`, `dinov2`, ...), a folder, a single safetensors file, a hub id,
            or the name of a registered backbone.
        revision: branch, tag or commit of the hub repository.
        local_files_only: never touch the network.
        unet: weights that replace those of the UNet (CleanDIFT): a file, or
            `owner/repository/file` on the hub.
        prediction: what the UNet predicts; for single files of Stable Diffusion 2.x.
        mode, timestep, seed, prompt: how real images are read (`DiffusionSettings`).
        stride, bins: patch stride and levels of log-spaced bins of a vision transformer.
        aggregator: a checkpoint, or an alias whose published aggregator it is (`sd15`,
            `sd15-onestep`, `sd21`). Without one, raw layers are stacked.
        steps, num_steps: recorded departing steps of how many. With an aggregator they are its own.
        layers: names of the layers to stack; by default all. With an aggregator they are its own.
        stop_after: end the diffusion after this many steps and use what was recorded till then.
        top: keep this many entries (step, layer), those of the greatest mixing weight.
        raw: stack the entries kept as they are, without the aggregator's bottlenecks.
        size, fit: of the model's input, as in every command; those given there win.
        load_size: images are reduced to this side before they are enlarged to the input, as in
            the paper's evaluation (224); needs `fit: stretch`.
    """

    backbone: str
    revision: str | None = None
    local_files_only: bool = False
    unet: str | None = None
    prediction: Prediction | None = None
    mode: Mode = "inversion"
    timestep: int | None = None
    seed: int = 0
    prompt: str = ""
    stride: int | None = None
    bins: int = 0
    aggregator: str | None = None
    steps: tuple[int, ...] | None = None
    num_steps: int | None = None
    layers: tuple[str, ...] | None = None
    stop_after: int | None = None
    top: int | None = None
    raw: bool = False
    size: int | None = None
    fit: Literal["pad", "stretch"] | None = None
    load_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("stop_after", "top"):
            value = getattr(self, name)
            require(value is None or value > 0, f"{name} must be positive, got {value}")
        if self.aggregator is None:
            require(
                self.stop_after is None and self.top is None and not self.raw,
                "stop_after, top and raw choose among an aggregator's entries: name the aggregator",
            )
        else:
            require(
                self.steps is None and self.num_steps is None and self.layers is None,
                "steps, num_steps and layers are those of the aggregator: leave them out, or leave"
                " out the aggregator to stack raw layers",
            )
        check_load_size(self.load_size, self.fit)

    def factory_options(self) -> dict[str, Any]:
        """Options of the backbone's factory, those alone that differ from the defaults."""
        usual = ModelConfig(backbone=self.backbone)
        return {
            name: getattr(self, name)
            for name in _OPTIONS
            if getattr(self, name) != getattr(usual, name)
        }


# Far beyond any use; it keeps a mistyped size from asking for all memory there is.
_LARGEST = 4096
_OPTIONS = (
    *("revision", "local_files_only", "unet", "prediction", "mode", "timestep", "seed", "prompt"),
    *("stride", "bins"),
)


def check_size(size: int | None) -> None:
    """Raise unless a model's input may have this side; before a model is loaded for it."""
    require(size is None or size > 0, f"size must be 1 pixel or more, got {size}")
    require(
        size is None or size <= _LARGEST,
        f"size must be at most {_LARGEST} pixels, got {size}: memory grows as its square, the"
        f" input of one image alone is {12 * (size or 0) ** 2 / 1e9:,.1f} GB",
    )


def check_load_size(load_size: int | None, fit: FitMode | None) -> None:
    """Raise unless images can be reduced to this side first."""
    require(
        load_size is None or (load_size > 0 and fit == "stretch"),
        f"load_size is a positive side in pixels and needs fit: stretch, got {load_size} with fit"
        f" {fit}",
    )
