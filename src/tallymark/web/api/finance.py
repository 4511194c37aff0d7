"""For finance: GET /usage by customer, day, model or flow, as JSON, CSV or Parquet; GET /close, a checklist."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from litestar import Request, Response
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, OpenAPIType, Operation, Schema
from litestar.params import FromQuery, QueryParameter

from ...core.clock import format_time
from ...core.text import without_nul
from ...errors import ConfigError
from ...flows.close import close_period
from ...flows.closing import Closing, Period
from ...flows.ranges import moment_named, month_named
from ...flows.usage import KEYS, UsageRow, put_usage, usage
from ...tables import require_writer
from ..service import TheService
from .common import From, To, reads
from .customers import RANGE, TheRange

FILES = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}
By = Annotated[str, QueryParameter(description="What a row stands for: customer, day, model or flow (trace's name).")]
Form = Annotated[str, QueryParameter(description="json, csv or parquet; json unless `Accept` asks for text/csv.")]
Month = Annotated[
    str, QueryParameter(description="A calendar month such as 2026-11; last for the one that ended last.")
]


class Usage(msgspec.Struct):
    """Usage from `from` on, before `to`: a row for each key, sorted."""

    by: str
    from_: str = msgspec.field(name="from")
    to: str
    rows: list[UsageRow]


@dataclass
class WithFiles(Operation):
    """An operation whose answer may be a file too."""

    def __post_init__(self) -> None:
        """Add the media types of files to the answer."""
        answer = (self.responses or {}).get("200")
        if isinstance(answer, OpenAPIResponse) and answer.content is not None:
            for media_type in FILES.values():
                answer.content[media_type] = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))


@reads("/usage", tags=["finance"], dependencies=RANGE, operation_class=WithFiles)
def get_usage(
    service: TheService,
    request: Request[Any, Any, Any],
    span: TheRange,
    by: By = "customer",
    customer: FromQuery[str] = "",
    form: Annotated[str, QueryParameter(name="format", description="json, csv or parquet.")] = "",
) -> Response[Usage]:
    """Credits, cost, revenue and margin of a range (30 days unless named), exact; as a file by `format` or `Accept`."""
    form = form or ("csv" if "text/csv" in request.headers.get("accept", "") else "json")
    _check(by, form)
    with service.reading() as ledger:
        rows = usage(ledger, *span, without_nul(customer), by)
    if form == "json":
        return Response(Usage(by, format_time(span[0]), format_time(span[1]), rows))
    file = io.BytesIO()
    put_usage(file, form, msgspec.to_builtins(rows))
    headers = {"Content-Disposition": f'attachment; filename="usage-by-{by}.{form}"'}
    answer: Any = Response(file.getvalue(), media_type=FILES[form], headers=headers)
    return answer  # type: ignore[no-any-return]


def _check(by: str, form: str) -> None:
    if by not in KEYS:
        raise ConfigError(f"by={by!r:.60} is nothing to add up by; name one of {', '.join(KEYS)}.")
    if form not in ("json", *FILES):
        raise ConfigError(f"format={form!r:.60} cannot be written; name json, csv or parquet.")
    require_writer(form)


@reads("/close", tags=["finance"])
def get_close(
    service: TheService, period: Month = "", from_: From = None, to: To = None, customer: FromQuery[str] = ""
) -> Closing:
    """The checklist of a month, the last unless named, or of a range: what passes, what waits, and what to run next."""
    from_us, to_us = moment_named(from_), moment_named(to)
    if (from_us is None) != (to_us is None) or (period and from_us is not None):
        raise ConfigError("name period=2026-11, or both from and to.")
    now_us = service.clock.now_us()
    if from_us is None or to_us is None:
        from_us, to_us = month_named(period or "last", now_us)
    with service.reading() as ledger:
        return close_period(ledger, service.config, Period(from_us, to_us, without_nul(customer)), now_us)


HANDLERS = [get_usage, get_close]
