"""How chunks of pairs are spread over workers: in this process, or over a Ray cluster.

A chunk is made by one worker and comes back whole, as bytes; only the caller writes. Chunks that
were not asked for are not made, so a run that was stopped goes on with what is missing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from warpkit.checks import InputError, first_line

__all__ = ["ChunkMaker", "MadeChunk", "make_here", "make_on_ray"]

# Blocks that Ray Data schedules one by one; a lost worker costs the block it was working on.
_MOST_BLOCKS = 10_000
# Chunks that a GPU's actor is given at once: matching and files run beside the model's work on the
# next ones, and only the end of the last has nothing beside it (2 % of eight, measured on an H200).
_ON_GPU = 8
_OBJECT_STORE = 2**28  # bytes of a local cluster's store of results that wait to be written


@dataclass(frozen=True, eq=False)
class MadeChunk:
    """A chunk that is ready to be written.

    Attributes:
        data: a tar of its records.
        seconds: spent on it by stage.
    """

    number: int
    data: bytes
    seconds: dict[str, float]


class ChunkMaker(Protocol):
    """Makes chunks by number."""

    def chunks(self, numbers: Iterable[int]) -> Iterator[MadeChunk]:
        """The chunks in the order in which they are asked for."""
        ...


def make_here(build: Callable[[], ChunkMaker], numbers: Sequence[int]) -> Generator[MadeChunk]:
    """Make chunks in this process, in order; without any nothing is loaded."""
    if not numbers:
        return
    yield from build().chunks(numbers)


def make_on_ray(
    build: Callable[[], ChunkMaker],
    numbers: Sequence[int],
    *,
    workers: int | None,
    threads: int,
    gpu: bool,
) -> Generator[MadeChunk]:
    """Make chunks with a pool of Ray Data actors, in any order.

    The cluster of `RAY_ADDRESS` is used if that is set, else one is started on this machine. Each
    actor loads the model once. It is given one chunk after the other, on a GPU several at once. An
    actor that dies is replaced and what it was given is made again. Ray Data stops feeding actors
    while finished chunks wait to be taken, so memory stays bounded.

    Args:
        build: makes a worker's `ChunkMaker`; it is pickled.
        workers: actors; None takes one a GPU, or as many as the CPUs allow.
        threads: CPUs an actor reserves.
        gpu: an actor reserves one GPU where the cluster has any.

    Raises:
        InputError: Ray is not installed, or an actor cannot work.
    """
    try:
        import ray
        from ray.data import DataContext
        from ray.exceptions import RayError
    except ImportError as error:
        raise InputError(
            "--executor ray needs Ray: pip install 'warpkit-hyperfeatures[ray]'"
        ) from error
    started = not ray.is_initialized()
    if started:
        _start(ray, workers, threads)
    try:
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0)) if gpu else 0
        workers = workers or gpus or max(1, int(resources.get("CPU", 1)) // threads)
        context = DataContext.get_current()
        context.enable_progress_bars = False
        # A chunk is a block: it comes as soon as it is made, and Ray, which feeds no actor that
        # might overfill the store, reckons with the size of one chunk and not of a portion.
        context.target_max_block_size = 1
        items = [{"chunks": some} for some in _given_at_once(numbers, workers, on_gpu=gpus > 0)]
        blocks = min(len(items), _MOST_BLOCKS)
        actor: Any = _Actor  # Ray takes a class where its annotations want a function
        made = ray.data.from_items(items, override_num_blocks=blocks).flat_map(
            actor,
            fn_constructor_args=(build,),
            concurrency=workers,
            num_cpus=threads,
            num_gpus=1 if gpus else None,
        )
        try:
            for row in made.iter_rows():
                yield MadeChunk(int(row["chunk"]), bytes(row["data"]), json.loads(row["seconds"]))
        except RayError as error:
            cause: Any = getattr(error, "cause", None)
            if isinstance(cause, InputError):
                raise cause from error
            raise InputError(f"a Ray worker failed: {first_line(error)}") from error
    finally:
        if started:
            ray.shutdown()


def _given_at_once(numbers: Sequence[int], workers: int, *, on_gpu: bool) -> list[list[int]]:
    """Chunk numbers in the portions that actors are given: four or more an actor if there are."""
    size = max(1, min(_ON_GPU, len(numbers) // (4 * workers))) if on_gpu else 1
    return [list(numbers[start : start + size]) for start in range(0, len(numbers), size)]


def _start(ray: Any, workers: int | None, threads: int) -> None:
    """Connect to the cluster that the environment names, or start a small one here."""
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False)
        return
    ray.init(
        num_cpus=None if workers is None else workers * threads,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=_OBJECT_STORE,
    )


class _Actor:
    """What runs in a worker process."""

    def __init__(self, build: Callable[[], ChunkMaker]) -> None:
        self._maker = build()

    def __call__(self, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for made in self._maker.chunks([int(number) for number in row["chunks"]]):
            yield {"chunk": made.number, "data": made.data, "seconds": json.dumps(made.seconds)}
