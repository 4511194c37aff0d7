"""A service with something to show: a story that was billed, held and reconciled, on sandboxes of the test."""

import contextlib

from tallymark import config
from tallymark.flows.reconcile import reconcile
from tallymark.flows.sync import sync
from worlds import open_world

TRACES = 300


@contextlib.contextmanager
def open_house(folder, **settings):
    """A world whose story was synced twice and reconciled once, and settings that lead to it."""
    with open_world(folder, traces=TRACES) as world:
        world.settings.update(settings)
        made = config.load(None, world.settings)
        sync(made)
        reconcile(made)
        yield world, made
