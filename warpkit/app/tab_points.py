"""The tab Points: click points in one picture, see them in the other, take the JSON."""

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
    enabled_when,
    visitor_of,
)
from warpkit.app.pictures import canvas_value
from warpkit.app.service import Service
from warpkit.app.status import failed, follow, said, status
from warpkit.checks import InputError, counted
from warpkit.match.settings import MatchFilters

__all__ = ["points_tab"]

_JOBS = ("points",)  # kinds of the jobs on the two pictures


def points_tab(service: Service, model: gr.Dropdown, page: gr.Blocks) -> None:
    """Build the tab inside the open `gr.Tab`."""
    mb = service.limits.upload_mb
    gr.Markdown(
        "Click points in the source; each is matched in the target at once, under its number.",
        elem_classes="hint",
    )
    examples = thumbnails("points-examples", all_examples())
    with gr.Row():
        with gr.Column(min_width=320):
            source = canvas("Source", "points-source", tools=("point",), upload_mb=mb)
        with gr.Column(min_width=320):
            target = canvas("Target", "points-target", tools=(), upload_mb=mb)
    with gr.Row():
        run = gr.Button(
            "Match again",
            variant="primary",
            elem_id="points-run",
            min_width=120,
            interactive=False,
        )
        cancel = gr.Button("Cancel", elem_id="points-cancel", min_width=90, interactive=False)
        export = gr.DownloadButton(
            "Download JSON", interactive=False, elem_id="points-download", min_width=140
        )
        mutual = gr.Checkbox(
            label="only points that the way back confirms", value=False, min_width=200
        )
    line = gr.HTML(elem_id="points-status")
    table = gr.HTML(elem_id="points-table")
    picture = gr.Image(
        label="Matches",
        type="filepath",
        interactive=False,
        buttons=BUTTONS,
        elem_id="points-picture",
        visible=False,
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
        if service.queue.dropped(job):
            return  # other pictures are shown now
        if job.state != "done":
            yield [status(job, 0), *nothing]
            return
        found = job.result.found
        marks = canvas_value(picture=drawn(target, "picture"), marks=found["target_points"])
        yield [
            said(f"{_counted(found)}, {job.seconds:.1f} s"),
            marks,
            gr.update(value=str(job.result.picture), visible=True),
            _table(found),
            gr.update(value=str(job.result.json), interactive=True),
        ]

    def finished(one: Example, visitor: str) -> list[Any]:
        """An example with points that were matched before."""
        found = one.record["points"]
        pair = service.example_pair(visitor, one)
        points = {"points": found["source_points"]}, {"marks": found["target_points"]}
        return [
            *(
                canvas_value(upload.path, picture=upload.name, message=upload.title, **more)
                for upload, more in zip(pair, points, strict=True)
            ),
            said(f"Example, by the model {one.record['model']}: {_counted(found)}"),
            _table(found),
            gr.update(visible=False),
            gr.update(interactive=False),
        ]

    quiet: dict[str, Any] = {"show_progress": "hidden"}
    hidden, off = gr.update(visible=False), gr.update(interactive=False)
    for one in (source, target):
        bind_canvas(
            service, one, [(line, ""), (table, ""), (picture, hidden), (export, off)], _JOBS
        )
    enabled_when(
        run,
        "v[0]?.picture && v[1]?.picture && v[0].points?.length",
        [source, target],
        [source.change, target.change, source.input],
    )
    asked = [source, target, mutual, model]
    shown = [line, target, picture, table, export]
    run.click(match, asked, shown, api_name="points", **quiet)
    # The newest click counts: earlier ones need not be finished.
    source.input(match, asked, shown, api_visibility="private", trigger_mode="always_last", **quiet)
    opened = [source, target, line, table, picture, export]
    bind_examples(
        service,
        page,
        examples,
        finished,
        opened,
        first=all_examples()[0],
        api_name="example_points",
        tags=_JOBS,
    )
    bind_cancel(service, cancel, line, "points")


def _counted(found: dict[str, Any]) -> str:
    return f"{counted(len(found['valid']), 'point')} matched"


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
