"""Objects found by themselves, by a box or by points; frames of videos by moments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import warpkit
from warpkit.checks import InputError, OutputError
from warpkit.features.foreground import (
    ForegroundHead,
    ForegroundModel,
    load_foreground_head,
    save_foreground_head,
)
from warpkit.image.foreground import (
    FoundObject,
    Hints,
    _deepest,
    _planes,
    find_object,
    mask_doubts,
    mask_pieces,
)
from warpkit.image.mask import parse_hints
from warpkit.io.frames import open_frames
from warpkit.io.moments import frame_at
from warpkit.render import CLIPS, RenderedFrame, render_frame

HEIGHT, WIDTH = 96, 160


@pytest.fixture(scope="module")
def network() -> ForegroundModel:
    return ForegroundModel(torch.device("cpu"))


@pytest.fixture(scope="module")
def balloons() -> RenderedFrame:
    return render_frame(replace(CLIPS["balloons"], height=HEIGHT, width=WIDTH), 0)


def overlap(found: FoundObject, mask: np.ndarray) -> float:
    return float((found.mask & mask).sum() / (found.mask | mask).sum())


def box_of(mask: np.ndarray) -> tuple[float, float, float, float]:
    y, x = np.nonzero(mask)
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


@pytest.mark.parametrize("name", ["beetle", "butterfly", "fish"])
def test_the_object_is_found_without_a_hint(name: str, network: ForegroundModel) -> None:
    frame = render_frame(replace(CLIPS[name], height=HEIGHT, width=WIDTH), 0)
    found = find_object(frame.image, model=network)
    assert overlap(found, frame.labels > 0) > 0.7
    assert found.mask.shape == (HEIGHT, WIDTH)
    assert 0 < found.agreement <= 1


def test_hints_choose_among_objects(network: ForegroundModel, balloons: RenderedFrame) -> None:
    for label in (1, 2):
        mask = balloons.labels == label
        y, x = (float(values.mean()) for values in np.nonzero(mask))
        by_box = find_object(balloons.image, Hints(box=box_of(mask)), model=network)
        assert overlap(by_box, mask) > 0.7
        by_point = find_object(balloons.image, Hints(points=((x, y),)), model=network)
        assert overlap(by_point, mask) > 0.7
        # Nothing of a box is outside it.
        x1, y1, x2, y2 = (round(value) for value in box_of(mask))
        assert by_box.mask.sum() == by_box.mask[y1 : y2 + 1, x1 : x2 + 1].sum()


def test_points_off_the_object_take_away(network: ForegroundModel, balloons: RenderedFrame) -> None:
    first, second = (balloons.labels == label for label in (1, 2))
    y, x = (float(values.mean()) for values in np.nonzero(second))
    both = (0.0, 0.0, 159.0, 95.0)
    for box in (None, both):
        found = find_object(balloons.image, Hints(box, (), ((x, y),)), model=network)
        assert overlap(found, first) > 0.6
        assert not found.mask[round(y), round(x)]


def test_the_deepest_place_is_far_from_the_outline_and_from_points_off_it() -> None:
    logits = torch.full((20, 40), -1.0)
    logits[5:16, 2:13] = logits[5:16, 20:31] = 1
    assert _deepest(logits, ()) in ((7.0, 10.0), (25.0, 10.0))
    assert _deepest(logits, ((7.0, 10.0),)) == (25.0, 10.0)
    assert _deepest(torch.tensor([[-3.0, -1.0]]), ()) == (1.0, 0.0)


def test_planes_hold_what_was_hinted() -> None:
    hints = Hints((2.0, 1.0, 5.0, 3.0), ((10.0, 4.0),), ((0.0, 7.0),))
    planes = _planes(hints, hints.box, height=8, width=20)[0]
    box = np.full((8, 20), -1.0)
    box[1:4, 2:6] = 1
    np.testing.assert_array_equal(planes[2], box)
    assert planes[0].nonzero().tolist() == [[4, 10]]  # a disc of half a pixel
    assert planes[1].nonzero().tolist() == [[7, 0]]
    assert bool((planes[3] == 1).all())
    assert not _planes(Hints(), None, height=8, width=20).any()


def test_pieces_are_those_that_points_lie_on() -> None:
    mask = np.zeros((10, 20), bool)
    mask[1:9, 1:9] = mask[4:6, 12:14] = mask[0, 19] = True
    assert mask_pieces(mask).sum() == 64 + 4
    assert mask_pieces(mask, share=1.0).sum() == 64
    assert mask_pieces(mask, at=((12.2, 4.9),)).sum() == 4
    assert mask_pieces(mask, at=((16.0, 4.0),)).sum() == 64 + 4  # on none of them
    assert mask_pieces(mask, off=((3.0, 3.0),)).sum() == 4
    assert mask_pieces(mask, off=((3.0, 3.0), (12.0, 4.0))).sum() == 64 + 4  # nothing would stay
    assert not mask_pieces(np.zeros((3, 3), bool)).any()
    # Points reach half a pixel beyond the outer centres.
    assert mask_pieces(mask, at=((19.5, -0.5),)).sum() == 1
    assert mask_pieces(mask, off=((19.5, 9.5),)).sum() == 64 + 4


def test_what_speaks_against_a_mask_is_said() -> None:
    mask = np.zeros((40, 40), bool)
    mask[10:30, 10:30] = True
    assert mask_doubts(mask, 0.9, None) == ()
    assert mask_doubts(mask, 0.4, None) == ("zoomed and mirrored views agree on 40 % of it only",)
    assert mask_doubts(~mask, 0.9, None) == ("it touches all four sides of the image",)
    assert mask_doubts(mask, 0.9, (10.0, 10.0, 29.0, 29.0)) == ("it fills 100 % of the box",)
    assert mask_doubts(mask, 0.9, (0.0, 0.0, 39.0, 39.0)) == ()
    off = "it holds a point that is said to be off the object"
    assert mask_doubts(mask, 0.9, None, ((12.0, 12.0),)) == (off,)
    assert mask_doubts(mask, 0.9, None, ((2.0, 12.0),)) == ()
    assert mask_doubts(mask, 0.9, None, ((39.5, 39.5),)) == ()


def test_the_same_picture_gives_the_same_mask(network: ForegroundModel) -> None:
    image = render_frame(replace(CLIPS["fish"], height=50, width=70), 3).image
    first, second = (find_object(image, model=network).mask for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("size", [(9, 300), (300, 9), (33, 33)])
def test_any_size_gives_a_mask_or_one_line(size: tuple[int, int], network: ForegroundModel) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    try:
        assert find_object(image, model=network).mask.shape == size
    except InputError as error:
        assert "no object was found" in str(error)


def test_hints_from_text() -> None:
    size = {"height": 100, "width": 200}
    found = parse_hints(box="10, 20.5,30,40", points=["-0.5,3"], background=[], **size)
    assert found == Hints((10, 20.5, 30, 40), ((-0.5, 3),))
    shares = parse_hints(box="0%,0%,100%,50%", points=[], background=["50%,12"], **size)
    assert shares == Hints((-0.5, -0.5, 199.5, 49.5), (), ((99.5, 12),))
    for wrong in ("1,2,3", "1,2,3,4,5", "a,b,c,d", "1;2;3;4", ""):
        with pytest.raises(InputError, match="expected a box"):
            parse_hints(box=wrong, points=[], background=[], **size)
    with pytest.raises(InputError, match="expected a point"):
        parse_hints(box=None, points=["1,2,3"], background=[], **size)


@pytest.mark.parametrize(
    ("hints", "message"),
    [
        (Hints(box=(70, 10, 20, 40)), "has no pixels inside the image of 160 x 96"),
        (Hints(box=(200, 200, 300, 300)), "has no pixels inside"),
        (Hints(box=(1, 2, 3)), "four numbers"),  # type: ignore[arg-type]
        (Hints(box=(0, 0, float("nan"), 3)), "four numbers"),
        (Hints(points=((170, 3),)), "points"),
        (Hints(background=((3, -5),)), "background"),
    ],
)
def test_hints_that_cannot_be(
    hints: Hints, message: str, network: ForegroundModel, balloons: RenderedFrame
) -> None:
    with pytest.raises(InputError, match=message):
        find_object(balloons.image, hints, model=network)


def test_the_command_mask(cli: Callable, tmp_path: Path, balloons: RenderedFrame) -> None:
    warpkit.write_image(tmp_path / "a.png", balloons.image)
    mask = balloons.labels == 1
    box = ",".join(map(str, box_of(mask)))
    command = ("mask", tmp_path / "a.png", "--box", box, "-o", tmp_path / "m.png")
    ran = cli(*command, small=False)
    assert ran.code == 0, ran.err
    assert "written to" in ran.out
    found = warpkit.read_mask(tmp_path / "m.png")
    assert (found & mask).sum() / (found | mask).sum() > 0.7
    assert warpkit.read_image(tmp_path / "m_preview.jpg").shape == balloons.image.shape
    assert "exists: choose another name" in cli(*command, small=False).messages[0]
    assert cli(*command, "--overwrite", small=False).code == 0
    over_input = (*command[:4], "-o", tmp_path / "a.png", "--overwrite")
    assert "is an input" in cli(*over_input, small=False).messages[0]
    assert "PNG files" in cli(*command[:4], "-o", tmp_path / "m.jpg", small=False).messages[0]


def test_a_point_on_the_edge(cli: Callable, tmp_path: Path, balloons: RenderedFrame) -> None:
    warpkit.write_image(tmp_path / "a.png", balloons.image)  # of even sides
    command = ("mask", tmp_path / "a.png", "--not", "100%,100%", "--not", "0%,0%")
    ran = cli(*command, "--point", "100%,50%", "-o", tmp_path / "m.png", small=False)
    assert ran.code == 0, ran.err


def test_what_hides_under_transparency_is_not_seen(
    cli: Callable, tmp_path: Path, balloons: RenderedFrame, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "warpkit")
    alpha = (255 * (balloons.labels == 1)).astype(np.uint8)
    hidden = np.where(alpha[..., None] > 0, balloons.image, 255 - balloons.image)
    for name, colors in (("a", balloons.image), ("b", hidden)):
        warpkit.write_image(tmp_path / f"{name}.png", np.dstack([colors, alpha]))
        ran = cli("mask", tmp_path / f"{name}.png", "-o", tmp_path / f"{name}_m.png", small=False)
        assert ran.code == 0, ran.err
        assert f"{name}.png is transparent in part" in caplog.text
    for end in ("m.png", "m_preview.jpg"):
        assert (tmp_path / f"a_{end}").read_bytes() == (tmp_path / f"b_{end}").read_bytes()


def test_a_mask_comes_with_its_preview_or_not_at_all(
    cli: Callable, tmp_path: Path, balloons: RenderedFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _image: np.ndarray) -> None:
        raise OutputError(f"cannot write {path}: no space left on device")

    warpkit.write_image(tmp_path / "a.png", balloons.image)
    (tmp_path / "m.png").write_text("mine")
    monkeypatch.setattr("warpkit.image.mask.write_image", full)
    command = ("mask", tmp_path / "a.png", "-o", tmp_path / "m.png", "--overwrite")
    ran = cli(*command, small=False)
    assert ran.messages[-1].endswith(
        f"cannot write {tmp_path}/m_preview.jpg: no space left on device"
    )
    assert (tmp_path / "m.png").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "m.png"]


def test_masks_of_a_video(cli: Callable, files: Path, tmp_path: Path) -> None:
    for video, moment in ((files / "clip.mp4", "3"), (files / "frames", "003.png")):
        ran = cli(
            *("mask", video, "--frame", moment, "--point", "50%,50%", "--not", "0,0"),
            *("-o", tmp_path / "m.png", "--overwrite"),
            small=False,
        )
        assert ran.code == 0, ran.err
        assert warpkit.read_mask(tmp_path / "m.png").shape == (48, 80)
    ran = cli("mask", files / "clip.mp4", "--frame", "7", "-o", tmp_path / "n.png", small=False)
    assert "there is no frame 7: it has 7 frames" in ran.messages[0]


def test_frames_are_written(
    cli: Callable, files: Path, tmp_path: Path, clip: list[RenderedFrame]
) -> None:
    for at, index in (("0", 0), ("003", 3), ("0.26s", 3), ("00:00:00:05", 5), ("005.png", 5)):
        ran = cli("frame", files / "frames", "--at", at, "-o", tmp_path / "f.png", small=False)
        if at == "0.26s":  # 24 frames a second in a folder
            assert "frame 6 written" in ran.out
        else:
            np.testing.assert_array_equal(warpkit.read_image(tmp_path / "f.png"), clip[index].image)
        (tmp_path / "f.png").unlink()
    last = next(iter(open_frames(files / "clip.mp4", start=6))).image
    assert cli("frame", files / "clip.mp4", "--at", "6", "-o", tmp_path / "f.png", small=False).out
    np.testing.assert_array_equal(warpkit.read_image(tmp_path / "f.png"), last)


def test_moments(files: Path) -> None:
    frames = open_frames(files / "clip.mp4")  # 7 frames at 12 a second
    for text, index in (("0s", 0), ("0.08s", 0), ("0.084s", 1), ("0.5s", 6), ("00:00:00:06", 6)):
        assert frame_at(frames, text) == index
    for text, message in (
        ("0.6s", "nothing is shown at 0.6 s: it lasts 0.583 s"),
        ("00:00:01:00", "there is no frame 12"),
        ("00:00:00:12", "a second has 12"),
        ("00:00:00;02", "stands for dropped numbers"),
        ("1:30", "is no moment"),
        ("last", "is a number"),
    ):
        with pytest.raises(InputError, match=message):
            frame_at(frames, text)


def test_dropped_numbers() -> None:
    class Long:
        frame_rate = Fraction(30000, 1001)
        count, path = 10**7, "long"

    # By hand: two numbers of each of the nine minutes are left out, none of the tenth.
    for text, index in (("00:01:00;02", 1800), ("00:10:00;00", 17982), ("00:01:00:02", 1802)):
        assert frame_at(Long(), text) == index  # type: ignore[arg-type]


def test_weights_are_kept_and_others_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    head = ForegroundHead(width=16)
    save_foreground_head(tmp_path / "head.safetensors", head, steps=3)
    again = load_foreground_head(tmp_path / "head.safetensors")
    for name, value in head.state_dict().items():
        assert torch.equal(again.state_dict()[name], value.half().float())
    (tmp_path / "text.safetensors").write_text("no weights")
    for file in ("text.safetensors", "gone.safetensors"):
        with pytest.raises(InputError, match="not the weights of a foreground head"):
            load_foreground_head(tmp_path / file)
