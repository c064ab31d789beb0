"""The tab Video: draw on the first frame, propagate, look at frames, correct, download."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from warpkit.app.canvas import BUTTONS, canvas, thumbnails
from warpkit.app.examples import Example, all_examples
from warpkit.app.handlers import (
    Canvas,
    asked_box,
    bind_cancel,
    bind_examples,
    drawn,
    drop,
    enabled_when,
    show_found,
    show_mask,
    shown_in,
    visitor_of,
    wrong,
)
from warpkit.app.pictures import canvas_value, encode_labels, encode_layer
from warpkit.app.queue import Job
from warpkit.app.status import failed, follow, said, status
from warpkit.app.video_service import VideoRun, VideoService
from warpkit.app.workspace import Upload
from warpkit.checks import InputError, counted, require

__all__ = ["video_tab"]

_HINT = (
    "Open a video. On its first frame paint an object, draw a box around it or let it be found; or"
    " paint colours over it, an edit; or click points. Propagate tracks all of it through the"
    " video. Where the result is wrong, correct that frame: only what this changes is recomputed."
)
_WORST = "Open the frame to correct first"
_OBJECTS = 4
_JOBS = ("video",)  # kinds of the jobs on a video
_DRAWN = "v[0]?.picture && (v[0].labels || v[0].layer || v[0].edit || v[0].points?.length)"


def video_tab(videos: VideoService, model: gr.Dropdown, page: gr.Blocks) -> None:
    """Build the tab inside the open `gr.Tab`."""
    service = videos.service
    clips = [one for one in all_examples() if one.file("clip.mp4").is_file()]
    still_: dict[str, Any] = {"type": "filepath", "interactive": False, "buttons": BUTTONS}
    gr.Markdown(_HINT, elem_classes="hint")
    with gr.Row():
        with gr.Column(min_width=320):
            first = canvas(
                "First frame",
                "video-first",
                tools=("paint", "erase", "box", "colour", "point"),
                files=("mask", "edit"),
                objects=_OBJECTS,
                accept="video/*,image/gif",
                upload_mb=service.limits.upload_mb,
                classes=("wp-medium",),
            )
            with gr.Row():
                start = gr.Slider(
                    0, 1, 0, step=1, label="First frame", elem_id="video-start", min_width=140
                )
                last = gr.Slider(
                    0, 1, 1, step=1, label="Last frame", elem_id="video-last", min_width=140
                )
                stride = gr.Number(
                    1, label="Every N-th frame", precision=0, minimum=1, min_width=110
                )
            with gr.Row():
                run = gr.Button(
                    "Propagate",
                    variant="primary",
                    elem_id="video-run",
                    min_width=120,
                    interactive=False,
                )
                cancel = gr.Button(
                    "Cancel", elem_id="video-cancel", min_width=90, interactive=False
                )
                archive = gr.DownloadButton(
                    "Download", interactive=False, elem_id="video-download", min_width=110
                )
            line = gr.HTML(elem_id="video-status")
        with gr.Column(min_width=320):
            examples = thumbnails("video-examples", clips)
            movie = gr.Video(
                label="Result",
                interactive=False,
                elem_id="video-movie",
                buttons=["download"],
                height=320,
                autoplay=True,
                loop=True,
            )
            scrub = gr.Slider(
                0,
                1,
                0,
                step=1,
                label="Frame of the result",
                elem_id="video-scrub",
                visible=False,
            )
            still = gr.Image(
                label="This frame", elem_id="video-still", height=220, visible=False, **still_
            )
    name = gr.State("")
    with gr.Accordion("Correct a frame", open=False, elem_id="video-corrections"):
        gr.Markdown("Choose a frame of the result with the slider above, then open it here.")
        with gr.Row():
            take = gr.Button("Open this frame", elem_id="video-take", size="sm", interactive=False)
            worst = gr.Button(_WORST, elem_id="video-worst", size="sm", interactive=False)
        worst_at = gr.State(0)
        fix = canvas(
            "Correction",
            "video-fix",
            tools=("paint", "erase", "box"),
            objects=_OBJECTS,
            upload_mb=service.limits.upload_mb,
            choose=False,
        )
        again = gr.Button(
            "Apply the correction", variant="primary", elem_id="video-again", interactive=False
        )
    with gr.Row():
        with gr.Column(min_width=320):
            curves = gr.HTML(elem_id="video-curves")
        with gr.Column(min_width=320):
            sheet = gr.Image(
                label="Frames to look at first", elem_id="video-sheet", visible=False, **still_
            )
    shown = [line, name, movie, scrub, still, curves, sheet, archive, take, worst, worst_at]
    # A frame that is open for a correction goes where its run does.
    correction = [fix, again]
    nothing, as_it_is = [gr.skip()] * (len(shown) - 1), [gr.skip()] * len(correction)
    # What a video that is opened changes: the sliders, its result, and all that a run brought.
    results = [movie, line, name, scrub, still, curves, sheet, archive, take, worst]
    opened = [first, start, last, *results, *correction]
    kept = [gr.skip()] * (len(opened) - 1)
    hidden, off = gr.update(visible=False), gr.update(interactive=False)
    no_worst = gr.update(value=_WORST, interactive=False)

    def no_correction() -> list[Any]:
        return [canvas_value(image=""), off]

    def no_run() -> list[Any]:
        return ["", hidden, hidden, "", hidden, off, off, no_worst, *no_correction()]

    async def follow_run(job: Job, visitor: str) -> AsyncIterator[list[Any]]:
        async for text in follow(service.queue, job):
            yield [text, *nothing]
        if service.queue.dropped(job):
            return  # another video is shown now
        if job.state != "done":
            yield [status(job, 0), *nothing]
            return
        found: VideoRun = job.result
        movie_path = found.video()
        drawing = await asyncio.to_thread(videos.frame_picture, visitor, found.name, 0)
        at = found.first_to_correct()
        correct_first = no_worst
        if at is not None:
            words = f"Open frame {found.frames[at]}: its correction gains most"
            correct_first = gr.update(value=words, interactive=True)
        yield [
            said(f"{found.text}; {job.seconds:.1f} s"),
            found.name,
            None if movie_path is None else str(movie_path),
            gr.update(maximum=max(1, len(found.frames) - 1), value=0, visible=True),
            gr.update(value=str(drawing), visible=True),
            '<div class="curves"><p>Predicted quality over time</p>'
            + (found.folder / "confidence.svg").read_text(encoding="utf-8")
            + "</div>",
            gr.update(value=str(found.folder / "contact_sheet.png"), visible=True),
            gr.update(value=str(found.archive), interactive=True),
            gr.update(interactive=bool(found.masks)),
            correct_first,
            at or 0,
        ]

    async def propagate(
        first: Any, stride: Any, model: str, start: Any, last: Any, request: gr.Request
    ) -> AsyncIterator[list[Any]]:
        visitor = visitor_of(request)
        try:
            begin = drawn_on(first, start)
            job = videos.propagate(
                visitor,
                model,
                clip=drawn(first, "picture"),
                labels=drawn(first, "labels") or "",
                layer=drawn(first, "layer") or "",
                edit=drawn(first, "edit"),
                points=drawn(first, "points"),
                start=begin,
                last=last,
                stride=stride,
            )
        except InputError as error:
            yield [failed(str(error)), *nothing, *as_it_is]
            return
        yield [gr.skip(), *nothing, *no_correction()]
        async for values in follow_run(job, visitor):
            # One that was opened meanwhile is of the run before.
            yield [*values, *(no_correction() if job.state == "done" else as_it_is)]

    async def correct(
        name: str, fix: Any, model: str, request: gr.Request
    ) -> AsyncIterator[list[Any]]:
        visitor = visitor_of(request)
        try:
            job = videos.correct(visitor, model, **corrected(name, fix))
        except InputError as error:
            yield [failed(str(error)), *nothing]
            return
        async for values in follow_run(job, visitor):
            yield values

    def upload(value: Any, at: Any, request: gr.Request) -> list[Any]:
        visitor, path, title = visitor_of(request), drawn(value, "upload"), drawn(value, "title")
        clip, kind = drawn(value, "picture"), drawn(value, "kind")
        try:
            if kind == "mask":
                labels = videos.take_mask(visitor, clip, path, title)
                return [show_mask(value, labels, title), *kept]
            if kind == "edit":
                at = shown_frame(value, at)
                edit, rgba = videos.take_edit(visitor, clip, path, title, frame=at)
                more: dict[str, Any] = {"layer": encode_layer(rgba), "edit": edit.name}
                more |= shown_in(value)
                return [canvas_value(message=f"edit of {edit.title}", **more), *kept]
            taken = videos.take_clip(visitor, path, title)
            frame, _ = videos.frame(visitor, taken.name)
        except InputError as error:
            return [wrong(value, error), *kept]
        drop(service, visitor, _JOBS)
        shown = canvas_value(frame, picture=taken.name, frame=0, message=clip_words(taken))
        return [shown, *span(taken), None, "", *no_run()]

    def span(clip: Upload) -> list[Any]:
        """The sliders of the first and the last frame, set to a whole video."""
        most = max(1, (clip.frames or service.limits.frames) - 1)
        return [gr.update(maximum=most, value=0), gr.update(maximum=most, value=most)]

    def begin_at(value: Any, start: Any, request: gr.Request) -> Canvas:
        """The frame that a video is to begin with, to be drawn on."""
        clip = drawn(value, "picture")
        try:
            frame, seconds = videos.frame(visitor_of(request), clip, start)
        except InputError as error:
            return wrong(value, error)
        words = f"frame {start}, at {seconds:.2f} s"
        return canvas_value(frame, picture=clip, frame=start, message=words, of=clip)

    def finished(one: Example, visitor: str) -> list[Any]:
        """An example with its result, which was made before."""
        clip = videos.example_clip(visitor, one)
        frame, _ = videos.frame(visitor, clip.name)
        labels = one.mask("clip")
        more = {} if labels is None else {"labels": encode_labels(labels)}
        return [
            canvas_value(frame, picture=clip.name, frame=0, message=clip_words(clip), **more),
            *span(clip),
            str(one.file("tracked.mp4")),
            said(
                f"Example, by the model {one.record['model']}: the mask of the first frame tracked"
                f" through {counted(clip.frames, 'frame')}"
            ),
            *no_run(),
        ]

    def find(value: Any, start: Any, request: gr.Request) -> Canvas:
        label, frame = _object(value), shown_frame(value, start)
        try:
            found = videos.cut_out(
                visitor_of(request), drawn(value, "picture"), asked_box(value), frame=frame
            )
        except InputError as error:
            return wrong(value, error)
        return show_found(value, found, label=label)

    def find_to_fix(value: Any, request: gr.Request) -> Canvas:
        label, visitor = _object(value), visitor_of(request)
        try:
            known = videos.run(visitor, drawn(value, "picture"))
            found = videos.cut_out(
                visitor, known.clip.name, asked_box(value), frame=drawn(value, "frame")
            )
        except InputError as error:
            return wrong(value, error)
        return show_found(value, found, label=label)

    def look(name: str, position: Any, request: gr.Request) -> Any:
        try:
            return str(videos.frame_picture(visitor_of(request), name, position))
        except InputError:
            return gr.skip()

    def open_frame(name: str, position: Any, request: gr.Request) -> list[Any]:
        try:
            index, path, labels = videos.frame_to_correct(visitor_of(request), name, position)
        except InputError as error:
            return [canvas_value(message=str(error), wrong=True), gr.skip()]
        words = f"frame {index} with the mask that was tracked"
        more: dict[str, Any] = {"picture": name, "frame": index, "labels": encode_labels(labels)}
        return [canvas_value(path, message=words, **more), gr.update(interactive=True)]

    quiet: dict[str, Any] = {"show_progress": "hidden"}
    first.upload(upload, [first, start], opened, api_name="upload_video", **quiet)
    start.input(
        begin_at,
        [first, start],
        first,
        api_visibility="private",
        trigger_mode="always_last",
        **quiet,
    )
    first.select(find, [first, start], first, api_name="box_video", **quiet)
    fix.select(find_to_fix, fix, fix, api_visibility="private", **quiet)
    if clips:
        bind_examples(
            service,
            page,
            examples,
            finished,
            opened,
            first=clips[0],
            api_name="example_video",
            tags=_JOBS,
        )
    asked = [first, stride, model, start, last]
    run.click(propagate, asked, [*shown, *correction], api_name="video", **quiet)
    enabled_when(run, _DRAWN, [first], [first.change, first.input])
    again.click(correct, [name, fix, model], shown, api_name="correct", **quiet)
    scrub.change(look, [name, scrub], still, api_name="frame", trigger_mode="always_last", **quiet)
    take.click(open_frame, [name, scrub], correction, api_visibility="private", **quiet)
    worst.click(open_frame, [name, worst_at], correction, api_visibility="private", **quiet)
    bind_cancel(service, cancel, line, "video")


def clip_words(clip: Upload) -> str:
    """What a video is, in words."""
    count = f"{counted(clip.frames, 'frame')}, " if clip.frames else ""
    return f"{clip.title}: {count}{clip.width} x {clip.height} pixels"


def shown_frame(value: Any, start: Any) -> Any:
    """The frame that the first canvas shows; `start` of a script that names none."""
    frame = drawn(value, "frame")
    return start if frame is None else frame


def drawn_on(value: Any, start: Any) -> Any:
    """The first frame of a run, which is the one that was drawn on.

    Raises:
        InputError: another one is shown than the slider says.
    """
    frame = shown_frame(value, start)
    require(
        frame == start,
        f"what is drawn is on frame {frame!r}, the first frame is set to {start!r}: wait until that"
        f" is shown and draw on it, or set the first frame back to {frame!r}",
    )
    return frame


def corrected(name: Any, value: Any) -> dict[str, Any]:
    """What a correction says: its run, the frame that it was drawn on, and the mask.

    Args:
        name: of the run that is shown.

    Raises:
        InputError: the frame is of another run.
    """
    require(
        not name or drawn(value, "picture") == name,
        "what is drawn is not on a frame of this result: open the frame to correct again",
    )
    return {"run": name, "frame": drawn(value, "frame"), "labels": drawn(value, "labels") or ""}


def _object(value: Any) -> int:
    """The object that is painted; the canvas says it, whatever it says."""
    label = drawn(value, "object")
    return label if isinstance(label, int) and 1 <= label <= _OBJECTS else 1
