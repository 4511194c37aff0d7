"""What went wrong, told to who asked: problem+json under /api, a page on the dashboard; refusals are logged once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.response import Redirect

from ..core.secrets import hide, told
from ..errors import ConfigError, LedgerError, LedgerMissing, NotFound, RemoteError, TallymarkError
from .access import SignInNeeded
from .templating import page

log = logging.getLogger("tallymark")
PROBLEM_TYPE = "application/problem+json"
# What a person who watches wants to know of; the others are ordinary slips.
LOGGED = frozenset({400, 401, 403, 413, 429})
STATUS_OF: tuple[tuple[type[TallymarkError], int], ...] = (
    (NotFound, 404),
    (ConfigError, 422),
    (RemoteError, 502),
    (LedgerError, 503),
)
Asked = Request[Any, Any, Any]


class Problem(msgspec.Struct, omit_defaults=True):
    """What went wrong (RFC 9457). `detail` says what to do; `errors` name parameters that are wrong."""

    status: int
    title: str
    detail: str = ""
    errors: list[dict[str, str]] = []


def handle_refused(request: Asked, error: HTTPException) -> Response[Any]:
    """What Litestar or a guard refused."""
    named = [{str(name): str(text) for name, text in each.items()} for each in _extra(error)]
    return _answer(request, Problem(error.status_code, _title(error.status_code), error.detail, named), error.headers)


def handle_named(request: Asked, error: TallymarkError) -> Response[Any]:
    """An error with a name of ours; its text says what to do."""
    status = next((status for kind, status in STATUS_OF if isinstance(error, kind)), 500)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("%s %s failed: %s", request.method, _path(request), told(str(error)))
    # A ledger's address and a server's answer are for the log.
    detail = told(str(error)) if status < HTTPStatus.INTERNAL_SERVER_ERROR else _discreet(error)
    return _answer(request, Problem(status, _title(status), detail))


def handle_mistake(request: Asked, error: Exception) -> Response[Any]:
    """A mistake in tallymark; its text may hold anything and is told to nobody."""
    log.error("%s %s failed by a mistake in tallymark (%s)", request.method, _path(request), type(error).__name__)
    log.debug("the mistake", exc_info=error)
    return _answer(request, Problem(500, _title(500), "a mistake in tallymark; the log says which."))


def handle_sign_in(request: Asked, _error: SignInNeeded) -> Response[Any]:
    """Whoever wants a page signs in first, and then sees it."""
    query = f"?{request.url.query}" if request.url.query else ""
    wanted = quote(f"{request.url.path}{query}") if request.method == "GET" else "/"
    return Redirect(f"/login?next={wanted}", status_code=303)


def _answer(request: Asked, problem: Problem, headers: Mapping[str, str] | None = None) -> Response[Any]:
    if problem.status in LOGGED or ".." in _raw_path(request):
        log.warning("refused with %d: %s %s: %s", problem.status, request.method, _path(request), problem.detail)
    if request.scope["path"].startswith("/api/"):
        return Response(problem, status_code=problem.status, media_type=PROBLEM_TYPE, headers=headers)
    return page("problem", None, status=problem.status, headers=headers, problem=problem)


def _extra(error: HTTPException) -> list[dict[str, Any]]:
    return [each for each in error.extra if isinstance(each, dict)] if isinstance(error.extra, list) else []


def _title(status: int) -> str:
    return HTTPStatus(status).phrase


def _discreet(error: TallymarkError) -> str:
    if isinstance(error, LedgerMissing):
        return "there is no ledger yet: the first sync makes it; the overview says what is to be set before."
    return f"{type(error).__name__}; the log says more, and so does `tallymark doctor`."


def _path(request: Asked) -> str:
    return hide(ascii(request.scope["path"])[1:-1])[:200]


def _raw_path(request: Asked) -> str:
    return request.scope.get("raw_path", b"").decode("ascii", "replace").lower().replace("%2e", ".")


HANDLERS: dict[Any, Any] = {
    HTTPException: handle_refused,
    TallymarkError: handle_named,
    SignInNeeded: handle_sign_in,
    Exception: handle_mistake,
}
