"""The files of a match: its JSON, its pictures, and the masks that were found for it.

In: where they go, and what was found. Out: all of them, or none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from warpkit.checks import is_file, require
from warpkit.image.pair import ImagePair
from warpkit.io.images import write_image
from warpkit.io.masks import write_labels
from warpkit.io.whole import write_json, written_together
from warpkit.runs.folder import check_result_file
from warpkit.types import Matches
from warpkit.viz import draw_matches, draw_similarity

__all__ = ["MatchFiles"]

_Name = Path | str | None


@dataclass(frozen=True)
class MatchFiles:
    """Where the results of a match go.

    Attributes:
        output, picture, similarity: the JSON and both pictures; None is not written.
        masks: `source_mask` and `target_mask`, where they may be found.
        former: masks beside a result that is replaced.
    """

    output: _Name
    picture: _Name
    similarity: _Name
    masks: Mapping[str, Path]
    former: Mapping[str, Path]

    @classmethod
    def checked(
        cls,
        output: _Name,
        picture: _Name,
        similarity: _Name,
        *,
        images: Sequence[Path | str],
        masks: Mapping[str, _Name],
        finds: bool,
        overwrite: bool,
    ) -> MatchFiles:
        """Files that can be written, before the work begins.

        Args:
            images: what is read.
            masks: `source_mask` and `target_mask` that are read; None may be found.
            finds: whether objects are looked for.

        Raises:
            InputError: a file exists, is an input or cannot be written, or two are the same.
        """
        results = [Path(name) for name in (output, picture, similarity) if name is not None]
        inputs = (*images, *masks.values())
        beside: dict[str, Path] = {}
        if output is not None:
            stem = Path(output).with_suffix("")
            beside = {name: stem.with_name(f"{stem.name}_{name}.png") for name in masks}
        places = {name: file for name, file in beside.items() if finds and masks[name] is None}
        written = (*results, *places.values())
        for path in written:
            check_result_file(path, overwrite=overwrite, inputs=inputs)
        require(
            len({path.resolve() for path in written}) == len(written),
            f"the results cannot share a file, got {', '.join(map(str, written))}",
        )
        former: dict[str, Path] = {}
        if overwrite and output is not None and is_file(output):
            others = {Path(path).resolve() for path in (*inputs, *results) if path is not None}
            former = {name: file for name, file in beside.items() if file.resolve() not in others}
        return cls(output, picture, similarity, places, former)

    def write(
        self,
        result: Mapping[str, Any],
        pair: ImagePair,
        found: Matches,
        *,
        drawn: torch.Tensor,
        similarity: npt.NDArray[np.float32] | None,
        found_masks: Collection[str],
    ) -> None:
        """Write all of them together; masks of a replaced result that were not found again go.

        Args:
            result: for the JSON.
            drawn: (N,), which matches the picture shows.
            similarity: float32 (H, W), of the first point to every pixel of the target.
            found_masks: which masks of the pair were found.
        """
        masks = {name: self.masks[name] for name in found_masks}
        files = (self.output, self.picture, self.similarity, *masks.values())
        source_xy, target_xy = found.source_xy.cpu(), found.target_xy[:, 0].cpu()
        with written_together(*files) as (file, drawing, map_file, *places):
            for name, place in zip(masks, places, strict=True):
                assert place is not None
                write_labels(place, getattr(pair, name).numpy().astype(np.uint8))
            if drawing is not None:
                valid = found.valid[:, 0].cpu()[drawn].numpy()
                ends = source_xy[drawn].numpy(), target_xy[drawn].numpy()
                write_image(drawing, draw_matches(pair.source, pair.target, *ends, valid))
            if map_file is not None:
                assert similarity is not None
                seen = draw_similarity(
                    pair.source, pair.target, source_xy[0], target_xy[0], similarity
                )
                write_image(map_file, seen)
            if file is not None:
                write_json(file, result)
        for name, former in self.former.items():
            if name not in masks and is_file(former):
                former.unlink()
