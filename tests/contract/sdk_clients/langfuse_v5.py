"""Client script for langfuse 5, which knows no legacy route: traces one call, reads it back, marks it by a score.

Usage: python langfuse_v5.py TRACE_ID. Base URL and keys come from the environment.
Prints JSON: what the SDK itself made of the answers.
"""

import json
import sys

import langfuse


def write(client, trace_id):
    """A trace with a generation priced by the server and one that brings its own cost."""
    with (
        langfuse.propagate_attributes(
            trace_name="sdk-trace",
            user_id="u1",
            session_id="s1",
            tags=["billing:pending", "sdk"],
            metadata={"customerId": "cus_1"},
        ),
        client.start_as_current_observation(name="root-span", trace_context={"trace_id": trace_id}),
    ):
        _generation(client, name="llm", model="gpt-4o", usage_details={"input": 1000, "output": 500})
        _generation(client, name="own", model="m", cost_details={"input": 0.1, "output": 0.2})
    client.flush()


def _generation(client, **given):
    with client.start_as_current_observation(as_type="generation", **given):
        pass


def mark(client, trace_id):
    """Write the score that says a trace is billed."""
    client.create_score(
        score_id=f"{trace_id}-mark",
        trace_id=trace_id,
        name="billing_status",
        value="processed",
        data_type="CATEGORICAL",
    )
    client.flush()


def read(client, trace_id):
    """Two pages of two rows, and the scores."""
    fields = "core,basic,usage,metadata,trace_context"
    first = client.api.observations.get_many(trace_id=trace_id, fields=fields, limit=2)
    second = client.api.observations.get_many(trace_id=trace_id, fields=fields, limit=2, cursor=first.meta.cursor)
    scores = client.api.scores.get_many(trace_id=trace_id, fields="core,subject").data
    return {
        "pages": [len(first.data), len(second.data), second.meta.cursor],
        "rows": {
            row.name: [row.total_cost, row.user_id, row.tags, row.metadata["customerId"], row.is_root_observation]
            for row in [*first.data, *second.data]
        },
        "scores": [[score.name, score.value, score.subject.id] for score in scores],
        "signed_in": client.auth_check(),
    }


if __name__ == "__main__":
    client, trace_id = langfuse.Langfuse(), sys.argv[1]
    write(client, trace_id)
    before = read(client, trace_id)
    mark(client, trace_id)
    print(json.dumps({"before": before, "after": read(client, trace_id)}))
