"""Reading ahead: the same items in the same order, errors at their place, and no thread that outlives its reader."""

import itertools
import threading
import time

import pytest

from tallymark.flows.read_ahead import ReadAhead, batches


def test_items_come_in_order_and_end_once():
    """More than fit into the queue."""
    ahead = ReadAhead(iter(range(100)), depth=3)

    assert list(ahead) == list(range(100))
    assert list(ahead) == []


def test_an_error_comes_after_the_items_before_it():
    """What was fetched before it counts."""

    def failing():
        yield 1
        raise OSError("gone")

    ahead = ReadAhead(failing())

    assert next(ahead) == 1
    with pytest.raises(OSError, match="gone"):
        next(ahead)


def test_the_thread_stops_when_nobody_reads():
    """A reader that is let go of, read or not, leaves no thread waiting with its connection."""
    before = threading.active_count()
    ahead = ReadAhead(itertools.count(), depth=2)
    assert threading.active_count() == before + 1
    del ahead

    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_a_batch_ends_where_an_error_ends_the_items():
    """The last pages before a connection breaks are recorded too."""

    def failing():
        yield from (1, 2, 3)
        raise OSError("gone")

    found = []
    with pytest.raises(OSError, match="gone"):
        found.extend(batches(failing(), 2))
    got = batches(failing(), 2)

    assert found == [[1, 2], [3]]
    assert next(got) == [1, 2]


def test_a_batch_ends_with_an_item_of_the_last_type():
    """Such as the end of a window."""
    assert list(batches(iter([1, 2, "end", 3]), 10, last=str)) == [[1, 2, "end"], [3]]
