"""What a handler gets: one authenticated, decoded request and the data it is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tallymark.sandbox.wire import Request

from .state import ProjectData
from .store import Store


@dataclass(frozen=True, slots=True)
class Call:
    """One request to one project. `path_id` is the last part of the path where the route has an id; `body` is JSON."""

    store: Store
    data: ProjectData
    request: Request
    path_id: str
    body: Any

    @property
    def project_id(self) -> str:
        """The id of the project."""
        return self.data.project.project_id
