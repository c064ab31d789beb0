"""Descriptor maps kept between runs, on disk, in half precision.

One safetensors file a map, named by a hash of the image's pixels and of everything that makes its
descriptors. A file is whole or absent, whatever is killed; several processes may share a folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError

from warpkit.checks import OutputError, first_line, require
from warpkit.io.tensors import read_tensors, write_tensors
from warpkit.types import DescriptorMap

__all__ = ["DescriptorCache"]

_LOGGER = logging.getLogger("warpkit")

# Evicting goes on below the limit, so that it is not due again after the next map.
_EVICT_TO = 0.9
# Bytes added, as a share of the limit, after which the folder is looked at again.
_LOOK_AGAIN = 0.02
# A hidden file older than this was left by a killed run.
_STALE_SECONDS = 3600.0


class DescriptorCache:
    """Maps by key, the least recently used ones removed when the folder grows over its limit.

    Args:
        folder: where the files are; made when the first map is added.
        limit_gb: most gigabytes (10^9 bytes) of all files together.

    Attributes:
        found: maps that were answered from the folder.
        added: maps that were written to it.
        damaged: files that were no good: removed, reported, and to be computed again.
    """

    def __init__(self, folder: Path | str, *, limit_gb: float = 20.0) -> None:
        require(limit_gb > 0, f"the cache needs a positive size, got {limit_gb} GB")
        self.folder = Path(folder)
        self.limit = int(limit_gb * 1e9)
        self.found, self.added, self.damaged = 0, 0, 0
        self._since_look: int | None = None  # None: never looked
        self._full = False

    @staticmethod
    def key(digest: str, image: npt.NDArray[np.uint8]) -> str:
        """The key of an image's map.

        Args:
            digest: a hash of all that makes descriptors of an image.
            image: uint8 RGB (H, W, 3).
        """
        hashed = hashlib.sha256(f"{digest} {image.shape} ".encode())
        hashed.update(np.ascontiguousarray(image).data)
        return hashed.hexdigest()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def find(self, key: str) -> DescriptorMap | None:
        """The map kept under a key, float32 on the CPU; None where there is none or it is damaged.

        A damaged file is reported as a warning and removed.
        """
        path = self._path(key)
        try:
            tensors, metadata = read_tensors(path)
            data = tensors["descriptors"]
            if metadata["checksum"] != _checksum(data):
                raise ValueError("its content does not match its checksum")
            found = DescriptorMap(
                data.float(),
                int(metadata["height"]),
                int(metadata["width"]),
                float(metadata["cell_height"]),
                float(metadata["cell_width"]),
            )
        except FileNotFoundError:  # never added, or another process evicted it
            return None
        except OSError as error:
            self._report("cannot be read", path, error.strerror)
            return None
        except (SafetensorError, LookupError, ValueError) as error:
            self.damaged += 1
            self._report("are damaged", path, first_line(error))
            self._remove(path)
            return None
        self.found += 1
        # Used now: evicted last. It may be gone by now, or the folder be one to read only.
        with contextlib.suppress(OSError):
            os.utime(path)
        return found

    def add(self, key: str, described: DescriptorMap) -> DescriptorMap:
        """Keep a map; a folder that cannot be written to is reported once and left alone.

        Returns:
            The map as `find` will give it: rounded to float16, as float32 on its own device.
        """
        half = described.data.detach().half().contiguous()
        rounded = DescriptorMap(
            half.float(),
            described.height,
            described.width,
            described.cell_height,
            described.cell_width,
        )
        if self._full:
            return rounded
        data = half.cpu()
        metadata = {
            "height": str(described.height),
            "width": str(described.width),
            "cell_height": repr(described.cell_height),
            "cell_width": repr(described.cell_width),
            "checksum": _checksum(data),
        }
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(path, {"descriptors": data}, metadata)
        except (OSError, OutputError) as error:
            self._full = True
            _LOGGER.warning(
                "descriptors cannot be kept in %s: %s; going on without", self.folder, error
            )
            return rounded
        self.added += 1
        self._after_adding(data.numel() * data.element_size())
        return rounded

    def _after_adding(self, size: int) -> None:
        if self._since_look is not None:
            self._since_look += size
        if self._since_look is None or self._since_look > _LOOK_AGAIN * self.limit:
            self._since_look = 0
            self.evict()

    def evict(self) -> int:
        """Remove the least recently used maps if all together are over the limit.

        Returns:
            Bytes of the files that are left.
        """
        files = []
        for path in self.folder.glob("*/*.safetensors*"):
            try:
                status = path.stat()
            except OSError:
                continue  # removed by another process
            if not path.name.startswith("."):
                files.append((status.st_mtime, status.st_size, path))
            elif time.time() - status.st_mtime > _STALE_SECONDS:
                self._remove(path)
        total = sum(size for _, size, _ in files)
        if total <= self.limit:
            return total
        for _, size, path in sorted(files):
            if total <= _EVICT_TO * self.limit:
                break
            self._remove(path)
            total -= size
        return total

    @staticmethod
    def _report(what: str, path: Path, reason: object) -> None:
        _LOGGER.warning(
            "cached descriptors %s %s (%s): they are computed again", path, what, reason
        )

    @staticmethod
    def _remove(path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            _LOGGER.warning("%s cannot be removed: %s", path, error.strerror)


def _checksum(data: torch.Tensor) -> str:
    return hashlib.blake2b(data.contiguous().numpy().data, digest_size=16).hexdigest()
