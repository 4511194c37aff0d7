"""Which project a pair of keys opens: GET /projects (facts/langfuse.md section 8)."""

from __future__ import annotations

import msgspec

from ..errors import Garbled
from ..remote.langfuse import LangfuseClient


class ProjectRow(msgspec.Struct):
    """A project as the server names it."""

    id: str
    name: str = ""


class _Projects(msgspec.Struct):
    data: list[ProjectRow]


_decode = msgspec.json.Decoder(_Projects).decode


def projects_of(client: LangfuseClient) -> list[ProjectRow]:
    """The projects that the keys open: one."""
    return client.get("/api/public/projects", (), _decode).data


def project_id_of(client: LangfuseClient) -> str:
    """The id of the project of these keys. Raises Garbled if the server names none, or several."""
    found = projects_of(client)
    if len(found) != 1:
        raise Garbled(f"{client.base_url} names {len(found)} projects for one pair of keys.")
    return found[0].id
