"""Descriptors against a literal recomputation of the paper's formula that shares no code.

The real channel widths of Stable Diffusion 1.5 need many minutes and 8 GB on a CPU: they run with
`WARPKIT_TEST_FULL_SIZE=1` only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import literal_formula as literal
import pytest
import torch
from torch import Tensor

from warpkit.aggregate.network import AggregationConfig, AggregationNetwork
from warpkit.aggregate.streaming import StreamingAggregator
from warpkit.describe import Extractor
from warpkit.features.codecs import VaeCodec
from warpkit.features.ddim import DdimSchedule
from warpkit.features.diffusion import DiffusionBackbone
from warpkit.features.diffusion_settings import DiffusionSettings, recorded_steps

RELATIVE_ERROR = 1e-4


@dataclass(frozen=True)
class Size:
    """Widths of the three networks, and the side of the image."""

    unet: tuple[int, ...]
    vae: tuple[int, ...]
    groups: int
    text: int
    heads: int
    width: int
    bottleneck: int
    side: int


SMALL = Size((8, 8, 16, 16), (8, 8, 8, 8), 4, 12, 2, 16, 8, 64)
FULL = Size((320, 640, 1280, 1280), (128, 256, 512, 512), 32, 768, 8, 384, 96, 128)

full_size = pytest.mark.skipif(
    not os.environ.get("WARPKIT_TEST_FULL_SIZE"), reason="takes minutes: WARPKIT_TEST_FULL_SIZE=1"
)
SIZES = [
    pytest.param(SMALL, id="small"),
    pytest.param(FULL, id="sd15", marks=[full_size, pytest.mark.timeout(7200)]),
]


class Texts:
    """A random embedding for every prompt."""

    def __init__(self, width: int) -> None:
        self.width = width

    def embed(self, prompt: str) -> Tensor:
        generator = torch.Generator().manual_seed(len(prompt))
        return torch.randn(1, 7, self.width, generator=generator)

    def __call__(self, prompts: Sequence[str]) -> dict[str, Any]:
        return {"encoder_hidden_states": torch.cat([self.embed(prompt) for prompt in prompts])}


def build(size: Size) -> tuple[Any, Any]:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    torch.manual_seed(3)
    unet = UNet2DConditionModel(
        sample_size=size.side // 8,
        block_out_channels=size.unet,
        cross_attention_dim=size.text,
        attention_head_dim=size.heads,
        norm_num_groups=size.groups,
    )
    vae = AutoencoderKL(
        block_out_channels=size.vae,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        norm_num_groups=size.groups,
        scaling_factor=0.18215,
    )
    return unet.eval().requires_grad_(False), vae.eval().requires_grad_(False)


def extractor(size: Size, unet: Any, vae: Any, steps: tuple[int, ...]) -> Extractor:
    backbone = DiffusionBackbone(
        name="random",
        unet=unet,
        codec=VaeCodec(vae),
        conditioner=Texts(size.text),
        schedule=DdimSchedule(),
        settings=DiffusionSettings(steps=steps),
        size=size.side,
        output_stride=8,
    )
    config = AggregationConfig(
        model="random",
        layers=tuple(layer.name for layer in backbone.spec.layers),
        channels=tuple(layer.channels for layer in backbone.spec.layers),
        steps=steps,
        num_steps=50,
        width=size.width,
        bottleneck=size.bottleneck,
        groups=size.groups,
    )
    network = AggregationNetwork(config).eval().requires_grad_(False)
    for parameter in network.parameters():
        if parameter.ndim == 1:  # mixing weights and norms, which start alike
            torch.nn.init.normal_(parameter, 1.0, 0.3)
    return Extractor(backbone, network)


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).double().norm() / expected.double().norm())


def inputs(size: Size) -> Tensor:
    """Two images, wider than high; at the real widths one square image."""
    generator = torch.Generator().manual_seed(5)
    if size is FULL:
        return torch.rand(1, 3, size.side, size.side, generator=generator)
    return torch.rand(2, 3, size.side, 2 * size.side, generator=generator)


@pytest.mark.parametrize("count", [1, 50])
@pytest.mark.parametrize("size", SIZES)
def test_inversion_is_the_papers_formula(size: Size, count: int) -> None:
    unet, vae = build(size)
    steps = (0,) if count == 1 else recorded_steps(50)
    ours = extractor(size, unet, vae, steps)
    images = inputs(size)
    found = ours.aggregate(images)
    with torch.no_grad():
        latent = vae.encode(images * 2 - 1).latent_dist.mode() * 0.18215
    total = literal.Descriptor(ours.network.state_dict(), size.groups, latent.shape[-2:])
    expected = literal.inversion(
        unet, latent, Texts(size.text).embed(""), total, num_steps=50, recorded=list(steps)
    )
    assert found.shape == (len(images), size.width, *latent.shape[-2:])
    assert relative_error(found, expected) < RELATIVE_ERROR


@pytest.mark.parametrize("size", SIZES)
def test_generation_is_the_papers_formula(size: Size) -> None:
    unet, vae = build(size)
    ours = extractor(size, unet, vae, recorded_steps(50))
    noise = ours.backbone.noise([4], height=size.side, width=size.side)  # type: ignore[attr-defined]
    grid = (size.side // 8, size.side // 8)
    total = StreamingAggregator(ours.network, grid, dtype=torch.float32)
    ours.backbone.generate(  # type: ignore[attr-defined]
        ["a cat"], noise, guidance_scale=7.5, on_features=total.add
    )
    expected = literal.generation(
        unet,
        noise,
        Texts(size.text).embed("a cat"),
        Texts(size.text).embed(""),
        literal.Descriptor(ours.network.state_dict(), size.groups, grid),
        num_steps=50,
        scale=7.5,
    )
    assert relative_error(total.result(), expected) < RELATIVE_ERROR


def test_a_wrong_time_step_is_found_out() -> None:
    """The comparison has teeth: one more step of noise is far beyond the tolerance."""
    unet, vae = build(SMALL)
    ours = extractor(SMALL, unet, vae, (0, 4))
    latent = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    total = StreamingAggregator(ours.network, (8, 8), dtype=torch.float32)
    found = total.run(ours.backbone.invert(latent))  # type: ignore[attr-defined]

    def recomputed(recorded: list[int]) -> Tensor:
        state = ours.network.state_dict()
        total = literal.Descriptor(state, SMALL.groups, (8, 8))
        text = Texts(SMALL.text).embed("")
        return literal.inversion(unet, latent, text, total, num_steps=50, recorded=recorded)

    assert relative_error(found, recomputed([0, 4])) < RELATIVE_ERROR
    assert relative_error(found, recomputed([0, 5])) > RELATIVE_ERROR
