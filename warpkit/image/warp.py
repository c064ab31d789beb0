"""Warp the appearance of one image's object onto another image's object.

In: two images, optional masks. Out: the warped object, the composite, the dense field; as arrays
from `warp`, as a folder of files from `run_warp`.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from warpkit.arrays import Image, Mask
from warpkit.checks import require
from warpkit.coherent import CoherentConfig, FieldQuality, Guides, Mirror, coherent_field
from warpkit.describe.options import ModelOptions, TaskSettings
from warpkit.image.pair import ImagePair, read_mask_file, read_source
from warpkit.io.config import flat
from warpkit.io.guides import read_guides
from warpkit.io.images import read_image, write_image
from warpkit.io.whole import write_json
from warpkit.match.matcher import Matcher, asked_matcher
from warpkit.match.settings import MatchFilters
from warpkit.runs.clock import Stopwatch
from warpkit.runs.folder import OutputFolder, run_record
from warpkit.runs.progress import ProgressCallback, no_progress
from warpkit.types import Describer, DescriptorMap, Warp
from warpkit.viz import add_scale, field_colors, heat, overlay_labels, panel, source_colors
from warpkit.warp.backward import backward_warp
from warpkit.warp.blend import lay_over
from warpkit.warp.field import dense_warp

__all__ = ["WarpResult", "WarpSettings", "quality_words", "run_warp", "warp", "warp_overview"]

_log = logging.getLogger("warpkit")


@dataclass(frozen=True, kw_only=True)
class WarpSettings(TaskSettings):
    """How an image pair is warped.

    Attributes:
        field: `coherent` is solved whole and follows the object's shape; `nearest` takes every
            pixel's nearest neighbour by itself, as the paper does.
        mirror: whether a coherent field may take the source mirrored left-right: `auto` solves for
            both and takes the better.
        tolerance: of a coherent field: pixels that the way back misses by more are not valid, as a
            share of the longer side of the target's object.
        fill: put colours also where a coherent field is not valid, from the field as it goes on.
        layers: most motions that a coherent field has.
        interpolation: `bilinear` reads the source between pixels, `nearest` is the paper's.
        blend: how the warped object is put onto the target.
        feather: width of the feathered rim in pixels.
        filters: which matches count; a coherent field knows the least similarity alone.
    """

    field: Literal["coherent", "nearest"] = "coherent"
    mirror: Mirror = "auto"
    tolerance: float = 0.1
    fill: bool = True
    layers: int = 4
    interpolation: Literal["bilinear", "nearest"] = "bilinear"
    blend: Literal["paste", "feather", "poisson"] = "feather"
    feather: float = 4.0
    filters: MatchFilters = flat(MatchFilters)

    def __post_init__(self) -> None:
        self.coherent()
        if self.field == "coherent":
            for name in ("mutual", "subpixel", "cycle_distance"):
                require(
                    not getattr(self.filters, name),
                    f"{name} belongs to nearest neighbours: add --field nearest (a coherent field"
                    " is smooth between pixels and has a tolerance of its own)",
                )

    def coherent(self) -> CoherentConfig:
        """How a coherent field is solved."""
        return CoherentConfig(mirror=self.mirror, tolerance=self.tolerance, layers=self.layers)


@dataclass(frozen=True, eq=False)
class WarpResult:
    """A warped pair.

    Attributes:
        warped: uint8 (H, W, 4), the source's colours at the target's pixels; alpha 0 where there
            are none: where the warp is not valid and was not filled.
        composite: uint8 (H, W, 3), the target with the warped object on it.
        warp: the dense field, float32 on the CPU; its `valid` says what is trusted, filled or not.
        quality: how good a coherent field is; None for nearest neighbours.
        doubt: why the warp is likely bad and what helps, one line; None if it is not.
    """

    warped: Image
    composite: Image
    warp: Warp
    quality: FieldQuality | None = None
    doubt: str | None = None


def warp(
    source: Image,
    target: Image,
    *,
    describer: Describer,
    source_mask: Mask | None = None,
    target_mask: Mask | None = None,
    guides: npt.ArrayLike | Guides | None = None,
    settings: WarpSettings | None = None,
    matcher: Matcher | None = None,
    progress: ProgressCallback = no_progress,
) -> WarpResult:
    """Carry the source's appearance to the target, pixel by pixel.

    For every target pixel inside `target_mask` the source pixel inside `source_mask` that shows the
    same is found; its colour goes there. Pixels outside the target mask stay bit for bit.

    Args:
        source: uint8 RGB (Hs, Ws, 3).
        target: uint8 RGB (H, W, 3).
        describer: what describes images, e.g. `warpkit.load("tiny")`.
        source_mask: bool (Hs, Ws), the source object; None allows every pixel.
        target_mask: bool (H, W), the target object; None warps every pixel.
        guides: pairs of points (G, 2, 2) that belong together, `(x, y)` pixels, source first; a
            coherent field meets them.
        settings: how to warp.
        matcher: engine that searches nearest neighbours; None picks one.
        progress: hears of the three steps.

    Raises:
        InputError: images, masks or guides of the wrong kind or size, or empty masks.
    """
    settings = settings or WarpSettings()
    pair = ImagePair.checked(
        source,
        target,
        source_mask=source_mask,
        target_mask=target_mask,
        guides=guides,
        field=settings.field,
    )
    return _warp_pair(pair, describer, settings, matcher, progress)


def _warp_pair(
    pair: ImagePair,
    describer: Describer,
    settings: WarpSettings,
    matcher: Matcher | None,
    progress: ProgressCallback,
) -> WarpResult:
    """`warp` of what was checked."""
    progress("describing both images", 0, 3)
    quality: FieldQuality | None = None
    if settings.field == "coherent":
        if matcher is not None:
            _log.info(
                "the engine %s searches nearest neighbours, a coherent field does not: --field"
                " nearest uses it",
                matcher.name,
            )
        flipped = None if settings.mirror == "never" else pair.source
        source_map, target_map, mirrored = pair.describe(describer, mirrored=flipped)
        progress("matching pixels", 1, 3)
        solved = coherent_field(
            source_map,
            target_map,
            mirrored=mirrored,
            source_mask=pair.source_mask,
            target_mask=pair.target_mask,
            guides=pair.guides,
            config=settings.coherent(),
        )
        quality = solved.quality
        field = _limited(solved.warp(), settings.filters.min_similarity)
        shown = (
            _limited(solved.warp(fill=True), settings.filters.min_similarity)
            if settings.fill
            else field
        )
    else:
        source_map, target_map, _ = pair.describe(describer)
        progress("matching pixels", 1, 3)
        field = shown = _nearest_field(pair, source_map, target_map, settings, matcher)
    progress("warping colours", 2, 3)
    colours = backward_warp(
        torch.from_numpy(pair.source).permute(2, 0, 1).float(),
        shown,
        interpolation=settings.interpolation,
        source_mask=pair.source_mask,
    )
    rgb = colours.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    covered = shown.valid.numpy()
    composite = lay_over(
        pair.target, rgb, covered, mode=settings.blend, feather_width=settings.feather
    )
    warped = np.dstack([rgb, covered.astype(np.uint8) * 255])
    # Places that were filled stay in the field: it can be read, and shown, whole.
    whole = dataclasses.replace(field, source_xy=shown.source_xy)
    doubt = None
    if quality is not None:
        masked = pair.source_mask is not None and pair.target_mask is not None
        doubt = quality.doubt(masked=masked, guided=pair.guides is not None)
    return WarpResult(warped, composite, whole, quality, doubt)


def _limited(field: Warp, min_similarity: float | None) -> Warp:
    """A field on the CPU, without what is below the least similarity."""
    valid = field.valid
    if min_similarity is not None:
        valid = valid & (field.similarity >= min_similarity)
    return Warp(
        (field.source_xy * valid[..., None]).cpu(),
        (field.similarity * valid).cpu(),
        valid.cpu(),
        field.source_height,
        field.source_width,
    )


def _nearest_field(
    pair: ImagePair,
    source: DescriptorMap,
    target: DescriptorMap,
    settings: WarpSettings,
    matcher: Matcher | None,
) -> Warp:
    """The field of nearest neighbours, on the CPU."""
    sizes = [
        at.height * at.width if mask is None else int(mask.sum())
        for at, mask in ((source, pair.source_mask), (target, pair.target_mask))
    ]
    pairs = sizes[0] * sizes[1]
    if matcher is not None and matcher.exhaustive and pairs > settings.filters.max_pairs:
        _log.info(
            "%.1e pixel pairs exceed max_pairs %.1e: the engine %s matches on a coarser lattice;"
            " masks or a larger max_pairs make it finer, the engine grid needs no limit",
            *(pairs, settings.filters.max_pairs, matcher.name),
        )
    found = dense_warp(
        source,
        target,
        source_mask=pair.source_mask,
        target_mask=pair.target_mask,
        matcher=matcher,
        filters=settings.filters,
    )
    return _limited(found, None)


def run_warp(
    source: Path | str,
    target: Path | str,
    output: Path | str,
    *,
    source_mask: Path | str | None = None,
    target_mask: Path | str | None = None,
    guides: Path | str | npt.ArrayLike | None = None,
    settings: WarpSettings | None = None,
    options: ModelOptions | None = None,
    overwrite: bool = False,
    describer: Describer | None = None,
    progress: ProgressCallback = no_progress,
) -> WarpResult:
    """Warp two image files and write the results into a folder.

    Writes `warped.png` (RGBA), `composite.png`, `overview.png`, `warp.npz` (`source_xy` float32
    (H, W, 2), `similarity` float32 (H, W), `valid` bool (H, W)) and `run.json`. What is
    shown but not trusted is opaque in `warped.png` and not `valid`.

    Args:
        guides: pairs of points, or a text or file of them (see `io.guides.read_guides`).
        settings: how to warp.
        options: the model, and the engine that searches nearest neighbours.
        describer: that model, where it is loaded already.
        progress: hears of the steps.

    Raises:
        InputError: an input that cannot be used, or an output folder that holds something.
    """
    settings, options = settings or WarpSettings(), options or ModelOptions()
    matcher = asked_matcher(options.engine)
    clock = Stopwatch()
    if source_mask is None or target_mask is None:
        _log.info(
            "without masks of both objects all pixels are matched: give --source-mask and"
            " --target-mask to warp one object onto another"
        )
    given = read_guides(guides) if isinstance(guides, str | Path) else guides
    names = f"source mask {source_mask}", f"target mask {target_mask}"
    pair = ImagePair.checked(
        read_source(source, masked=source_mask is not None),
        read_image(target),
        source_mask=read_mask_file(source_mask, "source mask"),
        target_mask=read_mask_file(target_mask, "target mask"),
        guides=given,
        field=settings.field,
        names=names,
    )
    read = [source, target, source_mask, target_mask]
    if isinstance(guides, str | Path) and Path(guides).suffix.lower() in (".csv", ".json"):
        read.append(guides)
    with OutputFolder(output, overwrite=overwrite, inputs=read) as folder:
        with clock.stage("load model"):
            describer = describer or options.load_extractor()
        with clock.stage("warp"):
            result = _warp_pair(pair, describer, settings, matcher, progress)
        with clock.stage("write"):
            write_image(folder.file("warped.png"), result.warped)
            write_image(folder.file("composite.png"), result.composite)
            overview = warp_overview(
                pair.source,
                pair.target,
                result,
                source_mask=_array(pair.source_mask),
                target_mask=_array(pair.target_mask),
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
        if given is not None:
            inputs["guides"] = np.asarray(given, np.float32).tolist()
        facts: dict[str, Any] = {"inputs": inputs, "valid_pixels": int(result.warp.valid.sum())}
        if result.quality is not None:
            facts["quality"] = dataclasses.asdict(result.quality)
        record = run_record("warp", (options, settings), clock.seconds, facts)
        write_json(folder.file("run.json"), record)
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

    # Tiles are small: large pictures are thinned before anything is coloured.
    step, there = (max(1, image.shape[0] // 600) for image in (source, target))
    source, target = source[::step, ::step], target[::there, ::there]
    source_mask = None if source_mask is None else source_mask[::step, ::step]
    target_mask = None if target_mask is None else target_mask[::there, ::there]
    field = _thinned(result.warp, there)
    valid = field.valid.numpy()
    opaque = torch.from_numpy(result.warped[::there, ::there, 3] > 0)
    shown = dataclasses.replace(field, valid=opaque)
    similarity = field.similarity.numpy()
    low = float(similarity[valid].min()) if valid.any() else 0.0
    high = float(similarity[valid].max()) if valid.any() else 1.0
    heat_map = add_scale(
        heat(similarity, valid, low=low, high=high), low=low, high=high, label="cosine"
    )
    tiles = [
        ("source", outlined(source, source_mask)),
        ("target", outlined(target, target_mask)),
        ("composite", result.composite[::there, ::there]),
        ("source, coloured by place", source_colors(source, source_mask)),
        (_field_title(result.quality), field_colors(shown, target)),
        ("similarity", heat_map),
    ]
    return panel(tiles, columns=3, height=300)


def _thinned(field: Warp, step: int) -> Warp:
    """Every `step`-th row and column of a warp."""
    return dataclasses.replace(
        field,
        source_xy=field.source_xy[::step, ::step],
        similarity=field.similarity[::step, ::step],
        valid=field.valid[::step, ::step],
    )


def _field_title(quality: FieldQuality | None) -> str:
    if quality is None:
        return "where pixels come from"
    mirrored = ", mirrored" if quality.mirrored else ""
    return (
        f"where from{mirrored}: {quality.consistent:.0%} confirmed, {quality.folds:.1f} % folds,"
        f" cosine {quality.cosine:.2f}"
    )


def quality_words(quality: FieldQuality) -> str:
    """The figures of a field in one line."""
    words = (
        f"cosine {quality.cosine:.2f}, the way back agrees for {quality.consistent:.0%}"
        f" (off by {quality.inverse_error:.1f} px on average), {quality.inside:.0%} inside the"
        f" source's mask, folds {quality.folds:.1f} %, SD log J {quality.sd_log_j:.2f}"
    )
    if quality.mirrored:
        words += ", source mirrored"
    if quality.unmet:
        missed = ", ".join(str(i + 1) for i in quality.unmet)
        words += f"; guide {missed} is not met: it contradicts the others"
    return words


def _array(mask: torch.Tensor | None) -> Mask | None:
    return None if mask is None else mask.numpy()
