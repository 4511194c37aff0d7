"""The machine that figures were taken on: what explains a figure, and nothing that names its owner."""

from __future__ import annotations

import os
import platform
import sqlite3
from pathlib import Path


def describe() -> dict[str, str]:
    """CPU model, cores, operating system, Python and SQLite; no host name and no path."""
    return {
        "cpu": _cpu_model(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
    }


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    if not information.exists():
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in information.read_text().splitlines() if "model name" in line]
    return models[0] if models else platform.machine()
