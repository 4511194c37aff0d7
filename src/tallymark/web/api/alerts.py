"""What is wrong: GET /alerts."""

from __future__ import annotations

from ...flows.alerts import Alert, alerts
from ...flows.paging import ROWS_DEFAULT, Listing
from ..service import TheService
from .common import Cursor, Rows, reads


@reads("/alerts", tags=["service"])
def list_alerts(service: TheService, limit: Rows = ROWS_DEFAULT, cursor: Cursor = None) -> Listing[Alert]:
    """What was wrong when `serve` last looked, by rule and subject."""
    with service.reading() as ledger:
        return alerts(ledger, limit, cursor)


HANDLERS = [list_alerts]
