"""What the page shows before anything is clicked, how it is laid out, and what it takes."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import warpkit

pytest.importorskip("gradio", reason="the page needs Gradio: pip install gradio")
pytest.importorskip("playwright", reason="needs Playwright: pip install playwright")

from app_browser import DESKTOP, NEEDS_CHROMIUM, SLOW, choose, drag, open_tab, press, sentence
from app_server import Page
from playwright.sync_api import expect

from warpkit.app.examples import all_examples

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator
    from playwright.sync_api import Page as Tab

pytestmark = NEEDS_CHROMIUM

FIRST_WIDTH = warpkit.read_image(all_examples()[0].file("target.jpg")).shape[1]
TABS = ("Warp", "Points", "Video", "Inspect", "Data set")


def in_view(shown: Locator) -> bool:
    """Whether all of it is in the window, without scrolling."""
    area = shown.bounding_box()
    assert area
    right, bottom = area["x"] + area["width"], area["y"] + area["height"]
    within = right <= DESKTOP["width"] and bottom <= DESKTOP["height"]
    return within and min(area["x"], area["y"]) >= 0


def natural_width(image: Locator) -> int:
    return int(image.evaluate("image => image.decode().then(() => image.naturalWidth)"))


def width_of(shown: Locator) -> float:
    area = shown.bounding_box()
    assert area
    return float(area["width"])


def test_the_first_view_shows_a_result_without_a_click(tab: Tab) -> None:
    sentence(tab, "warp", r"Example, by the model embedded: [\d,]+ pixels warped")
    composite = tab.locator("#warp-composite img").first
    expect(composite).to_be_visible()
    assert natural_width(composite) == FIRST_WIDTH
    for shown in ("#warp-composite", "#warp-source canvas", "#warp-target canvas", "#warp-run"):
        assert in_view(tab.locator(shown)), shown
    # The result is the largest of the three pictures.
    assert width_of(composite) > 1.5 * width_of(tab.locator("#warp-source canvas"))
    expect(tab.locator("#warp-run")).to_be_enabled()
    for button in ("#warp-cancel", "#warp-download", "#video-run"):
        if tab.locator(button).count():
            expect(tab.locator(button)).to_be_disabled()


def test_the_composite_is_in_view_after_a_click_on_warp(tab: Tab) -> None:
    tab.click("#warp-run")
    sentence(tab, "warp", r"^\s*[\d,]+ pixels warped")
    expect(tab.locator("#warp-download")).to_be_enabled()
    shown = tab.locator("#warp-composite img").first
    assert natural_width(shown) == FIRST_WIDTH
    assert tab.evaluate("window.scrollY") == 0
    assert in_view(tab.locator("#warp-composite"))
    assert width_of(shown) > 600


@pytest.mark.parametrize("width", [1600, 1280, 390])
def test_no_tab_changes_the_width(page: Page, browser: Browser, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900})
    context.set_default_timeout(SLOW)
    tab = context.new_page()
    tab.goto(page.url)
    tab.wait_for_selector("#warp-target .wp-full")
    places = set()
    for name in TABS:
        if not tab.get_by_role("tab", name=name, exact=True).is_visible():
            tab.locator(".overflow-menu button").first.click()
            tab.locator(".overflow-dropdown button", has_text=name).click()
        else:
            open_tab(tab, name)
        area = tab.locator("main.contain").bounding_box()
        assert area
        places.add((area["x"], area["width"]))
    context.close()
    assert len(places) == 1
    assert places.pop()[1] > 0.85 * width


def test_an_example_is_a_picture_that_is_clicked(tab: Tab) -> None:
    pictures = tab.locator("#warp-examples button img")
    assert pictures.count() >= 3
    assert pictures.last.evaluate("image => image.naturalWidth") > 60
    before = tab.locator("#warp-composite img").first.get_attribute("src")
    tab.click("#warp-examples [data-example=turtle]")
    expect(tab.locator("#warp-target .wp-message")).to_contain_text("turtle, 640 x 384 pixels")
    expect(tab.locator("#warp-composite img").first).not_to_have_attribute("src", before or "")


def test_another_picture_takes_the_result_of_the_one_before_away(tab: Tab, files: Path) -> None:
    choose(tab, "warp-source", files / "frames/000.png")
    expect(tab.locator("#warp-composite img")).to_have_count(0)
    expect(tab.locator("#warp-status")).not_to_contain_text("Example")


def test_buttons_are_off_until_they_can_do_something(tab: Tab, files: Path) -> None:
    expect(tab.locator("#warp-source .wp-undo")).to_be_disabled()
    drag(tab, "warp-source", "paint", (0.7, 0.3), (0.8, 0.3))
    tab.click("#warp-source .wp-undo")
    expect(tab.locator("#warp-source .wp-undo")).to_be_disabled()
    open_tab(tab, "Points")
    expect(tab.locator("#points-run")).to_be_enabled()
    tab.click("#points-source .wp-clear")
    expect(tab.locator("#points-run")).to_be_disabled()
    expect(tab.locator("#points-source .wp-clear")).to_be_disabled()
    open_tab(tab, "Video")
    expect(tab.locator("#video-run")).to_be_enabled()  # the example brings its mask
    choose(tab, "video-first", files / "clip.mp4")
    expect(tab.locator("#video-run")).to_be_disabled()
    open_tab(tab, "Data set")
    for button in ("#set-before", "#set-after", "#set-show"):
        expect(tab.locator(button)).to_be_disabled()


def test_a_mask_that_is_found_is_shown_and_can_be_painted_on(tab: Tab, files: Path) -> None:
    badges = tab.locator("#warp-source .wp-badge")
    for name in ("turtle", "fish"):  # one that is new, so that its coming can be seen
        tab.click(f"#warp-examples [data-example={name}]")
        expect(tab.locator("#warp-source .wp-message")).to_contain_text(f"{name}, 640 x 384")
    expect(badges).to_have_text("mask: given")
    tab.click("#warp-source .wp-clear")
    expect(badges).to_have_text("no mask")
    tab.click("#warp-run")
    sentence(tab, "warp", r"^\s*[\d,]+ pixels warped")
    expect(badges).to_have_text("mask: found")
    expect(tab.locator("#warp-target .wp-badge")).to_have_text("mask: given")
    drag(tab, "warp-source", "erase", (0.05, 0.05))
    expect(badges).to_have_text("mask: given")
    tab.click("#warp-source .wp-clear")
    tab.click("#warp-source .wp-find")
    expect(tab.locator("#warp-source .wp-message")).to_contain_text("% sure", timeout=SLOW)
    expect(badges).to_have_text("mask: given")


def test_the_tint_of_a_mask_is_not_the_colour_of_its_object(tab: Tab, tmp_path: Path) -> None:
    for colour in ((213, 94, 0), (86, 180, 233), (250, 250, 250)):
        warpkit.write_image(tmp_path / "flat.png", np.full((48, 80, 3), colour, np.uint8))
        choose(tab, "warp-source", tmp_path / "flat.png")
        drag(tab, "warp-source", "paint", (0.4, 0.5), (0.6, 0.5))
        shown = tab.locator("#warp-source canvas").evaluate(
            "a => [...a.getContext('2d').getImageData(a.width / 2, a.height / 2, 1, 1).data]"
        )
        assert np.abs(np.array(shown[:3]) - colour).max() > 30, colour


def results(tab: Tab, name: str, place: Path) -> zipfile.ZipFile:
    with tab.expect_download() as download:
        tab.click(f"#{name}-download")
    download.value.save_as(place)
    return zipfile.ZipFile(place)


def test_masks_and_edits_are_read_from_files(tab: Tab, files: Path, tmp_path: Path) -> None:
    open_tab(tab, "Video")
    choose(tab, "video-first", files / "clip.mp4")
    line = tab.locator("#video-first .wp-message")
    tab.set_input_files("#video-first .wp-load-mask", files / "narrow.png")
    expect(line).to_contain_text("narrow.png is 60 x 48 pixels, the picture 80 x 48", timeout=SLOW)
    tab.set_input_files("#video-first .wp-load-mask", files / "mask.png")
    expect(line).to_contain_text("mask of mask.png", timeout=SLOW)
    tab.set_input_files("#video-first .wp-load-edit", files / "layer.png")
    expect(line).to_contain_text("edit of layer.png", timeout=SLOW)
    tab.click("#video-run")
    sentence(tab, "video", "7 frames, 1 of them annotated")
    with results(tab, "video", tmp_path / "video.zip") as archive:
        archive.extractall(tmp_path)
    assert np.array_equal(
        warpkit.read_labels(tmp_path / "masks/00000.png") > 0,
        warpkit.read_labels(files / "mask.png") > 0,
    )
    inside = warpkit.read_labels(files / "mask.png") > 0
    edited = warpkit.read_image(tmp_path / "frames/00000.png")
    assert np.abs(edited[inside].mean(axis=0) - (20, 220, 40)).max() < 3


def test_an_error_of_a_mask_goes_with_the_next_warp(tab: Tab, files: Path) -> None:
    choose(tab, "warp-source", files / "frames/000.png")
    choose(tab, "warp-target", files / "frames/006.png")
    tab.set_input_files("#warp-source .wp-load-mask", files / "narrow.png")
    red = tab.locator("#warp-source .wp-message.wp-wrong")
    expect(red).to_contain_text("narrow.png is 60 x 48 pixels", timeout=SLOW)
    tab.click("#warp-run")
    sentence(tab, "warp", r"^\s*[\d,]+ pixels warped")
    expect(red).to_have_count(0)
    expect(tab.locator("#warp-source .wp-message")).to_be_empty()


def test_a_part_of_a_video_is_taken(tab: Tab, files: Path, tmp_path: Path) -> None:
    open_tab(tab, "Video")
    choose(tab, "video-first", files / "clip.mp4")
    for name, value in (("last", "5"), ("start", "2")):
        number = tab.locator(f"#video-{name} input[type=number]")
        number.fill(value)
        number.press("Enter")
    expect(tab.locator("#video-first .wp-message")).to_contain_text("frame 2, at 0.17 s")
    drag(tab, "video-first", "paint", (0.35, 0.45), (0.6, 0.55))
    tab.click("#video-run")
    sentence(tab, "video", "4 frames, 1 of them annotated")
    with results(tab, "video", tmp_path / "video.zip") as archive:
        inputs = json.loads(archive.read("run.json"))["inputs"]
    assert (inputs["start"], inputs["end"]) == (2, 6)
    assert list(inputs["mask"]) == ["2"]


def test_a_picture_is_enlarged_to_be_painted(tab: Tab) -> None:
    small = width_of(tab.locator("#warp-source canvas"))
    tab.click("#warp-source .wp-enlarge")
    assert width_of(tab.locator("#warp-source canvas")) > 2 * small
    assert in_view(tab.locator("#warp-source .wp"))
    press(tab, "warp-source", 0.5, 0.5)
    tab.keyboard.press("Escape")
    expect(tab.locator("#warp-source .wp-enlarge")).to_have_text("Enlarge")
    assert width_of(tab.locator("#warp-source canvas")) == pytest.approx(small, abs=1)


WORDS = r"carried|canvas|gather|splat|reanchor|squash|shares of L|a point a setting|listens to"


def test_nothing_that_is_read_speaks_of_how_it_is_made(tab: Tab) -> None:
    for name in TABS:
        open_tab(tab, name)
        text = tab.locator("main.contain").inner_text()
        titles = tab.locator("main.contain [title]").evaluate_all("all => all.map(a => a.title)")
        assert re.findall(WORDS, " ".join([text, *titles])) == [], name
