"""What a person decides about traces that are held before they are billed, and about whom to bill in general."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from ..core.choices import Choice
from ..core.decisions import Ruling, TraceKey
from ..errors import ConfigError
from ..failpoints import Step
from .corrections import Decided, put_decision_txn
from .database import Database, Row
from .held import VERBS, Word
from .ledger import Ledger
from .rows import RunRef

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class CustomerRule:
    """Whom to bill for all traces of a user, organization or session (`kind`), and who decided so."""

    kind: str
    value: str
    customer_id: str
    decision_id: int
    at_us: int
    who: str
    why: str


def ruling_of(ledger: Ledger, key: TraceKey) -> Ruling | None:
    """A person's word on one trace, if there is one."""
    row = next(iter(ledger.query("ruling_of", project_id=key[0], trace_id=key[1])), None)
    if row is None:
        return None
    return Ruling(row["decision_id"], row["verb"] == Choice.WAIVE, row["customer_id"], row["dated_at_us"])


def rule_traces(ledger: Ledger, run: RunRef, word: Word, worth_micros: Mapping[TraceKey, int]) -> list[int]:
    """Carry out one word on some held traces, all or none; the numbers of the decisions.

    What is assigned, or billed now, is read again and billed by the next sync. `worth_micros` is what was looked at.
    Raises ConfigError if one is not held, or is worth something else.
    """
    with ledger.transaction(Step.DECIDE_HELD) as db:
        return [_rule_txn(db, run, word, key, micros) for key, micros in worth_micros.items()]


def _rule_txn(db: Database, run: RunRef, word: Word, key: TraceKey, worth_micros: int) -> int:
    named = {"project_id": key[0], "trace_id": key[1]}
    trace = _held_txn(db, named)
    if trace["worth_micros"] != worth_micros:
        raise ConfigError(f"the trace {key[1]} is worth something else than a moment ago; look again.")
    customer_id = word.place.customer_id if word.place else None
    number = put_decision_txn(db, run.now_us, decided_of_trace(word, key, trace["worth_micros"], customer_id))
    if word.choice is not Choice.AS_IS:
        db.write(
            "put_ruling",
            **named,
            verb=VERBS[word.choice],
            customer_id=customer_id,
            dated_at_us=run.now_us if word.choice is Choice.BILL_NOW else None,
            decision_id=number,
        )
    if word.choice is Choice.WAIVE:
        db.write("waive_trace", **named, detail=f"waived by decision {number}")
    else:
        db.write("read_again", **named)
    return number


def decided_of_trace(word: Word, key: TraceKey, amount_micros: int, customer_id: str | None = None) -> Decided:
    """A decision about a trace."""
    detail = _encode({"customer_id": customer_id}).decode() if customer_id else "{}"
    return Decided(word.who, VERBS[word.choice], "trace", "/".join(key), amount_micros, word.why, detail)


def _held_txn(db: Database, named: dict[str, str]) -> Row:
    trace: Row | None = db.row("held_trace", **named)
    if trace is None or trace["outcome"] != "held":
        raise ConfigError(f"the trace {named['trace_id']} is not held: there is nothing to decide about it.")
    return trace


def customer_rules(ledger: Ledger) -> list[CustomerRule]:
    """Every rule, by kind and value."""
    return [CustomerRule(*(row[name] for name in CustomerRule.__slots__)) for row in ledger.query("customer_rules")]


def put_customer_rules(
    ledger: Ledger, run: RunRef, who: str, why: str, rules: Iterable[tuple[str, str]], customer_id: str
) -> list[int]:
    """Bill a customer for all traces of these users, organizations or sessions; the numbers of the decisions."""
    detail = _encode({"customer_id": customer_id}).decode()
    numbers = []
    with ledger.transaction(Step.PUT_CUSTOMER_RULE) as db:
        for kind, value in rules:
            decided = Decided(who, "assign", "rule", f"{kind} {value}", 0, why, detail)
            numbers.append(put_decision_txn(db, run.now_us, decided))
            db.write("put_customer_rule", kind=kind, value=value, customer_id=customer_id, decision_id=numbers[-1])
    return numbers


def remove_customer_rule(ledger: Ledger, run: RunRef, who: str, why: str, kind: str, value: str) -> int:
    """Withdraw a rule; what was billed by it stays. Raises ConfigError if there is none."""
    with ledger.transaction(Step.PUT_CUSTOMER_RULE) as db:
        if not db.write("delete_customer_rule", kind=kind, value=value):
            raise ConfigError(f"there is no rule for the {kind} {value!r}; see `tallymark held rules list`.")
        return put_decision_txn(db, run.now_us, Decided(who, "remove", "rule", f"{kind} {value}", 0, why))
