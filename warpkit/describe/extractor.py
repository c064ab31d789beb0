"""The extractor: photographs in, one descriptor map each out.

Backbone and aggregator behind one call, with resizing, batching and padding taken care of.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from warpkit.aggregate.checkpoint import check_fits
from warpkit.aggregate.network import AggregationNetwork
from warpkit.aggregate.streaming import StreamingAggregator
from warpkit.checks import InputError, check_image, counted, first_line, require
from warpkit.coords import Fit, FitMode, plan_fit
from warpkit.describe.assembly import Aggregator
from warpkit.describe.cache import DescriptorCache
from warpkit.describe.model_file import check_load_size, check_size
from warpkit.features.backbone import Backbone
from warpkit.runs.cache import code_digest
from warpkit.runs.folder import installed_version
from warpkit.runs.memory import require_memory
from warpkit.types import Describer, DescriptorMap

__all__ = ["Extractor", "ModelDescriber", "describe_checked", "out_of_memory"]


_TOGETHER = 2**22  # pixels of images that are resized together


class ModelDescriber(ABC):
    """A loaded model, of one part or of several: images to descriptor maps.

    Attributes:
        name: of the model.
        size: side of the (first part's) input in pixels.
        fit: how the (first part) brings images to its input.
        batch_size: images that are described at once.
    """

    name: str
    size: int
    fit: FitMode
    batch_size: int

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the descriptors are."""

    @property
    @abstractmethod
    def parts(self) -> tuple[Extractor, ...]:
        """The extractors that it is made of: itself, or those that it combines."""

    @abstractmethod
    def digest(self) -> str:
        """A hash of everything that makes the descriptors but the image: weights, settings, code.

        Computed once: weights that change later are not seen.
        """

    def describe(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[DescriptorMap]:
        """Describe images of any sizes; images of one size share a batch.

        Args:
            images: uint8 RGB arrays (H, W, 3).

        Returns:
            One map per image in order, float32 on the model's device. A single image gives the
            same map as the same image within a batch, up to float rounding.

        Raises:
            InputError: something that is no image; too little memory for a batch (names the batch
                size that fits).
        """
        return self.describe_checked(
            [check_image(image, f"image {position}") for position, image in enumerate(images)]
        )

    @abstractmethod
    def describe_checked(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[DescriptorMap]:
        """As `describe`, of images that were checked where they came in."""

    @abstractmethod
    def stack(self, maps: Sequence[DescriptorMap]) -> DescriptorMap:
        """One map from the parts' maps of one image, in the order of the parts."""


def describe_checked(
    describer: Describer, images: Sequence[npt.NDArray[np.uint8]]
) -> list[DescriptorMap]:
    """Maps of images that were checked already, by any describer."""
    if isinstance(describer, ModelDescriber):
        return describer.describe_checked(images)
    return describer.describe(images)


class Extractor(ModelDescriber):
    """Images to descriptor maps.

    Attributes:
        backbone: yields layer features.
        network: aggregates them, or stacks them as they are.
        load_size: side to which images are reduced before they are enlarged to the input (the
            paper's evaluation: 224); None resizes them at once.
        batch_size: images that are described at once.
        cache: keeps descriptors, in half precision, by the content of images; None keeps none.
    """

    def __init__(
        self,
        backbone: Backbone,
        network: Aggregator,
        *,
        name: str | None = None,
        size: int | None = None,
        fit: FitMode | None = None,
        load_size: int | None = None,
        batch_size: int = 8,
        cache: DescriptorCache | None = None,
    ) -> None:
        check_fits(network.config, backbone.spec, checkpoint="the aggregator")
        require(batch_size > 0, f"batch_size must be positive, got {batch_size}")
        self.backbone = backbone
        self.network = network.to(backbone.device)
        self.name = name or backbone.spec.name
        self.size = backbone.spec.size if size is None else size
        check_size(self.size)
        self.fit: FitMode = fit or backbone.spec.fit
        check_load_size(load_size, self.fit)
        self.load_size = load_size
        self.batch_size = batch_size
        self.cache = cache
        self._digest: str | None = None

    @property
    def device(self) -> torch.device:
        return self.backbone.device

    @property
    def parts(self) -> tuple[Extractor, ...]:
        return (self,)

    def stack(self, maps: Sequence[DescriptorMap]) -> DescriptorMap:
        (only,) = maps
        return only

    def resized(self, size: int) -> Extractor:
        """The same model with an input of another side in pixels."""
        return Extractor(
            self.backbone,
            self.network,
            name=self.name,
            size=size,
            fit=self.fit,
            load_size=self.load_size,
            batch_size=self.batch_size,
            cache=self.cache,
        )

    def locked(self) -> AbstractContextManager[None]:
        """Keep the backbone to this thread until what it calls is queued.

        Source: `warpkit.features.model_lock`.
        """
        return self.backbone.locked()

    def plan(self, *, height: int, width: int) -> Fit:
        """How an image of this size is brought to the backbone's input."""
        spec = self.backbone.spec
        return plan_fit(
            height=height,
            width=width,
            size=self.size,
            multiple=spec.multiple,
            mode=self.fit,
            side=cast(Literal["short", "long"], spec.side),
        )

    def describe_checked(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[DescriptorMap]:
        """As `ModelDescriber.describe`; with a cache all maps are rounded to float16, those
        computed now as well as those kept.
        """
        if self.cache is None:
            return self._describe(images)
        keys = [self.cache.key(self.digest(), image) for image in images]
        found = {key: self.cache.find(key) for key in dict.fromkeys(keys)}
        missing = {key: i for i, key in enumerate(keys) if found[key] is None}
        computed = self._describe([images[i] for i in missing.values()])
        for key, described in zip(missing, computed, strict=True):
            found[key] = self.cache.add(key, described)
        return [cast(DescriptorMap, found[key]).to(self.device) for key in keys]

    def digest(self) -> str:
        with self.locked():
            if self._digest is None:
                self._digest = _digest(self)
            return self._digest

    def _describe(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[DescriptorMap]:
        maps: dict[int, DescriptorMap] = {}
        by_size: dict[tuple[int, int], list[int]] = {}
        for position, image in enumerate(images):
            by_size.setdefault((image.shape[0], image.shape[1]), []).append(position)
        for size, positions in by_size.items():
            for start in range(0, len(positions), self.batch_size):
                batch = positions[start : start + self.batch_size]
                self._require_memory(len(batch), self.plan(height=size[0], width=size[1]))
                inputs, fit = self.prepare([images[i] for i in batch])
                for position, descriptors in zip(batch, self._within_memory(inputs), strict=True):
                    maps[position] = fit.descriptor_map(descriptors)
        return [maps[position] for position in range(len(images))]

    def _require_memory(self, count: int, fit: Fit) -> None:
        """Refuse a batch whose inputs, layers and descriptors alone are more than a CPU has.

        Raises:
            InputError: names the memory.
        """
        spec, pixels = self.backbone.spec, fit.input_height * fit.input_width
        layers = sum(layer.channels / layer.stride**2 for layer in spec.layers)
        width = self.network.config.width / spec.output_stride**2
        each = pixels * (4 * (3 + width) + self.backbone.dtype.itemsize * layers)
        require_memory(
            int(count * each),
            f"a batch of {counted(count, 'image')} of {fit.input_width} x {fit.input_height}"
            " pixels",
            device=self.device,
            advice="use a smaller --size" if count == 1 else "use a smaller --size or batch_size",
        )

    def _within_memory(self, inputs: Tensor) -> Tensor:
        """`aggregate`, finite or an error, and with one clear line where memory does not suffice.

        Raises:
            InputError: names the largest batch of half, a quarter, ... that did fit.
        """
        try:
            descriptors = self.aggregate(inputs)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            reason = first_line(error)
        else:
            require(
                bool(descriptors.isfinite().all()),
                f"'{self.name}' gave descriptors that are no finite numbers: its weights are"
                f" damaged, or too large for {self.backbone.dtype}",
            )
            return descriptors
        # Outside the handler, so that the failed run's tensors are gone.
        rows, what = len(inputs), f"{inputs.shape[-1]} x {inputs.shape[-2]} pixels"
        fits = rows // 2
        while fits and not self._fits(inputs[:fits]):
            fits //= 2
        raise InputError(
            f"out of memory with a batch of {counted(rows, 'image')} of {what} ({reason}): "
            + (
                f"a batch of {fits} fits, use --set batch_size={fits}"
                if fits
                else "not even one image fits, use a smaller --size"
            )
        )

    def _fits(self, inputs: Tensor) -> bool:
        try:
            if inputs.is_cuda:
                torch.cuda.empty_cache()
            self.aggregate(inputs)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return False
        return True

    def prepare(self, images: Sequence[npt.NDArray[np.uint8]]) -> tuple[Tensor, Fit]:
        """Images of one size as the backbone takes them, float (B, 3, H, W), and how they fit."""
        height, width = images[0].shape[:2]
        fit = self.plan(height=height, width=width)
        # Photographs of many megapixels one by one: only the resized ones are small.
        together = max(1, _TOGETHER // (height * width))
        parts = [
            self._prepare(_to_tensor(images[start : start + together], self.device), fit)
            for start in range(0, len(images), together)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts), fit

    def _prepare(self, images: Tensor, fit: Fit) -> Tensor:
        """uint8 images (B, 3, H, W) resized by a fit, by way of `load_size` if it is set."""
        if self.load_size is None:
            return fit.apply(images)
        reduced = plan_fit(
            height=fit.height, width=fit.width, size=self.load_size, multiple=1, mode="stretch"
        )
        enlarged = F.interpolate(
            reduced.apply(images),
            size=(fit.content_height, fit.content_width),
            mode="bilinear",
            align_corners=False,
        )
        rest = (0, fit.input_width - fit.content_width, 0, fit.input_height - fit.content_height)
        return F.pad(enlarged, rest, mode="replicate") if any(rest) else enlarged

    @torch.no_grad()
    def aggregate(self, inputs: Tensor) -> Tensor:
        """Inputs (B, 3, H, W) in [0, 1] to descriptors (B, C, H / stride, W / stride)."""
        stride = self.backbone.spec.output_stride
        grid = (inputs.shape[-2] // stride, inputs.shape[-1] // stride)
        streaming = self.streaming(grid)
        with self.locked():
            steps = self.backbone.features(inputs)
            if streaming is None:
                return cast(Tensor, self.network(steps, grid))
            return streaming.run(steps)

    def streaming(self, grid: tuple[int, int]) -> StreamingAggregator | None:
        """The aggregation of one run, step by step, to maps of `grid` = (h, w) cells.

        Returns:
            None for an aggregator of its own kind, which is called with all steps.
        """
        network = self.network
        own = type(network).forward is not AggregationNetwork.forward
        if own or not isinstance(network, AggregationNetwork):
            return None
        # CPUs convolve half precision slowly, and Apple GPUs were not measured.
        dtype = self.backbone.dtype if self.device.type == "cuda" else torch.float32
        return StreamingAggregator(network, grid, dtype=dtype)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return "can't allocate memory" in text or "MPS backend out of memory" in text


def _digest(extractor: Extractor) -> str:
    backbone, network = extractor.backbone, extractor.network
    digest = hashlib.sha256()
    facts = {
        "code": code_digest(),
        "versions": {name: installed_version(name) for name in ("torch", "diffusers")},
        "device": backbone.device.type,
        "dtype": str(backbone.dtype),
        "spec": asdict(backbone.spec),
        "aggregator": asdict(network.config),
        "input": [extractor.size, extractor.fit, extractor.load_size],
        "settings": backbone.settings_text(),
    }
    digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
    for name, tensor in [*backbone.state(), *network.state_dict().items()]:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _to_tensor(images: Sequence[npt.NDArray[np.uint8]], device: torch.device) -> Tensor:
    stacked = torch.from_numpy(np.stack(images)).to(device)
    return stacked.permute(0, 3, 1, 2)
