"""What docs/scale.md says of larger volumes: arithmetic over what was measured, and the limits of the services.

Today's volume is assumed: 40,000 traces a week, of 5 observations each, of 24 customers who are all active in every
hour. What grows is customers, each as busy as today.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .figures import Figure

TRACES_A_WEEK, OBSERVATIONS, CUSTOMERS = 40_000, 5, 24
FACTORS = (1, 10, 1_000, 1_000_000)
MINUTES_A_WEEK, WEEKS_A_YEAR = 7 * 24 * 60, 52
# Read when new; two hours again by each run, one every quarter of an hour; seven days again each night.
TIMES_READ = 1 + 2 * 4 + 7
# facts/langfuse.md section 7.1, the plan Pro: of a limit one request less can be used.
LEGACY_REQUESTS_A_MINUTE, LEGACY_ROWS = 99, 100
REQUESTS_A_MINUTE, ROWS = 999, 1_000
# facts/stripe.md sections 5 and 6, live mode: v1 and v2 meter events, and the v2 stream.
METER_EVENTS_A_SECOND, STREAM_A_SECOND = 1_000, 10_000


def derived(known: Mapping[str, Figure]) -> Iterator[Figure]:
    """The figures of the page, by factor: requests, meter events, bytes, and how busy one process is.

    Raises KeyError if what they are made of was not measured.
    """
    yield from _ceilings(known)
    trace_bytes = known["size.trace"].value + OBSERVATIONS * known["size.observation"].value
    yield Figure("Scale", "a trace of 5 observations in the ledger", trace_bytes, "bytes", key="scale.bytes")
    for factor in FACTORS:
        yield from _at(factor, trace_bytes, known)


def _ceilings(known: Mapping[str, Figure]) -> Iterator[Figure]:
    """By which factor of today's volume each limit binds."""
    ceilings = {
        "legacy": LEGACY_REQUESTS_A_MINUTE / _requests_a_minute(1, 1, LEGACY_ROWS),
        "v2": REQUESTS_A_MINUTE / _requests_a_minute(1, OBSERVATIONS, ROWS),
        "v1": METER_EVENTS_A_SECOND / _meter_events_a_second(1),
        "stream": STREAM_A_SECOND / _meter_events_a_second(1),
        "process": 100 / _busy(1, known),
    }
    for name, factor in ceilings.items():
        yield Figure("Scale", f"binds at: {name}", factor, "×", key=f"scale.binds.{name}")


def _at(factor: int, trace_bytes: float, known: Mapping[str, Figure]) -> Iterator[Figure]:
    group = f"Scale {factor:,} ×"
    week_gigabytes = factor * TRACES_A_WEEK * trace_bytes / 1e9
    figures = {
        "traces": (_traces_a_second(factor), "/s"),
        "observations": (_traces_a_second(factor) * OBSERVATIONS, "/s"),
        "legacy": (_requests_a_minute(factor, 1, LEGACY_ROWS), "/min"),
        "v2": (_requests_a_minute(factor, OBSERVATIONS, ROWS), "/min"),
        "hour": (_meter_events_a_second(factor), "/s"),
        "day": (_meter_events_a_second(factor) / 24, "/s"),
        "week": (week_gigabytes, "GB"),
        "year": (week_gigabytes * WEEKS_A_YEAR / 1000, "TB"),
        "busy": (_busy(factor, known), "%"),
        # Of what is new alone, on as many processes as it takes.
        "processes": (_traces_a_second(factor) * OBSERVATIONS / known["costs.observations.rows"].value, ""),
    }
    for name, (value, unit) in figures.items():
        yield Figure(group, name, value, unit, key=f"scale.{factor}.{name}")


def _traces_a_second(factor: int) -> float:
    return factor * TRACES_A_WEEK / MINUTES_A_WEEK / 60


def _busy(factor: int, known: Mapping[str, Figure]) -> float:
    """Percent of the time of one process, if reading again cost as much as a first sync, marks included."""
    return 100 * TIMES_READ * _traces_a_second(factor) / known["sync.observations.rate"].value


def _requests_a_minute(factor: int, rows_a_trace: int, page_rows: int) -> float:
    return factor * TRACES_A_WEEK * rows_a_trace * TIMES_READ / page_rows / MINUTES_A_WEEK


def _meter_events_a_second(factor: int) -> float:
    """One for each customer and hour."""
    return factor * CUSTOMERS / 3600
