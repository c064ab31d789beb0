"""DINO and DINOv2 as backbones: keys, queries, values or tokens of their blocks, over transformers.

A vision transformer is called once; its blocks are the layers. Names are `block.9.key`: block
0 to 11, facet `key`, `query`, `value` or `token` (the block's output).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from warpkit.checks import InputError, first_line, one_of, require
from warpkit.features.backbone import Backbone, BackboneSpec, Layer, StepFeatures
from warpkit.features.log_bins import bin_count, log_bins
from warpkit.features.model_sources import find_source
from warpkit.features.registry import register_backbone
from warpkit.features.taps import record_taps

__all__ = ["Facet", "VitBackbone", "load_vit", "vit_backbone"]

_log = logging.getLogger("warpkit")

Facet = Literal["key", "query", "value", "token"]

# Mean and standard deviation of ImageNet, which both families were trained with.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# What a paper reads by default: Amir et al. keys of DINO, later ones tokens of DINOv2.
_USUAL: dict[str, Facet] = {"vit": "key", "dinov2": "token"}
# Names in transformers 5, then in 4.
_PROJECTIONS = {
    "key": ("attention.k_proj", "attention.attention.key"),
    "query": ("attention.q_proj", "attention.attention.query"),
    "value": ("attention.v_proj", "attention.attention.value"),
}


def load_vit(
    model: str, *, revision: str | None = None, local_files_only: bool = False
) -> nn.Module:
    """A `ViTModel` or `Dinov2Model` of transformers, by alias, folder or hub id.

    Raises:
        InputError: it cannot be found, or is another kind of model.
    """
    from transformers import AutoConfig, Dinov2Model, ViTModel

    source = find_source(model, family="vit", revision=revision, local_files_only=local_files_only)
    folder = str(source.folder)
    try:
        kind = AutoConfig.from_pretrained(folder, local_files_only=True).model_type
        require(
            kind in _USUAL,
            f"'{model}' is a model of type '{kind}': expected vit (DINO) or dinov2",
        )
        cls: Any = ViTModel if kind == "vit" else Dinov2Model
        # DINO has no pooler; one would be filled with random weights.
        more = {"add_pooling_layer": False} if kind == "vit" else {}
        net, info = cls.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, **more
        )
    except InputError:
        raise
    except (OSError, ValueError, LookupError, RuntimeError, SafetensorError) as error:
        raise InputError(f"'{model}' cannot be read: {first_line(error)}") from error
    missing = sorted(info["missing_keys"])
    require(  # they would be random
        not missing,
        f"'{model}' lacks {len(missing)} of its weights, such as {''.join(missing[:1])}",
    )
    _log.info("loaded %s", source.name)
    module: nn.Module = net.eval().requires_grad_(False)
    return module


class VitBackbone(Backbone):
    """Facets of a vision transformer's blocks.

    Args:
        net: a `ViTModel` or `Dinov2Model`.
        layers: names `block.N.facet` in rising order of blocks; None takes the usual facet of
            every block.
        stride: pixels between patches; a stride below the patch size gives overlapping patches
            and a finer grid (Amir et al.). It differs from the patch size by an even number.
        bins: levels of log-spaced bins around every descriptor; 0 for none.
        size: default side of the model's input in pixels.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        name: str,
        layers: tuple[str, ...] | None = None,
        stride: int | None = None,
        bins: int = 0,
        size: int = 224,
    ) -> None:
        self.net, self.bins = net, bins
        config: Any = net.config
        self.patch = int(config.patch_size)
        self.stride = self.patch if stride is None else stride
        require(
            0 < self.stride <= self.patch and (self.patch - self.stride) % 2 == 0,
            f"a stride for patches of {self.patch} pixels lies in 1..{self.patch} and differs from"
            f" it by an even number, got {stride}",
        )
        require(bins >= 0, f"levels of log-spaced bins are 0 or more, got {bins}")
        found: Any = getattr(net, "layers", None) or net.encoder.layer  # type: ignore[union-attr]
        self.blocks: list[nn.Module] = list(found)
        if layers is None:
            layers = tuple(f"block.{i}.{_USUAL[config.model_type]}" for i in range(len(found)))
        self._taps = {layer: self._module_of(layer, name) for layer in layers}
        positions = [int(layer.split(".")[1]) for layer in layers]
        require(
            len(self._taps) == len(layers) > 0 and positions == sorted(positions),
            f"layers must be different ones in rising order of blocks, got {list(layers)}",
        )
        channels = int(config.hidden_size) * (bin_count(bins) if bins else 1)
        self.spec = BackboneSpec(
            name=name,
            layers=tuple(Layer(layer, channels, self.stride) for layer in layers),
            steps=(0,),
            num_steps=1,
            # An input of whole strides gives whole cells; of whole patches, the usual grid.
            multiple=self.stride,
            size=size,
            output_stride=self.stride,
        )

    def _module_of(self, layer: str, name: str) -> str:
        """Path of the module whose output a layer is."""
        match = re.fullmatch(r"block\.(\d+)\.(\w+)", layer)
        require(
            match is not None and int(match[1]) < len(self.blocks),
            f"'{name}' has no layer '{layer}': expected block.0.key to"
            f" block.{len(self.blocks) - 1}.key, or query, value, token",
        )
        assert match is not None
        facet = one_of(match[2], get_args(Facet), "facet")
        block = self.blocks[int(match[1])]
        inside = dict(block.named_modules())
        path = next(path for path, module in self.net.named_modules() if module is block)
        if facet == "token":
            return path
        return f"{path}.{next(p for p in _PROJECTIONS[facet] if p in inside)}"

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights and of the feature maps."""
        return next(self.net.parameters()).dtype

    def settings_text(self) -> str:
        """What the features depend on beside `spec` and the weights."""
        return repr((self.stride, self.bins))

    # As in the diffusion backbone, gradients are off call by call.
    def features(self, images: Tensor) -> Iterator[StepFeatures]:
        """One step with all layers (see `Backbone.features`); heads stay concatenated."""
        with torch.no_grad():
            tokens, grid = self._embed(images.to(self.device))
            names = list(self._taps.values())
            with record_taps(self.net, names, stop_after_last=True) as taps:
                for block in self.blocks:
                    output = block(tokens)
                    tokens = output[0] if isinstance(output, tuple) else output
            maps = {layer: self._map(taps[path], grid) for layer, path in self._taps.items()}
            del taps
        yield StepFeatures(0, 0, -1, maps)

    def _embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Patch, class and position embeddings (B, 1 + h * w, C), and the grid (h, w)."""
        mean, std = (images.new_tensor(v).view(1, 3, 1, 1) for v in (_MEAN, _STD))
        # Patches that overlap reach over the border; with the padding cell u is centred at
        # (u + 0.5) * stride - 0.5, as everywhere.
        margin = (self.patch - self.stride) // 2
        x = (images - mean) / std
        if margin:
            x = F.pad(x, (margin,) * 4, mode="replicate")
        embeddings: Any = self.net.embeddings
        projection = embeddings.patch_embeddings.projection
        x = F.conv2d(
            x.to(projection.weight.dtype), projection.weight, projection.bias, stride=self.stride
        )
        grid = (int(x.shape[-2]), int(x.shape[-1]))
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([embeddings.cls_token.expand(len(x), -1, -1), x], dim=1)
        positions = embeddings.interpolate_pos_encoding(
            x, grid[0] * self.patch, grid[1] * self.patch
        )
        return x + positions, grid

    def _map(self, output: Any, grid: tuple[int, int]) -> Tensor:
        """A tap's output (B, 1 + h * w, C) as a map (B, C, h, w), without the class token."""
        tokens: Tensor = output[0] if isinstance(output, tuple) else output
        maps = tokens[:, 1:].transpose(1, 2).unflatten(2, grid)
        return log_bins(maps, self.bins) if self.bins else maps


@register_backbone("vit")
def vit_backbone(
    *,
    device: torch.device,
    model: str = "dino",
    steps: tuple[int, ...] = (0,),
    num_steps: int = 1,
    layers: tuple[str, ...] | None = None,
    stride: int | None = None,
    bins: int = 0,
    size: int = 224,
    revision: str | None = None,
    local_files_only: bool = False,
    dtype: torch.dtype = torch.float32,
) -> VitBackbone:
    """A DINO or DINOv2 (see `VitBackbone`); there is no noise, so the only step is 0.

    Args:
        model: alias (`dino`, `dinov2`), folder or hub id.

    Raises:
        InputError: other steps, or the model cannot be found or read.
    """
    require(
        steps == (0,) and num_steps == 1,
        f"a vision transformer has the one step 0 of 1, got steps {steps} of {num_steps}",
    )
    net = load_vit(model, revision=revision, local_files_only=local_files_only)
    return VitBackbone(
        net.to(device, dtype), name=model, layers=layers, stride=stride, bins=bins, size=size
    )
