"""What waits for a person, over the API: listed, planned with its money, decided once; rules, and the log of it."""

import pytest

from databases import DATABASES
from tallymark.errors import ConfigError
from tallymark.flows.held_decisions import waive
from tallymark.flows.inbox import decisions, held_meter_events, held_traces
from tallymark.flows.paging import every
from tallymark.sandbox.stripe import SandboxStripe
from web_callers import READER

WHY = "ticket 4711"


@pytest.fixture
def waiting(put, run):
    """Three traces that name no customer and one without a cost; and one that is billed."""
    for number in range(3):
        put(f"nobodys-{number}", minutes_ago=100 - number, customer=None)
    put("unpriced", minutes_ago=80, cost=None)
    put("billed", minutes_ago=70)
    return run()


@pytest.fixture
def decide(api):
    """A function: say something about what is held; the answer."""

    def say(token=None, **word):
        word = {"choice": "customer", "why": WHY, **word}
        return api("POST", "/held/decisions", json=word, **({"token": token} if token else {}))

    return say


def test_what_waits_is_listed_by_reason_and_in_pages(waiting, api):
    """With amounts and remedies; a reader sees all of it."""
    found = api("GET", "/held", token=READER).json()
    first = api("GET", "/held/traces", params={"reason": "no_customer", "limit": 2}).json()
    rest = api("GET", "/held/traces", params={"reason": "no_customer", "limit": 2, "cursor": first["next"]}).json()

    assert [(one["reason"], one["traces"], one["credits"]) for one in found["reasons"]] == [
        ("no_customer", 3, "1500.000000"),
        ("unpriced", 1, "0.000000"),
    ]
    assert all(one["remedy"] for one in found["reasons"]) and found["policy"]["late_period"] == "hold"
    assert [one["trace_id"] for one in (*first["items"], *rest["items"])] == [f"nobodys-{n}" for n in range(3)]
    assert rest["next"] is None
    assert api("GET", "/held/meter-events").json() == {"items": [], "next": None}


def test_one_thing_is_shown_with_its_choices(waiting, api):
    """By its id, or with its project; what does not wait has none."""
    (item,) = api("GET", "/held/traces", params={"reason": "unpriced"}).json()["items"]
    found = api("GET", f"/held/{item['identity']}").json()

    assert (found["kind"], found["reason"], found["identity"]) == ("trace", "unpriced", item["identity"])
    assert [one["choice"] for one in found["choices"]] == ["as-is", "customer", "waive"]
    assert api("GET", "/held/billed").json()["choices"] == []
    assert api("GET", "/held/nothing").status_code == 404


def test_a_plan_tells_the_money_and_decides_nothing(waiting, api, decide):
    """A dry run, for a whole reason or for some ids."""
    whole = decide(reason="no_customer", customer="cus_9", dry_run=True).json()
    one = decide(ids=["nobodys-1"], customer="cus_9", dry_run=True).json()

    assert (whole["count"], whole["credits"], whole["dry_run"]) == (3, "1500.000000", True)
    assert one["decisions"] == [{"subject": "nobodys-1", "credits": "500.000000", "decision": None}]
    assert api("GET", "/decisions").json()["items"] == []


def test_a_decision_bills_what_was_expected_and_nothing_else(waiting, api, decide, put, run, stripe):
    """Refused while it is worth something else than was shown; then kept with who, and billed by the next sync."""
    put("nobodys-3", minutes_ago=60, customer=None)
    run()
    word = {"reason": "no_customer", "customer": "cus_9", "expected_credits": "1500.000000", "expected_count": 3}
    refused = decide(**word)
    assert (refused.status_code, "2000.000000 credits in 4" in refused.json()["detail"]) == (422, True)
    assert decide(**{**word, "expected_credits": "2000.000000"}).status_code == 422

    made = decide(**{**word, "expected_credits": "2000.000000", "expected_count": 4}).json()
    run()

    assert [one["decision"] for one in made["decisions"]] == [1, 2, 3, 4]
    assert stripe.tally()["cus_9", "credits"] == 2000
    newest = api("GET", "/decisions", params={"limit": 1}).json()
    assert (newest["items"][0]["decision"], newest["items"][0]["who"]) == (4, "the API's operator")
    assert newest["items"][0]["why"] == WHY and newest["items"][0]["evidence"] == {"customer_id": "cus_9"}
    older = api("GET", "/decisions", params={"cursor": newest["next"]}).json()
    assert [one["decision"] for one in older["items"]] == [3, 2, 1]


def test_what_changes_in_the_last_moment_is_refused_too(waiting, settings, put, run, clock, look):
    """Between the look at the money and the decision another process read the trace again."""

    def confirm(plan):
        put("nobodys-1", minutes_ago=99, customer=None, cost="0.02")
        return bool(run(full=True))

    with pytest.raises(ConfigError, match="worth something else"):
        waive(settings(), ["nobodys-1"], why=WHY, by="Ada", confirm=confirm, clock=clock)
    assert look("select count(*) from decision") == [(0,)]


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ({"choice": "burn", "ids": ["nobodys-0"]}, 400),
        ({"why": "", "ids": ["nobodys-0"], "customer": "cus_9"}, 400),
        ({"why": " ", "ids": ["nobodys-0"], "customer": "cus_9"}, 422),
        ({"why": "\0", "ids": ["nobodys-0"], "customer": "cus_9"}, 422),
        ({"ids": ["nobodys-0"]}, 422),
        ({"ids": [], "customer": "cus_9"}, 422),
        ({"ids": ["nobodys-0"], "reason": "no_customer", "customer": "cus_9"}, 422),
        ({"ids": ["billed"], "customer": "cus_9"}, 422),
        ({"ids": ["nobodys-0"], "choice": "arrived"}, 422),
        ({"ids": ["nothing"], "customer": "cus_9"}, 404),
        ({"reason": "nothing", "customer": "cus_9"}, 404),
    ],
)
def test_a_word_that_makes_no_sense_is_refused(waiting, api, decide, word, status):
    """And nothing is decided."""
    answer = decide(**word)

    assert (answer.status_code, bool(answer.json()["detail"])) == (status, True)
    assert api("GET", "/decisions").json()["items"] == []


def test_only_an_operator_decides(waiting, api, decide):
    """A reader's word is refused."""
    assert decide(token=READER, reason="no_customer", customer="cus_9").status_code == 403
    rule = {"kind": "user", "value": "user-1", "customer": "cus_9", "why": WHY}
    assert api("POST", "/customer-rules", token=READER, json=rule).status_code == 403
    assert api("DELETE", "/customer-rules", token=READER, params=rule).status_code == 403


def test_rules_are_made_and_withdrawn(waiting, api, run, stripe):
    """A rule bills what is held of its user; each step is a decision."""
    rule = {"kind": "user", "value": "user-1", "customer": "cus_9", "why": WHY}
    made = api("POST", "/customer-rules", json=rule).json()
    run()

    assert made == {"decision": 1, "subject": "user user-1"}
    assert stripe.tally()["cus_9", "credits"] == 1500
    (told,) = api("GET", "/customer-rules").json()["items"]
    assert (told["value"], told["customer"], told["who"]) == ("user-1", "cus_9", "the API's operator")
    gone = api("DELETE", "/customer-rules", params={"kind": "user", "value": "user-1", "why": "left"})
    assert gone.json()["decision"] == 2
    assert api("GET", "/customer-rules").json()["items"] == []
    assert (
        api("DELETE", "/customer-rules", params={"kind": "user", "value": "user-1", "why": "left"}).status_code == 422
    )
    assert api("POST", "/customer-rules", json={**rule, "value": " "}).status_code == 422


@pytest.mark.databases(*DATABASES)
def test_both_databases_list_the_same(waiting, ledger, run, settings, put, clock):
    """Every statement, row by row: traces that are held, a meter event that was refused, and decisions."""
    strict = SandboxStripe(clock=clock, any_customer=False, unknown_customer="sync")
    strict.add_meter("credits")
    put("refused", minutes_ago=65, customer="cus_3")
    run(settings(bill_to=strict))
    waive(settings(), ["nobodys-1", "nobodys-2"], why=WHY, by="Ada", clock=clock)

    traces = list(every(lambda cursor: held_traces(ledger, "", 1, cursor)))
    events = list(every(lambda cursor: held_meter_events(ledger, "", 1, cursor)))
    made = list(every(lambda cursor: decisions(ledger, 1, cursor)))

    assert [(one.trace_id, one.reason) for one in traces] == [("nobodys-0", "no_customer"), ("unpriced", "unpriced")]
    assert [(one.customer, one.state) for one in events] == [("cus_3", "rejected")]
    assert held_meter_events(ledger, "rejected", 1).items == events
    assert [one["decision"] for one in made] == [2, 1]
