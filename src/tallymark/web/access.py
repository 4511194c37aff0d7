"""Who asks, and what they may: tokens for the API, a signed cookie for pages, and nobody decides without a token.

`BILLING_API_TOKEN` makes an operator, `BILLING_API_READ_TOKEN` a reader. Without any token only this machine can ask
(web/run.py), and may read. The cookie says who signed in as what until when; it is signed with the token, so a new
token ends every session, and two processes know the same ones.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from itsdangerous import BadSignature, URLSafeTimedSerializer
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers.base import BaseRouteHandler

from ..config import Config

COOKIE = "tallymark_session"
SESSION_SECONDS = 12 * 3600
READING = frozenset({"GET", "HEAD", "OPTIONS"})
NAME_CHARS_MAX = 100
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
Connection = ASGIConnection[Any, Any, Any, Any]


class Role(StrEnum):
    """What a caller may do."""

    READER = "reader"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks; `name` is what the audit log says of them."""

    name: str
    role: Role
    signed_in: bool = False

    @property
    def may_write(self) -> bool:
        """Whether they may decide and start things."""
        return self.role is Role.OPERATOR


class SignInNeeded(Exception):
    """A page was asked for by somebody who has not signed in."""


class Access:
    """Knows the tokens of the settings."""

    def __init__(self, config: Config) -> None:
        tokens = {Role.OPERATOR: config.api_token, Role.READER: config.api_read_token}
        self._tokens = {role: token for role, token in tokens.items() if token is not None}
        self.is_open = not self._tokens

    def role_of(self, token: str) -> Role | None:
        """What a token makes of its bearer; None for one that is not ours."""
        return next((role for role, ours in self._tokens.items() if _is_same(ours, token)), None)

    def caller_by_token(self, connection: Connection) -> Caller | None:
        """Who shows a bearer token; this machine, to read, if there is none to show."""
        if self.is_open:
            return _this_machine(connection)
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        role = self.role_of(token.strip()) if scheme.lower() == "bearer" else None
        return Caller(f"the API's {role}", role) if role else None

    def caller_by_cookie(self, connection: Connection) -> Caller | None:
        """Who has signed in; this machine, to read, if there is no token."""
        if self.is_open:
            return _this_machine(connection)
        for role in self._tokens:
            try:
                name = self._signer(role).loads(connection.cookies.get(COOKIE, ""), max_age=SESSION_SECONDS)
            except BadSignature:
                continue
            return Caller(str(name), role, signed_in=True)
        return None

    def session_for(self, name: str, role: Role) -> str:
        """The value of the cookie for who has shown a token."""
        return str(self._signer(role).dumps(name[:NAME_CHARS_MAX]))

    def _signer(self, role: Role) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(self._tokens[role], salt=f"tallymark session of {role}")


def _this_machine(connection: Connection) -> Caller | None:
    # A page of another site can make a browser here ask, but only under that site's name.
    name = connection.headers.get("host", "").rpartition(":")
    host = name[0] if name[2].isdigit() else name[2]
    return Caller("this machine", Role.READER) if host in LOOPBACK_NAMES else None


def _is_same(ours: str, shown: str) -> bool:
    return hmac.compare_digest(ours.encode(), shown.encode(errors="replace"))


def api_guard(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let through who shows a token, and to write only operators."""
    caller = connection.app.state.access.caller_by_token(connection)
    if caller is None:
        raise NotAuthorizedException(
            "show BILLING_API_TOKEN or BILLING_API_READ_TOKEN as a bearer token.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    _check_role(connection, caller)


def page_guard(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let through who has signed in, and to write only operators. Raises SignInNeeded."""
    caller = connection.app.state.access.caller_by_cookie(connection)
    if caller is None:
        raise SignInNeeded
    _check_role(connection, caller)


def _check_role(connection: Connection, caller: Caller) -> None:
    if connection.scope.get("method") not in READING and not caller.may_write:
        raise PermissionDeniedException("only an operator may do that; show BILLING_API_TOKEN.")
    connection.scope["user"] = caller
