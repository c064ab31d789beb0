"""Warp the appearance of one image's object onto another image's object.

In: two images, optional masks. Out: the warped object, the composite, the dense field; as arrays
from `warp`, as a folder of files from `run_warp`.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from warpkit.arrays import Image, Mask
from warpkit.checks import require
from warpkit.coherent import CoherentConfig, FieldQuality, Guides, Mirror, coherent_field
from warpkit.describe.options import ModelOptions, TaskSettings
from warpkit.image.composite import composed
from warpkit.image.described import PairMaps, described_beside
from warpkit.image.found_masks import MaskChoice, with_found_masks
from warpkit.image.pair import ImagePair, read_mask_file
from warpkit.image.segment import check_finding, object_finder
from warpkit.image.warp_overview import warp_overview
from warpkit.io.config import flat
from warpkit.io.guides import read_guides
from warpkit.io.images import write_image
from warpkit.io.masks import write_labels
from warpkit.io.pictures import Levels, StoredPicture, read_picture, with_colors_of, write_picture
from warpkit.io.whole import write_json
from warpkit.match.matcher import Matcher, asked_matcher
from warpkit.match.settings import MatchFilters
from warpkit.runs.clock import Stopwatch
from warpkit.runs.folder import OutputFolder, run_record
from warpkit.runs.progress import ProgressCallback, no_progress
from warpkit.runs.threads import WriteBehind
from warpkit.types import Describer, DescriptorMap, Warp
from warpkit.warp.blend import BlendMode
from warpkit.warp.field import dense_warp
from warpkit.warp.tone import Shading, Tone

__all__ = ["WarpResult", "WarpSettings", "run_warp", "warp"]

_log = logging.getLogger("warpkit")


@dataclass(frozen=True, kw_only=True)
class WarpSettings(TaskSettings):
    """How an image pair is warped.

    Attributes:
        mask: what counts of a picture without a mask: `auto` finds its object, where that is sure
            in both; `none` takes the whole picture.
        segmenter: who finds it: `sam2`, `sam3`, `clipseg` or a folder of such a model; None is the
            foreground head.
        text: names it, for `sam3` and `clipseg`.
        field: `coherent` is solved whole and follows the object's shape; `nearest` takes every
            pixel's nearest neighbour by itself, as the paper does.
        mirror: whether a coherent field may take the source mirrored left-right: `auto` solves for
            both and takes the better.
        tolerance: of a coherent field: pixels that the way back misses by more are not valid, as a
            share of the longer side of the target's object.
        fill: put colours also where a coherent field is not valid, from the field as it goes on.
        layers: most motions that a coherent field has.
        interpolation: `bilinear` reads the source between pixels, and frees the object's rim of
            what is behind it there; `nearest` is the paper's.
        blend: how the warped object is put onto the target: `paste` replaces the pixels of its
            mask alone, `feather` takes the old object's colours out of the pixels beside it as
            well, `poisson` keeps the old object's colours at the edge.
        feather: of `feather`: over how many pixels it fades where the target's object goes on,
            at what is not warped.
        tone: `target` takes over how light the target's object is, and how much that varies over
            it; `keep` leaves the source's light.
        shading: `target` takes over the target's detail in lightness (folds, fur, highlights), so
            that the source gives the colours.
        strength: share of what is laid over, 0 to 1; 0 leaves the target as it is.
        filters: which matches count; a coherent field knows the least similarity alone.
    """

    mask: MaskChoice = "auto"
    segmenter: str | None = None
    text: str | None = None
    field: Literal["coherent", "nearest"] = "coherent"
    mirror: Mirror = "auto"
    tolerance: float = 0.1
    fill: bool = True
    layers: int = 4
    interpolation: Literal["bilinear", "nearest"] = "bilinear"
    blend: BlendMode = "feather"
    feather: float = 4.0
    tone: Tone = "keep"
    shading: Shading = "none"
    strength: float = 1.0
    filters: MatchFilters = flat(MatchFilters)

    def __post_init__(self) -> None:
        self.coherent()
        check_finding(self.mask, self.segmenter, self.text)
        require(
            0 <= self.strength <= 1, f"strength must lie between 0 and 1, got {self.strength:g}"
        )
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

    Both images are uint16 where the source or the target is, in the target's colour space.

    Attributes:
        warped: uint8 (H, W, 4), the source's colours at the target's pixels; alpha 0 where there
            are none: where the warp is not valid and was not filled.
        composite: uint8 (H, W, 3), the target with the warped object on it; (H, W, 4) with the
            target's alpha, where it has one.
        warp: the dense field, float32 on the CPU; its `valid` says where the way back agrees,
            filled or not.
        quality: how good a coherent field is; None for nearest neighbours.
        doubt: why the warp is likely bad and what helps, one line; None if it is not.
    """

    warped: Levels
    composite: Levels
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
    """Warp the source's appearance onto the target, pixel by pixel.

    For every target pixel inside `target_mask` the source pixel inside `source_mask` that shows the
    same is found; its colour goes there. Pixels more than two outside the target mask stay bit for
    bit (`blend: feather`), or all outside it.

    Args:
        source: uint8 or uint16 RGB (Hs, Ws, 3), or with alpha (Hs, Ws, 4): what is less than half
            opaque is not there.
        target: uint8 or uint16 RGB (H, W, 3), or with alpha (H, W, 4), likewise.
        describer: what describes images, e.g. `warpkit.load("tiny")`.
        source_mask: bool (Hs, Ws), the source object; None allows every opaque pixel.
        target_mask: bool (H, W), the target object; None warps every opaque pixel.
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
    pair = _outlined(pair, settings, "cpu")
    maps = partial(pair.describe, describer, mirrored=_flipped(pair, settings))
    return _warp_pair(pair, maps, settings, matcher, progress)


def _outlined(pair: ImagePair, settings: WarpSettings, device: str) -> ImagePair:
    """The pair with the masks that can be found, where one is missing."""
    if settings.mask == "auto" and (pair.source_mask is None or pair.target_mask is None):
        finder = object_finder(device, segmenter=settings.segmenter, text=settings.text)
        return with_found_masks(pair, finder)
    return pair


def _flipped(pair: ImagePair, settings: WarpSettings) -> Image | None:
    """The image that is described mirrored as well."""
    return pair.source if settings.field == "coherent" and settings.mirror != "never" else None


def _warp_pair(
    pair: ImagePair,
    maps: Callable[[], PairMaps],
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
        source_map, target_map, mirrored = maps()
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
        source_map, target_map, _ = maps()
        progress("matching pixels", 1, 3)
        field = shown = _nearest_field(pair, source_map, target_map, settings, matcher)
    progress("warping colours", 2, 3)
    warped, composite = composed(
        pair,
        shown,
        interpolation=settings.interpolation,
        blend=settings.blend,
        feather=settings.feather,
        tone=settings.tone,
        shading=settings.shading,
        strength=settings.strength,
    )
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
    (H, W, 2), `similarity` float32 (H, W), `valid` bool (H, W)) and `run.json`; `source_mask.png`
    and `target_mask.png` where they were found. What is shown where the way back disagrees is
    opaque in `warped.png` and not `valid`. The first two have 16 bits per channel where an input
    has, and the target's colour profile, which the source is converted to.

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
    clock = Stopwatch("find masks", "load model")
    given = read_guides(guides) if isinstance(guides, str | Path) else guides
    names = f"source mask {source_mask}", f"target mask {target_mask}"
    pictures = _same_colors(read_picture(source), read_picture(target))
    pair = ImagePair.checked(
        *pictures,
        source_mask=read_mask_file(source_mask, "source mask"),
        target_mask=read_mask_file(target_mask, "target mask"),
        guides=given,
        field=settings.field,
        names=names,
    )
    read = [source, target, source_mask, target_mask]
    if isinstance(guides, str | Path) and Path(guides).suffix.lower() in (".csv", ".json"):
        read.append(guides)
    asked = pair
    with (
        OutputFolder(output, overwrite=overwrite, inputs=read) as folder,
        described_beside(
            asked, options, describer, mirrored=_flipped(asked, settings), clock=clock
        ) as maps,
    ):
        with clock.stage("find masks"):
            pair = _outlined(asked, settings, options.device)
        with clock.stage("warp"):
            result = _warp_pair(pair, maps, settings, matcher, progress)
        with clock.stage("write"), WriteBehind(depth=8) as writer:
            profile = pictures[1].profile
            writer.do(write_picture, folder.file("warped.png"), result.warped, profile)
            writer.do(write_picture, folder.file("composite.png"), result.composite, profile)
            for name in ("source_mask", "target_mask"):
                found = getattr(pair, name)
                if found is not getattr(asked, name):
                    labels = found.numpy().astype(np.uint8)
                    writer.do(write_labels, folder.file(f"{name}.png"), labels)
            writer.do(_write_field, folder.file("warp.npz"), result.warp)
            overview = warp_overview(
                pair.source,
                pair.target,
                result.warped,
                result.composite,
                result.warp,
                result.quality,
                source_mask=_array(pair.source_mask),
                target_mask=_array(pair.target_mask),
            )
            write_image(folder.file("overview.png"), overview)
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


def _write_field(path: Path, field: Warp) -> None:
    np.savez_compressed(
        path,
        source_xy=field.source_xy.numpy().astype(np.float32),
        similarity=field.similarity.numpy().astype(np.float32),
        valid=field.valid.numpy(),
    )


def _same_colors(
    source: StoredPicture, target: StoredPicture
) -> tuple[StoredPicture, StoredPicture]:
    """Both in the target's colour space."""
    source, said = with_colors_of(source, target)
    if said is not None:
        _log.warning("%s", said)
    return source, target


def _array(mask: torch.Tensor | None) -> Mask | None:
    return None if mask is None else mask.numpy()
