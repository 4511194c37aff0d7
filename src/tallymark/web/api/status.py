"""How billing stands: GET /status."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, get

from ...core.clock import format_time
from ...core.credits import format_micros
from ...flows.figures import figures, why_not_ready
from ..service import TheService
from .common import reads


class Status(msgspec.Struct):
    """How billing stands. `problem` says why usage is not being billed, and is empty if it is."""

    ready: bool
    problem: str
    read_up_to: str | None
    owed_credits: str


@reads("/status", tags=["service"])
def get_status(service: TheService) -> Status:
    """Whether usage is being billed, how far Langfuse was read, and what is on its way to Stripe."""
    problem = why_not_ready(service.config, service.clock.now_us())
    now = figures(service.config.ledger_url)
    read_up_to = format_time(now.read_up_to_us) if now.read_up_to_us is not None else None
    return Status(not problem, problem, read_up_to, format_micros(now.owed_micros))


@get("/openapi.json", include_in_schema=False, sync_to_thread=False, media_type="application/vnd.oai.openapi+json")
def openapi_document(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """The document of this API."""
    return request.app.openapi_schema.to_schema()


HANDLERS = [get_status, openapi_document]
