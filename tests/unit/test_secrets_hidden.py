"""Secrets in text: found in every form and place in which a server, a driver or a traceback repeats them."""

import io
import logging
import subprocess
import sys

import pytest
import stripe

from tallymark.clock import SystemClock
from tallymark.commands.common import begin
from tallymark.core.secrets import TOLD_LENGTH_MAX, hide, mask, mask_url, told
from tallymark.meter.stripe_events import outcome_of
from tallymark.remote.langfuse import LangfuseClient

NEEDLE = "needle5a7c"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        (f"Invalid API Key provided: sk_live_{NEEDLE}", "Invalid API Key provided: sk_live_****"),
        (f"'rk_test_{NEEDLE}'", "'rk_test_****'"),
        (f"sk_org_live_{NEEDLE}", "sk_org_live_****"),
        (f"signed with whsec_{NEEDLE}.", "signed with whsec_****."),
        (f'{{"key":"sk-lf-{NEEDLE}-7"}}', '{"key":"sk-lf-****"}'),
        (f"Authorization: Bearer {NEEDLE}", "Authorization: Bearer ****"),
        (f"authorization: basic {NEEDLE}==", "authorization: basic ****"),
        (f"postgresql://billing:{NEEDLE}@db/ledger", "postgresql://****@db/ledger"),
        (f"postgresql://billing:{NEEDLE}/@%20@db", "postgresql://****@db"),
        (f"postgresql://db/l?user=me&password={NEEDLE}&x=1", "postgresql://db/l?user=me&password=****&x=1"),
        (f"host=db password={NEEDLE} user=me", "host=db password=**** user=me"),
        (f"sk_live_{NEEDLE} and sk_live_{NEEDLE}", "sk_live_**** and sk_live_****"),
    ],
)
def test_a_secret_of_a_known_form_is_hidden_wherever_it_stands(text, hidden):
    """What is around it stays, so that a person can tell which one it was."""
    assert hide(text) == hidden
    assert NEEDLE not in hide(text)


@pytest.mark.parametrize(
    "text",
    [
        "the meter mtr_1 of 'credits' is inactive",
        "The provided key 'rk_test_***123456' does not have the required permissions",
        "http://127.0.0.1:3000/api/public/traces answered 503",
        "pk-lf-1234567890 is public",
        "risk_test of a basic idea",
        "cus_9 paid a@b.example",
    ],
)
def test_what_is_no_secret_stays(text):
    assert hide(text) == text


def test_a_secret_of_no_known_form_is_hidden_by_who_knows_it():
    """Self-hosted servers take any text as a key."""
    assert hide(f"no such key: {NEEDLE}", NEEDLE) == "no such key: ****"
    assert hide("it is on", "on") == "it is on"


def test_what_a_server_says_is_one_short_line():
    """A terminal shows no colours of a server's choice, and a ledger keeps no book."""
    said = told(f"\x1b[2Jfirst\r\nsecond sk_live_{NEEDLE}" + "x" * 9000)

    assert said.startswith("[2Jfirst second sk_live_****")
    assert len(said) <= TOLD_LENGTH_MAX


def test_a_secret_in_settings_shows_its_end_only():
    assert (mask("sk_live_0123456789abcdef"), mask("short")) == ("****cdef", "****")
    assert mask_url(f"postgresql://u:{NEEDLE}@db/l?password={NEEDLE}") == "postgresql://****@db/l?****"


def test_stripe_may_echo_the_key():
    """In the outcome that the ledger keeps."""
    error = stripe.InvalidRequestError(f"No such key: sk_test_{NEEDLE}", None, http_status=400)

    assert outcome_of(error, "tm-1").detail == "400: No such key: sk_test_****"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500])
def test_langfuse_may_echo_the_key(status):
    """Whatever its form, plain or as the header carried it; under any status."""
    client = LangfuseClient("http://langfuse.invalid", "public", NEEDLE, SystemClock())
    echoed = client._basic["authorization"]
    body = f'{{"message":"wrong: {NEEDLE}","error":["{echoed}"]}}'.encode()

    error = client._error_of("GET", "http://langfuse.invalid/x", status, {}, body)

    assert NEEDLE not in str(error)
    assert echoed.split()[-1] not in str(error)


def test_logs_hide_what_anybody_logs(monkeypatch):
    """Libraries too, and tracebacks in a log."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", logging.WARNING)
    begin(None, verbose=True, quiet=False)
    try:
        raise ValueError(f"sk_live_{NEEDLE}")
    except ValueError:
        logging.getLogger("a library").exception("using %s", f"whsec_{NEEDLE}")

    assert "using whsec_****" in stream.getvalue()
    assert "ValueError: sk_live_****" in stream.getvalue()
    assert NEEDLE not in stream.getvalue()


def test_a_crash_shows_its_traceback_without_secrets():
    """The status is 1, and the message says whose mistake it is."""
    script = (
        "import tallymark.api, tallymark.cli\n"
        "def crash(_):\n"
        f"    raise RuntimeError('sk_live_' + '{NEEDLE[:5]}' + '{NEEDLE[5:]}')\n"
        "tallymark.api.load_config = crash\n"
        "import sys; sys.argv = ['tallymark', 'config', 'show']\n"
        "tallymark.cli.main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    assert "RuntimeError: sk_live_****" in ended.stderr
    assert "mistake in tallymark" in ended.stderr
    assert NEEDLE not in ended.stdout + ended.stderr
