"""Text that no database and no JSON reader takes: NUL, which PostgreSQL refuses, and halves of surrogate pairs.

Both become U+FFFD, in what Langfuse answers before anything of it is decoded, so that every ledger holds the same.
"""

from __future__ import annotations

import re

REPLACEMENT = "\ufffd"
_ESCAPED = rb"\ufffd"
# Every escape is consumed, so that the second backslash of "\\u0000" begins none.
_ESCAPES = re.compile(rb"\\(?:(u[dD][89abAB]..\\u[dD][c-fC-F]..)|(u0000|u[dD][89a-fA-F]..)|.)", re.DOTALL)


def clean_json(body: bytes) -> bytes:
    r"""JSON without escaped NUL (\u0000) and without escaped halves of surrogate pairs (\ud83d alone)."""
    if b"\\u0000" not in body and b"\\ud" not in body and b"\\uD" not in body:
        return body
    return _ESCAPES.sub(lambda escape: _ESCAPED if escape[2] else escape[0], body)


def without_nul(text: str) -> str:
    """Text that PostgreSQL takes."""
    return text.replace("\0", REPLACEMENT) if "\0" in text else text
