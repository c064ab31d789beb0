"""The descriptors of a pair, computed while its masks are looked for.

In: a checked pair and the options of the model. Out: a call that gives the maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from warpkit.arrays import Image
from warpkit.describe.options import ModelOptions
from warpkit.image.pair import ImagePair
from warpkit.runs.clock import Stopwatch
from warpkit.types import Describer, DescriptorMap

__all__ = ["PairMaps", "described_beside"]

PairMaps = tuple[DescriptorMap, DescriptorMap, DescriptorMap | None]
"""What `ImagePair.describe` gives."""


@contextmanager
def described_beside(
    pair: ImagePair,
    options: ModelOptions,
    describer: Describer | None = None,
    *,
    mirrored: Image | None = None,
    clock: Stopwatch | None = None,
) -> Iterator[Callable[[], PairMaps]]:
    """The maps of a pair, as a call that waits for them, and raises what hindered them.

    A model that ships is loaded on the CPU, and describes, in a thread beside what is done in the
    block. Any other is loaded by the call: it takes the whole machine, and longer than somebody
    who interrupts, or whose masks are refused, should wait.

    Args:
        options: the model.
        describer: that model, where it is loaded already: perhaps others use it now.
        mirrored: see `ImagePair.describe`.
        clock: times the loading.
    """
    clock = clock or Stopwatch()

    def describe() -> PairMaps:
        with clock.stage("load model"):
            loaded = describer or options.load_extractor()
        return pair.describe(loaded, mirrored=mirrored)

    if describer is not None or not options.at_hand():
        yield describe
        return
    with ThreadPoolExecutor(1, "describe") as beside:
        yield beside.submit(describe).result
