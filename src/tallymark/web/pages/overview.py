"""The first page: how billing stands, or what is still to be set."""

from __future__ import annotations

from litestar import get
from litestar.response import Template

from ...core.clock import DAY_US, MINUTE_US
from ...flows.alerts import alert_notices
from ...flows.figures import figures, why_not_ready
from ...flows.setup import has_ledger, missing_settings
from ..service import TheCaller, TheService
from ..templating import page


@get("/", sync_to_thread=True)
def overview(service: TheService, caller: TheCaller) -> Template:
    """What is owed, held and in doubt, and how fresh that is."""
    config = service.config
    return page(
        "overview",
        caller,
        missing=missing_settings(config),
        problem=why_not_ready(config, service.clock.now_us()),
        alerts=alert_notices(config.ledger_url) if has_ledger(config) else None,
        figures=figures(config.ledger_url) if has_ledger(config) else None,
        lookback_days=f"{config.lookback_us / DAY_US:g}",
        every_minutes=f"{config.sync_every_us / MINUTE_US:g}",
    )


HANDLERS = [overview]
