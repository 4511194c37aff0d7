"""Make the test data under tests/golden from recordings of a real Langfuse server.

Usage: python scripts/trim_recordings.py SRC DST

Keeps each step's note, request and response; drops what no test reads: timings, headers that carry no meaning, long
HTML, internal jobs, what an SDK printed. Writes compact JSON, one step a line.
"""

import json
import sys
from pathlib import Path

CASES_KEPT = (
    *("01", "02", "03", "04", "05", "06", "07", "08", "10", "11", "12"),
    *("20-sdk-2", "20-sdk-3", "20-sdk-4", "20-sdk-5", "30", "31", "32", "40", "41"),
)
# Says of version 4 what the recording of version 3 says already.
LEFT_OUT = ("v4.16.0-dual/05-paging.json",)
HEADERS_KEPT = ("content-type", "retry-after")
RATE_LIMIT_HEADERS = "x-ratelimit-"
REQUEST_KEYS_KEPT = ("method", "path", "query", "auth", "body")
TEXT_LENGTH_MAX = 200


def trimmed_step(step):
    """One step without what no test reads."""
    if "request" not in step:
        return {"note": step["note"]} if step["note"].startswith("(client waits") else None
    return {
        "note": step["note"],
        "request": trimmed_request(step["request"]),
        "response": trimmed_response(step["response"], step["request"]["path"]),
    }


def trimmed_request(request):
    """A request; only the content type of its headers, and how the client showed its key."""
    kept = {key: request[key] for key in REQUEST_KEYS_KEPT if request.get(key) not in (None, [])}
    if "application/x-protobuf" in request.get("headers", {}).get("content-type", ""):
        kept["content_type"] = "application/x-protobuf"
    if request.get("auth") is None and "headers" in request:
        # The recorder removed the header of an SDK's request, which did carry the project's key.
        kept["auth"] = "Basic pk:sk of the project"
    return kept


def trimmed_response(response, path):
    """A response with the headers that mean something and without an internal job or a page of HTML."""
    headers = {
        name: value
        for name, value in response["headers"].items()
        if name in HEADERS_KEPT or name.startswith(RATE_LIMIT_HEADERS)
    }
    body = response["body"]
    if path.endswith("/otel/v1/traces") and body:
        body = {"name": body["name"]}
    if isinstance(body, str):
        body = body[:TEXT_LENGTH_MAX]
    return {"status": response["status"], "headers": headers, "body": body}


def trimmed_case(case):
    """A whole recording."""
    steps = [trimmed for step in case["steps"] if (trimmed := trimmed_step(step))]
    return {key: case[key] for key in ("case", "title", "server", "recorded_at")} | {"steps": steps}


def write(case, path):
    """Compact, but with one step a line, so that a change can be seen."""
    steps = ",\n".join(json.dumps(step, ensure_ascii=False, separators=(",", ":")) for step in case.pop("steps"))
    head = json.dumps(case, ensure_ascii=False, separators=(",", ":"))
    path.write_text(f'{head[:-1]},"steps":[\n{steps}\n]}}\n', encoding="utf-8")


def main(source, destination):
    """Trim every kept recording of a folder."""
    destination.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.glob("*.json")):
        if path.name.startswith(CASES_KEPT) and f"{source.name}/{path.name}" not in LEFT_OUT:
            write(trimmed_case(json.loads(path.read_text(encoding="utf-8"))), destination / path.name)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
