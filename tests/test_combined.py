"""Several models as one: similarities are weighted means, grids may differ, names are parsed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F

from warpkit.checks import InputError
from warpkit.coords import sample_descriptors
from warpkit.describe import load_extractor, resolve_model
from warpkit.describe.combined import CombinedExtractor
from warpkit.types import DescriptorMap


class Part:
    """Random maps of a chosen grid: enough of an extractor to be combined."""

    size, fit, batch_size, device = 64, "pad", 8, torch.device("cpu")

    def __init__(self, name: str, channels: int, grid: tuple[int, int], seed: int) -> None:
        self.name, self.channels, self.grid, self.seed = name, channels, grid, seed

    def digest(self) -> str:
        return f"{self.name} {self.seed}"

    def describe(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[DescriptorMap]:
        return self.describe_checked(images)

    def describe_checked(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[DescriptorMap]:
        generator = torch.Generator().manual_seed(self.seed)
        return [
            DescriptorMap.covering(
                5 * torch.randn(self.channels, *self.grid, generator=generator),
                height=image.shape[0],
                width=image.shape[1],
            )
            for image in images
        ]


IMAGES = [np.zeros((24, 32, 3), np.uint8), np.zeros((24, 32, 3), np.uint8)]


def combined(*parts: Part, shares: Sequence[float], **options: str) -> CombinedExtractor:
    return CombinedExtractor(parts, shares, **options)  # type: ignore[arg-type]


def test_the_similarity_is_the_weighted_mean_of_the_parts():
    parts = Part("a", 5, (6, 8), 0), Part("b", 3, (6, 8), 1)
    found = combined(*parts, shares=(3, 1)).describe(IMAGES)
    cosines = []
    for part in parts:
        one, two = part.describe(IMAGES)
        cosines.append(F.cosine_similarity(one.data[:, 2, 3], two.data[:, 4, 7], dim=0))
    one, two = (item.data for item in found)
    assert one.shape == (8, 6, 8)
    expected = 0.75 * cosines[0] + 0.25 * cosines[1]
    torch.testing.assert_close(one[:, 2, 3] @ two[:, 4, 7], expected)
    torch.testing.assert_close(one.norm(dim=0), torch.ones(6, 8))


def test_other_grids_are_read_at_the_first_grids_cells():
    fine, coarse = Part("fine", 4, (12, 16), 2), Part("coarse", 6, (5, 7), 3)
    found = combined(fine, coarse, shares=(1, 1)).describe(IMAGES)[0]
    assert found.grid_size == (12, 16)
    assert (found.cell_height, found.cell_width) == (2, 2)
    # Cell (u, v) = (9, 4) of 2 x 2 pixels has its centre at pixel (18.5, 8.5).
    there = sample_descriptors(coarse.describe(IMAGES)[0], torch.tensor([[18.5, 8.5]]))[0]
    torch.testing.assert_close(found.data[4:, 4, 9], there * 0.5**0.5)


def test_the_digest_knows_parts_and_shares():
    a, b = Part("a", 5, (6, 8), 0), Part("b", 3, (6, 8), 1)
    marks = {
        combined(a, b, shares=(1, 1)).digest(),
        combined(b, a, shares=(1, 1)).digest(),
        combined(a, b, shares=(2, 1)).digest(),
    }
    assert len(marks) == 3
    assert combined(a, b, shares=(2, 2)).digest() == combined(a, b, shares=(1, 1)).digest()


def test_shares_must_fit_the_parts():
    a, b = Part("a", 5, (6, 8), 0), Part("b", 3, (6, 8), 1)
    with pytest.raises(InputError, match=r"two parts or more .* got 2 parts and 1 share"):
        combined(a, b, shares=(1,))
    with pytest.raises(InputError, match=r"shares must be positive, got \[1, 0\]"):
        combined(a, b, shares=(1, 0))


def test_names_are_joined_by_plus():
    assert resolve_model("tiny+efficientnet-lite0").parts == (
        ("tiny", 1.0),
        ("efficientnet-lite0", 1.0),
    )
    assert resolve_model("0.7*tiny + .3*sd15").parts == (("tiny", 0.7), ("sd15", 0.3))
    with pytest.raises(InputError, match="unknown model 'tinny'"):
        resolve_model("tinny+sd15")
    with pytest.raises(InputError, match="joined by"):
        resolve_model("tiny+")
    with pytest.raises(
        InputError, match="'embedded' combines efficientnet-lite0 and tiny: name one"
    ):
        resolve_model("embedded+sd15")


def test_the_embedded_model_is_its_two_parts():
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = load_extractor("embedded", device="cpu", size=64)
    assert isinstance(whole, CombinedExtractor)
    # Inputs keep their proportion: 256 and 80 pixels by default, here 64 and 20.
    assert [part.size for part in load_extractor("embedded", device="cpu").parts] == [256, 80]
    assert [part.size for part in whole.parts] == [64, 20]
    found = whole.describe([image])[0]
    (first,) = load_extractor("efficientnet-lite0", device="cpu", size=64).describe([image])
    (second,) = load_extractor("tiny", device="cpu", size=20).describe([image])
    assert found.data.shape == (256, *first.data.shape[1:])
    torch.testing.assert_close(found.data[:128], 0.85**0.5 * F.normalize(first.data, dim=0))
    centre = torch.tensor([[31.5, 31.5], [10.0, 50.0]])
    torch.testing.assert_close(
        F.normalize(sample_descriptors(found, centre)[:, 128:], dim=1),
        F.normalize(sample_descriptors(second, centre), dim=1),
        atol=0.2,
        rtol=0,
    )
    torch.testing.assert_close(found.data, whole.stack([first, second]).data)


def test_a_combined_model_has_no_options_of_its_own():
    with pytest.raises(InputError, match="give --aggregator"):
        load_extractor("embedded", device="cpu", aggregator="some.safetensors")
    with pytest.raises(InputError, match="give --aggregator"):
        load_extractor("embedded", device="cpu", num_steps=10)
