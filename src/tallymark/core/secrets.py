"""Keys and passwords in text: the one place that hides them, before anybody sees or keeps the text.

What comes from outside goes through `told`: a server may echo the key that it refuses, in any words. What goes to
people goes through `hide` once more (logs, tracebacks, errors), so that a forgotten place leaks no known form.
"""

from __future__ import annotations

import re

TOLD_LENGTH_MAX = 300
HIDDEN = "****"
# A shorter value would be found in words that have nothing to do with it.
_OWN_LENGTH_MIN = 8
# The forms of Stripe's and Langfuse's secrets; pk_ and pk-lf- are public.
_KEY = re.compile(r"((?:sk|rk)_(?:org_)?(?:test|live)_|whsec_|sk-lf-)[A-Za-z0-9_\-]{4,}")
_HEADER = re.compile(r"\b(Basic|Bearer) +[A-Za-z0-9+/=._~\-]{8,}", re.IGNORECASE)
_URL_USER = re.compile(r"(://)(?:[^\s@]{0,500}@)+")
_URL_PASSWORD = re.compile(r"([?& ](?:ssl)?password=)[^&\s]+", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def mask(secret: str) -> str:
    """A secret as people may see it: its last four characters, if it is long enough to stay secret."""
    return HIDDEN + (secret[-4:] if len(secret) >= 20 else "")


def mask_url(text: str) -> str:
    """A URL without its user, password and query; other text as it is."""
    return re.sub(r"(://[^?]*)\?.*", r"\1?****", re.sub(r"://.*@", "://****@", text, flags=re.DOTALL), flags=re.DOTALL)


def hide(text: str, *own: str) -> str:
    """Text without the secrets in it: those in `own`, whatever their form, and all that have a known form."""
    for secret in own:
        if len(secret) >= _OWN_LENGTH_MIN:
            text = text.replace(secret, HIDDEN)
    text = _HEADER.sub(rf"\1 {HIDDEN}", _KEY.sub(rf"\1{HIDDEN}", text))
    return _URL_PASSWORD.sub(rf"\1{HIDDEN}", _URL_USER.sub(rf"\1{HIDDEN}@", text))


def told(text: str, *own: str) -> str:
    """What a server said, as it may be kept and shown: no secret, one line without control characters, and short."""
    return _CONTROL.sub(" ", hide(text, *own)).strip()[:TOLD_LENGTH_MAX]
