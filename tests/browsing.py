"""What a person sees and does in a browser: pages, links, the console, what axe finds, and pictures of pages."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import axe_playwright_python

from tallymark.sandbox.langfuse import DEFAULT_PROJECT
from tallymark.sandbox.story import PROMPT
from web_callers import OPERATOR, TOKENS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# It must ask nobody but us, and needs no sandbox of its own where root runs it.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
SCREENSHOTS = Path(__file__).parents[1] / "build" / "screenshots"
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")
AXE_RUN = "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"
# Jobs stay away until they are asked for.
CALM = {"BILLING_FULL_SYNC_AT": "never", "BILLING_RECONCILE_AT": "never"}
# Parts of addresses that are no ids.
OWN_WORDS = ("rules", "rows")
SECRETS = (*TOKENS.values(), DEFAULT_PROJECT.secret_key, "sk_test_sandbox", PROMPT[:30])
VARIANTS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 800}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 800}},
    "phone": {"color_scheme": "light", "viewport": {"width": 360, "height": 740}, "has_touch": True},
}


@dataclass
class Site:
    """A service that is running, and the world that it bills."""

    url: str
    world: object


@dataclass
class Visitor:
    """Somebody in front of a browser; remembers everything that its console said."""

    page: object
    url: str
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", self._miss)

    def _hear(self, message):
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _miss(self, request):
        # Whoever goes to the next page does not wait for the rest of this one.
        if request.failure != "net::ERR_ABORTED":
            self.complaints.append(f"{request.failure}: {request.url}")

    def open(self, path):
        """Go to a page; its status."""
        return self.page.goto(f"{self.url}{path}", wait_until="load").status

    def sign_in(self, token=OPERATOR, name="Ada"):
        """Show a token in the form."""
        self.open("/login")
        self.page.get_by_label("Token").fill(token)
        self.page.get_by_label("Your name").fill(name)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(f"{self.url}/")

    def links(self):
        """The paths of all pages of ours that this one leads to; no files."""
        found = self.page.eval_on_selector_all("a[href]:not([download])", "all => all.map(one => one.href)")
        ours = urlsplit(self.url).netloc
        return [
            urlsplit(one).path + (f"?{urlsplit(one).query}" if urlsplit(one).query else "")
            for one in found
            if urlsplit(one).netloc == ours
        ]

    @property
    def is_wide(self):
        """Whether the window is one of a desk; axe finds the same in a narrow one."""
        return self.page.viewport_size["width"] > 1000

    def violations(self):
        """What axe finds wrong with the page: rule, how bad, and the first place."""
        self.page.evaluate(AXE)
        return [
            f"{one['id']} ({one['impact']}): {one['help']}: {one['nodes'][0]['html'][:200]}"
            for one in self.page.evaluate(AXE_RUN)
        ]

    def secrets(self):
        """What the page shows and must not: tokens, keys, prompts."""
        shown = self.page.content()
        return [f"it shows {secret[:9]}…" for secret in SECRETS if secret in shown]

    def overflow(self):
        """By how many pixels the page is wider than the window."""
        return self.page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth")

    def keep(self, name):
        """Keep a picture of the page, in full length."""
        path = SCREENSHOTS / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path, full_page=True)


def shape_of(path):
    """What kind of page a path leads to: two traces are one kind."""
    address = urlsplit(path)
    first, *rest = address.path.strip("/").split("/")
    words = [first, *(word if word in OWN_WORDS else "one" for word in rest)]
    return "-".join(words + [key for key in ("outcome", "reason") if f"{key}=" in address.query])
