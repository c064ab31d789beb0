"""What the handlers of all tabs share: whose request it is, uploads, masks, buttons, cancelling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from warpkit.app.examples import Example, example
from warpkit.app.pictures import canvas_value, encode_labels
from warpkit.app.service import Found, Service
from warpkit.app.status import said
from warpkit.app.workspace import Upload
from warpkit.checks import InputError

__all__ = [
    "Canvas",
    "bind_cancel",
    "bind_canvas",
    "bind_examples",
    "drawn",
    "drop",
    "enabled_when",
    "find_object_in",
    "show_found",
    "show_upload",
    "shown_in",
    "visitor_of",
    "wrong",
]

Canvas = dict[str, Any]


def visitor_of(request: gr.Request | None) -> str:
    """The visitor's key; scripts that name none share one."""
    return str(getattr(request, "session_hash", None) or "script")


def drawn(value: Any, key: str) -> Any:
    """What a canvas sent under a key; it may be anything, or nothing."""
    return value.get(key) if isinstance(value, dict) else None


def shown_in(value: Any) -> dict[str, Any]:
    """The picture that a canvas shows, and which frame of a video; an answer is for these alone."""
    return {"picture": drawn(value, "picture"), "frame": drawn(value, "frame")}


def show_upload(upload: Upload, **masks: Any) -> Canvas:
    """A canvas with an upload, and masks over it: `labels` that were given, or `found`."""
    more = {name: encode_labels(mask) for name, mask in masks.items() if mask is not None}
    text = f"{upload.title}, {upload.width} x {upload.height} pixels"
    return canvas_value(upload.path, picture=upload.name, message=text, **more)


def wrong(value: Any, error: InputError) -> Canvas:
    """A canvas as it is, with an error under it."""
    return canvas_value(**shown_in(value), message=str(error), wrong=True)


def bind_canvas(
    service: Service,
    canvas: gr.HTML,
    results: Sequence[tuple[Component, Any]] = (),
    tags: Sequence[str] = (),
) -> None:
    """Answer a canvas that sends a picture, or a mask of the one it shows.

    Args:
        results: of the picture before, and what they become when another one is opened.
        tags: kinds of jobs whose results belong to the picture before: they are dropped.
    """

    def upload(value: Any, request: gr.Request) -> Any:
        shown, opened = taken(value, request)
        if not results:
            return shown  # of one output Gradio takes a list for its value
        return [shown, *(update if opened else gr.skip() for _, update in results)]

    def taken(value: Any, request: gr.Request) -> tuple[Canvas, bool]:
        visitor, path, title = visitor_of(request), drawn(value, "upload"), drawn(value, "title")
        try:
            if drawn(value, "kind") == "mask":
                labels = service.take_mask(visitor, drawn(value, "picture"), path, title)
                return show_mask(value, (labels > 0).astype(labels.dtype), title), False
            shown = show_upload(service.take_picture(visitor, path, title))
        except InputError as error:
            return wrong(value, error), False
        drop(service, visitor, tags)
        return shown, True

    canvas.upload(
        upload,
        canvas,
        [canvas, *(component for component, _ in results)],
        api_name=f"upload_{str(canvas.elem_id).replace('-', '_')}",
        show_progress="hidden",
    )


def bind_examples(
    service: Service,
    page: gr.Blocks,
    thumbnails: gr.HTML,
    shown: Callable[[Example, str], Any],
    outputs: Any,
    *,
    first: Example,
    api_name: str,
    tags: Sequence[str] = (),
) -> None:
    """Show an example whose thumbnail is clicked, and the first one when the page opens.

    Args:
        shown: the outputs for an example and a visitor.
        tags: kinds of jobs whose results belong to what was shown before: they are dropped.
    """

    def load(name: str, request: gr.Request) -> Any:
        visitor = visitor_of(request)
        drop(service, visitor, tags)
        return shown(example(name), visitor)

    def opened(request: gr.Request) -> Any:
        return shown(first, visitor_of(request))

    quiet: dict[str, Any] = {"show_progress": "hidden"}
    thumbnails.select(load, thumbnails, outputs, api_name=api_name, **quiet)
    page.load(opened, None, outputs, api_visibility="private", **quiet)


def drop(service: Service, visitor: str, tags: Sequence[str]) -> None:
    """End a visitor's jobs of these kinds, since other pictures than theirs are shown now."""
    for tag in tags:
        service.queue.drop(visitor, tag)


def show_mask(value: Any, labels: Any, title: Any) -> Canvas:
    """The canvas with a mask that was read from a file."""
    return canvas_value(**shown_in(value), message=f"mask of {title}", labels=encode_labels(labels))


def find_object_in(service: Service, visitor: str, value: Any) -> Canvas:
    """The canvas with the object painted in that its box holds, or that is found by itself."""
    try:
        found = service.cut_out(visitor, drawn(value, "picture"), asked_box(value))
    except InputError as error:
        return wrong(value, error)
    return show_found(value, found)


def asked_box(value: Any) -> Any:
    """The box of a canvas; None if it asks for the object without one."""
    return None if drawn(value, "find") is True else drawn(value, "box") or ()


def show_found(value: Any, found: Found, *, label: int = 1) -> Canvas:
    """The canvas with an object that was found, how sure that is, and what to do."""
    sure = f"outlined, {100 * found.agreement:.0f} % sure"
    doubts = "".join(f"; {doubt}" for doubt in found.doubts)
    return canvas_value(
        **shown_in(value),
        message=f"{sure}{doubts}: paint or erase what is wrong",
        wrong=bool(found.doubts),
        labels=encode_labels(found.labels * label),
        object=label,
    )


def enabled_when(
    button: gr.Button | gr.DownloadButton, test: str, inputs: list[Any], events: list[Any]
) -> None:
    """Enable a button in the browser as long as a test holds.

    Args:
        test: a JavaScript expression of `v`, the list of the inputs' values.
        events: after which it is tested.
    """
    gr.on(
        events,
        None,
        inputs,
        button,
        js=f"(...v) => ({{__type__: 'update', interactive: Boolean({test})}})",
        api_visibility="private",
        show_progress="hidden",
        queue=False,
    )


def bind_cancel(service: Service, button: gr.Button, line: gr.HTML, tag: str) -> None:
    """Let a button end the visitor's jobs of a kind, as long as the line tells of one."""

    def cancel(request: gr.Request) -> Any:
        count = service.queue.cancel_all(visitor_of(request), tag)
        # A running job says itself when it has ended.
        return gr.skip() if count else said("nothing is running")

    button.click(cancel, None, line, api_name=f"cancel_{tag}", show_progress="hidden", queue=False)
    enabled_when(button, "(v[0] || '').includes('job-bar')", [line], [line.change])
