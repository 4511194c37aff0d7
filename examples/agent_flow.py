"""An agent flow: agents and tools inside agents, in parallel tasks, and a helper that works for another customer.

Runs with the Langfuse SDK 3.9 or later, 4 or 5, and reads LANGFUSE_BASE_URL, LANGFUSE_PUBLIC_KEY and
LANGFUSE_SECRET_KEY from the environment. The model is a function in this file: nothing else is called.
Prints one line of JSON for each trace.

What an agent framework nests, such as LangGraph with Langfuse's callback handler, is nested here by hand: agents, tools
and generations inside one another. `billable` is used in the same way around `graph.invoke(..., config={"callbacks":
[CallbackHandler()]})`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from langfuse import get_client, observe

from tallymark.instrument import billable

FLOW = "agent"
PARTNER = "cus_partner"

_traced: list[dict[str, str]] = []


def note(customer: str, ownership: str) -> None:
    """Remember what the trace that runs now is, to print it at the end."""
    _traced.append(
        {
            "trace_id": get_client().get_current_trace_id() or "",
            "flow": FLOW,
            "ownership": ownership,
            "customer": customer,
            "user": f"user-of-{customer}",
            "session": f"session-of-{customer}",
        }
    )


async def run_for(customer: str, ownership: str, task: str, *, asks_partner: bool = False) -> None:
    """One run of the agent for a customer; every span in it is part of a trace that this customer pays for."""
    with billable(
        customer=customer,
        flow=FLOW,
        ownership=ownership,
        user=f"user-of-{customer}",
        session=f"session-of-{customer}",
    ):
        await supervise(customer, ownership, task, asks_partner=asks_partner)


@observe(name="supervisor", as_type="agent")
async def supervise(customer: str, ownership: str, task: str, *, asks_partner: bool) -> None:
    """The outer agent: plans, lets two agents work side by side, and may ask a partner who pays for himself."""
    note(customer, ownership)
    await ask_model(f"Plan: {task}")
    await asyncio.gather(research(task), write(task))
    if asks_partner:
        # Another customer inside this run: billable makes it a trace of its own.
        await run_for(PARTNER, "platform", f"Review: {task}")


@observe(name="researcher", as_type="agent")
async def research(task: str) -> None:
    """An inner agent with a tool."""
    await ask_model(f"What must be known for: {task}")
    await search(task)


@observe(name="search", as_type="tool")
async def search(task: str) -> str:
    """A tool. A real one would call something."""
    await asyncio.sleep(0.002)
    return f"Three pages about {task}"


@billable(metadata={"step": "writing"})
@observe(name="writer", as_type="agent")
async def write(task: str) -> None:
    """An inner agent that streams; its `billable` adds to the one around it and inherits the customer."""
    async for _word in stream_model(f"Write: {task}"):
        await asyncio.sleep(0)


@observe(name="model", as_type="generation")
async def ask_model(prompt: str) -> str:
    """A model that always says the same; Langfuse works out the cost from its name and tokens."""
    await asyncio.sleep(0.002)
    get_client().update_current_generation(model="gpt-4o", usage_details={"input": 4 * len(prompt), "output": 40})
    return "Done."


@observe(name="streaming-model", as_type="generation")
async def stream_model(prompt: str) -> AsyncIterator[str]:
    """A model that answers word by word."""
    get_client().update_current_generation(model="gpt-4o", usage_details={"input": 4 * len(prompt), "output": 3})
    for word in ("All", "is", "well."):
        yield word


async def run_all() -> None:
    """Two runs side by side: one with the platform's AI credentials, one with the customer's own."""
    await asyncio.gather(
        run_for("cus_acme", "platform", "the report", asks_partner=True),
        run_for("cus_globex", "user", "the budget"),
    )


def main() -> None:
    """Run the agents and print what was traced."""
    asyncio.run(run_all())
    get_client().flush()
    for traced in _traced:
        print(json.dumps(traced))


if __name__ == "__main__":
    main()
