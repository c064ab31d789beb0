"""The contract of a nearest-neighbour search between two descriptor maps, and its registry.

In: two `DescriptorMap`s and the `Sites` to read in each. Out: `Neighbours`, the k best key sites
of every query site. An engine is one file with a `@register_matcher` class and one line in
`_ENGINES` below.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from warpkit.checks import one_of, require, same_definition
from warpkit.types import DescriptorMap, Sites

__all__ = [
    "Matcher",
    "Neighbours",
    "asked_matcher",
    "check_search",
    "create_matcher",
    "exact_products",
    "matcher_names",
    "register_matcher",
]

# Engines of warpkit and the module that registers each; imported when first created.
_ENGINES = {
    "reference": "warpkit.match.reference",
    "faiss": "warpkit.match.faiss_engine",
    "grid": "warpkit.match.grid.engine",
}
_CLASSES: dict[str, type[Matcher]] = {}


@dataclass(frozen=True, eq=False)
class Neighbours:
    """For every query site its k best key sites, best first.

    Attributes:
        index: int64 (N, k), rows of the key sites; -1 where there is no (further) candidate.
        similarity: float32 (N, k), cosine in [-1, 1]; 0 where `index` is -1.
    """

    index: Tensor
    similarity: Tensor

    def __post_init__(self) -> None:
        if (
            self.index.ndim != 2
            or self.index.dtype != torch.int64
            or self.similarity.shape != self.index.shape
        ):
            raise ValueError(
                "Neighbours must hold int64 index (N, k) and similarity (N, k), got"
                f" {self.index.dtype} {tuple(self.index.shape)}, {tuple(self.similarity.shape)}"
            )

    @property
    def found(self) -> Tensor:
        """bool (N, k), False where there is no candidate."""
        return self.index >= 0


class Matcher(ABC):
    """Finds the most similar key sites of every query site.

    Every engine agrees with `reference`: on the indices or, where scores tie within float
    rounding, on the scores. Among exactly equal scores the lowest key index is preferred.

    Attributes:
        name: what `create_matcher` knows the engine as.
        exhaustive: whether time grows with queries times keys, because all pairs are compared.
    """

    name: ClassVar[str]
    exhaustive: ClassVar[bool] = True

    @abstractmethod
    def search(
        self,
        query: DescriptorMap,
        key: DescriptorMap,
        queries: Sites,
        keys: Sites,
        *,
        k: int = 1,
    ) -> Neighbours:
        """The k key sites with the largest cosine to every query site.

        A site whose descriptor is zero (or not finite) has no direction: as a key it is never
        chosen, as a query it finds nothing.

        Args:
            query: map in which `queries` are read.
            key: map in which `keys` are read; as many channels as `query`, on the same device.
            queries: N places in the query image.
            keys: M candidate places in the key image.
            k: how many neighbours; where fewer candidates exist the rest is -1.

        Returns:
            `Neighbours` (N, k) on the device of `query`.

        Raises:
            InputError: if the maps do not fit together or `k` is not positive.
        """


def check_search(query: DescriptorMap, key: DescriptorMap, *, k: int) -> None:
    """Raise unless the two maps can be compared: what every engine calls first.

    Raises:
        InputError: for different channel counts or devices, or k < 1.
    """
    require(
        query.channels == key.channels,
        f"the query map has {query.channels} channels but the key map has {key.channels}:"
        " describe both images with the same model",
    )
    require(
        query.data.device == key.data.device,
        f"the query map is on {query.data.device} but the key map is on {key.data.device}:"
        " move both to one device",
    )
    require(k >= 1, f"k must be at least 1, got {k}")


@contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Matrix products in full float32, whatever precision the caller lets torch take.

    TF32 or bfloat16 would keep three digits of a score, and change one match in ten.
    """
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


MatcherClass = TypeVar("MatcherClass", bound=type[Matcher])


def register_matcher(name: str) -> Callable[[MatcherClass], MatcherClass]:
    """Class decorator that makes a matcher known as `name`.

    Raises:
        InputError: if another class already has that name.
    """

    def register(cls: MatcherClass) -> MatcherClass:
        taken = _CLASSES.get(name)
        require(
            taken is None or same_definition(taken, cls),
            f"a matcher named '{name}' is registered already: choose another name",
        )
        cls.name = name
        _CLASSES[name] = cls
        return cls

    return register


def matcher_names() -> list[str]:
    """Names that `create_matcher` takes, engines of warpkit first."""
    return list(dict.fromkeys([*_ENGINES, *_CLASSES]))


def asked_matcher(engine: str) -> Matcher | None:
    """The engine of that name; None for `auto`: the functions that match choose then.

    Raises:
        InputError: there is none of that name.
    """
    return None if engine == "auto" else create_matcher(engine)


def create_matcher(name: str) -> Matcher:
    """A matcher by name.

    Raises:
        InputError: for an unknown name, or if the engine needs a package that is missing.
    """
    one_of(name, matcher_names(), "matcher")
    if name not in _CLASSES:
        importlib.import_module(_ENGINES[name])
    return _CLASSES[name]()
