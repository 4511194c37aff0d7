"""Client script for langfuse 3.15 and 4.18, which send OpenTelemetry spans: traces one call, marks it, reads back.

Usage: python langfuse_otel.py TRACE_ID. Base URL and keys come from the environment.
Prints JSON: what the SDK itself made of the answers.
"""

import datetime
import json
import sys
from importlib.metadata import version

import langfuse

MAJOR_VERSION = int(version("langfuse").split(".")[0])
TAGS = ["sdk", "billing:pending"]


def write(client, trace_id):
    """A trace with a generation priced by the server and one that brings its own cost."""
    if MAJOR_VERSION == 3:
        with client.start_as_current_span(name="root-span", trace_context={"trace_id": trace_id}) as span:
            span.update_trace(
                name="sdk-trace", user_id="u1", session_id="s1", tags=TAGS, metadata={"customerId": "cus_1"}
            )
            _generations(client)
    else:
        with (
            langfuse.propagate_attributes(
                trace_name="sdk-trace", user_id="u1", session_id="s1", tags=TAGS, metadata={"customerId": "cus_1"}
            ),
            client.start_as_current_observation(name="root-span", trace_context={"trace_id": trace_id}),
        ):
            _generations(client)
    client.flush()


def _generations(client):
    start = client.start_as_current_generation if MAJOR_VERSION == 3 else _start_generation(client)
    with start(name="llm", model="gpt-4o", usage_details={"input": 1000, "output": 500}):
        pass
    with start(name="own", model="m", usage_details={"input": 1}, cost_details={"input": 0.1, "output": 0.2}):
        pass


def _start_generation(client):
    return lambda **given: client.start_as_current_observation(as_type="generation", **given)


def mark(client, trace_id):
    """Add a tag and metadata by an ingestion batch, and a score."""
    from langfuse.api import IngestionEvent_TraceCreate, TraceBody

    body = TraceBody(id=trace_id, tags=["billing:processed"], metadata={"billing_status": "processed"})
    now = datetime.datetime.now(datetime.UTC).isoformat()
    client.api.ingestion.batch(batch=[IngestionEvent_TraceCreate(id=f"mark-{trace_id}", timestamp=now, body=body)])
    client.create_score(
        score_id=f"{trace_id}-mark",
        trace_id=trace_id,
        name="billing_status",
        value="processed",
        data_type="CATEGORICAL",
    )
    client.flush()


def read(client, trace_id):
    """List by tag, and fetch the one."""
    listed = client.api.trace.list(limit=100, tags=["billing:pending"]).data
    detail = client.api.trace.get(trace_id)
    return {
        "listed": [[row.id, row.total_cost, row.tags, row.metadata] for row in listed],
        "observations": sorted([one.name, one.calculated_total_cost] for one in detail.observations),
        "scores": [[score.name, score.string_value] for score in detail.scores],
        "signed_in": client.auth_check(),
    }


if __name__ == "__main__":
    client, trace_id = langfuse.Langfuse(), sys.argv[1]
    write(client, trace_id)
    before = read(client, trace_id)
    mark(client, trace_id)
    print(json.dumps({"before": before, "after": read(client, trace_id)}))
