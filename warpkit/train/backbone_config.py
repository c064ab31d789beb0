"""The settings of backbone training."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from warpkit.checks import require
from warpkit.train.run_settings import RunSettings
from warpkit.train.validation import ScoredPairs

__all__ = ["AlignmentConfig", "BackboneTrainConfig", "ProbePairs", "SamplesConfig"]

_SIZE = 128


def _check_layers(layers: tuple[int, ...]) -> None:
    # Heads meet their layers in the order in which these run.
    require(
        list(layers) == sorted(set(layers) & set(range(12))),
        "layers must be decoder layers from 0 to 11 in strictly increasing order, got"
        f" {list(layers)}",
    )


@dataclass(frozen=True)
class AlignmentConfig:
    """Alignment of decoder layers to a pretrained classifier (weight 0 switches it off).

    Attributes:
        weight: of the cosine loss against the diffusion loss.
        layers: which decoder layers (0..11, deepest first) predict the teacher's features, in
            increasing order.
        size: side the teacher sees the crop at.
    """

    weight: float = 1.0
    layers: tuple[int, ...] = (5, 7)
    size: int = 256

    def __post_init__(self) -> None:
        _check_layers(self.layers)


@dataclass(frozen=True, kw_only=True)
class ProbePairs(ScoredPairs):
    """Annotated pairs on which raw features are scored: one call at the clean input, no aggregator.

    Attributes:
        layers: decoder layers (0..11, deepest first) that are stacked, each of unit length, into
            the descriptor that is scored; () takes all.
        each: score every one of these layers alone as well.
    """

    layers: tuple[int, ...] = ()
    each: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_layers(self.layers)


@dataclass(frozen=True, kw_only=True)
class SamplesConfig:
    """Grids of class-conditional samples to look at.

    Attributes:
        classes: which; () takes `count` classes, spread evenly over all.
        count: how many classes where none are named.
        seeds: of the noise, one image each for every class.
        guidance: scale of classifier-free guidance.
        pag_scale: of perturbed-attention guidance; 0 runs without.
        steps: of the sampling.
        skip: of these, the noisiest that are left out.
        eta: 0 is DDIM, 1 ancestral sampling.
    """

    classes: tuple[str, ...] = ()
    count: int = 8
    seeds: tuple[int, ...] = (0, 1)
    guidance: float = 4.0
    pag_scale: float = 0.0
    steps: int = 50
    skip: int = 0
    eta: float = 1.0

    def __post_init__(self) -> None:
        require(0 <= self.eta <= 1, f"eta lies between 0 and 1, got {self.eta:g}")
        require(self.count > 0, f"count is a positive number of classes, got {self.count}")
        require(len(self.seeds) > 0, "seeds names at least one seed")
        require(self.pag_scale >= 0, f"pag_scale is 0 (none) or more, got {self.pag_scale:g}")
        require(1 <= self.steps <= 1000, f"steps must lie in 1..1000, got {self.steps}")
        require(
            0 <= self.skip < self.steps,
            f"skip leaves out fewer than all {self.steps} steps, got {self.skip}",
        )


@dataclass(frozen=True)
class BackboneTrainConfig(RunSettings):
    """A run of backbone training.

    Attributes:
        data: training folder (see `warpkit.train.images`).
        initial: weights to start from, written by such a run, instead of random ones, or `tiny`;
            classes are told by their names, and new ones start as the null class.
        size: side of the training crops in pixels; None is 128.
        sizes: sides to draw from, one a step, instead of `size`; the first one is what is probed.
        crop_area: range of a crop's area, share of the image's inscribed square.
        null_class: share of the batch whose class is dropped.
        clean_share: share of the batch drawn from timesteps below `clean_below`, where
            descriptors are read.
        channels, blocks, attention_levels, groups: shape of the UNet; None takes that of `initial`,
            or else (64, 96, 128, 192), 2, (2, 3), 16.
        beta_end: last beta of the noise schedule; None takes that of `initial`, or else Stable
            Diffusion's 0.012, which leaves an image's layout visible at the last timestep: with
            pixels instead of latents, samples from pure noise need a larger one.
        held_out: this many images, spread evenly over the data, are not trained on; their diffusion
            loss is a probe.
        probe_every: steps between two probes of the averaged weights, the last step included; 0 is
            never. Probes change nothing in the training.
        validation: annotated pairs; the weights with the best PCK are kept in `best.safetensors`.
        samples: grids of samples, in the run's folder `samples` and the tracker.
    """

    data: Path
    initial: Path | None = None
    steps: int = 6000
    batch_size: int = 256
    learning_rate: float = 5e-4
    warmup: int = 300
    final_rate: float = 0.03
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    ema: float = 0.9995
    size: int | None = None
    sizes: tuple[int, ...] = ()
    crop_area: tuple[float, float] = (0.6, 1.0)
    null_class: float = 0.35
    clean_share: float = 0.25
    clean_below: int = 120
    min_snr: float = 5.0
    beta_end: float | None = None
    channels: tuple[int, ...] | None = None
    blocks: int | None = None
    attention_levels: tuple[int, ...] | None = None
    groups: int | None = None
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)
    held_out: int = 0
    probe_every: int = 0
    validation: ProbePairs | None = None
    samples: SamplesConfig | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.batch_size > 0 and self.steps > 0, "batch_size and steps must be positive")
        require(
            not (self.sizes and self.size is not None),
            f"give size or sizes, not both: got {self.size} and {list(self.sizes)}",
        )
        low, high = self.crop_area
        require(
            0 < low <= high <= 1,
            f"crop_area is a range within 0..1, the smaller share first, got {[low, high]}",
        )
        for name in ("null_class", "clean_share"):
            share = getattr(self, name)
            require(0 <= share <= 1, f"{name} is a share from 0 to 1, got {share}")
        require(
            1 <= self.clean_below <= 1000,
            f"clean_below is a timestep from 1 to 1000, got {self.clean_below}",
        )
        require(
            self.beta_end is None or 0.00085 < self.beta_end < 0.5,
            f"beta_end lies between 0.00085, the first beta, and 0.5, got {self.beta_end}",
        )
        require(0 <= self.ema < 1, f"ema must be at least 0 and below 1, got {self.ema}")
        require(self.held_out >= 0, f"held_out is a number of images, got {self.held_out}")
        self._check_probes()

    def _check_probes(self) -> None:
        require(
            self.probe_every >= 0,
            f"probe_every is a number of steps, or 0 for no probes, got {self.probe_every}",
        )
        asked = [name for name in ("validation", "samples") if getattr(self, name) is not None]
        require(
            self.probe_every > 0 or not asked,
            f"{' and '.join(asked)} are probes: say how often with probe_every",
        )
        require(
            self.probe_every == 0 or bool(asked) or self.held_out > 0,
            "probe_every needs something to probe: set validation, samples or held_out",
        )

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """The sides of crops in pixels."""
        return self.sizes or (_SIZE if self.size is None else self.size,)
