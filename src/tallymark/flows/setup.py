"""What a fresh machine still lacks before it can bill: settings by their exact names, and where each is found."""

from __future__ import annotations

import msgspec

from ..config import Config
from ..core.secrets import HIDDEN
from ..errors import LedgerMissing
from ..ledger.guard import using_ledger
from ..settings import SETTINGS

STRIPE_KEY = "BILLING_STRIPE_SECRET_KEY"


class ToSet(msgspec.Struct):
    """A setting without which nothing is billed, and where its value is found."""

    name: str
    where: str


def missing_settings(config: Config) -> list[ToSet]:
    """What must be set before anything can be billed, one by one; nothing if all of it is."""
    found = [
        ToSet(name, f"in Langfuse ({project.base_url}): Settings of the project, API Keys")
        for project in config.projects
        for name in project.missing
    ]
    if config.stripe_secret_key is None:
        found.append(
            ToSet(STRIPE_KEY, "in Stripe: Developers, API keys; docs/howto/security.md says which permissions")
        )
    return found


def has_ledger(config: Config) -> bool:
    """Whether the ledger of the settings has been made. Raises LedgerError for one that cannot be used."""
    try:
        with using_ledger(config.ledger_url, read_only=True):
            return True
    except LedgerMissing:
        return False


class SettingLine(msgspec.Struct):
    """A setting as `config show` has it: secrets hidden, and where it came from; `about` says what it does."""

    setting: str
    value: str
    from_: str = msgspec.field(name="from")
    about: str


def settings_in_force(config: Config) -> list[SettingLine]:
    """Every setting of this process. Who may read pages is shown no part of a secret, not even how it ends."""
    about = {setting.variables[0]: setting.help for setting in SETTINGS}
    return [
        SettingLine(name, HIDDEN if value.startswith(HIDDEN) else value, origin, about.get(name, ""))
        for name, value, origin in config.describe()
    ]
