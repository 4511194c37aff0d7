"""Who asks the service in tests: tokens, and somebody in front of the dashboard."""

from tallymark.web.app import CSRF_COOKIE

OPERATOR, READER = "operator-token-of-a-test", "reader-token-of-a-test"
TOKENS = {"BILLING_API_TOKEN": OPERATOR, "BILLING_API_READ_TOKEN": READER}


class Browser:
    """Somebody in front of the dashboard: keeps cookies, and sends forms with the page's own token."""

    def __init__(self, client):
        self.client = client

    def get(self, path):
        """Follow a link."""
        return self.client.get(path)

    def send(self, path, **fields):
        """Send a form of a page that was seen."""
        fields["_csrf_token"] = self.client.cookies.get(CSRF_COOKIE, "")
        return self.client.post(path, data=fields)

    def sign_in(self, token, name="Ada"):
        """Show a token."""
        self.get("/login")
        return self.send("/login", token=token, name=name)
