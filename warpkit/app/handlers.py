"""What the handlers of all tabs share: whose request it is, uploads, boxes, cancelling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from warpkit.app.pictures import canvas_value, encode_labels
from warpkit.app.service import Service
from warpkit.app.status import said
from warpkit.app.workspace import Upload
from warpkit.checks import InputError

__all__ = ["Canvas", "bind_cancel", "bind_canvas", "drawn", "show_upload", "visitor_of"]

Canvas = dict[str, Any]


def visitor_of(request: gr.Request | None) -> str:
    """The visitor's key; scripts that name none share one."""
    return str(getattr(request, "session_hash", None) or "script")


def drawn(value: Any, key: str) -> Any:
    """What a canvas sent under a key; it may be anything, or nothing."""
    return value.get(key) if isinstance(value, dict) else None


def show_upload(upload: Upload, labels: Any = None, *, message: str = "") -> Canvas:
    """A canvas with an upload, and a mask over it."""
    more = {} if labels is None else {"labels": encode_labels(labels)}
    text = message or f"{upload.title}, {upload.width} x {upload.height} pixels"
    return canvas_value(upload.path, picture=upload.name, message=text, **more)


def wrong(value: Any, error: InputError) -> Canvas:
    """A canvas as it is, with an error under it."""
    return canvas_value(picture=drawn(value, "picture"), message=str(error), wrong=True)


def bind_canvas(
    service: Service, canvas: gr.HTML, *, take: Callable[[str, Any, Any], Upload] | None = None
) -> None:
    """Answer a canvas that sends a file.

    Args:
        take: takes visitor, path and title; an image by default.
    """
    take = take or service.take_picture

    def upload(value: Any, request: gr.Request) -> Canvas:
        try:
            taken = take(visitor_of(request), drawn(value, "upload"), drawn(value, "title"))
        except InputError as error:
            return wrong(value, error)
        return show_upload(taken)

    canvas.upload(
        upload,
        canvas,
        canvas,
        api_name=f"upload_{str(canvas.elem_id).replace('-', '_')}",
        show_progress="hidden",
    )


def find_in_box(service: Service, visitor: str, value: Any, *, label: int = 1) -> Canvas:
    """The canvas with the object of its box painted in."""
    try:
        labels = service.cut_out(visitor, drawn(value, "picture"), drawn(value, "box"), label=label)
    except InputError as error:
        return wrong(value, error)
    return canvas_value(
        picture=drawn(value, "picture"),
        message="outlined by GrabCut: paint or erase what is wrong",
        labels=encode_labels(labels),
        object=label,
    )


def bind_cancel(service: Service, button: gr.Button, line: gr.HTML, tag: str) -> None:
    """Let a button end the visitor's jobs of a kind."""

    def cancel(request: gr.Request) -> Any:
        count = service.queue.cancel_all(visitor_of(request), tag)
        # A running job says itself when it has ended.
        return gr.skip() if count else said("nothing is running")

    button.click(cancel, None, line, api_name=f"cancel_{tag}", show_progress="hidden", queue=False)
