"""The figures on the pages are those that were measured, and the pages say where they come from."""

from __future__ import annotations

import pytest
from bench import kept, publish

KNOWN = kept.quotable(kept.read(publish.KEPT))


@pytest.mark.parametrize("page", publish.PAGES, ids=lambda page: page.name)
def test_quoted_figures_are_the_measured_ones(page):
    """Each quoted figure is that of docs/benchmarks.json under its key; if not, `make bench-publish` renews it."""
    quotes = publish.quotes(page.read_text("utf-8"))

    assert len(quotes) > 15
    assert [(text, key) for text, key in quotes if KNOWN[key].text != text] == []


@pytest.mark.parametrize("page", publish.PAGES, ids=lambda page: page.name)
def test_a_page_leads_to_plot_and_figures(page):
    """Whoever reads a figure can look at all of them, and at the picture."""
    text = page.read_text("utf-8")

    assert "benchmarks.png)" in text and "benchmarks.json)" in text
    assert publish.PLOT.read_bytes().startswith(b"\x89PNG")


def test_published_figures_are_of_the_size_that_pages_speak_of():
    """Everything that `make bench` measures was measured, at 40,000 traces, on a machine that is named."""
    content = kept.read(publish.KEPT)

    publish.require_whole(content)
    assert content["machine"]["cpu"] and content["machine"]["cores"]
