"""The first page: what a fresh machine is told, how billing stands, and sums that agree with the ledger."""

import pytest

from web_callers import READER, Browser

KEYS = ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY", "STRIPE_SECRET_KEY")


@pytest.fixture
def visitor(connect):
    """A function: a reader in front of the dashboard of these settings."""

    def arrive(**changes):
        made = Browser(connect(**changes))
        made.sign_in(READER)
        return made

    return arrive


@pytest.mark.parametrize("missing", [*KEYS, ""])
def test_a_fresh_machine_says_what_to_set(visitor, tmp_path, missing):
    """By exact name, and nothing that is set; without a ledger no page is a traceback, and none is made."""
    changes = {"BILLING_LEDGER_URL": f"sqlite:///{tmp_path}/none.sqlite3", **({missing: ""} if missing else {})}
    made = visitor(**changes)
    shown = made.get("/").text
    named = "BILLING_STRIPE_SECRET_KEY" if missing == KEYS[2] else missing

    assert ("What to set" in shown) is bool(missing)
    assert [key for key in (*KEYS[:2], "BILLING_STRIPE_SECRET_KEY") if f"<code>{key}</code>" in shown] == [named][
        : bool(named)
    ]
    assert ("The first sync begins by itself" in shown) is not bool(missing)
    assert "there is no ledger yet" in made.get("/runs").text
    assert list(tmp_path.iterdir()) == []


def test_an_empty_ledger_says_what_happens_next(visitor, ledger):
    """Keys are there, and the first sync is on its way."""
    assert "it reads the last 7 days" in visitor().get("/").text
