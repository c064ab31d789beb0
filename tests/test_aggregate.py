"""The aggregation network is the paper's formula, streamed."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from aggregation_toys import (
    GRID,
    SIZES,
    all_at_once,
    bottleneck,
    small_config,
    small_network,
    small_steps,
)
from torch import Tensor

from warpkit.aggregate.network import AggregationNetwork
from warpkit.checks import InputError
from warpkit.features.backbone import StepFeatures


@pytest.mark.parametrize("order", ["resize-first", "bottleneck-first"])
@torch.no_grad()
def test_streaming_is_the_formula(order):
    network = small_network(order=order)
    steps = small_steps(network.config)
    expected = all_at_once(
        network.state_dict(),
        [list(step.maps.values()) for step in steps],
        grid=GRID,
        groups=2,
        order=order,
    )
    found = network(iter(steps), GRID)
    assert found.shape == (2, 8, 7, 9)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    # Generation delivers from noisy to clean: the order of arrival does not matter.
    torch.testing.assert_close(network(reversed(steps), GRID), expected, rtol=0, atol=1e-6)
    shuffled = [steps[1], steps[2], steps[0]]
    torch.testing.assert_close(network(shuffled, GRID), expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_the_two_orders_differ():
    first, second = small_network(), small_network(order="bottleneck-first")
    steps = small_steps(first.config)
    assert float((first(steps, GRID) - second(steps, GRID)).abs().max()) > 1e-3


@torch.no_grad()
def test_mixing_weights_are_step_major():
    network = small_network()
    network.mixing_weights.fill_(0)
    network.mixing_weights[2 * 4 + 1] = 100.0  # step entry 2, layer b
    steps = small_steps(network.config)
    upsampled = F.interpolate(steps[2].maps["b"], size=GRID, mode="bilinear", align_corners=False)
    expected = bottleneck(network.state_dict(), 1, upsampled, 2)
    torch.testing.assert_close(network(steps, GRID), expected)
    mixing = network.mixing()
    assert mixing.shape == (3, 4)
    assert float(mixing[2, 1]) == 1.0


def test_a_fresh_network_weighs_all_maps_alike():
    mixing = AggregationNetwork(small_config()).mixing()
    torch.testing.assert_close(mixing, torch.full((3, 4), 1 / 12))


def test_gradients_reach_every_parameter():
    network = AggregationNetwork(small_config())
    network(small_steps(network.config), GRID).square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in network.parameters())


def test_missing_repeated_and_foreign_steps_are_refused():
    network = small_network()
    steps = small_steps(network.config)
    with pytest.raises(InputError, match="the aggregator needs 3 recorded steps, got 2"):
        network(steps[:2], GRID)
    with pytest.raises(InputError, match="step entry 0 was not expected: the aggregator has 3"):
        network([steps[0], steps[0]], GRID)
    with pytest.raises(InputError, match="step entry 3 was not expected"):
        network([StepFeatures(3, 9, 160, steps[0].maps)], GRID)


def test_missing_and_foreign_layers_are_refused():
    network = small_network()
    maps = dict(small_steps(network.config)[0].maps)
    wide = maps | {"c": torch.zeros(2, 5, 7, 9)}
    with pytest.raises(InputError, match="expects layer 'c' with 4 channels, the backbone gave"):
        network([StepFeatures(0, 0, -1, wide)], GRID)
    del maps["d"]
    with pytest.raises(InputError, match="expects layer 'd' with 12 channels, the backbone gave"):
        network([StepFeatures(0, 0, -1, maps)], GRID)


def test_an_impossible_configuration_is_refused():
    with pytest.raises(InputError, match="got 4 layers, 3 counts, 3 steps"):
        small_config(channels=(1, 2, 3))


@pytest.mark.parametrize("recorded", [1, 11])
def test_one_step_s_maps_are_alive_at_a_time(recorded):
    """Whatever the number of steps: when a step is computed, all maps before it are gone."""
    import gc

    network = small_network(steps=tuple(range(recorded)), num_steps=11)
    alive: list[weakref.ref[Tensor]] = []
    counts: list[int] = []

    def stream() -> Iterator[StepFeatures]:
        for entry in range(recorded):
            counts.append(sum(ref() is not None for ref in alive))
            maps = {
                name: torch.ones(1, channels, *SIZES[name])
                for name, channels in zip("abcd", network.config.channels, strict=True)
            }
            alive.extend(weakref.ref(value) for value in maps.values())
            step = StepFeatures(entry, entry, 0, maps)
            del maps
            yield step
            del step

    gc.collect()
    gc.disable()
    try:
        with torch.no_grad():
            network(stream(), GRID)
    finally:
        gc.enable()
    assert counts == [0] * recorded
    assert len(alive) == 4 * recorded


def peak_bytes(recorded: int) -> int:
    """Most bytes that torch held at once while it aggregated, by its own account."""
    from torch.profiler import ProfilerActivity, profile

    network = small_network(steps=tuple(range(recorded)), num_steps=11)

    def stream() -> Iterator[StepFeatures]:
        for entry in range(recorded):
            yield StepFeatures(
                entry,
                entry,
                0,
                {
                    name: torch.ones(1, channels, 64, 64)
                    for name, channels in zip("abcd", network.config.channels, strict=True)
                },
            )

    with (
        torch.no_grad(),
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recording,
    ):
        network(stream(), (64, 64))
    held = peak = 0
    for event in recording.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def test_peak_memory_does_not_grow_with_the_steps():
    step = sum(small_config().channels) * 64 * 64 * 4
    one, eleven = peak_bytes(1), peak_bytes(11)
    assert one > step
    # The running sum is the only thing a second step adds.
    running_sum = 8 * 64 * 64 * 4
    assert eleven <= one + running_sum + 4096
