"""What others may read: files that are open to them, and keys on their way without encryption."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from ..config import Config
from ..settings import SETTINGS

_SECRETS = {setting.variables[0] for setting in SETTINGS if setting.secret}
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def exposed(config: Config) -> Iterator[str]:
    """A sentence for each of them, with what to do."""
    for file in _private_files(config):
        if os.name == "posix" and file.is_file() and file.stat().st_mode & _OTHERS:
            yield f"others than its owner may use {file}; run: chmod 600 {file}"
    stripe = {config.stripe_api_base, config.stripe_meter_events_base}
    for address in sorted({*stripe, *(project.base_url for project in config.projects)}):
        if address.startswith("http://") and not _is_loopback(urlsplit(address).hostname or ""):
            yield f"the keys for {address} travel unencrypted; use https, unless the network in between is yours"


def _private_files(config: Config) -> Iterator[Path]:
    """The ledger, and the settings file if a key stands in it."""
    if config.ledger_url.startswith("sqlite:///"):
        yield Path(config.ledger_url.removeprefix("sqlite:///"))
    named = {
        origin
        for name, _, origin in config.describe()
        if name in _SECRETS or (name.startswith("projects.") and name.endswith(".secret_key"))
    }
    yield from sorted(Path(origin.removeprefix("file ")) for origin in named if origin.startswith("file "))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
