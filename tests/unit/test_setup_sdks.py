"""scripts/setup-sdks: an SDK that no Python of the machine can run is skipped aloud; any other lack is an error."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSIONS = ("2.60.10", "3.15.0", "4.18.0", "5.0.4")
TOOLS = ("sh", "dirname", "cmp", "cp", "mkdir", "rm")
REASON = "langfuse 2.60.10 does not run on Python 3.14"
# Stands for an interpreter: whether it is too new is its first answer; it makes environments that hold itself.
PYTHON = """#!/bin/sh
case "$1 $2" in
    "-c "*) exit {too_new} ;;
    "-m venv")
        for folder; do :; done
        mkdir -p "$folder/bin" && rm -f "$folder/skipped" && cp "$0" "$folder/bin/python" ;;
esac
"""


@pytest.fixture
def machine(tmp_path):
    """A checkout with the script and its constraints, and a PATH with the tools that the script needs and no Python."""
    for folder in ("scripts", "bin"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / "scripts" / "setup-sdks", tmp_path / "scripts")
    shutil.copytree(ROOT / "constraints", tmp_path / "constraints")
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    return tmp_path


def install(machine, name, *, too_new):
    """Put a Python on the PATH."""
    path = machine / "bin" / name
    path.write_text(PYTHON.format(too_new=0 if too_new else 1))
    path.chmod(0o755)


def set_up(machine):
    """Run the script; what it said and its exit status."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    script = machine / "scripts" / "setup-sdks"
    return subprocess.run(
        [script], env={**environment, "PATH": str(machine / "bin")}, capture_output=True, text=True, check=False
    )


def made(machine):
    """The versions that have an environment."""
    return {version for version in VERSIONS if (machine / ".venvs" / f"langfuse-{version}" / "bin" / "python").exists()}


def skipped(machine):
    """What is said of version 2, or None."""
    path = machine / ".venvs" / "langfuse-2.60.10" / "skipped"
    return path.read_text().strip() if path.exists() else None


def test_with_an_older_python_every_sdk_is_made(machine):
    """Version 2 gets the older one, though python3 is too new."""
    install(machine, "python3", too_new=True)
    install(machine, "python3.12", too_new=False)

    done = set_up(machine)

    assert (done.returncode, made(machine), skipped(machine)) == (0, set(VERSIONS), None), done.stderr
    assert "skipped" not in done.stderr


def test_with_only_a_newer_python_version_2_is_skipped_aloud(machine):
    """The others are made; every run says it again, for it is tried again."""
    install(machine, "python3", too_new=True)

    for _ in range(2):
        done = set_up(machine)

        assert (done.returncode, skipped(machine)) == (0, REASON), done.stderr
        assert f"skipped: {REASON}" in done.stderr
        assert made(machine) == set(VERSIONS) - {"2.60.10"}


def test_once_an_older_python_is_there_nothing_is_skipped_any_more(machine):
    """What said so is gone."""
    install(machine, "python3", too_new=True)
    set_up(machine)
    install(machine, "python3.11", too_new=False)

    done = set_up(machine)

    assert (done.returncode, made(machine), skipped(machine)) == (0, set(VERSIONS), None), done.stderr


def test_without_any_python_nothing_is_skipped(machine):
    """That is no reason to leave out a test: it is an error that says what to install."""
    done = set_up(machine)

    assert (done.returncode, made(machine), skipped(machine)) == (1, set(), None)
    assert "3.11 to 3.13" in done.stderr
