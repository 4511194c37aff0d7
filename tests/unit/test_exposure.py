"""What the doctor says of files that others may read, and of keys that travel unencrypted."""

import pytest

from builders import settings_for
from tallymark import config
from tallymark.flows.exposure import exposed


def test_a_private_ledger_and_encrypted_ways_are_nothing_to_say(tmp_path):
    ledger = tmp_path / "ledger.sqlite3"
    ledger.touch(mode=0o600)

    assert list(exposed(settings_for(tmp_path))) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_ledger_that_others_may_use_is_told(tmp_path, mode):
    """Such as one that came out of an archive."""
    ledger = tmp_path / "ledger.sqlite3"
    ledger.touch()
    ledger.chmod(mode)

    assert list(exposed(settings_for(tmp_path))) == [f"others than its owner may use {ledger}; run: chmod 600 {ledger}"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('stripe_secret_key = "sk_test_x"', True),
        ('[projects.one]\nsecret_key = "sk-lf-x"\npublic_key = "pk-lf-x"', True),
        ('[projects.one]\nsecret_key_env = "ONE"\npublic_key = "pk-lf-x"', False),
        ('meter_event_name = "credits"', False),
    ],
)
def test_a_settings_file_is_told_only_if_a_key_stands_in_it(tmp_path, text, told):
    file = tmp_path / "tallymark.toml"
    file.write_text(text, "utf-8")
    file.chmod(0o644)
    found = list(exposed(config.load(file, {"BILLING_LEDGER_URL": f"sqlite:///{tmp_path}/none.sqlite3", "ONE": "sk"})))

    assert found == ([f"others than its owner may use {file}; run: chmod 600 {file}"] if told else [])


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("http://langfuse.example.com", True),
        ("http://10.0.0.5:3000", True),
        ("https://langfuse.example.com", False),
        ("http://localhost:3000", False),
        ("http://127.0.0.1:3000", False),
        ("http://[::1]:3000", False),
    ],
)
@pytest.mark.parametrize("setting", ["LANGFUSE_BASE_URL", "STRIPE_API_BASE"])
def test_keys_that_travel_unencrypted_are_told(tmp_path, setting, address, told):
    """Beyond this machine."""
    found = list(exposed(settings_for(tmp_path, **{setting: address})))

    assert [address in sentence and "unencrypted" in sentence for sentence in found] == [True] * told
