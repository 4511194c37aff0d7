"""Which generation of Langfuse a server is, and what can be read from it; there is no official flag.

Facts: facts/langfuse.md section 0.4. The two routes are asked for one row each; a 404 of the mode is never taken for
a missing trace.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from ..core.clock import HOUR_US, format_time
from ..errors import ConfigError, NotFound, TooMuch, WrongMode
from ..remote.langfuse import LangfuseClient

# The JSON `filter` parameter exists since 3.117 (facts/langfuse.md section 0.5); before, it is silently ignored.
SERVER_VERSION_MIN = (3, 117, 0)


class _Health(msgspec.Struct):
    version: str


@dataclass(frozen=True, slots=True)
class Probe:
    """What a server is: its version, and which of the two generations can be read from it."""

    version: str
    traces: bool
    observations: bool


def server_version(client: LangfuseClient) -> str:
    """The server's version, from its health page. Raises ConfigError if it is too old to be asked safely."""
    version = client.get("/api/public/health", (), msgspec.json.Decoder(_Health).decode).version
    if _version_key(version) < SERVER_VERSION_MIN:
        raise ConfigError(
            f"{client.base_url} runs Langfuse {version}, which ignores the filter parameter; "
            "upgrade it to 3.117 or later."
        )
    return version


def is_v3(version: str) -> bool:
    """Whether a server is of the generation that always lists traces; its first page then is the probe."""
    return _version_key(version) < (4,)


def probe(client: LangfuseClient, version: str, now_us: int) -> Probe:
    """Ask a server what can be read from it. Raises KeyRefused, RemoteError."""
    hour = [("fromTimestamp", format_time(now_us - HOUR_US)), ("toTimestamp", format_time(now_us)), ("fields", "core")]
    traces = _answers(client, "/api/public/traces", [*hour, ("limit", "1")])
    observations = _answers(client, "/api/public/v2/observations", [("limit", "1")])
    return Probe(version, traces, observations)


def _answers(client: LangfuseClient, path: str, query: list[tuple[str, str]]) -> bool:
    try:
        client.get(path, query, msgspec.json.decode)
    except (WrongMode, NotFound):
        return False
    except TooMuch:
        # It has the route, and more rows than it can answer for at once.
        return True
    return True


def choose(found: Probe, wanted: str) -> tuple[str, str]:
    """The generation to read through, and why. `wanted` is BILLING_SOURCE. Raises ConfigError if there is none.

    Where both can be read the trace list is: in dual mode it holds every trace at once, while observations of the
    ingestion API come after minutes, and back-dated ones lose their tags (facts/langfuse-observed.md item 27).
    """
    can = {"traces": found.traces, "observations": found.observations}
    if wanted != "auto":
        if can[wanted]:
            return wanted, "BILLING_SOURCE says so"
        other = "observations" if wanted == "traces" else "traces"
        raise ConfigError(
            f"BILLING_SOURCE is {wanted}, but Langfuse {found.version} cannot be read through it; "
            f"set it to auto or {other}."
        )
    if found.traces:
        return "traces", "the trace list can be read" + (", observations too" if found.observations else "")
    if found.observations:
        return "observations", "the server no longer lists traces (events_only)"
    raise ConfigError(f"Langfuse {found.version} offers neither GET /traces nor GET /v2/observations to these keys.")


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("-")[0].split(".") if part.isdigit())
