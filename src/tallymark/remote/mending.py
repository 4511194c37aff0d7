"""JSON of which one value cannot be read or kept: mended, so that it does not cost the other rows of its page.

JavaScript cuts text between the two halves of an emoji and writes the half that is left as an escape (\\ud83d), which
is no character; PostgreSQL keeps no text with a NUL (\\u0000); and a trace may hold values nested deeper than a reader
goes. All three are written by applications, mostly into prompts and answers, which billing does not even look at.
"""

from __future__ import annotations

import re

# Billing reads nothing below the fifth level; readers go down some hundreds.
DEPTH_MAX = 100
NUL = rb"\u0000"

_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a whole character
    rb"|\\(u[dD][89a-fA-F][0-9a-fA-F]{2}|u0000)"  # half of one, or NUL
    rb"|\\."
)
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', re.DOTALL)


def mended(body: bytes) -> bytes:
    """The same JSON, with half characters and NUL spelled out (as the text \\ud83d), and null where it is too deep."""
    return _without_depth(_ESCAPE.sub(_spelled_out, body))


def _spelled_out(found: re.Match[bytes]) -> bytes:
    return b"\\\\" + found[1] if found[1] else found[0]


def _without_depth(body: bytes) -> bytes:
    parts: list[bytes] = []
    depth, kept_from = 0, 0
    for found in _STRING_OR_BRACKET.finditer(body):
        sign = found[0]
        if sign in b"[{":
            depth += 1
            if depth == DEPTH_MAX + 1:
                parts += body[kept_from : found.start()], b"null"
        elif sign in b"]}":
            depth -= 1
            if depth == DEPTH_MAX:
                kept_from = found.end()
    return b"".join(parts) + body[kept_from:]
