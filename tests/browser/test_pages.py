"""Every page in a real browser: light, dark, and on a phone. A page is found by following links from the first one."""

import pytest

from browsing import VARIANTS, shape_of

# A trace that was billed says more than one that was skipped, and one cause of what is held can be decided about.
BEGINNINGS = ("/", "/traces?outcome=billed", "/held?reason=no_customer")
# Kinds of pages that must be met on the way, so that a lost link is noticed.
KINDS = {
    "",
    "runs",
    "runs-one",
    "meter-events",
    "meter-events-one",
    "settings",
    "customers",
    "customers-one",
    "usage",
    "traces",
    "traces-one",
    "held",
    "held-one",
    "held-reason",
    "held-rules",
    "decisions",
    "rates",
    "rates-one",
    "reconciliation",
    "reconciliation-one",
    "reconciliation-one-rows",
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_page_is_sound(visit, variant):
    """It answers 200, its console is silent, axe finds nothing, it fits the window, and shows no key and no prompt."""
    visitor = visit(variant)
    wrong = {}
    visitor.open("/login")
    check(visitor, f"{variant}/login", wrong)
    visitor.sign_in()
    waiting, seen = list(BEGINNINGS), set()
    while waiting:
        path = waiting.pop(0)
        if (kind := shape_of(path)) in seen:
            continue
        seen.add(kind)
        if visitor.open(path) != 200:
            wrong[path] = ["does not answer 200"]
        check(visitor, f"{variant}/{kind or 'overview'}", wrong)
        waiting += visitor.links()

    assert wrong == {}
    assert seen >= KINDS


def check(visitor, name, wrong):
    """Note what is wrong with the page that is open, and keep a picture of it."""
    problems = [*visitor.complaints, *(visitor.violations() if visitor.is_wide else ()), *visitor.secrets()]
    visitor.complaints.clear()
    if visitor.overflow() > 0:
        problems.append(f"{visitor.overflow()} pixels too wide")
    visitor.keep(name)
    if problems:
        wrong[name] = problems


def test_a_run_that_is_asked_for_follows_itself(visit):
    """From the form to the result, with nobody loading its page again."""
    visitor = visit()
    visitor.sign_in()
    visitor.open("/runs")
    visitor.page.get_by_text("Sync now").click()
    visitor.page.get_by_label("The whole look-back").check()
    visitor.page.get_by_label("Dry run").check()
    visitor.page.get_by_role("button", name="Run").click()
    visitor.page.wait_for_url("**/runs/*")
    loads = []
    visitor.page.on("framenavigated", lambda frame: loads.append(frame.url))
    visitor.page.get_by_role("heading", name="What it came to").wait_for()

    assert visitor.page.locator("#run .chip.done").count() == 1
    assert (loads, visitor.complaints) == ([], [])
