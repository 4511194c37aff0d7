"""The meters that the settings name, checked once a day; what they are at Stripe, and by which API they are sent to."""

from __future__ import annotations

import msgspec

from ..core.clock import DAY_US, SECOND_US
from ..core.ids import digest
from ..core.windows import METER_WINDOW_S
from ..errors import LedgerLocked
from ..ledger.meter_api import use_api
from ..ledger.meter_windows import put_meter_windows
from ..meter.stripe_events import FoundMeter, StripeMeter
from ..settings import TOTALS
from .stations import Stations

METER_CHECK_HOLDS_US = DAY_US
# Longer than a claim lasts whose owner is gone.
PATIENCE_SECONDS = 90


def check_meter(stations: Stations) -> None:
    """Check the meter before the first meter event leaves, and once a day after that; and change to another API.

    Raises MeterError, KeyRefused, or LedgerLocked while another process still sends by the API of before.
    """
    if stations.stripe is None:
        return
    if not _is_checked(stations, stations.clock.now_us()):
        _check(stations, stations.stripe)
    windows_s = {name: METER_WINDOW_S.get(meter.window) for name, meter in _found(stations).items()}
    put_meter_windows(stations.ledger, windows_s)
    _use_api(stations)


def _check(stations: Stations, stripe: StripeMeter) -> None:
    config, content, now_us = stations.config, _content(stations), stations.clock.now_us()
    found = stripe.check(_names(stations), config.stripe_credits_meter_id, totals=config.meter_api == TOTALS)
    stations.ledger.put_fact(f"meters {content}", msgspec.json.encode(found).decode())
    stations.ledger.put_fact(f"meter check {content}", str(now_us))


def _use_api(stations: Stations) -> None:
    until_us = stations.clock.now_us() + PATIENCE_SECONDS * SECOND_US
    while not use_api(stations.ledger, stations.config.meter_api, stations.clock.now_us()):
        if stations.clock.now_us() > until_us:
            raise LedgerLocked(
                "another process still sends meter events by the API of before; stop it, then change BILLING_METER_API."
            )
        stations.clock.sleep(1)


def _is_checked(stations: Stations, now_us: int) -> bool:
    """Whether the last check still holds. One from the future was made by a clock that was wrong."""
    passed_at = stations.ledger.fact(f"meter check {_content(stations)}")
    return passed_at is not None and 0 <= now_us - int(passed_at) <= METER_CHECK_HOLDS_US and bool(_found(stations))


def meter_ids(stations: Stations) -> dict[str, str]:
    """The meters that were found by the last check: event name to id."""
    return {name: meter.meter_id for name, meter in _found(stations).items()}


def _found(stations: Stations) -> dict[str, FoundMeter]:
    found = stations.ledger.fact(f"meters {_content(stations)}")
    return msgspec.json.decode(found, type=dict[str, FoundMeter]) if found is not None else {}


def _names(stations: Stations) -> list[str]:
    return sorted({stations.config.meter_event_name, *stations.config.meters.values()})


def _content(stations: Stations) -> str:
    config = stations.config
    account = [config.stripe_credits_meter_id, config.stripe_secret_key, config.stripe_api_base]
    return digest(repr([*_names(stations), *account, config.meter_api]))
