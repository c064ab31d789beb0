"""The object of each image of a set: found, given, what is opaque of it, or the whole image.

In: described images. Out: masks, and how far one that was found is reliable.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image as PilImage

from warpkit.arrays import Image, Mask
from warpkit.checks import is_file, require
from warpkit.features.segmenters import load_segmenter
from warpkit.image.foreground import FoundObject, Hints, NothingFoundError
from warpkit.image.segment import object_finder, segment_object
from warpkit.io.masks import read_objects
from warpkit.synthesize.config import MaskConfig, PairSettings
from warpkit.synthesize.generation import DescribedImage
from warpkit.synthesize.mask_trust import MaskTrust, trust_mask
from warpkit.synthesize.masks import find_mask
from warpkit.synthesize.plan import ImagePlan

__all__ = ["ObjectMasks"]

_log = logging.getLogger("warpkit")

_KEPT = 2**26  # bytes of masks of photographs that are remembered


class ObjectMasks:
    """Finds or reads the object of image after image, in any thread.

    The foreground head runs on the CPU, so that its masks are the same wherever the model runs,
    and nothing waits for a GPU's queue. A segmenter runs where the model does.

    Args:
        settings: of the set.
        device: of the model.

    Raises:
        InputError: what finds objects is not installed, or not here.
    """

    def __init__(self, settings: PairSettings, device: torch.device) -> None:
        self._config, self._kind = settings.masks, settings.mask_kind
        self._find = _finder(settings.masks, device) if self._kind == "auto" else None
        self._kept: dict[str, FoundObject | None] = {}
        self._lock = threading.Lock()

    def __call__(
        self, plan: ImagePlan, image: DescribedImage, category: str
    ) -> tuple[Mask | None, MaskTrust | None]:
        """The object of an image: bool (H, W), None where there is none of a usable size.

        What is opaque of a photograph with transparency is its object, unless masks are given.

        Args:
            category: what it shows.

        Returns:
            The mask, and the trust in one that was found.

        Raises:
            InputError: a mask that should be given is not there.
        """
        trust = None
        mask: Mask | None
        shape = image.image.shape[:2]
        if self._kind == "given":
            if image.opaque is not None:
                _log.info(
                    "%s is transparent in part: its given mask says what counts, not that",
                    plan.path,
                )
            mask = _given_mask(self._config, plan, height=shape[0], width=shape[1])
        elif image.opaque is not None:
            mask = image.opaque
        elif self._kind == "whole":
            return np.ones(shape, bool), None
        else:
            mask, trust = self._found(plan, image, category)
        largest = 1.0 if trust is None else self._config.largest
        if mask is None or not mask.any():
            return None, None
        if not self._config.smallest <= mask.mean() <= largest:
            return None, None
        return mask, trust

    def _found(
        self, plan: ImagePlan, image: DescribedImage, category: str
    ) -> tuple[Mask | None, MaskTrust | None]:
        descriptors = image.descriptors if image.copy is None else image.copy
        if self._kind == "found":
            clusters, iterations = self._config.clusters, self._config.iterations
            mask = find_mask(
                image.image,
                descriptors,
                clusters=6 if clusters is None else clusters,
                iterations=4 if iterations is None else iterations,
            )
            return (mask, trust_mask(descriptors, mask)) if mask.any() else (None, None)
        one = self._object(plan, image, category)
        if one is None:
            return None, None
        surer = trust_mask(descriptors, one.mask).sure
        return one.mask, MaskTrust(one.agreement, surer, one.doubts)

    def _object(self, plan: ImagePlan, image: DescribedImage, category: str) -> FoundObject | None:
        """What is found; of a photograph that comes in several pairs once."""
        assert self._find is not None
        with self._lock:
            if plan.path in self._kept:
                return self._kept[plan.path]
        try:
            found = self._find(image.image, category)
        except NothingFoundError:
            found = None
        if plan.path is not None:
            with self._lock:
                self._kept[plan.path] = found
                while sum(one.mask.nbytes for one in self._kept.values() if one) > _KEPT:
                    del self._kept[next(iter(self._kept))]
        return found


def _finder(config: MaskConfig, device: torch.device) -> Callable[[Image, str], FoundObject]:
    """What finds the object of a picture of a category."""
    if config.segmenter is None:
        find = object_finder("cpu")
        return lambda image, _: find(image, Hints())
    network = load_segmenter(config.segmenter, device)
    # Loaded here: threads would each load one.
    if not network.reads_text:
        _, first = network.prompted, object_finder("cpu")
        return lambda image, _: segment_object(image, segmenter=network, first=first)
    _ = network.reading, network.tokenizer
    return lambda image, category: segment_object(
        image, segmenter=network, text=category.rpartition("/")[2].replace("_", " ")
    )


def _given_mask(config: MaskConfig, plan: ImagePlan, *, height: int, width: int) -> Mask:
    assert config.folder is not None and plan.path is not None
    path = (config.folder / plan.path).with_suffix(".png")
    require(is_file(path), f"no mask at {path}: every photograph needs one, or masks.kind=auto")
    mask = read_objects(path) > 0
    if mask.shape == (height, width):
        return mask
    resized = PilImage.fromarray(mask.astype(np.uint8)).resize(
        (width, height), PilImage.Resampling.NEAREST
    )
    return np.asarray(resized) > 0
