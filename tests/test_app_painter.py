"""The script of a canvas by itself: whatever comes late or for another picture lands nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import warpkit

pytest.importorskip("gradio", reason="the page needs Gradio: pip install gradio")
pytest.importorskip("playwright", reason="needs Playwright: pip install playwright")

from app_browser import NEEDS_CHROMIUM

from warpkit.app.canvas import canvas
from warpkit.app.pictures import canvas_value, encode_labels

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

pytestmark = NEEDS_CHROMIUM

# What Gradio gives to the script of an element; a picture loads as long after as `waits` says.
_GRADIO = """() => {
  window.props = { value: null };
  window.waits = [];
  const Real = window.Image;
  window.Image = class extends Real {
    set src(url) { setTimeout(() => { super.src = url; }, window.waits.shift() || 0); }
  };
  window.warpkitPainter(document.body, props, () => {}, null, (_, seen) => { window.seen = seen; });
  window.tell = (value) => { props.value = value; window.seen(); };
}"""
_OUT = """async () => {
  await new Promise((done) => setTimeout(done, 400));
  const shown = document.querySelector('canvas');
  return { ...props.value, size: [shown.width, shown.height] };
}"""


@pytest.fixture(scope="module")
def window(browser: Browser) -> Iterator[Tab]:
    found = browser.new_page()
    yield found
    found.close()


@pytest.fixture
def painter(window: Tab) -> Tab:
    """A window with one empty canvas."""
    made = canvas("First frame", "first", tools=("paint", "erase", "box"), upload_mb=9)
    window.set_content(str(made.html_template))
    script = Path(warpkit.__file__).with_name("app") / "static" / "painter.js"
    window.add_script_tag(path=script)
    window.evaluate(_GRADIO)
    return window


def told(painter: Tab, *values: dict[str, Any], waits: tuple[int, ...] = ()) -> dict[str, Any]:
    """What the canvas says after it was told this in quick succession."""
    painter.evaluate(
        "([values, waits]) => { window.waits = waits; values.forEach(window.tell); }",
        [values, list(waits)],
    )
    found: dict[str, Any] = painter.evaluate(_OUT)
    return found


@pytest.fixture
def frames(tmp_path: Path) -> list[Path]:
    """Two pictures, 40 x 24 and 32 x 20 pixels."""
    paths = [tmp_path / "0.png", tmp_path / "1.png"]
    for path, (height, width) in zip(paths, ((24, 40), (20, 32)), strict=True):
        warpkit.write_image(path, np.full((height, width, 3), 90, np.uint8))
    return paths


MASK = encode_labels(np.ones((24, 40), np.uint8))


def test_a_mask_of_one_frame_does_not_land_on_another(painter: Tab, frames: list[Path]) -> None:
    def frame(number: int) -> dict[str, Any]:
        return canvas_value(frames[0], picture="clip.mp4", frame=number)

    mask = canvas_value(picture="clip.mp4", frame=0, labels=MASK, message="found")
    shown = told(painter, frame(0), mask)
    assert (shown["picture"], shown["frame"]) == ("clip.mp4", 0)
    assert shown["labels"]
    shown = told(painter, frame(20), mask | {"serial": -1})
    assert (shown["frame"], shown["labels"]) == (20, "")
    assert painter.inner_text(".wp-message") == ""


def test_what_comes_last_is_shown_last(painter: Tab, frames: list[Path]) -> None:
    slow, fast = (canvas_value(path, picture=path.name) for path in frames)
    shown = told(painter, slow, fast, waits=(150, 0))
    assert shown["picture"] == "1.png"
    assert shown["size"] == [shown["width"], shown["height"]] == [32, 20]


def test_a_mask_that_loads_slowly_is_not_of_the_next_picture(
    painter: Tab, frames: list[Path]
) -> None:
    one, other = (canvas_value(path, picture=path.name) for path in frames)
    mask = canvas_value(picture="0.png", labels=MASK)
    shown = told(painter, one, mask, other, waits=(0, 150, 0))
    assert (shown["picture"], shown["labels"], shown["size"]) == ("1.png", "", [32, 20])


def test_a_frame_of_a_video_that_is_no_longer_shown_comes_too_late(
    painter: Tab, frames: list[Path]
) -> None:
    def frame(clip: str, number: int, **more: Any) -> dict[str, Any]:
        path = frames[clip == "b.mp4"]
        return canvas_value(path, picture=clip, frame=number, message=f"{clip} {number}", **more)

    shown = told(painter, frame("a.mp4", 0), frame("a.mp4", 7, of="a.mp4"))
    assert (shown["picture"], shown["frame"]) == ("a.mp4", 7)
    shown = told(painter, frame("b.mp4", 0), frame("a.mp4", 9, of="a.mp4"))
    assert (shown["picture"], shown["frame"], shown["size"]) == ("b.mp4", 0, [32, 20])
    assert painter.inner_text(".wp-message") == "b.mp4 0"


def test_what_comes_too_late_is_not_what_the_canvas_says(painter: Tab, frames: list[Path]) -> None:
    one, other = (canvas_value(path, picture=path.name) for path in frames)
    shown = told(painter, one, other, canvas_value(picture="0.png", labels=MASK))
    assert (shown["picture"], shown["width"], shown["labels"]) == ("1.png", 32, "")


def test_an_error_goes_when_the_work_is_done(painter: Tab, frames: list[Path]) -> None:
    def line(**more: Any) -> str:
        told(painter, canvas_value(picture="0.png", **more))
        return str(painter.inner_text(".wp-message"))

    told(painter, canvas_value(frames[0], picture="0.png"))
    assert line(message="too small", wrong=True) == "too small"
    assert line(message=None) == "too small"
    assert line(message=None, settled=True) == ""
    assert line(message="0.png, 40 x 24 pixels") == "0.png, 40 x 24 pixels"
    assert line(message=None, settled=True) == "0.png, 40 x 24 pixels"


def test_a_canvas_is_emptied(painter: Tab, frames: list[Path]) -> None:
    told(painter, canvas_value(frames[0], picture="run", frame=4, labels=MASK))
    shown = told(painter, canvas_value(image=""))
    assert (shown["picture"], shown["frame"], shown["labels"]) == (None, None, "")
    assert painter.locator(".wp-full").count() == 0
    assert painter.locator("[data-tool=paint]").is_disabled()


def test_a_picture_that_cannot_be_shown_is_said_and_the_next_is_shown(
    painter: Tab, frames: list[Path]
) -> None:
    broken = canvas_value(frames[0], picture="0.png") | {"image": "data:image/png;base64,AAAA"}
    told(painter, broken)
    assert "could not be shown" in painter.inner_text(".wp-message")
    assert told(painter, canvas_value(frames[1], picture="1.png"))["picture"] == "1.png"
