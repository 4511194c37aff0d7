"""The log of decisions about money: who, when, what, how much, why, and on what evidence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from litestar import Request, get
from litestar.params import QueryParameter
from litestar.response import Stream, Template

from ...flows.inbox import LATEST, decisions
from ...flows.paging import ROWS_DEFAULT, ROWS_MAX, every
from ..api.common import Cursor
from ..csv_answers import csv_answer
from ..links import with_query
from ..service import Service, TheCaller, TheService
from ..templating import page

Asked = Request[Any, Any, Any]
Number = Annotated[int | None, QueryParameter(ge=0, le=LATEST)]
COLUMNS = ("decision", "at", "who", "verb", "subject_kind", "subject", "credits", "why", "evidence")


@get("/decisions", sync_to_thread=True)
def decision_list(
    service: TheService,
    caller: TheCaller,
    request: Asked,
    first: Number = None,
    last: Number = None,
    cursor: Cursor = None,
) -> Template:
    """What was decided, the newest first; or the decisions of one word, by their numbers."""
    first_number, last_number = first or 0, last if last is not None else LATEST
    with service.reading() as ledger:
        found = decisions(ledger, ROWS_DEFAULT, cursor, first_number, last_number)
    return page(
        "decisions",
        caller,
        found=[{**one, "evidence": evidence_of(one)} for one in found.items],
        made=(first, last) if first is not None and last is not None else None,
        next_address=with_query(request, "/decisions", cursor=found.next) if found.next else None,
        csv_address=with_query(request, "/decisions.csv", cursor=None),
    )


@get("/decisions.csv", sync_to_thread=True)
def decision_file(service: TheService, first: Number = None, last: Number = None) -> Stream:
    """The same, all of it."""
    return csv_answer("decisions", COLUMNS, _rows(service, first or 0, last if last is not None else LATEST))


def _rows(service: Service, first: int, last: int) -> Iterator[list[Any]]:
    with service.reading() as ledger:
        for one in every(lambda cursor: decisions(ledger, ROWS_MAX, cursor, first, last)):
            yield [{**one, "evidence": evidence_of(one)}[name] for name in COLUMNS]


def evidence_of(decision: dict[str, Any]) -> str:
    """What a decision rests on, as one line of text; empty for nothing."""
    return msgspec.json.encode(decision["evidence"]).decode() if decision["evidence"] else ""


HANDLERS = [decision_list, decision_file]
