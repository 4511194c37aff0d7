"""Settings and doctor in API and dashboard: what is in force, no secret of it, and findings on demand."""

import csv
import io

import pytest

from web_callers import OPERATOR, READER, Browser

SECRETS = ("sk_test_planted_1234567890", "whsec_planted_1234567890", OPERATOR, READER)


def test_settings_are_shown_with_their_origins_and_no_secret(connect, ledger):
    """In the page, its file and the API alike."""
    changes = {
        "STRIPE_SECRET_KEY": SECRETS[0],
        "BILLING_STRIPE_WEBHOOK_SECRET": SECRETS[1],
        "BILLING_METER_BUCKET": "day",
    }
    client = connect(**changes)
    visitor = Browser(client)
    visitor.sign_in(READER)
    headers = {"Authorization": f"Bearer {READER}"}
    found = client.get("/api/v1/settings", headers=headers)
    shown = [visitor.get("/settings").text, visitor.get("/settings.csv").text, found.text]

    assert not [secret for secret in SECRETS for text in shown if secret in text]
    assert not [secret for secret in SECRETS for text in shown if f"****{secret[-4:]}" in text]
    lines = {line["setting"]: line for line in found.json()["items"]}
    assert (lines["BILLING_METER_BUCKET"]["value"], lines["BILLING_METER_BUCKET"]["from"]) == (
        "day",
        "environment BILLING_METER_BUCKET",
    )
    assert all(line["about"] for line in lines.values())
    assert "environment BILLING_METER_BUCKET" in shown[0]
    assert [row["setting"] for row in csv.DictReader(io.StringIO(shown[1]))] == list(lines)


def test_doctor_is_asked_by_operators_only_and_never_by_a_link(api, browser, connect, ledger, monkeypatch):
    """It asks Langfuse and Stripe: a page that is only read asks neither."""
    monkeypatch.setattr("tallymark.web.pages.settings.doctor", lambda *_: pytest.fail("nobody asked for it"))
    assert "Check now" in browser.get("/settings").text
    monkeypatch.undo()
    assert browser.get("/settings/doctor").status_code == 405
    shown = browser.send("/settings/doctor")

    found = api("POST", "/doctor").json()["items"]
    assert {"settings", "stripe", "ledger"} <= {one["check"].split(" ")[0] for one in found}
    assert shown.status_code == 200
    assert all(one["check"] in shown.text for one in found)
    reader = Browser(connect())
    reader.sign_in(READER)
    assert reader.send("/settings/doctor").status_code == 403
    assert "Check now" not in reader.get("/settings").text
    assert api("POST", "/doctor", token=READER).status_code == 403


def test_a_fresh_machine_finds_what_to_set_there_too(connect, tmp_path):
    """Without a ledger."""
    visitor = Browser(connect(LANGFUSE_SECRET_KEY="", BILLING_LEDGER_URL=f"sqlite:///{tmp_path}/none.sqlite3"))
    visitor.sign_in(OPERATOR)

    assert "<code>LANGFUSE_SECRET_KEY</code>" in visitor.get("/settings").text.partition("In force")[0]
    assert list(tmp_path.iterdir()) == []
    assert visitor.send("/settings/doctor").status_code == 200
