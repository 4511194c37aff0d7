"""A chat flow: one chain for each question, three customers asking at once, each trace billed to its own customer.

Runs with the Langfuse SDK 3.9 or later, 4 or 5, and reads LANGFUSE_BASE_URL, LANGFUSE_PUBLIC_KEY and
LANGFUSE_SECRET_KEY from the environment. The model is a function in this file: nothing else is called.
Prints one line of JSON for each trace.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from langfuse import get_client, observe

from tallymark.instrument import billable

FLOW = "chat"


@dataclass(frozen=True)
class Question:
    """Who asks what. `customer` is the Stripe customer that pays."""

    customer: str
    user: str
    session: str
    text: str


QUESTIONS = (
    Question("cus_acme", "ada", "session-1", "What is on my invoice?"),
    Question("cus_globex", "grace", "session-2", "How do I add a seat?"),
    Question("cus_initech", "ivan", "session-3", "Where is the stapler?"),
)


@billable(
    flow=FLOW,
    ownership="platform",
    customer=lambda question: question.customer,
    user=lambda question: question.user,
    session=lambda question: question.session,
)
@observe(name="chat-chain", as_type="chain")
def answer(question: Question) -> str:
    """The chain: look something up, then ask the model. Returns the id of its trace."""
    ask_model(f"{look_up(question.text)}\n{question.text}")
    return get_client().get_current_trace_id()


@observe(name="look-up", as_type="retriever")
def look_up(text: str) -> str:
    """Find what is known. A real one would ask a vector store."""
    return f"Help pages about {text.split()[-1]}"


@observe(name="model", as_type="generation")
def ask_model(prompt: str) -> str:
    """A model that always says the same; Langfuse works out the cost from its name and tokens."""
    time.sleep(0.005)
    tokens = {"input": 10 * len(prompt.split()), "output": 50}
    get_client().update_current_generation(model="gpt-4o", usage_details=tokens)
    return "Please see the help pages."


def main() -> None:
    """Answer all questions at once and print what was traced."""
    with ThreadPoolExecutor() as threads:
        trace_ids = list(threads.map(answer, QUESTIONS))
    get_client().flush()
    for trace_id, question in zip(trace_ids, QUESTIONS, strict=True):
        said = asdict(question)
        del said["text"]
        print(json.dumps({"trace_id": trace_id, "flow": FLOW, "ownership": "platform", **said}))


if __name__ == "__main__":
    main()
