"""A webhook that people gave: one request, no retry, and nothing of its address in what is said."""

from __future__ import annotations

import urllib3

from ..errors import Refused, RemoteError, Unavailable, Unreachable
from ..failpoints import Side, Step, reach

TIMEOUT = urllib3.Timeout(connect=5.0, read=15.0)
NAME = "the webhook of BILLING_ALERT_WEBHOOK_URL"


def post(url: str, body: bytes) -> None:
    """POST JSON. Raises Unreachable, Unavailable or Refused, which name the setting: the path of the URL is a key."""
    headers = {"content-type": "application/json", "user-agent": "tallymark"}
    reach(Step.ALERT_SEND, Side.BEFORE)
    try:
        with urllib3.PoolManager(retries=False, timeout=TIMEOUT) as pool:
            # What it says beside its status nobody reads, however long that is.
            status = pool.request("POST", url, body=body, headers=headers, redirect=False, preload_content=False).status
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        # Without the cause: the library repeats the address.
        raise Unreachable(f"{NAME} cannot be reached ({type(error).__name__}).") from None
    finally:
        reach(Step.ALERT_SEND, Side.AFTER)
    if not 200 <= status < 300:
        raise _error_of(status)


def _error_of(status: int) -> RemoteError:
    said = f"{NAME} answered {status}."
    return Unavailable(said) if status == 429 or status >= 500 else Refused(said)
