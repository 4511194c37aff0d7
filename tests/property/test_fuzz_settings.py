"""Whatever stands in a rate card, in tallymark.toml or in the environment: settings that work, or a ConfigError."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import ANY_JSON, TEXTS, examples, mutated
from tallymark import config
from tallymark.core.types import Rated, Trace, Unit, Unrated
from tallymark.errors import ConfigError
from tallymark.rating.cards import RateCard, parse_card
from tallymark.rating.rate import rate
from tallymark.settings import SETTINGS

MOMENT = "2026-11-01T00:00:00Z"
CARDS = (
    {
        "name": "first",
        "rule": [
            {"from": "beginning", "credit_price_usd": "0.00004", "compute_usd_per_minute": "0.05", "ai": "cost"},
            {
                "from": MOMENT,
                "credit_price_usd": "0.00005",
                "compute_usd_per_minute": "0.05",
                "margin": "1.25",
                "storage_credits_per_gb_month": "1000",
                "ai": "tokens",
                "tokens": {"gpt-*": {"per": 1000, "credits": "100"}, "*": {"per": 1000, "credits": "40"}},
            },
        ],
    },
)
FILES = (
    {
        "stripe_secret_key": "sk_test_x",
        "settle_seconds": 900,
        "use_tag_filtering": True,
        "customers": {"users": {"user-1": "cus_1"}, "sessions": {}, "organizations": {"org": "cus_2"}},
        "meters": {"ai": "ai_credits"},
        "projects": {
            "one": {"public_key": "pk-lf-1", "secret_key": "sk-lf-needle-42", "base_url": "https://one.example"}
        },
    },
)
TRACE = Trace("p", "t", 1_795_000_000_000_000, (Unit("", Decimal("0.01"), Decimal(12), tokens=100, model="gpt-4"),))


def toml(value):
    """A value as TOML. What TOML has no words for (null, numbers beyond 64 bits) becomes text that it refuses."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(key)} = {toml(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(part) for part in value) + "]"
    return quoted(value) if isinstance(value, str) and value != MOMENT else json.dumps(value).strip('"')


def quoted(text):
    """A basic string, or a key; escapes of JSON are those of TOML, but for half characters, which TOML refuses."""
    return json.dumps(text)


def file_of(table):
    """The text of a file."""
    return "".join(f"{quoted(key)} = {toml(value)}\n" for key, value in table.items())


@examples(300)
@given(mutated(CARDS).map(file_of) | ANY_JSON.map(toml) | st.text(max_size=80) | st.sampled_from(TEXTS))
def test_any_card_rates_or_is_refused(text):
    """A card that is taken rates a plain trace: credits, or a reason why not."""
    try:
        card = parse_card(text)
    except ConfigError as error:
        str(error).encode(errors="backslashreplace")
        return
    assert isinstance(card, RateCard)
    assert isinstance(rate(TRACE, card, default_ownership="platform"), Rated | Unrated)


def test_the_card_that_is_mutated_is_a_card():
    """Otherwise only refusals would be tried."""
    assert isinstance(parse_card(file_of(CARDS[0])), RateCard)


@examples(200)
@given(mutated(FILES).map(file_of) | ANY_JSON.map(toml) | st.text(max_size=80))
def test_any_settings_file_is_taken_or_refused(tmp_path, text):
    """And what is taken can be shown, with no secret in it."""
    file = tmp_path / "tallymark.toml"
    file.write_bytes(text.encode(errors="surrogatepass"))
    try:
        found = config.load(file, {})
    except ConfigError as error:
        assert "sk-lf-needle-42" not in str(error)
        return
    assert all(isinstance(part, str) for line in found.describe() for part in line)


def test_the_file_that_is_mutated_is_taken(tmp_path):
    file = tmp_path / "tallymark.toml"
    file.write_text(file_of(FILES[0]), "utf-8")

    assert config.load(file, {}).projects[0].secret_key == "sk-lf-needle-42"


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.variables[0])
def test_any_text_in_a_variable_is_taken_or_refused(setting):
    """Every setting; the message names the variable, and a secret's text stays out of it."""

    @examples(60)
    @given(st.sampled_from(TEXTS) | st.text(max_size=40) | st.from_regex(r"[0-9.]{1,30}", fullmatch=True))
    def any_text(text):
        try:
            config.load(None, {setting.variables[0]: text})
        except ConfigError as error:
            assert setting.variables[0] in str(error) or "BILLING_" in str(error)
            assert not setting.secret or len(text.strip()) < 8 or text not in str(error)

    any_text()
