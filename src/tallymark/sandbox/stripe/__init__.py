"""A local Stripe: meters, meter events, adjustments, summaries and customers, as facts/stripe.md describes them."""

from .service import LoggedRequest, SandboxStripe
from .shapes import Meter, MeterEvent

__all__ = ["LoggedRequest", "Meter", "MeterEvent", "SandboxStripe"]
