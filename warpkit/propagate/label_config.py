"""How labels are propagated."""

from __future__ import annotations

from dataclasses import dataclass

from warpkit.checks import require

__all__ = ["LabelConfig", "label_memory"]


@dataclass(frozen=True)
class LabelConfig:
    """How labels are propagated. docs/video.md says how the defaults were chosen.

    Attributes:
        context: how many of the last frames' predictions are context, beside the annotated ones.
        top_k: how many context cells a cell takes its labels from, over all frames jointly.
        temperature: affinity is `exp(similarity / temperature)`.
        radius: half side of the square window around a cell, as a part of the image's short side,
            so that it means the same on every grid (12 of 60 cells is 0.2); rounded to whole
            cells, at least one.
        window_annotated: whether the window holds for annotated frames too.
        annotated_bias: added to the similarity of cells of annotated frames, so that they win over
            predictions that are about as similar: labels drift less, and an object that comes out
            from behind another takes its own label rather than the one beside it.
        colour: weight of colour beside the descriptor: the similarity of two cells is the cosine
            of their descriptors less `colour` times the squared distance of their mean colours
            (CIELAB, lightness 100 = 1). 0 compares descriptors alone.
        ridge: weight, in log odds, of a linear model of each object against the rest (ridge
            regression on descriptors and colours, learned in annotated frames) beside the labels
            of the context. It knows what the object never looked like, where the context has
            nothing that is alike. 0 leaves it out.
        ridge_similarity: cells whose scores under that model differ are less similar, by this times
            the squared difference: what is alike but tells object from rest counts more.
        ridge_rate: weight of a propagated frame in what the model learns, beside an annotated one;
            it fades by a twentieth a frame.
        ridge_penalty: weight of the model's squared coefficients beside its mean squared error.
        objectness: weight, in log odds, of what a network that finds objects sees in the box of
            each one, where that agrees with the labels, and only as far as the rest is undecided.
            0 leaves it out, and does not load it.
        channels: descriptors are compared by their parts along this many principal directions of
            the first annotated frame's descriptors, which costs less and hardly changes what is
            similar; 0 compares whole ones.
        refine: cells of labels per cell of the descriptors, along each side, read bilinearly. For
            backbones with a coarse grid; time grows with its fourth power.
        sharpen: half side, as a part of the image's short side, of the window of the guided filter
            that pulls the borders of masks to the edges of the image; 0 leaves them as they are.
        sharpen_smoothing: colour variance below which a window of that filter counts as flat.
        min_evidence: an object is absent from a frame if its largest soft label there is below
            this part of its largest soft label in the annotated frames.
        rescale: whether a present object's soft labels are divided by their largest value before
            pixels are decided, so that thin and blurred objects keep their area.
        harden: whether the context keeps the decided labels instead of the soft ones.
    """

    context: int = 7
    top_k: int = 8
    temperature: float = 0.1
    radius: float = 0.2
    window_annotated: bool = False
    annotated_bias: float = 0.1
    colour: float = 3.0
    ridge: float = 0.3
    ridge_similarity: float = 0.1
    ridge_rate: float = 0.05
    ridge_penalty: float = 1e-3
    objectness: float = 1.0
    channels: int = 128
    refine: int = 1
    sharpen: float = 0.025
    sharpen_smoothing: float = 1e-4
    min_evidence: float = 0.2
    rescale: bool = False
    harden: bool = False

    def __post_init__(self) -> None:
        require(self.context >= 0, f"context must be 0 or more frames, got {self.context}")
        require(self.top_k >= 1, f"top_k must be at least 1, got {self.top_k}")
        require(self.temperature > 0, f"temperature must be positive, got {self.temperature}")
        require(
            0 < self.radius < float("inf"),
            f"radius must be positive and finite, got {self.radius}",
        )
        require(1 <= self.refine <= 16, f"refine must be a number from 1 to 16, got {self.refine}")
        bias = self.annotated_bias
        require(0 <= bias < float("inf"), f"annotated_bias must be 0 or more, got {bias}")
        require(0 <= self.colour < float("inf"), f"colour must be 0 or more, got {self.colour}")
        for name in ("ridge", "ridge_similarity", "ridge_rate", "objectness"):
            value = getattr(self, name)
            require(0 <= value < float("inf"), f"{name} must be 0 or more, got {value}")
        require(
            0 < self.ridge_penalty < float("inf"),
            f"ridge_penalty must be positive, got {self.ridge_penalty}",
        )
        require(self.channels >= 0, f"channels must be 0 or more, got {self.channels}")
        require(
            0 <= self.sharpen <= 0.5,
            f"sharpen must lie between 0 and 0.5 of the short side, got {self.sharpen}",
        )
        require(
            0 < self.sharpen_smoothing < float("inf"),
            f"sharpen_smoothing must be positive, got {self.sharpen_smoothing}",
        )
        require(
            0 <= self.min_evidence <= 1,
            f"min_evidence must lie between 0 and 1, got {self.min_evidence}",
        )

    @property
    def has_model(self) -> bool:
        """Whether a linear model of each object is learned."""
        return self.ridge > 0 or self.ridge_similarity > 0

    @property
    def needs_images(self) -> bool:
        """Whether frames must come with their images."""
        return self.colour > 0 or self.sharpen > 0


def label_memory(
    config: LabelConfig, *, cells: int, channels: int, share: float, annotated: int, frames: int
) -> int:
    """Bytes that label propagation takes at least, on a CPU.

    Args:
        cells: of a frame's map of descriptors.
        channels: of it.
        share: of the pixels that show an object, in the annotated frame where it is largest.
        annotated: annotated frames that are there at once.
        frames: frames of the clip, as far as it is known.
    """
    cells *= config.refine**2
    width = min(config.channels or channels, channels) + 4  # colour and a bias beside them
    context = annotated + min(config.context, frames)
    kept = min(config.top_k, context * cells)
    # Whether a cell may take a label is asked of all cells that have one, unless most do.
    asked = share * cells if share <= 0.5 else 0
    finer = 2 * channels if config.refine > 1 else 0
    # Of a best key its similarity (4 bytes) and its index (8).
    return int(cells * (4 * (finer + context * width + asked) + 12 * kept))
