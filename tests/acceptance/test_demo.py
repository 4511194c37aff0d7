"""The demo bills what the traces alone come to: the story's own arithmetic, and for recorded workloads an oracle's."""

import csv
import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from worlds import Child, environment, tallymark

ROOT = Path(__file__).parents[2]
WORKLOAD = ROOT / "tests" / "data" / "workload_small.csv"
ORACLE = ROOT / "scripts" / "independent_credits.py"
CHECK = ROOT / "scripts" / "check-workload"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A demo of 2,000 traces."""
    return tallymark(tmp_path_factory.mktemp("demo"), "demo", "--traces", "2000", "--json")


def test_the_demo_ends_well_and_its_counts_add_up(demo):
    """Exit status 0, and each trace in exactly one of its ends (G2)."""
    first = demo.json["first_sync"]

    assert (demo.status, demo.json["problems"]) == (0, [])
    ends = first["processed"] + first["failed"] + sum(first["skipped"].values()) + sum(first["held"].values())
    assert first["fetched"] == ends == demo.json["fetched"] == 2000
    assert all(first["skipped"][reason] for reason in ("already_processed", "no_billable_usage", "future_timestamp"))
    assert all(first["held"][reason] for reason in ("no_customer", "too_old", "unpriced"))
    assert first["untagged"] > 0 and first["healed"] > 0


def test_the_demo_bills_nothing_twice_and_late_usage_once(demo):
    """The second sync sends nothing to Stripe and reads little; the third adjusts one trace."""
    second, late = demo.json["second_sync"], demo.json["late_sync"]

    assert (second["processed"], second["credits"], second["requests"]["stripe"]) == (0, "0.000000", 0)
    assert second["requests"]["langfuse"] <= 4
    assert (late["adjusted"], late["credits"], late["meter_events"]["accepted"]) == (1, "307.500000", 1)
    entries = demo.json["explain"]["projects"][0]["entries"]
    assert [entry["kind"] for entry in entries] == ["charge", "adjustment"]


def test_people_see_the_checks(tmp_path):
    """Every check is printed with its verdict, and none fails."""
    ended = tallymark(tmp_path, "demo", "--traces", "100")

    verdicts = [line.split()[0] for line in ended.out.splitlines() if line.startswith(("  ok ", "  NOT "))]
    assert (ended.status, verdicts) == (0, ["ok"] * 6)


def test_the_story_of_doubt_ends_well(tmp_path):
    """Stripe takes everything and never answers; after 30 hours nothing is sent again, all is settled, and exact."""
    ended = tallymark(tmp_path, "demo", "--story", "doubt", "--traces", "100", "--json")

    assert (ended.status, ended.json["problems"]) == (0, [])
    assert ended.json["unanswered_sync"]["meter_events"]["accepted"] == 0
    assert ended.json["settling_sync"]["meter_events"]["settled"] > 50
    assert ended.json["reconcile"]["explained"] is True


@pytest.mark.parametrize("generation", ["traces", "observations"])
def test_the_story_of_corrections_ends_well(tmp_path, generation):
    """Late and lower costs, deletions, rejections and a closed period: every difference told, to the micro-credit."""
    arguments = ("demo", "--story", "corrections", "--traces", "1000", "--generation", generation, "--json")
    ended = tallymark(tmp_path, *arguments)

    assert (ended.status, ended.json["problems"]) == (0, [])
    before, after = ended.json["reconcile_before"], ended.json["reconcile_after"]
    assert before["explained"] and after["explained"]
    told = [{line["cause"] for line in found["causes"]} for found in (before, after)]
    assert told[0] >= {"held", "marked_elsewhere", "late", "rejected", "carry"}
    assert told[1] >= {"held", "marked_elsewhere", "moved", "waived", "carry"}


def test_keep_serves_the_dashboard_of_the_story_until_ctrl_c(tmp_path):
    """Its address and a token that nobody else knows come with the report; after hours that passed in no time, too."""
    arguments = ("demo", "--story", "doubt", "--traces", "50", "--keep", "--json")
    child = Child(arguments, environment(tmp_path), tmp_path)
    told = json.loads(child.process.stdout.readline())
    dashboard = told["dashboard"]
    asked = urllib.request.Request(
        f"{dashboard['url']}/api/v1/status", headers={"Authorization": f"Bearer {dashboard['token']}"}
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:
        status = json.load(answer)
    child.process.send_signal(signal.SIGINT)
    ended = child.end()

    assert (ended.status, ended.out, told["problems"]) == (0, "", [])
    assert status["read_up_to"] > told["settling_sync"]["from"]


def test_keep_says_what_the_dashboard_needs_where_it_is_not_installed(tmp_path):
    """The sandbox is there all the same, and the lines with which another shell uses it."""
    bare = "import sys; sys.modules['litestar'] = None; from tallymark.cli import main; main()"
    arguments = [sys.executable, "-c", bare, "demo", "--traces", "20", "--keep"]
    said = []
    with subprocess.Popen(
        arguments, env=environment(tmp_path), cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as demo:
        while not said or "Ctrl-C" not in said[-1]:
            said.append(demo.stdout.readline())
            assert said[-1], said
        demo.send_signal(signal.SIGINT)

    assert demo.returncode == 0
    assert "pip install 'tallymark[web]'" in said[-1]
    exported = dict(re.findall(r"export (\S+)=(\S+)", "".join(said)))
    assert exported.keys() >= {"LANGFUSE_BASE_URL", "BILLING_STRIPE_SECRET_KEY", "BILLING_LEDGER_URL"}


def test_a_workload_costs_every_customer_what_the_oracle_says(tmp_path):
    """To the micro-credit; the oracle shares no code with tallymark."""
    ended = tallymark(tmp_path, "demo", "--workload", WORKLOAD, "--json")
    told = json.loads(subprocess.run([sys.executable, ORACLE, WORKLOAD], capture_output=True, check=True).stdout)

    assert ended.status == 0
    assert ended.json["customers"] == told["customers"]
    assert ended.json["processed"] == told["traces"] == 10


def check_workload(folder, *files):
    """Run scripts/check-workload."""
    return subprocess.run([sys.executable, CHECK, *files], env=environment(folder), capture_output=True, text=True)


def test_check_workload_says_equal(tmp_path):
    """One line a file: traces, customers, credits."""
    done = check_workload(tmp_path, WORKLOAD)

    assert done.returncode == 0
    assert done.stdout == "workload_small.csv: 10 traces, 9 customers, 10744.124999 credits: equal\n"


def test_check_workload_tells_a_difference(tmp_path):
    """An oracle with another price, in a copy of the scripts, is seen at once."""
    (tmp_path / "check-workload").write_text(CHECK.read_text("utf-8"), "utf-8")
    wrong = ORACLE.read_text("utf-8").replace(
        'COMPUTE_USD_PER_MINUTE = Fraction("0.05")', 'COMPUTE_USD_PER_MINUTE = Fraction("0.06")'
    )
    (tmp_path / ORACLE.name).write_text(wrong, "utf-8")

    done = subprocess.run(
        [sys.executable, tmp_path / "check-workload", WORKLOAD],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1
    assert "9 customers differ" in done.stdout


def test_a_file_of_something_else_is_refused(tmp_path):
    """The message names the file and what it must begin with."""
    wrong = tmp_path / "wrong.csv"
    with wrong.open("w", newline="") as lines:
        csv.writer(lines).writerows([["WHEN", "TOKENS"], ["today", "5"]])

    ended = tallymark(tmp_path, "demo", "--workload", wrong)

    assert ended.status != 0
    assert "wrong.csv" in ended.err
    assert "TIMESTAMP" in ended.err
