"""The nearest pixel of a mask: both ways against comparing with every pixel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from warpkit.coords import pixel_grid
from warpkit.match import nearest_set as module
from warpkit.match.nearest_set import distance_to, nearest_set


def _masks() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    few = torch.rand(23, 31, generator=generator) > 0.98
    half = torch.rand(23, 31, generator=generator) > 0.5
    one = torch.zeros(5, 9, dtype=torch.bool)
    one[3, 7] = True
    return [few, half, one, torch.ones(3, 4, dtype=torch.bool), one[:, 7:8]]


@pytest.mark.parametrize("mask", _masks())
def test_the_exact_way_agrees_with_every_pixel(
    mask: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", 40)  # several blocks of rows
    places = pixel_grid(height=mask.shape[0], width=mask.shape[1])
    away = torch.cdist(places.view(-1, 2).double(), places[mask].double())
    index, square = module._separably(mask)
    assert torch.equal(square.flatten(), (away.amin(dim=1) ** 2).round().long())
    assert bool(mask.flatten()[index].all())
    reached = (places.view(-1, 2)[index] - places).square().sum(dim=-1)
    assert torch.equal(reached.long(), square)
    # A CPU's quick way is near to it.
    exact = square.float().sqrt()
    assert torch.allclose(distance_to(mask), exact, rtol=0.03)
    quick = (places.view(-1, 2)[nearest_set(mask)] - places).norm(dim=-1)
    assert torch.allclose(quick, exact, rtol=0.03)


def test_nothing_set_is_far_away() -> None:
    assert bool((module._separably(torch.zeros(4, 5, dtype=torch.bool))[1] > 2**30).all())
