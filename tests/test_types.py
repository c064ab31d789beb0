"""The containers hold what they promise, or are not built."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from warpkit.types import DescriptorMap, Matches, Sites, Warp


def test_a_covering_map_tiles_the_image():
    descriptors = DescriptorMap.covering(torch.zeros(5, 3, 4), height=9, width=10)
    assert descriptors.channels == 5
    assert descriptors.grid_size == (3, 4)
    assert (descriptors.cell_height, descriptors.cell_width) == (3.0, 2.5)


def test_a_map_changes_dtype_and_device_in_a_copy():
    half = DescriptorMap.covering(torch.zeros(1, 2, 2, dtype=torch.float16), height=4, width=6)
    full = half.float()
    assert full.data.dtype == torch.float32
    assert half.data.dtype == torch.float16
    assert (full.height, full.width, full.cell_width) == (4, 6, 3.0)
    assert half.to("meta").data.device.type == "meta"


@pytest.mark.parametrize(
    "data",
    [
        torch.zeros(2, 2),
        torch.zeros(1, 1, 2, 2),
        torch.zeros(1, 2, 2, dtype=torch.int64),
        torch.zeros(0, 2, 2),
        torch.zeros(1, 0, 2),
    ],
)
def test_bad_descriptor_tensors(data):
    with pytest.raises(ValueError, match=r"data must be a non-empty float tensor \(C, h, w\), got"):
        DescriptorMap(data, height=2, width=2, cell_height=1.0, cell_width=1.0)


@pytest.mark.parametrize("name", ["height", "width", "cell_height", "cell_width"])
def test_bad_descriptor_sizes(name):
    sizes = {"height": 2, "width": 2, "cell_height": 1.0, "cell_width": 1.0} | {name: 0}
    with pytest.raises(ValueError, match="DescriptorMap sizes must be positive"):
        DescriptorMap(torch.zeros(1, 2, 2), **sizes)


def test_sites():
    assert len(Sites(torch.zeros(3, 2))) == 3
    assert len(Sites(torch.zeros(2, 2), (1, 2), torch.arange(2))) == 2
    for xy in (torch.zeros(0, 2), torch.zeros(3), torch.zeros(3, 3)):
        with pytest.raises(ValueError, match=r"Sites.xy must be a non-empty tensor \(N, 2\), got"):
            Sites(xy)
    with pytest.raises(ValueError, match=r"lattice and Sites.index are given together"):
        Sites(torch.zeros(1, 2), lattice=(1, 1))
    with pytest.raises(ValueError, match=r"lattice and Sites.index are given together"):
        Sites(torch.zeros(1, 2), index=torch.arange(1))
    with pytest.raises(ValueError, match=r"Sites.index must be \(2,\), got \(3,\)"):
        Sites(torch.zeros(2, 2), (1, 2), torch.arange(3))


GOOD_MATCHES = {
    "source_xy": torch.zeros(3, 2),
    "target_xy": torch.zeros(3, 4, 2),
    "similarity": torch.zeros(3, 4),
    "valid": torch.zeros(3, 4, dtype=torch.bool),
}


def test_matches():
    assert len(Matches(**GOOD_MATCHES)) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("source_xy", torch.zeros(3, 3)),
        ("source_xy", torch.zeros(2, 2)),
        ("target_xy", torch.zeros(3, 2)),
        ("target_xy", torch.zeros(3, 5, 2)),
        ("similarity", torch.zeros(3)),
        ("valid", torch.zeros(3, 4)),
        ("valid", torch.zeros(4, 3, dtype=torch.bool)),
    ],
)
def test_bad_matches(name, value):
    with pytest.raises(ValueError, match=r"Matches must hold source_xy \(N, 2\), target_xy"):
        Matches(**GOOD_MATCHES | {name: value})


GOOD_WARP = {
    "source_xy": torch.zeros(3, 5, 2),
    "similarity": torch.zeros(3, 5),
    "valid": torch.ones(3, 5, dtype=torch.bool),
    "source_height": 7,
    "source_width": 2,
}


def test_a_warp_has_the_size_of_its_target():
    warp = Warp(**GOOD_WARP)
    assert (warp.height, warp.width) == (3, 5)
    assert (warp.source_height, warp.source_width) == (7, 2)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("source_xy", torch.zeros(5, 3, 2), r"Warp must hold source_xy \(H, W, 2\)"),
        ("source_xy", torch.zeros(2, 3, 5), r"Warp must hold source_xy \(H, W, 2\)"),
        ("similarity", torch.zeros(15), r"Warp must hold source_xy \(H, W, 2\)"),
        ("valid", torch.ones(3, 5), r"Warp must hold source_xy \(H, W, 2\)"),
        ("source_width", 0, "Warp source size must be positive"),
    ],
)
def test_bad_warps(name, value, message):
    with pytest.raises(ValueError, match=message):
        Warp(**GOOD_WARP | {name: value})


@pytest.mark.parametrize(
    "container",
    [Matches(**GOOD_MATCHES), Warp(**GOOD_WARP), Sites(torch.zeros(1, 2))],
)
def test_containers_are_frozen(container):
    name = dataclasses.fields(container)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(container, name, None)
