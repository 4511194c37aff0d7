"""By which of Stripe's APIs meter events are sent, and what happens to what is unanswered when that changes."""

from __future__ import annotations

from ..failpoints import Step
from .ledger import Ledger
from .sending import free_abandoned_txn

FACT, FIRST = "meter api", "v1"


def use_api(ledger: Ledger, api: str, now_us: int) -> bool:
    """Send by this API from now on; False as long as somebody may still be sending by another one.

    Whether one API knows the identifiers that another was sent is not documented (facts/stripe.md section 5). So what
    has no answer is not sent again by another one: it is in doubt.
    """
    before = ledger.fact(FACT) or FIRST
    if before == api:
        return True
    with ledger.transaction(Step.CHANGE_METER_API) as db:
        free_abandoned_txn(db, now_us)
        if db.rows("claims_held"):
            return False
        db.write("doubt_other_api", answer=f"not answered by {before}, and {api} may not know its identifier")
        db.write("put_fact", name=FACT, value=api)
    return True
