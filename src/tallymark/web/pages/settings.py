"""Settings: what is in force and where it came from, the jobs, and doctor on demand."""

from __future__ import annotations

from collections.abc import Sequence

from litestar import get, post
from litestar.response import Stream, Template

from ...flows.doctor import doctor
from ...flows.findings import Finding
from ...flows.runs import list_jobs
from ...flows.setup import has_ledger, settings_in_force
from ..access import Caller
from ..csv_answers import csv_answer
from ..service import Service, TheCaller, TheService
from ..templating import page
from .overview import setup_of

COLUMNS = ("setting", "value", "from", "about")


@get("/settings", sync_to_thread=True)
def settings(service: TheService, caller: TheCaller) -> Template:
    """Settings with their origins, jobs, and what is still to be set."""
    return _shown(service, caller, None)


@get("/settings.csv", sync_to_thread=True)
def settings_file(service: TheService) -> Stream:
    """The settings as a file."""
    lines = settings_in_force(service.config)
    return csv_answer("settings", COLUMNS, [(one.setting, one.value, one.from_, one.about) for one in lines])


@post("/settings/doctor", sync_to_thread=True, status_code=200)
def run_doctor(service: TheService, caller: TheCaller) -> Template:
    """The same with doctor's findings. It asks Langfuse and Stripe, so no link leads here."""
    return _shown(service, caller, doctor(service.config, service.clock))


def _shown(service: Service, caller: Caller, findings: Sequence[Finding] | None) -> Template:
    jobs = []
    if has_ledger(service.config):
        with service.reading() as ledger:
            jobs = list_jobs(ledger, service.config, service.clock.now_us())
    lines = settings_in_force(service.config)
    return page("settings", caller, lines=lines, jobs=jobs, findings=findings, **setup_of(service.config))


HANDLERS = [settings, settings_file, run_doctor]
