"""The settings of every stage of a synthesis."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from warpkit.checks import require
from warpkit.warp.known import KnownWarpConfig

__all__ = [
    "FORMATS",
    "FilterConfig",
    "Format",
    "GenerationConfig",
    "MaskConfig",
    "MaskKind",
    "PairLabelConfig",
    "PairSettings",
    "QualityConfig",
    "SlotConfig",
    "SplitConfig",
]

MaskKind = Literal["auto", "found", "given", "whole"]
Format = Literal["spair", "dhf", "coco", "webdataset", "parquet"]
FORMATS: tuple[Format, ...] = ("spair", "dhf", "coco", "webdataset", "parquet")


@dataclass(frozen=True, kw_only=True)
class SlotConfig:
    """A place in the template that takes one of several texts.

    Attributes:
        name: the template says `{name}`.
        values: the texts.
    """

    name: str
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        require(len(self.values) > 0, f"slot '{self.name}' needs at least one value")
        require(self.name.isidentifier() and self.name != "class", f"no slot name: '{self.name}'")


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """What is generated, and how.

    Attributes:
        classes: what fills `{class}` of the template; the pair's category. For the embedded model
            these are names of its classes.
        template: a prompt with slots in braces.
        slots: what fills the other slots; the first image of a pair takes one filling, the second
            another.
        prompts: a text file in place of all these: one prompt per line, or `category<TAB>prompt`.
        negative_prompt: of the guidance.
        guidance: scale of classifier-free guidance; 1 runs without it, one call of the
            network a step less.
        pag_scale: of perturbed-attention guidance, which keeps objects in one piece; 0 runs without
            (see `DiffusionBackbone.generate`).
        steps: DDIM steps of a generation; None takes the model's. Another number than the model's
            works where its aggregator reads the last step alone.
        skip: noisiest steps that an image from noise leaves out, for a schedule that ends in noise
            alone: there a small model adds nothing but a colour.
        eta: 0 is DDIM; 1 draws noise anew in every step (ancestral sampling), which small pixel
            models need for natural colours.
        seed: all seeds follow from it and the pair's id.
        variant: how the two images differ. `seeds`: two seeds. `prompt`: one seed, and another
            filling of the slots or another prompt of the category. `image`: the second image starts
            from the first with noise (image-to-image), the easiest.
        strength: of `image`: share of the steps that are run again, above 0 and below 1.
        features: `run` takes descriptors from the very run that generated an image; `image`
            describes the finished image as any photograph.
    """

    classes: tuple[str, ...] = ("Motorbikes", "airplanes", "car_side", "Faces")
    template: str = "{class}"
    slots: tuple[SlotConfig, ...] = ()
    prompts: Path | None = None
    negative_prompt: str = ""
    guidance: float = 4.0
    pag_scale: float = 0.0
    steps: int | None = None
    skip: int = 0
    eta: float = 0.0
    seed: int = 0
    variant: Literal["seeds", "prompt", "image"] = "seeds"
    strength: float = 0.5
    features: Literal["run", "image"] = "run"

    def __post_init__(self) -> None:
        require(self.guidance >= 1, f"guidance is 1 (none) or more, got {self.guidance:g}")
        require(self.pag_scale >= 0, f"pag_scale is 0 (none) or more, got {self.pag_scale:g}")
        require(0 <= self.eta <= 1, f"eta lies between 0 and 1, got {self.eta:g}")
        require(self.skip >= 0, f"skip is a number of steps, 0 or more, got {self.skip}")
        require(self.steps is None or self.steps >= 1, f"steps must be positive, got {self.steps}")
        require(
            0 < self.strength < 1,
            f"strength is a share of the steps between 0 and 1, got {self.strength:g}",
        )
        require(
            self.prompts is not None or len(self.classes) > 0,
            "nothing to generate: give classes or a prompts file",
        )


@dataclass(frozen=True, kw_only=True)
class MaskConfig:
    """Where the objects are.

    Attributes:
        kind: `auto` finds the object as `warp` does; `found` clusters descriptors and refines by
            GrabCut; `given` reads masks; `whole` takes the whole image. None is `auto` for
            photographs, and `found` for generated images or where `clusters` or `iterations` are
            set.
        segmenter: who finds it in place of the foreground head (`auto`): `sam2`, `sam3`,
            `clipseg` or a folder of such a model; the latter two look for the category's name.
        folder: of `given`: a mask for every image, `<category>/<stem>.png` as the images lie.
        clusters: of `found`: groups of descriptors; None is 6.
        iterations: of `found`: of GrabCut; 0 leaves the clusters as they are, None is 4.
        smallest: an object covers at least this share of its image, else the pair is dropped.
        largest: and at most this share (`auto`, `found`).
        least_trust: a pair with a mask of less trust is dropped; 0 keeps all. Trust is 0 to 1: of
            `auto`, how far zoomed and mirrored views agree on the mask; of `found`, the share of
            descriptors that are more like their own side of the outline. Above 0 it drops whatever
            else is doubtful about a mask of `auto`, too.
    """

    kind: MaskKind | None = None
    segmenter: str | None = None
    folder: Path | None = None
    clusters: int | None = None
    iterations: int | None = None
    smallest: float = 0.03
    largest: float = 0.9
    least_trust: float = 0.0

    def __post_init__(self) -> None:
        require(
            (self.kind == "given") == (self.folder is not None),
            "masks.folder belongs to masks.kind: given (and is needed there)",
        )
        by_clusters = self.clusters is not None or self.iterations is not None
        require(
            self.kind in (None, "found") or not by_clusters,
            f"masks.clusters and masks.iterations belong to masks.kind: found, got {self.kind}",
        )
        require(
            self.segmenter is None or (self.kind in (None, "auto") and not by_clusters),
            "masks.segmenter belongs to masks.kind: auto, without clusters and iterations",
        )
        require(
            self.clusters is None or self.clusters >= 2,
            f"clusters must be 2 or more, got {self.clusters}",
        )
        require(
            self.iterations is None or self.iterations >= 0,
            f"iterations must be 0 or more, got {self.iterations}",
        )
        require(
            0 <= self.smallest < self.largest <= 1,
            f"an object covers from smallest to largest of 0..1, got {self.smallest:g} to"
            f" {self.largest:g}",
        )
        require(
            0 <= self.least_trust <= 1,
            f"least_trust is a share between 0 and 1, got {self.least_trust:g}",
        )


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """Which matches are kept. Filters run in the order given here; null is off.

    Lengths are shares of the object: the longer side of its mask's box in the image where the
    length is measured. docs/synthesize.md has the curve that the defaults were chosen from.

    Attributes:
        similarity: least cosine.
        cycle: largest distance to which the way back leads; 0 keeps matches that are each other's
            best.
        ratio: largest distance ratio to the best competitor (see `warpkit.match.distance_ratio`).
        exclusion: competitors lie farther than this from the match.
        flip: largest distance to the match found in the mirrored target: ghosts on the other side
            of a symmetric object move. Its descriptors cost as much as an image's own.
        coherence: largest distance to where the coherent field of the pair leads (see
            `warpkit.coherent`): one smooth motion of the whole object.
        affine: largest distance from where the neighbouring matches would take the point.
    """

    FORMER_KEYS: ClassVar = {"mutual": "cycle: 0"}

    similarity: float | None = None
    cycle: float | None = 0.02
    ratio: float | None = 0.7
    exclusion: float = 0.15
    flip: float | None = None
    coherence: float | None = 0.02
    affine: float | None = 0.02

    def __post_init__(self) -> None:
        for name in ("cycle", "ratio", "flip", "coherence", "affine"):
            value = getattr(self, name)
            require(
                value is None or value >= 0,
                f"filters.{name} must be 0 or more, or null, got {value}",
            )
        require(
            self.similarity is None or -1 <= self.similarity <= 1,
            f"filters.similarity is a cosine between -1 and 1, or null, got {self.similarity}",
        )
        require(self.exclusion > 0, f"filters.exclusion must be positive, got {self.exclusion}")


@dataclass(frozen=True, kw_only=True)
class PairLabelConfig:
    """Which points of a pair are labelled.

    Attributes:
        points: most points a pair, spread by farthest-point sampling.
        least: a pair with fewer is dropped.
        stride: distance in pixels of the places that are matched; None is a descriptor's cell.
        filters: which matches are kept.
        dense: also store the backward field of the target's object, filtered by `cycle`.
    """

    points: int = 32
    least: int = 6
    stride: int | None = None
    filters: FilterConfig = field(default_factory=FilterConfig)
    dense: bool = False

    def __post_init__(self) -> None:
        require(
            1 <= self.least <= self.points,
            f"least must lie in 1..points ({self.points}), got {self.least}",
        )
        require(self.stride is None or self.stride > 0, f"stride must be positive: {self.stride}")


@dataclass(frozen=True, kw_only=True)
class QualityConfig:
    """How the labels are checked on known warps of the set's own images.

    Attributes:
        images: how many images; 0 measures nothing.
        sheets: contact sheets of 12 pairs each.
    """

    images: int = 24
    sheets: int = 4

    def __post_init__(self) -> None:
        require(min(self.images, self.sheets) >= 0, "images and sheets are 0 or more")


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """Shares of the pairs that are kept for validation and test.

    A pair's split follows from its id, a photograph's from its name, and no photograph is in two.
    """

    val: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        require(
            min(self.val, self.test) >= 0 and self.val + self.test < 1,
            f"splits.val and splits.test are shares that leave some for training, got {self.val:g}"
            f" and {self.test:g}",
        )


@dataclass(frozen=True, kw_only=True)
class PairSettings:
    """All that decides what a pair holds.

    Attributes:
        images: folder of photographs to pair (one folder per category, or all in one), in place of
            generated images; they are described by inversion.
        known_warps: the first image of a pair is the second bent by a random known warp, and labels
            are exact.
        side: longer side to which photographs are reduced, in pixels; null keeps them as they are.
        generation, masks, labels: see there.
        warp: how strong known warps are.
        jitter: strength of the change of colours that goes with a known warp, 0 to 1.
        suffix: images are stored as `jpg` (quality 95) or `png`.
        threads: threads of torch while pairs are made; another number may change the last digits.
        batch: pairs that are made together, and kept together by a run that is killed.
    """

    images: Path | None = None
    known_warps: bool = False
    side: int | None = 512
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    masks: MaskConfig = field(default_factory=MaskConfig)
    labels: PairLabelConfig = field(default_factory=PairLabelConfig)
    warp: KnownWarpConfig = field(default_factory=KnownWarpConfig)
    jitter: float = 0.5
    suffix: Literal["jpg", "png"] = "jpg"
    threads: int = 1
    batch: int = 4

    @property
    def mask_kind(self) -> MaskKind:
        """Where the objects come from, decided."""
        masks = self.masks
        if masks.kind is not None:
            return masks.kind
        if masks.segmenter is not None:
            return "auto"
        by_clusters = masks.clusters is not None or masks.iterations is not None
        return "found" if self.images is None or by_clusters else "auto"

    def __post_init__(self) -> None:
        require(
            self.masks.kind != "given" or self.images is not None,
            "masks.kind: given belongs to photographs (--images DIR): generated images have none",
        )
        require(self.batch > 0, f"batch must be at least one pair, got {self.batch}")
        require(self.threads > 0, f"threads must be at least one, got {self.threads}")
        require(0 <= self.jitter <= 1, f"jitter must lie in 0..1, got {self.jitter:g}")
        require(self.side is None or self.side >= 16, f"side must be 16 or more, got {self.side}")
