"""Taps give the layers' values bit for bit and leave no trace."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from warpkit.checks import InputError
from warpkit.features.taps import TapError, decoder_taps, record_taps


@pytest.fixture(scope="module")
def unet() -> nn.Module:
    """A random UNet as Stable Diffusion's, small: 4 decoder blocks of 3 residual blocks."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    torch.manual_seed(0)
    model = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=2,
        down_block_types=(*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
        up_block_types=("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
        cross_attention_dim=12,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    return model.eval()


@pytest.fixture(scope="module")
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    latent = torch.randn(2, 4, 16, 24, generator=generator)
    prompt = torch.randn(2, 5, 12, generator=generator)
    return latent, torch.tensor([-1, 480]), prompt


def hooks(model: nn.Module) -> int:
    """Forward hooks anywhere in a model."""
    return sum(len(module._forward_hooks) for module in model.modules())


def recompute(resnet: nn.Module, block_input: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
    """Input and output of a residual block's `conv2`, from the inputs the block was called with."""
    parts = dict(resnet.named_children())
    hidden = parts["conv1"](parts["nonlinearity"](parts["norm1"](block_input)))
    time = parts["time_emb_proj"](parts["nonlinearity"](embedding))
    hidden = hidden + time[:, :, None, None]
    hidden = parts["dropout"](parts["nonlinearity"](parts["norm2"](hidden)))
    conv2 = parts["conv2"]
    return hidden, nn.functional.conv2d(hidden, conv2.weight, conv2.bias, padding=1)


@torch.no_grad()
def test_taps_are_the_values_before_the_residual_addition(unet, inputs):
    names = decoder_taps(unet)
    assert names == tuple(f"up_blocks.{i}.resnets.{j}.conv2" for i in range(4) for j in range(3))
    modules = dict(unet.named_modules())
    entered: dict[str, tuple[Tensor, Tensor]] = {}
    left: dict[str, Tensor] = {}
    conv2_inputs: dict[str, Tensor] = {}
    handles = []
    for name in names:
        block = modules[name.removesuffix(".conv2")]

        def remember(module, args, output, name=name):
            entered[name], left[name] = (args[0].clone(), args[1].clone()), output.clone()

        def remember_conv2(module, args, name=name):
            conv2_inputs[name] = args[0].clone()

        handles.append(block.register_forward_hook(remember))
        handles.append(modules[name].register_forward_pre_hook(remember_conv2))
    with record_taps(unet, names) as taps:
        unet(*inputs)
    for handle in handles:
        handle.remove()

    assert list(taps) == list(names)
    for name in names:
        block = modules[name.removesuffix(".conv2")]
        expected_input, expected = recompute(block, *entered[name])
        assert torch.equal(conv2_inputs[name], expected_input), name
        assert torch.equal(taps[name], expected), name
        # The decoder always changes width here, so the block adds its shortcut to the tap.
        shortcut = block.conv_shortcut(entered[name][0])
        assert torch.equal((shortcut + taps[name]) / block.output_scale_factor, left[name]), name


@torch.no_grad()
def test_the_output_is_the_same_with_and_without_taps(unet, inputs):
    plain = unet(*inputs).sample
    with record_taps(unet, decoder_taps(unet)):
        tapped = unet(*inputs).sample
    assert torch.equal(plain, tapped)
    assert torch.equal(plain, unet(*inputs).sample)
    assert hooks(unet) == 0


def test_no_hook_is_left_after_an_exception_in_the_block(unet):
    with pytest.raises(ZeroDivisionError), record_taps(unet, decoder_taps(unet)):
        assert hooks(unet) == 12
        raise ZeroDivisionError
    assert hooks(unet) == 0


def test_no_hook_is_left_after_an_exception_in_the_forward_pass(unet, inputs):
    latent, t, _ = inputs
    with (
        pytest.raises(RuntimeError, match="mat1 and mat2"),
        record_taps(unet, decoder_taps(unet)),
    ):
        unet(latent, t, torch.zeros(2, 5, 7))
    assert hooks(unet) == 0


class Chain(nn.Module):
    """Three layers in a row; counts how often each was entered."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(2, 2) for _ in range(3))
        self.unused = nn.Linear(2, 2)
        self.entered = 0

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.first, self.second, self.third):
            self.entered += 1
            x = layer(x)
        return x


def test_a_tap_that_does_not_fire_is_an_error():
    model = Chain()
    with (
        pytest.raises(TapError, match=r"^taps never fired: unused$"),
        record_taps(model, ["first", "unused"]),
    ):
        model(torch.ones(1, 2))
    assert hooks(model) == 0


def test_a_tap_that_fires_twice_is_an_error():
    model = Chain()
    with (
        pytest.raises(TapError, match="'first' fired twice: record one forward pass"),
        record_taps(model, ["first"]),
    ):
        model(torch.ones(1, 2))
        model(torch.ones(1, 2))
    assert hooks(model) == 0


def test_an_unknown_tap_names_the_nearest_layer():
    with (
        pytest.raises(
            InputError, match=r"Chain has no layer 'secnd' to tap. Did you mean 'second'"
        ),
        record_taps(Chain(), ["first", "secnd"]),
    ):
        pytest.fail("the block must not run")


def test_stop_after_last_ends_the_pass_at_the_last_tap():
    model = Chain()
    with record_taps(model, ["first", "second"], stop_after_last=True) as taps:
        model(torch.ones(1, 2))
        pytest.fail("the pass must end the block")
    assert model.entered == 2
    assert list(taps) == ["first", "second"]
    assert hooks(model) == 0


@torch.no_grad()
def test_stop_after_last_never_runs_the_blocks_after(unet, inputs):
    run = []
    modules = dict(unet.named_modules())
    watched = ["up_blocks.1", "up_blocks.2", "up_blocks.2.upsamplers.0", "up_blocks.3", "conv_out"]
    handles = [
        modules[name].register_forward_pre_hook(lambda _m, _a, name=name: run.append(name))
        for name in watched
    ]
    names = [name for name in decoder_taps(unet) if name < "up_blocks.3"]
    with record_taps(unet, names, stop_after_last=True) as taps:
        unet(*inputs)
    for handle in handles:
        handle.remove()
    assert len(taps) == 9
    # The third block is entered but ends at its last tap, before its upsampler.
    assert run == ["up_blocks.1", "up_blocks.2"]

    with record_taps(unet, names) as whole:
        unet(*inputs)
    for name in names:
        assert torch.equal(taps[name], whole[name])


@torch.no_grad()
def test_taps_of_a_stopped_pass_are_freed_at_once(unet, inputs):
    """An exception that ends the pass must not keep the maps alive through its traceback."""
    import gc
    import weakref

    gc.collect()
    gc.disable()
    try:
        with record_taps(unet, decoder_taps(unet), stop_after_last=True) as taps:
            unet(*inputs)
        alive = [weakref.ref(value) for value in taps.values()]
        del taps
        assert [ref() for ref in alive] == [None] * 12
    finally:
        gc.enable()
