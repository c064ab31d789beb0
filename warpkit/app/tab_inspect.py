"""The tab Inspect: mixing weights of a model, main directions of a picture's descriptors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from warpkit.app.canvas import BUTTONS, canvas
from warpkit.app.handlers import bind_cancel, bind_canvas, drawn, show_upload, visitor_of
from warpkit.app.service import Service
from warpkit.app.status import failed, follow, said, status
from warpkit.checks import InputError

__all__ = ["inspect_tab"]


def inspect_tab(service: Service) -> None:
    """Build the tab inside the open `gr.Tab`."""
    gr.Markdown(
        "What the aggregator listens to (mixing weights, layers by time steps), and what the"
        " descriptors of a picture tell apart: like colours, like meanings.",
        elem_classes="hint",
    )
    singles = service.models.single_names()
    chosen = next((name for name in (service.models.default, "tiny") if name in singles), None)
    with gr.Row():
        picture = canvas(
            "Picture (optional)", "inspect-picture", tools=(), upload_mb=service.limits.upload_mb
        )
        with gr.Column(min_width=260):
            model = gr.Dropdown(
                singles, value=chosen, label="Single model", elem_id="inspect-model"
            )
            layers = gr.Checkbox(label="also every layer at every step", value=False)
            example = gr.Button("Example", size="sm", elem_id="inspect-example")
            run = gr.Button("Inspect", variant="primary", elem_id="inspect-run")
            cancel = gr.Button("Cancel", elem_id="inspect-cancel")
    line = gr.HTML(elem_id="inspect-status")
    gallery = gr.Gallery(
        label="Pictures",
        columns=1,
        object_fit="contain",
        height="auto",
        interactive=False,
        buttons=BUTTONS,
        elem_id="inspect-gallery",
    )

    async def inspect(
        picture: Any, model: str, layers: bool, request: gr.Request
    ) -> AsyncIterator[list[Any]]:
        try:
            job = service.inspect(
                visitor_of(request), model, picture=drawn(picture, "picture"), layers=layers
            )
        except InputError as error:
            yield [failed(str(error)), gr.skip()]
            return
        async for text in follow(service.queue, job):
            yield [text, gr.skip()]
        if job.state != "done":
            yield [status(job, 0), gr.skip()]
            return
        titles = {"mixing.png": "mixing weights", "pca.png": "descriptors, main directions"}
        pictures = [(str(path), titles.get(path.name, "layers")) for path in job.result]
        yield [said(f"{len(pictures)} pictures, {job.seconds:.1f} s"), pictures]

    def load(request: gr.Request) -> Any:
        (upload, _), _ = service.example_pair(visitor_of(request), "fish")
        return show_upload(upload)

    bind_canvas(service, picture)
    run.click(
        inspect,
        [picture, model, layers],
        [line, gallery],
        api_name="inspect",
        show_progress="hidden",
    )
    example.click(load, None, picture, api_name="example_inspect", show_progress="hidden")
    bind_cancel(service, cancel, line, "inspect")
