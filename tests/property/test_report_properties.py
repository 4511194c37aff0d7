"""Whatever Stripe, or somebody in its name, sends as a report: a value of ours or a named error, nothing else."""

import json

import stripe
from hypothesis import given
from hypothesis import strategies as st

from builders import NOW_US
from tallymark.core.clock import SECOND_US
from tallymark.core.ids import idempotency_key, issue_of, meter_event_id, sent_identifier
from tallymark.core.reports import CHANGE_TYPES, ERROR_REPORT, CustomerChange, ErrorReport, Notification
from tallymark.errors import NotificationRefused
from tallymark.meter.reports import fetch_report, read_notification

SECRET = "whsec_planted"
TEXT = st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)
WORDS = (
    "id",
    "type",
    "created",
    "data",
    "reason",
    "error_types",
    "error_count",
    "sample_errors",
    "code",
    "request",
    "object",
    "customer",
)
LIKELY = st.recursive(
    JSON | st.sampled_from([ERROR_REPORT, CHANGE_TYPES[0], "2026-11-23T12:00:00Z"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=6),
    max_leaves=15,
)
IDS = st.builds(
    meter_event_id,
    st.text("0123456789abcdef", min_size=8, max_size=8),
    TEXT,
    TEXT,
    st.integers(0, 2**50),
    st.integers(0, 2**50),
    TEXT,
    st.integers(0, 999),
)


class Stub:
    """A meter whose reports hold what they are given."""

    def __init__(self, content):
        self.content = content

    def patiently(self, _ask, _needs):
        """What was given."""
        return self.content


def signed(body):
    """The header of a body that is text."""
    return stripe.WebhookSignature.generate_signature_header(body.decode(), SECRET, NOW_US // SECOND_US)


@given(LIKELY)
def test_a_signed_body_of_any_json_is_a_notification_or_none_or_refused(content):
    """No other error reaches the web server."""
    body = json.dumps(content).encode()
    try:
        found = read_notification(body, signed(body), [SECRET], NOW_US)
    except NotificationRefused:
        return
    assert found is None or isinstance(found, Notification | CustomerChange)


@given(st.binary(max_size=60), TEXT)
def test_no_body_is_taken_without_its_signature(body, signature):
    """Any bytes under any header are refused."""
    try:
        read_notification(body, signature, [SECRET], NOW_US)
    except NotificationRefused:
        return
    raise AssertionError("it was taken")


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "validation_start": st.just("2026-11-23T12:00:00Z") | JSON,
            "validation_end": st.just("2026-11-23T12:00:10Z") | JSON,
            "reason": LIKELY,
        },
    )
    | LIKELY
)
def test_the_data_of_a_report_may_be_anything(content):
    """It speaks of at least one meter event, or of none because Stripe says so; counts are never negative."""
    report = fetch_report(Stub(content), Notification("evt_1", ERROR_REPORT, NOW_US, "mtr_1"), {})

    assert isinstance(report, ErrorReport)
    assert all(error.count >= len(error.samples) for error in report.errors)


@given(IDS, st.integers(0, 999), st.integers(1, 999))
def test_every_identifier_and_key_leads_back_to_its_meter_event(own_id, issue, attempt):
    """Stripe names either (facts/stripe.md section 2), and each is at most as long as it takes them."""
    sent = sent_identifier(own_id, issue)

    assert issue_of(sent) == (own_id, issue)
    assert issue_of(idempotency_key(sent, attempt)) == (own_id, issue)
    assert len(sent) <= 100


@given(st.text(max_size=300))
def test_any_text_is_some_identifier(text):
    """What others have sent leads to no meter event of ours, and to no error."""
    own_id, issue = issue_of(text)

    assert issue >= 0
    assert not own_id.startswith("tm-") or text.startswith("tm-")
