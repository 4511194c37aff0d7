"""Labels: which values are taken, what becomes of the others, and what Langfuse makes of them."""

import json
import logging
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallymark.instrument import billable, set_strict, trace_kwargs
from tallymark.instrument import labels as instrument_labels
from tallymark.instrument.labels import labels_of, metadata_text
from tallymark.rating.customers import CUSTOMER_ATTRIBUTES
from tallymark.rating.rate import OWNERS, OWNERSHIP_ATTRIBUTE
from tallymark.source import rows

LONG = "x" * 201
# what is refused: the arguments, a word of the sentence, and what trace_kwargs then says besides billing:pending
REFUSED = {
    "no customer": ({"customer": None}, "customer", {}),
    "empty customer": ({"customer": " "}, "customer", {}),
    "numeric customer": ({"customer": 12345}, "customer", {}),
    "long customer": ({"customer": LONG}, "customer", {}),
    "customer that is long as JSON": ({"customer": '"' * 150}, "customer", {}),
    "function outside a decorator": ({"customer": lambda: "cus_1"}, "customer", {}),
    "half a surrogate pair": ({"customer": "cus_\ud800"}, "customer", {}),
    "long user": ({"user": LONG}, "user", {}),
    "numeric session": ({"session": 7}, "session", {}),
    "long flow": ({"flow": LONG}, "flow", {}),
    "flow with a comma": ({"flow": "chat,billing:processed"}, "flow", {}),
    "flow that is a mark": ({"flow": "billing:processed"}, "flow", {}),
    "unknown owner": ({"ownership": "them"}, "ownership", {"metadata": {"aiCredentialsOwnership": "unknown"}}),
    "numeric metadata": ({"metadata": {"gbMonth": 2.5}}, "metadata", {}),
    "long metadata": ({"metadata": {"note": LONG}}, "metadata", {}),
    "metadata that is no mapping": ({"metadata": ["a"]}, "metadata", {}),
    "key that is no text": ({"metadata": {7: "a"}}, "metadata", {}),
    "key with a dot": ({"metadata": {"a.b": "c"}}, "metadata", {}),
    "customer as metadata": ({"metadata": {"stripeCustomerId": "cus_1"}}, "customer=", {}),
    "a mark as metadata": ({"metadata": {"billing_status": "processed"}}, "billing_status", {}),
}


@pytest.fixture(autouse=True)
def _as_in_production(_strict):
    """Strictness is left to the environment, which does not ask for it."""
    set_strict(None)


@pytest.mark.parametrize(("given", "word", "_said"), REFUSED.values(), ids=REFUSED)
def test_strict_refuses_what_langfuse_would_drop(given, word, _said):
    set_strict(True)

    with pytest.raises(ValueError, match=word), billable(**given):
        pass


@pytest.mark.parametrize(("given", "word", "said"), REFUSED.values(), ids=REFUSED)
def test_production_leaves_it_out_and_still_tags_the_trace(given, word, said, caplog):
    """The trace is found and held, never lost and never billed to a wrong customer; the log says it once."""
    for _ in range(3):
        with billable(**given):
            assert trace_kwargs() == {"tags": ["billing:pending"], **said}

    [line] = caplog.messages
    assert word in line


def test_what_is_refused_is_not_logged(caplog):
    """A wrong argument may be a prompt or a key."""
    with billable(customer="sk_live_secret" * 20, user={"prompt": "secret"}, metadata={"key secret": "x"}):
        pass

    assert len(caplog.messages) == 3
    assert "secret" not in caplog.text


def test_one_bad_value_spoils_no_other():
    given = {"customer": "cus_1", "user": LONG, "metadata": {"a": 1, "b": "2"}, "flow": "chat"}

    with billable(**given):
        assert trace_kwargs() == {
            "tags": ["billing:pending", "chat"],
            "metadata": {"b": "2", "customerId": "cus_1"},
        }


def test_strictness_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("TALLYMARK_INSTRUMENT_STRICT", "1")

    with pytest.raises(ValueError, match="customer"):
        billable(customer="")


def test_the_longest_values_are_taken():
    labels = labels_of(customer="c" * 198, user="u" * 200, session="s" * 200, flow="f" * 200, metadata={"k": "v" * 198})

    assert [len(text) for text in (labels.customer, labels.user, labels.session, labels.metadata["k"])] == [
        198,
        200,
        200,
        198,
    ]
    assert len(labels.tags[1]) == 200


def test_rating_and_source_read_what_is_written():
    """The words of the instrument are the words of rating and source, which it does not import."""
    assert instrument_labels.CUSTOMER_KEY in CUSTOMER_ATTRIBUTES
    assert instrument_labels.OWNERSHIP_KEY == OWNERSHIP_ATTRIBUTE
    assert set(instrument_labels.OWNERS) == set(OWNERS)
    assert instrument_labels.UNKNOWN_OWNER not in OWNERS
    assert instrument_labels.PENDING_TAG == rows.PENDING_TAG


def no_json(constant):
    """Python reads NaN and Infinity as JSON; Langfuse does not."""
    raise ValueError(constant)


@given(st.text(max_size=20) | st.integers().map(str) | st.floats().map(str) | st.sampled_from(["null", "true", '"a"']))
def test_metadata_text_comes_back_as_the_same_text(text):
    """Langfuse parses metadata as JSON and keeps what is none (observed item 32): ids stay text, digit by digit."""
    sent = metadata_text(text)
    try:
        read = json.loads(sent, parse_constant=no_json)
    except ValueError:
        read = sent

    assert read == text


def test_sdk_2_gets_everything_as_keyword_arguments():
    with billable(customer="12345", flow="chat", ownership="user", user="ada", session="s1", metadata={"gbMonth": "2"}):
        assert trace_kwargs() == {
            "tags": ["billing:pending", "chat"],
            "metadata": {"gbMonth": "2", "customerId": "12345", "aiCredentialsOwnership": "user"},
            "user_id": "ada",
            "session_id": "s1",
        }


def test_outside_of_any_billable_a_trace_is_still_tagged():
    assert trace_kwargs() == {"tags": ["billing:pending"]}


WITHOUT = """
import sys
for name in {missing!r}:
    sys.modules[name] = None
import logging; logging.basicConfig(format="%(message)s")
from tallymark.instrument import billable, trace_kwargs
@billable(flow="chat")
def inner():
    return trace_kwargs()
with billable(customer="cus_1"):
    assert inner() == {{"tags": ["billing:pending", "chat"], "metadata": {{"customerId": "cus_1"}}}}
    with billable(customer="cus_2"):
        assert inner()["metadata"] == {{"customerId": "cus_2"}}
assert trace_kwargs() == {{"tags": ["billing:pending"]}}
"""


def run_python(script):
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("missing", "logged"),
    [(["opentelemetry"], ""), (["opentelemetry", "langfuse"], "neither Langfuse nor OpenTelemetry is installed")],
    ids=["Langfuse SDK 2", "nothing installed"],
)
def test_it_works_without_opentelemetry(missing, logged):
    done = run_python(WITHOUT.format(missing=missing))

    assert done.returncode == 0, done.stderr
    assert logged in done.stderr
    assert len(done.stderr.splitlines()) == bool(logged)


@pytest.mark.parametrize("module", ["tallymark", "tallymark.instrument"])
def test_importing_it_loads_no_sdk(module):
    found = "[name for name in ('langfuse', 'opentelemetry', 'pydantic', 'msgspec') if name in sys.modules]"

    assert run_python(f"import sys, {module}; print({found})").stdout.strip() == "[]"


def test_the_log_is_a_warning(caplog):
    """Seen in production with the usual level."""
    with billable(customer=""):
        pass

    assert [record.levelno for record in caplog.records] == [logging.WARNING]
