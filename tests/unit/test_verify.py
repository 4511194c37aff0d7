"""Verifying a ledger: one that holds is found to hold, and whatever is tampered with is named, row by row."""

import pytest

from builders import read_trace
from databases import DATABASES, everything, run_script, without_triggers
from ledger_lines import RUN, bill, charge, entry, gather_all
from proved_ledgers import adjust, fill, quiet, tamper, verified, with_card
from tallymark.core.ids import link
from tallymark.errors import ConfigError
from tallymark.ledger import judges
from tallymark.ledger.chain import decision_content, decision_of, entry_content, entry_of
from tallymark.ledger.judges import Head
from tallymark.ledger.verify import FINDINGS_MAX, parse_head

pytestmark = pytest.mark.databases(*DATABASES)
COVERED = "select meter_event_id from meter_event where state = 'accepted' and carry_after_micros = 700000"
INVOICED = "select meter_event_id from meter_event where customer_id = 'cus_invoiced'"
COPY_OF_4 = (
    "insert into entry select 16, project_id, 'sent 1', meter, 7, kind, customer_id, amount_micros, timestamp_us, "
    "bucket_start_us, bucket_end_us, bucket_key, card_digest, components, run_id, created_at_us, meter_event_id, "
    "decision_id, digest from entry where entry_id = 4"
)
SWAP_4_AND_5 = (
    "update entry set entry_id = 99 where entry_id = 4; update entry set entry_id = 4 where entry_id = 5;"
    "update entry set entry_id = 5 where entry_id = 99"
)

# What somebody does to the file, the check that finds it, a row that it names, and a word of why.
TAMPERED = {
    "an amount": ("update entry set amount_micros = 1 where entry_id = 4", "chain of entries", "entry 4", "edited"),
    "a text": ("update entry set components = '{}' where entry_id = 2", "chain of entries", "entry 2", "edited"),
    "a digest": ("update entry set digest = 'x' where entry_id = 6", "chain of entries", "entry 6", "edited"),
    "the last entry": ("delete from entry where entry_id = 15", "chain of entries", "entry 15", "newest line"),
    "entries inside": ("delete from entry where entry_id in (7, 8)", "chain of entries", "entry 9", "entry 7 to 8"),
    "one more entry": (COPY_OF_4, "chain of entries", "entry 16", "put there"),
    "an order": (SWAP_4_AND_5, "chain of entries", "entry 4", "moved"),
    "the head": ("update chain set length = 14 where name = 'entry'", "chain of entries", "entry 15", "newest line"),
    "no head": ("delete from chain where name = 'entry'", "chain of entries", "entry 15", "newest line is 0:"),
    "a reason": ("update decision set why = 'so' where decision_id = 2", "chain of decisions", "decision 2", "edited"),
    "the last decision": ("delete from decision where decision_id = 3", "chain of decisions", "decision 3", "newest"),
    "a decision that is gone": ("delete from decision where decision_id = 3", "entries", "entry 12", "names the dec"),
    "a trace that is gone": ("delete from trace where trace_id = 't2'", "entries", "entry 2", "its trace is not"),
    "a card that is gone": ("delete from rate_card", "entries", "entry 1", "its rate card card is not"),
    "a bucket": ("update entry set bucket_end_us = 0 where entry_id = 3", "entries", "entry 3", "outside its bucket"),
    "no meter event": ("update entry set meter_event_id = 'x' where entry_id = 1", "entries", "entry 1", "event x"),
    "another's meter event": (
        f"update entry set meter_event_id = ({INVOICED}) where entry_id = 1", "entries", "entry 1", "another customer"
    ),
    "no decision": ("update entry set decision_id = null where entry_id = 9", "entries", "entry 9", "no decision"),
    "credits": (
        f"update meter_event set credits = 5 where meter_event_id = ({COVERED})", "meter events", COVERED, "do not make"
    ),
    "a sum": (
        "update meter_event set entries_micros = entries_micros - 1, carry_after_micros = carry_after_micros - 1 "
        f"where meter_event_id = ({COVERED})", "meter events", COVERED, "come to 1.700000, and it says 1.699999"
    ),
    "a cancelled one": (
        f"update meter_event set state = 'accepted' where meter_event_id = ({INVOICED})", "meter events", INVOICED,
        "0.000000 of it must be taken back, and 4.900000 was",
    ),
    "a withdrawal": (
        f"update meter_event set state = 'cancelled' where meter_event_id = ({COVERED})", "meter events", COVERED,
        "1.700000 of it must be taken back, and 0.000000 was",
    ),
    "a state": (
        f"update meter_event set state = 'carried' where meter_event_id = ({COVERED})", "meter events", COVERED,
        "are carried",
    ),
    "a time": (
        f"update meter_event set timestamp_s = timestamp_s + 3600 where meter_event_id = ({COVERED})", "meter events",
        COVERED, "outside its bucket",
    ),
    "an identifier": (
        "update meter_event set meter_event_id = 'tm-x' where customer_id = 'cus_carried'", "meter events",
        "select 'tm-x'", "come to 0.000000",
    ),
    "a revision": (
        f"update meter_event set revision = 7 where meter_event_id = ({COVERED})", "meter events", COVERED, "identifier"
    ),
    "an attempt": (
        f"delete from attempt where meter_event_id = ({COVERED})", "meter events", COVERED, "not numbered 1 to 1"
    ),
    "never sent": (
        f"delete from attempt where meter_event_id = ({COVERED}); "
        f"update meter_event set attempt = 0 where meter_event_id = ({COVERED})", "meter events", COVERED, "never sent"
    ),
    "a carry": ("update carry set amount_micros = 5 where customer_id = 'cus_carried'", "carries",
                "carry of cus_carried on credits", "it is 0.000005, and what its meter events left comes to 0.300000"),
    "a carry out of nothing": ("insert into carry values ('cus_x', 'credits', 9)", "carries",
                               "carry of cus_x on credits", "comes to 0.000000"),
    "a carry that is gone": ("delete from carry where customer_id = 'cus_carried'", "carries",
                             "carry of cus_carried on credits", "it is 0.000000"),
    "a balance": ("update carry set amount_micros = 5 where customer_id = 'cus_carried'", "balances",
                  "balance of cus_carried on credits", "of entries of 0.300000 credits, 0.299995 are neither"),
    "what was billed": ("update trace set billed_micros = 1 where trace_id = 't1'", "traces",
                        "trace t1 in proj-sandbox", "0.000001 was billed, and its entries come to 2.100000"),
    "what was waived": ("update trace set waived_micros = 0 where trace_id = 'waived'", "traces",
                        "trace waived in proj-sandbox", "0.000000 was waived, and its entries come to 3.100000"),
    "an early mark": ("update trace set mark_state = 'written' where trace_id = 'open'", "traces",
                      "trace open in proj-sandbox", "Stripe never accepted its money"),
    "a mark that never comes": ("update trace set mark_state = 'waiting' where trace_id = 't2'", "traces",
                                "trace t2 in proj-sandbox", "all of its money is settled"),
    "a decision's amount": ("update decision set amount_micros = 1 where decision_id = 2", "decisions",
                            "decision 2", "its amount is 0.000001, and its entries take 3.100000 back"),
    "a rate card": ("update rate_card set body = 'other'", "rate cards", "rate card card", "its digest is other"),
    "an index": ("drop index meter_event_in_flight", "schema", "the schema", "index meter_event_in_flight is missing"),
}  # fmt: skip


@pytest.fixture
def used(ledger):
    """A ledger with every kind of line, which holds."""
    return fill(ledger)


def rows_of(report, check):
    """The rows that a check found wrong, with why."""
    return {finding.row: finding.detail for finding in reversed(report.findings) if finding.check == check}


def test_a_ledger_that_holds_is_found_to_hold(used):
    """Every check looks at rows, and the heads are told; the check would be nothing without rows."""
    report = verified(used)

    assert report.findings == []
    assert {each.check: each.rows for each in report.checks} == {
        "database": 0, "schema": 0, "rows": 62, "chain of entries": 15, "chain of decisions": 3, "entries": 15,
        "meter events": 11, "carries": 18, "balances": 7, "traces": 9, "decisions": 3, "rate cards": 1,
    }  # fmt: skip
    assert (report.entries[:3], report.decisions[:2]) == ("15:", "3:")


def test_a_waiver_that_ends_is_gathered(used, ledger_url):
    """Usage that was waived came to less: so much of the waiver ends, by a line that no decision names."""
    trace = read_trace("waived")
    for line in (entry(trace, -400_000, kind="adjustment"), entry(trace, 400_000, kind="waiver")):
        used.record(RUN, [trace], lambda one, _, line=line: charge(one, line))
    gather_all(used)
    tamper(ledger_url, "update trace set billed_micros = 2700000, waived_micros = 2700000 where trace_id = 'waived'")

    assert verified(used).findings == []


def test_an_empty_ledger_holds(ledger):
    """Before the first sync."""
    report = verified(ledger)

    assert (report.holds, report.entries, report.decisions) == (True, "0:", "0:")


@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_tampered_with_is_named(used, ledger_url, look, what):
    """One edit of the file, past the triggers, and verify names the row and says what is wrong with it."""
    script, check, row, why = TAMPERED[what]
    if row.startswith("select"):
        row = f"meter event {look(row)[0][0]}"
    tamper(ledger_url, script)

    found = rows_of(verified(used), check)

    assert why in found[row]


DISARMED = {
    "sqlite": "drop trigger {0}; create trigger {0} before update on {1} when 0 begin select 1; end",
    "postgres": "alter table {1} disable trigger {0}",
}


@pytest.mark.parametrize("trigger", ["entry_is_append_only", "decision_is_never_deleted"])
def test_a_trigger_that_was_disarmed_is_missed(used, ledger_url, trigger, database):
    """What refuses edits must be there, and the lines are judged all the same."""
    run_script(ledger_url, DISARMED[database].format(trigger, trigger.partition("_")[0]))

    report = verified(used)

    assert rows_of(report, "schema") == {"the schema": f"the trigger {trigger} is missing or was changed"}
    assert len(report.checks) == 12


def test_a_trigger_that_was_added_is_told(used, ledger_url, database):
    """It may change what is written."""
    script = {
        "sqlite": "create trigger t after insert on entry begin select 1; end",
        "postgres": "create trigger t after insert on entry execute function refuse_edit()",
    }
    run_script(ledger_url, script[database])

    assert "the trigger t is none that" in rows_of(verified(used), "schema")["the schema"]


def test_a_table_that_was_added_is_told(used, ledger_url):
    """A ledger shares its place with nothing else."""
    run_script(ledger_url, "create table t (a bigint)")

    assert rows_of(verified(used), "schema") == {"the schema": "the table t is none that tallymark makes"}


@pytest.mark.databases("postgres")
def test_a_trigger_that_calls_something_else_is_told(used, ledger_url):
    """The trigger is as it was, and refuses nothing."""
    run_script(
        ledger_url,
        "create or replace function refuse_edit() returns trigger language plpgsql as $$ begin return new; end $$",
    )

    assert "the function refuse_edit is missing or was changed" in rows_of(verified(used), "schema")["the schema"]


def test_one_edit_is_one_finding_in_the_chain(used, ledger_url):
    """The lines behind an edited one are judged by the digest that it has, and hold."""
    tamper(ledger_url, "update entry set customer_id = 'cus_2' where entry_id = 3")

    assert list(rows_of(verified(used), "chain of entries")) == ["entry 3"]


def relink(url):
    """Make both chains fit again after an edit, as somebody could who knows how."""
    with without_triggers(url) as edit:
        chains = (("entry", entry_of, entry_content), ("decision", decision_of, decision_content))
        for table, line_of, content in chains:
            digest, number = "", 0
            for row in edit(f"select * from {table} order by 1"):
                digest, number = link(digest, content(line_of(row))), row[f"{table}_id"]
                edit(f"update {table} set digest = ? where {table}_id = ?", digest, number)
            edit("update chain set length = ?, digest = ? where name = ?", number, digest, table)


def test_a_ledger_that_was_rewritten_as_a_whole_shows_by_the_head_that_was_noted(used, ledger_url):
    """Whoever recomputes the chain passes every other check: that is why the heads are kept outside."""
    before = verified(used)
    entries, decisions = parse_head(before.entries), parse_head(before.decisions)
    assert verified(used, entries=entries, decisions=decisions).holds
    tamper(ledger_url, "update entry set components = 'x' where entry_id = 5; update decision set who = 'bob'")
    relink(ledger_url)

    assert verified(used).holds
    report = verified(used, entries=entries, decisions=decisions)

    assert "the digest noted earlier is" in rows_of(report, "chain of entries")["entry 15"]
    assert "the digest noted earlier is" in rows_of(report, "chain of decisions")["decision 3"]


def test_a_head_noted_earlier_holds_in_a_ledger_that_has_grown(used):
    """It is the digest of its line, for ever."""
    noted = parse_head(verified(used).entries)
    bill(used, "more", 1_000_000)

    assert verified(used, entries=noted).holds


def test_an_older_ledger_shows_by_the_head_that_was_noted(used):
    """A ledger that was replaced by an earlier copy of itself is in order, and too short."""
    report = verified(used, entries=Head(17, "0" * 64))

    assert "there were 17 lines when the head was noted" in rows_of(report, "chain of entries")["entry 17"]


def lane(*meter_events, carry):
    """Rows of one customer and meter: its carry, and (state, carry before, carry after) of each meter event."""
    rows = [("carry", 0, carry), *meter_events]
    names = ("state", "carry_before_micros", "carry_after_micros")
    place = {"customer_id": "cus_1", "meter": "credits"}
    return [
        {**place, "meter_event_id": number, **dict(zip(names, row, strict=True))} for number, row in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("rows", "row"),
    [
        (lane(("accepted", 0, 300), ("accepted", 300, 200), carry=200), None),
        (lane(("accepted", 300, 200), ("accepted", 0, 300), carry=200), None),
        (lane(("accepted", 0, 300), ("accepted", 400, 200), carry=100), "meter event 2"),
        (lane(("accepted", 0, 300), ("accepted", 300, 100), ("carried", 300, 500), carry=300), "meter event 3"),
        (lane(("accepted", 0, 300), ("cancelled", 300, 800), ("carried", 300, 400), carry=400), None),
        (lane(("accepted", 0, 300), ("cancelled", 300, 800), ("carried", 800, 900), carry=400), None),
        (
            lane(("accepted", 0, 300), ("cancelled", 300, 800), ("carried", 500, 600), ("held", 700, 800), carry=500),
            "meter event 3",
        ),
    ],
    ids=[
        "in order",
        "told in another order",
        "out of nothing",
        "begun twice",
        "before a withdrawal",
        "after it",
        "more",
    ],
)
def test_carries_form_a_row(rows, row):
    """Each meter event begins with what another left; a withdrawn one may break the row once, whenever that was."""
    found = [found for found in judges.carries(rows) if found]

    assert [each.row for each in found] == ([row] if row else [])


@pytest.mark.parametrize("text", ["", "5", "x:00", "5:00", "0:00", ":", "-1:" + "0" * 64, "5:" + "g" * 64])
def test_what_is_no_head_is_refused(text):
    """The command line says what it takes."""
    with pytest.raises(ConfigError, match="is no head of a chain: write LENGTH:DIGEST"):
        parse_head(text)


def test_findings_are_counted_beyond_those_that_are_kept(ledger, ledger_url):
    """A ledger that is wrong everywhere makes a list that can be read."""
    with_card(ledger)
    for number in range(FINDINGS_MAX + 5):
        bill(ledger, f"t{number}", 1_000_000)
    tamper(ledger_url, "update entry set run_id = 'x'")

    report = verified(ledger)

    assert len(report.findings) == FINDINGS_MAX
    assert [each.findings for each in report.checks if each.check == "chain of entries"] == [FINDINGS_MAX + 5]


def test_progress_is_told(ledger):
    """Of all rows that are going to be read."""
    with_card(ledger)
    for number in range(700):
        bill(ledger, f"t{number}", 1_000_000)
    told = []

    verified(ledger, progress=lambda *step: told.append(step))

    assert told == [("verify", number, 3500) for number in (1000, 2000, 3000)]


def test_one_moment_is_verified_while_others_write(used, monkeypatch, ledger_url):
    """Between two checks another process bills, gathers and adjusts; what is checked stays one moment."""
    from tallymark.ledger import open_ledger

    other = open_ledger(ledger_url)
    stream = type(used._db).stream

    def write_meanwhile(database, name, /, **values):
        bill(other, f"meanwhile {name}", 3_300_000)
        gather_all(other)
        adjust(other, "t2", 10, minutes_ago=130)
        return stream(database, name, **values)

    monkeypatch.setattr(type(used._db), "stream", write_meanwhile)
    report = verified(used)
    monkeypatch.undo()

    assert report.findings == []
    assert report.entries.startswith("15:")
    assert verified(used).holds
    other.close()


def test_a_ledger_of_the_rate_cards_of_another_is_found(used, ledger_url):
    """The digest of a card is recomputed from its text by whoever knows cards."""
    from tallymark.ledger.verify import NOTHING_NOTED, verify
    from tallymark.rating.cards import parse_card

    with used.one_moment() as db:
        report = verify(db, NOTHING_NOTED, lambda text: parse_card(text).digest, quiet)

    assert "it cannot be read" in rows_of(report, "rate cards")["rate card card"]


@pytest.mark.databases("sqlite")
def test_a_text_that_cannot_be_read_is_found_wherever_it_is(used, ledger_url):
    """A name that nothing adds up, and yet no copy could be made of it."""
    tamper(ledger_url, "update trace set name = cast(x'ff' as text) where trace_id = 't2'")

    found = rows_of(verified(used), "rows")

    assert found == {"trace, row 2 (OperationalError)": "it cannot be read, nor what follows in its table"}


def test_nothing_is_written(used, ledger_url):
    """Verifying is for reading."""
    before = everything(ledger_url)

    verified(used)

    assert everything(ledger_url) == before
    assert len(before["run"]) == 1
