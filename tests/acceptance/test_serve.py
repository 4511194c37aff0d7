"""`tallymark serve` as its users run it: a process with sockets and signals, two on one ledger, one of them killed."""

import contextlib
import itertools
import json
import os
import signal
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from children import CrashChild
from click.testing import CliRunner
from judge import check_marks, check_money, check_order, check_traces, is_exact

from child import Stop, Then
from databases import DATABASES, fresh_ledgers, has_table
from tallymark import config
from tallymark.cli import cli
from tallymark.clock import SystemClock
from tallymark.errors import ConfigError
from tallymark.failpoints import Side, Step
from tallymark.flows.runs import RunWish, ask_for_run
from worlds import open_world, until

TRACES = 220
COMMAND = ("serve", "--port", "0", "--json")
# Jobs of the night stay away, and a sync is due again at once.
SETTINGS = {
    "BILLING_SYNC_EVERY_MINUTES": "0.001",
    "BILLING_FULL_SYNC_AT": "never",
    "BILLING_RECONCILE_AT": "never",
}
SOON = {"tallymark.flows.service.LOOK_SECONDS": 0.05}
# Nothing is noted of a run while it goes on, however long a busy machine takes for it.
UNTOLD = SOON | {"tallymark.flows.service.TELL_SECONDS": 1000.0, "tallymark.flows.service.RENEW_SECONDS": 1000.0}


@pytest.fixture(params=DATABASES)
def world(request, tmp_path):
    """A story that nobody has billed yet."""
    with (
        fresh_ledgers(request.param, tmp_path) as address,
        open_world(tmp_path, traces=TRACES, ledger_url=address()) as opened,
    ):
        opened.settings.update(SETTINGS)
        yield opened


def address_of(child):
    """Where a service listens, as it says itself."""
    return json.loads(child.process.stdout.readline())["url"]


def ask(url):
    """The status and the text of an answer."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def check_all(world):
    """Every trace billed once, and marked."""
    check_money(world)
    check_traces(world)
    check_marks(world, by_score=False)
    check_order(world, set())


def test_a_service_bills_tells_and_stops(tmp_path):
    """From nothing to ready; SIGTERM ends it well."""
    with open_world(tmp_path, traces=TRACES) as world:
        child = world.start(*COMMAND)
        url = address_of(child)
        assert ask(f"{url}/healthz") == (200, "ok\n")
        until(lambda: ask(f"{url}/readyz") == (200, "ready\n"), child)
        found = ask(f"{url}/metrics")[1]
        assert 'tallymark_job_run_seconds_count{job="sync"} 1.0' in found
        assert ask(f"{url}/webhooks/stripe")[0] == 405

        child.process.send_signal(signal.SIGTERM)
        ended = child.end()
        assert ended.status == 0
        assert ended.err.splitlines() == [line for line in ended.err.splitlines() if "no billing tag" in line]
        check_all(world)


def test_two_serve_one_ledger_and_one_is_killed(world):
    """In the middle of a run, with claims in flight: the other takes the job over, and Stripe's tally is exact."""
    lost = CrashChild(world, COMMAND, Stop(Step.STRIPE_SEND, Side.AFTER, 5, Then.STANDS), constants=SOON)
    lost.wait_until("reached")
    other = CrashChild(world, COMMAND, constants=SOON)
    until(lambda: world.ask("select owner from job where name = 'sync'")[0][0] != "")
    assert world.ask("select attempt from job where name = 'sync'") == [(1,)]
    lost.kill()
    assert lost.end().status == -signal.SIGKILL

    until(lambda: is_exact(world) and world.ask("select runs >= 2 from job where name = 'sync'")[0][0])
    runs = world.ask("select started_at_us, finished_at_us from run where finished_at_us is not null order by 1")
    assert all(ended <= began for (_, ended), (began, _) in itertools.pairwise(runs))
    os.kill(other.process_id, signal.SIGTERM)
    assert other.end().status == 0
    check_all(world)


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("time", [1, 3, 4])
def test_killed_where_a_job_is_noted_bills_once(world, time, side):
    """When jobs are planned (1; 2 is the alerts'), one is taken (3), or its end is stored (4): the next goes on."""
    lost = CrashChild(world, COMMAND, Stop(Step.PUT_JOB, side, time), constants=UNTOLD)
    assert lost.end().status == -signal.SIGKILL
    other = CrashChild(world, COMMAND, constants=SOON)
    until(
        lambda: (
            has_table(world.settings["BILLING_LEDGER_URL"], "job") and world.ask("select 1 from job where runs >= 2")
        )
    )
    os.kill(other.process_id, signal.SIGTERM)
    assert other.end().status == 0
    check_all(world)


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("time", [1, 2])
def test_killed_where_a_requested_run_is_noted_runs_it_again(tmp_path, time, side):
    """When it is taken (1), or when its end is stored (2): the next service takes it over, and it bills once."""
    with open_world(tmp_path, traces=40) as world:
        world.settings.update(SETTINGS)
        run_id = ask_for_run(config.load(None, world.settings), RunWish("full"), "Ada", SystemClock().now_us())
        lost = CrashChild(world, COMMAND, Stop(Step.PUT_REQUEST, side, time), constants=UNTOLD)
        assert lost.end().status == -signal.SIGKILL
        other = CrashChild(world, COMMAND, constants=SOON)
        until(lambda: world.ask("select 1 from run_request, job where run_request.finished_at_us > 0 and runs > 0"))
        os.kill(other.process_id, signal.SIGTERM)
        assert other.end().status == 0
        taken = 1 if (time, side) in ((1, Side.BEFORE), (2, Side.AFTER)) else 2
        assert world.ask("select request_id, attempt, problem from run_request") == [(run_id, taken, "")]
        check_all(world)


def test_a_second_signal_ends_it_at_once(tmp_path):
    """A run that hangs does not keep it; nothing is lost."""
    with open_world(tmp_path, traces=40) as world:
        child = CrashChild(world, COMMAND, Stop(Step.STRIPE_SEND, Side.AFTER, then=Then.STANDS), constants=SOON)
        child.wait_until("reached")
        os.kill(child.process_id, signal.SIGTERM)
        with contextlib.suppress(ProcessLookupError):
            until(lambda: _handles_no_more(child.process_id))
            os.kill(child.process_id, signal.SIGTERM)
        assert child.end().status == -signal.SIGTERM
        for command in (("sync",), ("sync", "--full")):
            CrashChild(world, command).end()
        check_all(world)


def _handles_no_more(process_id):
    """Whether a process does nothing of its own about SIGTERM any more, as Linux tells."""
    status = Path(f"/proc/{process_id}/status").read_text().splitlines()
    caught = next(int(line.split()[1], 16) for line in status if line.startswith("SigCgt:"))
    return not caught >> (signal.SIGTERM - 1) & 1


# ---- what is refused


def test_a_fresh_machine_is_told_what_to_set(tmp_path):
    """It starts and says each setting, on the terminal and on its page; it bills nothing and makes nothing."""
    with open_world(tmp_path) as world:
        keys = ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY", "BILLING_STRIPE_SECRET_KEY")
        assert all(world.settings.pop(key) for key in keys)
        child = world.start(*COMMAND)
        url = address_of(child)
        assert ask(f"{url}/readyz") == (503, "a setting is missing or wrong; `tallymark doctor` says which.\n")
        status, shown = ask(url)
        child.process.send_signal(signal.SIGTERM)
        ended = child.end()

        assert (ended.status, status) == (0, 200)
        for name in keys:
            assert f"nothing is billed until {name} is set (in " in ended.err
            assert name in shown
        assert ended.err.count("\n") == 3
        assert not world.has_ledger()


def test_other_hosts_need_a_token(tmp_path):
    """Nothing was begun."""
    with open_world(tmp_path) as world:
        ended = world.run("serve", "--host", "0.0.0.0", "--port", "0")

        assert ended.status == 2
        assert "set BILLING_API_TOKEN" in ended.err
        assert not world.has_ledger()


def test_a_port_that_is_taken_is_named(tmp_path):
    """And another one is asked for."""
    with open_world(tmp_path) as world:
        port = world.settings["STRIPE_API_BASE"].rpartition(":")[2]
        ended = world.run("serve", "--port", port)

        assert ended.status == 2
        assert f"port {port}" in ended.err
        assert "--port" in ended.err


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    """The rest of tallymark does not need it."""
    for name in ("tallymark.web.run", "uvicorn"):
        monkeypatch.setitem(sys.modules, name, None)
    ended = CliRunner().invoke(cli, ["serve"])

    assert isinstance(ended.exception, ConfigError)
    assert "pip install 'tallymark[web]'" in str(ended.exception)
