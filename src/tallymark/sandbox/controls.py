"""What can be changed in a running sandbox, over HTTP: the faults of each service, and the clock of both.

A control is `/sandbox/faults` or `/sandbox/clock`: GET shows it, POST changes it. Everything else is the service's.
"""

from __future__ import annotations

import time
from dataclasses import replace
from email.utils import formatdate

import msgspec

from ..core.clock import SECOND_US, format_time
from .clock import OffsetClock
from .faults import Fault, Faults, refusal_of, to
from .wire import Request, Response, Service

_JSON = {"content-type": "application/json"}


class FaultPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which requests meet which faults; an empty plan is none.

    - `rates`: the probability of each `faults.Fault` by its value, such as {"hang_after": 1.0}.
    - `method`, `path_prefix`: only requests of that method whose path starts so; empty for all.
    - `limit`: at most so many; None for no limit.
    - `hang_seconds`: how long a hanging request hangs.
    """

    rates: dict[str, float] = {}
    method: str = ""
    path_prefix: str = ""
    limit: int | None = None
    hang_seconds: float = 30.0

    def apply(self, faults: Faults) -> None:
        """Let faults be drawn by this plan. Raises ValueError, which names what is wrong."""
        try:
            rates = {Fault(name): rate for name, rate in self.rates.items()}
            faults.change(rates, to(self.method, self.path_prefix), self.limit)
        except ValueError as problem:
            known = ", ".join(fault.value for fault in Fault)
            raise ValueError(f"{problem}; a fault is one of {known}") from None
        faults.hang_seconds = self.hang_seconds


class _Advance(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /sandbox/clock."""

    advance_seconds: float


class Controlled:
    """A service behind its controls. Its answers carry the clock's date, so that a client sees what time it is here."""

    def __init__(
        self, service: Service, clock: OffsetClock, faults: Faults, plan: FaultPlan, latency_seconds: float = 0.0
    ) -> None:
        """Start with faults by that plan; each answer takes so much longer. Raises ValueError for a wrong plan."""
        self._latency_seconds = latency_seconds
        self._service, self._clock, self._faults, self._plan = service, clock, faults, plan
        plan.apply(faults)

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        control = {"/sandbox/clock": self._time, "/sandbox/faults": self._fault_plan}.get(request.path)
        if control is None:
            if not request.path.startswith("/sandbox/"):
                time.sleep(self._latency_seconds)
            return self._dated(self._service.handle(request))
        try:
            return Response(200, msgspec.json.encode(control(request)), _JSON)
        except ValueError as problem:
            return Response(400, msgspec.json.encode({"message": str(problem)}), _JSON)

    def refusal(self, status: int) -> Response:
        """The service's words for a refusal that a fault asks for."""
        return refusal_of(self._service, status)

    def _time(self, request: Request) -> object:
        if request.method == "POST":
            self._clock.advance(msgspec.json.decode(request.body, type=_Advance).advance_seconds)
        return {"now": format_time(self._clock.now_us())}

    def _fault_plan(self, request: Request) -> object:
        if request.method == "POST":
            plan = msgspec.json.decode(request.body, type=FaultPlan)
            plan.apply(self._faults)
            self._plan = plan
        return {"plan": self._plan, "done": {fault.value: count for fault, count in self._faults.done.items()}}

    def _dated(self, response: Response) -> Response:
        date = formatdate(self._clock.now_us() // SECOND_US, usegmt=True)
        return replace(response, headers={**response.headers, "date": date})
