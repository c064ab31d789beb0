"""Perturbed-attention guidance: against diffusers' own processor, and in a generation."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers.models.attention_processor import PAGIdentitySelfAttnProcessor2_0
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers_unet import diffusers_unet

from warpkit.checks import InputError
from warpkit.features.ddim import CLEAN, ddim_step
from warpkit.features.perturbed_attention import (
    IdentityAttention,
    coarsest_self_attention,
    perturbed,
)
from warpkit.features.seeded_noise import NoiseDraws
from warpkit.features.tiny import UnetConfig, build_unet, unet_backbone

CONFIG = UnetConfig(
    channels=(8, 8, 16),
    blocks=1,
    attention_levels=(1, 2),
    groups=4,
    head=8,
    classes=("ant", "bee", "cow"),
)


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return build_unet(CONFIG).eval().requires_grad_(False)


def stable_diffusion_like() -> UNet2DConditionModel:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        cross_attention_dim=12,
    )
    return unet.eval().requires_grad_(False)


def test_the_coarsest_attention_is_the_middle_block_of_stable_diffusion(unet):
    name = "mid_block.attentions.0.transformer_blocks.0.attn1"
    assert coarsest_self_attention(stable_diffusion_like()) == (name,)
    assert coarsest_self_attention(unet) == (
        "down_blocks.2.attentions.0",
        "up_blocks.0.attentions.0",
        "up_blocks.0.attentions.1",
    )


@pytest.mark.parametrize("kind", ["class", "text"])
def test_it_is_the_perturbed_half_of_diffusers_processor(unet, kind):
    """Theirs takes a batch of which the second half is perturbed."""
    if kind == "text":
        unet = reference = stable_diffusion_like()
    else:
        reference = diffusers_unet(CONFIG).eval()
        reference.load_state_dict(unet.state_dict())
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(2, reference.config.in_channels, 16, 16, generator=generator)
    if kind == "text":
        given = {"encoder_hidden_states": torch.randn(2, 5, 12, generator=generator)}
    else:
        given = {"encoder_hidden_states": None, "class_labels": torch.tensor([0, 2])}
    t = torch.tensor([500, 500])
    ours = perturbed(unet)(sample, t, return_dict=False, **given)[0]
    twice = {k: None if v is None else torch.cat([v, v]) for k, v in given.items()}
    processors = reference.attn_processors
    for name in coarsest_self_attention(unet):
        processors[f"{name}.processor"] = PAGIdentitySelfAttnProcessor2_0()
    reference = copy.deepcopy(reference)
    reference.set_attn_processor(processors)
    theirs = reference(torch.cat([sample] * 2), torch.cat([t] * 2), return_dict=False, **twice)[0]
    plain = unet(sample, t, return_dict=False, **given)[0]
    assert (plain - theirs[:2]).abs().max() < 1e-5
    assert (ours - theirs[2:]).abs().max() < 1e-5
    assert (ours - plain).abs().max() > 1e-4


def test_weights_are_shared_and_the_unet_is_left_as_it_was(unet):
    def processors(network):
        return {n: m.processor for n, m in network.named_modules() if hasattr(m, "processor")}

    other = perturbed(unet)
    ours, theirs = dict(unet.named_parameters()), dict(other.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(ours[name] is theirs[name] for name in ours)
    assert set(processors(unet).values()) == {None}
    changed = [n for n, p in processors(other).items() if isinstance(p, IdentityAttention)]
    assert tuple(changed) == coarsest_self_attention(unet)


def test_a_unet_without_attention_says_so():
    config = UnetConfig(channels=(8, 8), blocks=1, attention_levels=(), groups=4, head=8)
    backbone = unet_backbone(build_unet(config).eval(), config, num_steps=2, size=16)
    noise = backbone.noise([0], height=16, width=16)
    with pytest.raises(InputError, match="self-attention, and this one has none: leave pag_scale"):
        backbone.generate(["object"], noise, pag_scale=1.0)


def test_generation_combines_both_guidances(unet):
    """Against the steps written out, with some left out and fresh noise."""
    backbone = unet_backbone(unet, CONFIG, num_steps=4, size=16)
    noise = backbone.noise([3, 4], height=16, width=16)
    options = {"guidance_scale": 2.0, "skip": 1, "eta": 0.5, "seeds": [3, 4]}
    made = backbone.generate(["ant", "cow"], noise, pag_scale=1.5, **options)
    labels, null = torch.tensor([0, 2]), torch.tensor([3, 3])
    worse, latent = perturbed(unet), noise
    draws = NoiseDraws([3, 4], noise.shape[1:], noise.device)
    draws.draw()

    def call(network, which, t):
        times = torch.full((2,), t)
        return network(
            latent, times, encoder_hidden_states=None, class_labels=which, return_dict=False
        )[0]

    for step in backbone.schedule.generation()[1:]:
        fresh = None if step.to == CLEAN else draws.draw()
        conditional = call(unet, labels, step.timestep)
        base = call(unet, null, step.timestep)
        lost = call(worse, labels, step.timestep)
        output = base + 2.0 * (conditional - base) + 1.5 * (conditional - lost)
        latent = ddim_step(backbone.schedule, latent, output, step, bound=1.0, eta=0.5, noise=fresh)
    assert (made - backbone.codec.decode(latent)).abs().max() < 1e-5
    without = backbone.generate(["ant", "cow"], noise, **options)
    assert (made - without).abs().max() > 1e-4
    with pytest.raises(InputError, match=r"pag_scale is 0 \(none\) or more, got -1"):
        backbone.generate(["ant"], noise[:1], pag_scale=-1.0)
