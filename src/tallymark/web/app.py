"""The application: which routes there are, for whom, and what every answer carries."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from typing import Any

from litestar import Litestar, Request, Router
from litestar.config.csrf import CSRFConfig
from litestar.datastructures import CacheControlHeader, MutableScopeHeaders, State
from litestar.di import Provide
from litestar.middleware.rate_limit import RateLimitConfig
from litestar.static_files import create_static_files_router
from litestar.types import Message, Scope

from ..config import Config
from ..core.clock import Clock
from ..flows.figures import figures
from . import api, pages, problems
from .access import Access, Caller, api_guard, page_guard
from .documents import openapi_config
from .metrics import Metrics
from .operations import OPERATIONS
from .service import Service
from .templating import STATIC, charts_folder, template_config

# A notification of Stripe is some hundred bytes; its largest webhooks, whole invoices, are below this.
BODY_BYTES_MAX = 256 * 1024
STATIC_SECONDS = 3600
CSRF_COOKIE = "tallymark_csrf"
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def _nobody() -> None:
    """Wake nobody: a process with a scheduler looks every few seconds."""


def make_app(config: Config, clock: Clock, wake: Callable[[], None] = _nobody) -> Litestar:
    """The application: health, metrics, Stripe's webhook, the JSON API under /api/v1, and the dashboard.

    `wake` is called when a run was asked for, so that a scheduler beside it looks at once.
    """
    service = Service(config, clock, Access(config), Metrics(lambda: figures(config.ledger_url), clock), wake)
    return Litestar(
        route_handlers=[*OPERATIONS, _api(config), *pages.ENTRANCE, _dashboard(), *_static()],
        state=State({"access": service.access}),
        dependencies={
            "service": Provide(lambda: service, sync_to_thread=False),
            "caller": Provide(_caller, sync_to_thread=False),
        },
        openapi_config=openapi_config(),
        template_config=template_config(clock),
        csrf_config=_csrf(config),
        exception_handlers=problems.HANDLERS,
        before_send=[_add_headers],
        request_max_body_size=BODY_BYTES_MAX,
        logging_config=None,
    )


def _api(config: Config) -> Router:
    limit = RateLimitConfig(("minute", config.api_requests_per_minute), store="api_requests")
    return Router(
        "/api/v1",
        route_handlers=api.HANDLERS,
        guards=[api_guard],
        middleware=[limit.middleware],
        opt={"exclude_from_csrf": True},
    )


def _dashboard() -> Router:
    return Router("/", route_handlers=pages.HANDLERS, guards=[page_guard], include_in_schema=False)


def _static() -> list[Router]:
    kept = CacheControlHeader(max_age=STATIC_SECONDS)
    return [
        create_static_files_router("/static/own", [STATIC], name="own", cache_control=kept),
        create_static_files_router("/static/charts", [charts_folder()], name="charts", cache_control=kept),
    ]


def _csrf(config: Config) -> CSRFConfig:
    """A form is taken from a page of ours only. Two processes with one token know each other's pages."""
    key = f"tallymark forms {config.api_token}" if config.api_token else secrets.token_hex()
    return CSRFConfig(
        hashlib.sha256(key.encode()).hexdigest(),
        cookie_name=CSRF_COOKIE,
        cookie_secure=config.secure_cookies,
        cookie_httponly=True,
        cookie_samesite="strict",
        exclude=["^/webhooks/", "^/api/"],
    )


def _caller(request: Request[Any, Any, Any]) -> Caller:
    caller = request.scope["user"]
    assert isinstance(caller, Caller)
    return caller


async def _add_headers(message: Message, _scope: Scope) -> None:
    if message["type"] == "http.response.start":
        headers = MutableScopeHeaders.from_message(message)
        for name, value in HEADERS.items():
            headers[name] = value
