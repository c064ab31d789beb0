"""Warp the appearance of one image's object onto another image's object.

In: two images, optional masks. Out: the warped object, the composite, the dense field; as arrays
from `warp`, as a folder of files from `run_warp`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from warpkit.checks import check_image, check_mask, require
from warpkit.io.images import read_image, write_image
from warpkit.io.masks import read_labels
from warpkit.io.output import OutputFolder, run_record, write_json
from warpkit.jobs.options import ModelOptions, check_filters
from warpkit.jobs.timing import Stopwatch
from warpkit.jobs.watch import Watch, no_watch
from warpkit.match.matcher import Matcher
from warpkit.types import Describer, Warp
from warpkit.viz import add_scale, field_colors, heat, overlay_labels, panel, source_colors
from warpkit.warp.backward import backward_warp
from warpkit.warp.blend import blend
from warpkit.warp.field import dense_warp

__all__ = ["WarpConfig", "WarpResult", "run_warp", "warp", "warp_overview"]

_log = logging.getLogger("warpkit")

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class WarpConfig(ModelOptions):
    """How an image pair is warped.

    Attributes:
        interpolation: `bilinear` reads the source between pixels, `nearest` is the paper's.
        blend: how the warped object is put onto the target.
        feather: width of the feathered rim in pixels.
        min_similarity: matches below this cosine are dropped; None keeps all.
        mutual: keep only matches that are each other's nearest neighbour.
        cycle_distance: keep only matches that return to within so many target pixels.
        subpixel: move matches between pixels by a window soft-argmax.
        max_pairs: largest number of descriptor pairs that the engines `faiss` and `reference`
            compare; above it they match on a coarser lattice of pixels and the field is
            interpolated. The engine `grid` always matches all pixels.
    """

    interpolation: Literal["bilinear", "nearest"] = "bilinear"
    blend: Literal["paste", "feather", "poisson"] = "feather"
    feather: float = 4.0
    min_similarity: float | None = None
    mutual: bool = False
    cycle_distance: float | None = None
    subpixel: bool = False
    max_pairs: float = 4e9

    def __post_init__(self) -> None:
        check_filters(cycle_distance=self.cycle_distance, min_similarity=self.min_similarity)


@dataclass(frozen=True, eq=False)
class WarpResult:
    """A warped pair.

    Attributes:
        warped: uint8 (H, W, 4), the source's colours at the target's pixels; alpha 0 where the
            warp is not valid.
        composite: uint8 (H, W, 3), the target with the warped object on it.
        warp: the dense field, float32 on the CPU.
    """

    warped: Image
    composite: Image
    warp: Warp


def warp(
    source: Image,
    target: Image,
    *,
    describer: Describer,
    source_mask: Mask | None = None,
    target_mask: Mask | None = None,
    config: WarpConfig | None = None,
    matcher: Matcher | None = None,
    watch: Watch = no_watch,
) -> WarpResult:
    """Carry the source's appearance to the target, pixel by pixel.

    For every target pixel inside `target_mask` the most similar source pixel inside `source_mask`
    is found; its colour goes there. Pixels outside the target mask stay bit for bit.

    Args:
        source: uint8 RGB (Hs, Ws, 3).
        target: uint8 RGB (H, W, 3).
        describer: what describes images, e.g. `warpkit.load("tiny")`.
        source_mask: bool (Hs, Ws), the source object; None allows every pixel.
        target_mask: bool (H, W), the target object; None warps every pixel.
        config: how to warp; the model options of it are not used here.
        matcher: matching engine; None picks one.
        watch: hears of the three steps.

    Raises:
        InputError: images or masks of the wrong kind, size, or empty masks.
    """
    config = config or WarpConfig()
    check_image(source, "source")
    check_image(target, "target")
    if source_mask is not None:
        source_mask = check_mask(
            source_mask, height=source.shape[0], width=source.shape[1], name="source mask"
        )
    if target_mask is not None:
        target_mask = check_mask(
            target_mask, height=target.shape[0], width=target.shape[1], name="target mask"
        )
    pairs = _count(source_mask, source) * _count(target_mask, target)
    if matcher is not None and matcher.exhaustive and pairs > config.max_pairs:
        _log.info(
            "%.1e pixel pairs exceed max_pairs %.1e: the engine %s matches on a coarser lattice;"
            " masks or a larger max_pairs make it finer, the engine grid needs no limit",
            *(pairs, config.max_pairs, matcher.name),
        )
    watch("describing both images", 0, 3)
    source_map, target_map = describer.describe([source, target])
    watch("matching pixels", 1, 3)
    field = dense_warp(
        source_map,
        target_map,
        source_mask=_tensor(source_mask),
        target_mask=_tensor(target_mask),
        matcher=matcher,
        max_pairs=config.max_pairs,
        mutual=config.mutual,
        cycle_distance=config.cycle_distance,
        min_similarity=config.min_similarity,
        subpixel=config.subpixel,
    )
    field = Warp(
        field.source_xy.cpu(),
        field.similarity.cpu(),
        field.valid.cpu(),
        field.source_height,
        field.source_width,
    )
    watch("warping colours", 2, 3)
    colours = backward_warp(
        torch.from_numpy(source).permute(2, 0, 1).float(),
        field,
        interpolation=config.interpolation,
        source_mask=_tensor(source_mask),
    )
    rgb = colours.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    valid = field.valid.numpy()
    composite = blend(target, rgb, valid, mode=config.blend, feather_width=config.feather)
    warped = np.dstack([rgb, valid.astype(np.uint8) * 255])
    return WarpResult(warped, composite, field)


def run_warp(
    source: Path | str,
    target: Path | str,
    output: Path | str,
    *,
    source_mask: Path | str | None = None,
    target_mask: Path | str | None = None,
    config: WarpConfig | None = None,
    overwrite: bool = False,
    describer: Describer | None = None,
    watch: Watch = no_watch,
) -> WarpResult:
    """Warp two image files and write the results into a folder.

    Writes `warped.png` (RGBA), `composite.png`, `overview.png`, `warp.npz` (`source_xy` float32
    (H, W, 2), `similarity` float32 (H, W), `valid` bool (H, W)) and `run.json`.

    Args:
        describer: the model that `config` names, where it is loaded already.
        watch: hears of the steps.

    Raises:
        InputError: an input that cannot be used, or an output folder that holds something.
    """
    config = config or WarpConfig()
    clock = Stopwatch()
    if source_mask is None or target_mask is None:
        _log.info(
            "without masks of both objects all pixels are matched: give --source-mask and"
            " --target-mask to warp one object onto another"
        )
    images = {"source": read_image(source), "target": read_image(target)}
    masks: dict[str, Mask | None] = {
        "source": _read_mask(source_mask, images["source"], "source mask"),
        "target": _read_mask(target_mask, images["target"], "target mask"),
    }
    read = (source, target, source_mask, target_mask)
    with OutputFolder(output, overwrite=overwrite, inputs=read) as folder:
        with clock.stage("load model"):
            describer = describer or config.load_extractor()
        with clock.stage("warp"):
            result = warp(
                images["source"],
                images["target"],
                describer=describer,
                source_mask=masks["source"],
                target_mask=masks["target"],
                config=config,
                matcher=config.load_matcher(),
                watch=watch,
            )
        with clock.stage("write"):
            write_image(folder.file("warped.png"), result.warped)
            write_image(folder.file("composite.png"), result.composite)
            overview = warp_overview(
                images["source"],
                images["target"],
                result,
                source_mask=masks["source"],
                target_mask=masks["target"],
            )
            write_image(folder.file("overview.png"), overview)
            np.savez_compressed(
                folder.file("warp.npz"),
                source_xy=result.warp.source_xy.numpy().astype(np.float32),
                similarity=result.warp.similarity.numpy().astype(np.float32),
                valid=result.warp.valid.numpy(),
            )
        inputs: dict[str, Any] = {
            "source": str(source),
            "target": str(target),
            "source_mask": None if source_mask is None else str(source_mask),
            "target_mask": None if target_mask is None else str(target_mask),
        }
        facts = {"inputs": inputs, "valid_pixels": int(result.warp.valid.sum())}
        write_json(folder.file("run.json"), run_record("warp", config, clock.seconds, facts))
    return result


def warp_overview(
    source: Image,
    target: Image,
    result: WarpResult,
    *,
    source_mask: Mask | None = None,
    target_mask: Mask | None = None,
) -> Image:
    """One labelled picture of a warp: inputs with masks, result, field, similarity."""

    def outlined(image: Image, mask: Mask | None) -> Image:
        # The outline alone: the colours are what is carried.
        return image if mask is None else overlay_labels(image, mask.astype(np.uint8), alpha=0)

    field = result.warp
    valid = field.valid.numpy()
    similarity = field.similarity.numpy()
    low = float(similarity[valid].min()) if valid.any() else 0.0
    high = float(similarity[valid].max()) if valid.any() else 1.0
    heat_map = add_scale(
        heat(similarity, valid, low=low, high=high), low=low, high=high, label="cosine"
    )
    tiles = [
        ("source", outlined(source, source_mask)),
        ("target", outlined(target, target_mask)),
        ("composite", result.composite),
        ("source, coloured by place", source_colors(source, source_mask)),
        ("where pixels come from", field_colors(field, target)),
        ("similarity", heat_map),
    ]
    return panel(tiles, columns=3, height=300)


def _read_mask(path: Path | str | None, image: Image, name: str) -> Mask | None:
    if path is None:
        return None
    require(Path(path).is_file(), f"{name}: no file at {path}")
    labels = read_labels(path)
    return check_mask(
        labels > 0, height=image.shape[0], width=image.shape[1], name=f"{name} {path}"
    )


def _count(mask: Mask | None, image: Image) -> int:
    """Pixels that take part."""
    return image.shape[0] * image.shape[1] if mask is None else int(mask.sum())


def _tensor(mask: Mask | None) -> torch.Tensor | None:
    return None if mask is None else torch.from_numpy(mask)
