"""Serve the page on this machine alone: `warpkit app`."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Awaitable, Callable, MutableMapping
from importlib import resources
from pathlib import Path
from typing import Any

from warpkit.app.limits import Limits
from warpkit.app.workspace import Workspace
from warpkit.checks import InputError, first_line, require
from warpkit.describe.options import ModelOptions
from warpkit.io.proxies import check_proxies, proxies_named

__all__ = ["HOST", "LocalOnly", "serve"]

_log = logging.getLogger("warpkit")

HOST = "127.0.0.1"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# The browser refuses whatever a page would fetch from elsewhere.
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "frame-ancestors 'self'",
        "form-action 'self'",
        "base-uri 'self'",
    )
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


class LocalOnly:
    """Answers only who calls this machine by its own name, and forbids the page to go elsewhere.

    A web site that lets its name point to 127.0.0.1 sends its own name, and is refused.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        named = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        if named.rsplit(":", 1)[0] not in (HOST, "localhost", "[::1]"):
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": b"this page is for this machine"})
            return

        async def guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        await self._app(scope, receive, guarded)


def serve(
    options: ModelOptions,
    *,
    port: int = 7860,
    folder: Path | None = None,
    data: Path | None = None,
    limits: Limits | None = None,
    open_browser: bool = False,
) -> None:
    """Serve the page until interrupted; then everything it wrote is removed.

    Args:
        options: the model that is chosen at first, and the device of all.
        port: of 127.0.0.1; 0 takes any that is free.
        folder: to work in, empty or new; None takes one for temporary files.
        data: folder below which synthesised sets can be browsed.
        open_browser: show the page when it is ready.

    Raises:
        InputError: a port that is taken, a folder that holds other things, an unknown model, or
            no Gradio.
    """
    started = time.perf_counter()
    require(data is None or data.is_dir(), f"{data}: no such folder of data sets")
    with _listen(port) as listener:
        workspace = Workspace(folder)
        try:
            application, service = _application(workspace, options, limits or Limits(), data)
            address = f"http://{HOST}:{listener.getsockname()[1]}/"
            _warm_up(service)

            def ready() -> None:
                spent = time.perf_counter() - started
                print(  # noqa: T201 - the one thing that a person waits for
                    f"the page is at {address} (ready in {spent:.1f} s; Ctrl+C ends it)", flush=True
                )
                if open_browser:
                    webbrowser.open(address)

            _run(application, listener, ready, idle=service.clean)
        finally:
            if "service" in locals():
                service.close()
            else:
                workspace.close()


def _listen(port: int) -> socket.socket:
    """A socket of this machine alone."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(
            f"port {port} cannot be used ({error}): give another with --port, or 0 for any"
        ) from error
    return listener


def _application(
    workspace: Workspace, options: ModelOptions, limits: Limits, data: Path | None
) -> tuple[Any, Any]:
    # Read by Gradio when it is imported: nothing is reported anywhere, and files land with us.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["GRADIO_TEMP_DIR"] = str(workspace.uploads)
    check_proxies()  # Gradio makes a client of the web when it is imported
    try:
        import fastapi
        import gradio as gr
    except ModuleNotFoundError as error:
        raise InputError(
            f"the page needs Gradio ({first_line(error)}): pip install 'warpkit-hyperfeatures[app]'"
        ) from error
    except _unusable() as error:
        named = ", ".join(proxies_named(exceptions=True))
        where = f"with the proxies of {named}: correct or unset them" if named else "here"
        raise InputError(f"Gradio cannot be imported ({first_line(error)}) {where}") from error
    from warpkit.app.datasets import DataSets
    from warpkit.app.examples import EXAMPLES
    from warpkit.app.page import build_page, theme
    from warpkit.app.service import Service

    service = Service(workspace, options, limits)
    page = build_page(service, DataSets(data, workspace.root / "example-set"))
    page.queue(default_concurrency_limit=None)
    static = resources.files("warpkit.app") / "static"
    scripts = [(static / name).read_text(encoding="utf-8") for name in ("guides.js", "painter.js")]
    outer = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    mounted = gr.mount_gradio_app(
        outer,
        page,
        path="/",
        server_name=HOST,
        allowed_paths=[str(workspace.root / "visitors"), str(EXAMPLES)],
        max_file_size=limits.upload_mb * 1_000_000,
        footer_links=[],
        ssr_mode=False,
        pwa=False,
        theme=theme(),
        css=(static / "style.css").read_text(encoding="utf-8"),
        head="".join(f"<script>{script}</script>" for script in scripts),
    )
    return LocalOnly(mounted), service


def _unusable() -> tuple[type[Exception], ...]:
    """What the client of the web raises for settings of proxies that it cannot read."""
    client = sys.modules.get("httpx")
    return (ImportError, ValueError, *([] if client is None else [client.InvalidURL]))


def _warm_up(service: Any) -> None:
    """Load the model, and compile the loops of matching where a machine has not yet."""
    model = service.models.default

    def work(progress: Any) -> None:
        import numpy as np

        from warpkit.image.warp import WarpSettings, warp
        from warpkit.match.matcher import asked_matcher

        progress("loading the model", 0, None)
        describer = service.models.load(model)
        progress("getting ready", 1, 2)
        picture = np.zeros((32, 32, 3), np.uint8)
        picture[8:24, 8:24] = 255
        matcher = asked_matcher(service.models.options(model).engine)
        settings = WarpSettings(mask="none")
        warp(picture, picture, describer=describer, matcher=matcher, settings=settings)

    service.submit("", model, "warm-up", work)


def _run(
    application: Any, listener: socket.socket, ready: Callable[[], None], idle: Callable[[], None]
) -> None:
    """Serve until interrupted."""
    import uvicorn

    config = uvicorn.Config(
        application, log_level="warning", timeout_graceful_shutdown=2, access_log=False
    )
    server = uvicorn.Server(config)
    ended = threading.Event()

    def look() -> None:
        while not server.started and not ended.wait(0.05):
            pass
        if server.started:
            ready()
        while not ended.wait(600):
            idle()

    threading.Thread(target=look, daemon=True).start()
    try:
        server.run(sockets=[listener])
    finally:
        ended.set()
