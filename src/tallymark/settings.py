"""The table of settings: one row each, read by `config`, `config show`, `init`, the documentation and the tests."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import urlsplit

from tallymark.core.clock import HOUR_US, MINUTE_US
from tallymark.core.secrets import hide, mask, mask_url
from tallymark.rating.fields import parse_amount, parse_text
from tallymark.rating.rate import OWNERS

BULK_SOURCES = ("export", "clickhouse")
TOTALS = "totals"
"""The BILLING_METER_API of pre-aggregated meters, which count only the last meter event of each window."""
"""Words of BILLING_SOURCE that name no API of Langfuse."""

_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
# Stripe's limit for a meter's event_name (facts/stripe.md section 2).
_METER_EVENT_NAME_CHARS_MAX = 100
_GRACE_HOURS_MAX = 72


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its environment variables (the first that is set decides), how its text is read, its default.

    `parse` raises ValueError whose text begins with "must". `default` is text as a variable would hold it; None means
    that the setting has no value of its own. `toml_types` are the TOML types that the key of the file may have.
    """

    variables: tuple[str, ...]
    parse: Callable[[str], object]
    default: str | None
    help: str
    toml_types: tuple[type, ...] = (str,)
    secret: bool = False

    @property
    def key(self) -> str:
        """The key in `tallymark.toml`: the variable in lower case, without BILLING_."""
        return self.variables[0].lower().removeprefix("billing_")

    def shown(self, text: str) -> str:
        """The text as people may see it: secrets masked, in the wrong setting too, and passwords in URLs."""
        return mask(text) if self.secret else hide(mask_url(text))


# ---- parsers


def parse_flag(text: str) -> bool:
    """Read true/false/1/0/yes/no/on/off, in any case. Raises ValueError otherwise."""
    word = text.strip().lower()
    if word not in _TRUE + _FALSE:
        raise ValueError("must be true, false, 1, 0, yes, no, on or off")
    return word in _TRUE


def parse_positive(text: str) -> Decimal:
    """Read an amount above 0. Raises ValueError otherwise."""
    amount = parse_amount(text)
    if not amount:
        raise ValueError("must be above 0")
    return amount


def parse_count(text: str) -> int:
    """Read a whole number from 1. Raises ValueError otherwise."""
    if not re.fullmatch(r"[0-9]{1,9}", text.strip()) or not int(text):
        raise ValueError("must be a whole number from 1, of at most 9 digits")
    return int(text)


def parse_secret(text: str) -> str:
    """Read a key or token: printable ASCII without blanks. Raises ValueError, which does not repeat it, otherwise."""
    secret = text.strip()
    if not re.fullmatch(r"[!-~]{1,500}", secret):
        raise ValueError("must be 1 to 500 ASCII characters without blanks; copy it again")
    return secret


def parse_web_url(text: str) -> str:
    """Read the base address of an HTTP service, without a slash at the end. Raises ValueError otherwise."""
    url = parse_text(text)
    if not _is_web_address(url):
        raise ValueError("must be an address such as https://langfuse.example.com")
    if any(sign in url for sign in "@?#"):
        raise ValueError("must have no user, password, query or fragment; keys have settings of their own")
    return url.rstrip("/")


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and " " not in url
    except ValueError:
        return False


def parse_webhook_url(text: str) -> str:
    """Read the address of a webhook. Raises ValueError, which does not repeat it, otherwise."""
    url = parse_secret(text)
    if not _is_web_address(url) or "@" in url or "#" in url:
        raise ValueError("must be an address such as https://hooks.example.com/…, without user, password or fragment")
    return url


def parse_ledger_url(text: str) -> str:
    """Read the place of the ledger: sqlite:///PATH or postgresql://… Raises ValueError otherwise."""
    url = parse_text(text)
    if not re.fullmatch(r"sqlite:///.+|postgres(?:ql)?://.*", url):
        raise ValueError("must be sqlite:///PATH (sqlite:////PATH for a path from the root) or postgresql://…")
    return url


def parse_export_url(text: str) -> str:
    """Read the place of an export: a folder, file:///FOLDER or s3://BUCKET/PREFIX. Raises ValueError otherwise."""
    url = parse_text(text).rstrip("/") or "/"
    scheme = url.partition("://")[0] if "://" in url else "file"
    if scheme not in ("file", "s3") or url in ("s3:", "file:") or any(sign in url for sign in "?#"):
        raise ValueError("must be a folder, file:///FOLDER or s3://BUCKET/PREFIX; keys are found as boto3 does")
    if scheme == "s3" and ("@" in url or not urlsplit(url).hostname):
        raise ValueError("must be s3://BUCKET/PREFIX without user or password; keys are found as boto3 does")
    return url


def parse_clickhouse_url(text: str) -> str:
    """Read the address of a ClickHouse server. Raises ValueError, which does not repeat it, otherwise."""
    url = parse_secret(text)
    if not _is_web_address(url) or any(sign in url for sign in "?#"):
        raise ValueError("must be http(s)://USER:PASSWORD@HOST:PORT/DATABASE, the port of ClickHouse's HTTP interface")
    return url.rstrip("/")


def parse_meter_event_name(text: str) -> str:
    """Read a meter's event_name. Raises ValueError if Stripe would refuse it."""
    name = parse_text(text)
    if len(name) > _METER_EVENT_NAME_CHARS_MAX:
        raise ValueError(f"must be at most {_METER_EVENT_NAME_CHARS_MAX} characters")
    return name


def one_of(*words: str) -> Callable[[str], str]:
    """A parser that takes one of these words, in any case."""

    def parse(text: str) -> str:
        word = text.strip().lower()
        if word not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return word

    return parse


def parse_time_of_day(text: str) -> int | None:
    """Read HH:MM as microseconds after midnight, or never as None. Raises ValueError otherwise."""
    word = text.strip().lower()
    if word == "never":
        return None
    if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", word):
        raise ValueError("must be a time of the day (UTC) such as 02:30, or never")
    hours, minutes = word.split(":")
    return int(hours) * HOUR_US + int(minutes) * MINUTE_US


def parse_grace_hours(text: str) -> Decimal:
    """Read hours up to the 72 that Stripe allows (facts/stripe.md section 7). Raises ValueError otherwise."""
    hours = parse_amount(text)
    if hours > _GRACE_HOURS_MAX:
        raise ValueError(f"must be at most {_GRACE_HOURS_MAX}")
    return hours


# ---- the table

_FLAG, _NUMBER = (bool, str), (int, str)

SETTINGS: tuple[Setting, ...] = (
    Setting(
        ("LANGFUSE_BASE_URL", "LANGFUSE_HOST"),
        parse_web_url,
        "https://cloud.langfuse.com",
        "Langfuse server to read from; the default is Langfuse Cloud EU.",
    ),
    Setting(("LANGFUSE_PUBLIC_KEY",), parse_secret, None, "Public key of the Langfuse project, pk-lf-…"),
    Setting(("LANGFUSE_SECRET_KEY",), parse_secret, None, "Secret key of the Langfuse project, sk-lf-…", secret=True),
    Setting(
        ("BILLING_STRIPE_SECRET_KEY", "STRIPE_SECRET_KEY"),
        parse_secret,
        None,
        "Stripe secret or restricted key that may write meter events.",
        secret=True,
    ),
    Setting(
        ("STRIPE_API_BASE",),
        parse_web_url,
        "https://api.stripe.com",
        "Address of Stripe's API; for proxies, the sandbox and tests.",
    ),
    Setting(
        ("STRIPE_METER_EVENTS_BASE",),
        parse_web_url,
        "https://meter-events.stripe.com",
        "Address of Stripe's meter event stream; for proxies, the sandbox and tests.",
    ),
    Setting(
        ("BILLING_STRIPE_WEBHOOK_SECRET",),
        parse_secret,
        None,
        "Signing secret of Stripe's webhook, whsec_…; of several destinations, theirs with commas between.",
        secret=True,
    ),
    Setting(
        ("BILLING_METER_EVENT_NAME",),
        parse_meter_event_name,
        "credits",
        "The event_name of the Stripe meter that takes the credits. [meters] gives components a meter of their own.",
    ),
    Setting(
        ("BILLING_STRIPE_CREDITS_METER_ID",),
        parse_text,
        None,
        "Id of that meter, mtr_…; if set, doctor and sync check that it is the meter of that event_name.",
    ),
    Setting(
        ("BILLING_METER_BUCKET",),
        one_of("minute", "hour", "day", "trace"),
        "hour",
        "What one meter event may cover: a minute, an hour, a day (UTC), or a single trace.",
    ),
    Setting(
        ("BILLING_METER_API",),
        one_of("v1", "v2", "stream", TOTALS),
        "v1",
        "How meter events are sent: by v1 or v2, one a request; by stream, a hundred, which Stripe answers unseen; or "
        "as running totals, to meters with an event_time_window only.",
    ),
    Setting(
        ("BILLING_LATE_PERIOD",),
        one_of("hold", "send"),
        "hold",
        "What becomes of usage whose invoice is final: hold it for a person, or send it whatever its period.",
    ),
    Setting(
        ("BILLING_INVOICE_GRACE_HOURS",),
        parse_grace_hours,
        "1",
        "How long after a period's end Stripe makes its invoice final, as set there (Billing, invoices): 0 to 72.",
        _NUMBER,
    ),
    Setting(
        ("BILLING_CORRECTIONS",),
        one_of("carry", "cancel"),
        "carry",
        "How lower usage is given back: carry, against the customer's next usage; or cancel, at Stripe within 24 h, "
        "which needs BILLING_METER_BUCKET=trace.",
    ),
    Setting(
        ("BILLING_DELETED_TRACES",),
        one_of("credit", "hold", "keep"),
        "credit",
        "What becomes of billed traces that a full read finds deleted: given back, held for a person, or kept billed.",
    ),
    Setting(
        ("BILLING_LEDGER_URL",),
        parse_ledger_url,
        None,
        "Where the ledger is: sqlite:///PATH or postgresql://…; the default is a file in the user's data folder.",
    ),
    Setting(
        ("BILLING_SOURCE",),
        one_of("auto", "traces", "observations", *BULK_SOURCES),
        "auto",
        "What is read: Langfuse's API traces (v3, v4 legacy) or observations (v4, Cloud), or auto to ask the server; "
        "export (its blob storage export, then the API) or clickhouse (its database).",
    ),
    Setting(
        ("BILLING_EXPORT_URL",),
        parse_export_url,
        None,
        "Where Langfuse's blob storage export lies, for BILLING_SOURCE=export: a folder, or s3://BUCKET/PREFIX.",
    ),
    Setting(
        ("BILLING_EXPORT_S3_ENDPOINT",),
        parse_web_url,
        None,
        "Address of an S3-compatible server that holds the export; by default AWS. Its keys are found as boto3 does.",
    ),
    Setting(
        ("BILLING_CLICKHOUSE_URL",),
        parse_clickhouse_url,
        None,
        "Langfuse's ClickHouse, for BILLING_SOURCE=clickhouse: https://USER:PASSWORD@HOST:8443/DATABASE, of a user who "
        "may only read.",
        secret=True,
    ),
    Setting(
        ("BILLING_MARKS",),
        one_of("auto", "score", "tags"),
        "auto",
        "How processed traces are marked in Langfuse: by score, by tags and metadata, or auto to fit the server.",
    ),
    Setting(
        ("BILLING_USE_TAG_FILTERING",),
        parse_flag,
        "false",
        "Ask Langfuse only for traces tagged billing:pending and not billing:processed. Run backfill first.",
        _FLAG,
    ),
    Setting(("BILLING_SYNC_LOOKBACK_DAYS",), parse_positive, "7", "How many days a full sync reads.", _NUMBER),
    Setting(
        ("BILLING_SYNC_OVERLAP_HOURS",),
        parse_amount,
        "2",
        "How many hours an incremental run reads again, to catch what came late.",
        _NUMBER,
    ),
    Setting(
        ("BILLING_SETTLE_SECONDS",),
        parse_amount,
        "900",
        "How long a trace must be quiet before it is read: ingestion is asynchronous and costs arrive late.",
        _NUMBER,
    ),
    Setting(
        ("BILLING_SYNC_EVERY_MINUTES",),
        parse_positive,
        "5",
        "How often serve syncs: so many minutes after the last start, and up to a tenth later by chance.",
        _NUMBER,
    ),
    Setting(
        ("BILLING_FULL_SYNC_AT",),
        parse_time_of_day,
        "02:30",
        "When serve syncs the whole look-back, each day (UTC), up to ten minutes later by chance; or never.",
    ),
    Setting(
        ("BILLING_RECONCILE_AT",),
        parse_time_of_day,
        "04:30",
        "When serve reconciles the look-back, each day (UTC), up to ten minutes later by chance; or never.",
    ),
    Setting(
        ("BILLING_SYNC_STALE_MINUTES",),
        parse_positive,
        "60",
        "serve is not ready (/readyz answers 503) when no sync has worked for so many minutes.",
        _NUMBER,
    ),
    Setting(
        ("BILLING_SYNC_WINDOW_HOURS",),
        parse_positive,
        None,
        "The most hours of traces to ask for at a time; by default chosen to fit the server.",
        _NUMBER,
    ),
    Setting(
        ("BILLING_LANGFUSE_REQUESTS_PER_MINUTE",),
        parse_count,
        None,
        "The most requests to Langfuse in a minute, of all workers together, besides obeying its 429 and Retry-After.",
        _NUMBER,
    ),
    Setting(
        ("BILLING_STRIPE_REQUESTS_PER_SECOND",),
        parse_count,
        None,
        "The most requests to Stripe in a second, of all workers together; by default chosen by the mode of the key.",
        _NUMBER,
    ),
    Setting(("BILLING_CREDIT_PRICE_USD",), parse_positive, "0.00004", "What one credit is sold for, in USD.", _NUMBER),
    Setting(
        ("BILLING_MARGIN_MULTIPLIER",),
        parse_amount,
        "1",
        "Multiplies AI cost and compute time on their way to credits: 1.25 adds a quarter.",
        _NUMBER,
    ),
    Setting(
        ("BILLING_COMPUTE_USD_PER_MINUTE",),
        parse_amount,
        "0.05",
        "USD for each minute of a trace's duration; 0 leaves compute time out.",
        _NUMBER,
    ),
    Setting(
        ("BILLING_RATE_CARD",),
        parse_text,
        None,
        "A TOML file with a dated rate card; then the three settings above are refused.",
    ),
    Setting(
        ("BILLING_DEFAULT_AI_OWNERSHIP",),
        one_of(*OWNERS),
        "platform",
        "Whose AI credentials a trace used that does not say: platform, or user (who then paid for the tokens).",
    ),
    Setting(
        ("BILLING_DEFAULT_STRIPE_CUSTOMER_ID",),
        parse_text,
        None,
        "The customer for traces that name none and match no mapping; without it they are held.",
    ),
    Setting(
        ("BILLING_OVERRIDE_CUSTOMER_ID",),
        parse_flag,
        "false",
        "Bill every trace to the default customer, whatever it says.",
        _FLAG,
    ),
    Setting(
        ("BILLING_API_TOKEN",),
        parse_secret,
        None,
        "Token of operators, who may read, start runs and decide; serve refuses other hosts than loopback without it.",
        secret=True,
    ),
    Setting(
        ("BILLING_API_READ_TOKEN",),
        parse_secret,
        None,
        "Token of readers of serve, who may decide nothing; it must differ from BILLING_API_TOKEN.",
        secret=True,
    ),
    Setting(
        ("BILLING_API_REQUESTS_PER_MINUTE",),
        parse_count,
        "600",
        "How many requests a minute each address may make to the JSON API of serve.",
        _NUMBER,
    ),
    Setting(
        ("BILLING_SECURE_COOKIES",),
        parse_flag,
        "false",
        "Whether browsers send the dashboard's cookies over TLS only: true behind a proxy that speaks TLS.",
        _FLAG,
    ),
    Setting(
        ("BILLING_ALERT_WEBHOOK_URL",),
        parse_webhook_url,
        None,
        "Where serve POSTs its alerts, as Slack's incoming webhooks take them; without it they are in the log only.",
        secret=True,
    ),
    Setting(
        ("BILLING_ALERT_EVERY_MINUTES",),
        parse_positive,
        "5",
        "How often serve looks for something to alert about.",
        _NUMBER,
    ),
    Setting(
        ("BILLING_ALERT_LAG_MINUTES",),
        parse_positive,
        "60",
        "Alert when usage of so many minutes, besides the settle delay, is not read yet.",
        _NUMBER,
    ),
    Setting(
        ("BILLING_ALERT_FAILURES",),
        parse_count,
        "3",
        "Alert when a job of serve failed so many times in a row.",
        _NUMBER,
    ),
    Setting(
        ("BILLING_ALERT_HELD_CREDITS",),
        parse_positive,
        None,
        "Alert when more credits than these wait for a person; without it that is no alert.",
        _NUMBER,
    ),
    Setting(
        ("BILLING_ALERT_LEAKAGE_HOURS",),
        parse_positive,
        "24",
        "Alert when usage is so many hours old and not billed: no customer, no price, or not sent.",
        _NUMBER,
    ),
    Setting(
        ("BILLING_ALERT_LOSS_USD",),
        parse_positive,
        "1",
        "Alert when a customer's usage of the period to date cost so much more than it brings.",
        _NUMBER,
    ),
    Setting(
        ("BILLING_ALERT_CUSTOMER_CREDITS",),
        parse_positive,
        None,
        "Alert when a customer used more credits in the period to date; [alerts.customer_credits] is for single ones.",
        _NUMBER,
    ),
    Setting(
        ("BILLING_ALERT_STOPPED_HOURS",),
        parse_positive,
        "24",
        "Alert when there was usage before, and none of anybody for so many hours.",
        _NUMBER,
    ),
    Setting(
        ("BILLING_ALERT_CUSTOMER_STOPPED_HOURS",),
        parse_positive,
        None,
        "Alert when a customer had usage in the week before, and none for so many hours; without it that is no alert.",
        _NUMBER,
    ),
)
