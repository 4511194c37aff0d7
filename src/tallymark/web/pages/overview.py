"""The first page: how billing stands."""

from __future__ import annotations

from litestar import get
from litestar.response import Template

from ...flows.figures import figures, why_not_ready
from ..service import TheCaller, TheService
from ..templating import page


@get("/", sync_to_thread=True)
def overview(service: TheService, caller: TheCaller) -> Template:
    """What is owed, held and in doubt, and how fresh that is."""
    return page(
        "overview",
        caller,
        problem=why_not_ready(service.config, service.clock.now_us()),
        figures=figures(service.config.ledger_url),
    )


HANDLERS = [overview]
