"""`billable` as a decorator: of functions, coroutine functions, and generators of both kinds."""

import asyncio

import pytest

from tallymark.instrument import billable


def test_a_decorated_function_is_itself(span):
    """Name, result and errors are the function's."""

    @billable(customer="cus_1")
    def divide(dividend, divisor):
        return dividend / divisor

    assert (divide.__name__, divide(6, divisor=3)) == ("divide", 2)
    with pytest.raises(ZeroDivisionError):
        divide(1, 0)


def test_a_decorated_coroutine_function(span, customers):
    @billable(customer=lambda customer: customer)
    async def answer(customer):
        await asyncio.sleep(0)
        with span("root"):
            return customer

    assert asyncio.run(answer("cus_7")) == "cus_7"
    assert customers() == {"root": {"cus_7"}}


def test_a_decorated_generator_does_not_leak_to_who_iterates(span, customers):
    """Between two steps the consumer's spans are the consumer's; inside, spans stay open over the steps."""

    @billable(customer="cus_1")
    def answers():
        with span("inside"):
            for number in (1, 2):
                with span(f"step-{number}"):
                    pass
                yield number
        return "end"

    for number in answers():
        with span(f"outside-{number}"):
            pass

    inside, outside = ("inside", "step-1", "step-2"), ("outside-1", "outside-2")
    assert customers() == {name: {"cus_1"} for name in inside} | {name: {None} for name in outside}


def test_a_decorated_generator_is_a_generator():
    """What is sent and thrown into it arrives, and what it returns comes back."""

    @billable(customer="cus_1")
    def echo():
        got = yield "first"
        try:
            yield got
        except KeyError:
            return "returned"

    generator = echo()
    assert (next(generator), generator.send("sent")) == ("first", "sent")
    with pytest.raises(StopIteration, match="returned"):
        generator.throw(KeyError("thrown"))


def test_a_decorated_asynchronous_generator_does_not_leak(span, customers):
    @billable(customer=lambda customer: customer)
    async def answers(customer):
        with span("inside"):
            for number in (1, 2):
                await asyncio.sleep(0)
                yield number

    async def consume():
        async for number in answers("cus_1"):
            with span(f"outside-{number}"):
                await asyncio.sleep(0)

    asyncio.run(consume())

    assert customers() == {"inside": {"cus_1"}, "outside-1": {None}, "outside-2": {None}}


def test_a_decorated_asynchronous_generator_is_one():
    """It runs in the task of who awaits it, and closing or cancelling it runs its own `finally`."""
    seen = []

    @billable(customer="cus_1")
    async def answers():
        try:
            seen.append(asyncio.current_task())
            yield 1
            await asyncio.sleep(3600)
        finally:
            seen.append("closed")

    async def consume():
        stream = answers()
        await anext(stream)
        assert seen == [asyncio.current_task()]
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        other = answers()
        await anext(other)
        await other.aclose()

    asyncio.run(consume())

    assert seen.count("closed") == 2
