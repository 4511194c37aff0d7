"""Everything the sandbox holds, and the queue between "accepted" and "visible"."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from tallymark.core.clock import SECOND_US, Clock

from .generations import Generation, ScoresApi
from .parameters import ALL_GROUPS
from .records import Observation, Project
from .state import Moment, ProjectData

Write = Callable[[Moment], object]
Job = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Settings:
    """How this server behaves; see `SandboxLangfuse`."""

    version: str
    generation: Generation
    scores_api: ScoresApi = "object"
    visibility_seconds: float = 0.0
    propagation_seconds: float = 660.0
    unmerged_seconds: float = 0.0
    resource_error_rows: int | None = None
    overcount_total_items: bool = False
    unstable_ties_seed: int | None = None
    reject_no_date_range: bool = False
    default_fields: frozenset[str] = field(default=ALL_GROUPS)


class Store:
    """The data of all projects. Writes are queued and become visible when their time has come."""

    def __init__(self, clock: Clock, projects: Iterable[Project], settings: Settings) -> None:
        self.clock = clock
        self.settings = settings
        self.projects = {project.project_id: ProjectData(project) for project in projects}
        self.lists_answered = 0
        self._queue: deque[tuple[Moment, Write]] = deque()
        self._jobs: list[tuple[int, int, Job]] = []
        self._jobs_numbered = 0

    def write(self, write: Write, envelope_us: int | None = None) -> None:
        """Accept a write: it is answered now and applied `visibility_seconds` later."""
        now_us = self.clock.now_us()
        visible_us = now_us + round(self.settings.visibility_seconds * SECOND_US)
        self._queue.append((Moment(now_us if envelope_us is None else envelope_us, now_us, visible_us), write))

    def settle(self) -> None:
        """Apply the writes whose time has come, in the order they were accepted."""
        now_us = self.clock.now_us()
        while self._queue and self._queue[0][0].visible_us <= now_us:
            moment, write = self._queue.popleft()
            write(moment)
        while self._jobs and self._jobs[0][0] <= now_us:
            heapq.heappop(self._jobs)[2]()

    def later(self, seconds: float, job: Job) -> None:
        """Do something of the server's own when this time has passed."""
        self._jobs_numbered += 1
        due_us = self.clock.now_us() + round(seconds * SECOND_US)
        heapq.heappush(self._jobs, (due_us, self._jobs_numbered, job))

    def publish(self, data: ProjectData, row: Observation) -> None:
        """Add a row to the v4 tables; its earlier versions stay beside it for `unmerged_seconds`."""
        if older := data.write_row(row):
            self.later(self.settings.unmerged_seconds, partial(data.drop_rows, older))

    def data(self, project_id: str) -> ProjectData:
        """The data of a project. Raises KeyError naming the project if there is none."""
        if project_id not in self.projects:
            raise KeyError(f"the sandbox has no project {project_id!r}")
        return self.projects[project_id]
