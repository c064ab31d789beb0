"""Descriptors that are kept between jobs: a new guide, mask or setting describes nothing again.

In: images that a job wants described. Out: their maps, from memory where they were described for
the same visitor and model before.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np

from warpkit.arrays import Image
from warpkit.types import Describer, DescriptorMap

__all__ = ["KeptDescriptors"]

Key = tuple[str, str, str]  # visitor, model, content of the image


class KeptDescriptors:
    """Maps of the images that were described last; those asked for longest ago go first.

    Args:
        most_bytes: of all maps together.
    """

    def __init__(self, *, most_bytes: int = 256_000_000) -> None:
        self._most = most_bytes
        self._maps: OrderedDict[Key, DescriptorMap] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._maps)

    def describer(self, visitor: str, model: str, load: Callable[[], Describer]) -> Describer:
        """A describer that describes only what is not kept.

        Args:
            load: gives the model; not called where every map is kept.
        """
        return _Keeping(self, visitor, model, load)

    def drop(self, visitor: str) -> None:
        """Forget a visitor's maps."""
        with self._lock:
            for key in [key for key in self._maps if key[0] == visitor]:
                del self._maps[key]

    def get(self, key: Key) -> DescriptorMap | None:
        """A kept map, which is then the one used last."""
        with self._lock:
            found = self._maps.get(key)
            if found is not None:
                self._maps.move_to_end(key)
            return found

    def put(self, key: Key, found: DescriptorMap) -> None:
        """Keep a map; others go for it where there is too much."""
        with self._lock:
            self._maps[key] = found
            self._maps.move_to_end(key)
            size = sum(_bytes(one) for one in self._maps.values())
            while size > self._most:
                size -= _bytes(self._maps.popitem(last=False)[1])


class _Keeping:
    """One visitor's describer of one model."""

    def __init__(
        self, kept: KeptDescriptors, visitor: str, model: str, load: Callable[[], Describer]
    ) -> None:
        self._kept, self._visitor, self.name, self._load = kept, visitor, model, load

    def describe(self, images: Sequence[Image]) -> list[DescriptorMap]:
        """One map for every image, in order; what is not kept is described in one call."""
        keys = [(self._visitor, self.name, _content(image)) for image in images]
        # Held here as well: what is kept for others may go while this call describes.
        found = {key: one for key in keys if (one := self._kept.get(key)) is not None}
        missing = {key: image for key, image in zip(keys, images, strict=True) if key not in found}
        if missing:
            described = self._load().describe(list(missing.values()))
            found |= dict(zip(missing, described, strict=True))
            for key in missing:
                self._kept.put(key, found[key])
        return [found[key] for key in keys]


def _content(image: Image) -> str:
    """What tells an image from every other: its bytes, shape and type."""
    digest = hashlib.sha256(f"{image.shape} {image.dtype}".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def _bytes(found: DescriptorMap) -> int:
    return found.data.numel() * found.data.element_size()
