"""Who may ask: tokens, sessions, forms, hosts and limits. What is refused is refused once, and logged once."""

import logging
import re

import pytest

from tallymark.web.access import COOKIE, READING
from tallymark.web.app import BODY_BYTES_MAX, CSRF_COOKIE
from web_callers import OPERATOR, READER, Browser


@pytest.fixture
def refusals(caplog):
    """A function: what was logged as refused so far."""
    caplog.set_level(logging.WARNING, "tallymark")
    return lambda: [r.getMessage() for r in caplog.records if "refused" in r.getMessage()]


# ---- the API


@pytest.mark.parametrize(
    ("token", "status"), [(OPERATOR, 200), (READER, 200), ("", 401), ("wrong", 401), ("ä", 401), (OPERATOR[:-1], 401)]
)
def test_the_api_is_read_with_a_token(api, ledger, token, status):
    """Of an operator or of a reader, and with no other."""
    answer = api("GET", "/status", token=token)

    assert answer.status_code == status
    if status == 401:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["title"] == "Unauthorized"


def test_a_cookie_does_not_open_the_api(browser, ledger):
    """A page of another site can make a browser send its cookies, and no token."""
    assert browser.get("/api/v1/status").status_code == 401


def test_without_tokens_this_machine_reads_and_nobody_writes(connect, ledger, refusals):
    """What a browser asks under the name of another site is refused, so that no page can read through it."""
    client = connect(BILLING_API_TOKEN="", BILLING_API_READ_TOKEN="")

    assert client.get("/api/v1/status").status_code == 200
    assert client.get("/").status_code == 200
    for host in ("evil.example", "evil.example:8080", "127.0.0.1.evil.example", ""):
        assert client.get("/api/v1/status", headers={"Host": host}).status_code == 401
        assert client.get("/", headers={"Host": host}).status_code == 303
    assert client.get("/api/v1/status", headers={"Host": "localhost:8080"}).status_code == 200
    assert len(refusals()) == 4


def test_the_api_has_a_limit(connect, ledger, refusals):
    """Of so many requests a minute; then 429, which says when to come back."""
    client = connect(BILLING_API_REQUESTS_PER_MINUTE="2")
    headers = {"Authorization": f"Bearer {READER}"}

    answers = [client.get("/api/v1/status", headers=headers) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["title"] == "Too Many Requests"
    assert int(answers[2].headers["ratelimit-reset"]) <= 60
    assert len(refusals()) == 1


def test_an_unknown_page_of_the_api_is_a_problem(api):
    """Not a page for people."""
    answer = api("GET", "/nothing")

    assert (answer.status_code, answer.json()) == (404, {"status": 404, "title": "Not Found", "detail": "Not Found"})


# ---- the dashboard


def test_who_has_not_signed_in_is_sent_to_the_form_and_back(connect, ledger):
    """To the page that was asked for."""
    client = connect()
    sent = client.get("/?period=7d")
    assert (sent.status_code, sent.headers["location"]) == (303, "/login?next=/%3Fperiod%3D7d")
    visitor = Browser(client)
    assert 'name="next" value="/?period=7d"' in visitor.get(sent.headers["location"]).text

    back = visitor.send("/login", token=READER, name="Ada", next="/?period=7d")

    assert (back.status_code, back.headers["location"]) == (303, "/?period=7d")
    assert "reads only" in visitor.get("/").text


@pytest.mark.parametrize("elsewhere", ["https://evil.example", "//evil.example", "/\\evil.example", "/\tx", "x"])
def test_signing_in_leads_nowhere_else(connect, ledger, elsewhere):
    """A link to the form cannot send on to another site."""
    visitor = Browser(connect())
    visitor.get("/login")

    assert visitor.send("/login", token=READER, next=elsewhere).headers["location"] == "/"


def test_the_cookie_is_for_the_server_alone(browser):
    """Not for scripts, not for other sites; over TLS only if the settings say so. It does not hold the token."""
    sent = browser.sign_in(OPERATOR).headers["set-cookie"]

    assert "HttpOnly" in sent and "SameSite=lax" in sent and "Secure" not in sent
    assert OPERATOR not in sent


def test_behind_tls_cookies_stay_there(connect, ledger):
    """Both of them, the one of the forms too."""
    visitor = Browser(connect(BILLING_SECURE_COOKIES="true"))
    form = visitor.get("/login")
    token = form.headers["set-cookie"].partition("=")[2].partition(";")[0]
    answer = visitor.client.post(
        "/login", data={"token": READER, "_csrf_token": token}, headers={"Cookie": f"tallymark_csrf={token}"}
    )

    assert "Secure" in form.headers["set-cookie"] and "Secure" in answer.headers["set-cookie"]


def test_a_session_ends_with_its_token_and_when_signed_out(connect, ledger):
    """A cookie of another token, or one that was changed, is none."""
    visitor = Browser(connect())
    visitor.sign_in(OPERATOR)
    cookie = visitor.client.cookies[COOKIE]
    other = connect(BILLING_API_TOKEN="another-token-of-a-test")
    for client, value in ((other, cookie), (connect(), cookie[:-1]), (connect(), f"x{cookie}"), (connect(), "é" * 9)):
        headers = {"Cookie": f"{COOKIE}={value}".encode()}
        assert client.get("/", headers=headers).headers["location"].startswith("/login")

    assert visitor.get("/").status_code == 200
    assert visitor.send("/logout").status_code == 303
    assert visitor.get("/").status_code == 303


def test_a_wrong_token_is_refused_and_ten_in_a_minute_are_enough(connect, ledger, refusals):
    """The form says so, and the log, once each; the token that was tried is in neither."""
    visitor = Browser(connect())
    answers = [visitor.sign_in("guessed-token") for _ in range(11)]

    assert [answer.status_code for answer in answers] == [401] * 10 + [429]
    assert "That token is not known." in answers[0].text
    assert len(refusals()) == 11
    assert "guessed-token" not in answers[0].text and "guessed-token" not in "".join(refusals())


def test_a_form_of_another_site_is_refused(browser, refusals):
    """It lacks the token of our page, or has one of another visitor; logged once each."""
    assert browser.client.post("/logout").status_code == 403
    assert browser.client.post("/logout", data={"_csrf_token": "0" * 128}).status_code == 403

    assert len(refusals()) == 2
    assert browser.get("/").status_code == 200


# ---- every answer


@pytest.mark.parametrize("path", ["/login", "/static/own/%2e%2e/app.py", "/api/v1/status", "/healthz", "/nothing"])
def test_every_answer_carries_the_same_protection(connect, ledger, path):
    """Nothing from elsewhere runs in a page, and nobody frames it."""
    headers = connect().get(path).headers

    assert "script-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/static/own/..%2f..%2fapp.py", "/static/charts/%2e%2e/__init__.py"])
def test_no_path_leads_out_of_the_folder(connect, refusals, path):
    """Whatever way it is written; logged once."""
    assert connect().get(path).status_code == 404
    assert len(refusals()) == 1


@pytest.mark.parametrize("path", ["/login", "/held/confirm", "/api/v1/runs", "/api/v1/rates/simulate"])
def test_a_large_body_is_refused(browser, refusals, path):
    """Whether it is a form or JSON; logged once."""
    headers = {"Authorization": f"Bearer {OPERATOR}"}
    given = (
        {"json": {"kind": "x" * BODY_BYTES_MAX}}
        if path.startswith("/api/")
        else {"data": {"why": "x" * BODY_BYTES_MAX}}
    )
    answer = browser.client.post(path, headers=headers, **given)

    assert answer.status_code == 413
    assert len(refusals()) == 1


@pytest.mark.parametrize("path", ["/runs", "/held/decisions", "/customer-rules", "/rates/simulate", "/doctor"])
def test_a_reader_s_token_writes_nothing(api, ledger, refusals, path):
    """Whatever else is wrong with what was asked; logged once."""
    answer = api("POST", path, token=READER, json={})

    assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
    assert len(refusals()) == 1


def test_a_reader_changes_nothing_anywhere(connect, ledger):
    """No route that takes another method than GET can forget it; the webhook has a key of its own."""
    client = connect()
    reader = Browser(client)
    reader.sign_in(READER)
    writes = {
        (method, re.sub(r"{[^}]*}", "x", route.path))
        for route in client.app.routes
        for handler in getattr(route, "route_handlers", ())
        for method in set(handler.http_methods) - READING
    } - {("POST", "/login"), ("POST", "/logout"), ("POST", "/webhooks/stripe")}
    headers = {"Authorization": f"Bearer {READER}"}
    form = {"_csrf_token": client.cookies[CSRF_COOKIE]}
    answers = {write: client.request(*write, headers=headers, data=form).status_code for write in writes}

    assert len(writes) >= 10
    assert set(answers.values()) == {403}
