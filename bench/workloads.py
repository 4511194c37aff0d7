"""What the sandbox holds when it is measured, by generation of Langfuse, and what reading that may take."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tallymark.core.clock import HOUR_US, parse_time
from tallymark.sandbox.langfuse import Generation
from tallymark.sandbox.process import Options
from tallymark.sandbox.story import RESULTS, tell
from tallymark.source import observations as observations_source
from tallymark.source import traces as traces_source

# The targets for numbers of requests are for so many traces.
TARGETS_AT_TRACES = 40_000


@dataclass(frozen=True, slots=True)
class Expected:
    """From the story alone: traces to be billed, their micro-credits, and how many (customer, hour) they touch."""

    processed: int = 0
    amount_micros: int = 0
    lanes: int = 0


@dataclass(frozen=True, slots=True)
class Workload:
    """A story, and the generation of Langfuse that tells it.

    - `name`: what it consists of, in a sentence after a number; `key`: the same in the keys of figures.
    - `download`: the job that reads the same rows and discards them.
    - `page_rows`: rows of a page; `rows_per_trace`: how many of them a trace takes.
    - `observations_per_trace`: as `story.tell` takes it.
    - `read_requests_max`, `sync_requests_max`: targets, at TARGETS_AT_TRACES.
    """

    name: str
    key: str
    generation: Generation
    download: str
    page_rows: int
    rows_per_trace: int = 1
    observations_per_trace: int | None = None
    read_requests_max: int | None = None
    sync_requests_max: int | None = None

    def options(self, traces: int) -> Options:
        """A sandbox that holds so many traces."""
        return Options(story=traces, generation=self.generation, observations_per_trace=self.observations_per_trace)

    def expected(self, traces: int, now_us: int) -> Expected:
        """What a sync of so many traces must come to."""
        processed, amount_micros, lanes = 0, 0, set()
        for told in tell(traces, now_us, observations_per_trace=self.observations_per_trace):
            if told.kind not in RESULTS:
                processed += 1
                amount_micros += told.micros
                lanes.add((told.customer, parse_time(told.trace["timestamp"]) // HOUR_US))
        return Expected(processed, amount_micros, len(lanes))


TRACES = Workload(
    name="traces",
    key="traces",
    generation="legacy",
    download="bench.bare:download_traces",
    page_rows=traces_source.PAGE_ROWS,
    sync_requests_max=410,
)
# A sandbox apart for the script and its rival.
SCRIPTED = replace(TRACES, key="scripted", sync_requests_max=None)
OBSERVATIONS = Workload(
    name="traces of 5 observations (events_only)",
    key="observations",
    generation="events_only",
    download="bench.bare:download_observations",
    page_rows=observations_source.PAGE_ROWS,
    rows_per_trace=5,
    observations_per_trace=5,
    read_requests_max=210,
)
