"""For the traced application: customer and billing tags on every trace, at its creation.

>>> from tallymark.instrument import billable
>>> with billable(customer="cus_123", flow="chat", user="ada"):
...     answer(question)  # traced with the Langfuse SDK as before

Langfuse and OpenTelemetry are imported when they are first used, and only if they are installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .billables import Billable, billable, trace_kwargs
from .refusals import set_strict

__all__ = ["Billable", "BillingSpanProcessor", "billable", "install", "set_strict", "trace_kwargs"]

if TYPE_CHECKING:
    from .processor import BillingSpanProcessor, install


def __getattr__(name: str) -> Any:
    if name in ("BillingSpanProcessor", "install"):
        from . import processor  # needs the OpenTelemetry SDK

        return getattr(processor, name)
    raise AttributeError(f"module 'tallymark.instrument' has no attribute {name!r}")
