"""A person's hands on the page: the browser, and what tests do in it again and again."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from app_server import Page
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

SLOW = 60_000  # ms until something counts as not coming
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


@contextlib.contextmanager
def opened(page: Page, browser: Browser) -> Iterator[Tab]:
    """The page in a window; whatever it asks elsewhere, and every error of a script, fails."""
    context = browser.new_context(viewport=DESKTOP)
    context.set_default_timeout(SLOW)
    found = context.new_page()
    asked: list[str] = []
    errors: list[str] = []
    found.on("request", lambda request: asked.append(request.url))
    found.on("pageerror", lambda error: errors.append(str(error)))
    found.goto(page.url)
    found.wait_for_selector("#warp-target .wp-full")
    yield found
    context.close()
    own = (page.url, "data:", f"blob:{page.url}")
    assert [url for url in asked if not url.startswith(own)] == []
    assert errors == []


def open_tab(tab: Tab, name: str) -> None:
    tab.get_by_role("tab", name=name, exact=True).click()


def choose(tab: Tab, canvas: str, path: Path) -> None:
    """Choose a file for a canvas instead of the example there, and wait until it is shown."""
    expect(tab.locator(f"#{canvas} .wp-stage")).to_have_class(re.compile("wp-full"))
    tab.set_input_files(f"#{canvas} .wp-file", path)
    said = re.compile(rf"{re.escape(path.name)}\W.* pixels")
    expect(tab.locator(f"#{canvas} .wp-message")).to_contain_text(said, timeout=SLOW)


def drag(tab: Tab, canvas: str, tool: str, *places: tuple[float, float]) -> None:
    """Drag the mouse over a canvas with a tool, by shares of its width and height."""
    tab.click(f"#{canvas} [data-tool={tool}]")
    shown = tab.locator(f"#{canvas} canvas")
    shown.scroll_into_view_if_needed()
    area = shown.bounding_box()
    assert area
    at = [(area["x"] + x * area["width"], area["y"] + y * area["height"]) for x, y in places]
    tab.mouse.move(*at[0])
    tab.mouse.down()
    for place in at[1:]:
        tab.mouse.move(*place, steps=4)
    tab.mouse.up()


def sentence(tab: Tab, name: str, text: str) -> str:
    """Wait until a status line has a text; the line."""
    line = tab.locator(f"#{name}-status")
    expect(line).to_contain_text(re.compile(text), timeout=SLOW)
    return line.inner_text()


def press(tab: Tab, canvas: str, x: float, y: float) -> None:
    """Click a place of a canvas, by shares of its width and height, with the tool that is on."""
    shown = tab.locator(f"#{canvas} canvas")
    shown.scroll_into_view_if_needed()
    area = shown.bounding_box()
    assert area
    tab.mouse.click(area["x"] + x * area["width"], area["y"] + y * area["height"])
