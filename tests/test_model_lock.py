"""Threads take lock with a model: whose work follows whose."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from small_synthesis import OPTIONS, settings

from warpkit.describe.extractor import Extractor
from warpkit.features.model_lock import ModelLock
from warpkit.synthesize import generation
from warpkit.synthesize.config import GenerationConfig
from warpkit.synthesize.generation import Generator

CPU = torch.device("cpu")


def taken(turn, *, wanted: bool) -> bool:
    """Whether another thread has to wait: looked at for a moment, or until it has its turn."""
    trying, entered = threading.Event(), threading.Event()

    def enter():
        trying.set()
        with turn():
            entered.set()

    thread = threading.Thread(target=enter, daemon=True)
    thread.start()
    assert trying.wait(20)
    return not entered.wait(0.3 if wanted else 20)


def test_a_turn_is_one_threads_alone_and_may_be_nested():
    lock = ModelLock(CPU)
    with lock():
        with lock():
            pass
        assert taken(lock, wanted=True)
    assert not taken(lock, wanted=False)


def test_a_turn_that_fails_ends():
    lock = ModelLock(CPU)
    with pytest.raises(ZeroDivisionError), lock():
        _ = 1 / 0
    assert not taken(lock, wanted=False)


@pytest.mark.parametrize("fails", [False, True])
def test_on_a_gpu_a_turn_follows_all_that_was_queued_in_the_last(monkeypatch, fails):
    """With CUDA's calls replaced: streams wait for each other's work, threads do not."""
    order = []

    class Stream:
        def __init__(self, name):
            self.name = name

        def wait_event(self, event):
            order.append(f"{self.name} waits for {event}")

        def record_event(self):
            order.append(f"{self.name} queued")
            return f"what {self.name} queued"

    current = [Stream("first"), Stream("second")]
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current[0])
    lock = ModelLock(torch.device("cuda", 0))
    try:
        with lock():
            order.append("first calls")
            if fails:
                raise RuntimeError("out of memory")
    except RuntimeError:
        assert fails
    current.pop(0)
    with lock():
        order.append("second calls")
    assert order == [
        "first calls",
        "first queued",
        "second waits for what first queued",
        "second calls",
        "second queued",
    ]


def test_all_that_call_one_network_take_the_same_turns():
    extractor = OPTIONS.load_extractor()
    backbone = extractor.backbone
    for other in (
        extractor.resized(64),
        Extractor(backbone, extractor.network),
        Extractor(backbone.with_settings(backbone.settings), extractor.network),
    ):
        with other.locked():
            assert taken(extractor.locked, wanted=True)
    with OPTIONS.load_extractor().locked():
        assert not taken(extractor.locked, wanted=False)


def test_a_digest_takes_a_turn(monkeypatch):
    """It embeds the prompt."""
    extractor, seen = OPTIONS.load_extractor(), []
    state = extractor.backbone.state

    def looked_at():
        seen.append(taken(extractor.locked, wanted=True))
        return state()

    monkeypatch.setattr(extractor.backbone, "state", looked_at)
    extractor.digest()
    assert seen == [True]


@pytest.mark.parametrize("features", ["run", "image"])
def test_images_are_taken_from_the_model_after_its_turn(monkeypatch, features):
    """Another thread queues the next ones while this one waits for its own."""
    config = settings(generation=GenerationConfig(steps=2, guidance=1, features=features))
    extractor = OPTIONS.load_extractor()
    generator = Generator(extractor, config.generation)
    calls, seen = extractor.backbone.unet.forward, []

    def forward(*given, **named):
        if not seen:
            seen.append(taken(extractor.locked, wanted=True))
        return calls(*given, **named)

    pixels = generation.to_uint8

    def to_uint8(images):
        seen.append(taken(extractor.locked, wanted=False))
        return pixels(images)

    monkeypatch.setattr(extractor.backbone.unet, "forward", forward)
    monkeypatch.setattr(generation, "to_uint8", to_uint8)
    (image,) = generator.generate([config.plans().pair(0).source])
    assert seen == [True, False]
    assert np.ptp(image.image) > 0


def test_describing_takes_a_turn(monkeypatch):
    extractor = OPTIONS.load_extractor()
    calls, seen = extractor.backbone.unet.forward, []

    def forward(*given, **named):
        seen.append(taken(extractor.locked, wanted=True))
        return calls(*given, **named)

    monkeypatch.setattr(extractor.backbone.unet, "forward", forward)
    extractor.describe([np.zeros((32, 32, 3), np.uint8)])
    assert seen == [True]
