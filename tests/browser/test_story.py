"""What a person does about a held trace, in a real browser: look, assign, confirm the money, sync, find it billed."""

import re

from web_callers import READER
from worlds import PROJECT, until

CUSTOMER = "cus_of_the_story"


def test_a_held_trace_is_assigned_billed_and_found(visit, site):
    """The judge is Stripe's own tally: before, the customer was billed nothing; in the end, what was confirmed."""
    visitor = visit()
    page = visitor.page
    visitor.sign_in(name="Grace")
    page.get_by_role("link", name="Held").click()
    page.get_by_role("link", name="no customer").first.click()
    held = page.locator("tbody th a").filter(has_text="trace-").first
    trace_id = held.inner_text()
    held.click()
    page.get_by_label("Customer").first.fill(CUSTOMER)
    page.get_by_label("Why").first.fill("it is theirs, they said")
    page.get_by_role("button", name="Look at the money").first.click()
    money = page.locator(".money").inner_text()
    credits = re.search(r"([0-9,]+\.[0-9]{6}) credits", money)[1]
    visitor.keep("story/1-confirm")
    assert CUSTOMER in money and billed(site) == 0

    page.get_by_role("button", name="Confirm").click()
    visitor.keep("story/2-decided")
    page.get_by_role("link", name="Runs").click()
    page.get_by_text("Sync now").click()
    page.get_by_label("One trace").check()
    page.get_by_label("Trace id").fill(trace_id)
    page.get_by_role("button", name="Run", exact=True).click()
    page.locator(".chip.done").first.wait_for()
    visitor.keep("story/3-run")
    until(lambda: billed(site) > 0)

    page.get_by_role("link", name="Customers").click()
    page.get_by_role("link", name=CUSTOMER).click()
    visitor.keep("story/4-customer")
    assert credits in page.inner_text("main")
    visitor.open(f"/traces/{trace_id}")
    assert page.get_by_text("Grace").count() and credits in page.inner_text("main")
    assert billed(site) == int(credits.replace(",", "").partition(".")[0])
    visitor.open("/decisions")
    assert "it is theirs, they said" in page.inner_text("tbody tr:first-child")
    assert visitor.complaints == []
    assert "billing:processed" in next(t for t in site.world.langfuse.traces(PROJECT) if t["id"] == trace_id)["tags"]


def test_a_reader_looks_and_cannot_decide(visit):
    """The same pages without their forms."""
    visitor = visit()
    visitor.sign_in(READER)
    visitor.open("/held?reason=no_customer")

    assert visitor.page.get_by_text("reads only").count() == 1
    assert visitor.page.get_by_role("button", name="Look at the money").count() == 0
    visitor.open("/runs")
    assert visitor.page.get_by_text("Sync now").count() == 0


def test_pages_read_without_scripts(chromium, site):
    """Numbers are in tables; scripts only draw them."""
    window = chromium.new_context(java_script_enabled=False)
    page = window.new_page()
    page.goto(f"{site.url}/login")
    page.get_by_label("Token").fill(READER)
    page.get_by_role("button", name="Sign in").click()

    assert page.locator("table[data-chart] tbody tr").count() > 0
    window.close()


def billed(site):
    """Whole credits that Stripe counts for the customer of the story."""
    return sum(int(credits) for (customer, _), credits in site.world.stripe.tally().items() if customer == CUSTOMER)
