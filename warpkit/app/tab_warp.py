"""The tab Warp: two pictures, their masks, the warp, and a look at single pixels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from warpkit.app.canvas import BUTTONS, canvas, thumbnails
from warpkit.app.examples import Example, all_examples
from warpkit.app.handlers import (
    Canvas,
    bind_cancel,
    bind_canvas,
    bind_examples,
    drawn,
    enabled_when,
    find_object_in,
    show_upload,
    visitor_of,
)
from warpkit.app.pictures import canvas_value, encode_labels
from warpkit.app.service import Service
from warpkit.app.status import failed, follow, said, status, warned
from warpkit.app.warp_service import WarpFiles, WarpService
from warpkit.checks import InputError
from warpkit.coherent import MIRRORS

__all__ = ["warp_tab"]

_HINT = (
    "The source's object is put onto the target's. Open two pictures, or change this example."
    " An object without a mask is found by itself: paint it, or draw a box, where that goes wrong."
    " Guides mend a warp: click a place in one picture, then the same place in the other."
)

_JOBS = "warp", "look"  # kinds of the jobs on the two pictures


def _settings() -> list[Any]:
    """The settings in the order in which `warp` takes them."""
    with gr.Accordion("Settings", open=False):
        with gr.Row():
            mask = gr.Radio(
                [("find the object", "auto"), ("take the whole picture", "none")],
                value="auto",
                label="Where no mask is given",
                elem_id="warp-mask",
            )
            field = gr.Radio(
                [
                    ("coherent: follows the shape", "coherent"),
                    ("nearest: pixel by pixel", "nearest"),
                ],
                value="coherent",
                label="Field",
                elem_id="warp-field",
            )
            mirror = gr.Radio(
                list(MIRRORS), value="auto", label="Mirror the source", elem_id="warp-mirror"
            )
        with gr.Row():
            tone = gr.Radio(
                [("the source's", "keep"), ("the target's", "target")],
                value="keep",
                label="Tone: how light the object is",
                elem_id="warp-tone",
            )
            shading = gr.Radio(
                [("the source's", "none"), ("the target's", "target")],
                value="none",
                label="Shading: folds, fur, highlights",
                elem_id="warp-shading",
            )
            strength = gr.Slider(
                0, 1, 1, step=0.05, label="Strength of the result", elem_id="warp-strength"
            )
        with gr.Row():
            blend = gr.Radio(
                ["feather", "paste", "poisson"],
                value="feather",
                label="Blend at the edge",
                elem_id="warp-blend",
            )
            interpolation = gr.Radio(
                ["bilinear", "nearest"], value="bilinear", label="Interpolation"
            )
            fill = gr.Checkbox(True, label="Fill what has no match", elem_id="warp-fill")
    return [blend, interpolation, field, mirror, fill, mask, tone, shading, strength]


def warp_tab(service: Service, model: gr.Dropdown, page: gr.Blocks) -> None:
    """Build the tab inside the open `gr.Tab`."""
    warps = WarpService(service)
    common: dict[str, Any] = {
        "tools": ("paint", "erase", "box", "guide", "look"),
        "files": ("mask",),
        "classes": ("wp-small",),
        "upload_mb": service.limits.upload_mb,
    }
    still: dict[str, Any] = {"type": "filepath", "interactive": False, "buttons": BUTTONS}
    gr.Markdown(_HINT, elem_classes="hint")
    with gr.Row():
        with gr.Column(scale=1, min_width=320):
            source = canvas("Source", "warp-source", guides=("warp", "source"), **common)
            target = canvas("Target", "warp-target", guides=("warp", "target"), **common)
        with gr.Column(scale=2, min_width=340, elem_classes="wp-first"):
            examples = thumbnails("warp-examples", all_examples())
            with gr.Tabs(selected="result", elem_classes="wp-views") as views:
                with gr.Tab("Before and after", id="result"):
                    composite = gr.ImageSlider(
                        show_label=False, elem_id="warp-composite", max_height=460, **still
                    )
                with gr.Tab("Field and similarity", id="overview"):
                    overview = gr.Image(
                        show_label=False,
                        elem_id="warp-overview",
                        height=460,
                        placeholder="Warp shows here where each pixel comes from, and how alike",
                        **still,
                    )
                with gr.Tab("Located pixel", id="look"):
                    look = gr.Image(
                        show_label=False,
                        elem_id="warp-look",
                        height=460,
                        placeholder="Locate shows here where a clicked pixel is",
                        **still,
                    )
            with gr.Row():
                run = gr.Button(
                    "Warp", variant="primary", elem_id="warp-run", min_width=100, interactive=False
                )
                cancel = gr.Button("Cancel", elem_id="warp-cancel", min_width=90, interactive=False)
                archive = gr.DownloadButton(
                    "Download", interactive=False, elem_id="warp-download", min_width=110
                )
            line = gr.HTML(elem_id="warp-status")
            settings = _settings()

    async def warp(
        source: Any,
        target: Any,
        model: str,
        blend: str,
        interpolation: str,
        field: str,
        mirror: str,
        fill: bool,
        mask: str,
        tone: str,
        shading: str,
        strength: float,
        request: gr.Request,
    ) -> AsyncIterator[list[Any]]:
        nothing = [gr.skip()] * 6
        try:
            job = warps.warp(
                visitor_of(request),
                model,
                source=drawn(source, "picture"),
                target=drawn(target, "picture"),
                source_labels=drawn(source, "labels") or "",
                target_labels=drawn(target, "labels") or "",
                guides=drawn(source, "guides"),
                mask=mask,
                blend=blend,
                interpolation=interpolation,
                field=field,
                mirror=mirror,
                fill=fill,
                tone=tone,
                shading=shading,
                strength=strength,
            )
        except InputError as error:
            yield [failed(str(error)), *nothing]
            return
        async for text in follow(service.queue, job):
            yield [text, *nothing]
        if service.queue.dropped(job):
            return  # other pictures are shown now
        if job.state != "done":
            yield [status(job, 0), *nothing]
            return
        files: WarpFiles = job.result
        doubt = "" if files.doubt is None else warned(files.doubt)
        yield [
            said(f"{files.text}; {job.seconds:.1f} s") + doubt,
            files.before_and_after,
            str(files.folder / "overview.png"),
            gr.update(value=str(files.archive), interactive=True),
            gr.Tabs(selected="result"),
            *(
                found_in(value, files, role)
                for value, role in ((source, "source"), (target, "target"))
            ),
        ]

    async def locate(
        here: Any, there: Any, model: str, request: gr.Request
    ) -> AsyncIterator[list[Any]]:
        if drawn(here, "click") is None:
            found = await asyncio.to_thread(find_object_in, service, visitor_of(request), here)
            yield [found, gr.skip(), gr.skip(), gr.skip()]
            return
        try:
            job = service.look(
                visitor_of(request),
                model,
                source=drawn(here, "picture"),
                target=drawn(there, "picture"),
                point=drawn(here, "click"),
                target_labels=drawn(there, "labels") or "",
            )
        except InputError as error:
            yield [gr.skip(), failed(str(error)), gr.skip(), gr.skip()]
            return
        async for text in follow(service.queue, job):
            yield [gr.skip(), text, gr.skip(), gr.skip()]
        if service.queue.dropped(job):
            return  # other pictures are shown now
        if job.state != "done":
            yield [gr.skip(), status(job, 0), gr.skip(), gr.skip()]
            return
        found = job.result
        words = (
            f"({found.point[0]:.1f}, {found.point[1]:.1f}) is at ({found.match[0]:.1f},"
            f" {found.match[1]:.1f}) in the other picture, similarity {found.similarity:.3f}"
        )
        yield [gr.skip(), said(words), str(found.picture), gr.Tabs(selected="look")]

    def finished(one: Example, visitor: str) -> list[Any]:
        """An example with its warp, which was made before."""
        pair = service.example_pair(visitor, one)
        doubt = one.record["doubt"]
        return [
            *(
                show_upload(upload, labels=one.mask(role), found=one.mask(role, "found"))
                for upload, role in zip(pair, ("source", "target"), strict=True)
            ),
            (str(one.file("target.jpg")), str(one.file("composite.jpg"))),
            None,
            said(f"Example, by the model {one.record['model']}: {one.record['text']}")
            + ("" if doubt is None else warned(doubt)),
            gr.update(interactive=False),
            gr.Tabs(selected="result"),
        ]

    quiet: dict[str, Any] = {"show_progress": "hidden"}
    off = gr.update(interactive=False)
    for one in (source, target):
        bind_canvas(
            service, one, [(line, ""), (composite, None), (overview, None), (archive, off)], _JOBS
        )
    enabled_when(
        run,
        "v[0]?.picture && v[1]?.picture",
        [source, target],
        [source.change, target.change],
    )
    asked = [source, target, model, *settings]
    shown = [line, composite, overview, archive, views, source, target]
    run.click(warp, asked, shown, api_name="warp", **quiet)
    # The newest guides count: earlier ones need not be finished.
    source.submit(warp, asked, shown, api_visibility="private", trigger_mode="always_last", **quiet)
    for here, there, name in ((source, target, "look"), (target, source, "look_back")):
        here.select(locate, [here, there, model], [here, line, look, views], api_name=name, **quiet)
    opened = [source, target, composite, overview, line, archive, views]
    bind_examples(
        service,
        page,
        examples,
        finished,
        opened,
        first=all_examples()[0],
        api_name="example",
        tags=_JOBS,
    )
    bind_cancel(service, cancel, line, "warp")


def found_in(value: Any, files: WarpFiles, role: str) -> Canvas:
    """A canvas with the mask that the warp found for it; without one if it found none."""
    labels = files.found.get(role)
    return canvas_value(
        picture=drawn(value, "picture"),
        message=None,
        settled=True,
        found="" if labels is None else encode_labels(labels),
    )
