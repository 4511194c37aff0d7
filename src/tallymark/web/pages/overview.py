"""The first page: how billing stands, or what is still to be set."""

from __future__ import annotations

from typing import Any

from litestar import get
from litestar.di import NamedDependency, Provide
from litestar.response import Template

from ...config import Config
from ...core.clock import DAY_US, MINUTE_US
from ...flows.alerts import alert_notices
from ...flows.overview import status
from ...flows.runs import asker
from ...flows.setup import has_ledger, missing_settings
from ...flows.usage import UsageTotal, on_every_day, usage_totals
from ..period import Period, period_of
from ..service import Service, TheCaller, TheService
from ..templating import page
from .customers import From, Named, To


def asked_period(service: TheService, period: Named = None, from_: From = None, to: To = None) -> Period | None:
    """The period of the chart; None while there is no ledger. Raises ConfigError."""
    if not has_ledger(service.config):
        return None
    with service.reading() as ledger:
        return period_of(ledger, service.clock.now_us(), period, from_, to)


SHOWN = {"shown": Provide(asked_period, sync_to_thread=True)}
TheShown = NamedDependency[Period | None]


@get("/", sync_to_thread=True, dependencies=SHOWN)
def overview(service: TheService, caller: TheCaller, shown: TheShown) -> Template:
    """What is owed, sent, held and in doubt, how fresh that is, and what each day earned."""
    found = _found(service, shown) if shown is not None else {"standing": None, "alerts": None}
    return page("overview", caller, **setup_of(service.config), **found, asker=asker)


def setup_of(config: Config) -> dict[str, Any]:
    """What a page says while nothing was read yet."""
    return {
        "missing": missing_settings(config),
        "lookback_days": f"{config.lookback_us / DAY_US:g}",
        "every_minutes": f"{config.sync_every_us / MINUTE_US:g}",
    }


def _found(service: Service, shown: Period) -> dict[str, Any]:
    with service.reading() as ledger:
        totals = usage_totals(ledger, shown.from_us, shown.to_us, "", "day")
    days = on_every_day([totals[day].row(day) for day in sorted(totals)], shown.from_us, shown.to_us)
    together = UsageTotal()
    for each in totals.values():
        together.add(each)
    return {
        "alerts": alert_notices(service.config.ledger_url),
        "standing": status(service.config, service.clock.now_us()),
        "period": shown,
        "days": days,
        "together": together.row("together"),
        "credit_rows": [(day.key, day.credits) for day in days],
        "money_rows": [(day.key, day.revenue_usd, day.cost_usd, day.margin_usd) for day in days],
    }


HANDLERS = [overview]
