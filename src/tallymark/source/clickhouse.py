"""Langfuse's own ClickHouse, self-hosted: whole traces, added up by the server and streamed.

It holds what the API shows, so late rows are found by when they were written, and nothing is missing (docs/adr/0040).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from ..core.clock import DAY_US, parse_time
from ..core.types import Trace
from ..errors import ConfigError, KeyRefused, Refused, TooMuch, Unreachable
from .clickhouse_sql import CHANGED, IN_REACH, IN_WINDOW, NAMED, events, legacy
from .rows import Page
from .sums import pages_of
from .windows import Windows

# A window's traces are added up over this much around it; what lies further off changes no trace of today.
REACH_US = 35 * DAY_US
WINDOW_US = DAY_US
IDS_MAX = 1000
EVENTS = ("events_full", "events_core")
LEGACY = ("traces", "observations")
# Codes of ClickHouse: wrong user or password; may not read; out of memory; took too long.
_REFUSED, _TOO_MUCH = {192, 193, 194, 497, 516}, {159, 160, 241, 307, 396}


class Server(Protocol):
    """A ClickHouse server."""

    where: str

    def rows(self, query: str, values: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
        """Rows of a query, streamed; `values` are bound by the server. Raises ConfigError or RemoteError."""
        ...


class ClickHouseSource:
    """The traces of one project in a ClickHouse."""

    name = "clickhouse"

    def __init__(
        self, server: Server, project_id: str, generation: str, *, by_model: bool = False, window_us: int | None = None
    ) -> None:
        """`generation` says by the rules of which API: "traces" (the tables of before) or "observations" (events)."""
        self._server = server
        self._values = {"project_id": project_id}
        self._generation = generation
        self._by_model = by_model
        self._window_us = window_us or WINDOW_US
        self._table: str | None = None

    def read(self, from_us: int, to_us: int) -> Iterator[Page]:
        """Traces with a row of from_us <= time < to_us, window by window, each in order of their time."""
        for start_us, end_us in Windows(from_us, to_us, self._window_us):
            window = {"from_us": start_us, "to_us": end_us, "reach_us": REACH_US}
            conditions = (IN_WINDOW.format(column="timestamp"), IN_WINDOW.format(column="start_time"))
            yield from self._pages(*conditions, window)

    def read_at_once(self, from_us: int, to_us: int) -> Iterator[Page]:
        """The same in one window, for a range in which hardly any trace lies."""
        return ClickHouseSource(
            self._server, self._values["project_id"], self._generation, window_us=max(to_us - from_us, 1)
        ).read(from_us, to_us)

    def changed(self, since_us: int) -> Iterator[Page]:
        """Traces of which a row was written at `since_us` or later, whenever it happened, over all of their rows."""
        return self._pages(CHANGED, CHANGED, {"since_us": since_us})

    def read_many(self, trace_ids: Sequence[str], _from_us: int = 0) -> Page:
        """Traces by their ids, over all of their rows."""
        found: list[Trace] = []
        for at in range(0, len(trace_ids), IDS_MAX):
            conditions = (NAMED.format(id="id"), NAMED.format(id="trace_id"))
            for page in self._pages(*conditions, {"ids": list(trace_ids[at : at + IDS_MAX])}):
                found += page.traces
        return Page(found, len(found), len(found), [])

    def confirm(self, traces: Sequence[Trace]) -> list[Trace]:
        """Read traces again over all of their rows; used before a bill is ever lowered."""
        return self.read_many([trace.trace_id for trace in traces]).traces

    def newest_us(self) -> int | None:
        """When the newest row of the project was written, in microseconds; None if there is none."""
        query = f"select toString(max(event_ts)), count() from {self.table()} where project_id = {{project_id:String}}"
        [(text, rows)] = self._server.rows(query, self._values)
        return parse_time(f"{text.replace(' ', 'T')}Z") if rows else None

    def table(self) -> str:
        """The table that is read. Raises ConfigError if the database has none, as its user sees it."""
        if self._table is None:
            wanted = LEGACY if self._generation == "traces" else EVENTS
            query = (
                "select name from system.tables where database = currentDatabase() and has({names:Array(String)}, name)"
            )
            found = {row[0] for row in self._server.rows(query, {"names": [*wanted, "scores"]})}
            missing = {"scores", *LEGACY} - found if wanted is LEGACY else {"scores"} - found
            if missing or not found & set(wanted):
                names = ", ".join(sorted(missing or wanted))
                raise ConfigError(
                    f"{self._server.where} has no table {names} that its user may read; grant select on it"
                )
            self._table = next(name for name in wanted if name in found)
        return self._table

    def _pages(self, of_trace: str, of_observation: str, values: Mapping[str, Any]) -> Iterator[Page]:
        bounds = IN_REACH if "reach_us" in values else ""
        if self.table() in LEGACY:
            query = legacy(of_trace, of_observation, bounds)
        else:
            query = events(self.table(), of_observation, bounds, by_model=self._by_model)
        return iter(pages_of(self._server.rows(query, {**self._values, **values})))


class ClickHouseServer:
    """A server over HTTP, by clickhouse-connect."""

    def __init__(self, url: str) -> None:
        """Nothing is asked before the first query."""
        self._url = url
        self.where = f"ClickHouse at {_without_user(url)}"
        self._client: Any = None

    def rows(self, query: str, values: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
        """Rows of a query, as they come."""
        with self._errors(), self._connected().query_row_block_stream(query, parameters=dict(values)) as blocks:
            for block in blocks:
                yield from block

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()

    def _connected(self) -> Any:
        if self._client is None:
            import clickhouse_connect

            self._client = clickhouse_connect.get_client(
                dsn=self._url, autogenerate_session_id=False, client_name="tallymark"
            )
        return self._client

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """The errors of the library in our words: its own may hold the address with its password."""
        try:
            from clickhouse_connect.driver.exceptions import ClickHouseError
        except ImportError as problem:
            raise ConfigError(
                "BILLING_SOURCE=clickhouse needs clickhouse-connect: pip install 'tallymark[bulk]'."
            ) from problem
        try:
            yield
        except ClickHouseError as error:
            raise self._error_of(getattr(error, "code", None), type(error).__name__) from None

    def _error_of(self, code: int | None, kind: str) -> Exception:
        if code is None:
            return Unreachable(f"{self.where} cannot be reached ({kind}). Nothing is lost: run again.")
        if code in _REFUSED:
            return KeyRefused(f"{self.where} refuses the user of BILLING_CLICKHOUSE_URL (code {code}); it needs select")
        if code in _TOO_MUCH:
            return TooMuch(
                f"{self.where} ran out of memory or time (code {code}); set BILLING_SYNC_WINDOW_HOURS lower, "
                "or give its user more"
            )
        return Refused(f"{self.where} refuses the question (code {code}): are these the tables of a Langfuse 3 or 4?")


def _without_user(url: str) -> str:
    return url.rpartition("@")[2].removeprefix("http://").removeprefix("https://")
