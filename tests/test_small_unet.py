"""The embedded model's UNet against diffusers' own, which it stands in for."""

from __future__ import annotations

import pytest
import torch
from diffusers_unet import diffusers_unet
from torch import nn

from warpkit.features.taps import decoder_taps, record_taps
from warpkit.features.tiny import TINY_WEIGHTS, UnetConfig, build_unet, load_unet

ODD = UnetConfig(
    channels=(9, 15, 12), blocks=3, attention_levels=(0, 2), groups=3, head=5, classes=("a", "b")
)
CONFIGS = {
    "odd": ODD,
    "one level": UnetConfig(channels=(6,), blocks=1, attention_levels=(0,), groups=2, head=6),
    "factor 1": UnetConfig(channels=(4, 8), blocks=1, attention_levels=(), groups=4, factor=1),
}
Pair = tuple[nn.Module, nn.Module, UnetConfig]


def _both(config: UnetConfig) -> Pair:
    """Ours and diffusers', each drawn from seed 3."""
    made = []
    for build in (build_unet, diffusers_unet):
        torch.manual_seed(3)
        made.append(build(config).eval())
    return made[0], made[1], config


@pytest.fixture(scope="module", params=[*CONFIGS, "shipped"])
def pair(request: pytest.FixtureRequest) -> Pair:
    if request.param != "shipped":
        return _both(CONFIGS[request.param])
    ours, config = load_unet(TINY_WEIGHTS)
    with torch.device("meta"):
        theirs = diffusers_unet(config).eval()
    theirs.load_state_dict(ours.state_dict(), assign=True)
    return ours, theirs, config


def _inputs(config: UnetConfig, batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents, timesteps (one of them before the first) and classes (the last of them the null)."""
    generator = torch.Generator().manual_seed(0)
    side = 2 ** (len(config.channels) - 1)
    latents = torch.randn(batch, 3 * config.factor**2, 2 * side, 3 * side, generator=generator)
    timesteps = torch.tensor([-1, 999, 400])[torch.arange(batch) % 3]
    return latents, timesteps, torch.arange(batch) % (len(config.classes) + 1)


def test_weights_have_the_same_names_order_and_draws(pair: Pair) -> None:
    ours, theirs, _ = pair
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, reference)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_output_and_taps_are_the_same(pair: Pair, layout: torch.memory_format) -> None:
    ours, theirs, config = pair
    latents, timesteps, classes = _inputs(config, 3)
    found = []
    for unet in (ours, theirs):
        unet.to(memory_format=layout)
        names = decoder_taps(unet)
        with torch.no_grad(), record_taps(unet, names) as taps:
            output = unet(latents, timesteps, None, class_labels=classes, return_dict=False)[0]
        found.append({"output": output} | taps)
    assert list(found[0]) == list(found[1])
    for name, values in found[0].items():
        assert torch.equal(values, found[1][name]), name


def test_one_timestep_serves_the_batch() -> None:
    ours, theirs, config = _both(ODD)
    latents, _, classes = _inputs(config, 2)
    given = {"class_labels": classes, "return_dict": False}
    with torch.no_grad():
        found = ours(latents, torch.tensor([7]), **given)[0]
        expected = theirs(latents, torch.tensor([7]), None, **given)[0]
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("batch", "dtype"), [(3, torch.float32), (3, torch.bfloat16), (65, torch.float32)]
)
def test_gradients_are_the_same(batch: int, dtype: torch.dtype) -> None:
    """In both precisions of training, and in a batch whose maps are laid out anew."""
    ours, theirs, config = _both(ODD)
    latents, timesteps, classes = _inputs(config, batch)
    for unet in (ours, theirs):
        nn.Module.to(unet.train(), dtype)  # diffusers' own warns
        given = latents.to(dtype, memory_format=torch.channels_last)
        output = unet(given, timesteps, None, class_labels=classes, return_dict=False)[0]
        output.square().sum().backward()
    for (name, mine), reference in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert mine.grad is not None and reference.grad is not None
        assert torch.equal(mine.grad, reference.grad), name


def test_groups_must_divide_widths() -> None:
    with pytest.raises(ValueError, match="must be divisible by num_groups"):
        build_unet(UnetConfig(channels=(8, 10), groups=4))
