"""Descriptors of image files, written as safetensors.

In: image files. Out: one `<stem>.safetensors` each, tensor `descriptors` (C, h, w), with sizes and
configuration in the metadata.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from warpkit.checks import require
from warpkit.io.config import to_dict
from warpkit.io.images import read_image
from warpkit.io.output import OutputFolder, run_record, write_json
from warpkit.jobs.options import ModelOptions
from warpkit.jobs.timing import Stopwatch

__all__ = ["ExtractConfig", "run_extract"]


@dataclass(frozen=True, kw_only=True)
class ExtractConfig(ModelOptions):
    """How descriptors are extracted.

    Attributes:
        half: store float16 instead of float32.
    """

    half: bool = False


def run_extract(
    images: Sequence[Path | str],
    output: Path | str,
    *,
    config: ExtractConfig | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Describe image files.

    Returns:
        The written files, in the order of the images.

    Raises:
        InputError: an image that cannot be read, two images of one stem, or an output folder that
            holds something.
    """
    from safetensors.torch import save_file

    config = config or ExtractConfig()
    require(len(images) > 0, "give at least one image")
    stems = [Path(image).stem for image in images]
    twice = [stem for stem, count in Counter(stems).items() if count > 1]
    require(not twice, f"several images are called '{''.join(twice[:1])}': their files would clash")
    hidden = [stem for stem in stems if stem.startswith(".")]
    require(
        not hidden,
        f"the image '{''.join(hidden[:1])}' is a hidden file (its name starts with a point): its"
        " descriptors would be hidden too; rename it",
    )
    clock = Stopwatch()
    # Every input is read once before anything is computed: a bad last file costs no time.
    for image in images:
        read_image(image)
    written = []
    with OutputFolder(output, overwrite=overwrite, inputs=images) as folder:
        with clock.stage("load model"):
            describer = config.load_extractor()
        for path, stem in zip(tqdm(images, desc="extract", disable=None), stems, strict=True):
            with clock.stage("describe"):
                found = describer.describe([read_image(path)])[0]
            data = found.data.half() if config.half else found.data
            metadata = {
                "image": str(path),
                "height": str(found.height),
                "width": str(found.width),
                "cell_height": repr(found.cell_height),
                "cell_width": repr(found.cell_width),
                "config": json.dumps(to_dict(config)),
            }
            name = f"{stem}.safetensors"
            save_file({"descriptors": data.cpu().contiguous()}, folder.file(name), metadata)
            written.append(Path(output) / name)
        facts = {"inputs": [str(image) for image in images]}
        write_json(folder.file("run.json"), run_record("extract", config, clock.seconds, facts))
    return written
