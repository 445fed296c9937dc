"""Finds the proxy that stands between here and the hub, so that what is its fault is not called the hub's."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from phiplug.errors import DownloadFailed


def variable_for(address: str) -> str | None:
    """Name the environment variable that sends requests for this address through a proxy, or return None."""
    from urllib.request import proxy_bypass  # brings ssl, which a model that is here does not need

    parts = urlsplit(address)
    if proxy_bypass(parts.hostname or ""):
        return None
    names = (f"{parts.scheme}_proxy", "all_proxy")  # httpx reads these, small letters first
    return next((name for low in names for name in (low, low.upper()) if os.environ.get(name)), None)


def hint_about(variable: str) -> str:
    """Return what to do about a proxy that does not work."""
    return f"correct {variable} or unset it, or name hosts that need no proxy in NO_PROXY"


def require_usable(address: str) -> None:
    """Have the hub's client set up, which reads the environment.

    Raises:
        DownloadFailed: a proxy's address cannot be used.
    """
    from huggingface_hub.utils import get_session

    try:
        get_session()
    except Exception as error:  # noqa: BLE001  its HTTP client raises some of its own, and which client that is changes
        variable = variable_for(address) or "a proxy's variable"
        raise DownloadFailed(
            f"{variable} names no proxy that can be used: {error}", hint=hint_about(variable)
        ) from None
