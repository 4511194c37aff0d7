"""Configuration: environment, then `tallymark.toml`, then default, merged once into one frozen `Config`.

Layers hold text or nothing; one parser reads a setting wherever it came from (`settings.SETTINGS`). Nothing here
reaches a network, and a missing key is no error until a command needs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from tallymark.core.clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from tallymark.core.periods import Lateness
from tallymark.errors import ConfigError
from tallymark.rating.cards import RateCard, default_card, digest_of, parse_card
from tallymark.rating.customers import CustomerPolicy
from tallymark.rating.fields import read_toml, refuse_unknown
from tallymark.rating.rules import COMPONENTS

from .config_tables import (
    CUSTOMER_CREDITS,
    DEFAULT_PROJECT,
    TABLES,
    ProjectConfig,
    checked,
    named_variables,
    read_customer_limits,
    read_mappings,
    read_meters,
    read_projects,
    shown_value,
)
from .config_template import template
from .settings import BULK_SOURCES, SETTINGS, TOTALS, Setting

__all__ = [
    "FILE_NAME",
    "SETTINGS",
    "Config",
    "ProjectConfig",
    "Setting",
    "default_ledger_url",
    "find_file",
    "load",
    "read_card",
    "require_bulk",
    "require_langfuse",
    "require_stripe",
    "require_webhook",
    "template",
]

FILE_NAME = "tallymark.toml"
_FILE_BYTES_MAX = 50_000_000
_LANGFUSE_KEYS = ("langfuse_public_key", "langfuse_secret_key")
_CARD_PRICES = ("credit_price_usd", "margin_multiplier", "compute_usd_per_minute")

Line = tuple[str, str, str]
"""A line of `config show`: the setting's name, its value with secrets masked, and its origin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting, read and checked. None means: not set; the part that needs it chooses or refuses."""

    projects: tuple[ProjectConfig, ...]
    stripe_secret_key: str | None = field(repr=False)
    stripe_api_base: str
    stripe_meter_events_base: str
    stripe_webhook_secret: str | None = field(repr=False)
    stripe_credits_meter_id: str | None
    meter_event_name: str
    meters: Mapping[str, str]
    meter_bucket: str
    meter_api: str
    late_period: str
    invoice_grace_hours: Decimal
    corrections: str
    deleted_traces: str
    ledger_url: str = field(repr=False)
    source: str
    export_url: str | None
    export_s3_endpoint: str | None
    clickhouse_url: str | None = field(repr=False)
    marks: str
    use_tag_filtering: bool
    sync_lookback_days: Decimal
    sync_overlap_hours: Decimal
    settle_seconds: Decimal
    sync_every_minutes: Decimal
    full_sync_at: int | None
    reconcile_at: int | None
    sync_stale_minutes: Decimal
    sync_window_hours: Decimal | None
    langfuse_requests_per_minute: int | None
    stripe_requests_per_second: int | None
    rate_card: RateCard
    default_ai_ownership: str
    customers: CustomerPolicy
    api_token: str | None = field(repr=False)
    api_read_token: str | None = field(repr=False)
    api_requests_per_minute: int
    secure_cookies: bool
    alert_webhook_url: str | None = field(repr=False)
    alert_every_minutes: Decimal
    alert_lag_minutes: Decimal
    alert_failures: int
    alert_held_credits: Decimal | None
    alert_leakage_hours: Decimal
    alert_loss_usd: Decimal
    alert_customer_credits: Decimal | None
    alert_stopped_hours: Decimal
    alert_customer_stopped_hours: Decimal | None
    customer_limits: Mapping[str, Decimal]
    lines: tuple[Line, ...] = field(default=(), repr=False, compare=False)

    @property
    def lookback_us(self) -> int:
        """How far back a full sync reads, in microseconds."""
        return int(self.sync_lookback_days * DAY_US)

    @property
    def overlap_us(self) -> int:
        """What an incremental run reads again, in microseconds."""
        return int(self.sync_overlap_hours * HOUR_US)

    @property
    def settle_us(self) -> int:
        """How long a trace must be quiet before it is read, in microseconds."""
        return int(self.settle_seconds * SECOND_US)

    @property
    def sync_every_us(self) -> int:
        """How long after the last start serve syncs again, in microseconds."""
        return int(self.sync_every_minutes * MINUTE_US)

    @property
    def sync_stale_us(self) -> int:
        """How old the last sync that worked may be for serve to be ready, in microseconds."""
        return int(self.sync_stale_minutes * MINUTE_US)

    @property
    def alert_every_us(self) -> int:
        """How often serve looks for something to alert about, in microseconds."""
        return int(self.alert_every_minutes * MINUTE_US)

    @property
    def lateness(self) -> Lateness:
        """When usage is too late for its invoice."""
        return Lateness(int(self.invoice_grace_hours * HOUR_US) if self.late_period == "hold" else None)

    @property
    def bulk_source(self) -> str | None:
        """What is read before Langfuse's API, or instead of it: "export", "clickhouse" or nothing."""
        return self.source if self.source in BULK_SOURCES else None

    @property
    def api_source(self) -> str:
        """Which API is read where one is: "auto", "traces" or "observations"."""
        return "auto" if self.source in BULK_SOURCES else self.source

    @property
    def window_us_max(self) -> int | None:
        """Upper bound of one read window in microseconds, if one is set."""
        return None if self.sync_window_hours is None else int(self.sync_window_hours * HOUR_US)

    def meter_for(self, component: str) -> str:
        """The event_name of the meter that takes the credits of a component ("ai", "compute", "storage")."""
        return self.meters.get(component, self.meter_event_name)

    @property
    def decision_digest(self) -> str:
        """16 hex digits over everything that decides what is billed, to whom, on which meter, in which buckets."""
        customers = self.customers
        mappings = [dict(customers.sessions), dict(customers.users), dict(customers.organizations)]
        if rules := customers.rules:
            mappings += [dict(rules.sessions), dict(rules.users), dict(rules.organizations)]
        return digest_of(
            {
                "rate_card": self.rate_card.digest,
                "ownership": self.default_ai_ownership,
                "customers": [customers.override, customers.default, mappings],
                "meters": [self.meter_for(component) for component in COMPONENTS],
                "bucket": self.meter_bucket,
            }
        )

    def describe(self) -> list[Line]:
        """Every setting with its value (secrets masked) and origin: "environment NAME", "file PATH" or "default"."""
        return list(self.lines)


def find_file(chosen: Path | None, folder: Path) -> Path | None:
    """The settings file: the chosen one, else `tallymark.toml` in the folder if it is there, else none."""
    in_folder = folder / FILE_NAME
    return chosen or (in_folder if in_folder.is_file() else None)


def load(file: Path | None, environ: Mapping[str, str]) -> Config:
    """Merge environment, file (None: no file) and defaults, and check everything.

    Raises ConfigError that names the variable or key, its value (masked if secret) and what to do.
    """
    table = _read_file(file)
    _refuse_unknown_names(table, file, environ)
    layers = _Layers(environ, table, file)
    found = {setting.key: layers.find(setting) for setting in SETTINGS}
    values = {key: each.value() for key, each in found.items()}
    own = {name: value for name, value in values.items() if name in Config.__dataclass_fields__}
    own["projects"] = _projects(layers, found, values)
    own["meters"] = read_meters(table)
    own["customers"] = _customers(table, values)
    own["customer_limits"] = read_customer_limits(table)
    _check_corrections(values)
    _check_meter_api(values)
    own["rate_card"] = _rate_card(found, values, file)
    return Config(**own, lines=tuple(_lines(found, own, file)))


def default_ledger_url() -> str:
    """The ledger's place when none is set: a SQLite file in the user's data folder."""
    from platformdirs import user_data_dir  # only where it is needed: imports take time

    return f"sqlite:///{(Path(user_data_dir('tallymark', appauthor=False)) / 'ledger.sqlite3').as_posix()}"


def read_card(path: Path, named_by: str) -> RateCard:
    """Read a rate card's file. Raises ConfigError with the path, and the setting or option that named it."""
    try:
        return parse_card(_read_text(path))
    except ConfigError as problem:
        raise ConfigError(f"{path} ({named_by}): {problem}") from None


def require_langfuse(config: Config) -> None:
    """Raise ConfigError that names the settings, if a project lacks a key."""
    for project in config.projects:
        if project.missing:
            names = " and ".join(project.missing)
            raise ConfigError(
                f"project {project.name!r} has no key; set {names} (Langfuse: project settings, API keys)"
            )


def require_bulk(config: Config) -> None:
    """Raise ConfigError that names the setting, if BILLING_SOURCE names something whose place is not set."""
    places = {
        "export": ("BILLING_EXPORT_URL", config.export_url),
        "clickhouse": ("BILLING_CLICKHOUSE_URL", config.clickhouse_url),
    }
    name, place = places.get(config.source, ("", ""))
    if place is None:
        raise ConfigError(f"BILLING_SOURCE is {config.source}, but {name} is not set; set it, or another source")


def require_stripe(config: Config) -> None:
    """Raise ConfigError that names the setting, if there is no Stripe key."""
    if config.stripe_secret_key is None:
        names = "BILLING_STRIPE_SECRET_KEY (or STRIPE_SECRET_KEY)"
        raise ConfigError(f"there is no Stripe key; set {names} (Stripe: Developers, API keys)")


def require_webhook(config: Config) -> tuple[str, ...]:
    """The signing secrets of Stripe's webhooks. Raises ConfigError that names the setting, if there is none."""
    if config.stripe_webhook_secret is None:
        raise ConfigError(
            "there is no signing secret; set BILLING_STRIPE_WEBHOOK_SECRET (Stripe: Workbench, Webhooks, whsec_…)"
        )
    return tuple(secret for secret in config.stripe_webhook_secret.split(",") if secret)


# ---- layers


@dataclass(frozen=True, slots=True)
class _Found:
    """The text of a setting and where it was found; `name` is what an error calls it."""

    setting: Setting
    text: str | None = field(repr=False)
    name: str
    origin: str

    @property
    def is_set(self) -> bool:
        return self.origin != "default"

    def value(self) -> Any:
        return None if self.text is None else checked(self.text, self.name, self.setting.parse, self.setting.shown)

    def line(self) -> Line:
        shown = "not set" if self.text is None else self.setting.shown(self.text)
        return self.setting.variables[0], shown, self.origin


@dataclass(frozen=True, slots=True)
class _Layers:
    """The three layers, none of which needs to say anything; blank text says nothing."""

    environ: Mapping[str, str]
    table: Mapping[str, Any]
    file: Path | None

    def find(self, setting: Setting) -> _Found:
        """The text of the first layer that says something."""
        for variable in setting.variables:
            if text := self.environ.get(variable, "").strip():
                return _Found(setting, text, variable, f"environment {variable}")
        if text := self._text_in_file(setting):
            return _Found(setting, text, f"{setting.key} in {self.file}", f"file {self.file}")
        return _Found(setting, _default_text(setting), setting.variables[0], "default")

    def _text_in_file(self, setting: Setting) -> str:
        value = self.table.get(setting.key, "")
        if type(value) not in setting.toml_types:
            told = f"{setting.key} in {self.file} is {shown_value(value, setting.shown)}"
            raise ConfigError(f"{told}, but it must be {_wanted(setting)}")
        return str(value).lower() if isinstance(value, bool) else str(value).strip()


def _default_text(setting: Setting) -> str | None:
    return default_ledger_url() if setting.key == "ledger_url" else setting.default


def _wanted(setting: Setting) -> str:
    if bool in setting.toml_types:
        return "true or false"
    if int in setting.toml_types:
        return 'an integer, or a number in quotes such as "0.05": TOML floats are binary and not exact'
    return "text in quotes"


def _refuse_unknown_names(table: Mapping[str, Any], file: Path | None, environ: Mapping[str, str]) -> None:
    variables = {variable for setting in SETTINGS for variable in setting.variables} | set(named_variables(table))
    refuse_unknown("the environment", sorted(name for name in environ if name.startswith("BILLING_")), variables)
    refuse_unknown(str(file), table, {setting.key for setting in SETTINGS} | set(TABLES))


# ---- files


def _read_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return read_toml(_read_text(file))
    except ConfigError as problem:
        raise ConfigError(f"{file}: {problem}") from None


def _read_text(file: Path) -> str:
    content = _read_bytes(file)
    if len(content) > _FILE_BYTES_MAX:
        raise ConfigError(f"this file is larger than {_FILE_BYTES_MAX // 1_000_000} MB; name another one")
    try:
        # Some editors put a byte order mark in front, which TOML does not know.
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError("this file is not UTF-8 text; save it as UTF-8") from None


def _read_bytes(file: Path) -> bytes:
    try:
        # A device may have no end.
        with file.open("rb") as opened:
            return opened.read(_FILE_BYTES_MAX + 1)
    except OSError as problem:
        raise ConfigError(f"this file cannot be read: {problem.strerror}; check its name and its rights") from None
    except ValueError:
        raise ConfigError("this is no name that a file may have; check it") from None


def _rate_card(found: Mapping[str, _Found], values: Mapping[str, Any], file: Path | None) -> RateCard:
    card = found["rate_card"]
    if not card.is_set:
        return default_card(*(values[key] for key in _CARD_PRICES))
    for price in (found[key] for key in _CARD_PRICES):
        if price.is_set:
            raise ConfigError(f"{price.name} is set, but so is {card.name}, which decides it; remove one of them")
    return read_card(_beside_file(Path(values["rate_card"]).expanduser(), card, file), card.name)


def _beside_file(path: Path, found: _Found, file: Path | None) -> Path:
    """A path in the file starts at the file's folder, one in the environment at the current folder."""
    return file.parent / path if file is not None and found.origin.startswith("file") else path


# ---- what rests on several settings


def _projects(layers: _Layers, found: Mapping[str, _Found], values: Mapping[str, Any]) -> tuple[ProjectConfig, ...]:
    base_url = found["langfuse_base_url"]
    projects = read_projects(
        layers.table, layers.environ, values["langfuse_base_url"], base_url.origin, f"file {layers.file}"
    )
    if not projects:
        return (_only_project(found, values),)
    for key in (found[key] for key in _LANGFUSE_KEYS):
        if key.origin.startswith("file"):
            raise ConfigError(f"{key.name} stands beside [projects.…] tables; move it into one of them")
    return projects


def _only_project(found: Mapping[str, _Found], values: Mapping[str, Any]) -> ProjectConfig:
    missing = tuple(found[key].name for key in _LANGFUSE_KEYS if values[key] is None)
    public_key, secret_key = (values[key] for key in _LANGFUSE_KEYS)
    return ProjectConfig(DEFAULT_PROJECT, values["langfuse_base_url"], public_key, secret_key, missing)


def _customers(table: Mapping[str, Any], values: Mapping[str, Any]) -> CustomerPolicy:
    override, default = values["override_customer_id"], values["default_stripe_customer_id"]
    if override and default is None:
        raise ConfigError(
            "BILLING_OVERRIDE_CUSTOMER_ID is true, but there is no customer to bill;"
            " set BILLING_DEFAULT_STRIPE_CUSTOMER_ID"
        )
    mappings = read_mappings(table)
    return CustomerPolicy(override, default, mappings["sessions"], mappings["users"], mappings["organizations"])


def _check_corrections(values: Mapping[str, Any]) -> None:
    if values["corrections"] == "cancel" and values["meter_bucket"] != "trace":
        raise ConfigError(
            "BILLING_CORRECTIONS is cancel, but one meter event covers many traces; "
            "set BILLING_METER_BUCKET to trace, or BILLING_CORRECTIONS to carry"
        )


def _check_meter_api(values: Mapping[str, Any]) -> None:
    if values["meter_api"] == TOTALS and values["meter_bucket"] == "trace":
        raise ConfigError(
            "BILLING_METER_API is totals, but Stripe does not say whether meter events of several traces share a "
            "window; set BILLING_METER_BUCKET to hour, or BILLING_METER_API to v1"
        )


def _lines(found: Mapping[str, _Found], own: Mapping[str, Any], file: Path | None) -> Iterator[Line]:
    projects: Sequence[ProjectConfig] = own["projects"]
    hidden: tuple[str, ...] = _LANGFUSE_KEYS if projects[0].origins else ()
    hidden += _CARD_PRICES if found["rate_card"].is_set else ()
    yield from (each.line() for key, each in found.items() if key not in hidden)
    for project in projects:
        yield from project.lines()
    yield from ((f"meters.{component}", name, f"file {file}") for component, name in own["meters"].items())
    yield from _mapping_lines(own["customers"], file)
    if limits := own["customer_limits"]:
        yield f"alerts.{CUSTOMER_CREDITS}", f"{len(limits)} entries", f"file {file}"


def _mapping_lines(policy: CustomerPolicy, file: Path | None) -> Iterator[Line]:
    for name, mapping in (
        ("sessions", policy.sessions),
        ("users", policy.users),
        ("organizations", policy.organizations),
    ):
        if mapping:
            yield f"customers.{name}", f"{len(mapping)} entries", f"file {file}"
