"""A row of Langfuse's legacy trace list, decoded into a Trace. Prompts and answers are dropped here, undecoded.

Facts: facts/langfuse-observed.md items 1-8 (units, field groups, tags, metadata).
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import msgspec

from ..core.clock import from_datetime
from ..core.types import WHOLE_TRACE, Trace, Unit

PENDING_TAG = "billing:pending"
PROCESSED_TAG = "billing:processed"
ATTRIBUTE_LENGTH_MAX = 500
_NO_METRICS = "the server sent no cost and latency (field group metrics)"


class Metadata(msgspec.Struct):
    """The metadata keys that billing reads. Values come back as whatever their text parses to (observed item 7)."""

    customerId: Any = None  # noqa: N815 - Langfuse's own name
    stripeCustomerId: Any = None  # noqa: N815
    aiCredentialsOwnership: Any = None  # noqa: N815
    organizationId: Any = None  # noqa: N815
    orgId: Any = None  # noqa: N815
    gbMonth: Any = None  # noqa: N815
    billing_status: Any = None
    meter_event_id: Any = None


_METADATA_KEYS = Metadata.__struct_fields__


# An empty id names nothing, and of a unit it would mean the whole trace.
Name = Annotated[str, msgspec.Meta(min_length=1)]


class TraceRow(msgspec.Struct):
    """One row of GET /traces with fields=core,io,metrics; `input` and `output` are not decoded at all."""

    id: Name
    projectId: Name  # noqa: N815
    timestamp: datetime
    name: str | None = None
    userId: str | None = None  # noqa: N815
    sessionId: str | None = None  # noqa: N815
    release: str | None = None
    version: str | None = None
    environment: str | None = None
    public: bool = False
    bookmarked: bool = False
    tags: list[str] = []
    metadata: Metadata | str | list[Any] | int | float | bool | None = None
    totalCost: Decimal | None = None  # noqa: N815
    latency: Decimal | None = None


class _Meta(msgspec.Struct):
    totalItems: int = 0  # noqa: N815


class _Page(msgspec.Struct):
    data: list[TraceRow]
    meta: _Meta


class _RawPage(msgspec.Struct):
    data: list[msgspec.Raw]
    meta: _Meta


class _Identity(msgspec.Struct):
    """What every row must have to be a trace at all."""

    id: Name
    projectId: Name  # noqa: N815
    timestamp: datetime


class Page(msgspec.Struct, tag=True):
    """One page of traces. `unreadable` says what is wrong with rows that have no identity."""

    traces: list[Trace]
    total_items: int
    rows: int
    unreadable: list[str]


# A wrong type, a time without a zone, a number beyond what Decimal holds.
BAD_ROW = (msgspec.ValidationError, ValueError, ArithmeticError)

_decode_page = msgspec.json.Decoder(_Page).decode
_decode_raw_page = msgspec.json.Decoder(_RawPage).decode
_decode_row = msgspec.json.Decoder(TraceRow).decode
_decode_identity = msgspec.json.Decoder(_Identity).decode


def decode_page(body: bytes) -> Page:
    """Decode a page. One bad row never spoils the others: it becomes a trace with a problem.

    Raises msgspec.MsgspecError if the body is no page at all.
    """
    try:
        page = _decode_page(body)
        return Page([to_trace(row) for row in page.data], page.meta.totalItems, len(page.data), [])
    except BAD_ROW:
        return _decode_row_by_row(body)


def _decode_row_by_row(body: bytes) -> Page:
    page = _decode_raw_page(body)
    traces: list[Trace] = []
    unreadable: list[str] = []
    for raw in page.data:
        try:
            traces.append(to_trace(_decode_row(raw)))
        except BAD_ROW as error:
            _keep_bad_row(raw, str(error), traces, unreadable)
    return Page(traces, page.meta.totalItems, len(page.data), unreadable)


def _keep_bad_row(raw: msgspec.Raw, problem: str, traces: list[Trace], unreadable: list[str]) -> None:
    try:
        row = _decode_identity(raw)
        unit = Unit(WHOLE_TRACE, None, None, problem=f"the row is not as Langfuse sends it: {problem}")
        traces.append(Trace(row.projectId, row.id, from_datetime(row.timestamp), (unit,)))
    except BAD_ROW:
        unreadable.append(problem)


def to_trace(row: TraceRow) -> Trace:
    """Turn a decoded row into a Trace with one unit, the whole trace."""
    attributes = attributes_of(row.metadata) if isinstance(row.metadata, Metadata) else {}
    return Trace(
        project_id=row.projectId,
        trace_id=row.id,
        timestamp_us=from_datetime(row.timestamp),
        units=(_unit_of(row),),
        name=row.name or None,
        user_id=row.userId or None,
        session_id=row.sessionId or None,
        release=row.release,
        version=row.version,
        environment=row.environment or "default",
        public=row.public,
        bookmarked=row.bookmarked,
        tags=tuple([tag for tag in row.tags if tag in (PENDING_TAG, PROCESSED_TAG)]),
        attributes=attributes,
        marked=marked_by(row.tags, attributes),
    )


def _unit_of(row: TraceRow) -> Unit:
    if row.totalCost is None or row.latency is None:
        return Unit(WHOLE_TRACE, None, None, problem=_NO_METRICS)
    if not (row.totalCost.is_finite() and row.latency.is_finite()):
        return Unit(WHOLE_TRACE, None, None, problem=f"cost {row.totalCost} or latency {row.latency} is not a number")
    if row.totalCost == -1 and row.latency == -1:
        # -1 means that the group `metrics` was not sent (observed item 2): never a cost.
        return Unit(WHOLE_TRACE, None, None, problem=_NO_METRICS)
    return Unit(WHOLE_TRACE, row.totalCost, row.latency)


def marked_by(tags: list[str], attributes: dict[str, str]) -> str:
    """How a trace claims to be processed: by metadata, by tag, by both, or not at all ("")."""
    by_metadata = attributes.get("billing_status", "").lower() == "processed"
    by_tag = PROCESSED_TAG in tags
    return "metadata,tag" if by_metadata and by_tag else "metadata" if by_metadata else "tag" if by_tag else ""


def attributes_of(metadata: Metadata) -> dict[str, str]:
    """The billing metadata as text, without what is absent, blank or unreasonably long."""
    found = {}
    for key, value in zip(_METADATA_KEYS, msgspec.structs.astuple(metadata), strict=True):
        if value is not None and (text := _as_text(value)) and len(text) <= ATTRIBUTE_LENGTH_MAX:
            found[key] = text
    return found


def _as_text(value: Any) -> str:
    """Ids are text: Langfuse gives "12345" back as a number (observed item 7). Structures are no ids."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float | Decimal) else ""
