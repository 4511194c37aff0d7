"""The machine that tallymark runs on: the real one, unless a block says otherwise."""

import os

import pytest

from tallymark import machine
from tallymark.ledger import owner


class Elsewhere(machine.Machine):
    """A machine whose only process is number 7."""

    def host(self):
        """Its name."""
        return "elsewhere"

    def process_id(self):
        """The only process."""
        return 7

    def process_started(self, process_id):
        """It alone is alive."""
        return "12" if process_id == 7 else ""


def test_a_block_runs_on_another_machine_and_ends_on_the_one_before():
    """Also when it ends with an error."""
    before = machine.current()

    with pytest.raises(RuntimeError), machine.running_on(Elsewhere()):
        assert owner.this_process() == "elsewhere|7|12"
        assert not owner.is_dead("elsewhere|7|12")
        assert owner.is_dead("elsewhere|8|12")
        raise RuntimeError

    assert machine.current() is before


def test_names_by_chance_are_as_long_as_asked_and_differ():
    """A ledger's id has eight hex digits, a run's thirty-two."""
    names = {machine.current().random_hex(digits) for digits in (8, 8, 32)}

    assert sorted(map(len, names)) == [8, 8, 32]
    assert all(set(name) <= set("0123456789abcdef") for name in names)


def test_this_process_is_alive_and_no_other_of_its_number():
    """By its number and the moment it was started."""
    here = machine.current()

    assert here.process_id() == os.getpid()
    assert here.process_started(os.getpid())
    assert here.process_started(2**22 + 1) == ""


def test_a_pool_answers_in_the_order_of_what_it_was_given():
    """Whichever thread is done first."""
    with machine.current().pool(2, "test") as pool:
        assert list(pool.map(str, range(5))) == ["0", "1", "2", "3", "4"]
