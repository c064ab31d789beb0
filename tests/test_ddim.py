"""The DDIM loop evaluates exactly what the published aggregators were trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from warpkit.checks import InputError
from warpkit.features.backbone import StepFeatures
from warpkit.features.ddim import CLEAN, DdimSchedule, Transition, ddim_step
from warpkit.features.diffusion import DiffusionBackbone
from warpkit.features.diffusion_settings import DiffusionSettings, recorded_steps

RECORDED = (0, 4, 9, 14, 19, 24, 29, 34, 39, 44, 49)


class SpyBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        resnet = nn.Module()
        resnet.conv2 = nn.Conv2d(2, 2, 1, bias=False)
        nn.init.eye_(resnet.conv2.weight[:, :, 0, 0])
        self.resnets = nn.ModuleList([resnet])


class SpyUnet(nn.Module):
    """Notes every call; its output is a smooth linear function of the latent and its prompt.

    The tap holds the latent it saw plus the prompt, so that recorded features tell their pass.
    """

    def __init__(self, slope: float = 0.0) -> None:
        super().__init__()
        self.up_blocks = nn.ModuleList([SpyBlock()])
        self.slope = slope
        self.timesteps: list[int] = []
        self.prompts: list[float] = []
        self.finished = 0

    def forward(self, latent: Tensor, t: Tensor, *, prompt: Tensor, return_dict: bool) -> Any:
        assert not return_dict
        assert t.shape == (len(latent),)
        assert t.dtype == torch.long
        self.timesteps.append(int(t[0]))
        self.prompts.append(float(prompt[0]))
        seen = self.up_blocks[0].resnets[0].conv2(latent + prompt[:, None, None, None])
        self.finished += 1
        return (self.slope * latent + prompt[:, None, None, None] + 0 * seen,)


class PlainCodec:
    factor, channels, bound = 1, 2, None

    def encode(self, images: Tensor) -> Tensor:
        return images[:, :2]

    def decode(self, latents: Tensor) -> Tensor:
        return latents


class CountingConditioner:
    """A prompt is a number; the empty prompt is 0."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, prompts: Sequence[str]) -> dict[str, Any]:
        self.calls.append(list(prompts))
        return {"prompt": torch.tensor([float(p or 0) for p in prompts])}


def backbone(
    *, steps: tuple[int, ...] = RECORDED, num_steps: int = 50, slope: float = 0.0
) -> DiffusionBackbone:
    return DiffusionBackbone(
        name="spy",
        unet=SpyUnet(slope),
        codec=PlainCodec(),
        conditioner=CountingConditioner(),
        schedule=DdimSchedule(num_steps=num_steps),
        settings=DiffusionSettings(steps=steps),
        size=8,
        output_stride=1,
    )


def test_recorded_steps_are_the_published_ones():
    assert recorded_steps(50) == RECORDED
    assert tuple(49 - s for s in (49, 45, 40, 35, 30, 25, 20, 15, 10, 5, 0)) == RECORDED
    assert recorded_steps(1) == (0,)


def test_inversion_evaluates_the_level_it_departs_from():
    model = backbone()
    recorded = list(model.features(torch.rand(2, 3, 4, 6)))
    assert model.unet.timesteps == [-1, *range(0, 961, 20)]
    assert [f.timestep for f in recorded] == [-1, *range(60, 961, 100)]
    assert [f.step for f in recorded] == list(RECORDED)
    assert [f.entry for f in recorded] == list(range(11))
    assert set(model.unet.prompts) == {0.0}


def test_generation_records_from_noisy_to_clean_and_pairs_by_index():
    model = backbone()
    seen: list[StepFeatures] = []
    noise = model.noise([3, 4], height=4, width=6)
    model.generate(["2", "2"], noise, guidance_scale=7.5, on_features=seen.append)
    conditional = [t for t, p in zip(model.unet.timesteps, model.unet.prompts, strict=True) if p]
    assert conditional == list(range(980, -1, -20))
    assert [f.timestep for f in seen] == [*range(980, 79, -100), 0]
    assert [f.step for f in seen] == [0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 49]
    assert [f.entry for f in seen] == list(range(10, -1, -1))

    generated = {f.entry: f.timestep for f in seen}
    inverted = {f.entry: f.timestep for f in backbone().features(torch.rand(1, 3, 4, 4))}
    assert [generated[k] for k in range(11)] == [0, *range(80, 981, 100)]
    assert [inverted[k] for k in range(11)] == [-1, *range(60, 961, 100)]


def test_guidance_records_the_conditional_pass_alone():
    model = backbone(steps=(49,))
    seen: list[StepFeatures] = []
    noise = model.noise([0], height=4, width=4)
    model.generate(["2"], noise, guidance_scale=3.0, on_features=seen.append, negative_prompt="5")
    # Two calls a step: conditional, then unconditional with the negative prompt.
    assert model.unet.prompts == [2.0, 5.0] * 50
    assert len(seen) == 1
    torch.testing.assert_close(seen[0].maps["up_blocks.0.resnets.0.conv2"], noise + 2)


def test_guidance_pushes_away_from_the_unconditional_output():
    noise = torch.full((1, 2, 3, 3), 0.5)
    plain = backbone(num_steps=1, steps=(0,))
    guided = backbone(num_steps=1, steps=(0,))
    # base + scale * (conditional - base) = 1 + 3 * (2 - 1) = 4
    expected = plain.generate(["4"], noise, guidance_scale=1)
    torch.testing.assert_close(
        guided.generate(["2"], noise, guidance_scale=3, negative_prompt="1"), expected
    )
    assert plain.unet.timesteps == [0]
    assert guided.unet.timesteps == [0, 0]


def test_one_step_evaluates_the_clean_level_alone():
    model = backbone(num_steps=1, steps=(0,))
    recorded = list(model.features(torch.rand(1, 3, 4, 4)))
    assert model.unet.timesteps == [-1]
    assert [(f.entry, f.step, f.timestep) for f in recorded] == [(0, 0, -1)]


def test_an_early_stop_evaluates_no_further_step():
    model = backbone(steps=(0, 4))
    recorded = list(model.features(torch.rand(1, 3, 4, 4)))
    assert model.unet.timesteps == [-1, 0, 20, 40, 60]
    assert [f.timestep for f in recorded] == [-1, 60]
    # The last one ends at its tap; the steps before need their whole output.
    assert model.unet.finished == 4


def test_each_distinct_prompt_is_embedded_once():
    model = backbone(steps=(0,))
    for _ in range(3):
        list(model.features(torch.rand(2, 3, 4, 4)))
    assert model.conditioner.calls == [[""]]
    noise = model.noise([1, 2, 3], height=2, width=2)
    model.generate(["7", "8", "7"], noise)
    assert sorted(model.conditioner.calls[1:]) == [["7"], ["8"]]


def test_embeddings_of_old_prompts_are_forgotten():
    model = backbone(steps=(0,))
    noise = model.noise(range(70), height=2, width=2)
    # More prompts at once than are kept: each is still embedded once, and in its own place.
    many = [str(n) for n in range(1, 71)]
    assert model._conditioning(many)["prompt"].tolist() == list(range(1, 71))
    assert len(model.conditioner.calls) == 70
    model.generate(["70"], noise[:1], guidance_scale=1, negative_prompt="70")
    assert len(model.conditioner.calls) == 70
    model.generate(["1"], noise[:1], guidance_scale=1, negative_prompt="70")
    assert model.conditioner.calls[70:] == [["1"]]
    assert len(model._prompt_cache) == 64


def test_noise_depends_on_the_seed_alone():
    model = backbone()
    both = model.noise([5, 6], height=3, width=5)
    assert both.shape == (2, 2, 3, 5)
    assert torch.equal(both[1:], model.noise([6], height=3, width=5))


@pytest.mark.parametrize("slope", [0.0, 0.05])
def test_inversion_then_generation_comes_back(slope):
    model = backbone(slope=slope)
    latent = torch.randn(1, 2, 5, 7, generator=torch.Generator().manual_seed(0))
    noisy = model.invert_to_noise(latent)
    assert model.unet.timesteps == [-1, *range(0, 961, 20)]
    # A zero network only rescales: x_980 = sqrt(alpha_bar(980)) x.
    if slope == 0:
        torch.testing.assert_close(noisy, latent * model.schedule.alpha_bar(980) ** 0.5)
    back = model.generate([""], noisy, guidance_scale=1)
    # The two runs see the network at neighbouring levels, so the return is close, not exact.
    assert float((back - latent).abs().max()) < (1e-5 if slope == 0 else 0.03)
    assert float((noisy - latent).abs().max()) > 0.5


def test_alpha_bar_is_the_scheduler_s():
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=0
    )
    schedule = DdimSchedule()
    assert torch.equal(schedule.alphas_cumprod, scheduler.alphas_cumprod)
    assert schedule.alpha_bar(CLEAN) == 1.0
    scheduler.set_timesteps(50)
    assert [t.timestep for t in schedule.generation()] == scheduler.timesteps.tolist()


def test_hand_computed_step():
    # Two training steps with betas 0.36 and 0.19: alpha-bar 0.64 and 0.64 * 0.81 = 0.5184.
    schedule = DdimSchedule(num_steps=2, train_steps=2, beta_start=0.36, beta_end=0.19)
    assert math.isclose(schedule.alpha_bar(1), 0.5184, rel_tol=1e-6)
    latent, output = torch.tensor([1.0]), torch.tensor([0.5])
    # From clean (alpha-bar 1) to alpha-bar 0.64: 0.8 * 1 + 0.6 * 0.5 = 1.1.
    noisier = ddim_step(schedule, latent, output, Transition(0, CLEAN, 0))
    torch.testing.assert_close(noisier, torch.tensor([1.1]))
    back = ddim_step(schedule, noisier, output, Transition(1, 0, CLEAN))
    torch.testing.assert_close(back, latent)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_generation_steps_are_the_scheduler_s(prediction, clip, eta):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=0,
        set_alpha_to_one=True,
        clip_sample=clip,
        clip_sample_range=0.5,
        prediction_type=prediction,
    )
    scheduler.set_timesteps(50)
    schedule = DdimSchedule(prediction=prediction)
    generator = torch.Generator().manual_seed(0)
    for transition in schedule.generation():
        latent = torch.randn(1, 4, 3, 3, generator=generator)
        output = torch.randn(1, 4, 3, 3, generator=generator)
        noise = torch.randn(1, 4, 3, 3, generator=generator)
        expected = scheduler.step(
            output,
            transition.timestep,
            latent,
            eta=eta,
            use_clipped_model_output=clip,
            variance_noise=noise if eta else None,
        ).prev_sample
        bound = 0.5 if clip else None
        ours = ddim_step(schedule, latent, output, transition, bound=bound, eta=eta, noise=noise)
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_step_with_the_true_output_is_exact(prediction):
    schedule = DdimSchedule(prediction=prediction)
    generator = torch.Generator().manual_seed(1)
    clean, noise = torch.randn(2, 3, 4, generator=generator)
    a, b = schedule.alpha_bar(300), schedule.alpha_bar(320)
    v = a**0.5 * noise - (1 - a) ** 0.5 * clean
    moved = ddim_step(
        schedule,
        a**0.5 * clean + (1 - a) ** 0.5 * noise,
        noise if prediction == "epsilon" else v,
        Transition(0, 300, 320),
    )
    torch.testing.assert_close(moved, b**0.5 * clean + (1 - b) ** 0.5 * noise)


def test_bad_schedules_are_refused():
    with pytest.raises(InputError, match=r"num_steps must lie in 1..1000, got 0"):
        DdimSchedule(num_steps=0)
    with pytest.raises(InputError, match="unknown prediction type 'sample': expected one of eps"):
        DdimSchedule(prediction="sample")


@pytest.mark.parametrize("steps", [(), (4, 0), (0, 0), (-1, 3), (0, 50)])
def test_bad_recorded_steps_are_refused(steps):
    with pytest.raises(InputError, match=r"recorded steps must increase within 0\.\.49, got"):
        backbone(steps=steps)


def test_bad_inputs_are_refused():
    model = backbone()
    with pytest.raises(InputError, match=r"images must be \(B, 3, H, W\) with sides divisible"):
        next(model.features(torch.rand(3, 4, 4)))
    with pytest.raises(InputError, match="one prompt per latent: got 1 prompts for 2 latents"):
        model.generate([""], torch.zeros(2, 2, 4, 4))
    with pytest.raises(InputError, match="eta 1 draws noise in every step: give one seed per lat"):
        model.generate(["", ""], torch.zeros(2, 2, 4, 4), eta=1)
    with pytest.raises(InputError, match=r"eta lies between 0 \(DDIM\) and 1 \(ancestral\), got 2"):
        model.generate([""], torch.zeros(1, 2, 4, 4), eta=2, seeds=[0])
    schedule = DdimSchedule()
    latent, output, fresh = torch.rand(3, 4)
    with pytest.raises(InputError, match=r"fresh noise \(eta\) is for steps towards the image"):
        ddim_step(schedule, latent, output, Transition(1, 0, 20), eta=1, noise=fresh)
    with pytest.raises(InputError, match="eta 1 needs noise of the latent's shape"):
        ddim_step(schedule, latent, output, Transition(1, 40, 20), eta=1)
    with pytest.raises(InputError, match=r"eta lies between 0 \(DDIM\) and 1 .*, got 1\.5"):
        ddim_step(schedule, latent, output, Transition(1, 40, 20), eta=1.5, noise=fresh)


@pytest.mark.parametrize("skip", [0, 2])
def test_generation_goes_on_with_the_seed_s_noise(skip):
    """Step by step: `noise` is the first draw of a seed, every step takes the next one."""
    model = backbone(num_steps=5, steps=(0,), slope=0.1)
    generator = torch.Generator().manual_seed(9)
    latent = torch.randn(1, *model.noise([9], height=8, width=8).shape[1:], generator=generator)
    assert torch.equal(latent, model.noise([9], height=8, width=8))
    found = model.generate(["2"], latent, guidance_scale=1, eta=0.7, seeds=[9], skip=skip)
    for transition in model.schedule.generation()[skip:]:
        fresh = None
        if transition.to != CLEAN:
            fresh = torch.randn(latent.shape, generator=generator)
        output = model._call(latent, transition.timestep, model._conditioning(["2"]))
        latent = ddim_step(
            model.schedule, latent, output, transition, bound=model.codec.bound, eta=0.7,
            noise=fresh,
        )  # fmt: skip
    torch.testing.assert_close(found, model.codec.decode(latent))


def test_fresh_noise_is_each_image_s_own():
    """An image depends on its seed, not on those beside it; another seed is another image."""
    model = backbone()
    start = model.noise([3, 4], height=16, width=16)
    both = model.generate(["2", "2"], start, eta=1, seeds=[3, 4])
    (alone,) = model.generate(["2"], start[1:], eta=1, seeds=[4])
    torch.testing.assert_close(alone, both[1], rtol=1e-4, atol=1e-5)
    (other,) = model.generate(["2"], start[1:], eta=1, seeds=[5])
    assert (other - alone).abs().max() > 1e-3
    (still,) = model.generate(["2"], start[1:], eta=0, seeds=[4])
    assert (still - alone).abs().max() > 1e-3


def test_one_step_s_maps_are_alive_at_a_time():
    import gc
    import weakref

    gc.collect()
    gc.disable()
    try:
        alive: list[weakref.ref[Tensor]] = []
        counts: list[int] = []
        model = backbone()
        model.unet.register_forward_pre_hook(
            lambda _m, _a: counts.append(sum(ref() is not None for ref in alive))
        )
        for features in model.features(torch.rand(1, 3, 4, 4)):
            alive += [weakref.ref(value) for value in features.maps.values()]
            del features
        assert len(alive) == 11
        assert counts == [0] * 50
    finally:
        gc.enable()


def test_features_carry_no_gradient_and_leave_the_caller_s_mode_alone():
    model = backbone(steps=(0, 1))
    for features in model.features(torch.rand(1, 3, 4, 4, requires_grad=True)):
        assert torch.is_grad_enabled()
        assert not any(value.requires_grad for value in features.maps.values())
