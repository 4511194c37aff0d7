"""Controls of a running sandbox: faults and clock change over HTTP while it runs, and spare its own routes."""

import json
from email.utils import parsedate_to_datetime

import pytest

from tallymark.core.clock import SECOND_US
from tallymark.sandbox.clock import OffsetClock, VirtualClock
from tallymark.sandbox.controls import Controlled, FaultPlan
from tallymark.sandbox.faults import Ending, Fault, Faults, answer
from tallymark.sandbox.wire import Request, Response

NOW_US = 1_795_003_200 * SECOND_US
METER_EVENTS = Request("POST", "/v1/billing/meter_events")
METERS = Request("GET", "/v1/billing/meters")


class Counting:
    """A service that counts what it processed."""

    def __init__(self):
        self.handled = 0

    def handle(self, _request):
        self.handled += 1
        return Response(200, b"{}")


class Rig:
    """A service behind its controls, asked as the server asks it."""

    def __init__(self, plan=None):
        self.base, self.service, self.faults = VirtualClock(NOW_US), Counting(), Faults(1, {})
        self.clock = OffsetClock(self.base)
        self.controlled = Controlled(self.service, self.clock, self.faults, plan or FaultPlan())

    def ask(self, request):
        """How it ends for the client."""
        return answer(self.controlled, request, self.faults)

    def post(self, path, body):
        """Change something; (status, JSON)."""
        response = self.ask(Request("POST", path, body=json.dumps(body).encode())).response
        return response.status, json.loads(response.body)


def test_a_plan_limits_faults_to_a_method_and_a_path():
    """Accepts and never answers, for meter events alone."""
    rig = Rig(FaultPlan(rates={"hang_after": 1.0}, method="POST", path_prefix="/v1/billing/meter_events"))
    assert rig.ask(METERS).ending is Ending.SENT
    assert rig.ask(Request("GET", "/v1/billing/meter_events")).ending is Ending.SENT
    assert rig.ask(METER_EVENTS).ending is Ending.HANG
    assert rig.service.handled == 3


def test_faults_are_switched_on_and_off_while_it_runs():
    rig = Rig()
    assert rig.ask(METER_EVENTS).ending is Ending.SENT
    assert rig.post("/sandbox/faults", {"rates": {"reset_before": 1.0}, "hang_seconds": 2})[0] == 200
    assert rig.ask(METER_EVENTS).ending is Ending.RESET
    assert rig.faults.hang_seconds == 2
    status, shown = rig.post("/sandbox/faults", {})
    assert (status, shown) == (200, {"plan": {}, "done": {"reset_before": 1}})
    assert rig.ask(METER_EVENTS).ending is Ending.SENT


def test_a_plan_ends_after_so_many_faults_each_time_it_is_set():
    rig = Rig()
    for _ in range(2):
        rig.post("/sandbox/faults", {"rates": {"reset_before": 1.0}, "limit": 2})
        endings = [rig.ask(METER_EVENTS).ending for _ in range(3)]
        assert endings == [Ending.RESET, Ending.RESET, Ending.SENT]
    assert rig.faults.done == {Fault.RESET_BEFORE: 4}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"rates": {"gremlins": 1.0}}, "a fault is one of rate_limited"),
        ({"rates": {"html": 2.0}}, "at most 1"),
        ({"rate": {}}, "unknown field"),
    ],
)
def test_a_wrong_plan_is_refused_and_the_one_before_stays(body, said):
    rig = Rig(FaultPlan(rates={"reset_before": 1.0}))
    status, shown = rig.post("/sandbox/faults", body)
    assert (status, said in shown["message"]) == (400, True)
    assert json.loads(rig.ask(Request("GET", "/sandbox/faults")).response.body)["plan"] == {
        "rates": {"reset_before": 1.0}
    }
    assert rig.ask(METER_EVENTS).ending is Ending.RESET


def test_the_clock_is_moved_on_and_goes_on_by_itself():
    """Both the time asked for and the date of every answer show it."""
    rig = Rig()
    assert rig.post("/sandbox/clock", {"advance_seconds": 30 * 3600}) == (200, {"now": "2026-11-19T18:00:00.000Z"})
    rig.base.advance(5)
    assert rig.clock.now_us() == NOW_US + (30 * 3600 + 5) * SECOND_US
    date = parsedate_to_datetime(rig.ask(METERS).response.headers["date"])
    assert date.timestamp() == rig.clock.now_us() // SECOND_US
    assert json.loads(rig.ask(Request("GET", "/sandbox/clock")).response.body) == {"now": "2026-11-19T18:00:05.000Z"}


@pytest.mark.parametrize("body", [{"advance_seconds": -1}, {"advance_seconds": "soon"}, {}])
def test_the_clock_takes_no_nonsense(body):
    rig = Rig()
    assert rig.post("/sandbox/clock", body)[0] == 400
    assert rig.clock.now_us() == NOW_US


def test_an_offset_clock_waits_on_the_clock_below():
    rig = Rig()
    rig.clock.sleep(3)
    assert rig.base.now_us() == NOW_US + 3 * SECOND_US
