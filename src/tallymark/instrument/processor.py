"""The OpenTelemetry span processor for applications that do not call Langfuse: labels on every span that starts."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from .refusals import refuse, safely
from .scopes import active_scope
from .spans import complete

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Span
    from opentelemetry.trace import TracerProvider as AnyTracerProvider

_installed: WeakKeyDictionary[AnyTracerProvider, BillingSpanProcessor] = WeakKeyDictionary()


class BillingSpanProcessor(SpanProcessor):
    """Writes the labels of the `billable` around it on every span, as it starts, and exports nothing.

    Adds to the tags that the span has in any form, and keeps user, session and metadata that it has. Add it after
    Langfuse's own processor, which overwrites tags (facts/langfuse.md section 9.3).
    """

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Write the labels."""
        safely("written on a span", _label, span, parent_context)


def _label(span: Span, context: Context | None) -> None:
    scope = active_scope(context)
    if scope is not None and span.is_recording():
        complete(span, scope.attributes)


def install(tracer_provider: AnyTracerProvider | None = None) -> BillingSpanProcessor | None:
    """Add one BillingSpanProcessor to a tracer provider, the global one by default; once, however often it is called.

    None, logged once (ValueError if strict), for a provider that takes no processors: set one up first.
    """
    provider = tracer_provider or trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        refuse("install() found no tracer provider of the OpenTelemetry SDK: make one first, then call it again")
        return None
    if provider not in _installed:
        _installed[provider] = BillingSpanProcessor()
        provider.add_span_processor(_installed[provider])
    return _installed[provider]
