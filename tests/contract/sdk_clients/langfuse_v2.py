"""Client script for langfuse 2.60: traces one call, marks the trace as the product's users do, reads back.

Usage: python langfuse_v2.py TRACE_ID. Base URL and keys come from the environment.
Prints JSON: what the SDK itself made of the answers.
"""

import json
import sys

from langfuse import Langfuse


def write(client, trace_id):
    """A trace with a generation priced by the server and one that brings its own cost."""
    trace = client.trace(
        id=trace_id,
        name="sdk-trace",
        user_id="u1",
        session_id="s1",
        tags=["sdk", "billing:pending"],
        metadata={"customerId": "cus_1", "nested": {"a": 1}},
        input={"q": "hi"},
        output="there",
    )
    generation = trace.generation(name="llm", model="gpt-4o", usage={"input": 1000, "output": 500, "unit": "TOKENS"})
    generation.end()
    own = trace.generation(
        name="own", model="m", usage_details={"input": 1}, cost_details={"input": 0.1, "output": 0.2}
    )
    own.end()
    client.flush()


def mark(client, trace_id):
    """Add a tag and metadata to the trace."""
    client.trace(id=trace_id, tags=["billing:processed"], metadata={"billing_status": "processed"})
    client.score(id=f"{trace_id}-mark", trace_id=trace_id, name="billing_status", value="processed")
    client.flush()


def read(client, trace_id):
    """List by tag, and fetch the one."""
    listed = client.fetch_traces(limit=100, tags=["billing:pending"]).data
    detail = client.fetch_trace(trace_id).data
    return {
        "listed": [[row.id, row.total_cost, row.tags, row.metadata] for row in listed],
        "observations": sorted([one.name, one.calculated_total_cost] for one in detail.observations),
        "scores": [[score.name, score.string_value] for score in detail.scores],
        "signed_in": client.auth_check(),
    }


if __name__ == "__main__":
    client, trace_id = Langfuse(), sys.argv[1]
    write(client, trace_id)
    before = read(client, trace_id)
    mark(client, trace_id)
    print(json.dumps({"before": before, "after": read(client, trace_id)}))
