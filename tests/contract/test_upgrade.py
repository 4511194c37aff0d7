"""From Langfuse 3 to 4 and back: no trace is billed twice, and what came late is billed all the same."""

import pytest
from observation_services import OBSERVATIONS, post, send_cost

from builders import CREDIT_MICROS, CREDITS_OF_A_TRACE, NOW_US, PROJECT, ingested
from tallymark import config
from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US, format_time
from tallymark.errors import WrongMode
from tallymark.sandbox.langfuse import SandboxLangfuse
from tallymark.sandbox.langfuse.records import Project
from tallymark.sandbox.story import tell
from tallymark.sandbox.stripe import SandboxStripe

STORY_FROM_US = NOW_US - 40 * DAY_US
TRACES = "/api/public/traces"


@pytest.fixture
def two_part(langfuse):
    """A function that writes a trace of two generations of 0.01 USD and 12 seconds together: 750 credits."""

    def write(trace_id, *, minutes_ago=60, **changes):
        trace, [first] = ingested(trace_id, minutes_ago=minutes_ago, **changes)
        langfuse.put_trace(PROJECT, trace, [first, {**first, "id": f"{trace_id}-second"}])

    return write


class Flipping:
    """A sandbox that becomes another generation after so many requests for pages."""

    def __init__(self, service, generation, after_pages, path):
        self.service, self.generation, self.left, self.path = service, generation, after_pages, path

    def handle(self, request):
        if request.path == self.path:
            if self.left == 0:
                self.service.set_generation(self.generation)
            self.left -= 1
        return self.service.handle(request)


class Replaced:
    """An address behind which another server may come to stand."""

    def __init__(self, service):
        self.service = service

    def handle(self, request):
        return self.service.handle(request)


def results_of(summary):
    counted = {"processed": summary.processed, "failed": summary.failed, **summary.skipped, **summary.held}
    return {result: traces for result, traces in counted.items() if traces}


# ---- upgrade


@pytest.mark.parametrize("generation", ["events_only", "dual"])
@pytest.mark.parametrize("full", [False, True])
def test_an_upgrade_bills_nothing_again(generation, full, langfuse, run, balance, stripe):
    """The story, billed on version 3, then seen through version 4: no meter event, no adjustment, whatever is read."""
    for told in tell(300, NOW_US):
        langfuse.put_trace(PROJECT, told.trace, told.observations)
    run(from_us=STORY_FROM_US)
    before, sent = balance(), len(stripe.meter_events())

    langfuse.set_generation(generation)
    again = run(full=True) if full else run(from_us=STORY_FROM_US)

    assert again.source == {"events_only": "observations", "dual": "traces"}[generation]
    assert (again.processed, again.adjusted, again.credits) == (0, 0, "0.000000")
    assert (balance(), len(stripe.meter_events())) == (before, sent)


def test_only_late_usage_is_billed_after_an_upgrade(two_part, langfuse, run, balance, stripe):
    """Of many traces some get a late observation, cheaper or dearer than all that was billed: just that is billed."""
    for number in range(20):
        two_part(f"t{number}", customer=f"cus_{number}", minutes_ago=60 + number)
    run()
    before = balance()
    langfuse.set_generation("events_only")
    late = {"t3": 0.002, "t4": 0.01, "t5": 0.5}
    for trace_id, cost_usd in late.items():
        send_cost(langfuse, trace_id, f"{trace_id}-late", cost_usd, at_us=NOW_US - (60 + int(trace_id[1:])) * MINUTE_US)

    summary = run()

    grown = {f"cus_{trace_id[1:]}": round(cost_usd * 25_000) * CREDIT_MICROS for trace_id, cost_usd in late.items()}
    assert summary.adjusted == len(late)
    assert {customer: now - before[customer] for customer, now in balance().items() if now != before[customer]} == grown
    assert run().adjusted == run(full=True).adjusted == 0
    assert sum(balance().values()) == sum(before.values()) + sum(grown.values())


@pytest.mark.parametrize("cost_usd", [0.0004, 0.01, 0.02, 0.3])
def test_late_usage_of_an_old_trace_is_billed_by_the_next_run(cost_usd, two_part, langfuse, run, balance):
    """The trace itself lies far outside of what the run reads; its late observation lies within the overlap."""
    two_part("t1", minutes_ago=3 * 24 * 60)
    two_part("t2", customer="cus_2")
    run()
    before = balance()
    langfuse.set_generation("events_only")
    send_cost(langfuse, "t1", "late", cost_usd, at_us=NOW_US - HOUR_US, parent="t-t1")

    first, second = run(), run(full=True)

    assert (first.adjusted, second.adjusted) == (1, 0)
    seconds = 3 * 86_400 - 3600 - 12
    assert balance()["cus_1"] == before["cus_1"] + micros(cost_usd) + seconds_micros(seconds)
    assert balance()["cus_2"] == before["cus_2"]


def micros(cost_usd):
    return round(cost_usd * 25_000) * CREDIT_MICROS


def seconds_micros(seconds):
    """Time of a trace at the default price: 0.05 USD a minute; 12 seconds are 250 credits."""
    return round(seconds * 250 / 12 * CREDIT_MICROS)


def test_old_traces_are_read_by_id_at_most_once(two_part, langfuse, run):
    """What a window shows of a trace that version 3 billed is compared; from then on it is known by its parts."""
    for number in range(30):
        two_part(f"t{number}", minutes_ago=20 + number)
    run()
    langfuse.set_generation("events_only")
    send_cost(langfuse, "t0", "late", 0.01, parent="t-t0")
    asked = []
    for _ in range(3):
        langfuse.clear_requests()
        run(full=True)
        asked.append(sum("traceId" in query for _, _, query in langfuse.requests()))

    assert asked == [1, 0, 0]


def test_late_usage_that_happens_to_equal_the_bill_is_not_taken_for_it(two_part, langfuse, run, balance):
    """A part of a trace that comes to just what was billed says nothing, as long as the root is not there."""
    two_part("t1", minutes_ago=24 * 60, seconds=0)
    two_part("t2", customer="cus_2")
    run()
    langfuse.set_generation("events_only")
    send_cost(langfuse, "t1", "late", 0.02, at_us=NOW_US - HOUR_US)

    assert run().adjusted == 1
    assert balance()["cus_1"] == 2 * micros(0.02) + seconds_micros(23 * 3600)


@pytest.mark.parametrize("full", [False, True])
def test_a_trace_that_lost_a_part_in_the_upgrade_keeps_its_bill(
    full, clock, two_part, langfuse, run, settings, balance
):
    """Another generation that shows less is no reason to give money back (docs/adr/0005)."""
    two_part("t1", seconds=0)
    moved = SandboxLangfuse(clock=clock, generation="events_only")
    moved.put_trace(PROJECT, *ingested("t1", seconds=0))
    server = Replaced(langfuse)
    to = settings(read_from=server)
    run(to)
    server.service = moved

    assert (run(to, full=full).adjusted, balance()) == (0, {"cus_1": 500 * CREDIT_MICROS})


def test_late_usage_older_than_the_overlap_is_found_by_a_full_run(two_part, langfuse, run, balance):
    """As with version 3: an incremental run reads the overlap, --full the whole look-back."""
    two_part("t1", minutes_ago=24 * 60)
    two_part("t2")
    run()
    langfuse.set_generation("events_only")
    before = balance()
    send_cost(langfuse, "t1", "late", 0.001, at_us=NOW_US - DAY_US)

    assert (run().adjusted, run(full=True).adjusted) == (0, 1)
    assert balance()["cus_1"] == before["cus_1"] + micros(0.001)


def test_new_traces_after_an_upgrade_are_billed_and_marked_by_score(put, langfuse, run, stripe):
    """The change of generation is noticed by the version, without a word from anybody."""
    put("t1")
    run()
    langfuse.set_generation("events_only")
    put("t2", customer="cus_2")

    summary = run()

    assert (summary.source, summary.processed) == ("observations", 1)
    assert stripe.tally() == {("cus_1", "credits"): 500, ("cus_2", "credits"): 500}
    assert [score["stringValue"] for score in langfuse.scores(PROJECT, "t2")] == ["processed"]


def test_the_same_version_in_another_mode_is_noticed(put, langfuse, run, stripe):
    """A version 4 server switched from dual to events_only: its 404 says so, and the same run goes on."""
    langfuse.set_generation("dual")
    put("t1")
    assert run().source == "traces"
    langfuse.set_generation("events_only")
    put("t2", customer="cus_2")

    assert run().processed == 1
    assert stripe.tally() == {("cus_1", "credits"): 500, ("cus_2", "credits"): 500}


@pytest.mark.parametrize("sent_seconds_late", [0, 600, 3600])
def test_from_events_only_to_dual_nothing_is_lost(sent_seconds_late, put, langfuse, run, clock, stripe):
    """The same version in another mode: observations are read on. They are complete, and what the ingestion API sends
    is 11 minutes late there: the settle delay and the overlap cover that, also for what was sent late itself.
    """
    langfuse.set_generation("events_only")
    put("t1")
    assert run().source == "observations"
    langfuse.set_generation("dual")
    trace, [generation] = ingested("t2", at_us=clock.now_us(), customer="cus_2")
    _run_every_five_minutes(run, clock, sent_seconds_late)
    bodies = {"trace-create": trace, "generation-create": {**generation, "traceId": "t2"}}
    batch = [
        {"id": kind, "type": kind, "timestamp": format_time(clock.now_us()), "body": body}
        for kind, body in bodies.items()
    ]
    assert post(langfuse, "ingestion", {"batch": batch}).status == 207

    last = _run_every_five_minutes(run, clock, 1800)

    assert last.source == "observations"
    assert stripe.tally() == {("cus_1", "credits"): 500, ("cus_2", "credits"): 500}


def _run_every_five_minutes(run, clock, seconds):
    summary = run()
    for _ in range(0, seconds, 300):
        clock.advance(300)
        summary = run()
    return summary


def test_a_trace_that_was_held_on_version_3_can_be_billed_on_version_4(put, langfuse, run, settings, stripe):
    """Held traces are read again when the settings change, through whatever generation there is."""
    put("t1", customer=None, minutes_ago=3 * 24 * 60)
    put("t2", customer="cus_2")
    assert results_of(run()) == {"processed": 1, "no_customer": 1}
    langfuse.set_generation("events_only")

    run(settings(BILLING_DEFAULT_STRIPE_CUSTOMER_ID="cus_9"))

    assert stripe.tally() == {("cus_2", "credits"): 500, ("cus_9", "credits"): 500}


# ---- downgrade


@pytest.mark.parametrize("full", [False, True])
def test_going_back_to_version_3_bills_nothing(full, two_part, langfuse, run, balance, stripe):
    """Traces billed from their observations, seen in the trace list: the same total."""
    langfuse.set_generation("events_only")
    for number in range(10):
        two_part(f"t{number}", minutes_ago=60 + 7 * number)
    assert run().processed == 10
    before = balance()
    langfuse.set_generation("legacy")

    again = run(full=full)

    assert (again.source, again.processed, again.adjusted) == ("traces", 0, 0)
    assert balance() == before


def test_there_and_back_again(two_part, langfuse, run, balance):
    """Late usage at every step is billed once, however often the server changes."""
    two_part("t1")
    billed = 750 * CREDIT_MICROS
    for step, generation in enumerate(("legacy", "events_only", "legacy", "dual", "events_only", "legacy")):
        langfuse.set_generation(generation)
        if step:
            send_cost(langfuse, "t1", f"late-{step}", 0.001 * step)
            billed += micros(0.001 * step)
        run(full=True)
        assert balance() == {"cus_1": billed}


# ---- the mode changes in the middle of a run


@pytest.mark.parametrize("pages", range(1, 6))
def test_a_mode_that_changes_in_the_middle_of_a_run_is_read_on_with(pages, put, langfuse, run, settings, stripe):
    """Some pages of the trace list, then 404: the same run ends through observations, every trace billed once."""
    for number in range(350):
        put(f"t{number:03d}", minutes_ago=20 + number)

    summary = run(settings(read_from=Flipping(langfuse, "events_only", pages, TRACES)))

    assert (summary.fetched, summary.processed) == (350, 350)
    reason = "the server no longer lists traces (events_only)"
    assert (summary.source, summary.server_version) == ("observations", "4.16.0")
    assert summary.source_reason == f"the mode changed during the run: {reason}"
    assert run(settings(read_from=langfuse)).source_reason == reason
    assert stripe.tally() == {("cus_1", "credits"): 350 * CREDITS_OF_A_TRACE}
    assert run(full=True).processed == 0


def test_a_mode_that_changes_back_in_the_middle_of_a_run(put, langfuse, run, settings, stripe):
    """Observations that are gone while they are read: "only available in a v4 write mode" is the mode, too."""
    langfuse.set_generation("events_only")
    for number in range(1200):
        put(f"t{number:04d}", at_us=NOW_US - HOUR_US - number * MINUTE_US)

    # The first request for observations is the probe's.
    summary = run(settings(read_from=Flipping(langfuse, "legacy", 2, OBSERVATIONS)))

    assert summary.processed == 1200
    assert (summary.source, summary.server_version) == ("traces", "3.225.4")
    assert summary.source_reason == "the mode changed during the run: the trace list can be read"
    assert stripe.tally() == {("cus_1", "credits"): 1200 * CREDITS_OF_A_TRACE}


def test_a_server_that_loses_both_generations_is_an_error(put, langfuse, run, settings):
    """404 everywhere is not "no traces": the run says so and covers nothing."""
    put("t1")
    langfuse.set_generation("dual")
    run()
    put("t2", minutes_ago=30)

    with pytest.raises(Exception, match="neither GET /traces nor GET /v2/observations") as caught:
        run(settings(BILLING_SOURCE="auto", read_from=Neither(langfuse)))
    assert not isinstance(caught.value, WrongMode)
    assert run().processed == 1


class Neither:
    """A server that has neither list."""

    def __init__(self, service):
        self.service = service

    def handle(self, request):
        if request.path in (TRACES, OBSERVATIONS):
            request = type(request)(request.method, "/api/public/v9/nothing", (), request.headers)
        return self.service.handle(request)


# ---- two projects at once


@pytest.fixture
def two_projects(clock, serving, ledger_path, tmp_path):
    """One project on version 3, one on version 4; the settings that name both; and a Stripe."""
    legacy = SandboxLangfuse(clock=clock, projects=[Project("proj-old", "pk-lf-old", "sk-lf-old", "old")])
    modern = SandboxLangfuse(
        clock=clock, generation="events_only", projects=[Project("proj-new", "pk-lf-new", "sk-lf-new", "new")]
    )
    stripe = SandboxStripe(clock=clock)
    stripe.add_meter("credits")
    file = tmp_path / "tallymark.toml"
    tables = [
        f'[projects.{name}]\nbase_url = "{serving(server)}"\npublic_key = "pk-lf-{name}"\nsecret_key = "sk-lf-{name}"'
        for name, server in (("old", legacy), ("new", modern))
    ]
    file.write_text("\n".join(tables))
    settings = config.load(
        file,
        {
            "STRIPE_API_BASE": serving(stripe),
            "STRIPE_SECRET_KEY": "sk_test_sandbox",
            "BILLING_LEDGER_URL": f"sqlite:///{ledger_path}",
        },
    )
    return legacy, modern, settings, stripe


def test_one_project_of_each_generation_in_one_run(two_projects, run):
    """The same trace ids in both projects are different traces; each is marked as its server takes it."""
    legacy, modern, settings, stripe = two_projects
    for project_id, server, customer in (("proj-old", legacy, "cus_old"), ("proj-new", modern, "cus_new")):
        for number in range(5):
            server.put_trace(project_id, *ingested(f"t{number}", customer=customer))

    summary = run(settings)

    assert (summary.source, summary.server_version) == ("observations, traces", "3.225.4, 4.16.0")
    assert (summary.fetched, summary.processed, summary.marks.written) == (10, 10, 10)
    assert stripe.tally() == {("cus_old", "credits"): 2500, ("cus_new", "credits"): 2500}
    assert "billing:processed" in legacy.trace("proj-old", "t0")["tags"]
    assert modern.scores("proj-new", "t0")[0]["stringValue"] == "processed"
    assert (run(settings).processed, run(settings, full=True).processed) == (0, 0)


def test_one_of_two_projects_is_upgraded(two_projects, run):
    """The other is not disturbed."""
    legacy, modern, settings, stripe = two_projects
    legacy.put_trace("proj-old", *ingested("t1", customer="cus_old"))
    modern.put_trace("proj-new", *ingested("t1", customer="cus_new"))
    run(settings)
    legacy.set_generation("events_only")
    legacy.put_trace("proj-old", *ingested("t2", customer="cus_old"))

    summary = run(settings)

    assert (summary.source, summary.processed, summary.adjusted) == ("observations", 1, 0)
    assert stripe.tally() == {("cus_old", "credits"): 1000, ("cus_new", "credits"): 500}
