"""Make what was measured last into what the pages quote: `python -m bench.publish`.

Writes docs/benchmarks.json and docs/benchmarks.png, and renews every figure that README.md and docs/scale.md quote. A
quote is a figure with its key in a comment behind it, such as `4.2 ×<!--collect.traces.ratio-->`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from . import kept
from .figures import Figure
from .plot import draw
from .suite import MEASURES
from .workloads import TARGETS_AT_TRACES

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "docs" / "benchmarks.json"
PLOT = ROOT / "docs" / "benchmarks.png"
PAGES = (ROOT / "README.md", ROOT / "docs" / "scale.md")
QUOTE = re.compile(r"(?P<text>[\d,]+(?:\.\d+)?(?: (?:×|µs|ms|s|MB|GB|TB|bytes|/s|/min|%))?)<!--(?P<key>[^ ]+)-->")


class NotMeasuredError(Exception):
    """What was measured is not all that the pages quote, or not of the size that they speak of."""


def main() -> None:
    """Publish the last results. Raises NotMeasuredError if something is missing."""
    latest = kept.read(kept.LATEST)
    require_whole(latest)
    known = kept.quotable(latest)
    kept.write(KEPT, latest)
    draw(known, latest["machine"], PLOT)
    for page in PAGES:
        page.write_text(renewed(page.read_text("utf-8"), known), "utf-8")
    print(f"{KEPT.name}, {PLOT.name} and {', '.join(page.name for page in PAGES)} are fresh")


def require_whole(content: kept.Results) -> None:
    """Raise NotMeasuredError, which names what is to be measured, if that is anything."""
    found = content.get("measures", {})
    missing = [name for name in MEASURES if found.get(name, {}).get("traces") != TARGETS_AT_TRACES]
    if missing:
        again = " ".join(f"--only {name}" for name in missing)
        raise NotMeasuredError(f"run `python -m bench {again}` with {TARGETS_AT_TRACES:,} traces first")


def quotes(page: str) -> list[tuple[str, str]]:
    """What a page quotes: the text of each figure, and its key."""
    return [(found["text"], found["key"]) for found in QUOTE.finditer(page)]


def renewed(page: str, known: Mapping[str, Figure]) -> str:
    """A page with the figures as they are now. Raises KeyError for one that is not known."""
    return QUOTE.sub(lambda found: f"{known[found['key']].text}<!--{found['key']}-->", page)


if __name__ == "__main__":
    main()
