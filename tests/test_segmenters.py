"""Published segmenters over transformers: frames of prompts, texts, what each can do, downloads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fake_hub import FakeHub
from small_segmenters import save_small_segmenter

import warpkit
from warpkit import WarpSettings
from warpkit.checks import InputError
from warpkit.describe.manage import list_models
from warpkit.features import segmenters
from warpkit.features.model_sources import RELEASES
from warpkit.features.segmenters import Segmenter, load_segmenter
from warpkit.image.foreground import FoundObject, Hints
from warpkit.image.match import MatchSettings
from warpkit.image.segment import object_finder, segment_object

CPU = torch.device("cpu")
HEIGHT, WIDTH = 20, 40


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("segmenters")
    return {kind: save_small_segmenter(root / kind, kind) for kind in segmenters.SEGMENTERS}


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


def heard(net: Any) -> dict[str, Any]:
    """What a network is called with next."""
    told: dict[str, Any] = {}
    net.register_forward_pre_hook(lambda _, __, named: told.update(named), with_kwargs=True)
    return told


def test_prompts_come_in_the_network_s_own_frame(
    folders: dict[str, Path], image: torch.Tensor
) -> None:
    found = load_segmenter(str(folders["sam2"]), CPU)
    told = heard(found.prompted)
    first, second = (
        found.by_prompts(
            image, box=(4.0, 2.0, 35.0, 17.0), points=[(30.0, 10.0)], background=[(0.0, 19.0)]
        )
        for _ in range(2)
    )
    assert first.shape == (HEIGHT, WIDTH)
    assert torch.equal(first, second)
    assert told["pixel_values"].shape == (1, 3, 64, 64)
    # Half-pixel centres: x of 40 pixels lies at (x + 0.5) * 64 / 40 - 0.5 of 64.
    expected = [[30.5 * 1.6 - 0.5, 10.5 * 3.2 - 0.5], [0.5 * 1.6 - 0.5, 19.5 * 3.2 - 0.5]]
    torch.testing.assert_close(told["input_points"], torch.tensor([[expected]]))
    assert told["input_labels"].tolist() == [[[1, 0]]]
    corners = [4.5 * 1.6 - 0.5, 2.5 * 3.2 - 0.5, 35.5 * 1.6 - 0.5, 17.5 * 3.2 - 0.5]
    torch.testing.assert_close(told["input_boxes"], torch.tensor([[corners]]))
    assert told["multimask_output"] is False
    told.clear()
    found.by_prompts(image, points=[(30.0, 10.0)])
    assert told["multimask_output"] is True  # what a single point means is open
    assert "input_boxes" not in told


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("sam2", [(0.5 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.5 - 0.406) / 0.225]),
        ("sam3", [0.0, 0.0, 0.0]),
        ("clipseg", [(0.5 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.5 - 0.406) / 0.225]),
    ],
)
def test_pixels_are_normalised_as_in_training(
    folders: dict[str, Path], kind: str, expected: list[float]
) -> None:
    found = load_segmenter(str(folders[kind]), CPU)
    told = heard(found.prompted if kind == "sam2" else found.reading)
    gray = torch.full((1, 3, HEIGHT, WIDTH), 0.5)
    if kind == "sam2":
        found.by_prompts(gray, points=[(1, 1)])
    else:
        found.by_text(gray, "cat")
    side = {"sam2": 64, "sam3": 56, "clipseg": 64}[kind]
    values = torch.tensor(expected)[None, :, None, None].expand(1, 3, side, side)
    torch.testing.assert_close(told["pixel_values"], values)


@pytest.mark.parametrize("kind", ["sam3", "clipseg"])
def test_texts_give_logits_of_every_pixel(
    folders: dict[str, Path], image: torch.Tensor, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load_segmenter(str(folders[kind]), CPU)
    told = heard(found.reading)
    if kind == "sam3":  # its weights are random: no instance is sure
        assert bool((found.by_text(image, "cat") < -10).all())
        monkeypatch.setattr(segmenters, "_SCORE", 0.2)
    first, second = found.by_text(image, "cat"), found.by_text(image, "cat")
    assert first.shape == (HEIGHT, WIDTH)
    assert bool(first.isfinite().all())
    assert torch.equal(first, second)
    start, cat, end = 10, 9, 11
    length = 32 if kind == "sam3" else 3
    assert told["input_ids"][0, :3].tolist() == [start, cat, end]
    assert told["input_ids"].shape == (1, length)
    assert told["attention_mask"].sum() == 3
    # More words than a network reads are cut off.
    assert found.by_text(image, "cat " * 50).shape == (HEIGHT, WIDTH)


def test_sam3_takes_points_by_its_tracker(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(Segmenter, "_load", lambda _, name: asked.append(name))
    found = load_segmenter(str(folders["sam3"]), CPU)
    assert (found.prompted, found.reading) == (None, None)
    assert asked == ["Sam3TrackerModel", "Sam3Model"]


class Lamp:
    """Stands in for a network: lights the cell of a 16 x 16 grid that the first point lies in."""

    def __init__(self) -> None:
        self.config = SimpleNamespace(prompt_encoder_config=SimpleNamespace(image_size=64))
        self.boxes: list[list[float]] = []

    def __call__(self, *, pixel_values: torch.Tensor, **prompts: Any) -> Any:
        masks = torch.full((1, 1, 2, 16, 16), -1.0)
        if "input_boxes" in prompts:
            self.boxes.append(prompts["input_boxes"][0, 0].tolist())
            left, top, right, bottom = (round(value / 4 + 0.1) for value in self.boxes[-1])
            masks[0, 0, 1, top:bottom, left:right] = 1.0
        else:
            x, y = prompts["input_points"][0, 0, 0].tolist()
            masks[0, 0, 1, int((y + 0.5) / 4), int((x + 0.5) / 4)] = 1.0
        # The other mask is expected to be worse.
        return SimpleNamespace(pred_masks=masks, iou_scores=torch.tensor([[[0.1, 0.9]]]))


@pytest.fixture
def lamp(folders: dict[str, Path]) -> Segmenter:
    found = Segmenter("sam2", folders["sam2"], CPU)
    found.__dict__["prompted"] = Lamp()
    return found


def test_a_point_lights_up_where_it_lies(lamp: Segmenter) -> None:
    picture = np.zeros((32, 64, 3), np.uint8)  # cells of 2 x 4 pixels
    found = segment_object(picture, Hints(points=((50.0, 5.0),)), segmenter=lamp)
    y, x = np.nonzero(found.mask)
    # The cell is x 48 to 51, y 4 and 5; between the centres of cells logits are bilinear.
    assert (x.min(), x.max(), y.min(), y.max()) == (49, 50, 4, 5)
    assert found.agreement == 1.0  # mirrored, too


def test_without_a_hint_the_head_says_where(lamp: Segmenter) -> None:
    block = np.zeros((32, 64), bool)
    block[8:24, 16:48] = True

    def first(_image: Any, _hints: Hints) -> FoundObject:
        return FoundObject(block, 0.6, ("zoomed and mirrored views agree on 60 % of it only",))

    found = segment_object(np.zeros((32, 64, 3), np.uint8), segmenter=lamp, first=first)
    box, mirrored = lamp.prompted.boxes
    assert box == pytest.approx([16.5 - 0.5, 8.5 * 2 - 0.5, 47.5 - 0.5, 23.5 * 2 - 0.5])
    assert mirrored == pytest.approx(box)  # it is in the middle
    assert "agree on 60 %" in found.doubts[0]
    assert (found.mask & block).sum() / (found.mask | block).sum() > 0.8


def test_of_what_a_text_names_hints_choose(folders: dict[str, Path]) -> None:
    logits = torch.full((32, 64), -1.0)
    logits[4:12, 4:20] = logits[20:28, 40:60] = 1

    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:, :32] = 255  # tells the image from its mirror

    class Reader(Segmenter):
        def by_text(self, image: torch.Tensor, text: str) -> torch.Tensor:
            assert text == "dog"
            return logits if image[0, 0, 0, 0] == 1 else logits.flip(1)

    reader = Reader("clipseg", folders["clipseg"], CPU)

    def pixels(hints: Hints) -> int:
        return int(segment_object(picture, hints, segmenter=reader, text="dog").mask.sum())

    assert pixels(Hints()) == 8 * 16 + 8 * 20
    assert pixels(Hints(points=((50.0, 24.0),))) == 8 * 20
    assert pixels(Hints(background=((50.0, 24.0),))) == 8 * 16
    assert pixels(Hints(box=(0.0, 0.0, 9.0, 31.0))) == 8 * 6


@pytest.mark.parametrize(
    ("segmenter", "text", "message"),
    [
        ("sam2", "dog", "sam2 finds what a box or points name and reads no text"),
        ("clipseg", None, 'clipseg finds what a text names: add --text "dog"'),
        (None, "dog", "the text 'dog' is for a segmenter that reads it: add --segmenter sam3"),
        ("sam3", " ", "the text is empty"),
    ],
)
def test_what_a_segmenter_cannot_do_is_said_before_a_download(
    segmenter: str | None, text: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        object_finder("cpu", segmenter=segmenter, text=text)


def test_settings_that_cannot_be() -> None:
    for settings in (WarpSettings, MatchSettings):
        with pytest.raises(InputError, match="the segmenter sam2 finds objects, and --mask none"):
            settings(mask="none", segmenter="sam2")
        with pytest.raises(InputError, match="add --segmenter sam3 or clipseg"):
            settings(text="dog")


def test_folders_that_are_no_segmenter(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sam2 finds what a box or points name"):
        object_finder("cpu", segmenter=str(folders["sam2"]), text="dog")
    with pytest.raises(InputError, match=r"expected config\.json in it"):
        load_segmenter(str(tmp_path), CPU)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="a model of type 'bert': expected a segmenter, one of"):
        load_segmenter(str(tmp_path), CPU)
    (tmp_path / "config.json").write_text('{"model_type": "sam2"}')
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match=str(tmp_path)):
        _ = load_segmenter(str(tmp_path), CPU).prompted


def test_a_transformers_that_is_too_old(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.Sam3Model", None)
    found = load_segmenter(str(folders["sam3"]), CPU)
    with pytest.raises(InputError, match="has no Sam3Model, which the segmenter sam3 needs: pip"):
        _ = found.reading


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders: dict[str, Path]) -> FakeHub:
    monkeypatch.setenv("WARPKIT_CACHE", str(tmp_path / "cache"))
    hub = FakeHub(tmp_path)
    hub.repositories = {RELEASES[kind].hub_ids[0]: folder for kind, folder in folders.items()}
    hub.install(monkeypatch)
    return hub


def test_licence_and_size_are_shown_before_a_download(
    hub: FakeHub, cli: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "warpkit")
    refused = cli("models", "download", "sam3", small=False)
    assert "GB, licence SAM License (to be accepted on its page)" in refused.err
    assert hub.downloads == []
    assert load_segmenter("sam2", CPU).prompted.config.model_type == "sam2"
    said = [record.getMessage() for record in caplog.records]
    assert said[0].startswith(f"downloading facebook/sam2.1-hiera-tiny at {'a' * 12}: ")
    assert said[0].endswith("GB, licence Apache-2.0")
    assert cli("models", "verify", "sam2", small=False).code == 0
    rows = {row["model"]: (row["licence"], row["weights"], row["here"]) for row in list_models()}
    assert rows["sam2"] == ("Apache-2.0", "0.16 GB", "yes")
    assert rows["clipseg"] == ("Apache-2.0", "0.6 GB", "no")
    hub.online = False  # now it is here
    assert load_segmenter("sam2", CPU).kind == "sam2"


def test_offline_says_how_to_get_it(hub: FakeHub) -> None:
    hub.online = False
    with pytest.raises(InputError) as refused:
        load_segmenter("clipseg", CPU)
    message = str(refused.value)
    assert "\n" not in message
    assert "`warpkit models download clipseg`" in message
    assert "--segmenter FOLDER" in message
    for name in (RELEASES["clipseg"].hub_ids[0], "facebook/sam2.1-hiera-small"):
        with pytest.raises(InputError, match=f"`warpkit models download {name}`, or give"):
            load_segmenter(name, CPU)
    # What no name tells apart the command would take for Stable Diffusion.
    with pytest.raises(InputError) as refused:
        load_segmenter("someone/outlines", CPU)
    assert "Use it once on a connected machine, which downloads it, or give" in str(refused.value)
    assert "models download" not in str(refused.value)


@pytest.mark.parametrize("name", ["facebook/sam2.1-hiera-tiny", "facebook/sam2.1-hiera-small"])
def test_a_segmenter_is_downloaded_by_its_hub_id(
    hub: FakeHub, cli: Callable, folders: dict[str, Path], name: str
) -> None:
    hub.repositories[name] = folders["sam2"]
    done = cli("models", "download", name, "--yes", small=False)
    assert (done.code, done.out) == (0, f"{name}: {hub._place(name, None)}\n")
    licence = "Apache-2.0" if name.endswith("tiny") else "see its page on the hub"
    assert f"licence {licence}" in done.err
    assert {f"{name}/config.json", f"{name}/model.safetensors"} <= set(hub.downloads)
    assert cli("models", "verify", name, small=False).code == 0
    hub.online = False
    assert load_segmenter(name, CPU).kind == "sam2"


def test_the_commands_take_a_segmenter(
    cli: Callable, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_text(_self: Segmenter, image: torch.Tensor, text: str) -> torch.Tensor:
        assert text == "red thing"
        return (image[0, 0] - image[0, 1] - 0.3) * 10  # what is red

    monkeypatch.setattr(Segmenter, "by_text", by_text)
    generator = np.random.default_rng(0)
    blocks = []
    for name, x in (("a", 12), ("b", 30)):
        picture = generator.integers(90, 120, (48, 64, 3), dtype=np.uint8)
        picture[14:34, x : x + 20, 0] = 250
        blocks.append(np.ptp(picture, axis=2) > 100)
        warpkit.write_image(tmp_path / f"{name}.png", picture)
    pair = tmp_path / "a.png", tmp_path / "b.png"
    asked = ("--segmenter", folders["clipseg"], "--text", "red thing")
    ran = cli("mask", pair[0], *asked, "-o", tmp_path / "m.png", small=False)
    assert ran.code == 0, ran.err
    np.testing.assert_array_equal(warpkit.read_mask(tmp_path / "m.png"), blocks[0])
    ran = cli("warp", *pair, *asked, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    for name, block in zip(("source", "target"), blocks, strict=True):
        mask = warpkit.read_mask(tmp_path / f"out/{name}_mask.png")
        np.testing.assert_array_equal(mask, block)
    for name, points in (("all", ("--all",)), ("one", ("--points", "20,20"))):
        ran = cli("match", *pair, *points, *asked, "-o", tmp_path / f"{name}.json")
        assert ran.code == 0, ran.err
        mask = warpkit.read_mask(tmp_path / f"{name}_target_mask.png")
        np.testing.assert_array_equal(mask, blocks[1])
