"""`python -m bench` runs: a small measurement, from the sandboxes it starts to the file that keeps the figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench import machine

ROOT = Path(__file__).parents[2]


def test_a_small_measurement_ends_with_figures(tmp_path):
    """One measure by name: its figures are printed, and kept beside what the file held of another measure."""
    kept = tmp_path / "figures.json"
    kept.write_text(json.dumps({"machine": machine.describe(), "measures": {"start": {"figures": []}}}))
    command = [sys.executable, "-m", "bench", "--traces", "100", "--only", "collect", "--output", kept]

    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert "collect / bare loop" in printed and "targets not met" in printed
    measured = json.loads(kept.read_text())["measures"]
    assert sorted(measured) == ["collect", "start"]
    rows = [figure["value"] for figure in measured["collect"]["figures"] if figure["name"] == "rows read"]
    assert rows[0] > 90 and rows[1] > 400
