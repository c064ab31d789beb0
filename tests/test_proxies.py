"""Proxies of the environment that cannot be used: the variable is named, in one line."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran
from fake_hub import FakeHub

from warpkit.checks import InputError
from warpkit.describe.options import ModelOptions
from warpkit.features.model_sources import find_file, find_remote, find_source
from warpkit.io.proxies import check_proxies, proxies_named

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(tmp_path / "hub")
    fake.install(monkeypatch)
    return fake


def _without_socks(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "socksio" else found(name)
    )


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "proxy.example",
        "proxy.example:3128",
        "http://me:secret@proxy.example:3128/",
        "https://[::1]:8080",
        "HTTP://127.0.0.1:1",
    ],
)
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "all_proxy"])
def test_proxies_that_can_be_used_pass(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    check_proxies()
    assert proxies_named() == ([name] if value.strip() else [])


@pytest.mark.parametrize(
    "value",
    ["htp://x:80", "ftp://x", "socks4://x:1", "http://", "http://[::1", "http://me:secret@x:port"],
)
@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
def test_values_that_name_no_proxy_are_refused_by_their_variable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"variable {name} names no proxy") as caught:
        check_proxies()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_a_socks_proxy_needs_its_package(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://me:secret@127.0.0.1:1080")
    _without_socks(monkeypatch)
    with pytest.raises(InputError) as caught:
        check_proxies()
    assert str(caught.value) == (
        f"the environment variable ALL_PROXY names a SOCKS proxy ({scheme}://127.0.0.1), which"
        " needs a package that is not installed: pip install socksio, or unset it"
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    check_proxies()


def test_models_of_the_hub_name_the_variable(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    _without_socks(monkeypatch)
    asked: list[Callable[[], object]] = [
        lambda: find_source("sd15"),
        lambda: find_remote("facebook/dino-vits8", family="vit"),
        lambda: find_file("owner/repository/weights.pt", what="the weights"),
    ]
    for ask in asked:
        with pytest.raises(InputError, match=r"^the environment variable ALL_PROXY names a SOCKS"):
            ask()
    assert not hub.downloads
    with pytest.raises(InputError, match="in the local cache"):  # which asks no network
        find_source("sd15", local_files_only=True)


def test_a_proxy_that_does_not_answer_is_named(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    hub.online = False
    told = r"Name or service not known \(through the proxy of HTTPS_PROXY\)"
    with pytest.raises(InputError, match=told):
        find_source("sd15")
    with pytest.raises(InputError, match=told):
        find_file("owner/repository/weights.pt", what="the weights")


def test_the_page_names_the_variable(
    cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    _without_socks(monkeypatch)
    ran = cli("app", "--port", "0")
    assert ran.code == 2 and len(ran.messages) == 1
    assert "ALL_PROXY" in ran.err and "needs Gradio" not in ran.err


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        ("raise __import__('httpx').InvalidURL('Invalid port')", "(Invalid port) with the proxies"),
        (
            "raise ImportError('no socks here')",
            "(no socks here) with the proxies of NO_PROXY: c",
        ),
        ("import no_such_module", "the page needs Gradio (No module named 'no_such_module'): pip"),
    ],
)
def test_what_gradio_itself_stumbles_over_is_passed_on(
    raised: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from warpkit.app import server
    from warpkit.app.limits import Limits
    from warpkit.app.workspace import Workspace

    pytest.importorskip("httpx")
    for name in ("GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY", "GRADIO_TEMP_DIR"):
        monkeypatch.setenv(name, "")  # put back as they were
    (tmp_path / "gradio.py").write_text(raised, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "gradio", raising=False)
    monkeypatch.setenv("NO_PROXY", "::1,fe80::/10")
    workspace = Workspace(tmp_path / "work")
    with pytest.raises(InputError) as caught:
        server._application(workspace, ModelOptions(), Limits(), None)
    assert told in str(caught.value)
    workspace.close()
