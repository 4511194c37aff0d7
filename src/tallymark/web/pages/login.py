"""Signing in with a token, and out again."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from litestar import Response, get, post
from litestar.datastructures import Cookie
from litestar.middleware.rate_limit import RateLimitConfig
from litestar.params import FromQuery, URLEncodedBody
from litestar.response import Redirect, Template

from ...core.secrets import hide
from ..access import COOKIE, NAME_CHARS_MAX, SESSION_SECONDS
from ..service import Service, TheService
from ..templating import page

log = logging.getLogger("tallymark")
TRIES_PER_MINUTE = 10
_limit = RateLimitConfig(("minute", TRIES_PER_MINUTE), store="sign_ins")


@dataclass
class SignIn:
    """The form."""

    token: str
    name: str = ""
    next: str = "/"


@get("/login", include_in_schema=False, sync_to_thread=False)
def login(service: TheService, next: FromQuery[str] = "/") -> Template:
    """The form."""
    return page("login", None, next=_local(next), refused=False, is_open=service.access.is_open)


@post("/login", include_in_schema=False, sync_to_thread=False, middleware=[_limit.middleware])
def sign_in(service: TheService, data: URLEncodedBody[SignIn]) -> Response[Any]:
    """A token for a cookie, which says who signed in as what."""
    role = service.access.role_of(data.token.strip())
    if role is None:
        log.warning("refused with 401: somebody tried to sign in with a token that is not known")
        return page("login", None, status=401, next=_local(data.next), refused=True, is_open=service.access.is_open)
    name = " ".join(data.name.split())[:NAME_CHARS_MAX] or f"an {role}" if role == "operator" else f"a {role}"
    log.info("%s signed in as %s", hide(name), role)
    answer = Redirect(_local(data.next), status_code=303)
    answer.set_cookie(_cookie(service, service.access.session_for(name, role), SESSION_SECONDS))
    return answer


@post("/logout", include_in_schema=False, sync_to_thread=False)
def sign_out(service: TheService) -> Redirect:
    """Forget the session."""
    answer = Redirect("/login", status_code=303)
    answer.set_cookie(_cookie(service, "", 0))
    return answer


def _cookie(service: Service, value: str, seconds: int) -> Cookie:
    return Cookie(
        COOKIE,
        value=value,
        max_age=seconds,
        path="/",
        httponly=True,
        samesite="lax",
        secure=service.config.secure_cookies,
    )


def _local(path: str) -> str:
    """A page of ours, whatever a link says."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() else "/"


HANDLERS = [login, sign_in, sign_out]
