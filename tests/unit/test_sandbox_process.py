"""The sandbox as a process: it says when it is ready, answers, and never outlives who started it."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from tallymark import config
from tallymark.core.clock import HOUR_US, format_time
from tallymark.core.credits import MICROS_PER_CREDIT
from tallymark.errors import TallymarkError
from tallymark.flows.sync import sync
from tallymark.ledger import open_ledger
from tallymark.sandbox.controls import FaultPlan
from tallymark.sandbox.http import serve
from tallymark.sandbox.process import METER_EVENT_NAME, WEBHOOK_SECRET, Options, Ready, environment_of, start
from tallymark.sandbox.story import expect, tell
from tallymark.sandbox.stripe.core_events import signature
from tallymark.sandbox.wire import Response
from worlds import until

MODULE = [sys.executable, "-m", "tallymark.sandbox.process"]


def status_of(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def ended(pipe):
    """Wait until the other end of a pipe is closed, which the kernel does when its process ends."""
    return pipe.read() == b""


def test_a_sync_through_the_process_bills_what_the_story_is_worth(tmp_path):
    """Its environment is all that tallymark needs, and its tally with the carry is the story's worth to the micro."""
    with start(Options(story=300, seed=3)) as sandbox:
        settings = sandbox.environment() | {"BILLING_LEDGER_URL": f"sqlite:///{tmp_path / 'ledger.db'}"}
        summary = sync(config.load(None, settings))
        expected = expect(tell(300, sandbox.ready.now_us, 3))
        assert sandbox.ready.traces == 300
        assert summary.processed == expected.results["processed"] > 0
        tally = sandbox.tally()
    ledger = open_ledger(settings["BILLING_LEDGER_URL"])
    carry = {row["customer_id"]: row["carry_micros"] for row in ledger.query("balances")}
    ledger.close()
    counted = {one: tally.get(one, 0) * MICROS_PER_CREDIT + carry.get(one, 0) for one in expected.micros}
    assert counted == dict(expected.micros)


def test_both_services_show_what_they_received():
    """The sandbox's own routes need no key and are not counted."""
    with start() as sandbox:
        assert status_of(f"{sandbox.urls['langfuse']}/api/public/health") == 200
        assert sandbox.counts("langfuse") == {"GET /api/public/health": 1}
        assert sandbox.counts("stripe") == {}
        assert sandbox.tally() == {}


def test_faults_strike_the_api_and_spare_the_tally():
    """A rate of 1 makes every request fail."""
    with start(Options(faults={"error_before": 1.0})) as sandbox:
        assert status_of(f"{sandbox.urls['langfuse']}/api/public/health") == 503
        assert status_of(f"{sandbox.urls['stripe']}/v1/billing/meters") == 503
        assert sandbox.tally() == {}


def send(sandbox, identifier, timeout_seconds=10):
    """Send a meter event of 5 credits as a plain HTTP request; the status, or None if nobody answered."""
    body = f"event_name={METER_EVENT_NAME}&identifier={identifier}&payload[stripe_customer_id]=cus_1&payload[value]=5"
    headers = {"authorization": f"Bearer {sandbox.ready.stripe_secret_key}"}
    request = urllib.request.Request(f"{sandbox.urls['stripe']}/v1/billing/meter_events", body.encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout_seconds) as response:
            return response.status
    except TimeoutError:
        return None


HANG = FaultPlan(rates={"hang_after": 1.0}, method="POST", path_prefix="/v1/billing/meter_events", hang_seconds=20)


def test_stripe_accepts_and_never_answers_for_a_while():
    """The fault is switched on and off while it runs, and strikes meter events alone; what was accepted counts."""
    with start() as sandbox:
        sandbox.set_faults(HANG)
        assert send(sandbox, "one", timeout_seconds=0.5) is None
        assert status_of(f"{sandbox.urls['stripe']}/v1/billing/meters") == 401
        sandbox.set_faults()
        assert send(sandbox, "two") == 200
        assert sandbox.tally() == {"cus_1": 10}


def test_faults_of_stripe_alone_can_be_given_at_the_start():
    """They take the place of those of both services."""
    with start(Options(faults={"error_before": 1.0}, stripe_faults=HANG)) as sandbox:
        assert status_of(f"{sandbox.urls['langfuse']}/api/public/health") == 503
        assert status_of(f"{sandbox.urls['stripe']}/v1/billing/meters") == 401
        assert send(sandbox, "one", timeout_seconds=0.5) is None


def test_thirty_hours_pass_at_once():
    """Both services are thirty hours on: a subscription's day is over and its invoice final."""
    with start() as sandbox:
        now_us = sandbox.ready.now_us
        sandbox.add_subscription("cus_1", started_at_us=now_us - 1_000_000, period="day")
        assert send(sandbox, "one") == 200
        sandbox.advance(30 * 3600)
        for service in ("langfuse", "stripe"):
            assert sandbox.get("/sandbox/clock", service)["now"] > format_time(now_us + 30 * HOUR_US)
        assert [one["credits"] for one in sandbox.get("/sandbox/invoiced")] == [5]


def test_a_rejection_is_pushed_to_the_webhook_until_it_is_taken():
    """The first delivery is refused, so it comes again; body and signature are Stripe's."""
    endpoint = Endpoint([500, 200])
    with serve(endpoint) as server, start(Options(webhook_url=f"{server.url}/webhook")) as sandbox:
        sandbox.reject_next(code="timestamp_in_future")
        send(sandbox, "one")
        sandbox.advance(60)
        until(lambda: len(endpoint.taken) == 2)
        assert sandbox.tally() == {"cus_1": 0}
    first, second = endpoint.taken
    assert first.body == second.body
    assert json.loads(first.body)["type"] == "v1.billing.meter.error_report_triggered"
    moment = int(first.headers["stripe-signature"].split(",")[0].removeprefix("t="))
    assert first.headers["stripe-signature"] == signature(first.body, WEBHOOK_SECRET, moment)


class Endpoint:
    """A webhook endpoint that answers with these statuses."""

    def __init__(self, statuses):
        self.statuses, self.taken = statuses, []

    def handle(self, request):
        self.taken.append(request)
        return Response(self.statuses[len(self.taken) - 1])


def test_workloads_are_filled_in(tmp_path):
    """Each row of each CSV becomes a trace."""
    file = tmp_path / "rows.csv"
    file.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n")
    with start(Options(workload=(str(file),))) as sandbox:
        assert sandbox.ready.traces == 1
        (row,) = sandbox.get("/sandbox/traces/rows-000000", "langfuse")
        assert row["id"] == "rows-000000"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(number):
    """Exit status 0, and nothing on the standard error."""
    with subprocess.Popen(MODULE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout.readline().startswith(b"{")
        child.send_signal(number)
        assert child.communicate(timeout=20) == (b"", b"")
    assert child.returncode == 0


def test_it_dies_with_its_parent():
    """A parent killed without warning leaves no sandbox behind."""
    code = (
        "import os, sys, tallymark.sandbox.process as p\n"
        "sandbox = p.start()\n"
        "print(sandbox.pid, flush=True)\n"
        "sys.stdin.read()"
    )
    # The sandbox inherits the standard error of its parent, so the pipe ends only when both are gone.
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as parent:
        sandbox_pid = int(parent.stdout.readline())
        os.kill(sandbox_pid, 0)
        parent.kill()
        assert ended(parent.stderr)


def test_stop_may_be_called_twice():
    """The second call finds nothing to do."""
    sandbox = start()
    sandbox.stop()
    sandbox.stop()
    with pytest.raises(urllib.error.URLError):
        sandbox.tally()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options(faults={"gremlins": 0.5}), "gremlins"),
        (Options(faults={"error_after": 2.0}), "at most 1"),
        (Options(workload=("no-such-file.csv",)), "no-such-file.csv"),
        (Options(stripe_faults=FaultPlan(rates={"gremlins": 0.5})), "gremlins"),
        (Options(webhook_url="localhost:80"), "localhost:80"),
    ],
)
def test_wrong_options_are_named(options, said, capfd):
    """The child says what is wrong, and the parent raises instead of waiting."""
    with pytest.raises(TallymarkError, match="did not start"):
        start(options)
    assert said in capfd.readouterr().err


def test_an_unknown_option_is_refused():
    """A misspelt option is no option: exit status 2."""
    done = subprocess.run([*MODULE, "--json-options", '{"storey": 5}'], capture_output=True, check=False, timeout=30)
    assert done.returncode == 2
    assert b"storey" in done.stderr


def test_the_environment_is_one_that_config_takes():
    """Every name in it is a setting, and every value is read."""
    ready = Ready(
        langfuse_url="http://127.0.0.1:1",
        stripe_url="http://127.0.0.1:2",
        public_key="pk-lf-a",
        secret_key="sk-lf-a",
        stripe_secret_key="sk_test_a",
        project_id="p",
        now="2026-11-20T10:00:00.000Z",
        traces=0,
    )
    loaded = config.load(None, environment_of(ready))
    assert loaded.projects[0].base_url == "http://127.0.0.1:1"
    assert (loaded.stripe_api_base, loaded.stripe_secret_key) == ("http://127.0.0.1:2", "sk_test_a")
    assert ready.now_us == 1_795_168_800_000_000
