"""The tab Warp: two pictures, their masks, the warp, and a look at single pixels."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from warpkit.app.canvas import BUTTONS, canvas
from warpkit.app.handlers import (
    Canvas,
    bind_cancel,
    bind_canvas,
    drawn,
    find_in_box,
    show_upload,
    visitor_of,
)
from warpkit.app.service import Service
from warpkit.app.status import failed, follow, said, status, warned
from warpkit.app.warp_service import WarpService
from warpkit.checks import InputError
from warpkit.coherent import MIRRORS
from warpkit.render import CLIPS

__all__ = ["warp_tab"]

_HINT = (
    "Choose a source (its appearance is taken) and a target (it is put there). Paint both objects,"
    " or draw a box around them; an object that is not painted is found by itself, where that is"
    " sure."
    " Where the warp goes wrong, set guides: click a place in one picture and the same place in the"
    " other."
)


def warp_tab(service: Service, model: gr.Dropdown) -> None:
    """Build the tab inside the open `gr.Tab`."""
    warps = WarpService(service)
    mb = service.limits.upload_mb
    gr.Markdown(_HINT, elem_classes="hint")
    tools = ("paint", "erase", "box", "guide", "look")
    with gr.Row():
        source = canvas(
            "Source", "warp-source", tools=tools, upload_mb=mb, guides=("warp", "source")
        )
        target = canvas(
            "Target", "warp-target", tools=tools, upload_mb=mb, guides=("warp", "target")
        )
    with gr.Row(elem_classes="examples"):
        examples = [
            gr.Button(f"Example: {name}", size="sm", min_width=110, elem_id=f"warp-example-{name}")
            for name in CLIPS
        ]
    with gr.Accordion("Settings", open=False), gr.Row():
        mask = gr.Radio(
            [("find the object", "auto"), ("the whole picture", "none")],
            value="auto",
            label="Where nothing is painted",
            elem_id="warp-mask",
        )
        blend = gr.Radio(["feather", "paste", "poisson"], value="feather", label="Blending")
        interpolation = gr.Radio(["bilinear", "nearest"], value="bilinear", label="Interpolation")
        field = gr.Radio(
            ["coherent", "nearest"], value="coherent", label="Field", elem_id="warp-field"
        )
        mirror = gr.Radio(
            list(MIRRORS), value="auto", label="Source mirrored", elem_id="warp-mirror"
        )
        fill = gr.Checkbox(True, label="Fill what has no match", elem_id="warp-fill")
    with gr.Row():
        run = gr.Button("Warp", variant="primary", elem_id="warp-run", min_width=120)
        cancel = gr.Button("Cancel", elem_id="warp-cancel", min_width=120)
    line = gr.HTML(elem_id="warp-status")
    overview = gr.Image(
        label="Overview",
        type="filepath",
        interactive=False,
        buttons=BUTTONS,
        elem_id="warp-overview",
    )
    with gr.Row():
        composite = gr.Image(
            label="Composite",
            type="filepath",
            interactive=False,
            buttons=BUTTONS,
            elem_id="warp-composite",
        )
        look = gr.Image(
            label="Look up",
            type="filepath",
            interactive=False,
            buttons=BUTTONS,
            elem_id="warp-look",
        )
    archive = gr.DownloadButton(
        "Download all files", interactive=False, elem_id="warp-download", size="sm"
    )

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
        request: gr.Request,
    ) -> AsyncIterator[list[Any]]:
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
            )
        except InputError as error:
            yield [failed(str(error)), gr.skip(), gr.skip(), gr.skip()]
            return
        async for text in follow(service.queue, job):
            yield [text, gr.skip(), gr.skip(), gr.skip()]
        if job.state != "done":
            yield [status(job, 0), gr.skip(), gr.skip(), gr.skip()]
            return
        files = job.result
        doubt = "" if files.doubt is None else warned(files.doubt)
        yield [
            said(f"{files.text}; {job.seconds:.1f} s") + doubt,
            str(files.folder / "overview.png"),
            str(files.folder / "composite.png"),
            gr.update(value=str(files.archive), interactive=True),
        ]

    async def look_up(
        here: Any, there: Any, model: str, request: gr.Request
    ) -> AsyncIterator[list[Any]]:
        if drawn(here, "click") is None:
            yield [find_in_box(service, visitor_of(request), here), gr.skip(), gr.skip()]
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
            yield [gr.skip(), failed(str(error)), gr.skip()]
            return
        async for text in follow(service.queue, job):
            yield [gr.skip(), text, gr.skip()]
        if job.state != "done":
            yield [gr.skip(), status(job, 0), gr.skip()]
            return
        found = job.result
        words = (
            f"({found.point[0]:.1f}, {found.point[1]:.1f}) is at ({found.match[0]:.1f},"
            f" {found.match[1]:.1f}) in the other picture, similarity {found.similarity:.3f}"
        )
        yield [gr.skip(), said(words), str(found.picture)]

    def example(name: str) -> Any:
        def load(request: gr.Request) -> tuple[Canvas, Canvas]:
            pair = service.example_pair(visitor_of(request), name)
            first, second = (show_upload(upload, labels) for upload, labels in pair)
            return first, second

        return load

    for one in (source, target):
        bind_canvas(service, one)
    asked = [source, target, model, blend, interpolation, field, mirror, fill, mask]
    shown = [line, overview, composite, archive]
    run.click(warp, asked, shown, api_name="warp", show_progress="hidden")
    # The newest guides count: earlier ones need not be finished.
    source.submit(
        warp,
        asked,
        shown,
        api_visibility="private",
        show_progress="hidden",
        trigger_mode="always_last",
    )
    for here, there, name in ((source, target, "look"), (target, source, "look_back")):
        here.select(
            look_up,
            [here, there, model],
            [here, line, look],
            api_name=name,
            show_progress="hidden",
        )
    for button, name in zip(examples, CLIPS, strict=True):
        button.click(
            example(name),
            None,
            [source, target],
            api_name=f"example_{name}",
            show_progress="hidden",
        )
    bind_cancel(service, cancel, line, "warp")
