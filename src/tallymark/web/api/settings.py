"""Settings and doctor: GET /settings, POST /doctor."""

from __future__ import annotations

from ...flows.doctor import doctor
from ...flows.findings import Finding
from ...flows.paging import Listing
from ...flows.setup import SettingLine, settings_in_force
from ..service import TheService
from .common import reads, writes


@reads("/settings", tags=["service"])
def get_settings(service: TheService) -> Listing[SettingLine]:
    """Every setting of the service, secrets masked, and where it came from."""
    return Listing(settings_in_force(service.config), None)


@writes("/doctor", tags=["service"])
def post_doctor(service: TheService) -> Listing[Finding]:
    """Check servers, keys, meter, customers, clock and ledger, as `tallymark doctor`; it asks Langfuse and Stripe."""
    return Listing(doctor(service.config, service.clock), None)


HANDLERS = [get_settings, post_doctor]
