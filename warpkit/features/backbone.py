"""The contract every backbone fulfils: images in, layer features of each recorded step out.

A backbone states what it is (layers, channels, strides, recorded steps, input size) and yields
features step by step; nobody above it knows whether a diffusion model or a plain network runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from threading import Lock

import torch
from torch import Tensor, nn

from warpkit.coords import FitMode
from warpkit.features.model_lock import ModelLock

__all__ = ["Backbone", "BackboneSpec", "Layer", "StepFeatures"]

_MAKING = Lock()


@dataclass(frozen=True)
class Layer:
    """One recorded layer.

    Attributes:
        name: module path of the tap, e.g. `up_blocks.1.resnets.0.conv2`.
        channels: channels of its feature map.
        stride:input pixels per feature cell.
    """

    name: str
    channels: int
    stride: int


@dataclass(frozen=True)
class BackboneSpec:
    """What a backbone states about itself.

    Attributes:
        name: short name; checkpoints remember it.
        layers: the L recorded layers, in aggregation order.
        steps: the S recorded steps, from clean to noisy, as indices of the departing DDIM step;
            `(0,)` for a network that is called once.
        num_steps: DDIM steps of a whole run (the T of the paper).
        multiple: input sides must be multiples of this.
        size: default side of the model's input in pixels.
        fit: how an image is brought to the input size.
        side: which side of the image becomes `size` long when the aspect ratio is kept.
        output_stride:input pixels per descriptor cell.
    """

    name: str
    layers: tuple[Layer, ...]
    steps: tuple[int, ...]
    num_steps: int
    multiple: int
    size: int
    output_stride: int
    fit: FitMode = "pad"
    side: str = "short"


@dataclass(frozen=True, eq=False)
class StepFeatures:
    """The features of one evaluated step, good only until the next one is asked for.

    A backbone may write the next step's maps into the same memory: copy what is to be kept.

    Attributes:
        entry: position in `BackboneSpec.steps`, 0 = cleanest. Mixing weights pair by it.
        step: index of the step in the whole run.
        timestep: the noise level t that the network was evaluated at (-1 = clean).
        maps: layer name to float tensor (B, C, h, w).
    """

    entry: int
    step: int
    timestep: int
    maps: Mapping[str, Tensor]


class Backbone(ABC):
    """Images to layer features. Subclasses set `spec` and implement `features`."""

    spec: BackboneSpec

    @property
    def locked(self) -> ModelLock:
        """Threads that call this take turns; two that do not would read each other's features."""
        with _MAKING:
            lock: ModelLock = vars(self).setdefault("_lock", ModelLock(self.device))
        return lock

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where inputs are expected."""

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the feature maps; float32 unless a backbone says otherwise."""
        return torch.float32

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """Name and value of every tensor that the features depend on beside the images."""
        for part, module in vars(self).items():
            if isinstance(module, nn.Module):
                for name, tensor in module.state_dict().items():
                    yield f"{part}.{name}", tensor

    def settings_text(self) -> str:
        """Everything else that they depend on and that `spec` does not say."""
        return ""

    @abstractmethod
    def features(self, images: Tensor) -> Iterator[StepFeatures]:
        """Yield the features of every recorded step, one at a time.

        Args:
            images: float (B, 3, H, W) in [0, 1] on `device`; H and W multiples of
                `spec.multiple`.

        Yields:
            One `StepFeatures` per entry of `spec.steps`, holding all of `spec.layers`.
        """
