"""How billing stands: GET /status."""

from __future__ import annotations

from typing import Any

from litestar import Request, get

from ...flows.overview import Status, status
from ..service import TheService
from .common import reads


@reads("/status", tags=["service"])
def get_status(service: TheService) -> Status:
    """Whether usage is being billed, how far Langfuse was read, and what is sent, on its way, held and in doubt."""
    return status(service.config, service.clock.now_us())


@get("/openapi.json", include_in_schema=False, sync_to_thread=False, media_type="application/vnd.oai.openapi+json")
def openapi_document(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """The document of this API."""
    return request.app.openapi_schema.to_schema()


HANDLERS = [get_status, openapi_document]
