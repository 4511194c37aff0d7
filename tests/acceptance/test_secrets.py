"""Keys and prompts stay where they belong: not in what is printed, not in the ledger, whatever goes wrong (G7)."""

import base64
import contextlib

import pytest

from tallymark.clock import SystemClock
from tallymark.sandbox.faults import Fault, Faults
from tallymark.sandbox.langfuse import SandboxLangfuse
from tallymark.sandbox.langfuse.records import Project
from tallymark.sandbox.story import PROMPT
from tallymark.sandbox.stripe import SandboxStripe
from worlds import PROJECT, open_world, until

KEYS = Project(PROJECT, "pk-lf-0d5b8a34-public", "sk-lf-7f1e-langfuse-secret-needle", "sandbox")
STRIPE_KEY = "sk_test_stripe_secret_needle_4242"
OTHER_SECRETS = {
    "BILLING_STRIPE_WEBHOOK_SECRET": "whsec_webhook_secret_needle_77",
    "BILLING_API_TOKEN": "token_api_secret_needle_88",
}
WRONG_SECRETS = {"LANGFUSE_SECRET_KEY": "sk-lf-wrong-needle-99", "BILLING_STRIPE_SECRET_KEY": "sk_test_wrong_needle_99"}
# As the Authorization header carries them.
BASIC = [
    base64.b64encode(f"{KEYS.public_key}:{secret}".encode()).decode()
    for secret in (KEYS.secret_key, WRONG_SECRETS["LANGFUSE_SECRET_KEY"])
]
NEEDLES = (
    KEYS.secret_key,
    STRIPE_KEY,
    *BASIC,
    *OTHER_SECRETS.values(),
    *WRONG_SECRETS.values(),
    PROMPT[:30],
    "password_needle",
)


@contextlib.contextmanager
def secret_world(folder):
    """A world whose keys are needles, with a story whose prompts are one, and a Stripe that often fails."""
    langfuse = SandboxLangfuse(clock=SystemClock(), projects=(KEYS,))
    stripe = SandboxStripe(clock=SystemClock(), secret_key=STRIPE_KEY)
    stripe.add_meter("credits")
    faults = Faults(5, {Fault.ERROR_AFTER: 0.03, Fault.TRUNCATED: 0.03, Fault.RESET_AFTER: 0.03})
    with open_world(folder, traces=200, langfuse=langfuse, stripe=stripe, stripe_faults=faults, keys=KEYS) as world:
        world.settings |= {"BILLING_STRIPE_SECRET_KEY": STRIPE_KEY, **OTHER_SECRETS}
        yield world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The world that most tests share."""
    with secret_world(tmp_path_factory.mktemp("secrets")) as world:
        yield world


def said_by(world, *arguments, **settings):
    """Everything that a command prints."""
    ended = world.run(*arguments, **settings)
    return ended.out + ended.err


def found_in(text):
    """Which needles lie in a text."""
    return [needle for needle in NEEDLES if needle in text]


def test_no_command_prints_a_secret_or_a_prompt(world):
    """In plain and in JSON form, loud and quiet."""
    said = said_by(world, "doctor") + said_by(world, "sync", "-v") + said_by(world, "sync", "--json", "--full", "-v")
    assert "traces fetched" in said

    said += said_by(world, "explain", "trace-000012") + said_by(world, "explain", "trace-000012", "--json")
    said += said_by(world, "held", "list") + said_by(world, "held", "list", "--json")
    said += said_by(world, "usage") + said_by(world, "usage", "--format", "csv")
    said += said_by(world, "config", "show") + said_by(world, "config", "show", "--json")
    said += said_by(world, "backfill", "-v")

    assert found_in(said) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"LANGFUSE_SECRET_KEY": WRONG_SECRETS["LANGFUSE_SECRET_KEY"]},
        {"BILLING_STRIPE_SECRET_KEY": WRONG_SECRETS["BILLING_STRIPE_SECRET_KEY"]},
        {"STRIPE_API_BASE": "http://127.0.0.1:9"},
        {"STRIPE_API_BASE": "https://user:password_needle@stripe.invalid"},
        {"LANGFUSE_BASE_URL": "https://user:password_needle@langfuse.invalid"},
        {"BILLING_LEDGER_URL": "postgresql://user:password_needle@database.invalid/ledger"},
        {"BILLING_LEDGER_URL": "mysql://user:password_needle@database.invalid/ledger"},
        {"BILLING_STRIPE_SECRET_KEY": f"{STRIPE_KEY} {STRIPE_KEY}"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_no_failure_prints_a_secret(world, settings):
    """A message names the variable, never its value."""
    ended = world.run("sync", "-v", **settings)

    assert ended.status in (2, 3, 4), ended.err
    assert ended.err.strip()
    assert found_in(ended.out + ended.err) == []
    assert found_in(said_by(world, "config", "show", **settings)) == []


def test_the_doctor_prints_no_secret(world):
    """Not even the ones that are refused."""
    assert found_in(said_by(world, "doctor", "-v", **WRONG_SECRETS)) == []


def test_the_ledger_holds_no_secret_and_no_prompt(tmp_path):
    """Not in the database, and not in the journal that a killed run leaves beside it."""
    with secret_world(tmp_path) as world:
        child = world.start("sync", "-v")
        until(lambda: world.has_ledger() and world.ask("select 1 from attempt limit 1"), child)
        child.kill()
        after_kill = bytes_of(world)
        world.run("sync", "-v")
        after_run = bytes_of(world)

    for content in (after_kill, after_run):
        assert b"trace-000" in content
        assert [needle for needle in NEEDLES if needle.encode() in content] == []


def bytes_of(world):
    """The ledger's file and everything beside it."""
    return b"".join(file.read_bytes() for file in world.folder.glob(f"{world.ledger.name}*"))
