"""The OpenAPI document of the JSON API, made from its handlers."""

from __future__ import annotations

from litestar import Router
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from .. import __version__
from .access import api_guard

ABOUT = """Usage, money and decisions of a tallymark ledger.

Amounts of credits are text with six decimals, of USD text with up to twelve: exact, never floats. Times are UTC.
Lists come in pages: `next` of an answer is the `cursor` of the next page, and null on the last one. Errors are
problem+json (RFC 9457).
"""


def openapi_config() -> OpenAPIConfig:
    """How the document is made; Litestar's own place for it is no more open than /api/v1/openapi.json."""
    return OpenAPIConfig(
        title="tallymark",
        version=__version__,
        description=ABOUT,
        openapi_router=Router("/schema", route_handlers=[], guards=[api_guard], include_in_schema=False),
        render_plugins=[JsonRenderPlugin()],
        components=Components(
            security_schemes={"token": SecurityScheme(type="http", scheme="bearer", description="BILLING_API_TOKEN")}
        ),
        security=[{"token": []}],
        use_handler_docstrings=True,
    )
