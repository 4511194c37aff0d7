"""The databases under the ledger, for tests: addresses of fresh ledgers."""

import contextlib


@contextlib.contextmanager
def fresh_ledgers(kind, folder):
    """A function that gives the address of a ledger by its name, of a kind: "sqlite"."""
    assert kind == "sqlite", f"there is no ledger on {kind}"
    yield lambda name="ledger": f"sqlite:///{folder / name}.sqlite3"
