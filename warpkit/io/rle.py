"""COCO run-length encoding of masks, and a COCO file of a clip's masks.

A mask is read column by column. `counts` are the lengths of its runs, background first (0 if the
first pixel is set). Their text form stores, from the fourth count on, the difference to the count
two before, in groups of five bits, least significant first, bit 5 = more follow, plus 48 as ASCII.

Source: the format of the COCO data set (Lin et al., 2014) as its tools read it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self, TextIO

import numpy as np
import numpy.typing as npt

from warpkit.arrays import mask_box
from warpkit.checks import OutputError, require
from warpkit.io.images import check_target
from warpkit.io.whole import Partial

__all__ = ["CocoMaskWriter", "encode_rle"]

Rle = dict[str, Any]


def encode_rle(mask: npt.NDArray[np.bool_]) -> Rle:
    """A mask (H, W) as `{"size": [H, W], "counts": text}`.

    Example:
        >>> encode_rle(np.array([[0, 1], [0, 1]], bool))
        {'size': [2, 2], 'counts': '22'}
    """
    require(
        isinstance(mask, np.ndarray) and mask.ndim == 2 and mask.size > 0,
        f"a mask to encode must be an array (height, width), got {getattr(mask, 'shape', mask)}",
    )
    flat = mask.astype(bool).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    first = [0] if flat[0] else []
    counts = [*first, *np.diff([0, *changes, flat.size]).tolist()]
    return {"size": list(mask.shape), "counts": _to_text(counts)}


def _to_text(counts: list[int]) -> str:
    letters = []
    for index, count in enumerate(counts):
        left = count - counts[index - 2] if index > 2 else count
        while True:
            group, left = left & 31, left >> 5
            more = left != (-1 if group & 16 else 0)
            letters.append(chr(48 + (group | 32 if more else group)))
            if not more:
                break
    return "".join(letters)


class CocoMaskWriter:
    """Writes the masks of a clip as a COCO file; a context manager.

    One image per frame, one category per object, one annotation per object and frame that shows
    it. Annotations go to the disk as they come: memory holds a few numbers per frame. The file
    appears when the block ends without an exception.

        with CocoMaskWriter("masks.json", height=480, width=854) as writer:
            writer.write(labels, frame=0, name="00000")
    """

    def __init__(self, path: str | Path, *, height: int, width: int) -> None:
        self.path = Path(path)
        check_target(self.path)
        self._size = (height, width)
        self._place = Partial(self.path)
        self._file: TextIO | None = None
        self._images: list[dict[str, Any]] = []
        self._ids: set[int] = set()
        self._count = 0

    def __enter__(self) -> Self:
        try:
            self._file = self._place.partial.open("w", encoding="utf-8")
            self._file.write('{"annotations": [')
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from error
        return self

    def write(self, labels: npt.NDArray[np.uint8], *, frame: int, name: str) -> None:
        """Add a frame.

        Args:
            labels: uint8 (H, W), object ids, 0 = background.
            frame: number of the frame, the id of its image.
            name: its file name.
        """
        assert self._file is not None, "CocoMaskWriter.write is for use inside a `with` block"
        require(
            labels.shape == self._size,
            f"{self.path}: masks are {self._size[0]} x {self._size[1]} (height x width), that of"
            f" frame {frame} is {labels.shape[0]} x {labels.shape[1]}",
        )
        height, width = self._size
        image = {"id": frame, "file_name": name, "height": height, "width": width}
        self._images.append(image)
        for i in sorted({int(i) for i in np.unique(labels)} - {0}):
            mask = labels == i
            self._ids.add(i)
            self._count += 1
            annotation = {
                "id": self._count,
                "image_id": frame,
                "category_id": i,
                "segmentation": encode_rle(mask),
                "area": int(mask.sum()),
                "bbox": _box(mask),
                "iscrowd": 0,
            }
            self._line("," if self._count > 1 else "", annotation)

    def _line(self, before: str, value: Any) -> None:
        assert self._file is not None
        try:
            self._file.write(f"{before}\n{json.dumps(value)}")
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from error

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        assert self._file is not None
        file, self._file = self._file, None
        try:
            with file:
                if kind is None:
                    categories = [{"id": i, "name": f"object {i}"} for i in sorted(self._ids)]
                    file.write(f'\n], "images": {json.dumps(self._images)},')
                    file.write(f' "categories": {json.dumps(categories)}}}\n')
            if kind is None:
                self._place.publish()
        except OSError as failure:
            raise OutputError(f"cannot write {self.path}: {failure.strerror}") from failure
        finally:
            self._place.discard()


def _box(mask: npt.NDArray[np.bool_]) -> list[int]:
    """Bounding box [x, y, width, height] of a mask that holds a pixel."""
    x1, y1, x2, y2 = map(int, mask_box(mask))
    return [x1, y1, x2 - x1 + 1, y2 - y1 + 1]
