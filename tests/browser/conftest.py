"""A real browser, Debian's chromium without a window, in front of a real `tallymark serve`."""

import contextlib
import json

import pytest
from playwright.sync_api import sync_playwright

from browsing import ARGUMENTS, CALM, CHROMIUM, VARIANTS, Site, Visitor
from web_callers import TOKENS
from web_world import open_house


@pytest.fixture(scope="session")
def chromium():
    """The browser; without one this tier alone is skipped, and says so."""
    if CHROMIUM is None:
        pytest.skip("no browser")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory, chromium):
    """A service in front of a story."""
    with open_house(tmp_path_factory.mktemp("house")) as (world, _):
        child = world.start("serve", "--port", "0", "--json", **TOKENS, **CALM)
        yield Site(json.loads(child.process.stdout.readline())["url"], world)
        child.process.terminate()
        assert child.end().status == 0


@pytest.fixture
def visit(chromium, site):
    """A function that opens a window of a kind in VARIANTS; nobody has signed in yet."""
    with contextlib.ExitStack() as windows:

        def opened(variant="light"):
            context = chromium.new_context(**VARIANTS[variant], reduced_motion="reduce")
            windows.callback(context.close)
            return Visitor(context.new_page(), site.url)

        yield opened
