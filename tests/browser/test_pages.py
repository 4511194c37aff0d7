"""Every page in a real browser: light, dark, and on a phone. A page is found by following links from the first one."""

import pytest

from browsing import VARIANTS, shape_of

# Kinds of pages that must be met on the way, so that a lost link is noticed.
KINDS = {
    "",
    "customers",
    "customers-one",
    "usage",
    "rates",
    "rates-one",
    "reconciliation",
    "reconciliation-one",
    "reconciliation-one-rows",
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_page_is_sound(visit, variant):
    """It answers 200, its console is silent, axe finds nothing, and it is no wider than the window."""
    visitor = visit(variant)
    wrong = {}
    visitor.open("/login")
    check(visitor, f"{variant}/login", wrong)
    visitor.sign_in()
    waiting, seen = ["/"], set()
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
    problems = [*visitor.complaints, *visitor.violations()]
    visitor.complaints.clear()
    if visitor.overflow() > 0:
        problems.append(f"{visitor.overflow()} pixels too wide")
    visitor.keep(name)
    if problems:
        wrong[name] = problems
