"""Reading in a process of its own gives the same pages as reading here, and its errors come over."""

import subprocess
from itertools import islice

import pytest

from tallymark.clock import SystemClock
from tallymark.core.clock import DAY_US, HOUR_US
from tallymark.errors import KeyRefused, Unavailable
from tallymark.flows import reader
from tallymark.flows.reader import ObservationsApart, TracesApart
from tallymark.remote.langfuse import LangfuseClient
from tallymark.sandbox.process import Options, start
from tallymark.source.observations import ObservationsSource
from tallymark.source.traces import TracesSource
from tallymark.source.windows import Windows

TRACES = 700


@pytest.fixture(scope="module", params=["legacy", "events_only"])
def sandbox(request):
    with start(Options(story=TRACES, generation=request.param)) as started:
        yield started


@pytest.fixture
def legacy(request):
    """Whether the sandbox lists traces."""
    return "legacy" in request.node.name


@pytest.fixture
def children(monkeypatch):
    """The processes that the reader starts, with their arguments."""
    started = []

    class Kept(subprocess.Popen):
        def __init__(self, arguments, **options):
            super().__init__(arguments, **options)
            started.append((self, arguments))

    monkeypatch.setattr(reader.subprocess, "Popen", Kept)
    return started


@pytest.fixture
def client(sandbox):
    return client_of(sandbox, sandbox.ready.secret_key)


def client_of(sandbox, secret_key):
    return LangfuseClient(sandbox.ready.langfuse_url, sandbox.ready.public_key, secret_key, SystemClock())


@pytest.fixture
def pages_of(sandbox, legacy):
    """A function that reads a time up to now through the sandbox's generation, here or apart."""

    def read(client, age_us=7 * DAY_US, *, apart=True):
        from_us, to_us = sandbox.ready.now_us - age_us, sandbox.ready.now_us
        if legacy:
            return (TracesApart if apart else TracesSource)(client).read(from_us, to_us)
        return (ObservationsApart if apart else ObservationsSource)(client).read(Windows(from_us, to_us, 2 * DAY_US))

    return read


def test_the_pages_are_the_same(client, pages_of, children):
    """Every trace with every number, the ends of windows, and how many requests it took."""
    here = list(pages_of(client, apart=False))
    requests_here, client.requests = client.requests, 0
    apart = list(pages_of(client))

    assert apart == here
    assert len(here) > 3
    assert client.requests == requests_here
    assert len(children) == 1


def test_no_key_stands_among_the_arguments(client, pages_of, children):
    """Everybody on a machine may list the arguments of processes (G7)."""
    list(pages_of(client))

    ((_, arguments),) = children
    assert not any(key in argument for argument in arguments for key in client.keys)


def test_a_refused_key_is_said_as_here(sandbox, pages_of, children):
    """The error comes over with its class and its words."""
    with pytest.raises(KeyRefused, match="401 to GET"):
        list(pages_of(client_of(sandbox, "sk-wrong")))


def test_a_reader_that_dies_is_an_error_and_no_end(client, pages_of, children):
    """Pages that are missing must never look like pages that are not there."""
    pages = pages_of(client)
    next(pages)
    children[0][0].kill()

    with pytest.raises(Unavailable, match="ended early"):
        # What it had written before it died may still be read.
        list(pages)


def test_who_stops_early_leaves_no_process_behind(client, pages_of, children):
    """Such as a run that met an error in the ledger."""
    pages = pages_of(client)
    list(islice(pages, 1))
    pages.close()

    assert children[0][0].poll() is not None


def test_a_short_range_is_read_here(client, pages_of, children):
    """Starting a process would take longer."""
    list(pages_of(client, HOUR_US))

    assert children == []
