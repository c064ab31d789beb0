"""A person's way through the page, in a real browser."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import warpkit
from warpkit.render import CLIPS, render_frame

pytest.importorskip("gradio", reason="the page needs Gradio: pip install gradio")
pytest.importorskip("playwright", reason="needs Playwright: pip install playwright")

from app_browser import NEEDS_CHROMIUM, PHONE, SLOW, choose, drag, open_tab, press, sentence
from app_server import Page
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

pytestmark = NEEDS_CHROMIUM


def pixels_in(line: str) -> int:
    return int(re.findall(r"([\d,]+) pixels", line)[0].replace(",", ""))


def test_warp(tab: Tab, files: Path, tmp_path: Path) -> None:
    choose(tab, "warp-source", files / "frames/000.png")
    choose(tab, "warp-target", files / "frames/006.png")
    for canvas in ("warp-source", "warp-target"):
        drag(tab, canvas, "paint", (0.3, 0.4), (0.6, 0.6))
    tab.click("#warp-run")
    painted = sentence(tab, "warp", r"[\d,]+ pixels warped")
    count = pixels_in(painted)
    assert 20 < count < 48 * 80  # what the mouse painted, not the whole picture
    tab.wait_for_selector("#warp-composite img")
    open_tab(tab, "Field and similarity")
    tab.wait_for_selector("#warp-overview img")
    with tab.expect_download() as download:
        tab.click("#warp-download")
    download.value.save_as(tmp_path / "results.zip")
    with zipfile.ZipFile(tmp_path / "results.zip") as archive:
        archive.extract("warped.png", tmp_path)
        assert {"composite.png", "overview.png", "warp.npz"} <= set(archive.namelist())
    alpha = warpkit.read_rgba(tmp_path / "warped.png")[..., 3]
    assert int((alpha > 0).sum()) == count
    rows, columns = np.nonzero(alpha)
    # The stroke went from (24, 19) to (48, 29) pixels.
    assert columns.min() < 26 < 46 < columns.max()
    assert 12 < rows.mean() < 36

    drag(tab, "warp-source", "look", (0.5, 0.5))
    sentence(tab, "warp", r"is at \(.*similarity")
    tab.wait_for_selector("#warp-look img")

    # With everything erased again every pixel takes part, if one asks for that.
    for canvas in ("warp-source", "warp-target"):
        tab.click(f"#{canvas} .wp-clear")
    tab.get_by_role("button", name="Settings").click()
    tab.locator("#warp-mask").get_by_label("the whole picture").check()
    tab.click("#warp-run")
    sentence(tab, "warp", f"{48 * 80:,} pixels warped")


def marks(tab: Tab, canvas: str) -> list[tuple[str, str]]:
    """Number and colour of the guides that are shown on a canvas."""
    found: list[tuple[str, str]] = tab.locator(f"#{canvas} .wp-mark").evaluate_all(
        "all => all.map(one => [one.textContent, getComputedStyle(one).borderTopColor])"
    )
    return [(number, colour) for number, colour in found]


def test_guides_are_clicked_in_one_picture_and_then_the_other(tab: Tab, files: Path) -> None:
    choose(tab, "warp-source", files / "frames/000.png")
    choose(tab, "warp-target", files / "frames/006.png")
    buttons = tab.locator("#warp-source .wp-guide-button")
    expect(buttons.first).to_be_hidden()
    tab.click("#warp-source [data-tool=guide]")  # is taken up in both
    expect(tab.locator("#warp-target [data-tool=guide]")).to_have_class(re.compile("wp-on"))
    expect(buttons.first).to_be_visible()
    press(tab, "warp-source", 0.5, 0.5)
    expect(tab.locator("#warp-source .wp-message")).to_contain_text("guide 1 waits")
    expect(tab.locator("#warp-target .wp-message")).to_contain_text("click the same place here")
    expect(tab.locator("#warp-source .wp-waits")).to_have_text("1 ?")
    assert marks(tab, "warp-target") == []

    press(tab, "warp-target", 0.48, 0.5)  # solves by itself
    sentence(tab, "warp", "the guide is met")
    expect(tab.locator(".wp-waits")).to_have_count(0)
    expect(tab.locator("#warp-target .wp-message")).to_be_empty()
    assert marks(tab, "warp-source") == marks(tab, "warp-target")

    press(tab, "warp-target", 0.1, 0.1)
    press(tab, "warp-target", 0.6, 0.4)  # moves the end that waits
    assert len(marks(tab, "warp-target")) == 2
    assert len(marks(tab, "warp-source")) == 1
    press(tab, "warp-source", 0.63, 0.4)
    sentence(tab, "warp", "both guides are met")
    first, second = marks(tab, "warp-source")
    assert (first[0], second[0]) == ("1", "2")
    assert first[1] != second[1]
    assert marks(tab, "warp-target") == [first, second]
    with tab.expect_download() as download:
        tab.click("#warp-download")
    with zipfile.ZipFile(download.value.path()) as archive:
        guides = json.loads(archive.read("run.json"))["inputs"]["guides"]
    shares = [[[0.5, 0.5], [0.48, 0.5]], [[0.63, 0.4], [0.6, 0.4]]]
    assert np.array(guides) == pytest.approx(np.array(shares) * (80, 48) - 0.5, abs=0.6)

    tab.click("#warp-target .wp-unguide")
    sentence(tab, "warp", "the guide is met")
    assert marks(tab, "warp-source") == marks(tab, "warp-target") == [first]
    press(tab, "warp-source", 0.2, 0.2)
    tab.click("#warp-source .wp-unguide")  # the one that waits
    assert marks(tab, "warp-source") == [first]
    tab.click("#warp-source .wp-no-guides")
    sentence(tab, "warp", r"mean cosine [\d.]+; ")
    assert marks(tab, "warp-source") == marks(tab, "warp-target") == []

    # The tool is laid down in both as well; what was set in another picture goes.
    press(tab, "warp-source", 0.5, 0.5)
    tab.click("#warp-target [data-tool=paint]")
    expect(tab.locator("#warp-source [data-tool=paint]")).to_have_class(re.compile("wp-on"))
    choose(tab, "warp-target", files / "frames/003.png")
    expect(tab.locator(".wp-mark")).to_have_count(0)
    expect(buttons.first).to_be_hidden()


def test_settings_of_a_warp(tab: Tab, files: Path) -> None:
    choose(tab, "warp-source", files / "frames/000.png")
    choose(tab, "warp-target", files / "frames/006.png")
    tab.get_by_role("button", name="Settings").click()
    tab.locator("#warp-mirror").get_by_label("always").check()
    tab.click("#warp-run")
    sentence(tab, "warp", "source mirrored")
    tab.locator("#warp-field").get_by_label("nearest").check()
    tab.locator("#warp-mask").get_by_label("the whole picture").check()
    tab.click("#warp-run")
    sentence(tab, "warp", rf"{48 * 80:,} pixels warped, mean cosine [\d.]+;")


def test_a_box_finds_the_object(tab: Tab, tmp_path: Path) -> None:
    frame = render_frame(replace(CLIPS["fish"], height=96, width=160), 0)
    warpkit.write_image(tmp_path / "fish.png", frame.image)
    y, x = np.nonzero(frame.labels)
    corners = (x.min() / 160, y.min() / 96), (x.max() / 160, y.max() / 96)
    for canvas in ("warp-source", "warp-target"):
        choose(tab, canvas, tmp_path / "fish.png")
        drag(tab, canvas, "box", *corners)
        expect(tab.locator(f"#{canvas} .wp-message")).to_contain_text("outlined", timeout=SLOW)
    tab.click("#warp-run")
    line = sentence(tab, "warp", r"[\d,]+ pixels warped")
    assert 0.7 * len(x) < pixels_in(line) < 1.3 * len(x)


def test_rubbish_gets_a_message(tab: Tab, files: Path) -> None:
    line = tab.locator("#warp-source .wp-message")
    for chooser in (".wp-file", ".wp-load-mask"):
        tab.set_input_files(f"#warp-source {chooser}", files / "text.png")
        expect(line).to_contain_text("text.png: not an image that can be read", timeout=SLOW)
        expect(line).to_have_class(re.compile("wp-wrong"))
    # What was there stays.
    sentence(tab, "warp", "Example, by the model")
    expect(tab.locator("#warp-run")).to_be_enabled()


def test_points(tab: Tab, files: Path, tmp_path: Path) -> None:
    open_tab(tab, "Points")
    choose(tab, "points-source", files / "frames/000.png")
    choose(tab, "points-target", files / "frames/002.png")
    for number, place in enumerate(((0.4, 0.4), (0.55, 0.5)), start=1):
        drag(tab, "points-source", "point", place)
        sentence(tab, "points", rf"\b{number} points? matched")
    tab.wait_for_selector("#points-picture img")
    with tab.expect_download() as download:
        tab.click("#points-download")
    found = json.loads(Path(download.value.path()).read_text())
    assert found["source_points"][0] == pytest.approx([0.4 * 80 - 0.5, 0.4 * 48 - 0.5], abs=0.6)
    assert len(found["target_points"]) == 2


def test_video(tab: Tab, files: Path, tmp_path: Path) -> None:
    open_tab(tab, "Video")
    choose(tab, "video-first", files / "clip.mp4")
    drag(tab, "video-first", "paint", (0.35, 0.45), (0.6, 0.55))
    tab.click("#video-run")
    sentence(tab, "video", "7 frames, 1 of them annotated")
    tab.wait_for_selector("#video-movie video", state="attached")
    tab.wait_for_selector("#video-still img")
    before = tab.get_attribute("#video-still img", "src")
    slider = tab.locator("#video-scrub input[type=number]")
    slider.fill("4")
    slider.press("Enter")
    expect(tab.locator("#video-still img")).not_to_have_attribute("src", before or "", timeout=SLOW)
    tab.get_by_role("button", name="Correct a frame").click()
    tab.click("#video-take")
    expect(tab.locator("#video-fix .wp-message")).to_contain_text("frame 4", timeout=SLOW)
    drag(tab, "video-fix", "paint", (0.2, 0.2), (0.3, 0.2))
    tab.click("#video-again")
    sentence(tab, "video", "7 frames, 2 of them annotated")
    with tab.expect_download() as download:
        tab.click("#video-download")
    download.value.save_as(tmp_path / "results.zip")
    with zipfile.ZipFile(tmp_path / "results.zip") as archive:
        names = set(archive.namelist())
        archive.extract("run.json", tmp_path)
    assert {"masks/00006.png", "overlay.mp4", "frames.jsonl"} <= names
    run = json.loads((tmp_path / "run.json").read_text())
    assert sorted(run["inputs"]["mask"]) == ["0", "4"]


def test_a_job_is_cancelled(tab: Tab, clip: list, tmp_path: Path) -> None:
    with warpkit.VideoWriter(tmp_path / "long.mp4", height=48, width=80, frame_rate=24) as writer:
        for i in range(400):
            writer.write(clip[i % 7].image)
    open_tab(tab, "Video")
    choose(tab, "video-first", tmp_path / "long.mp4")
    drag(tab, "video-first", "paint", (0.35, 0.45), (0.6, 0.55))
    tab.click("#video-run")
    sentence(tab, "video", r"propagating \(\d+ of 400\)")
    tab.click("#video-cancel")
    sentence(tab, "video", "cancelled")
    expect(tab.locator("#video-download")).to_be_disabled()


def test_inspect(tab: Tab, files: Path) -> None:
    open_tab(tab, "Inspect")
    choose(tab, "inspect-picture", files / "frames/000.png")
    tab.click("#inspect-run")
    sentence(tab, "inspect", "2 pictures")
    tab.wait_for_selector("#inspect-gallery img")
    choose(tab, "inspect-picture", files / "frames/006.png")
    expect(tab.locator("#inspect-gallery img")).to_have_count(0, timeout=SLOW)
    expect(tab.locator("#inspect-status")).not_to_contain_text("pictures")


def test_a_data_set_is_browsed(tab: Tab) -> None:
    open_tab(tab, "Data set")  # shows the example without a click
    sentence(tab, "set", r"\d pairs, page 1 of 2")
    tab.wait_for_selector("#set-sheet img")
    first = tab.wait_for_selector("#set-pair img").get_attribute("src")
    expect(tab.locator("#set-facts")).to_contain_text("pairs.json", timeout=SLOW)
    tab.click("#set-after")
    sentence(tab, "set", "page 2 of 2")
    open_tab(tab, "Warp")
    open_tab(tab, "Data set")  # as it was left
    sentence(tab, "set", "page 2 of 2")
    tab.locator("#set-number input").fill("3")
    tab.click("#set-show")
    expect(tab.locator("#set-pair img")).not_to_have_attribute("src", first, timeout=SLOW)
    tab.click("#set-open")
    sentence(tab, "set", "page 1 of 2")
    expect(tab.locator("#set-number input")).to_have_value("0")


def test_a_telephone_shows_everything_within_its_width(page: Page, browser: Browser) -> None:
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    context.set_default_timeout(SLOW)
    tab = context.new_page()
    tab.goto(page.url)
    tab.wait_for_selector("#warp-source canvas", state="attached")
    for name in ("Warp", "Points", "Video", "Inspect", "Data set"):
        if not tab.get_by_role("tab", name=name, exact=True).is_visible():
            tab.locator(".overflow-menu button").first.click()
            tab.locator(".overflow-dropdown button", has_text=name).click()
        else:
            open_tab(tab, name)
        wide = tab.evaluate("document.documentElement.scrollWidth")
        assert wide <= PHONE["width"] + 1, name
    context.close()
