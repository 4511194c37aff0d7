"""A reconciliation as a file: a page to look at, print and sign, or a table for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from .core.balance import Cause
from .errors import ConfigError
from .flows.audit import Audit
from .flows.reconciliation import Line, Reconciliation, lines_of
from .tables import new_file

KINDS = (".html", ".csv")
COLUMNS = ("customer", "meter", "window", "langfuse", "entries", "accepted", "stripe", *Cause)

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0; width: 100% }
th, td { border-bottom: 1px solid color-mix(in srgb, currentColor 25%, transparent); padding: .3rem .6rem }
th, td { text-align: left }
td.amount, th.amount { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.bad { font-weight: 600 }
.sign { margin-top: 3rem; display: flex; gap: 3rem }
.sign span { border-top: 1px solid; padding-top: .3rem; flex: 1 }
.scroll { overflow-x: auto }
@media print { body { margin: 0; max-width: none } }
"""


def check_name(path: Path | None) -> None:
    """Refuse a file whose kind is unknown, before anything is read. Raises ConfigError."""
    if path is not None and path.suffix.lower() not in KINDS:
        raise ConfigError(f"--report {path} must end with .html or .csv")


def write_report(path: Path, found: Reconciliation, audit: Audit) -> None:
    """Write a report in the place of an older one, readable by its owner only. Raises ConfigError if it cannot."""
    text = page_of(found) if path.suffix.lower() == ".html" else table_of(audit)
    with new_file(path) as file:
        file.write(text.encode())


def table_of(audit: Audit) -> str:
    """Every window as a line of comma-separated values, with a column for each cause."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for line in lines_of(audit, only_different=False):
        writer.writerow([*_cells(line), *(line.differences.get(cause, "0.000000") for cause in Cause)])
    return text.getvalue()


def _cells(line: Line) -> tuple[str, ...]:
    return (
        line.customer,
        line.meter,
        line.window or "",
        line.langfuse,
        line.entries,
        line.accepted,
        line.stripe or "",
    )


def page_of(found: Reconciliation) -> str:
    """The page: what was compared, the verdict, the way from Langfuse to Stripe, customers, windows, a signature."""
    verdict = "Every difference has a cause." if found.explained else "There are differences without a cause."
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Reconciliation</title>",
        '<meta name=viewport content="width=device-width">',
        f"<style>{_STYLE}</style><body><main><h1>Reconciliation</h1>",
        f"<p>{escape(found.from_)} to {escape(found.to)}, by {found.by}; ledger {escape(found.ledger_id)}, "
        f"run {escape(found.run_id)}.</p>",
        f'<p class="{"" if found.explained else "bad"}">{verdict}</p>',
        _section("From Langfuse to Stripe", _steps(found), ("", "credits")),
        _section("Causes", _causes(found), ("cause", "credits", "traces", "what to do")),
        _section(
            "Customers",
            [_customer(line) for line in found.customers],
            ("customer", "meter", "Langfuse", "ledger", "Stripe", "carry", "other causes"),
        ),
        _section(
            "Windows with a difference that is not only carry",
            [_window(line) for line in found.windows],
            ("customer", "meter", "window", "Langfuse", "ledger", "Stripe", "causes"),
        ),
        _marks(found),
        f"<p>Newest line of the ledger: <code>{escape(found.chain)}</code>. "
        "<code>tallymark ledger verify --expect</code> compares a later ledger with it.</p>",
        "<div class=sign><span>Date</span><span>Name</span><span>Signature</span></div></main></body></html>\n",
    ]
    return "\n".join(parts)


def _steps(found: Reconciliation) -> list[Sequence[str]]:
    """The way from what Langfuse holds to what Stripe counted: each cause adds or takes away."""
    steps = [("Langfuse holds, rated again", found.total.langfuse)]
    steps += [(cause.replace("_", " "), amount) for cause, amount in found.total.differences.items()]
    return [*steps, ("Stripe counted", found.total.stripe or "0.000000")]


def _causes(found: Reconciliation) -> list[Sequence[str]]:
    return [
        (line.cause.replace("_", " "), line.credits, f"{line.traces:,}" if line.traces else "", line.remedy)
        for line in found.causes
    ]


def _customer(line: Line) -> Sequence[str]:
    carry = line.differences.get(Cause.CARRY, "0.000000")
    others = _joined((cause, amount) for cause, amount in line.differences.items() if cause != Cause.CARRY)
    return line.customer or "(none)", line.meter, line.langfuse, line.entries, line.stripe or "", carry, others


def _window(line: Line) -> Sequence[str]:
    shown = _joined(line.differences.items())
    window = line.window or ""
    return line.customer or "(none)", line.meter, window, line.langfuse, line.entries, line.stripe or "", shown


def _joined(differences: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{cause.replace('_', ' ')} {amount}" for cause, amount in differences)


def _marks(found: Reconciliation) -> str:
    marks = found.marks
    return (
        f"<p>Marks: {marks.expected:,} expected, {marks.seen:,} seen, {marks.lost:,} lost, "
        f"{marks.without_money:,} without money.</p>"
    )


def _section(title: str, rows: Sequence[Sequence[str]], columns: Sequence[str]) -> str:
    """A heading and a table, or nothing where there are no rows."""
    if not rows:
        return ""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in rows)
    return f"<h2>{escape(title)}</h2><div class=scroll><table><tr>{head}</tr>{body}</table></div>"


def _cell(cell: str) -> str:
    is_amount = cell.replace(".", "", 1).replace("-", "", 1).replace(",", "").isdecimal()
    return f"<td{' class=amount' if is_amount else ''}>{escape(cell)}</td>"
