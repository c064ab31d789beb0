"""The descriptors of a pair that are computed while something else is done."""

from __future__ import annotations

import threading

import pytest
import torch

from warpkit.checks import InputError
from warpkit.describe.options import ModelOptions
from warpkit.features.efficientnet import EfficientNetBackbone
from warpkit.image.described import described_beside
from warpkit.image.pair import ImagePair
from warpkit.runs.clock import Stopwatch

SMALL = ModelOptions(model="tiny", device="cpu", size=32)


@pytest.fixture
def pair(clip) -> ImagePair:
    return ImagePair.checked(clip[0].image, clip[3].image)


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads that load models."""
    real, threads = ModelOptions.load_extractor, []

    def load(self: ModelOptions):
        threads.append(threading.current_thread())
        return real(self)

    monkeypatch.setattr(ModelOptions, "load_extractor", load)
    return threads


def test_a_model_that_ships_describes_beside_the_block(pair, loading):
    clock = Stopwatch()
    with described_beside(pair, SMALL, mirrored=pair.source, clock=clock) as maps:
        found = maps()
    truth = pair.describe(SMALL.load_extractor(), mirrored=pair.source)
    for one, other in zip(found, truth, strict=True):
        assert torch.equal(one.data, other.data)
        assert not one.data.requires_grad
    assert [thread is threading.main_thread() for thread in loading] == [False, True]
    assert clock.seconds["load model"] > 0


@pytest.mark.parametrize("given", [False, True])
def test_other_models_wait_until_they_are_asked(pair, loading, tmp_path, given):
    """A model file may name anything; one that is given may be in use."""
    file = tmp_path / "model.yaml"
    file.write_text("backbone: tiny\naggregator: tiny\n")
    options = SMALL if given else ModelOptions(model=str(file), device="cpu", size=32)
    describer = SMALL.load_extractor() if given else None
    loading.clear()
    with described_beside(pair, options, describer) as maps:
        assert loading == []
        source, _, mirrored = maps()
    assert loading == ([] if given else [threading.main_thread()])
    assert mirrored is None
    assert torch.equal(source.data, pair.describe(SMALL.load_extractor())[0].data)


def test_what_hinders_it_is_raised_where_it_is_asked_for(pair, tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"no weights")
    options = ModelOptions(
        model="tiny", device="cpu", aggregator=tmp_path / "bad.safetensors", size=32
    )
    reached = False
    with (
        pytest.raises(InputError, match=r"bad\.safetensors"),
        described_beside(pair, options) as maps,
    ):
        reached = True
        maps()
    assert reached
    # What fails in the block comes first.
    with pytest.raises(InputError, match="no mask"), described_beside(pair, options):
        raise InputError("no mask")


def test_one_network_is_read_for_descriptors_and_foreground():
    device = torch.device("cpu")
    one, other = (EfficientNetBackbone(device=device, shared=True) for _ in range(2))
    own = EfficientNetBackbone(device=device)
    assert one.net is other.net
    assert own.net is not one.net
