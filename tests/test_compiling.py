"""Compiled modules equal plain ones, whatever batch comes; compiling itself takes minutes.

The compiler is replaced by what it is given; `test_unet_calls.py` has the UNet's own calls.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from warpkit.features.codecs import VaeCodec
from warpkit.features.compiling import CompiledRows


class Program(nn.Module):
    """As a compiled module: false in a condition, since it has no length."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x)

    def __len__(self):
        raise TypeError("does not support len()")


@pytest.fixture
def compiled(monkeypatch) -> list[nn.Module]:
    """What was compiled so far."""
    programs: list[nn.Module] = []

    def compile_it(module, *, dynamic, fullgraph):
        assert (dynamic, fullgraph) == (False, True)
        programs.append(module)
        return Program(module)

    monkeypatch.setattr(torch, "compile", compile_it)
    return programs


@pytest.fixture(scope="module")
def convolution() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(3, 5, 3).requires_grad_(False)


def rows(number: int, side: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(number, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_fewer_rows_share_a_program_and_equal_the_plain_call(convolution, compiled):
    prepared = CompiledRows(convolution)
    wanted = [(4, 1), (3, 1), (2, 1), (1, 2), (8, 3), (5, 3), (4, 3)]
    for number, programs in wanted:
        x = rows(number, seed=number)
        torch.testing.assert_close(prepared(x), convolution(x))
        assert len(compiled) == programs, number


def test_other_shapes_have_programs_of_their_own(convolution, compiled):
    prepared = CompiledRows(convolution)
    for x in (rows(2), rows(2, 8), rows(2, 8).transpose(2, 3), rows(2, 8)[:, :, :, :6]):
        torch.testing.assert_close(prepared(x), convolution(x))
    assert len(compiled) == 3  # a transposed image of the same shape needs no other


def test_the_least_recently_used_program_goes(convolution, compiled):
    prepared = CompiledRows(convolution)
    for side in range(4, 20, 2):  # eight of them
        prepared(rows(1, side))
    prepared(rows(1, 4))
    prepared(rows(1, 20))
    assert len(compiled) == 9
    prepared(rows(1, 4))
    assert len(compiled) == 9
    prepared(rows(1, 6))
    assert len(compiled) == 10


def test_a_compiled_vae_equals_the_plain_one(compiled, monkeypatch):
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        scaling_factor=0.25,
    )
    vae.eval().requires_grad_(False)
    # Three images at once, so that five are a whole part and one with a row to spare.
    monkeypatch.setattr("warpkit.features.codecs._VAE_PIXELS", 3 * 8 * 12)
    plain, prepared = VaeCodec(vae), VaeCodec(vae, compiled=True)
    with torch.no_grad():
        images = rows(5, 12)[:, :, :8].sigmoid()
        latents = prepared.encode(images)
        torch.testing.assert_close(latents, plain.encode(images), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            prepared.decode(latents), plain.decode(latents), rtol=1e-4, atol=1e-5
        )
    assert len(compiled) == 2
