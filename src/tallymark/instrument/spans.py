"""The attributes that Langfuse reads as tags, metadata, user and session of a trace (facts/langfuse.md section 9.2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .labels import Labels, metadata_text

if TYPE_CHECKING:
    from opentelemetry.trace import Span

TAGS = "langfuse.trace.tags"
METADATA_PREFIX = "langfuse.trace.metadata."
USER = "user.id"
SESSION = "session.id"


def attributes_of(labels: Labels) -> dict[str, Any]:
    """Labels as attributes of a span."""
    given = {TAGS: labels.tags, USER: labels.user, SESSION: labels.session}
    metadata = {METADATA_PREFIX + key: metadata_text(text) for key, text in labels.metadata.items()}
    return {name: value for name, value in given.items() if value} | metadata


def tags_of(span: Span) -> tuple[str, ...]:
    """The tags that a span has, in any of the forms that Langfuse reads: strings, JSON, or text with commas."""
    return _tags(_present(span).get(TAGS))


def complete(span: Span, attributes: Mapping[str, Any], tags_before: tuple[str, ...] = ()) -> None:
    """Add what a span lacks, and the tags to those that it has or had before. What it says itself is kept."""
    present = _present(span)
    missing = {name: value for name, value in attributes.items() if name not in present}
    tags = _union(tags_before, _tags(present.get(TAGS)), attributes[TAGS])
    if tags != present.get(TAGS):
        missing[TAGS] = tags
    span.set_attributes(missing)


def _present(span: Span) -> Mapping[str, Any]:
    """The attributes of a span of the SDK; a span that is not recorded has none."""
    return getattr(span, "attributes", None) or {}


def _union(*lists: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tag for tags in lists for tag in tags))


def _tags(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return _tags_in(value)
    return tuple(str(tag) for tag in value) if isinstance(value, list | tuple) else ()


def _tags_in(text: str) -> tuple[str, ...]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    tags = value if isinstance(value, list) else text.split(",")
    return tuple(tag for tag in (str(one).strip() for one in tags) if tag)
