"""For machines that watch or call: health, readiness, metrics, and the webhook of Stripe."""

from __future__ import annotations

import logging
from typing import Any

from litestar import Request, Response, get, post
from litestar.concurrency import sync_to_thread
from litestar.exceptions import ClientException
from prometheus_client import CONTENT_TYPE_LATEST

from ..errors import LedgerError, NotificationRefused, TallymarkError
from ..flows.figures import why_not_ready
from ..flows.reports import receive_webhook
from .service import Service, TheService

log = logging.getLogger("tallymark")


@get("/healthz", include_in_schema=False)
async def healthz() -> Response[str]:
    """Whether the process lives and answers."""
    return _say("ok")


@get("/readyz", include_in_schema=False, sync_to_thread=True)
def readyz(service: TheService) -> Response[str]:
    """Whether usage is being billed; 503 with a sentence if not."""
    problem = why_not_ready(service.config, service.clock.now_us())
    return _say(problem, 503) if problem else _say("ready")


@get("/metrics", include_in_schema=False, sync_to_thread=True)
def metrics(service: TheService, request: Request[Any, Any, Any]) -> Response[Any]:
    """The figures, for who shows a token, if there is one."""
    if service.access.caller_by_token(request) is None:
        return Response(
            "show BILLING_API_TOKEN or BILLING_API_READ_TOKEN as a bearer token.\n",
            status_code=401,
            media_type="text/plain",
            headers={"WWW-Authenticate": "Bearer"},
        )
    try:
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})
    except LedgerError as error:
        return _say(f"the ledger cannot be used ({type(error).__name__}); `tallymark doctor` says why.", 503)


@post("/webhooks/stripe", include_in_schema=False, status_code=200)
async def stripe_webhook(service: TheService, request: Request[Any, Any, Any]) -> Response[str]:
    """Take a webhook: 200 if it is Stripe's, 4xx if it is not, 503 if Stripe is to send it again."""
    try:
        body = await request.body()
    except ClientException as error:
        return _refused(service, "larger than a webhook of Stripe is", error.status_code)
    return await sync_to_thread(_receive, service, body, request.headers.get("stripe-signature"))


def _receive(service: Service, body: bytes, signature: str | None) -> Response[str]:
    try:
        is_wanted = receive_webhook(service.config, body, signature, service.clock)
    except NotificationRefused as error:
        return _refused(service, str(error), 400)
    except TallymarkError as error:
        service.metrics.count_webhook("failed")
        log.error("a webhook could not be taken; Stripe sends it again: %s", error)
        return _say("not taken; send it again.", 503)
    service.metrics.count_webhook("taken" if is_wanted else "ignored")
    return _say("taken" if is_wanted else "ignored")


def _refused(service: Service, why: str, status: int) -> Response[str]:
    """Say to the log why, and to the sender, who is not Stripe, nothing."""
    service.metrics.count_webhook("refused")
    log.warning("a webhook was refused: %s", why)
    return _say("refused", status)


def _say(text: str, status: int = 200) -> Response[str]:
    return Response(f"{text}\n", status_code=status, media_type="text/plain")


OPERATIONS = (healthz, readyz, metrics, stripe_webhook)
