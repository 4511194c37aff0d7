"""`tallymark doctor` finds each problem that was planted, says what to do, and writes nothing to anybody."""

from email.utils import formatdate

import pytest

from tallymark.clock import SystemClock
from tallymark.core.clock import SECOND_US
from tallymark.flows.doctor import Finding, worst
from tallymark.sandbox.langfuse import SandboxLangfuse
from tallymark.sandbox.stripe import SandboxStripe
from tallymark.sandbox.wire import Response
from worlds import open_world

NOTHING = {}
WRONG_KEY = "sk_test_of_somebody_else"
# Nothing listens on the discard port of loopback.
NOWHERE = "http://127.0.0.1:9"


class Around:
    """A Langfuse between tallymark and the sandbox that changes answers."""

    def __init__(self, change):
        self.langfuse, self.change = SandboxLangfuse(clock=SystemClock()), change

    def __getattr__(self, name):
        return getattr(self.langfuse, name)

    def handle(self, request):
        """Let the sandbox answer, then change it."""
        return self.change(request, self.langfuse.handle(request))


def with_date(seconds_off):
    """A server whose clock differs from ours."""
    return Around(
        lambda request, response: Response(
            response.status,
            response.body,
            {**response.headers, "date": formatdate(SystemClock().now_us() / SECOND_US + seconds_off, usegmt=True)},
        )
    )


def without_traces():
    """A server that no longer lists traces, as Langfuse v4 does by default."""
    gone = Response(404, b'{"message":"Not found","error":"NotFoundError"}')
    return Around(lambda request, response: gone if request.path == "/api/public/traces" else response)


def stripe_with(*meters, **options):
    """A Stripe with these meters of the name "credits"."""
    stripe = SandboxStripe(clock=SystemClock(), **options)
    for meter in meters:
        stripe.add_meter("credits", **meter)
    return stripe


def findings_of(world, **settings):
    """What the doctor says: its exit status, and (check, status, detail) of each finding."""
    ended = world.run("doctor", "--json", **settings)
    return ended.status, [(row["check"], row["status"], row["detail"]) for row in ended.json["findings"]]


def test_all_is_well(tmp_path):
    """Every check is named; nothing is written to Langfuse or Stripe."""
    with open_world(tmp_path, langfuse=with_date(1), stripe=stripe_with({}, any_customer=False)) as world:
        world.stripe.add_customer("cus_here")
        status, findings = findings_of(world, BILLING_DEFAULT_STRIPE_CUSTOMER_ID="cus_here")

        assert (status, {verdict for _, verdict, _ in findings}) == (0, {"ok"})
        assert {check for check, _, _ in findings} == {
            "settings",
            "langfuse default",
            "clock",
            "stripe",
            "customers",
            "periods",
            "ledger",
        }
        asked = [*world.langfuse.counts(), *world.stripe.counts()]
        # One meter event that names no meter, and that Stripe therefore refuses: whether the key may write them.
        assert [line for line in asked if not line.startswith("GET ")] == ["POST /v1/billing/meter_events"]
        assert (world.stripe.meter_events(), world.stripe.tally()) == ([], {})


def test_the_stream_is_tried_and_nothing_is_sent_through_it(tmp_path):
    """A session is opened, which a key that may not write meter events could not do."""
    with open_world(tmp_path, langfuse=with_date(1), stripe=stripe_with({})) as world:
        status, findings = findings_of(world, BILLING_METER_API="stream")

        assert status == 0
        assert any("meter events go by the stream" in detail for _, _, detail in findings)
        assert world.stripe.counts()["POST /v2/billing/meter_event_session"] == 1
        assert world.stripe.meter_events() == []


@pytest.mark.parametrize(
    ("settings", "check", "words", "expected_status"),
    [
        ({"LANGFUSE_SECRET_KEY": None}, "langfuse default", "LANGFUSE_SECRET_KEY", 2),
        ({"LANGFUSE_SECRET_KEY": WRONG_KEY}, "langfuse default", "LANGFUSE_SECRET_KEY", 2),
        ({"BILLING_STRIPE_SECRET_KEY": None}, "stripe", "BILLING_STRIPE_SECRET_KEY", 2),
        ({"BILLING_STRIPE_SECRET_KEY": WRONG_KEY}, "stripe", "BILLING_STRIPE_SECRET_KEY", 2),
        ({"BILLING_METER_EVENT_NAME": "tokens"}, "stripe", "no meter of the event name 'tokens'", 2),
        ({"BILLING_STRIPE_CREDITS_METER_ID": "mtr_other"}, "stripe", "BILLING_STRIPE_CREDITS_METER_ID", 2),
        ({"STRIPE_API_BASE": NOWHERE}, "stripe", "STRIPE_API_BASE", 3),
        ({"BILLING_DEFAULT_STRIPE_CUSTOMER_ID": "cus_nobody"}, "customers", "cus_nobody", 2),
        ({"BILLING_LEDGER_URL": "sqlite:////dev/null/ledger.sqlite3"}, "ledger", "ledger", 4),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_setting_is_named(tmp_path, settings, check, words, expected_status):
    """One problem was planted, and one is found; the exit status is the one that a sync would end with."""
    with open_world(tmp_path, stripe=stripe_with({}, any_customer=False)) as world:
        status, findings = findings_of(world, **settings)

        problems = [(found, detail) for found, verdict, detail in findings if verdict == "problem"]
        assert (status, [found for found, _ in problems]) == (expected_status, [check])
        assert words in problems[0][1]


@pytest.mark.parametrize(
    ("services", "check", "words"),
    [
        ({"stripe": stripe_with()}, "stripe", "no meter"),
        ({"stripe": stripe_with({"active": False})}, "stripe", "inactive"),
        ({"stripe": stripe_with({}, {})}, "stripe", "2 active meters"),
        ({"stripe": stripe_with({"formula": "count"})}, "stripe", "sums"),
        ({"stripe": stripe_with({"window": "hour"})}, "stripe", "last meter event of each hour"),
        ({"stripe": stripe_with({"customer_key": "customer"})}, "stripe", "stripe_customer_id"),
        ({"langfuse": with_date(-600)}, "clock", "NTP"),
        ({"langfuse": without_traces()}, "langfuse default", "offers neither"),
        (
            {"langfuse": SandboxLangfuse(clock=SystemClock(), version="3.100.0")},
            "langfuse default",
            "upgrade",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_server_is_found(tmp_path, services, check, words):
    """One problem was planted, and one is found."""
    with open_world(tmp_path, **services) as world:
        status, findings = findings_of(world)

        problems = [(found, detail) for found, verdict, detail in findings if verdict == "problem"]
        assert (status, [found for found, _ in problems]) == (2, [check]), findings
        assert words in problems[0][1]


@pytest.mark.parametrize(("generation", "verdict"), [("legacy", "ok"), ("events_only", "warning")])
def test_tag_filtering_is_told(tmp_path, generation, verdict):
    """Where the server cannot be asked by tag, it saves nothing and skips untagged traces: a warning."""
    langfuse = SandboxLangfuse(clock=SystemClock(), generation=generation)
    with open_world(tmp_path, langfuse=langfuse) as world:
        status, findings = findings_of(world, BILLING_USE_TAG_FILTERING="true")

        told = [(found, detail) for _, found, detail in findings if "tag filtering is on" in detail]
        assert (status, [found for found, _ in told]) == (0, [verdict])
        assert "without billing:pending" in told[0][1]
        assert not [detail for *_, detail in findings_of(world)[1] if "filtering" in detail]


@pytest.mark.parametrize(
    ("statuses", "expected"), [((), 0), ((0, 0), 0), ((0, 3), 3), ((3, 4), 4), ((3, 0, 2), 2), ((4, 2), 2)]
)
def test_of_several_problems_the_one_to_mend_decides_the_exit_status(statuses, expected):
    """A service that cannot be reached may come back by itself; a wrong setting does not go away."""
    findings = [Finding("check", "problem" if status else "ok", "", status) for status in statuses]

    assert worst(findings) == expected


def test_json_says_of_each_finding_what_it_makes_of_the_exit_status(tmp_path):
    """Whoever scripts can tell an outage from a setting, finding by finding."""
    with open_world(tmp_path) as world:
        ended = world.run("doctor", "--json", STRIPE_API_BASE=NOWHERE)

        assert {(row["status"], row["exit_status"]) for row in ended.json["findings"]} == {("ok", 0), ("problem", 3)}


def test_people_get_a_table(tmp_path):
    """The same findings, line by line."""
    with open_world(tmp_path) as world:
        ended = world.run("doctor", BILLING_METER_EVENT_NAME="tokens")

        assert ended.status == 2
        assert any(line.startswith("stripe") and "problem" in line for line in ended.out.splitlines())
