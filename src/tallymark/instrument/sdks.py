"""Langfuse and OpenTelemetry, found when they are first needed; tallymark works without them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .labels import Labels, metadata_text
from .refusals import refuse

if TYPE_CHECKING:
    from opentelemetry.context import Context

_ENCODES_METADATA_SINCE = 5


@dataclass(frozen=True, slots=True)
class OpenTelemetry:
    """The two modules of the OpenTelemetry API that scopes need, and an empty context."""

    context: ModuleType
    trace: ModuleType
    new_context: Callable[[], Context]


@dataclass(frozen=True, slots=True)
class Langfuse:
    """`propagate_attributes` of the Langfuse SDK, and whether it writes metadata as JSON itself (SDK 5)."""

    propagate_attributes: Callable[..., AbstractContextManager[Any]]
    encodes_metadata: bool


@cache
def opentelemetry() -> OpenTelemetry | None:
    """OpenTelemetry, or None if it is not installed: then labels only reach Langfuse SDK 2, by `trace_kwargs`."""
    try:
        from opentelemetry import context, trace
    except ImportError:
        if find_spec("langfuse") is None:
            refuse("neither Langfuse nor OpenTelemetry is installed, so billable() writes nothing")
        return None
    return OpenTelemetry(context, trace, context.Context)


@cache
def langfuse() -> Langfuse | None:
    """The Langfuse SDK if it has `propagate_attributes`: 3.9 and later (facts/langfuse.md section 9.1)."""
    try:
        from langfuse import propagate_attributes
    except ImportError:
        return None
    major = int(metadata.version("langfuse").split(".")[0])
    return Langfuse(propagate_attributes, major >= _ENCODES_METADATA_SINCE)


def context_with(labels: Labels, base: Context) -> Context | None:
    """A context like `base` with the labels in it, where Langfuse's span processor finds them; also on its span.

    None without a Langfuse SDK that can. Its context manager is left at once: only the context it makes is wanted,
    which, unlike the manager, can be used and dropped anywhere.
    """
    sdk = langfuse()
    api = opentelemetry()
    if sdk is None or api is None:
        return None
    token = api.context.attach(base)
    try:
        with _propagated(sdk, labels):
            context: Context = api.context.get_current()
    finally:
        api.context.detach(token)
    return context


def _propagated(sdk: Langfuse, labels: Labels) -> AbstractContextManager[Any]:
    metadata = {key: text if sdk.encodes_metadata else metadata_text(text) for key, text in labels.metadata.items()}
    return sdk.propagate_attributes(
        user_id=labels.user, session_id=labels.session, tags=list(labels.tags), metadata=metadata or None
    )
