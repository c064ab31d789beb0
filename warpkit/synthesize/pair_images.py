"""Both images of pairs: generated, or photographs, with what describes them.

In: `PairPlan`s. Out: described images. Stages are timed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar, cast

import numpy as np
import torch
from PIL import Image as PilImage

from warpkit.checks import InputError
from warpkit.describe.extractor import ModelDescriber
from warpkit.image.transparency import opaque_part, seen_picture
from warpkit.io.pictures import read_picture
from warpkit.runs.clock import Stopwatch
from warpkit.synthesize.config import PairSettings
from warpkit.synthesize.generation import DescribedImage, Generator
from warpkit.synthesize.plan import ImagePlan, PairPlan
from warpkit.types import DescriptorMap

__all__ = ["PairImageSource", "PairImages", "with_copy"]

PairImages = tuple[DescribedImage | InputError | None, DescribedImage | InputError]
"""Source and target; the source is None if it is to be bent from the target."""

_End = TypeVar("_End", bound="DescribedImage | InputError | None")


class PairImageSource:
    """Generates the images of pairs, or reads them.

    Attributes:
        generator: None for photographs.
    """

    def __init__(
        self,
        settings: PairSettings,
        extractor: ModelDescriber,
        clock: Stopwatch,
    ) -> None:
        """Check that the model can do what the settings ask for.

        Args:
            clock: times `generate` and `describe`.

        Raises:
            InputError: it cannot generate.
        """
        self.settings, self.extractor, self._clock = settings, extractor, clock
        self.generator = None
        if settings.images is None:
            self.generator = Generator(extractor, settings.generation)

    def __call__(self, plans: Sequence[PairPlan]) -> list[PairImages]:
        """The images of a chunk of pairs, described: the sources and the targets."""
        if self.generator is not None:
            return self._generated(plans)
        paths = [(plan.source.path, plan.target.path) for plan in plans]
        unique = [path for path in dict.fromkeys(path for pair in paths for path in pair) if path]
        photos: dict[str, DescribedImage | InputError] = {}
        for path in unique:
            try:
                photos[path] = self._read_photo(path)
            except InputError as error:
                photos[path] = error
        good = {path: photo for path, photo in photos.items() if isinstance(photo, DescribedImage)}
        with self._clock.stage("describe"):
            maps = self.extractor.describe([photo.image for photo in good.values()])
        for (path, photo), found in zip(good.items(), maps, strict=True):
            photos[path] = replace(photo, descriptors=found)
        return [(photos[a] if a else None, photos[b or ""]) for a, b in paths]

    def _generated(self, plans: Sequence[PairPlan]) -> list[PairImages]:
        assert self.generator is not None
        fresh = [
            image
            for plan in plans
            for image in (plan.source, plan.target)
            if image.seed is not None and image.strength is None
        ]
        made: dict[ImagePlan, DescribedImage] = {}
        unique = list(dict.fromkeys(fresh))
        if unique:
            with self._clock.stage("generate"):
                made = dict(zip(unique, self.generator.generate(unique), strict=True))
        varied = [plan for plan in plans if plan.target.strength is not None]
        variants: dict[int, DescribedImage] = {}
        if varied:
            with self._clock.stage("generate"):
                found = self.generator.vary(
                    [plan.target for plan in varied], [made[plan.source] for plan in varied]
                )
            variants = {plan.number: image for plan, image in zip(varied, found, strict=True)}
        return [
            (made.get(plan.source), variants.get(plan.number) or made[plan.target])
            for plan in plans
        ]

    def _read_photo(self, path: str) -> DescribedImage:
        """A photograph that is yet to be described."""
        assert self.settings.images is not None
        picture = read_picture(self.settings.images / path)
        image, opaque = seen_picture(picture), opaque_part(picture)
        side = self.settings.side
        if side is None or max(image.shape[:2]) <= side:
            return DescribedImage(image, _NOTHING, opaque=opaque)
        scale = side / max(image.shape[:2])
        size = (max(2, round(image.shape[1] * scale)), max(2, round(image.shape[0] * scale)))
        reduced = PilImage.fromarray(image).resize(size, PilImage.Resampling.LANCZOS)
        if opaque is not None:
            share = PilImage.fromarray(opaque).resize(size, PilImage.Resampling.NEAREST)
            opaque = np.array(share)
        return DescribedImage(np.array(reduced), _NOTHING, opaque=opaque)


def with_copy(end: _End) -> _End:
    """The same with its descriptors on the CPU as well.

    A thread that read them from a GPU would wait for all the work that is queued there.
    """
    if not isinstance(end, DescribedImage):
        return end
    return cast(_End, replace(end, copy=end.descriptors.to("cpu")))


_NOTHING = DescriptorMap.covering(torch.zeros(1, 1, 1), height=1, width=1)
