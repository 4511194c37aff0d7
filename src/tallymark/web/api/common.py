"""What the handlers of the JSON API share: how they are declared, so that the document says how they may fail."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from litestar import delete, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter

from ...flows.paging import ROWS_MAX
from ..problems import PROBLEM_TYPE, Problem

MEANINGS = {
    400: "A parameter is wrong; `errors` names it.",
    401: "No token was shown, or one that is not known.",
    403: "The token is a reader's.",
    404: "The ledger does not know it.",
    413: "The body is too large.",
    422: "It cannot be done as it was asked; `detail` says why and what to do.",
    429: "Too many requests in this minute (BILLING_API_REQUESTS_PER_MINUTE).",
    502: "Langfuse or Stripe could not be asked; nothing is lost, ask again.",
    503: "The ledger cannot be used.",
}
RESPONSES: Any = {
    status: ResponseSpec(Problem, generate_examples=False, description=meaning, media_type=PROBLEM_TYPE)
    for status, meaning in MEANINGS.items()
}

# A read, or a write, of the API. What may wait for the ledger runs in a thread.
reads = partial(get, sync_to_thread=True, responses=RESPONSES)
writes = partial(post, sync_to_thread=True, responses=RESPONSES, status_code=200)
deletes = partial(delete, sync_to_thread=True, responses=RESPONSES, status_code=200)

# Parameters of lists.
Rows = Annotated[int, QueryParameter(ge=1, le=ROWS_MAX, description="At most this many.")]
Cursor = Annotated[str | None, QueryParameter(description="`next` of the page before; none for the first page.")]
From = Annotated[str | None, QueryParameter(name="from", description="From this time on, or from a day in UTC.")]
To = Annotated[str | None, QueryParameter(name="to", description="Before this time, or before a day in UTC.")]
