"""People's rules on whom to bill, as rating knows them: mappings that stand behind those of the settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..config import Config
from ..ledger import Ledger
from ..ledger.rulings import CustomerRule, customer_rules
from ..rating.customers import CustomerPolicy


def with_rules(config: Config, ledger: Ledger) -> Config:
    """The settings with the rules that the ledger holds."""
    rules = customer_rules(ledger)
    if not rules:
        return config
    added = CustomerPolicy(
        sessions=_mapping(rules, "session"),
        users=_mapping(rules, "user"),
        organizations=_mapping(rules, "organization"),
    )
    return replace(config, customers=replace(config.customers, rules=added))


def _mapping(rules: Sequence[CustomerRule], kind: str) -> Mapping[str, str]:
    return {rule.value: rule.customer_id for rule in rules if rule.kind == kind}
