"""Proxies named by the environment: what of them cannot be used, in words for a user."""

from __future__ import annotations

import importlib.util
import os
from urllib.parse import urlsplit

from warpkit.checks import require

__all__ = ["check_proxies", "proxies_named"]

_KINDS = ("http_proxy", "https_proxy", "all_proxy")
_SCHEMES = ("http", "https", "socks5", "socks5h")


def proxies_named(*, exceptions: bool = False) -> list[str]:
    """The variables that name proxies, as they are spelled.

    Args:
        exceptions: also `NO_PROXY`, which says where none is used.
    """
    kinds = (*_KINDS, "no_proxy") if exceptions else _KINDS
    return [name for name, value in os.environ.items() if name.lower() in kinds and value.strip()]


def check_proxies() -> None:
    """Raise unless every proxy that the environment names can be used.

    Raises:
        InputError: names the variable, and what is wrong with it; never a password in it.
    """
    for name in proxies_named():
        value = os.environ[name].strip()
        try:
            url = urlsplit(value if "://" in value else f"http://{value}")
            usable = url.scheme in _SCHEMES and bool(url.hostname) and url.port != 0
        except ValueError:  # brackets that do not close, a port that is no number
            usable = False
        require(
            usable,
            f"the environment variable {name} names no proxy that can be used: expected"
            " http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT; correct or unset it",
        )
        require(
            not url.scheme.startswith("socks") or importlib.util.find_spec("socksio") is not None,
            f"the environment variable {name} names a SOCKS proxy ({url.scheme}://{url.hostname}),"
            " which needs a package that is not installed: pip install socksio, or unset it",
        )
