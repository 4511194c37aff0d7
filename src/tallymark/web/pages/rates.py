"""Rates: the card in force, the cards that were used, and what another one would have billed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath, URLEncodedBody
from litestar.response import Template

from ...errors import ConfigError
from ...rating.cards import card_text
from ..access import Caller
from ..api.rates import SimulatedRow, Simulation, ToSimulate, card_of, rates_of, simulation_of
from ..csv_answers import csv_answer
from ..service import Service, TheCaller, TheService
from ..templating import page


@dataclass
class SimulateForm:
    """The form. `form` is csv for a file."""

    card: str = ""
    begin: str = ""
    end: str = ""
    by: str = "customer"
    form: str = ""


@get("/rates", sync_to_thread=True)
def rates_page(service: TheService, caller: TheCaller) -> Template:
    """The card in force, what was checked of it, the cards that were used, and a form to simulate."""
    return _page(service, caller, SimulateForm(card_text(service.config.rate_card)))


@post("/rates/simulate", sync_to_thread=True, status_code=200)
def simulate_page(service: TheService, caller: TheCaller, data: URLEncodedBody[SimulateForm]) -> Response[Any]:
    """What the card of the form would have billed; nothing is written."""
    try:
        found = simulation_of(service, ToSimulate(data.card, data.begin or None, data.end or None, data.by))
    except ConfigError as error:
        return _page(service, caller, data, problem=str(error))
    if data.form == "csv":
        rows = map(msgspec.structs.astuple, [*found.rows, found.total])
        return csv_answer(f"simulation-{found.card.digest}", SimulatedRow.__struct_fields__, rows)
    return _page(service, caller, data, found=found)


def _page(
    service: Service, caller: Caller, form: SimulateForm, *, found: Simulation | None = None, problem: str = ""
) -> Template:
    status = 422 if problem else 200
    return page("rates", caller, status=status, rates=rates_of(service), form=form, found=found, problem=problem)


@get("/rates/{digest:str}", sync_to_thread=True)
def card_page(service: TheService, caller: TheCaller, digest: FromPath[str]) -> Template:
    """One card, in force or used once."""
    in_force = digest == service.config.rate_card.digest
    return page("rate_card", caller, card=card_of(service, digest), in_force=in_force)


HANDLERS = [rates_page, simulate_page, card_page]
