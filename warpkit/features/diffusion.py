"""A diffusion UNet as a backbone: DDIM inversion of real images, generation of new ones.

Both loops yield features step by step and forget them; a run over 50 steps holds one step's maps.
The embedded model and Stable Diffusion differ only in their codec and conditioner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from warpkit.checks import one_of, require
from warpkit.features.backbone import Backbone, BackboneSpec, Layer, StepFeatures
from warpkit.features.codecs import TextConditioner
from warpkit.features.ddim import CLEAN, DdimSchedule, ddim_step
from warpkit.features.diffusion_settings import DiffusionSettings
from warpkit.features.model_lock import ModelLock
from warpkit.features.perturbed_attention import perturbed
from warpkit.features.seeded_noise import NoiseDraws
from warpkit.features.taps import decoder_taps
from warpkit.features.unet_calls import UnetCalls, resolve_acceleration

__all__ = [
    "Codec",
    "Conditioner",
    "DiffusionBackbone",
]

# Distinct prompts whose embeddings are kept; the least recently used one goes first.
_KEPT_PROMPTS = 64

Conditioning = Mapping[str, Any]
"""Keyword arguments of the UNet: `encoder_hidden_states` and, for class models, `class_labels`."""


class Codec(Protocol):
    """Images to latents and back."""

    factor: int
    """Image pixels per latent pixel."""

    channels: int
    """Channels of the latent."""

    bound: float | None
    """Latents of images lie within -bound..bound; None where there is no such number."""

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to latents (B, channels, H / factor, W / factor)."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to images (B, 3, H, W) in [0, 1]."""
        ...


class Conditioner(Protocol):
    """Prompts to the UNet's conditioning arguments."""

    def __call__(self, prompts: Sequence[str]) -> Conditioning:
        """Conditioning for a batch; the empty string is the unconditional one."""
        ...


class DiffusionBackbone(Backbone):
    """A UNet with its codec and conditioner; `features` inverts real images.

    Attributes:
        releases_encoder: whether `features` frees a text encoder's memory on a GPU. False where
            images are generated as well, so that it need not come back for every new prompt.
    """

    _turns: ModelLock

    def __init__(
        self,
        *,
        name: str,
        unet: nn.Module,
        codec: Codec,
        conditioner: Conditioner,
        schedule: DdimSchedule,
        settings: DiffusionSettings,
        size: int,
        output_stride: int,
        side: str = "short",
        acceleration: str = "auto",
    ) -> None:
        self.unet, self.codec, self.conditioner = unet, codec, conditioner
        # Kept: while another thread traces the UNet, its weights stand for others without a device.
        weight = next(unet.parameters())
        self._device, self._dtype = weight.device, weight.dtype
        self.releases_encoder = True
        self.schedule, self.settings = schedule, settings
        steps = settings.steps
        require(
            len(steps) > 0
            and list(steps) == sorted(set(steps))
            and steps[0] >= 0
            and steps[-1] < schedule.num_steps,
            f"recorded steps must increase within 0..{schedule.num_steps - 1}, got {steps}",
        )
        names = _chosen(decoder_taps(unet), settings.layers, name)
        require(
            settings.timestep is None or 0 <= settings.timestep < schedule.train_steps,
            f"timestep must lie in 0..{schedule.train_steps - 1}, got {settings.timestep}",
        )
        modules = dict(unet.named_modules())
        depth = len(unet.up_blocks)  # type: ignore[arg-type]
        layers = tuple(
            Layer(
                tap,
                int(modules[tap].out_channels),
                codec.factor * 2 ** (depth - 1 - int(tap.split(".")[1])),
            )
            for tap in names
        )
        self.spec = BackboneSpec(
            name=name,
            layers=layers,
            steps=steps,
            num_steps=schedule.num_steps,
            multiple=codec.factor * 2 ** (depth - 1),
            size=size,
            output_stride=output_stride,
            side=side,
        )
        self._prompt_cache: dict[str, Conditioning] = {}
        how = resolve_acceleration(acceleration, self.device)
        if how != "none":
            unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._calls = UnetCalls(unet, names, how)
        self._perturbed: dict[str, UnetCalls] = {}  # made when it is first asked for

    def with_settings(
        self,
        settings: DiffusionSettings,
        *,
        num_steps: int | None = None,
        calls: UnetCalls | None = None,
    ) -> DiffusionBackbone:
        """The same networks read in another way; prepared calls and embedded prompts are shared.

        Args:
            num_steps: DDIM steps of a whole run, if others.
            calls: other calls of the same UNet.
        """
        other = DiffusionBackbone(
            name=self.spec.name,
            unet=self.unet,
            codec=self.codec,
            conditioner=self.conditioner,
            schedule=self.schedule
            if num_steps is None
            else replace(self.schedule, num_steps=num_steps),
            settings=settings,
            size=self.spec.size,
            output_stride=self.spec.output_stride,
            side=self.spec.side,
            acceleration=self._calls.acceleration,
        )
        calls = calls or self._calls
        if other._calls.names == calls.names:
            other._calls = calls
        vars(other)["_lock"] = self.locked
        other._perturbed = self._perturbed
        other._prompt_cache = self._prompt_cache
        return other

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the UNet's weights; latents between steps stay float32."""
        return self._dtype

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """The UNet, the codec's network where it has one, and the prompt as the UNet sees it."""
        yield from super().state()
        network = getattr(self.codec, "vae", None)
        if isinstance(network, nn.Module):
            for name, tensor in network.state_dict().items():
                yield f"codec.{name}", tensor
        for name, value in self._conditioning([self.settings.prompt]).items():
            if value is not None:
                yield f"prompt.{name}", value

    def settings_text(self) -> str:
        return repr((self.settings, self.schedule))

    def _conditioning(self, prompts: Sequence[str]) -> Conditioning:
        """Conditioning of a batch; each distinct prompt is embedded once."""
        cache = self._prompt_cache
        for prompt in dict.fromkeys(prompts):
            # Entered anew, so that the order of the cache is that of the last use.
            cache[prompt] = cache.pop(prompt, {}) or self.conditioner([prompt])
        rows = [cache[prompt] for prompt in prompts]
        for oldest in list(cache)[:-_KEPT_PROMPTS]:
            del cache[oldest]
        return {
            key: None if rows[0][key] is None else torch.cat([row[key] for row in rows])
            for key in rows[0]
        }

    def evaluate(self, latent: Tensor, timestep: int) -> Tensor:
        """The UNet's output for latents (B, C, h, w) at a timestep, under the settings' prompt."""
        return self._call(
            latent, timestep, self._conditioning([self.settings.prompt] * len(latent))
        )

    def _call(self, latent: Tensor, timestep: int, conditioning: Conditioning) -> Tensor:
        output, _ = self._calls(latent.to(self.dtype), timestep, conditioning)
        assert output is not None
        return output.float()

    def _call_perturbed(self, latent: Tensor, timestep: int, conditioning: Conditioning) -> Tensor:
        if "unet" not in self._perturbed:
            calls = UnetCalls(perturbed(self.unet), (), self._calls.acceleration)
            self._perturbed["unet"] = calls
        output, _ = self._perturbed["unet"](latent.to(self.dtype), timestep, conditioning)
        assert output is not None
        return output.float()

    def _record(
        self, latent: Tensor, timestep: int, conditioning: Conditioning, *, final: bool
    ) -> tuple[Tensor | None, Mapping[str, Tensor]]:
        """Output and taps; where `final` the pass ends at the last tap and has no output."""
        output, taps = self._calls(
            latent.to(self.dtype), timestep, conditioning, record=True, final=final
        )
        return (None if output is None else output.float()), taps

    # Generators switch gradients off call by call: torch's decorator would hold on to every yielded
    # step while the next one is computed.
    def features(self, images: Tensor) -> Iterator[StepFeatures]:
        """Features of real images along DDIM inversion (see `Backbone.features`).

        One UNet call a step at the noise level the step departs from, no guidance; the last
        evaluated step stops after the last tap.
        """
        require(
            images.ndim == 4
            and images.shape[-2] % self.spec.multiple == 0
            and images.shape[-1] % self.spec.multiple == 0,
            f"images must be (B, 3, H, W) with sides divisible by {self.spec.multiple}, got"
            f" {tuple(images.shape)}",
        )
        self._conditioning([self.settings.prompt])
        if isinstance(self.conditioner, TextConditioner) and self.releases_encoder:
            self.conditioner.release()  # real images have one prompt, embedded by now
        with torch.no_grad():
            latent = self.codec.encode(images.to(self.device)).float()
        if self.settings.mode == "inversion":
            yield from self.invert(latent)
        else:
            yield from self.read_once(latent)

    def invert(self, latent: Tensor) -> Iterator[StepFeatures]:
        """Features along the inversion of clean latents (B, C, h, w)."""
        latent = latent.detach()
        conditioning = self._conditioning([self.settings.prompt] * len(latent))
        last = self.spec.steps[-1]
        output: Tensor | None
        for transition in self.schedule.inversion()[: last + 1]:
            if transition.step in self.spec.steps:
                output, taps = self._record(
                    latent, transition.timestep, conditioning, final=transition.step == last
                )
                entry = self.spec.steps.index(transition.step)
                yield StepFeatures(entry, transition.step, transition.timestep, taps)
                del taps  # otherwise these maps would live until the next recorded step
                if output is None:
                    return
            else:
                output = self._call(latent, transition.timestep, conditioning)
            latent = ddim_step(self.schedule, latent, output, transition)

    def read_once(self, latent: Tensor) -> Iterator[StepFeatures]:
        """Features of one call at each recorded step (modes `noised` and `clean`).

        Args:
            latent: clean latents (B, C, h, w).
        """
        conditioning = self._conditioning([self.settings.prompt] * len(latent))
        noised = self.settings.mode == "noised"
        height, width = (side * self.codec.factor for side in latent.shape[-2:])
        noise = self.noise([self.settings.seed], height=height, width=width) if noised else None
        for entry, step in enumerate(self.spec.steps):
            timestep = self.schedule.timesteps[step] if noised else CLEAN
            if self.settings.timestep is not None:
                timestep = self.settings.timestep
            seen = latent if noise is None else self.noised(latent, noise, timestep)
            _, taps = self._record(seen, timestep, conditioning, final=True)
            yield StepFeatures(entry, step, timestep, taps)
            del taps

    @torch.no_grad()
    def invert_to_noise(self, latent: Tensor) -> Tensor:
        """The latent at the noisy end of a whole inversion, to generate from."""
        conditioning = self._conditioning([self.settings.prompt] * len(latent))
        for transition in self.schedule.inversion():
            output = self._call(latent, transition.timestep, conditioning)
            latent = ddim_step(self.schedule, latent, output, transition)
        return latent

    def noise(self, seeds: Sequence[int], *, height: int, width: int) -> Tensor:
        """Starting latents, one CPU generator per seed, so that a seed means the same anywhere."""
        shape = (self.codec.channels, height // self.codec.factor, width // self.codec.factor)
        return NoiseDraws(seeds, shape, self.device).draw()

    def noised(self, latent: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """Clean latents (B, C, h, w) with noise of that shape as of a timestep: q(x_t | x_0)."""
        a_t = self.schedule.alpha_bar(timestep)
        return a_t**0.5 * latent + (1 - a_t) ** 0.5 * noise

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[str],
        latent: Tensor,
        *,
        guidance_scale: float = 7.5,
        negative_prompt: str = "",
        pag_scale: float = 0.0,
        clip: bool = True,
        skip: int = 0,
        eta: float = 0.0,
        seeds: Sequence[int] | None = None,
        on_features: Callable[[StepFeatures], None] | None = None,
    ) -> Tensor:
        """Generate images, and hand out the features of the very same run.

        With classifier-free guidance only the conditional pass is recorded. Entry k of the
        features pairs with entry k of inversion BY INDEX; steps arrive from noisy to clean.

        Args:
            prompts: B prompts.
            latent: starting noise (B, C, h, w), e.g. from `noise`.
            guidance_scale: 1 runs the conditional pass alone.
            pag_scale: scale of perturbed-attention guidance, which steps away from what the network
                predicts when its coarsest self-attention attends to nothing; one more call a step.
                Source: Ahn et al., ECCV 2024.
            clip: keep predicted images in their range, where the codec's latents have one. False is
                the exact opposite of inversion.
            skip: noisiest steps to leave out. Image-to-image with a `latent` as noisy as the first
                one taken (`noised`); with pure noise, a start without the steps in which next to
                nothing of an image is left.
            eta: that of DDIM eq. 16: 0 is deterministic, 1 draws as much noise anew in every step
                as ancestral sampling (DDPM), which corrects errors that DDIM keeps to the end.
            seeds: B seeds of that noise, which goes on where `noise` of the same seed ends; needed
                with `eta`.
            on_features: called once per recorded step.

        Returns:
            Images (B, 3, H, W) in [0, 1].
        """
        require(
            len(prompts) == len(latent),
            f"give one prompt per latent: got {len(prompts)} prompts for {len(latent)} latents",
        )
        conditional = self._conditioning(prompts)
        unconditional = self._conditioning([negative_prompt] * len(prompts))
        num_steps = self.schedule.num_steps
        bound = self.codec.bound if clip else None
        require(0 <= skip < num_steps, f"skip must lie in 0..{num_steps - 1} steps, got {skip}")
        require(0 <= eta <= 1, f"eta lies between 0 (DDIM) and 1 (ancestral), got {eta:g}")
        require(pag_scale >= 0, f"pag_scale is 0 (none) or more, got {pag_scale:g}")
        draws = None
        if eta > 0:
            require(
                seeds is not None and len(seeds) == len(latent),
                f"eta {eta:g} draws noise in every step: give one seed per latent",
            )
            assert seeds is not None
            draws = NoiseDraws(seeds, latent.shape[1:], latent.device)
            draws.draw()  # that is `noise`
        for transition in self.schedule.generation()[skip:]:
            departing = num_steps - 1 - transition.step
            fresh = None if draws is None or transition.to == CLEAN else draws.draw()
            if on_features is not None and departing in self.spec.steps:
                recorded, taps = self._record(latent, transition.timestep, conditional, final=False)
                assert recorded is not None
                output = recorded
                entry = self.spec.steps.index(departing)
                on_features(StepFeatures(entry, transition.step, transition.timestep, taps))
                del taps
            else:
                output = self._call(latent, transition.timestep, conditional)
            guided = output
            if guidance_scale != 1:
                base = self._call(latent, transition.timestep, unconditional)
                guided = base + guidance_scale * (output - base)
            if pag_scale > 0:
                worse = self._call_perturbed(latent, transition.timestep, conditional)
                guided = guided + pag_scale * (output - worse)
            latent = ddim_step(
                self.schedule, latent, guided, transition, bound=bound, eta=eta, noise=fresh
            )
        return self.codec.decode(latent)


def _chosen(known: tuple[str, ...], wanted: tuple[str, ...] | None, model: str) -> tuple[str, ...]:
    """The wanted layers, checked to be decoder layers in their order."""
    if wanted is None:
        return known
    for name in wanted:
        one_of(name, known, f"layer of '{model}'")
    require(
        len(wanted) > 0 and list(wanted) == [name for name in known if name in wanted],
        f"layers must be different ones in the decoder's order, got {list(wanted)}",
    )
    return wanted
