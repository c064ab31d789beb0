"""The page: the tabs, the choice of a model, what runs and what memory it takes."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from warpkit.app.datasets import DataSets
from warpkit.app.handlers import visitor_of
from warpkit.app.service import Service
from warpkit.app.tab_dataset import dataset_tab
from warpkit.app.tab_inspect import inspect_tab
from warpkit.app.tab_points import points_tab
from warpkit.app.tab_video import video_tab
from warpkit.app.tab_warp import warp_tab
from warpkit.app.video_service import VideoService
from warpkit.checks import counted
from warpkit.version import __version__

__all__ = ["build_page", "theme"]

_REFRESH = 4.0  # seconds between two looks at memory and queues


def theme() -> Any:
    """The look, with the fonts that come with Gradio: nothing is fetched from elsewhere."""
    return gr.themes.Base(primary_hue="blue", neutral_hue="slate", radius_size="md")


def build_page(service: Service, sets: DataSets) -> gr.Blocks:
    """The page over a service."""
    with gr.Blocks(title="warpkit", analytics_enabled=False) as page:
        with gr.Row(elem_classes="wp-head"):
            with gr.Column(scale=3, min_width=260):
                gr.Markdown(f"# warpkit {__version__}\nWarp, match and propagate, on this machine.")
            with gr.Column(scale=3, min_width=200):
                state = gr.HTML(elem_id="model-state", elem_classes="model-state")
            with gr.Column(scale=1, min_width=160):
                model = gr.Dropdown(
                    service.models.names,
                    value=service.models.default,
                    label="Model",
                    elem_id="model",
                    container=False,
                )
        with gr.Tab("Warp", id="warp"):
            warp_tab(service, model, page)
        with gr.Tab("Points", id="points"):
            points_tab(service, model, page)
        with gr.Tab("Video", id="video"):
            video_tab(VideoService(service), model, page)
        with gr.Tab("Inspect", id="inspect"):
            inspect_tab(service, page)
        with gr.Tab("Data set", id="dataset") as tab:
            dataset_tab(service, sets, tab)

        def describe(model: str, request: gr.Request) -> str:
            service.workspace.session(visitor_of(request))
            return html.escape(model_line(service, model))

        def leave(request: gr.Request) -> None:
            service.leave(visitor_of(request))

        clock = gr.Timer(_REFRESH)
        quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False}
        page.load(describe, model, state, api_name="state", **quiet)
        clock.tick(describe, model, state, api_visibility="private", **quiet)
        model.change(describe, model, state, api_visibility="private", **quiet)
        page.unload(leave)
    return page


def model_line(service: Service, model: str) -> str:
    """Where a model runs, whether it is loaded, the memory in use, and the jobs there are."""
    if model not in service.models.names:
        return "unknown model"
    jobs = service.queue.busy().get(model, 0)
    words = counted(jobs, "job") if jobs else "no job"
    return (
        f"device {service.models.device(model)}, {service.models.state()[model]}; memory in use"
        f" {service.models.memory()}; {words}"
    )
