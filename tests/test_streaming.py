"""The fast aggregation equals the readable one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from aggregation_toys import small_network, small_steps
from torch import Tensor

from warpkit.aggregate.network import AggregationConfig, AggregationNetwork
from warpkit.aggregate.streaming import StreamingAggregator
from warpkit.checks import InputError


def randomised(network: AggregationNetwork) -> AggregationNetwork:
    torch.manual_seed(1)
    for parameter in network.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 1.0, 0.4)
    return network.eval().requires_grad_(False)


def both(
    network: AggregationNetwork, steps: list[Any], grid: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    fast = StreamingAggregator(network, grid, dtype=torch.float32).run(steps)
    with torch.no_grad():
        return fast, network(steps, grid)


@pytest.mark.parametrize("order", ["resize-first", "bottleneck-first"])
@pytest.mark.parametrize("grid", [(9, 7), (13, 5), (4, 16), (3, 2)])
def test_it_equals_the_reference(order: str, grid: tuple[int, int]) -> None:
    network = randomised(small_network(order=order))
    fast, reference = both(network, small_steps(network.config), grid)
    assert fast.dtype == torch.float32
    torch.testing.assert_close(fast, reference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", ["resize-first", "bottleneck-first"])
def test_a_layer_of_the_descriptors_width_has_an_identity_shortcut(order: str) -> None:
    network = randomised(small_network(order=order))
    width = network.config.width
    config = AggregationConfig(
        **{**vars(network.config), "channels": (width, *network.config.channels[1:])}
    )
    other = randomised(AggregationNetwork(config))
    assert other.bottleneck_layers[0][0].shortcut is None  # type: ignore[index]
    fast, reference = both(other, small_steps(config), (6, 11))
    torch.testing.assert_close(fast, reference, rtol=1e-4, atol=1e-5)


def test_steps_may_come_in_any_order() -> None:
    network = randomised(small_network())
    steps = small_steps(network.config)
    fast, reference = both(network, steps[::-1], (9, 7))
    torch.testing.assert_close(fast, reference, rtol=1e-4, atol=1e-5)


def test_half_precision_stays_close() -> None:
    network = randomised(small_network())
    steps = small_steps(network.config)
    half = StreamingAggregator(network, (9, 7), dtype=torch.bfloat16).run(steps)
    with torch.no_grad():
        reference = network(steps, (9, 7))
    assert half.dtype == torch.float32
    assert float(F.cosine_similarity(half, reference, dim=1).min()) > 0.999


def test_an_entry_without_weight_is_not_computed() -> None:
    network = randomised(small_network())
    network.mixing_weights[0] = -torch.inf
    steps = small_steps(network.config)
    fast, reference = both(network, steps, (9, 7))
    torch.testing.assert_close(fast, reference, rtol=1e-4, atol=1e-5)
    first = network.config.layers[0]
    steps[0].maps[first].fill_(float("nan"))  # type: ignore[attr-defined]
    assert bool(
        StreamingAggregator(network, (9, 7), dtype=torch.float32).run(steps).isfinite().all()
    )


def test_missing_and_repeated_steps_are_errors() -> None:
    network = randomised(small_network())
    steps = small_steps(network.config)
    total = StreamingAggregator(network, (9, 7), dtype=torch.float32)
    total.add(steps[0])
    with pytest.raises(InputError, match="takes each once"):
        total.add(steps[0])
    with pytest.raises(InputError, match=f"needs {len(steps)} recorded steps, got 1"):
        total.result()
