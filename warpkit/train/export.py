"""`warpkit train export`: an aggregator of ours in the layout of the published files."""

from __future__ import annotations

import logging
from pathlib import Path

from warpkit.aggregate.checkpoint import load_aggregator, save_published
from warpkit.checks import require
from warpkit.io.images import check_target

__all__ = ["run_export"]

_LOGGER = logging.getLogger("warpkit")


def run_export(checkpoint: Path, output: Path, *, overwrite: bool = False) -> None:
    """Write a checkpoint in the layout that Diffusion Hyperfeatures' own code reads.

    Args:
        checkpoint: any aggregator that `load_aggregator` reads.
        output: the `.pt` file.
        overwrite: replace a file that is there.

    Raises:
        InputError: no such checkpoint, or an output that exists or cannot be written.
    """
    require(
        output.suffix != ".safetensors",
        f"{output}: the published layout is a PyTorch file, name it FILE.pt",
    )
    check_target(output)
    require(overwrite or not output.exists(), f"{output} exists: give --overwrite to replace it")
    network = load_aggregator(checkpoint)
    save_published(output, network)
    if network.config.order != "resize-first":
        _LOGGER.warning(
            "%s was trained bottleneck-first: warpkit reads the export as it is, but the authors'"
            " own code would compute other descriptors from it",
            checkpoint,
        )
