"""Configuration: environment before file before default, and a clear refusal for everything else."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from tallymark.config import (
    SETTINGS,
    Config,
    default_ledger_url,
    find_file,
    load,
    require_langfuse,
    require_stripe,
    template,
)
from tallymark.core.clock import DAY_US, HOUR_US, SECOND_US
from tallymark.errors import ConfigError

SECRET = "sk_live_abcdefghijklmnopqrstuvwxyz"
CARD = """\
name = "file"
[[rule]]
from = "beginning"
credit_price_usd = "0.001"
compute_usd_per_minute = "0"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tallymark.toml"


def written(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    return file


def refusal(file: Path | None = None, **environ: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load(file, environ)
    assert refused.value.exit_status == 2
    return str(refused.value)


def origins(config: Config) -> dict[str, tuple[str, str]]:
    return {name: (value, origin) for name, value, origin in config.describe()}


def test_the_defaults_are_those_of_the_contract():
    config = load(None, {})

    assert [project.base_url for project in config.projects] == ["https://cloud.langfuse.com"]
    assert config.stripe_api_base == "https://api.stripe.com"
    assert (config.meter_event_name, config.meter_bucket) == ("credits", "hour")
    assert (config.source, config.marks, config.use_tag_filtering) == ("auto", "auto", False)
    assert (config.lookback_us, config.overlap_us, config.settle_us) == (7 * DAY_US, 2 * HOUR_US, 900 * SECOND_US)
    assert (config.window_us_max, config.langfuse_requests_per_minute, config.stripe_requests_per_second) == (None,) * 3
    rule = config.rate_card.rules[0]
    assert (rule.credit_price_usd, rule.margin) == (Decimal("0.00004"), 1)
    assert rule.compute_usd_per_minute == Decimal("0.05")
    assert (config.default_ai_ownership, config.customers.default, config.customers.override) == (
        "platform",
        None,
        False,
    )
    assert config.ledger_url == default_ledger_url()
    assert re.fullmatch(r"sqlite:///.+/ledger\.sqlite3", config.ledger_url)


def test_every_default_is_taken_by_its_own_parser():
    for setting in SETTINGS:
        assert setting.default is None or setting.parse(setting.default) is not None


def test_environment_beats_file_beats_default(file):
    written(file, 'meter_bucket = "day"\nmeter_event_name = "from_file"\n')

    shown = origins(load(file, {"BILLING_METER_BUCKET": "trace"}))

    assert shown["BILLING_METER_BUCKET"] == ("trace", "environment BILLING_METER_BUCKET")
    assert shown["BILLING_METER_EVENT_NAME"] == ("from_file", f"file {file}")
    assert shown["BILLING_SOURCE"] == ("auto", "default")


def test_blank_text_in_a_layer_says_nothing(file):
    written(file, 'meter_bucket = ""\nmeter_event_name = "from_file"\n')

    config = load(file, {"BILLING_METER_EVENT_NAME": " "})

    assert (config.meter_bucket, config.meter_event_name) == ("hour", "from_file")


@pytest.mark.parametrize(
    ("first", "second", "key"),
    [
        ("LANGFUSE_BASE_URL", "LANGFUSE_HOST", "LANGFUSE_BASE_URL"),
        ("BILLING_STRIPE_SECRET_KEY", "STRIPE_SECRET_KEY", "BILLING_STRIPE_SECRET_KEY"),
    ],
)
def test_the_first_of_two_variables_decides(first, second, key):
    both = load(None, {first: "http://first", second: "http://second"})
    only = load(None, {second: "http://second"})

    assert [origins(config)[key][1] for config in (both, only)] == [f"environment {first}", f"environment {second}"]


@pytest.mark.parametrize(("text", "flag"), [("true", True), ("1", True), ("YES", True), ("on", True)])
def test_flags_that_are_true(text, flag):
    assert load(None, {"BILLING_USE_TAG_FILTERING": text}).use_tag_filtering is flag


@pytest.mark.parametrize("text", ["false", "0", "No", "off"])
def test_flags_that_are_false(text):
    assert load(None, {"BILLING_USE_TAG_FILTERING": text}).use_tag_filtering is False


def test_toml_flags_and_integers_are_taken_as_they_are(file):
    config = load(written(file, "use_tag_filtering = true\nsync_lookback_days = 30\nmargin_multiplier = 2\n"), {})

    assert (config.use_tag_filtering, config.lookback_us) == (True, 30 * DAY_US)
    assert config.rate_card.rules[0].margin == 2


def test_fractions_of_hours_are_exact():
    assert load(None, {"BILLING_SYNC_WINDOW_HOURS": "0.5"}).window_us_max == HOUR_US // 2


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("BILLING_USE_TAG_FILTERING", "maybe", "must be true, false, 1, 0, yes, no, on or off"),
        ("BILLING_METER_BUCKET", "week", "must be one of minute, hour, day, trace"),
        ("BILLING_SOURCE", "v2", "must be one of auto, traces, observations"),
        ("BILLING_MARKS", "both", "must be one of auto, score, tags"),
        ("BILLING_DEFAULT_AI_OWNERSHIP", "mine", "must be one of platform, user"),
        ("BILLING_CREDIT_PRICE_USD", "0", "must be above 0"),
        ("BILLING_CREDIT_PRICE_USD", "4e-5", "must be a plain number"),
        ("BILLING_MARGIN_MULTIPLIER", "-1", "must be a plain number"),
        ("BILLING_MARGIN_MULTIPLIER", "1,5", "must be a plain number"),
        ("BILLING_COMPUTE_USD_PER_MINUTE", "NaN", "must be a plain number"),
        ("BILLING_SYNC_LOOKBACK_DAYS", "0", "must be above 0"),
        ("BILLING_LANGFUSE_REQUESTS_PER_MINUTE", "1.5", "must be a whole number"),
        ("BILLING_STRIPE_REQUESTS_PER_SECOND", "0", "must be a whole number"),
        ("LANGFUSE_HOST", "langfuse.example.com", "must be an address"),
        ("LANGFUSE_BASE_URL", "http://[", "must be an address"),
        ("STRIPE_API_BASE", "http://host:port", "must be an address"),
        ("STRIPE_API_BASE", "ftp://host", "must be an address"),
        ("BILLING_LEDGER_URL", "ledger.sqlite3", "must be sqlite:///PATH"),
        ("BILLING_METER_EVENT_NAME", "x" * 101, "must be at most 100"),
    ],
)
def test_a_wrong_value_is_refused_with_variable_value_and_what_it_must_be(variable, text, words):
    message = refusal(**{variable: text})

    assert f"{variable} is '{text}'" in message
    assert words in message


def test_an_unknown_variable_is_refused_with_the_nearest_name():
    assert "'BILLING_METER_BUCKT'; did you mean 'BILLING_METER_BUCKET'?" in refusal(BILLING_METER_BUCKT="hour")


def test_variables_of_other_programs_are_not_ours():
    load(None, {"LANGFUSE_DEBUG": "1", "STRIPE_CLI": "1", "PATH": "/bin"})


@pytest.mark.parametrize("key", ["meter_buckt", "BILLING_METER_BUCKET", "billing_meter_bucket"])
def test_an_unknown_key_is_refused_with_the_nearest_name(file, key):
    message = refusal(written(file, f'{key} = "hour"'))

    assert f"{file} does not know '{key}'; did you mean 'meter_bucket'?" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("margin_multiplier = 1.5", ["margin_multiplier", "'1.5'", "binary"]),
        ("use_tag_filtering = 2", ["use_tag_filtering", "'2'", "true or false"]),
        ("default_stripe_customer_id = 12345", ["default_stripe_customer_id", "'12345'", "text in quotes"]),
        ("meter_bucket = 'week'", ["meter_bucket", "'week'", "hour"]),
        ("meter_bucket = \n", ["not TOML", "line 1"]),
        ("[alerts]\ncustomers = 5", ["[alerts] does not know 'customers'", "customer_credits"]),
        ("[alerts.customer_credits]\na = -1", ["'a' in [alerts.customer_credits]", "'-1'", "plain number"]),
        ("[alerts.customer_credits]\na = 1.5", ["'a' in [alerts.customer_credits]", "text in quotes"]),
        ("[meters]\ncompute = 5", ["'compute' in [meters]", "text in quotes"]),
        ("[meters]\nai_tokens = 'x'", ["[meters] does not know 'ai_tokens'", "ai, compute, storage"]),
        ("[customers.user]\na = 'x'", ["[customers] does not know 'user'", "did you mean 'users'"]),
        ("[customers.users]\na = 5", ["'a' in [customers.users]", "'5'", "text in quotes"]),
        ("[customers.users]\na = ' '", ["'a' in [customers.users]", "printable"]),
        ("customers = 1", ["[customers] must be a table"]),
        ("[projects]\nmain = 1", ["[projects.main] must be a table"]),
        ("[projects.main]\nurl = 'x'", ["[projects.main] does not know 'url'"]),
        ("[projects.main]\nbase_url = 'x'", ["base_url in [projects.main]", "must be an address"]),
        ("[projects.main]\nsecret_key = 'a'\nsecret_key_env = 'B'", ["both secret_key and secret_key_env"]),
        ("langfuse_public_key = 'pk'\n[projects.main]", ["langfuse_public_key", "move it into one of them"]),
    ],
)
def test_a_wrong_file_is_refused_with_key_and_what_to_do(file, text, words):
    message = refusal(written(file, text))

    assert [word for word in words if word not in message] == []


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "latin1.toml").write_bytes(b'meter_event_name = "\xe9"')

    assert "cannot be read" in refusal(tmp_path / "missing.toml")
    assert "cannot be read" in refusal(tmp_path)
    assert "save it as UTF-8" in refusal(tmp_path / "latin1.toml")


def test_a_byte_order_mark_does_no_harm(file):
    file.write_text('meter_bucket = "day"', encoding="utf-8-sig")

    assert load(file, {}).meter_bucket == "day"


def test_the_file_is_the_chosen_one_or_that_of_the_folder_or_none(tmp_path, file):
    other = tmp_path / "other.toml"
    without = [find_file(None, tmp_path), find_file(other, tmp_path)]
    written(file, "")

    assert [*without, find_file(None, tmp_path), find_file(other, tmp_path)] == [None, other, file, other]


# ---- secrets


def test_secrets_appear_nowhere(file):
    written(file, f'[projects.main]\npublic_key = "pk-lf-1"\nsecret_key = "{SECRET}"\n')
    names = [setting.variables[0] for setting in SETTINGS if setting.secret and "LANGFUSE" not in setting.variables[0]]
    urls = {
        "BILLING_LEDGER_URL": f"postgresql://u:{SECRET}@h/d?password={SECRET}",
        "BILLING_ALERT_WEBHOOK_URL": f"https://hooks.example.com/services/{SECRET}",
        "BILLING_CLICKHOUSE_URL": f"https://reader:{SECRET}@clickhouse.example.com:8443/default",
    }
    config = load(file, dict.fromkeys(names, SECRET) | urls)

    assert (config.stripe_secret_key, config.projects[0].secret_key) == (SECRET, SECRET)
    assert SECRET[:-4] not in repr(config) + repr(config.describe())
    assert origins(config)["BILLING_LEDGER_URL"][0] == "postgresql://****@h/d?****"


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        *((variable, f"{SECRET} {SECRET}") for setting in SETTINGS if setting.secret for variable in setting.variables),
        ("BILLING_LEDGER_URL", f"mysql://user:{SECRET}@host/db?password={SECRET}"),
        ("LANGFUSE_HOST", f"https://user:{SECRET}@host"),
        ("BILLING_ALERT_WEBHOOK_URL", f"https://user:{SECRET}@hooks.example.com/x"),
        ("BILLING_ALERT_WEBHOOK_URL", f"hooks.example.com/services/{SECRET}"),
    ],
)
def test_errors_name_the_variable_but_never_the_secret(variable, text):
    message = refusal(**{variable: text})

    assert variable in message
    assert SECRET[:-4] not in message


def test_a_secret_in_the_place_of_another_setting_is_hidden():
    """Keys are pasted, and the two of Langfuse look alike."""
    found = load(None, {"LANGFUSE_PUBLIC_KEY": "sk-lf-0123-swapped", "LANGFUSE_SECRET_KEY": "pk-lf-0123"})

    assert dict(line[:2] for line in found.describe())["LANGFUSE_PUBLIC_KEY"] == "sk-lf-****"
    with pytest.raises(ConfigError, match=r"'sk_live_\*\*\*\*', but it must be true"):
        load(None, {"BILLING_USE_TAG_FILTERING": "sk_live_0123456789"})


def test_a_secret_of_a_wrong_type_in_the_file_is_masked(file):
    message = refusal(written(file, "stripe_secret_key = 123456789012345678"))

    assert "stripe_secret_key" in message
    assert "1234567890" not in message


def test_missing_keys_are_an_error_only_when_needed(file):
    written(file, '[projects.main]\npublic_key = "pk"\nsecret_key_env = "MAIN_SECRET"\n[projects.other]\n')
    messages = []
    for config in (load(None, {"LANGFUSE_PUBLIC_KEY": "pk"}), load(file, {}), load(file, {"MAIN_SECRET": "sk"})):
        with pytest.raises(ConfigError) as refused:
            require_langfuse(config)
        messages.append(str(refused.value))

    assert "set LANGFUSE_SECRET_KEY" in messages[0]
    assert "'main' has no key; set MAIN_SECRET " in messages[1]
    assert "set public_key or public_key_env in [projects.other] and secret_key or" in messages[2]
    with pytest.raises(ConfigError, match=r"BILLING_STRIPE_SECRET_KEY \(or STRIPE_SECRET_KEY\)"):
        require_stripe(load(None, {}))


def test_keys_that_are_there_are_enough():
    keys = {"LANGFUSE_PUBLIC_KEY": "pk", "LANGFUSE_SECRET_KEY": "sk", "STRIPE_SECRET_KEY": "sk"}

    require_langfuse(load(None, keys))
    require_stripe(load(None, keys))


# ---- tables


def test_projects_come_from_tables_with_keys_from_file_or_environment(file):
    written(
        file,
        '[projects.a]\nbase_url = "http://a/"\npublic_key = "pk-a"\nsecret_key_env = "BILLING_KEY_OF_A"\n'
        '[projects.b]\npublic_key_env = "LANGFUSE_PUBLIC_KEY"\nsecret_key = "sk-b"\n',
    )
    environ = {"BILLING_KEY_OF_A": "sk-a", "LANGFUSE_PUBLIC_KEY": "pk-b", "LANGFUSE_HOST": "http://b"}

    config = load(file, environ)

    found = [(project.name, project.base_url, project.public_key, project.secret_key) for project in config.projects]
    assert found == [("a", "http://a", "pk-a", "sk-a"), ("b", "http://b", "pk-b", "sk-b")]
    shown = origins(config)
    assert shown["projects.a.secret_key"] == ("****", "environment BILLING_KEY_OF_A")
    assert shown["projects.a.base_url"] == ("http://a", f"file {file}")
    assert shown["projects.b.base_url"] == ("http://b", "environment LANGFUSE_HOST")
    assert "LANGFUSE_PUBLIC_KEY" not in shown


def test_meters_and_mappings_come_from_tables(file):
    written(
        file, '[meters]\ncompute = "compute_credits"\n[customers.users]\n"u 1" = "cus_1"\n[customers.sessions]\ns = "c"'
    )

    config = load(file, {})

    assert [config.meter_for(name) for name in ("ai", "compute", "storage")] == [
        "credits",
        "compute_credits",
        "credits",
    ]
    assert (config.customers.users, config.customers.sessions, config.customers.organizations) == (
        {"u 1": "cus_1"},
        {"s": "c"},
        {},
    )
    assert origins(config)["meters.compute"] == ("compute_credits", f"file {file}")


def test_override_needs_a_default_customer():
    assert "BILLING_DEFAULT_STRIPE_CUSTOMER_ID" in refusal(BILLING_OVERRIDE_CUSTOMER_ID="true")


# ---- rate card


def test_a_rate_card_is_found_beside_the_file_that_names_it(file):
    written(file.parent / "card.toml", CARD)

    config = load(written(file, 'rate_card = "card.toml"'), {})

    assert (config.rate_card.name, config.rate_card.rules[0].credit_price_usd) == ("file", Decimal("0.001"))
    assert "BILLING_CREDIT_PRICE_USD" not in origins(config)


@pytest.mark.parametrize(
    "variable", ["BILLING_CREDIT_PRICE_USD", "BILLING_MARGIN_MULTIPLIER", "BILLING_COMPUTE_USD_PER_MINUTE"]
)
def test_prices_beside_a_rate_card_are_refused(tmp_path, variable):
    card = written(tmp_path / "card.toml", CARD)

    assert f"{variable} is set, but so is BILLING_RATE_CARD" in refusal(
        **{variable: "1", "BILLING_RATE_CARD": str(card)}
    )


def test_an_error_in_the_rate_card_names_its_file(tmp_path):
    card = written(tmp_path / "card.toml", CARD.replace("0.001", "x"))

    message = refusal(BILLING_RATE_CARD=str(card))

    assert [word for word in (str(card), "BILLING_RATE_CARD", "credit_price_usd", "'x'") if word not in message] == []
    assert "cannot be read" in refusal(BILLING_RATE_CARD=str(tmp_path / "none.toml"))


# ---- digest, template, imports


def test_the_decision_digest_changes_with_what_decides_and_with_nothing_else(file):
    base = {"BILLING_DEFAULT_STRIPE_CUSTOMER_ID": "cus_1"}
    deciding = {
        "BILLING_MARGIN_MULTIPLIER": "2",
        "BILLING_DEFAULT_AI_OWNERSHIP": "user",
        "BILLING_DEFAULT_STRIPE_CUSTOMER_ID": "cus_2",
        "BILLING_OVERRIDE_CUSTOMER_ID": "true",
        "BILLING_METER_EVENT_NAME": "other",
        "BILLING_METER_BUCKET": "day",
    }
    indifferent = {"BILLING_SYNC_LOOKBACK_DAYS": "30", "STRIPE_SECRET_KEY": "sk", "BILLING_MARKS": "score"}
    first = load(None, base).decision_digest
    tables = [
        load(written(file, f'[{name}]\ncompute = "x"'), base)
        for name in ("meters", "customers.users", "customers.sessions")
    ]

    digests = {load(None, base | {name: text}).decision_digest for name, text in deciding.items()}
    digests |= {config.decision_digest for config in tables}
    assert len(digests | {first}) == len(deciding) + len(tables) + 1
    assert {load(None, base | {name: text}).decision_digest for name, text in indifferent.items()} == {first}
    assert re.fullmatch("[0-9a-f]{16}", first)


def test_the_template_is_valid_as_it_is_and_changes_nothing(file):
    assert load(written(file, template()), {}) == load(None, {})


def test_the_template_is_valid_uncommented_and_has_every_setting(file):
    text = re.sub(r"^#(?! )", "", template(), flags=re.MULTILINE)
    config = load(written(file, text), {})

    assert [setting.key for setting in SETTINGS if f"\n{setting.key} = " not in text] == []
    tables = {name: getattr(config, name) for name in ("projects", "meters", "customers", "customer_limits")}
    defaults = replace(load(None, {}), **tables)
    assert config == defaults
    assert (config.projects[0].name, config.meter_for("compute")) == ("main", "compute_credits")
    assert config.customer_limits == {"cus_example": 250_000}


def test_describe_has_every_setting_once():
    assert [name for name, _, _ in load(None, {}).describe()] == [setting.variables[0] for setting in SETTINGS]


def test_importing_the_configuration_imports_no_http_database_or_web_library():
    heavy = "rich stripe urllib3 requests sqlite3 http.client ssl socket platformdirs difflib"
    code = f"import sys, tallymark.config; print([name for name in {heavy.split()} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
