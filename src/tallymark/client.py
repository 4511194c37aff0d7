"""What an application asks about its customers: their usage to date, the traces behind it, and "count this one now".

Each call opens the ledger that the settings name, asks it, and closes it; only `sync_trace` asks servers.

>>> from tallymark import client
>>> client.usage_summary("cus_123").credits
'1250.000000'
"""

from __future__ import annotations

from .api import load_config
from .clock import SystemClock
from .config import Config
from .errors import ConfigError
from .flows.customer_usage import ComponentUsage, ModelUsage, UsageEvent, UsageSummary
from .flows.summary import SyncSummary
from .ledger.guard import using_ledger

__all__ = ["ComponentUsage", "ModelUsage", "UsageEvent", "UsageSummary", "sync_trace", "usage_events", "usage_summary"]

EVENTS = 100


def usage_summary(
    customer_id: str, *, from_us: int | None = None, to_us: int | None = None, config: Config | None = None
) -> UsageSummary:
    """What a customer used, by component and by model, and how fresh that is.

    The period to date unless a range is named (microseconds since 1970): the billing period, where Stripe was asked for
    it, else the calendar month in UTC. A customer whom the ledger does not know has used nothing.
    Raises ConfigError or LedgerError.
    """
    from .flows import customer_usage as flow

    config = config or load_config()
    with using_ledger(config.ledger_url, read_only=True) as ledger:
        since_us, until_us = flow.range_or_period(ledger, customer_id, from_us, to_us, SystemClock().now_us())
        return flow.usage_summary(ledger, config, customer_id, since_us, until_us)


def usage_events(
    customer_id: str,
    *,
    from_us: int | None = None,
    to_us: int | None = None,
    limit: int = EVENTS,
    config: Config | None = None,
) -> list[UsageEvent]:
    """The billed traces of a customer, the newest first; the range as of `usage_summary`.

    Raises ConfigError or LedgerError.
    """
    from .flows import customer_usage as flow

    if limit < 0:
        raise ConfigError(f"limit={limit} is no number of traces; name one from 0.")
    config = config or load_config()
    with using_ledger(config.ledger_url, read_only=True) as ledger:
        since_us, until_us = flow.range_or_period(ledger, customer_id, from_us, to_us, SystemClock().now_us())
        return flow.usage_events(ledger, customer_id, since_us, until_us, limit)


def sync_trace(trace_id: str, *, config: Config | None = None) -> SyncSummary:
    """Read one trace, bill it and mark it now; what is billed already stays as it is.

    Raises NotFound if Langfuse has no such trace, ConfigError, RemoteError or LedgerError.
    """
    from .flows.sync import sync

    return sync(config or load_config(), trace_id=trace_id)
