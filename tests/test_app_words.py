"""What the page says: the field that is not chosen, and the visitor's own names of files."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app_service_tools import finished, landed, picture

import warpkit
from warpkit.app.datasets import EXAMPLE_SET, DataSets
from warpkit.app.pictures import encode_labels
from warpkit.app.queue import Job
from warpkit.app.service import Service
from warpkit.app.video_service import VideoService
from warpkit.app.warp_service import WarpService
from warpkit.checks import InputError, OutputError
from warpkit.match.settings import MatchFilters

Press = Callable[[Service, str], object]
P1: dict[str, Any] = {"points": [[1, 1]], "filters": MatchFilters()}

NOTHING: dict[str, tuple[Press, str]] = {
    "warp": (
        lambda s, one: WarpService(s).warp("v", "tiny", source=None, target=None),  # type: ignore[arg-type]
        "choose a source picture first",
    ),
    "warp target": (
        lambda s, one: WarpService(s).warp("v", "tiny", source=one, target=""),
        "choose a target picture first",
    ),
    "points": (
        lambda s, one: s.points("v", "tiny", source=None, target=one, **P1),  # type: ignore[arg-type]
        "choose a source picture first",
    ),
    "points target": (
        lambda s, one: s.points("v", "tiny", source=one, target=None, **P1),  # type: ignore[arg-type]
        "choose a target picture first",
    ),
    "points none": (
        lambda s, one: s.points(
            "v", "tiny", source=one, target=one, points=None, filters=MatchFilters()
        ),
        "no point was given: click into the first picture",
    ),
    "look": (
        lambda s, one: s.look("v", "tiny", source=one, target=None, point=[1, 1]),  # type: ignore[arg-type]
        "choose a target picture first",
    ),
    "box": (lambda s, one: s.cut_out("v", None, [1, 1, 9, 9]), "choose a picture first"),  # type: ignore[arg-type]
    "video": (lambda s, one: VideoService(s).propagate("v", "tiny", clip=None), "choose a video"),  # type: ignore[arg-type]
    "video box": (lambda s, one: VideoService(s).cut_out("v", "", [1, 1, 9, 9]), "choose a video"),
    "correct": (
        lambda s, one: VideoService(s).correct("v", "tiny", run="", frame=0, labels=""),
        "there is no finished run: propagate first",
    ),
    "inspect": (
        lambda s, one: s.inspect("v", None, picture=None, layers=False),  # type: ignore[arg-type]
        "choose a model first",
    ),
    "model": (
        lambda s, one: s.points("v", "", source=one, target=one, **P1),
        "choose a model first",
    ),
    "gone": (
        lambda s, one: WarpService(s).warp("v", "tiny", source="x.png", target=one),
        "choose a source picture first: the one that was chosen has been removed",
    ),
}


@pytest.mark.parametrize("button", NOTHING)
def test_a_button_names_the_field_that_is_not_chosen(
    service: Service, files: Path, button: str
) -> None:
    press, message = NOTHING[button]
    one = picture(service, files / "frames/000.png").name
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        press(service, one)


@pytest.mark.parametrize(("name", "message"), [(None, "choose a set first"), ("", "choose a set")])
def test_sets_name_theirs(tmp_path: Path, name: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DataSets(None, tmp_path).folder(name)


def _own(service: Service, text: str) -> None:
    assert str(service.workspace.root) not in text and "visitors" not in text
    assert not re.search(r"[0-9a-f]{16}", text)


def _failed(job: Job) -> str:
    assert job.wait(60) and job.state == "failed"
    return job.error


def test_a_job_names_files_as_the_visitor_does(service: Service, files: Path) -> None:
    upload = service.take_picture("v", landed(service, files / "frames/000.png"), "Sommer 1.png")
    other = picture(service, files / "frames/001.png")
    upload.path.write_bytes(upload.path.read_bytes()[:200])
    told = [
        _failed(service.points("v", "tiny", source=upload.name, target=other.name, **P1)),
        _failed(WarpService(service).warp("v", "tiny", source=other.name, target=upload.name)),
        _failed(service.inspect("v", "tiny", picture=upload.name, layers=False)),
    ]
    with pytest.raises(InputError) as caught:
        service.cut_out("v", upload.name, [1, 1, 30, 30])
    for text in [*told, str(caught.value)]:
        assert text.startswith("Sommer 1.png: the image is damaged or cut short")
        _own(service, text)


def test_a_clip_and_a_file_that_is_gone(service: Service, files: Path) -> None:
    videos = VideoService(service)
    clip = videos.take_clip("v", landed(service, files / "clip.mp4"), "Hochzeit.MP4")
    labels = np.ones((48, 80), np.uint8)
    clip.path.write_bytes(b"no video")
    with pytest.raises(InputError, match=r"Hochzeit\.MP4") as caught:
        videos.frame("v", clip.name)
    _own(service, str(caught.value))
    text = _failed(videos.propagate("v", "tiny", clip=clip.name, labels=encode_labels(labels)))
    assert "Hochzeit.MP4" in text
    _own(service, text)
    gone = picture(service, files / "frames/000.png")
    gone.path.unlink()
    with pytest.raises(InputError, match=r"^000\.png: no such file$"):
        service.cut_out("v", gone.name, [1, 1, 30, 30])


def test_what_is_no_upload_is_named_without_its_place(service: Service, files: Path) -> None:
    session = service.workspace.session("v")
    folder = session.new_folder()

    def full(progress: object) -> None:
        raise OutputError(f"cannot write to {folder / 'results'}: No space left on device")

    def drawn(progress: object) -> None:
        raise InputError(f"'{session.new_file('.png')}': not an image; {folder}, too")

    told = [_failed(service.submit("v", "tiny", "x", work)) for work in (full, drawn)]
    assert told[0] == "cannot write to results: No space left on device"
    assert told[1] == "'a file of this page': not an image; a file of this page, too"
    # Another visitor's name of it is nobody else's business.
    secret = service.take_picture("w", landed(service, files / "frames/000.png"), "secret.png")
    assert "secret" not in service.workspace.words("v", f"{secret.path} is damaged")
    assert service.workspace.words("nobody", "plain words: 3 / 4") == "plain words: 3 / 4"


def test_a_finished_job_is_as_it_was(service: Service, files: Path) -> None:
    one = picture(service, files / "frames/000.png").name
    assert finished(service.points("v", "tiny", source=one, target=one, **P1)).result.found


def test_sets_are_named_by_their_names(tmp_path: Path) -> None:
    warpkit.write_image(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "sets" / "cars").mkdir(parents=True)
    (tmp_path / "sets" / "cars" / "pairs.json").write_text("[}")
    sets = DataSets(tmp_path / "sets", tmp_path / "example")
    with pytest.raises(InputError) as caught:
        sets.read("cars")
    told = sets.words(str(caught.value))
    assert str(tmp_path) not in told and "cars/pairs.json" in told
    assert sets.words(f"{tmp_path / 'example'} is bad") == f"{EXAMPLE_SET} is bad"
