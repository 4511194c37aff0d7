"""A local Stripe, as facts/stripe.md describes it: meters, meter events, error reports, subscriptions, invoices."""

from .invoices import Invoiced
from .request_log import LoggedRequest
from .service import SandboxStripe
from .shapes import Meter, MeterEvent, Rejection
from .subscriptions import Subscription

__all__ = ["Invoiced", "LoggedRequest", "Meter", "MeterEvent", "Rejection", "SandboxStripe", "Subscription"]
