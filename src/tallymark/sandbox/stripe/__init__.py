"""A local Stripe, as facts/stripe.md describes it: meters, meter events, error reports."""

from .request_log import LoggedRequest
from .service import SandboxStripe
from .shapes import Meter, MeterEvent, Rejection

__all__ = ["LoggedRequest", "Meter", "MeterEvent", "Rejection", "SandboxStripe"]
