"""Where the time of a sync goes, by looking at its main thread every five milliseconds.

A timer interrupts what the thread does, waits included, and the stack tells the stage: the phase by the flow that
runs, what it does by the innermost part of tallymark. So nothing is slowed down by being counted. Reading happens in a
process of its own; it is looked at as a job by itself.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import tallymark
from tallymark import config
from tallymark.clock import SystemClock
from tallymark.flows.read_ahead import ReadAhead
from tallymark.flows.stations import open_client
from tallymark.source.observations import ObservationsSource
from tallymark.source.traces import TracesSource

from .child import Counts
from .figures import Figure

EVERY_SECONDS = 0.005
ROOT = f"{Path(tallymark.__file__).parent}{os.sep}"
SHARE_SHOWN_MIN = 0.01
REST = "everything else"
# The phase is named by the outermost of these files in the stack, the activity by the innermost.
PHASES = {
    "flows/read.py": "collect",
    "flows/collect.py": "collect",
    "flows/reading.py": "collect",
    "flows/observe.py": "collect",
    "flows/send.py": "send",
    "flows/doubt.py": "send",
    "flows/cancel.py": "send",
    "flows/periods.py": "send",
    "flows/mark.py": "mark",
    "flows/usage_sums.py": "sums of usage by day",
}
ACTIVITIES = {
    "flows/read_ahead.py": "wait for what is read ahead",
    "flows/reader.py": "wait for what is read ahead",
    "flows/decide.py": "rate and decide",
    "flows/send.py": "wait for the threads that send",
    "flows/mark.py": "make marks",
    "remote/": "HTTP",
    "meter/": "HTTP",
    "source/": "decode",
    "rating/": "rate and decide",
    "marks/": "make marks",
    "ledger/gathering.py": "gather meter events",
    "ledger/": "ledger",
}


def read() -> Callable[[], Counts]:
    """The reading of a first sync alone, looked at; its pages are dropped."""
    settings = config.load(None, os.environ)
    client = open_client(settings, settings.projects[0], SystemClock())
    to_us = SystemClock().now_us()
    from_us = to_us - settings.lookback_us

    def pages() -> Iterator[object]:
        if os.environ["BENCH_GENERATION"] == "legacy":
            return TracesSource(client).read(from_us, to_us)
        source = ObservationsSource(client, ahead=ReadAhead)
        return source.read(source.windows(from_us, to_us))

    def work() -> Counts:
        with looking("read") as seen:
            rows = sum(getattr(page, "rows", 0) for page in pages())
        return {"rows": rows, "profile": seen}

    return work


@contextmanager
def looking(phase: str = "start and end") -> Iterator[dict[str, float]]:
    """Seconds of the main thread by stage, looked at every five milliseconds; `phase` is what no flow names.

    What is seen counts for the time since the last look: on a busy machine some come late.
    """
    seen: dict[str, float] = {}
    last = time.perf_counter()

    def look(_number: int, frame: FrameType | None) -> None:
        nonlocal last
        now, stage = time.perf_counter(), stage_of(_files(frame), phase)
        seen[stage] = seen.get(stage, 0.0) + now - last
        last = now

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, EVERY_SECONDS, EVERY_SECONDS)
    try:
        yield seen
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _files(frame: FrameType | None) -> list[str]:
    """The files of tallymark in a stack, the innermost first, as they lie in the package."""
    files = []
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(ROOT):
            files.append(path[len(ROOT) :].replace(os.sep, "/"))
        frame = frame.f_back
    return files


def stage_of(files: list[str], phase: str) -> str:
    """The stage of a stack, given as files of the package, the innermost first; `phase` if no flow names one."""
    phases = (PHASES[file] for file in reversed(files) if file in PHASES)
    activities = (activity for file in files if (activity := _activity(file)) is not None)
    return f"{next(phases, phase)}: {next(activities, 'the rest')}"


def _activity(file: str) -> str | None:
    return ACTIVITIES.get(file) or ACTIVITIES.get(file.partition("/")[0] + "/")


def shares(group: str, seen: Mapping[str, float], key: str) -> Iterator[Figure]:
    """Of seconds by stage those that are a hundredth or more of all, the longest first, and the rest together.

    `key` names the whole, and with ":" and a stage that stage.
    """
    total = sum(seen.values())
    yield Figure(group, "seconds", total, "s", key=key)
    shown = {stage: seconds for stage, seconds in seen.items() if seconds >= SHARE_SHOWN_MIN * total}
    for stage, seconds in sorted(shown.items(), key=lambda item: -item[1]):
        yield Figure(group, stage, 100 * seconds / total, "%", key=f"{key}:{stage}")
    if len(shown) < len(seen):
        rest = total - sum(shown.values())
        yield Figure(group, REST, 100 * rest / total, "%", key=f"{key}:{REST}")
