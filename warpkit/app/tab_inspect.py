"""The tab Inspect: what a model tells apart in a picture, and where in it that comes from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from warpkit.app.canvas import BUTTONS, canvas, thumbnails
from warpkit.app.examples import Example, all_examples
from warpkit.app.handlers import (
    bind_cancel,
    bind_canvas,
    bind_examples,
    drawn,
    show_upload,
    visitor_of,
)
from warpkit.app.service import Service
from warpkit.app.status import failed, follow, said, status
from warpkit.checks import InputError, counted

__all__ = ["inspect_tab"]

_JOBS = ("inspect",)  # kinds of the jobs on the picture

_HINT = (
    "Will a model do on your pictures? It draws your picture as the model sees it: places of one"
    " colour look alike to it and can be mistaken for each other; parts of the object that differ"
    " in colour from each other and from the background will be found again."
)
_WEIGHTS = (
    "Two pictures come here. **The picture as the model sees it** answers the question above."
    " **Mixing weights** say which layers of the network, at which time steps, the descriptors are"
    " made of, in percent: a layer of few percent can be left out when the model is trained again."
    "\n\n**Every layer** shows what each of them tells apart by itself: coarse ones the parts, fine"
    " ones the edges."
)


def inspect_tab(service: Service, page: gr.Blocks) -> None:
    """Build the tab inside the open `gr.Tab`."""
    gr.Markdown(_HINT, elem_classes="hint")
    singles = service.models.single_names()
    chosen = next((name for name in (service.models.default, "tiny") if name in singles), None)
    with gr.Row():
        with gr.Column(scale=1, min_width=320):
            picture = canvas(
                "Picture",
                "inspect-picture",
                tools=(),
                upload_mb=service.limits.upload_mb,
                classes=("wp-small",),
            )
            examples = thumbnails("inspect-examples", all_examples())
            model = gr.Dropdown(
                singles, value=chosen, label="Model (one network)", elem_id="inspect-model"
            )
            layers = gr.Checkbox(label="every layer as well", value=False)
            with gr.Row():
                run = gr.Button("Inspect", variant="primary", elem_id="inspect-run", min_width=120)
                cancel = gr.Button(
                    "Cancel", elem_id="inspect-cancel", min_width=90, interactive=False
                )
            line = gr.HTML(elem_id="inspect-status")
        with gr.Column(scale=2, min_width=340):
            gr.Markdown(_WEIGHTS, elem_classes="hint")
            gallery = gr.Gallery(
                label="What the model sees",
                columns=1,
                object_fit="contain",
                height="auto",
                visible=False,
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
        if service.queue.dropped(job):
            return  # another picture is shown now
        if job.state != "done":
            yield [status(job, 0), gr.skip()]
            return
        titles = {"mixing.png": "mixing weights", "pca.png": "the picture as the model sees it"}
        pictures = [(str(path), titles.get(path.name, "every layer")) for path in job.result]
        # What a picture looks like to the model comes first.
        pictures.sort(key=lambda one: one[1] == titles["mixing.png"])
        yield [
            said(f"{counted(len(pictures), 'picture')}, {job.seconds:.1f} s"),
            gr.update(value=pictures, visible=True),
        ]

    def shown(one: Example, visitor: str) -> list[Any]:
        return [show_upload(service.example_pair(visitor, one)[0]), "", hidden]

    quiet: dict[str, Any] = {"show_progress": "hidden"}
    hidden = gr.update(value=None, visible=False)
    bind_canvas(service, picture, [(line, ""), (gallery, hidden)], _JOBS)
    run.click(inspect, [picture, model, layers], [line, gallery], api_name="inspect", **quiet)
    bind_examples(
        service,
        page,
        examples,
        shown,
        [picture, line, gallery],
        first=all_examples()[0],
        api_name="example_inspect",
        tags=_JOBS,
    )
    bind_cancel(service, cancel, line, "inspect")
