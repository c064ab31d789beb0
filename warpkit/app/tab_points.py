"""The tab Points: click points in one picture, see them in the other, take the JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from warpkit.app.canvas import BUTTONS, canvas
from warpkit.app.handlers import bind_cancel, bind_canvas, drawn, show_upload, visitor_of
from warpkit.app.pictures import canvas_value
from warpkit.app.service import Service
from warpkit.app.status import failed, follow, said, status
from warpkit.checks import InputError
from warpkit.match.settings import MatchFilters

__all__ = ["points_tab"]


def points_tab(service: Service, model: gr.Dropdown) -> None:
    """Build the tab inside the open `gr.Tab`."""
    mb = service.limits.upload_mb
    gr.Markdown(
        "Click points in the first picture; each is matched in the second at once.",
        elem_classes="hint",
    )
    with gr.Row():
        source = canvas("Click points here", "points-source", tools=("point",), upload_mb=mb)
        target = canvas("Found here", "points-target", tools=(), upload_mb=mb)
    with gr.Row():
        example = gr.Button("Example", size="sm", elem_id="points-example", min_width=110)
        mutual = gr.Checkbox(label="mutual matches only", value=False, min_width=160)
        run = gr.Button("Match again", variant="primary", elem_id="points-run", min_width=120)
        cancel = gr.Button("Cancel", elem_id="points-cancel", min_width=120)
    line = gr.HTML(elem_id="points-status")
    picture = gr.Image(
        label="Matches",
        type="filepath",
        interactive=False,
        buttons=BUTTONS,
        elem_id="points-picture",
    )
    table = gr.HTML(elem_id="points-table")
    export = gr.DownloadButton(
        "Download JSON", interactive=False, elem_id="points-download", size="sm"
    )

    async def match(
        source: Any, target: Any, mutual: bool, model: str, request: gr.Request
    ) -> AsyncIterator[list[Any]]:
        nothing = [gr.skip()] * 4
        try:
            job = service.points(
                visitor_of(request),
                model,
                source=drawn(source, "picture"),
                target=drawn(target, "picture"),
                points=drawn(source, "points"),
                filters=MatchFilters(subpixel=True, mutual=bool(mutual)),
            )
        except InputError as error:
            yield [failed(str(error)), *nothing]
            return
        async for text in follow(service.queue, job):
            yield [text, *nothing]
        if job.state != "done":
            yield [status(job, 0), *nothing]
            return
        found = job.result.found
        marks = canvas_value(picture=drawn(target, "picture"), marks=found["target_points"])
        yield [
            said(f"{len(found['valid'])} points matched, {job.seconds:.1f} s"),
            marks,
            str(job.result.picture),
            _table(found),
            gr.update(value=str(job.result.json), interactive=True),
        ]

    def load(request: gr.Request) -> tuple[Any, Any]:
        pair = service.example_pair(visitor_of(request), "turtle")
        first, second = (show_upload(upload) for upload, _ in pair)
        return first, second

    for one in (source, target):
        bind_canvas(service, one)
    asked = [source, target, mutual, model]
    shown = [line, target, picture, table, export]
    run.click(match, asked, shown, api_name="points", show_progress="hidden")
    # The newest click counts: earlier ones need not be finished.
    source.input(
        match,
        asked,
        shown,
        api_visibility="private",
        show_progress="hidden",
        trigger_mode="always_last",
    )
    example.click(load, None, [source, target], api_name="example_points", show_progress="hidden")
    bind_cancel(service, cancel, line, "points")


def _table(found: dict[str, Any]) -> str:
    """What `warpkit match` found, as an HTML table."""
    columns = ("source_points", "target_points", "similarity", "valid")
    rows = "".join(
        f"<tr><td>{i}</td><td>{a[0]:.1f}, {a[1]:.1f}</td><td>{b[0]:.1f}, {b[1]:.1f}</td>"
        f"<td>{score:.3f}</td><td>{'yes' if valid else 'no'}</td></tr>"
        for i, (a, b, score, valid) in enumerate(
            zip(*(found[name] for name in columns), strict=True), start=1
        )
    )
    head = "<tr><th>point</th><th>x, y</th><th>matched x, y</th><th>similarity</th><th>valid</th>"
    return f'<div class="matches"><table>{head}</tr>{rows}</table></div>'
