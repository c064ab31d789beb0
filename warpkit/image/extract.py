"""Descriptors of image files, written as safetensors.

In: image files. Out: one `<stem>.safetensors` each, tensor `descriptors` (C, h, w), with sizes and
configuration in the metadata. A killed run goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError

from warpkit.checks import is_dir, require
from warpkit.describe.cache import DescriptorCache
from warpkit.describe.extractor import ModelDescriber
from warpkit.describe.options import ModelOptions, TaskSettings
from warpkit.io.config import to_dict
from warpkit.io.images import read_image
from warpkit.io.tensors import read_tensors, write_tensors
from warpkit.io.whole import write_json
from warpkit.runs.clock import Stopwatch
from warpkit.runs.folder import OutputFolder, run_record
from warpkit.runs.progress import Bar
from warpkit.runs.task import input_files
from warpkit.types import DescriptorMap

__all__ = ["ExtractSettings", "run_extract"]

_LOGGER = logging.getLogger("warpkit")


@dataclass(frozen=True, kw_only=True)
class ExtractSettings(TaskSettings):
    """How descriptors are extracted.

    Attributes:
        half: store float16 instead of float32.
    """

    half: bool = False


def run_extract(
    images: Sequence[Path | str],
    output: Path | str,
    *,
    settings: ExtractSettings | None = None,
    options: ModelOptions | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Describe image files.

    Images of one size share a batch. A run that was killed goes on when the same command is given
    again: no finished image is described twice, and the files are those of a run without a break.
    What an earlier run finished counts only if image, weights, settings and code are the same.

    Args:
        images: files, and folders whose images are taken in the order of their names; hidden files
            in them and folders below them are not.

    Returns:
        The written files, in the order of the images.

    Raises:
        InputError: an image that cannot be read, two images of one stem, or an output folder that
            holds something.
    """
    settings, options = settings or ExtractSettings(), options or ModelOptions()
    paths = [path for image in images for path in _images_of(Path(image))]
    _check_names(paths)
    clock = Stopwatch()
    # Every input is read once before anything is computed: a bad last file costs no time.
    with clock.stage("check images"):
        batches = _batches(paths, options.batch_size)
    folder = OutputFolder(output, overwrite=overwrite, resume=True, inputs=paths)
    folder.check()
    with clock.stage("load model"):
        extractor = options.load_extractor()
        mark = hashlib.sha256(f"{extractor.digest()} {settings.half}".encode()).hexdigest()
    with folder:
        run = _Extraction(folder, extractor, (options, settings), mark)
        with Bar(total=len(paths), desc="extract", unit="image") as progress:
            for batch in batches:
                with clock.stage("describe"):
                    run.describe(batch)
                progress.update(len(batch))
        facts = {
            "inputs": [str(path) for path in paths],
            "described": run.described,
            "found_finished": run.found,
        }
        record = run_record("extract", (options, settings), clock.seconds, facts)
        write_json(folder.file("run.json"), record)
    return [Path(output) / _name(path) for path in paths]


def _images_of(path: Path) -> list[Path]:
    if not is_dir(path):
        return [path]
    # Such as the files that macOS adds to folders.
    found = [file for file in input_files(path) if not file.name.startswith(".")]
    require(len(found) > 0, f"{path} is a folder without images: name images, or a folder of them")
    return found


def _check_names(paths: Sequence[Path]) -> None:
    require(len(paths) > 0, "give at least one image")
    stems = [path.stem for path in paths]
    twice = [stem for stem, count in Counter(stems).items() if count > 1]
    require(not twice, f"several images are called '{''.join(twice[:1])}': their files would clash")
    hidden = [stem for stem in stems if stem.startswith(".")]
    require(
        not hidden,
        f"the image '{''.join(hidden[:1])}' is a hidden file (its name starts with a point): its"
        " descriptors would be hidden too; rename it",
    )


def _batches(paths: Sequence[Path], batch_size: int) -> list[list[Path]]:
    """Images of one size together, in order; the same whatever is finished already."""
    by_size: dict[tuple[int, ...], list[Path]] = {}
    for path in paths:
        by_size.setdefault(read_image(path).shape, []).append(path)
    return [
        alike[start : start + batch_size]
        for alike in by_size.values()
        for start in range(0, len(alike), batch_size)
    ]


def _name(path: Path) -> str:
    return f"{path.stem}.safetensors"


class _Extraction:
    """The batches of one run, and of the runs before it that were killed."""

    def __init__(
        self,
        folder: OutputFolder,
        extractor: ModelDescriber,
        told: tuple[ModelOptions, ExtractSettings],
        mark: str,
    ) -> None:
        self.folder, self.extractor, self.told, self.mark = folder, extractor, told, mark
        self.described, self.found = 0, 0

    def describe(self, batch: Sequence[Path]) -> None:
        """Write the files of a batch that are not there yet."""
        missing = list(self._missing(batch))
        self.found += len(batch) - len(missing)
        if not missing:
            return
        # A batch that was finished in part keeps its size: on some machines the last bits of a
        # descriptor depend on it.
        pixels = [image for _, image, _ in missing]
        pixels += [pixels[-1]] * (len(batch) - len(missing))
        for (path, _, key), found in zip(missing, self.extractor.describe(pixels), strict=False):
            self._write(path, key, found)
            self.described += 1

    def _missing(self, batch: Sequence[Path]) -> Iterator[tuple[Path, npt.NDArray[np.uint8], str]]:
        for path in batch:
            image = read_image(path)
            key = DescriptorCache.key(self.mark, image)
            if not (self.folder.resumed and _is_finished(self.folder.file(_name(path)), key)):
                yield path, image, key

    def _write(self, path: Path, key: str, found: DescriptorMap) -> None:
        data = found.data.half() if self.told[1].half else found.data
        metadata = {
            "image": str(path),
            "height": str(found.height),
            "width": str(found.width),
            "cell_height": repr(found.cell_height),
            "cell_width": repr(found.cell_width),
            "config": json.dumps(to_dict(self.told)),
            "key": key,
        }
        write_tensors(self.folder.file(_name(path)), {"descriptors": data}, metadata)


def _is_finished(path: Path, key: str) -> bool:
    """Whether an earlier run wrote the descriptors of this image with this configuration."""
    try:
        tensors, metadata = read_tensors(path)
        whole = bool(tensors["descriptors"].isfinite().all())
    except FileNotFoundError:
        return False
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        _LOGGER.warning("%s is damaged (%s): it is computed again", path, error)
        return False
    return whole and metadata.get("key") == key
