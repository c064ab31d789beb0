"""The tab Data set: browse a synthesised set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from warpkit.app.canvas import BUTTONS
from warpkit.app.datasets import PAGE, DataSets
from warpkit.app.handlers import visitor_of
from warpkit.app.service import Service
from warpkit.app.status import failed, said
from warpkit.checks import InputError, counted

__all__ = ["dataset_tab"]

_ALL = "all"


def dataset_tab(service: Service, sets: DataSets, tab: gr.Tab) -> None:
    """Build the tab inside the open `gr.Tab`; it opens the first set when it is first shown."""
    gr.Markdown(
        "Look through the sets below the folder that the page was started with (`--data`), such as"
        " those of `warpkit synthesize`: pairs, their labelled points, their masks as outlines."
        " Without such a folder there is an example, drawn by this program.",
        elem_classes="hint",
    )
    still: dict[str, Any] = {"type": "filepath", "interactive": False, "buttons": BUTTONS}
    with gr.Row():
        names = sets.names()
        name = gr.Dropdown(names, value=names[0], label="Set", elem_id="set-name")
        category = gr.Dropdown([_ALL], value=_ALL, label="Category", elem_id="set-category")
        number = gr.Number(0, label="Pair", precision=0, minimum=0, elem_id="set-number")
    with gr.Row():
        open_ = gr.Button("Open", variant="primary", elem_id="set-open", min_width=100)
        before = gr.Button("Previous page", elem_id="set-before", min_width=120, interactive=False)
        after = gr.Button("Next page", elem_id="set-after", min_width=120, interactive=False)
        show = gr.Button("Show this pair", elem_id="set-show", min_width=140, interactive=False)
        again = gr.Button("Look for sets again", elem_id="set-again", min_width=140)
    line = gr.HTML(elem_id="set-status")
    page, seen = gr.State(0), gr.State(False)
    with gr.Row():
        with gr.Column(scale=3, min_width=340):
            sheet = gr.Image(label="Pairs", elem_id="set-sheet", height=520, visible=False, **still)
        with gr.Column(scale=2, min_width=320):
            pair = gr.Image(label="Pair", elem_id="set-pair", height=260, visible=False, **still)
            facts = gr.Code(
                label="What is known of it",
                language="json",
                elem_id="set-facts",
                max_lines=10,
                visible=False,
            )

    def told(visitor: str, text: object) -> str:
        return service.workspace.words(visitor, sets.words(str(text)))

    def turn(name: Any, category: Any, page: int, step: int, visitor: str) -> list[Any]:
        kind = None if category == _ALL else category
        found = sets.read(name)
        count = len(found.of(kind))
        pages = max(1, -(-count // PAGE))
        page = min(max(0, page + step), pages - 1)
        session = service.workspace.session(visitor)
        drawing = sets.sheet(session, name, category=kind, page=page)
        words = (
            f"{counted(count, 'pair')}, page {page + 1} of {pages}; the whole set:"
            f" {counted(len(found.pairs), 'pair')}, {counted(found.points, 'point')},"
            f" {counted(len(found.categories), 'category', 'categories')}"
        )
        if found.problems:
            first = told(visitor, found.problems[0])
            broken = len(found.problems)
            are = "is" if broken == 1 else "are"
            words += f"; {counted(broken, 'item')} {are} broken, first: {first}"
        return [
            said(words),
            gr.update(value=str(drawing), visible=True),
            page,
            gr.update(interactive=page > 0),
            gr.update(interactive=page < pages - 1),
            gr.update(interactive=True),
        ]

    def drawn_pair(name: Any, category: Any, number: Any, visitor: str) -> list[Any]:
        kind = None if category == _ALL else category
        session = service.workspace.session(visitor)
        drawing, text = sets.pair(session, name, category=kind, number=number)
        return [gr.update(value=str(drawing), visible=True), gr.update(value=text, visible=True)]

    nothing, as_it_is = [gr.skip()] * 3, [gr.skip()] * 4

    def opened(name: Any, request: gr.Request) -> Iterator[list[Any]]:
        yield [said("reading the set ..."), gr.skip(), 0, *nothing, *as_it_is]
        visitor = visitor_of(request)
        try:
            found = sets.read(name)
            choices = [_ALL, *found.categories]
            turned = turn(name, _ALL, 0, 0, visitor)
            first = drawn_pair(name, _ALL, 0, visitor)
        except InputError as error:
            yield [failed(told(visitor, error)), gr.skip(), 0, *nothing, *as_it_is]
            return
        yield [*turned, gr.update(choices=choices, value=_ALL), 0, *first]

    def looked(name: Any, seen: bool, request: gr.Request) -> Iterator[list[Any]]:
        for values in [] if seen else opened(name, request):
            yield [*values, True]

    def moved(step: int, restart: bool = False) -> Any:
        def move(name: Any, category: Any, page: int, request: gr.Request) -> list[Any]:
            try:
                return turn(name, category, 0 if restart else page, step, visitor_of(request))
            except InputError as error:
                return [failed(told(visitor_of(request), error)), gr.skip(), page, *nothing]

        return move

    def one(name: Any, category: Any, number: Any, request: gr.Request) -> list[Any]:
        try:
            return [gr.skip(), *drawn_pair(name, category, number, visitor_of(request))]
        except InputError as error:
            return [failed(told(visitor_of(request), error)), gr.skip(), gr.skip()]

    quiet: dict[str, Any] = {"show_progress": "hidden"}
    turned, asked = [line, sheet, page, before, after, show], [name, category, page]
    whole = [*turned, category, number, pair, facts]
    open_.click(opened, name, whole, api_name="set", **quiet)
    tab.select(looked, [name, seen], [*whole, seen], api_visibility="private", **quiet)
    before.click(moved(-1), asked, turned, api_visibility="private", **quiet)
    after.click(moved(1), asked, turned, api_visibility="private", **quiet)
    category.input(moved(0, restart=True), asked, turned, api_visibility="private", **quiet)
    show.click(one, [name, category, number], [line, pair, facts], api_name="set_pair", **quiet)
    again.click(
        lambda: gr.update(choices=sets.names()), None, name, api_visibility="private", **quiet
    )
