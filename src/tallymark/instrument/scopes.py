"""Scopes: which labels hold here and now, for this thread, task or generator, and on which spans they are written.

With OpenTelemetry a scope travels in its context, so that it goes wherever the application carries its spans. Without
it (Langfuse SDK 2, or nothing installed) a context variable of our own does the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .labels import Labels, are_apart, merged
from .owners import TraceOwners
from .refusals import safely
from .sdks import OpenTelemetry, context_with, opentelemetry
from .spans import attributes_of, complete, tags_of

if TYPE_CHECKING:
    from opentelemetry.context import Context

_KEY = "tallymark.scope"
_active_without_opentelemetry: ContextVar[Scope | None] = ContextVar("tallymark_scope", default=None)
_owners = TraceOwners()


@dataclass(frozen=True)
class Scope:
    """Labels that hold until `close_scope`. `outer` is the scope around it, `before` the OpenTelemetry context."""

    opener: object
    labels: Labels
    outer: Scope | None
    before: Context | None

    @cached_property
    def attributes(self) -> Mapping[str, Any]:
        """The labels as attributes of a span."""
        return attributes_of(self.labels)


def active_scope(context: Context | None = None) -> Scope | None:
    """The scope that holds here, or in an OpenTelemetry context if one is given."""
    api = opentelemetry()
    if api is None:
        return _active_without_opentelemetry.get()
    scope = api.context.get_value(_KEY, context)
    return scope if isinstance(scope, Scope) else None


def open_scope(opener: object, labels: Labels) -> None:
    """Let labels hold from here on: on the span that is active, and on all that are started later.

    A run for another customer than the one around it gets a trace of its own, with nothing of the outer one in it,
    since a trace is billed to one customer.
    """
    outer = active_scope()
    apart = outer is not None and are_apart(outer.labels, labels)
    labels = labels if outer is None or apart else merged(outer.labels, labels)
    api = opentelemetry()
    if api is None:
        _active_without_opentelemetry.set(Scope(opener, labels, outer, None))
    else:
        _activate(api, Scope(opener, labels, outer, api.context.get_current()), apart=apart)


def close_scope(opener: object) -> None:
    """Go back to what held before this opener's scope. Nothing to do in a context where it does not hold."""
    scope = active_scope()
    while scope is not None and scope.opener is not opener:
        scope = scope.outer
    if scope is None:
        return
    api = opentelemetry()
    if api is None or scope.before is None:
        _active_without_opentelemetry.set(scope.outer)
    else:
        # Not `detach`: it complains in a context other than that of `attach`, and there is nothing to complain about.
        api.context.attach(scope.before)


def _activate(api: OpenTelemetry, scope: Scope, *, apart: bool) -> None:
    joins = not apart and _may_join(api, scope.labels)
    base = api.context.get_current() if joins else api.new_context()
    span = api.trace.get_current_span(base)
    # Langfuse overwrites the tags of the active span, and does not give back what was there.
    tags = tags_of(span)
    context = safely("given to Langfuse", context_with, scope.labels, base) or base
    if span.is_recording():
        complete(span, scope.attributes, tags)
    api.context.attach(api.context.set_value(_KEY, scope, context))


def _may_join(api: OpenTelemetry, labels: Labels) -> bool:
    """Whether the active trace belongs to nobody yet or to this customer; then it is this customer's from now on."""
    span = api.trace.get_current_span()
    if labels.customer is None or not span.is_recording():
        return True
    return _owners.claim(span.get_span_context().trace_id, labels.customer)
