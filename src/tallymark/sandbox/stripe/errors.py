"""Stripe's refusals: status, error type, code and message, and the JSON they travel in.

Messages marked "observed" stand word for word in facts/stripe.md section 1; nobody has published the others, so
clients must not match on them.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ..wire import Response

JSON_HEADERS = {"content-type": "application/json"}
# Ours: Stripe has published codes of v2 for single endpoints only (facts/stripe.md section 5).
_CODES_V2 = {400: "invalid_fields", 401: "unauthorized", 404: "not_found"}
_SESSION_EXPIRED = "temporary_session_expired"


class Refusal(Exception):
    """A request that Stripe answers with an error."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        code_v2: str | None = None,
        reported: str | None = None,
    ) -> None:
        """Keep what the answer will hold; `kind` is the `type` of the error object (facts/stripe.md section 13).

        `code_v2` is the code by which the v2 API says the same (section 5); `reported` that of the report in which the
        stream says it, which answers nothing (section 2).
        """
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.code_v2, self.reported = code_v2, reported
        fields = {"type": kind, "message": message, "code": code, "param": param}
        self.error = {name: value for name, value in fields.items() if value is not None}

    def response(self, *, v2: bool = False) -> Response:
        """The HTTP answer; in the v2 API the error object has a code and a message, and rarely more."""
        code = self.code_v2 or _CODES_V2.get(self.status) or self.error.get("code", "api_error")
        error = {"code": code, "message": str(self)} if v2 else self.error
        if v2 and self.error["type"] == _SESSION_EXPIRED:
            error |= {"type": _SESSION_EXPIRED, "doc_url": "https://docs.stripe.com/error-codes"}
        return Response(self.status, msgspec.json.encode({"error": error}), {**JSON_HEADERS, **self.headers})


def invalid(
    message: str,
    param: str | None = None,
    code: str | None = None,
    *,
    code_v2: str | None = None,
    reported: str | None = None,
) -> Refusal:
    """400: the request is wrong and will stay so."""
    return Refusal(400, message, param=param, code=code, code_v2=code_v2, reported=reported)


def missing_param(name: str) -> Refusal:
    """400: a required parameter is not there."""
    return invalid(f"Missing required param: {name}.", name, "parameter_missing")


def no_such(thing: str, identity: str, param: str, status: int = 404) -> Refusal:
    """404 (400 where the id stands in a parameter): an object that does not exist."""
    return Refusal(status, f"No such {thing}: '{identity}'", code="resource_missing", param=param)


def in_other_mode(thing: str, identity: str, param: str, key_livemode: bool, status: int = 404) -> Refusal:
    """404 (400 where the id stands in a parameter), observed: it exists for keys of the other mode only."""
    there, here = ("test", "live") if key_livemode else ("live", "test")
    return Refusal(
        status,
        f"No such {thing}: '{identity}'; a similar object exists in {there} mode, "
        f"but a {here} mode key was used to make this request.",
        code="resource_missing",
        param=param,
    )


def duplicate_identifier(identifier: str) -> Refusal:
    """400, observed: no code on v1, and the header that tells SDKs not to try again (facts/stripe.md section 1)."""
    message = f"An event already exists with identifier {identifier}."
    return Refusal(400, message, headers={"stripe-should-retry": "false"}, code_v2="duplicate_meter_event")


def too_old(bound_seconds: int) -> Refusal:
    """400, observed: older than 35 days (facts/stripe.md section 1)."""
    return invalid(
        "The event timestamp cannot be more than 35 days in past. "
        f"Expected a timestamp greater than or equal to {bound_seconds}.",
        "timestamp",
        reported="timestamp_too_far_in_past",
    )


def too_new(bound_seconds: int) -> Refusal:
    """400 for more than 5 minutes ahead; the text is ours (facts/stripe.md section 1: unverified)."""
    return invalid(
        "The event timestamp cannot be more than 5 minutes in the future. "
        f"Expected a timestamp less than or equal to {bound_seconds}.",
        "timestamp",
        reported="timestamp_in_future",
    )


def no_active_meter(event_name: str, *, archived: bool) -> Refusal:
    """400, observed: no meter, or an inactive one, which only v2 tells apart (facts/stripe.md sections 1 and 5)."""
    code = "archived_meter" if archived else "no_meter"
    message = f'No active meter found for event name "{event_name}".'
    return invalid(message, "event_name", code_v2=code, reported=code)


def no_key() -> Refusal:
    """401: no API key came with the request."""
    return Refusal(401, "You did not provide an API key. Send it in the Authorization header, using Bearer auth.")


def wrong_key(key: str) -> Refusal:
    """401: another key; as Stripe does, the message shows only its last four characters."""
    return Refusal(401, f"Invalid API Key provided: ********{key[-4:]}")


def not_permitted(key: str, label: str, permission: str) -> Refusal:
    """403, observed: a restricted key may not do this; `label` and `permission` are Stripe's names of what it lacks."""
    shown = f"{key[:8]}***{key[-6:]}"
    return Refusal(
        403,
        f"The provided key '{shown}' does not have the required permissions for this endpoint on account "
        f"'acct_sandbox'. Enabling {label} ('{permission}') permissions on this key would allow this request to "
        "continue.",
        code="more_permissions_required",
    )


def unknown_route(method: str, path: str) -> Refusal:
    """404 in Stripe's JSON."""
    return Refusal(404, f"Unrecognized request URL ({method}: {path}).")


def rate_limited() -> Refusal:
    """429 of the account's limit (facts/stripe.md section 6)."""
    headers = {"stripe-rate-limited-reason": "global-rate"}
    return Refusal(429, "Request rate limit exceeded.", code="rate_limit", headers=headers)


def locked() -> Refusal:
    """429: another call for the same customer and meter is in flight (facts/stripe.md section 6)."""
    return Refusal(
        429,
        "This object cannot be accessed right now because another API request is currently accessing it.",
        code="lock_timeout",
        headers={"stripe-rate-limited-reason": "resource-specific"},
        code_v2="too_many_concurrent_requests",
    )


def session_expired() -> Refusal:
    """401: the token of a meter event session is older than 15 minutes (facts/stripe.md section 5)."""
    message = "The meter event session has expired."
    return Refusal(401, message, kind=_SESSION_EXPIRED, code_v2="billing_meter_event_session_expired")


def wrong_token() -> Refusal:
    """401: what was sent to the stream is the token of no meter event session."""
    return Refusal(401, "Invalid authentication token.")


def server_error(status: int = 500) -> Refusal:
    """5xx: Stripe itself is in trouble."""
    return Refusal(status, "An unknown error occurred.", kind="api_error")


def idempotency_key_too_long() -> Refusal:
    """400: Idempotency-Key of more than 255 characters (facts/stripe.md section 6)."""
    return Refusal(400, "Idempotency keys can be at most 255 characters long.", kind="idempotency_error")


def idempotency_mismatch(key: str) -> Refusal:
    """400: the key was used with other parameters (facts/stripe.md section 6)."""
    return Refusal(
        400,
        "Keys for idempotent requests can only be used with the same parameters they were first used with. "
        f"Try using a key other than '{key}' if you meant to execute a different request.",
        kind="idempotency_error",
    )


def idempotency_in_use(key: str) -> Refusal:
    """409: the first request of that key is still being processed; not stored (facts/stripe.md section 6)."""
    message = f"There is currently another in-progress request using this Idempotency Key: {key}."
    return Refusal(409, message, kind="idempotency_error", code="idempotency_key_in_use")
