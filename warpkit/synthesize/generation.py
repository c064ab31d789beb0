"""Images generated together with their descriptors: the features of the very run that made them.

In: image plans. Out: `DescribedImage`s. The embedded model and Stable Diffusion are used alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from warpkit.checks import InputError, require
from warpkit.describe.extractor import ModelDescriber
from warpkit.features.backbone import StepFeatures
from warpkit.features.diffusion import DiffusionBackbone
from warpkit.synthesize.config import GenerationConfig
from warpkit.synthesize.plan import ImagePlan
from warpkit.synthesize.warped_copy import to_uint8
from warpkit.types import DescriptorMap

__all__ = ["DescribedImage", "Generator"]

_Item = TypeVar("_Item")


@dataclass(frozen=True, eq=False)
class DescribedImage:
    """An image and its descriptors.

    Attributes:
        image: uint8 RGB (H, W, 3).
        descriptors: of that image.
        copy: the same on the CPU, if it was made.
        opaque: bool (H, W), of a photograph with transparency; the rest of the image has one
            colour.
    """

    image: npt.NDArray[np.uint8]
    descriptors: DescriptorMap
    copy: DescriptorMap | None = None
    opaque: npt.NDArray[np.bool_] | None = None


class Generator:
    """The diffusion part of a model, to generate with; other parts of it describe what comes out.

    Attributes:
        steps: DDIM steps of a whole generation.
        skip: the steps that a variant leaves out.
    """

    def __init__(self, extractor: ModelDescriber, config: GenerationConfig) -> None:
        """Check that the model can do what is asked for.

        Raises:
            InputError: the model cannot generate, or cannot read the features of such a run.
        """
        self.extractor, self.config = extractor, config
        parts = extractor.parts
        able = [part for part in parts if isinstance(part.backbone, DiffusionBackbone)]
        if len(able) != 1:
            raise InputError(
                f"'{extractor.name}' has {len(able)} parts that generate images, one is needed: use"
                " tiny, embedded, sd15 or another diffusion model, or give --images DIR"
            )
        self._parts, self._part = parts, able[0]
        assert isinstance(self._part.backbone, DiffusionBackbone)
        self._part.backbone.releases_encoder = False
        self._backbone = _generating(self._part.backbone, config.steps)
        # Where it describes smaller images than its own size, it does not generate at that one.
        usual, first = self._part.backbone.spec.size, parts[0]
        self._side = round(usual * first.size / first.backbone.spec.size)
        multiple = self._backbone.spec.multiple
        require(
            self._side % multiple == 0,
            f"generated images have sides of a multiple of {multiple} pixels, got {self._side}",
        )
        self.skip = 0
        total = self._backbone.schedule.num_steps
        latest = max(self._backbone.spec.steps)
        require(
            config.skip < total,
            f"generation.skip leaves out fewer than all {total} steps, got {config.skip}",
        )
        require(
            config.features == "image" or latest < total - config.skip,
            f"generation.skip: {config.skip} leaves out noisy steps whose features"
            f" '{self._part.name}' needs: set it to {total - 1 - latest} at most, or"
            " generation.features=image",
        )
        if config.variant == "image":
            # At least one step runs, and at least one is left out.
            self.skip = min(max(total - max(1, round(config.strength * total)), 1), total - 1)
            require(
                config.features == "image" or latest < total - self.skip,
                f"variant: image with strength {config.strength:g} leaves out noisy steps whose"
                f" features '{self._part.name}' needs: set generation.features=image",
            )
        self.steps = total

    def generate(self, plans: Sequence[ImagePlan]) -> list[DescribedImage]:
        """Images from noise: `prompt` and `seed` of every plan.

        As many run together as the model describes at once (`batch_size`).
        """
        return [image for part in self._parts_of(plans) for image in self._generate(part)]

    def _generate(self, plans: Sequence[ImagePlan]) -> list[DescribedImage]:
        noise = self._noise(plans)
        return self._run(plans, noise, skip=self.config.skip)

    def _parts_of(self, items: Sequence[_Item]) -> list[Sequence[_Item]]:
        size = self.extractor.batch_size
        return [items[start : start + size] for start in range(0, len(items), size)]

    def vary(
        self, plans: Sequence[ImagePlan], sources: Sequence[DescribedImage]
    ) -> list[DescribedImage]:
        """Images that start from others, with noise as of `strength` (image-to-image)."""
        pairs = list(zip(plans, sources, strict=True))
        return [image for part in self._parts_of(pairs) for image in self._vary(part)]

    def _vary(self, pairs: Sequence[tuple[ImagePlan, DescribedImage]]) -> list[DescribedImage]:
        plans, sources = [plan for plan, _ in pairs], [source for _, source in pairs]
        backbone = self._backbone
        pixels = torch.stack([_to_tensor(source.image) for source in sources]).to(backbone.device)
        with torch.no_grad(), self._part.locked():
            latent = backbone.codec.encode(pixels).float()
        first = backbone.schedule.generation()[self.skip]
        noisy = backbone.noised(latent, self._noise(plans), first.timestep)
        return self._run(plans, noisy, skip=self.skip)

    def _noise(self, plans: Sequence[ImagePlan]) -> Tensor:
        return self._backbone.noise(_seeds(plans), height=self._side, width=self._side)

    @torch.no_grad()
    def _run(
        self, plans: Sequence[ImagePlan], latent: Tensor, *, skip: int
    ) -> list[DescribedImage]:
        network = self._part.network
        cells = self._side // self._backbone.spec.output_stride
        recorded: list[StepFeatures] = []
        total = None
        listen: Callable[[StepFeatures], None] | None
        if self.config.features == "image":
            listen = None
        elif (total := self._part.streaming((cells, cells))) is not None:
            listen = total.add
        else:
            listen = recorded.append
        maps: Tensor | None = None
        with self._part.locked():  # all that the model does is queued, and nothing is waited for
            images = self._backbone.generate(
                [plan.prompt or "" for plan in plans],
                latent,
                guidance_scale=self.config.guidance,
                negative_prompt=self.config.negative_prompt,
                pag_scale=self.config.pag_scale,
                skip=skip,
                eta=self.config.eta,
                seeds=_seeds(plans),
                on_features=listen,
            )
            if total is not None:
                maps = total.result()
            elif listen is not None:
                maps = network(recorded, (cells, cells))
        require(
            bool(torch.isfinite(images).all()),
            "a generated image is not finite: the model's half precision overflowed",
        )
        arrays = to_uint8(images)
        described = self._describe(arrays, maps)
        return [DescribedImage(*both) for both in zip(arrays, described, strict=True)]

    def _describe(
        self, arrays: Sequence[npt.NDArray[np.uint8]], maps: Tensor | None
    ) -> list[DescriptorMap]:
        """The run's own maps (B, C, h, w), with those of the model's other parts."""
        if maps is None:
            return self.extractor.describe(arrays)
        own = [DescriptorMap.covering(data, height=self._side, width=self._side) for data in maps]
        parts = [own if part is self._part else part.describe(arrays) for part in self._parts]
        return [self.extractor.stack(each) for each in zip(*parts, strict=True)]


def _seeds(plans: Sequence[ImagePlan]) -> list[int]:
    return [plan.seed or 0 for plan in plans]


def _generating(backbone: DiffusionBackbone, steps: int | None) -> DiffusionBackbone:
    """A backbone of the same networks whose generation takes this many DDIM steps.

    Step 0 departs from timestep 0 in generation however many steps there are, so an aggregator that
    reads it alone fits them all.
    """
    trained = backbone.schedule.num_steps
    steps = trained if steps is None else steps
    require(
        steps == trained or backbone.spec.steps == (0,),
        f"the aggregator of '{backbone.spec.name}' reads {len(backbone.spec.steps)} steps of a run"
        f" of {trained}: leave generation.steps out",
    )
    require(
        steps > 1,
        f"an image needs more than one DDIM step, and '{backbone.spec.name}' has {steps}: set"
        " generation.steps, such as 50",
    )
    settings = dataclasses.replace(backbone.settings, mode="inversion", timestep=None)
    return backbone.with_settings(settings, num_steps=steps)


def _to_tensor(image: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255
