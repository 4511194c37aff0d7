"""The tables of `tallymark.toml`: what does not fit into one variable. Projects, meters, mappings of customers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tallymark.core.secrets import hide, mask, mask_url
from tallymark.errors import ConfigError
from tallymark.rating.fields import parse_text, refuse_unknown, table_of
from tallymark.rating.rules import COMPONENTS

from .settings import parse_meter_event_name, parse_positive, parse_secret, parse_web_url

TABLES = ("projects", "meters", "customers", "alerts")
MAPPINGS = ("sessions", "users", "organizations")
DEFAULT_PROJECT = "default"
CUSTOMER_CREDITS = "customer_credits"
_PROJECT_KEYS = ("base_url", "public_key", "secret_key", "public_key_env", "secret_key_env")


@dataclass(frozen=True, slots=True)
class ProjectConfig:
    """One Langfuse project. `missing` names the settings of those keys that are not set.

    `origins` tells where base_url, public_key and secret_key came from; it is empty for the project "default", whose
    keys are settings of their own.
    """

    name: str
    base_url: str
    public_key: str | None
    secret_key: str | None = field(repr=False)
    missing: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()

    def lines(self) -> Iterator[tuple[str, str, str]]:
        """Name, masked value and origin of what the project's table sets."""
        shown = (
            mask_url(self.base_url),
            hide(self.public_key) if self.public_key else "not set",
            mask(self.secret_key) if self.secret_key else "not set",
        )
        for key, value, origin in zip(("base_url", "public_key", "secret_key"), shown, self.origins, strict=False):
            yield f"projects.{self.name}.{key}", value, origin


@dataclass(frozen=True, slots=True)
class _Key:
    """A key of a project: its text, where it came from, and what to set if there is none."""

    text: str | None = field(repr=False)
    origin: str
    to_set: str


def read_projects(
    table: Mapping[str, Any], environ: Mapping[str, str], base_url: str, base_url_origin: str, file: str
) -> tuple[ProjectConfig, ...]:
    """The projects of the [projects.NAME] tables; `base_url` is for those that name none.

    Raises ConfigError that names the table and the key.
    """
    tables = table_of(table.get("projects", {}), "[projects]")
    default = _Key(base_url, base_url_origin, "base_url")
    return tuple(_project(name, value, environ, default, file) for name, value in tables.items())


def read_meters(table: Mapping[str, Any]) -> dict[str, str]:
    """The [meters] table: component to event_name. Raises ConfigError that names the key."""
    meters = table_of(table.get("meters", {}), "[meters]")
    refuse_unknown("[meters]", meters, COMPONENTS)
    return _texts(meters, "[meters]", parse_meter_event_name)


def read_mappings(table: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The [customers.…] tables: for sessions, users and organizations, Langfuse's id to Stripe's customer id.

    Raises ConfigError that names the table and the key.
    """
    customers = table_of(table.get("customers", {}), "[customers]")
    refuse_unknown("[customers]", customers, MAPPINGS)
    return {name: _mapping(customers.get(name, {}), f"[customers.{name}]") for name in MAPPINGS}


def read_customer_limits(table: Mapping[str, Any]) -> dict[str, Decimal]:
    """The [alerts.customer_credits] table: Stripe's customer id to credits. Raises ConfigError that names the key."""
    alerts = table_of(table.get("alerts", {}), "[alerts]")
    refuse_unknown("[alerts]", alerts, (CUSTOMER_CREDITS,))
    where = f"[alerts.{CUSTOMER_CREDITS}]"
    limits = table_of(alerts.get(CUSTOMER_CREDITS, {}), where)
    # A whole number may stand without quotes, as in the settings.
    texts = {key: str(value) if type(value) is int else value for key, value in limits.items()}
    return {key: checked(value, f"{key!r} in {where}", parse_positive) for key, value in texts.items()}


def named_variables(table: Mapping[str, Any]) -> Iterator[str]:
    """The environment variables that [projects.NAME] tables name for their keys."""
    for project in table_of(table.get("projects", {}), "[projects]").values():
        if isinstance(project, dict):
            yield from (str(variable) for key, variable in project.items() if key.endswith("_env"))


def checked(value: object, name: str, parse: Callable[[str], Any], shown: Callable[[str], str] = str) -> Any:
    """Parse the text of a setting. Raises ConfigError that names it and shows its value as `shown` does."""
    try:
        if not isinstance(value, str):
            raise ValueError("must be text in quotes")
        return parse(value)
    except ValueError as problem:
        raise ConfigError(f"{name} is {shown_value(value, shown)}, but it {problem}") from None


def shown_value(value: object, shown: Callable[[str], str]) -> str:
    """A value as an error may show it, without a secret that stands in the wrong place, as in a table."""
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    return f"{hide(shown(str(value)))!r:.200}"


def _project(name: str, value: object, environ: Mapping[str, str], default_url: _Key, file: str) -> ProjectConfig:
    where = f"[projects.{name}]"
    table = table_of(value, where)
    refuse_unknown(where, table, _PROJECT_KEYS)
    url = _project_url(table, where, file) or default_url
    public_key = _project_key("public_key", table, where, environ, file)
    secret_key = _project_key("secret_key", table, where, environ, file)
    missing = tuple(key.to_set for key in (public_key, secret_key) if not key.text)
    origins = (url.origin, public_key.origin, secret_key.origin)
    return ProjectConfig(name, str(url.text), public_key.text, secret_key.text, missing, origins)


def _project_url(table: Mapping[str, Any], where: str, file: str) -> _Key | None:
    if "base_url" not in table:
        return None
    return _Key(checked(table["base_url"], f"base_url in {where}", parse_web_url, mask_url), file, "base_url")


def _project_key(key: str, table: Mapping[str, Any], where: str, environ: Mapping[str, str], file: str) -> _Key:
    variable_key = f"{key}_env"
    if key in table and variable_key in table:
        raise ConfigError(f"{where} has both {key} and {variable_key}; remove one of them")
    if key in table:
        return _Key(checked(table[key], f"{key} in {where}", parse_secret, mask), file, key)
    if variable_key not in table:
        return _Key(None, "default", f"{key} or {variable_key} in {where}")
    variable = checked(table[variable_key], f"{variable_key} in {where}", parse_text)
    text = environ.get(variable, "").strip()
    return _Key(checked(text, variable, parse_secret, mask) if text else None, f"environment {variable}", variable)


def _mapping(value: object, where: str) -> dict[str, str]:
    return _texts(table_of(value, where), where, parse_text)


def _texts(table: Mapping[str, Any], where: str, parse: Callable[[str], str]) -> dict[str, str]:
    return {key: checked(value, f"{key!r} in {where}", parse) for key, value in table.items()}
