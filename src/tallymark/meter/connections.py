"""What Stripe's SDK asks over: connections that all threads share, by way of a proxy if the environment names one.

urllib3 by itself, and not beneath `requests`: a request takes two thirds of the time (docs/adr/0046).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import stripe
import urllib3

from ..errors import ConfigError

CONNECTIONS_MAX = 16


class Connections(stripe.HTTPClient):
    """An HTTP client of the SDK. Raises ConfigError if the environment names a proxy that speaks no HTTP."""

    name = "urllib3"

    def __init__(self, timeout_seconds: int, url: str) -> None:
        super().__init__()
        options = {"timeout": timeout_seconds, "maxsize": CONNECTIONS_MAX, "retries": False}
        # The SDK brings the certificates that it trusts.
        self._pool = _pool_of(_proxy_of(url), ca_certs=stripe.ca_bundle_path, **options)

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: Any = None,
        *,
        _usage: list[str] | None = None,
    ) -> tuple[Any, int, Mapping[str, str]]:
        """Ask once and follow no redirection: body, status and headers. Raises the SDK's APIConnectionError."""
        try:
            answer = self._pool.request(method.upper(), url, headers=headers, body=post_data, redirect=False)
        except urllib3.exceptions.HTTPError as error:
            raise stripe.APIConnectionError("no answer") from error  # type: ignore[no-untyped-call]
        return answer.data, answer.status, answer.headers

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()


def _proxy_of(url: str) -> str:
    """The proxy for an address, looked up once: the environment costs a third of a request. Empty if there is none."""
    address, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all") or ""
    if not proxy or proxy_bypass(address.hostname or ""):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _pool_of(proxy: str, **options: Any) -> urllib3.PoolManager:
    if not proxy:
        return urllib3.PoolManager(**options)
    address = urlsplit(proxy)
    if address.scheme not in ("http", "https"):
        # Its address may hold a password.
        raise ConfigError(
            f"the environment names a proxy that speaks {address.scheme:.20}; one to Stripe must be http or https: set "
            "HTTPS_PROXY, or NO_PROXY for Stripe's address."
        )
    user = f"{unquote(address.username or '')}:{unquote(address.password or '')}"
    headers = urllib3.make_headers(proxy_basic_auth=user) if address.username else None
    return urllib3.ProxyManager(proxy, proxy_headers=headers, **options)
