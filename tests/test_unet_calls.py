"""Prepared UNet calls equal plain ones: taps, outputs, padded batches, what is kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from warpkit.checks import InputError
from warpkit.features.compiling import compile_call
from warpkit.features.taps import decoder_taps
from warpkit.features.unet_calls import (
    TappedUnet,
    UnetCalls,
    _Program,
    resolve_acceleration,
)


@pytest.fixture(scope="module")
def unet() -> Any:
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    model = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=12,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    return model.eval().requires_grad_(False)


def inputs(rows: int, side: int = 8, seed: int = 0) -> tuple[Tensor, dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randn(rows, 4, side, side, generator=generator)
    return sample, {"encoder_hidden_states": torch.randn(rows, 5, 12, generator=generator)}


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("rows", [4, 3, 2, 1])
def test_prepared_calls_equal_plain_ones(unet: nn.Module, rows: int, final: bool) -> None:
    names = decoder_taps(unet)
    plain, prepared = UnetCalls(unet, names, "none"), UnetCalls(unet, names, "graphs")
    prepared(*inputs(4)[:1], 10, inputs(4)[1])  # a larger program is there already
    for timestep in (-1, 980):
        sample, conditioning = inputs(rows, seed=timestep + 1)
        expected, taps = plain(sample, timestep, conditioning, record=True, final=final)
        found, found_taps = prepared(sample, timestep, conditioning, record=True, final=final)
        assert list(found_taps) == list(taps) == list(names)
        for name in names:
            torch.testing.assert_close(found_taps[name], taps[name], rtol=1e-4, atol=1e-5)
        if final:
            assert expected is None
            assert found is None
        else:
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_calls_without_recording_hand_out_no_taps(unet: nn.Module) -> None:
    for how in ("none", "graphs"):
        output, taps = UnetCalls(unet, decoder_taps(unet), how)(inputs(2)[0], 5, inputs(2)[1])
        assert output is not None
        assert output.shape == (2, 4, 8, 8)
        assert taps == {}


def test_an_output_outlives_the_next_call(unet: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guidance takes the difference of two calls; a graph writes both into one tensor."""
    run, kept = _Program.__call__, {}

    def replayed(self: Any, *arguments: Any) -> dict[str, Tensor]:
        for name, value in run(self, *arguments).items():
            kept.setdefault(name, torch.empty_like(value)).copy_(value)
        return kept

    monkeypatch.setattr(_Program, "__call__", replayed)
    calls = UnetCalls(unet, decoder_taps(unet), "graphs")
    first, _ = calls(inputs(2)[0], 5, inputs(2)[1])
    assert first is not None
    before = first.clone()
    second, _ = calls(inputs(2)[0], 5, inputs(2, seed=1)[1])
    assert torch.equal(first, before)
    assert second is not None
    assert not torch.equal(first, second)


def programs(calls: UnetCalls) -> list[tuple[int, bool, int]]:
    """Side, whether final, rows of every program, the least recently used first."""
    return [(shape[2], final, rows) for shape, final, rows in calls._programs]


def test_programs_are_shared_where_another_would_cost_more(unet: nn.Module) -> None:
    calls = UnetCalls(unet, decoder_taps(unet), "graphs")
    for rows, final in ((2, True), (4, False), (3, False), (2, True), (1, False), (4, True)):
        calls(*inputs(rows)[:1], 5, inputs(rows)[1], final=final)
    # 3 rows took the program of 4; the final 2 their own; 1 row is less than half of 4.
    assert sorted(programs(calls)) == [(8, False, 1), (8, False, 4), (8, True, 2)]


def test_the_least_recently_used_program_goes(unet: nn.Module) -> None:
    calls = UnetCalls(unet, decoder_taps(unet), "graphs")
    for side in range(4, 20, 2):  # eight of them
        calls(*inputs(1, side)[:1], 5, inputs(1, side)[1])
    calls(*inputs(1, 4)[:1], 5, inputs(1, 4)[1])
    calls(*inputs(1, 20)[:1], 5, inputs(1, 20)[1])
    assert [side for side, *_ in programs(calls)] == [*range(8, 20, 2), 4, 20]


@pytest.mark.parametrize("final", [False, True])
def test_what_the_compiler_gets_is_the_call(
    unet: nn.Module, final: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced with its taps; compiling itself takes minutes and is left out."""
    monkeypatch.setattr(torch, "compile", lambda module, **_: module)
    names = decoder_taps(unet)
    tapped = TappedUnet(unet, names, final=final)
    sample, conditioning = inputs(2)
    traced = compile_call(tapped, (sample, torch.full((2,), -1), conditioning))
    sample, conditioning = inputs(2, seed=9)
    arguments = (sample, torch.full((2,), 720), conditioning)
    found, expected = traced(*arguments), tapped(*arguments)
    assert set(found) == set(expected) == {*names, *(() if final else ("output",))}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
    assert all(not module._forward_hooks for module in unet.modules())


def test_auto_is_graphs_on_a_gpu_only() -> None:
    assert resolve_acceleration("auto", torch.device("cuda")) == "graphs"
    assert resolve_acceleration("auto", torch.device("cpu")) == "none"
    assert resolve_acceleration("auto", torch.device("mps")) == "none"
    assert resolve_acceleration("compile", torch.device("cuda")) == "compile"
    with pytest.raises(InputError, match="runs on cpu: use acceleration auto or none"):
        resolve_acceleration("compile", torch.device("cpu"))
    with pytest.raises(InputError, match="acceleration"):
        resolve_acceleration("graph", torch.device("cuda"))
