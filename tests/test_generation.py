"""Sample grids and the way to noise and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from inversion import inversion_round_trip

from warpkit.checks import InputError
from warpkit.describe.hypercolumns import Hypercolumns
from warpkit.evaluate.generation import evenly_spaced, sample_grid
from warpkit.features.diffusion import DiffusionBackbone
from warpkit.features.diffusion_settings import DiffusionSettings
from warpkit.features.tiny import UnetConfig, build_unet, unet_backbone

CONFIG = UnetConfig(
    channels=(8, 8), blocks=1, attention_levels=(), groups=4, head=8, classes=("ant", "bee", "cow")
)


@pytest.fixture(scope="module")
def backbone() -> DiffusionBackbone:
    torch.manual_seed(0)
    unet = build_unet(CONFIG).eval().requires_grad_(False)
    return unet_backbone(unet, CONFIG, num_steps=3, size=16)


def test_names_are_spread():
    assert evenly_spaced("abcdefg", 3) == ("a", "c", "e")
    assert evenly_spaced("ab", 5) == ("a", "b")
    assert evenly_spaced([1, 2, 3, 4], 1) == (1,)
    with pytest.raises(InputError, match="count must be at least one name, got 0"):
        evenly_spaced("ab", 0)


def test_a_grid_shows_every_class_and_seed(backbone, monkeypatch):
    monkeypatch.setattr("warpkit.evaluate.generation._BATCH", 4)
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    options = {"seeds": (4, 9), "size": 16, "guidance": 2.0, "columns": 5}
    grid = sample_grid(backbone, CONFIG.classes, eta=1, **options)
    assert torch.equal(torch.rand(2), expected)
    # Two classes a row: titles of 32 pixels (two lines), images of 16, gaps of 6.
    assert grid.shape == (2 * (32 + 16 + 6) + 6, 4 * 16 + 5 * 6, 3)
    for prompt, seed, row, column in (("ant", 4, 0, 0), ("bee", 9, 0, 3), ("cow", 9, 1, 1)):
        (alone,) = backbone.generate(
            [prompt],
            backbone.noise([seed], height=16, width=16),
            guidance_scale=2.0,
            eta=1,
            seeds=[seed],
        )
        top, left = 6 + row * 54 + 32, 6 + column * 22
        shown = grid[top : top + 16, left : left + 16].astype(float)
        np.testing.assert_allclose(shown, alone.permute(1, 2, 0).numpy() * 255, atol=1)
    still = sample_grid(backbone, CONFIG.classes, **options)
    assert (still != grid).any()
    assert np.array_equal(still, sample_grid(backbone, CONFIG.classes, eta=0, **options))
    with pytest.raises(InputError, match="give at least one prompt and one seed"):
        sample_grid(backbone, (), size=16)


def test_the_psnr_is_that_of_the_images_that_come_back(backbone):
    images = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    back, psnr = inversion_round_trip(backbone, images)
    assert back.shape == images.shape
    for i in range(2):
        error = float(((back[i] - images[i]) ** 2).mean())
        assert float(psnr[i]) == pytest.approx(-10 * np.log10(error), rel=1e-4)
    # Something comes back, and it is not the images themselves.
    assert 5 < float(psnr.min()) < 60


def test_a_unet_that_sees_no_noise_gives_the_image_back(backbone):
    still = unet_backbone(build_unet(CONFIG).requires_grad_(False), CONFIG, num_steps=3)
    still.unet.conv_out.weight.zero_()
    still.unet.conv_out.bias.zero_()
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    _, psnr = inversion_round_trip(still, images)
    assert float(psnr) > 90


def test_hypercolumns_stack_the_layers_of_all_steps(backbone):
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    names = [layer.name for layer in backbone.spec.layers][2:]

    def described(steps: tuple[int, ...]) -> torch.Tensor:
        chosen = unet_backbone(
            backbone.unet, CONFIG, DiffusionSettings(steps=steps), num_steps=3, size=16
        )
        (found,) = Hypercolumns(chosen, name="raw", layers=names).describe([image])
        return found.data

    one, two, both = described((0,)), described((2,)), described((0, 2))
    assert both.shape == (4 * 8, 8, 12)
    torch.testing.assert_close(both.norm(dim=0), torch.full((8, 12), 2.0))
    # Each half points where the descriptor of its step alone does.
    for half, alone in ((both[:16], one), (both[16:], two)):
        torch.testing.assert_close(half, alone)
