"""What Langfuse's blob storage export would have written of a sandbox: files of every format, and manifests.

Facts: facts/langfuse.md section 10.1. Rows have ClickHouse's column names; metadata is text, times have no zone.
"""

import csv
import gzip
import io
import json
from base64 import b64encode
from decimal import Decimal
from urllib.parse import quote

import pyarrow
import pyarrow.parquet

from builders import PROJECT
from tallymark.core.clock import format_time, parse_time
from tallymark.sandbox.langfuse import DEFAULT_PROJECT
from tallymark.sandbox.langfuse.values import stored_text
from tallymark.sandbox.wire import Request

_KEYS = f"{DEFAULT_PROJECT.public_key}:{DEFAULT_PROJECT.secret_key}"
HEADERS = {"authorization": f"Basic {b64encode(_KEYS.encode()).decode()}"}
PROMPT = "a prompt that nobody may see"
AMOUNTS = pyarrow.map_(pyarrow.string(), pyarrow.decimal128(18, 12))
TIME = pyarrow.timestamp("us")
TYPES = {
    **dict.fromkeys(("start_time", "end_time", "timestamp", "updated_at"), TIME),
    **dict.fromkeys(("public", "bookmarked"), pyarrow.bool_()),
    "usage_details": pyarrow.map_(pyarrow.string(), pyarrow.uint64()),
    "cost_details": AMOUNTS,
    "total_cost": pyarrow.decimal128(18, 12),
    "metadata": pyarrow.map_(pyarrow.string(), pyarrow.string()),
    "tags": pyarrow.list_(pyarrow.string()),
}


# ---- rows


def enriched_rows(langfuse):
    """The rows of observations_v2, each of which tells its trace's customer too."""
    return [_enriched(row) for trace in langfuse.traces(PROJECT) for row in langfuse.rows(PROJECT, trace["id"])]


def _enriched(row):
    return {
        **_observation(row),
        "trace_name": row["traceName"] or "",
        "user_id": row["userId"],
        "session_id": row["sessionId"],
        "release": row["release"],
        "tags": list(row["tags"]),
        "public": row["public"],
        "bookmarked": row["bookmarked"],
    }


def legacy_rows(langfuse):
    """The rows of traces, which have no cost, and of observations, which name no customer."""
    traces = [_detail(langfuse, trace["id"]) for trace in langfuse.traces(PROJECT)]
    return {
        "traces": [_trace(trace) for trace in traces],
        "observations": [_observation(one) for trace in traces for one in trace["observations"]],
    }


def _detail(langfuse, trace_id):
    answer = langfuse.handle(Request("GET", f"/api/public/traces/{quote(trace_id)}", (), HEADERS, b""))
    assert answer.status == 200
    return json.loads(answer.body)


def _trace(trace):
    return {
        "id": trace["id"],
        "timestamp": clickhouse_time(trace["timestamp"]),
        "name": trace["name"],
        "environment": trace["environment"],
        "project_id": PROJECT,
        "metadata": _texts(trace["metadata"]),
        "user_id": trace["userId"],
        "session_id": trace["sessionId"],
        "release": trace["release"],
        "version": trace["version"],
        "public": trace["public"],
        "bookmarked": trace["bookmarked"],
        "tags": list(trace["tags"]),
        "input": PROMPT,
        "updated_at": clickhouse_time(trace["updatedAt"]),
    }


def _observation(row):
    costs = {name: Decimal(repr(cost)) for name, cost in (row["costDetails"] or {}).items()}
    return {
        "id": row["id"],
        "trace_id": row["traceId"],
        "project_id": PROJECT,
        "environment": row["environment"],
        "type": row["type"],
        "parent_observation_id": row["parentObservationId"],
        "start_time": clickhouse_time(row["startTime"]),
        "end_time": clickhouse_time(row["endTime"]),
        "name": row["name"],
        "metadata": _texts(row["metadata"]),
        "version": row["version"],
        "input": PROMPT,
        "provided_model_name": row["model"],
        "usage_details": dict(row["usageDetails"] or {}),
        "cost_details": costs,
        "total_cost": costs.get("total"),
        # Of integrations made before April 2026 in milliseconds (facts/langfuse.md section 10.1): never to be read.
        "latency": 123_456.0,
        "updated_at": clickhouse_time(row["updatedAt"]),
    }


def clickhouse_time(text):
    """2026-11-23 11:00:00.000, as ClickHouse writes a DateTime64."""
    return None if text is None else format_time(parse_time(text))[:-1].replace("T", " ")


def _texts(metadata):
    return {key: value if isinstance(value, str) else stored_text(value) for key, value in metadata.items()}


# ---- files


def write_export(folder, tables, *, kind="parquet", from_us, to_us, manifest=True, prefix="exports/"):
    """Write one run of the export: a file a table, and last its manifest."""
    stem = format_time(to_us)[:19].replace(":", "-")
    files = []
    for table, rows in tables.items():
        place = folder / PROJECT / table
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{stem}.{kind}").write_bytes(encoded(rows, kind))
        files.append(
            {"key": f"{prefix}{PROJECT}/{table}/{stem}.{kind}", "table": table, "compressed": kind[-3:] == ".gz"}
        )
    if manifest:
        place = folder / PROJECT / "manifests"
        place.mkdir(parents=True, exist_ok=True)
        window = {"minTimestamp": format_time(from_us), "maxTimestamp": format_time(to_us)}
        body = {"version": 1, "projectId": PROJECT, "window": window, "createdAt": format_time(to_us), "files": files}
        (place / f"{stem}.json").write_text(json.dumps(body))
    return folder


def encoded(rows, kind):
    """Rows as the bytes of a file; a row that is text already stands in it as it is."""
    if kind.endswith(".gz"):
        return gzip.compress(encoded(rows, kind.removesuffix(".gz")))
    if kind == "parquet":
        return _parquet(rows)
    if kind == "csv":
        return _csv(rows)
    lines = [row if isinstance(row, str) else json_text(row) for row in rows]
    return ("[" + ",".join(lines) + "]" if kind == "json" else "\n".join(lines) + "\n").encode()


def json_text(value):
    """JSON with every digit of a decimal."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{json_text(each)}" for key, each in value.items()) + "}"
    return format(value, "f") if isinstance(value, Decimal) else json.dumps(value)


def _csv(rows):
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in names])
    return text.getvalue().encode()


def _cell(value):
    if value is None or isinstance(value, str):
        return value
    return json_text(value)


def _parquet(rows):
    names = list(dict.fromkeys(name for row in rows for name in row))
    kinds = {name: TYPES.get(name) for name in names}
    columns = {name: pyarrow.array([_typed(row.get(name), kinds[name]) for row in rows], kinds[name]) for name in names}
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


def _typed(value, kind):
    if value is None or kind is None:
        return value
    if kind == TIME:
        return parse_time(value.replace(" ", "T") + "Z")
    return list(value.items()) if pyarrow.types.is_map(kind) else value
