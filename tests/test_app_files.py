"""Files of the page without the page: examples, masks, edits, and parts of videos."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from app_service_tools import OPTIONS, landed, picture

import warpkit
from warpkit.app.examples import EXAMPLES, all_examples, example, input_hashes
from warpkit.app.service import Service
from warpkit.app.video_service import VideoService
from warpkit.app.workspace import Workspace
from warpkit.checks import InputError
from warpkit.synthesize.browse import draw_pair, read_set


@pytest.fixture(scope="module")
def videos(service: Service) -> VideoService:
    return VideoService(service)


def test_examples_are_finished(service: Service) -> None:
    found = all_examples()
    assert len(found) >= 3
    assert any(one.file("tracked.mp4").is_file() for one in found)
    for one in found:
        # Of other inputs than these: run examples/make_page_examples.py.
        assert one.record["inputs"] == input_hashes(one.folder), one.name
        source, target = service.example_pair("v", example(one.name))
        for upload, role in ((source, "source"), (target, "target")):
            mask = one.mask(role)
            assert mask is None or mask.shape == (upload.height, upload.width)
            assert service.workspace.session("v").upload(upload.name).path == upload.path
        composite = warpkit.read_image(one.file("composite.jpg"))
        assert composite.shape == (target.height, target.width, 3)
        assert len(one.record["points"]["target_points"]) == 6
        assert one.thumbnail().startswith("data:image/jpeg;base64,")
    size = sum(path.stat().st_size for path in EXAMPLES.rglob("*"))
    assert size < 1_000_000
    for name in ("../fish", None, ""):
        with pytest.raises(InputError, match="unknown example"):
            example(name)


def test_examples_push_no_file_of_ones_own_out(tmp_path: Path, files: Path) -> None:
    service = Service(Workspace(tmp_path / "work", most_uploads=2), OPTIONS)
    own = [picture(service, files / f"frames/00{i}.png") for i in range(2)]
    inputs = {path: path.read_bytes() for path in EXAMPLES.rglob("*") if path.is_file()}
    clips = [one for one in all_examples() if one.file("clip.mp4").is_file()]
    opened = [upload for one in all_examples() for upload in service.example_pair("v", one)]
    opened += [VideoService(service).example_clip("v", one) for one in clips]
    session = service.workspace.session("v")
    assert len({upload.name for upload in opened}) == len(opened)
    for upload in (*own, *opened):
        assert session.upload(upload.name) == upload
    # Nothing is copied, and with the visitor goes nothing of the page's own.
    assert sorted(session.folder.iterdir()) == sorted(upload.path for upload in own)
    with pytest.raises(InputError, match="has been removed"):
        service.workspace.session("other").upload(opened[0].name)
    message = f"{opened[0].path}: broken"
    assert service.workspace.words("v", message) == f"{opened[0].title}: broken"
    service.leave("v")
    service.close()
    assert {path: path.read_bytes() for path in inputs} == inputs


def test_a_mask_file_is_as_large_as_its_picture(
    service: Service, files: Path, tmp_path: Path
) -> None:
    upload = picture(service, files / "frames/000.png")
    many = np.zeros((48, 80), np.uint8)
    many[:, 40:] = 9
    warpkit.write_labels(tmp_path / "many.png", many)

    def taken(path: Path) -> np.ndarray:
        return service.take_mask("v", upload.name, landed(service, path), path.name)

    assert np.array_equal(taken(files / "mask.png"), warpkit.read_labels(files / "mask.png"))
    for path, message in (
        (files / "narrow.png", r"^narrow\.png is 60 x 48 pixels, the picture 80 x 48"),
        (files / "empty.png", r"^empty\.png is empty"),
        (files / "text.png", r"^text\.png: not an image"),
        (tmp_path / "many.png", r"^many\.png has an object 9: this page takes ids up to 7"),
    ):
        with pytest.raises(InputError, match=message):
            taken(path)
    with pytest.raises(InputError, match="choose a picture first"):
        service.take_mask("v", "", landed(service, files / "mask.png"), "x")


def test_an_edit_is_read_as_a_layer(service: Service, videos: VideoService, files: Path) -> None:
    clip = videos.take_clip("v", landed(service, files / "clip.mp4"), "clip.mp4")
    inside = warpkit.read_labels(files / "mask.png") > 0
    path = landed(service, files / "layer.png")
    edit, rgba = videos.take_edit("v", clip.name, path, "layer.png")
    assert np.array_equal(rgba[inside], np.tile([20, 220, 40, 255], (inside.sum(), 1)))
    assert not rgba[~inside].any()
    assert edit.path.read_bytes() == (files / "layer.png").read_bytes()
    for name, message in (
        ("narrow.png", r"^narrow\.png is 60 x 48 pixels, the video 80 x 48"),
        ("text.png", r"^text\.png: not an image"),
    ):
        with pytest.raises(InputError, match=message):
            videos.take_edit("v", clip.name, landed(service, files / name), name)
    # A clip that was opened as a picture, or one of another visitor, has no frames here.
    with pytest.raises(InputError, match="choose a video first"):
        videos.take_edit("other", clip.name, path, "layer.png")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            {"start": 7},
            "the first frame 7 must come before the last one; the video has frames 0 to 6",
        ),
        ({"start": 4, "last": 3}, "the first frame 4 must come before"),
        ({"start": -1}, "whole number from 0"),
        ({"last": "x"}, "whole number from 0"),
    ],
)
def test_a_part_of_a_video_has_frames(
    service: Service, videos: VideoService, files: Path, part: dict, message: str
) -> None:
    clip = videos.take_clip("v", landed(service, files / "clip.mp4"), "clip.mp4")
    with pytest.raises(InputError, match=message):
        videos.propagate("v", "tiny", clip=clip.name, points=[[1, 1]], **part)


def test_masks_of_a_set_are_outlined(tmp_path: Path) -> None:
    image = np.full((40, 60, 3), 120, np.uint8)
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:40] = 1
    for name in ("a", "b"):
        warpkit.write_image(tmp_path / f"{name}.png", image)
        warpkit.write_labels(tmp_path / f"masks-{name}.png", mask)
    warpkit.write_labels(tmp_path / "b_mask.png", mask)
    item = {
        "source_path": "a.png",
        "target_path": "b.png",
        "source_mask": "masks-a.png",
        **{f"{end}_points": [[25, 15]] for end in ("source", "target")},
        **{f"{end}_bounding_box": [20, 10, 39, 29] for end in ("source", "target")},
        "category": "square",
    }
    outside = {**item, "source_mask": "../secret.png", "target_mask": "none.png"}
    (tmp_path / "pairs.json").write_text(json.dumps([item, outside]))
    named, unknown = read_set(tmp_path).pairs
    assert named.masks == (tmp_path / "masks-a.png", tmp_path / "b_mask.png")
    assert unknown.masks == (None, None)
    with_masks, without = (draw_pair(one, points=0, height=40) for one in (named, unknown))
    changed = np.abs(with_masks.astype(int) - without).max(axis=-1) > 40
    # Both images have an outline, and nothing else differs.
    for left in (0, with_masks.shape[1] - 60):
        part = changed[:40, left : left + 60]
        assert part[9:31, 19:41].any(axis=0).all()
        assert not part[13:27, 23:37].any()
        assert not part[:8].any()
