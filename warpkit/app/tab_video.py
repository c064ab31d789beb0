"""The tab Video: draw on the first frame, propagate, look at frames, correct, download."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from warpkit.app.canvas import BUTTONS, canvas
from warpkit.app.handlers import (
    Canvas,
    bind_cancel,
    drawn,
    visitor_of,
    wrong,
)
from warpkit.app.pictures import canvas_value, encode_labels
from warpkit.app.queue import Job
from warpkit.app.status import failed, follow, said, status
from warpkit.app.video_service import VideoRun, VideoService
from warpkit.checks import InputError

__all__ = ["video_tab"]

_HINT = (
    "Choose a video. On its first frame paint an object (or draw a box around it), or paint colours"
    " over it, or click points; then propagate. Where the result is wrong, correct a frame: only"
    " what the correction changes is carried again."
)
_OBJECTS = 4


def video_tab(videos: VideoService, model: gr.Dropdown) -> None:
    """Build the tab inside the open `gr.Tab`."""
    service = videos.service
    gr.Markdown(_HINT, elem_classes="hint")
    first = canvas(
        "First frame",
        "video-first",
        tools=("paint", "erase", "box", "colour", "wipe", "point"),
        objects=_OBJECTS,
        accept="video/*,image/gif",
        upload_mb=service.limits.upload_mb,
    )
    with gr.Row():
        example = gr.Button("Example", size="sm", elem_id="video-example", min_width=100)
        stride = gr.Number(1, label="take every N-th frame", precision=0, minimum=1, min_width=140)
        run = gr.Button("Propagate", variant="primary", elem_id="video-run", min_width=120)
        cancel = gr.Button("Cancel", elem_id="video-cancel", min_width=120)
    line = gr.HTML(elem_id="video-status")
    name = gr.State("")
    with gr.Row():
        movie = gr.Video(
            label="Result", interactive=False, elem_id="video-movie", buttons=["download"]
        )
        with gr.Column(min_width=280):
            scrub = gr.Slider(0, 1, 0, step=1, label="Frame", elem_id="video-scrub")
            still = gr.Image(
                label="This frame",
                type="filepath",
                interactive=False,
                buttons=BUTTONS,
                elem_id="video-still",
            )
    curves = gr.HTML(elem_id="video-curves")
    sheet = gr.Image(
        label="Frames to look at first",
        type="filepath",
        interactive=False,
        buttons=BUTTONS,
        elem_id="video-sheet",
    )
    archive = gr.DownloadButton(
        "Download all files", interactive=False, elem_id="video-download", size="sm"
    )
    with gr.Accordion("Correct a frame", open=False, elem_id="video-corrections"):
        gr.Markdown("Choose a frame with the slider above, then open it here.")
        take = gr.Button("Open this frame", elem_id="video-take", size="sm")
        fix = canvas(
            "Correction",
            "video-fix",
            tools=("paint", "erase", "box"),
            objects=_OBJECTS,
            upload_mb=service.limits.upload_mb,
            choose=False,
        )
        again = gr.Button("Apply the correction", variant="primary", elem_id="video-again")
    at = gr.State(0)
    shown = [line, name, movie, scrub, still, curves, sheet, archive]
    nothing = [gr.skip()] * (len(shown) - 1)

    async def follow_run(job: Job, visitor: str) -> AsyncIterator[list[Any]]:
        async for text in follow(service.queue, job):
            yield [text, *nothing]
        if job.state != "done":
            yield [status(job, 0), *nothing]
            return
        found: VideoRun = job.result
        movie_path = found.video()
        yield [
            said(f"{found.text}; {job.seconds:.1f} s"),
            found.name,
            None if movie_path is None else str(movie_path),
            gr.update(maximum=max(1, len(found.frames) - 1), value=0),
            str(videos.frame_picture(visitor, found.name, 0)),
            '<div class="curves"><p>Confidence over time</p>'
            + (found.folder / "confidence.svg").read_text(encoding="utf-8")
            + "</div>",
            str(found.folder / "contact_sheet.png"),
            gr.update(value=str(found.archive), interactive=True),
        ]

    async def propagate(
        first: Any, stride: Any, model: str, request: gr.Request
    ) -> AsyncIterator[list[Any]]:
        visitor = visitor_of(request)
        try:
            job = videos.propagate(
                visitor,
                model,
                clip=drawn(first, "picture"),
                labels=drawn(first, "labels") or "",
                layer=drawn(first, "layer") or "",
                points=drawn(first, "points"),
                stride=stride,
            )
        except InputError as error:
            yield [failed(str(error)), *nothing]
            return
        async for values in follow_run(job, visitor):
            yield values

    async def correct(
        name: str, at: int, fix: Any, model: str, request: gr.Request
    ) -> AsyncIterator[list[Any]]:
        visitor = visitor_of(request)
        try:
            job = videos.correct(
                visitor, model, run=name, position=at, labels=drawn(fix, "labels") or ""
            )
        except InputError as error:
            yield [failed(str(error)), *nothing]
            return
        async for values in follow_run(job, visitor):
            yield values

    def upload(value: Any, request: gr.Request) -> Canvas:
        visitor = visitor_of(request)
        try:
            clip = videos.take_clip(visitor, drawn(value, "upload"), drawn(value, "title"))
            frame = videos.first_frame(visitor, clip.name)
        except InputError as error:
            return wrong(value, error)
        count = f"{clip.frames} frames, " if clip.frames else ""
        words = f"{clip.title}: {count}{clip.width} x {clip.height} pixels"
        return canvas_value(frame, picture=clip.name, message=words)

    def load(request: gr.Request) -> Canvas:
        visitor = visitor_of(request)
        clip, labels = videos.example_clip(visitor)
        frame = videos.first_frame(visitor, clip.name)
        words = f"{clip.title}: {clip.frames} frames, its exact first mask"
        return canvas_value(frame, picture=clip.name, message=words, labels=encode_labels(labels))

    def box(value: Any, request: gr.Request) -> Canvas:
        label = _object(value)
        try:
            found = videos.cut_out(
                visitor_of(request), drawn(value, "picture"), drawn(value, "box"), label=label
            )
        except InputError as error:
            return wrong(value, error)
        return _outlined(value, encode_labels(found), label)

    def box_to_fix(value: Any, name: str, at: int, request: gr.Request) -> Canvas:
        label, visitor = _object(value), visitor_of(request)
        try:
            known = videos.run(visitor, name)
            found = videos.cut_out(
                visitor,
                known.clip.name,
                drawn(value, "box"),
                frame=known.frames[at],
                label=label,
            )
        except InputError as error:
            return wrong(value, error)
        return _outlined(value, encode_labels(found), label)

    def look(name: str, position: Any, request: gr.Request) -> Any:
        try:
            return str(videos.frame_picture(visitor_of(request), name, position))
        except InputError:
            return gr.skip()

    def open_frame(name: str, position: Any, request: gr.Request) -> list[Any]:
        try:
            index, path, labels = videos.frame_to_correct(visitor_of(request), name, position)
        except InputError as error:
            return [canvas_value(message=str(error), wrong=True), 0]
        words = f"frame {index}, as it was carried"
        value = canvas_value(
            path, picture=f"frame {index}", message=words, labels=encode_labels(labels)
        )
        return [value, int(position)]

    quiet: dict[str, Any] = {"show_progress": "hidden"}
    first.upload(upload, first, first, api_name="upload_video", **quiet)
    first.select(box, first, first, api_name="box_video", **quiet)
    fix.select(box_to_fix, [fix, name, at], fix, api_visibility="private", **quiet)
    example.click(load, None, first, api_name="example_video", **quiet)
    run.click(propagate, [first, stride, model], shown, api_name="video", **quiet)
    again.click(correct, [name, at, fix, model], shown, api_name="correct", **quiet)
    scrub.change(look, [name, scrub], still, api_name="frame", trigger_mode="always_last", **quiet)
    take.click(open_frame, [name, scrub], [fix, at], api_visibility="private", **quiet)
    bind_cancel(service, cancel, line, "video")


def _object(value: Any) -> int:
    """The object that is painted; the canvas says it, whatever it says."""
    label = drawn(value, "object")
    return label if isinstance(label, int) and 1 <= label <= _OBJECTS else 1


def _outlined(value: Any, labels: str, label: int) -> Canvas:
    return canvas_value(
        picture=drawn(value, "picture"),
        message="outlined by GrabCut: paint or erase what is wrong",
        labels=labels,
        object=label,
    )
