"""The handlers of the page's tabs as Gradio calls them, without a server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gradio", reason="the page needs Gradio: pip install gradio")

from app_service_tools import landed

from warpkit.app.datasets import DataSets
from warpkit.app.examples import all_examples
from warpkit.app.page import build_page
from warpkit.app.pictures import encode_labels
from warpkit.app.service import Service
from warpkit.app.tab_video import clip_words, corrected, drawn_on
from warpkit.app.video_service import VideoService, summary
from warpkit.app.workspace import Upload
from warpkit.checks import InputError

VISITOR: Any = SimpleNamespace(session_hash="v")


@pytest.fixture(scope="module")
def handler(
    service: Service, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Callable[..., Any]]:
    """The handlers by the names that scripts call them by."""

    async def build() -> Any:
        # Gradio makes an event loop, and never closes it, where none runs.
        return build_page(service, DataSets(None, tmp_path_factory.mktemp("set")))

    page = asyncio.run(build())
    found = {str(one.api_name): one.fn for one in page.fns.values()}
    return lambda name: found[name]  # type: ignore[return-value]


async def every(answers: AsyncIterator[list[Any]]) -> list[list[Any]]:
    return [answer async for answer in answers]


def test_what_is_drawn_on_one_frame_does_not_begin_at_another() -> None:
    assert drawn_on({"picture": "a.mp4", "frame": 3}, 3) == 3
    assert drawn_on({"picture": "a.mp4"}, 3) == 3  # of a script
    with pytest.raises(InputError, match=r"on frame 0, .* is set to 20: .* back to 0$"):
        drawn_on({"picture": "a.mp4", "frame": 0}, 20)


def test_a_correction_is_of_the_run_that_is_shown() -> None:
    drawn = {"picture": "run-a", "frame": 4, "labels": "x"}
    assert corrected("run-a", drawn) == {"run": "run-a", "frame": 4, "labels": "x"}
    for other in (drawn, None, {"picture": None}):
        with pytest.raises(InputError, match="not on a frame of this result"):
            corrected("run-b", other)


def test_an_object_is_looked_for_in_the_frame_that_is_shown(
    service: Service,
    handler: Callable[[str], Callable[..., Any]],
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[np.ndarray] = []

    def stop(image: np.ndarray, _: Any) -> None:
        asked.append(image)
        raise InputError("seen")

    monkeypatch.setattr(service, "cut_out_of", stop)
    path = landed(service, files / "clip.mp4")
    shown = handler("upload_video")({"upload": path, "title": "clip.mp4"}, 0, VISITOR)[0]
    assert shown["frame"] == 0
    for value, start in ((shown, 5), (shown, 0), (shown | {"frame": 5}, 5)):
        answer = handler("box_video")(value | {"find": True}, start, VISITOR)
        assert (answer["picture"], answer["frame"]) == (shown["picture"], value["frame"])
    # The slider has moved on, the canvas has not.
    assert np.array_equal(asked[0], asked[1])
    assert not np.array_equal(asked[0], asked[2])


def test_a_frame_names_the_video_that_it_is_of(
    service: Service, handler: Callable[[str], Callable[..., Any]], files: Path
) -> None:
    path = landed(service, files / "clip.mp4")
    shown = handler("upload_video")({"upload": path, "title": "clip.mp4"}, 0, VISITOR)[0]
    answer = handler("begin_at")(shown, 3, VISITOR)
    assert (answer["of"], answer["picture"], answer["frame"]) == (*[shown["picture"]] * 2, 3)


def test_a_new_run_takes_the_correction_of_the_one_before_away(
    service: Service, handler: Callable[[str], Callable[..., Any]], files: Path, clip: list
) -> None:
    path = landed(service, files / "clip.mp4")
    shown = handler("upload_video")({"upload": path, "title": "clip.mp4"}, 0, VISITOR)[0]
    drawn = shown | {"labels": encode_labels((clip[0].labels > 0).astype(np.uint8))}
    answers = asyncio.run(every(handler("video")(drawn, 3, "tiny", 0, 6, VISITOR)))
    for *_, canvas, button in (answers[0], answers[-1]):
        assert canvas["image"] == ""
        assert button["interactive"] is False
    assert "3 frames, 1 of them annotated" in answers[-1][0]
    refused = handler("video")(drawn, 3, "tiny", 2, 6, VISITOR)
    (answer,) = asyncio.run(every(refused))
    assert "drawn is on frame 0" in answer[0]


def test_the_loop_goes_on_while_an_object_is_looked_for(
    service: Service, handler: Callable[[str], Callable[..., Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def cut_out(*_: Any) -> None:
        threads.append(threading.get_ident())
        raise InputError("seen")

    monkeypatch.setattr(service, "cut_out", cut_out)
    answers = asyncio.run(every(handler("look")({"find": True}, None, "tiny", VISITOR)))
    assert answers[0][0]["message"] == "seen"
    assert threads[0] != threading.get_ident()


def test_a_frame_of_a_result_is_drawn_beside_the_loop(
    handler: Callable[[str], Callable[..., Any]], files: Path, service: Service, monkeypatch: Any
) -> None:
    threads, drawn = [], VideoService.frame_picture

    def frame_picture(self: Any, *place: Any) -> Path:
        threads.append(threading.get_ident())
        return drawn(self, *place)

    monkeypatch.setattr(VideoService, "frame_picture", frame_picture)
    path = landed(service, files / "clip.mp4")
    shown = handler("upload_video")({"upload": path, "title": "clip.mp4"}, 0, VISITOR)[0]
    asked = shown | {"points": [[30, 20]]}
    answers = asyncio.run(every(handler("video")(asked, 3, "tiny", 0, 6, VISITOR)))
    assert "3 frames" in answers[-1][0]
    assert threads and threading.get_ident() not in threads


@pytest.mark.parametrize("name", ["warp", "points"])
def test_a_result_is_not_shown_beside_other_pictures(
    service: Service, handler: Callable[[str], Callable[..., Any]], files: Path, name: str
) -> None:
    """Another picture is opened while a job runs, and once while it has just finished."""

    def send(canvas: str) -> Any:
        path = landed(service, files / "frames/000.png")
        return handler(f"upload_{name}_{canvas}")({"upload": path, "title": "a.png"}, VISITOR)[0]

    source, target = send("source") | {"points": [[30, 20]]}, send("target")
    settings = (*("tiny", "paste", "bilinear", "nearest", "auto", True, "none"), "keep", "none", 1)
    more = settings if name == "warp" else (False, "tiny")

    async def answers(*, open_after: float | None) -> list[list[Any]]:
        found = []
        async for answer in handler(name)(source, target, *more, VISITOR):
            found.append(answer)
            if open_after is not None and len(found) == 1:
                await asyncio.sleep(open_after)
                send("target")
        return found

    expected = {"warp": "pixels warped", "points": "1 point matched"}[name]
    assert expected in asyncio.run(answers(open_after=None))[-1][0]
    for after in (0, 1):
        lines = [answer[0] for answer in asyncio.run(answers(open_after=after))]
        assert all("job-bar" in line for line in lines), lines


def test_pictures_of_a_model_go_with_theirs(
    service: Service, handler: Callable[[str], Callable[..., Any]], files: Path
) -> None:
    def send() -> list[Any]:
        path = landed(service, files / "frames/000.png")
        return handler("upload_inspect_picture")({"upload": path, "title": "a.png"}, VISITOR)

    async def answers(*, open_another: bool) -> list[list[Any]]:
        found = []
        async for answer in handler("inspect")(picture, "tiny", False, VISITOR):
            found.append(answer)
            if open_another and len(found) == 1:
                send()
        return found

    picture, line, gallery = send()
    assert (line, gallery["value"], gallery["visible"]) == ("", None, False)
    shown = asyncio.run(answers(open_another=False))[-1][1]
    assert [title for _, title in shown["value"]] == [
        "the picture as the model sees it",
        "mixing weights",
    ]
    dropped = asyncio.run(answers(open_another=True))
    assert all("job-bar" in line and "value" not in after for line, after in dropped)
    first = all_examples()[0]
    _, line, gallery = handler("example_inspect")(first.name, VISITOR)
    assert (line, gallery["visible"]) == ("", False)


def test_one_is_not_several() -> None:
    clip = Upload("a.mp4", Path("a.mp4"), "a.mp4", 48, 80, 1)
    assert clip_words(clip) == "a.mp4: 1 frame, 80 x 48 pixels"
    assert summary([{"frame": 0, "name": "a"}], {}) == "1 frame"
    assert summary([{"frame": i, "name": "a"} for i in range(2)], {}) == "2 frames"


def test_one_pair_of_a_set_is_counted(
    handler: Callable[[str], Callable[..., Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one = SimpleNamespace(
        pairs=[0], points=1, categories=["fish"], problems=["x"], of=lambda _: [0]
    )
    monkeypatch.setattr(DataSets, "read", lambda *_: one)
    monkeypatch.setattr(DataSets, "sheet", lambda *_, **__: tmp_path / "sheet.png")
    shown = tmp_path / "p.png"
    monkeypatch.setattr(DataSets, "pair", lambda *_, number, **__: (shown, str(number)))
    line, sheet, *_, number, pair, facts = list(handler("set")("a", VISITOR))[-1]
    # Sheet and first pair are there at once.
    assert (sheet["value"], pair["value"]) == (str(tmp_path / "sheet.png"), str(tmp_path / "p.png"))
    assert (number, facts["value"]) == (0, "0")
    assert "1 pair, page 1 of 1; the whole set: 1 pair, 1 point, 1 category" in line
    assert "1 item is broken, first: x" in line
