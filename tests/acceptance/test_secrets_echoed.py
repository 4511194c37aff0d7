"""A server that repeats the caller's keys in its errors, as gateways and error pages do: it is not quoted (G7)."""

import pytest

from secret_worlds import found_in, found_in_files, said_by, secret_world

# What a command has no reason to ask; of a first run, nothing is reported yet.
NOT_ASKED = {
    ("sync -v --full", "/api/public/projects"),
    ("sync -v --full", "/v1/customers"),
    ("sync -v --full", "/v2/core/events"),
    ("doctor --json", "/api/public/ingestion"),
    ("doctor --json", "/v1/billing/meter_events"),
}


@pytest.mark.parametrize(
    ("service", "start"),
    [
        ("langfuse", "/api/public/health"),
        ("langfuse", "/api/public/projects"),
        ("langfuse", "/api/public/traces"),
        ("langfuse", "/api/public/ingestion"),
        ("stripe", "/v1/billing/meters"),
        ("stripe", "/v1/billing/meter_events"),
        ("stripe", "/v1/customers"),
        ("stripe", "/v1/subscriptions"),
        ("stripe", "/v2/core/events"),
    ],
)
def test_a_server_that_repeats_the_keys_is_not_quoted(tmp_path, service, start):
    """Whatever the status of its error: not to people, not in the ledger, not in JSON."""
    with secret_world(tmp_path) as world:
        echoing = getattr(world, service)
        for status, command in ((400, "sync -v --full"), (403, "doctor --json")):
            echoing.echo(status, start)
            said = said_by(world, *command.split())
            assert found_in(said) == []
            assert echoing.times or (command, start) in NOT_ASKED, said
        echoing.echo(0, "")
        said = said_by(world, "explain", "late", "--json") + said_by(world, "reconcile", "-v", "--json")
        assert found_in(said) == []
        assert found_in_files(tmp_path) == {}
