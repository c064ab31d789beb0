"""Exact search with FAISS: inner products of unit descriptors in a flat index.

In: maps and sites. Out: `Neighbours`. The index holds all M keys (4 * M * C bytes); everything
else passes in blocks. FAISS runs on the GPU if the maps are there and this FAISS can, else on the
CPU. Data crosses as numpy arrays: `faiss.contrib.torch_utils` would patch FAISS for the whole
process.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from warpkit.checks import InputError, require
from warpkit.coords import sample_descriptors
from warpkit.match.matcher import Matcher, Neighbours, check_search, register_matcher
from warpkit.types import DescriptorMap, Sites

__all__ = ["FaissMatcher"]

_BLOCK_FLOATS = 2**24  # descriptors of one block of sites: 64 MB
_GPU_MAX_K = 2048  # limit of k-selection in FAISS's GPU kernels


@register_matcher("faiss")
class FaissMatcher(Matcher):
    """Exact search with `faiss.IndexFlatIP`."""

    def __init__(self) -> None:
        self._faiss = _import_faiss()

    def search(
        self,
        query: DescriptorMap,
        key: DescriptorMap,
        queries: Sites,
        keys: Sites,
        *,
        k: int = 1,
    ) -> Neighbours:
        """See `Matcher.search`; on a GPU `k` is at most 2048."""
        check_search(query, key, k=k)
        block = max(1, _BLOCK_FLOATS // query.channels)
        index = self._create_index(key, k)
        kept = []  # rows of `keys` that are in the index, in order
        for start in range(0, len(keys), block):
            rows, usable = _read(key, keys, start, block)
            index.add(rows[usable])
            kept.append(start + np.flatnonzero(usable))
        key_of = np.concatenate(kept)

        found = np.full((len(queries), k), -1, dtype=np.int64)
        similarity = np.zeros((len(queries), k), dtype=np.float32)
        count = min(k, len(key_of))
        for start in range(0, len(queries) if count else 0, block):
            rows, usable = _read(query, queries, start, block)
            if usable.any():
                scores, columns = index.search(rows[usable], count)
                # FAISS leaves the order of equal scores open; here the lowest key comes first.
                order = np.lexsort((columns, -scores))
                scores = np.take_along_axis(scores, order, axis=1)
                columns = np.take_along_axis(columns, order, axis=1)
                at = start + np.flatnonzero(usable)
                found[at, :count] = key_of[columns]
                similarity[at, :count] = scores.clip(-1.0, 1.0)
        device = query.data.device
        return Neighbours(
            torch.from_numpy(found).to(device), torch.from_numpy(similarity).to(device)
        )

    def _create_index(self, key: DescriptorMap, k: int) -> Any:
        faiss = self._faiss
        if key.data.is_cuda and hasattr(faiss, "StandardGpuResources"):
            require(k <= _GPU_MAX_K, f"FAISS on a GPU finds at most {_GPU_MAX_K} matches, got {k}")
            options = faiss.GpuIndexFlatConfig()
            options.device = key.data.device.index or 0
            # FAISS frees these resources with the index that holds them.
            return faiss.GpuIndexFlatIP(faiss.StandardGpuResources(), key.channels, options)
        return faiss.IndexFlatIP(key.channels)


def _import_faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise InputError(
            "the matcher 'faiss' needs FAISS, which is not installed: run"
            " pip install faiss-cpu (or faiss-gpu), or take the matcher 'reference'"
        ) from error
    return faiss


def _read(
    descriptors: DescriptorMap, sites: Sites, start: int, count: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Unit descriptors (n, C) of a block of sites, and which of them have a direction."""
    xy = sites.xy[start : start + count].to(descriptors.data.device)
    rows = np.ascontiguousarray(sample_descriptors(descriptors, xy).cpu().numpy())
    return rows, np.square(rows).sum(axis=1) > 0.5
