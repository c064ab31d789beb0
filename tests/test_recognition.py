"""A classifier as the judge of generated images."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from recognition import Recogniser
from torch import Tensor

from warpkit.features.backbone import Backbone, BackboneSpec, Layer, StepFeatures
from warpkit.train.images import ImageStore

COLOURS = {"red": (1.0, 0.1, 0.1), "green": (0.1, 1.0, 0.1), "blue": (0.1, 0.1, 1.0)}


class Pixels(Backbone):
    """The image itself."""

    spec = BackboneSpec(
        name="pixels",
        layers=(Layer("rgb", 3, 1),),
        steps=(0,),
        num_steps=1,
        multiple=1,
        size=8,
        output_stride=1,
    )

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def features(self, images: Tensor) -> Iterator[StepFeatures]:
        yield StepFeatures(0, 0, -1, {"rgb": images})


def store(count: int, seed: int, *, mixed: bool = False) -> ImageStore:
    """Noisy images of a colour; `mixed` labels them by the next one."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    shown = torch.tensor(list(COLOURS.values()))[(labels + mixed) % 3]
    noise = 0.3 * torch.rand(count, 3, 10, 12, generator=generator)
    pixels = ((0.7 * shown[:, :, None, None] + noise) * 255).byte()
    sizes = torch.tensor([[10, 12]] * count)
    return ImageStore(pixels, sizes, labels, tuple(COLOURS), (None,) * count)


@pytest.mark.parametrize("mixed", [False, True])
def test_it_says_how_many_are_what_they_should_be(mixed):
    judge = Recogniser(Pixels(), store(30, 0), store(12, 1, mixed=mixed), size=8, steps=40)
    assert judge.held_out.top1 == (0.0 if mixed else 1.0)
    assert judge.held_out.top5 == 1.0  # there are three
    images = torch.tensor(list(COLOURS.values()))[:, :, None, None].expand(-1, -1, 16, 16)
    assert judge(images, ["red", "green", "blue"]).top1 == 1
    assert judge(images, ["red", "green", "red"]).top1 == pytest.approx(2 / 3)
    assert judge(images, ["blue", "red", "green"]).top1 == 0
