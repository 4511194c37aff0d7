"""Faults: the same seed means the same fate, a script strikes where it says, and AFTER means processed."""

import json
from collections import Counter

import pytest

from tallymark.sandbox.faults import Ending, Fault, Faults, answer, draw, nth
from tallymark.sandbox.wire import Request, Response

POST = Request("POST", "/v1/things")
GET = Request("GET", "/v1/things")


class Counting:
    """A service that counts what it processed."""

    def __init__(self):
        self.handled = 0

    def handle(self, request):
        self.handled += 1
        return Response(200, b'{"ok":true}')


class Worded(Counting):
    """A service with words of its own for refusals."""

    def refusal(self, status):
        return Response(status, b'{"said":"%d"}' % status, {"x-reason": "mine"})


def fates(faults, count):
    return [faults.next(POST) for _ in range(count)]


def test_same_seed_same_fates_and_another_seed_others():
    rates = {Fault.RESET_AFTER: 0.2, Fault.HTML: 0.2}
    assert fates(Faults(7, rates), 200) == fates(Faults(7, rates), 200)
    assert fates(Faults(7, rates), 200) != fates(Faults(8, rates), 200)


def test_draw_is_the_same_on_every_machine():
    """Written down once, so that a seed of a failed run keeps its meaning."""
    drawn = [draw(1, number, {Fault.ERROR_AFTER: 0.5}) is not None for number in range(1, 11)]
    assert drawn == [True, False, True, True, True, False, True, True, True, False]


def test_the_nth_request_meets_the_nth_draw():
    rates = {Fault.HTML: 0.5}
    assert fates(Faults(9, rates), 30) == [draw(9, number, rates) for number in range(1, 31)]


def test_rates_are_probabilities_per_fault():
    counts = Counter(draw(3, number, {Fault.HTML: 0.1, Fault.TRUNCATED: 0.3}) for number in range(5000))
    assert 400 < counts[Fault.HTML] < 600
    assert 1350 < counts[Fault.TRUNCATED] < 1650


@pytest.mark.parametrize("rates", [{Fault.HTML: -0.1}, {Fault.HTML: 0.7, Fault.TRUNCATED: 0.4}])
def test_rates_that_are_no_probabilities_are_refused(rates):
    with pytest.raises(ValueError, match="fault rates"):
        Faults(1, rates)


def test_only_spares_other_requests_and_does_not_number_them():
    """What lies between does not change the fates of those that are meant."""
    rates = {Fault.ERROR_BEFORE: 0.5}
    mixed = Faults(5, rates, only=lambda request: request.method == "POST")
    drawn = []
    for _ in range(50):
        assert mixed.next(GET) is None
        drawn.append(mixed.next(POST))
    assert drawn == fates(Faults(5, rates), 50)


def test_the_sandboxs_own_routes_are_spared():
    """The judge must be readable while everything else fails."""
    assert Faults(1, {Fault.HTML: 1}).next(Request("GET", "/sandbox/tally")) is None


def test_limit_ends_the_faults():
    faults = Faults(1, {Fault.HTML: 1}, limit=3)
    assert fates(faults, 5) == [Fault.HTML] * 3 + [None] * 2
    assert faults.done == {Fault.HTML: 3}


def test_script_strikes_the_third_post_only():
    faults = Faults.script([(nth(3, "POST", "/v1/things"), Fault.RESET_AFTER)])
    assert [faults.next(one) for one in (POST, GET, POST, GET, POST, POST)] == [
        None,
        None,
        None,
        None,
        Fault.RESET_AFTER,
        None,
    ]
    assert faults.done == {Fault.RESET_AFTER: 1}


def test_script_steps_count_every_request_even_while_another_strikes():
    faults = Faults.script([(nth(1, "POST", "/"), Fault.HTML), (nth(2, "POST", "/"), Fault.TRUNCATED)])
    assert fates(faults, 3) == [Fault.HTML, Fault.TRUNCATED, None]


@pytest.mark.parametrize(
    ("fault", "ending", "processed"),
    [
        (Fault.RATE_LIMITED, Ending.SENT, 0),
        (Fault.ERROR_BEFORE, Ending.SENT, 0),
        (Fault.ERROR_AFTER, Ending.SENT, 1),
        (Fault.RESET_BEFORE, Ending.RESET, 0),
        (Fault.RESET_AFTER, Ending.RESET, 1),
        (Fault.TRUNCATED, Ending.TRUNCATED, 1),
        (Fault.HANG_BEFORE, Ending.HANG, 0),
        (Fault.HANG_AFTER, Ending.HANG, 1),
        (Fault.HTML, Ending.SENT, 0),
    ],
)
def test_each_fault_ends_so_and_processes_or_not(fault, ending, processed):
    service = Counting()
    assert answer(service, POST, Faults(1, {fault: 1})).ending is ending
    assert service.handled == processed


def test_every_fault_is_covered_above():
    covered = test_each_fault_ends_so_and_processes_or_not.pytestmark[0].args[1]
    assert {row[0] for row in covered} == set(Fault)


def test_refusals_use_the_words_of_the_service():
    limited = answer(Worded(), POST, Faults(1, {Fault.RATE_LIMITED: 1}, retry_after_seconds=2)).response
    assert (limited.status, limited.body) == (429, b'{"said":"429"}')
    assert limited.headers == {"x-reason": "mine", "retry-after": "2"}
    assert answer(Worded(), POST, Faults(1, {Fault.ERROR_AFTER: 1})).response.body == b'{"said":"500"}'


def test_a_service_without_words_still_refuses_in_json():
    response = answer(Counting(), POST, Faults(1, {Fault.ERROR_BEFORE: 1})).response
    assert response.status == 503
    assert json.loads(response.body)


def test_html_comes_from_a_gateway():
    response = answer(Worded(), POST, Faults(1, {Fault.HTML: 1})).response
    assert (response.status, response.headers["content-type"]) == (502, "text/html")
    assert response.body.startswith(b"<html>")


def test_without_faults_the_service_answers():
    assert answer(Counting(), POST, None).response.status == 200
