"""The canvas component: a picture that is chosen, painted on, boxed and clicked; thumbnails."""

from __future__ import annotations

import html
from typing import Any, Literal

import gradio as gr

from warpkit.app.examples import Example
from warpkit.app.pictures import MOST_OBJECTS

__all__ = ["BUTTONS", "canvas", "thumbnails"]

BUTTONS: list[Any] = ["download", "fullscreen"]
"""Over pictures; Gradio's third, to share, would send them away."""

_TOOLS = {
    "paint": ("Paint", "paint the object: its mask"),
    "erase": ("Erase", "erase what was painted"),
    "box": ("Box", "draw a box around the object: its mask is found"),
    "colour": ("Colour", "paint colours over the picture: an edit"),
    "guide": ("Guide", "click a place here and the same place in the other picture"),
    "look": ("Locate", "click a pixel: where is it in the other picture?"),
    "point": ("Point", "click points"),
}

_FILES = {
    "mask": ("Load mask", "a picture of the same size that is black where the object is not"),
    "edit": ("Load edit", "the first frame edited elsewhere, or a picture with transparency"),
}

# Event names stand in quotes in the script for Gradio: 'upload', 'input', 'select', 'submit'.
_SCRIPT = "window.warpkitPainter(element, props, trigger, upload, watch);"


def canvas(
    title: str,
    name: str,
    *,
    tools: tuple[str, ...],
    files: tuple[str, ...] = (),
    objects: int = 1,
    accept: str = "image/*",
    upload_mb: int,
    choose: bool = True,
    guides: tuple[str, Literal["source", "target"]] | None = None,
    classes: tuple[str, ...] = (),
) -> gr.HTML:
    """A canvas.

    Args:
        title: above it.
        name: its `id` in the page.
        tools: of `paint`, `erase`, `box`, `colour`, `guide`, `look`, `point`; the first is on.
        files: of `mask`, `edit`: what can be read from a file as well.
        objects: how many objects can be told apart.
        accept: kinds of files for the browser's dialog.
        upload_mb: largest file, told before it is sent.
        choose: whether a file can be chosen here.
        guides: name of the pair of canvases that share guides, and which of both this is.
        classes: for the style: `wp-small` is low enough for two above each other.

    Returns:
        A `gradio.HTML` with the events `upload` (a file was sent), `input` (something was drawn),
        `select` (an object to be found, or a click to be located) and, of the source of a pair,
        `submit` (its finished guides have changed).
    """
    buttons = ""
    for tool in tools:
        label, words = _TOOLS[tool]
        buttons += (
            f'<button type="button" data-tool="{tool}" title="{html.escape(words)}">{label}'
            "</button>"
        )
        if tool == "box":
            buttons += (
                '<button type="button" class="wp-find" title="find the object by itself">Find'
                "</button>"
            )
    if len(tools) > 1:
        buttons += '<span class="wp-break"></span>'
    if objects > 1:
        options = "".join(
            f'<option value="{i}">object {i}</option>'
            for i in range(1, min(objects, MOST_OBJECTS) + 1)
        )
        buttons += f'<select class="wp-object" aria-label="object">{options}</select>'
    if "colour" in tools:
        buttons += '<input type="color" class="wp-colour" value="#d55e00" aria-label="colour">'
    if {"paint", "colour"} & set(tools):
        buttons += (
            '<label class="wp-brush">brush <input type="range" class="wp-size" min="2" max="60"'
            ' value="14" aria-label="brush size"></label>'
        )
    if tools and tools != ("look",):
        buttons += (
            '<button type="button" class="wp-undo">Undo</button>'
            '<button type="button" class="wp-clear">Clear</button>'
        )
    for kind in files:
        label, words = _FILES[kind]
        buttons += (
            f'<button type="button" class="wp-load" data-kind="{kind}" title="{words}">{label}'
            f'</button><input type="file" class="wp-load-{kind}" accept="image/*" hidden>'
        )
    if guides is not None:
        buttons += (
            '<button type="button" class="wp-guide-button wp-unguide">Remove last guide</button>'
            '<button type="button" class="wp-guide-button wp-no-guides">Clear guides</button>'
        )
    shared = "" if guides is None else f' data-guides="{guides[0]}" data-end="{guides[1]}"'
    other = '<button type="button" class="wp-choose">Open file</button>' if choose else ""
    badge = '<span class="wp-badge"></span>' if "paint" in tools else ""
    larger = '<button type="button" class="wp-enlarge">Enlarge</button>' if tools else ""
    empty = "Choose or drop a file" if choose else "Nothing here yet"
    template = f"""
<div class="wp" data-mb="{upload_mb}"{shared}>
  <div class="wp-title"><span>{html.escape(title)}</span>{badge}<i></i>{larger}{other}</div>
  <div class="wp-stage">
    <div class="wp-picture">
      <canvas class="wp-canvas" width="1" height="1" aria-label="{html.escape(title)}"></canvas>
      <div class="wp-marks"></div></div>
    <button type="button" class="wp-empty" {"" if choose else "disabled"}>{empty}</button>
    <input type="file" class="wp-file" accept="{accept}" hidden></div>
  <div class="wp-tools">{buttons if tools else ""}</div>
  <div class="wp-message" role="status"></div>
</div>"""
    return gr.HTML(
        value=None,
        html_template=template,
        js_on_load=_SCRIPT,
        elem_id=name,
        elem_classes=["wp-block", *classes],
        label=title,
        apply_default_css=False,
    )


def thumbnails(name: str, examples: list[Example]) -> gr.HTML:
    """A row of examples to be clicked.

    Args:
        name: its `id` in the page.

    Returns:
        A `gradio.HTML` with the event `select`; its value is then the name of an example.
    """
    buttons = "".join(
        f'<button type="button" data-example="{html.escape(one.name)}">'
        f'<img src="{one.thumbnail()}" alt="">{html.escape(one.name)}</button>'
        for one in examples
    )
    return gr.HTML(
        value="",
        html_template=f'<div class="wp-examples"><span>Examples</span>{buttons}</div>',
        js_on_load="window.warpkitExamples(element, props, trigger);",
        elem_id=name,
        apply_default_css=False,
    )
