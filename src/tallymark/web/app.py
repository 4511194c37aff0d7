"""The routes. What may wait, for the ledger or for Stripe, is a plain function in a thread."""

from __future__ import annotations

import hmac
import logging

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ..config import Config
from ..core.clock import Clock
from ..errors import LedgerError, NotificationRefused, TallymarkError
from ..flows.figures import figures, why_not_ready
from ..flows.reports import receive_report
from .metrics import Metrics

log = logging.getLogger("tallymark")
# A notification of Stripe is some hundred bytes; its largest webhooks, whole invoices, are below this.
BODY_BYTES_MAX = 256 * 1024


def make_app(config: Config, clock: Clock) -> Starlette:
    """The application: /healthz, /readyz, /metrics and /webhooks/stripe."""
    service = _Service(config, clock)
    return Starlette(
        routes=[
            Route("/healthz", service.healthz),
            Route("/readyz", service.readyz),
            Route("/metrics", service.metrics),
            Route("/webhooks/stripe", service.stripe_webhook, methods=["POST"]),
        ]
    )


class _Service:
    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._metrics = Metrics(lambda: figures(config.ledger_url), clock)

    async def healthz(self, request: Request) -> Response:
        """Whether the process lives and answers."""
        return _say("ok")

    def readyz(self, request: Request) -> Response:
        """Whether usage is being billed; 503 with a sentence if not."""
        problem = why_not_ready(self._config, self._clock.now_us())
        return _say(problem, 503) if problem else _say("ready")

    def metrics(self, request: Request) -> Response:
        """The figures, for who shows the token, if there is one."""
        token = self._config.api_token
        if token is not None and not _shows(request, token):
            return PlainTextResponse(
                "show BILLING_API_TOKEN as a bearer token.\n", 401, headers={"WWW-Authenticate": "Bearer"}
            )
        try:
            return Response(self._metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})
        except LedgerError as error:
            return _say(f"the ledger cannot be used ({type(error).__name__}); `tallymark doctor` says why.", 503)

    async def stripe_webhook(self, request: Request) -> Response:
        """Take a webhook: 200 if it is Stripe's, 4xx if it is not, 503 if Stripe is to send it again."""
        body = await _body_of(request)
        if body is None:
            return self._refused("larger than a webhook of Stripe is", 413)
        return await run_in_threadpool(self._receive, body, request.headers.get("stripe-signature"))

    def _receive(self, body: bytes, signature: str | None) -> Response:
        try:
            is_report = receive_report(self._config, body, signature, self._clock)
        except NotificationRefused as error:
            return self._refused(str(error), 400)
        except TallymarkError as error:
            self._metrics.count_webhook("failed")
            log.error("a webhook could not be taken; Stripe sends it again: %s", error)
            return _say("not taken; send it again.", 503)
        self._metrics.count_webhook("taken" if is_report else "ignored")
        return _say("taken" if is_report else "ignored")

    def _refused(self, why: str, status: int) -> Response:
        """Say to the log why, and to the sender, who is not Stripe, nothing."""
        self._metrics.count_webhook("refused")
        log.warning("a webhook was refused: %s", why)
        return _say("refused", status)


async def _body_of(request: Request) -> bytes | None:
    """The body as it came, on which Stripe's signature is; None if it is too large, which is not read to its end."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES_MAX:
            return None
    return bytes(body)


def _shows(request: Request, token: str) -> bool:
    shown = request.headers.get("authorization", "").encode("latin-1")
    return hmac.compare_digest(shown, f"Bearer {token}".encode())


def _say(text: str, status: int = 200) -> Response:
    return PlainTextResponse(f"{text}\n", status)
