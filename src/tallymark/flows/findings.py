"""What a check of doctor found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked. `status` is "ok", "warning" or "problem"; `exit_status` is 0 but for a problem."""

    check: str
    status: str
    detail: str
    exit_status: int = 0
