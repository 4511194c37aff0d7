"""Text that a database takes: PostgreSQL refuses NUL. What Langfuse answers is mended before (remote/mending.py)."""

from __future__ import annotations

REPLACEMENT = "\ufffd"


def without_nul(text: str) -> str:
    """Text that PostgreSQL takes."""
    return text.replace("\0", REPLACEMENT) if "\0" in text else text
