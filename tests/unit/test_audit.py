"""scripts/audit says "not vulnerable" only of what was looked up; and what it looks up is pinned exactly."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONSTRAINTS = sorted((ROOT / "constraints").glob("*.txt"))
BAD = {"id": "PYSEC-1", "fix_versions": ["2.1"]}


@pytest.fixture
def audit(tmp_path):
    """A function that runs the script over two packages, with a pip-audit that answers what a service is said to."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "audit", tmp_path / "scripts")
    (tmp_path / "constraints").mkdir()
    (tmp_path / "constraints" / "dev.txt").write_text("# pins\none==1.0\nTwo.x==2.0\n")
    tool = tmp_path / ".venvs" / "audit" / "bin" / "pip-audit"
    tool.parent.mkdir(parents=True)

    def run(**services):
        said = {name: json.dumps({"dependencies": rows}) for name, rows in services.items()}
        tool.write_text(f"#!{sys.executable}\nimport sys\nprint({said!r}.get(sys.argv[2], 'no network'))\n")
        tool.chmod(0o755)
        ended = subprocess.run([tmp_path / "scripts" / "audit"], capture_output=True, text=True, check=False)
        return ended.returncode, ended.stdout

    return run


def row(name, version, *vulnerabilities):
    return {"name": name, "version": version, "vulns": list(vulnerabilities)}


def skipped(name):
    return {"name": name, "skip_reason": "not found"}


def test_all_looked_up_and_none_vulnerable(audit):
    status, said = audit(pypi=[row("one", "1.0"), row("two-x", "2.0")])

    assert status == 0
    assert "2 of 2 packages were looked up; 0 are vulnerable" in said


def test_a_vulnerable_package_is_named(audit):
    status, said = audit(pypi=[row("one", "1.0"), row("two-x", "2.0", BAD)])

    assert status == 1
    assert "two-x==2.0: PYSEC-1, mended in 2.1" in said


def test_what_one_service_does_not_know_is_asked_of_the_other(audit):
    """A vulnerability that only the second one knows counts."""
    status, said = audit(pypi=[skipped("one"), row("two-x", "2.0")], osv=[row("one", "1.0", BAD)])

    assert (status, "one==1.0: PYSEC-1" in said) == (1, True)


@pytest.mark.parametrize("services", [{}, {"pypi": [skipped("one"), skipped("two-x")]}, {"pypi": [row("one", "1.0")]}])
def test_what_was_not_looked_up_is_not_called_safe(audit, services):
    """pip-audit itself ends with 0 and "No known vulnerabilities found" where a mirror knows no package at all."""
    status, said = audit(**services)

    assert status == 3
    assert "Nothing is known of the others" in said


@pytest.mark.parametrize("file", CONSTRAINTS, ids=lambda file: file.name)
def test_constraints_pin_exact_versions_and_name_no_host(file):
    """A build is the same everywhere, and takes packages from wherever its machine is set to."""
    lines = [line for line in file.read_text("utf-8").splitlines() if line and not line.startswith("#")]

    assert lines
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line)] == []


def test_no_setup_names_a_host_of_packages():
    """Neither scripts, nor make, nor the project's own table."""
    files = [*(ROOT / "scripts").iterdir(), ROOT / "Makefile", ROOT / ".ci" / "run", ROOT / "pyproject.toml"]
    words = re.compile(r"index-url|find-links|trusted-host|--proxy|\.whl\b")

    assert [file.name for file in files if file.is_file() and words.search(file.read_text("utf-8"))] == []
