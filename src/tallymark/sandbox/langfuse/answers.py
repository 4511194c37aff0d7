"""Answers of the sandbox Langfuse, and the refusals that end a request early."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tallymark.sandbox.wire import Response

from .issues import Issue
from .values import encode

JSON = {"content-type": "application/json; charset=utf-8"}
HTML = {"content-type": "text/html; charset=utf-8", "cache-control": "no-cache, must-revalidate"}

_NOT_FOUND_PAGE = (
    b'<!DOCTYPE html><html lang="en"><head><title>404: This page could not be found.</title></head>'
    b"<body><h1>404</h1><p>This page could not be found.</p></body></html>"
)


class Refusal(Exception):
    """Ends a request with an answer that is not what the client wanted."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def json_answer(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Response:
    """An answer with a JSON body."""
    return Response(status, encode(body), {**JSON, **(headers or {})})


def text_answer(status: int, text: str) -> Response:
    """An answer as the server's framework gives before any handler runs: bare text without a content type."""
    return Response(status, text.encode())


def page_not_found() -> Response:
    """The answer to an unknown route: a page for people (facts/langfuse-observed.md item 19)."""
    return Response(404, _NOT_FOUND_PAGE, HTML)


def invalid_data(issues: list[Issue]) -> Refusal:
    """400 with the validator's issues."""
    return Refusal(json_answer(400, {"message": "Invalid request data", "error": issues}))


def invalid_request(message: str) -> Refusal:
    """400 with one sentence."""
    return Refusal(json_answer(400, {"message": message, "error": "InvalidRequestError"}))


def not_found(message: str) -> Refusal:
    """404 for a thing that is not there."""
    return Refusal(json_answer(404, {"message": message, "error": "LangfuseNotFoundError"}))


def too_much() -> Refusal:
    """422: the question is too large for ClickHouse (facts/langfuse-observed.md item 21)."""
    message = "The query took too many resources. Ask for a shorter time range, fewer fields or a smaller limit."
    return Refusal(json_answer(422, {"message": message, "error": "Request timed out"}))
