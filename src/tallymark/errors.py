"""The errors of tallymark, grouped by what the caller can do.

TallymarkError
├── ConfigError            mend a setting or the command line; nothing was read or written      exit 2
│   ├── KeyRefused         a key is wrong or belongs elsewhere
│   │   └── NotPermitted   a restricted key lacks one permission
│   ├── MeterError         the meter is missing, inactive, or not the one that was named
│   └── ClockAhead         this machine's clock is ahead of the server's
├── RemoteError            run again later; nothing is lost                                     exit 3
│   ├── Unreachable        no answer: connection, name, time-out
│   ├── Unavailable        the server answered 5xx or 429 for longer than we were ready to wait
│   ├── Garbled            the answer is not what the service sends: HTML, cut short, other JSON
│   ├── Refused            the service will not do it: a 4xx that is none of the others
│   ├── WrongMode          the server's mode lacks this route: read it through its other generation
│   └── TooMuch            the question was too large (Langfuse 422, 524): ask for a smaller window
├── LedgerError            look at the ledger; nothing is lost                                  exit 4
│   ├── LedgerMissing      there is none yet
│   ├── LedgerLocked       another process holds it
│   ├── LedgerUnreachable  its server does not answer, or the connection was lost
│   ├── LedgerUnusable     read-only, corrupt, not a ledger
│   ├── LedgerNewer        written by a newer tallymark
│   └── LedgerFull         no space left
├── NotificationRefused    a webhook's body that Stripe did not sign, or not lately; answer it with 400
└── NotFound               what was asked for does not exist                                    exit 2

A message says what is wrong, where, and what to do next. Bad data is not an error: it is a stored outcome.
"""

from __future__ import annotations


class TallymarkError(Exception):
    """Something that tallymark can name went wrong."""

    exit_status = 1


class ConfigError(TallymarkError):
    """A setting, a file or the command line is wrong. Nothing was read or written."""

    exit_status = 2


class KeyRefused(ConfigError):
    """A service refused the key."""


class NotPermitted(KeyRefused):
    """A restricted key lacks a permission."""


class MeterError(ConfigError):
    """The meter is missing, inactive, or not the one that was named."""


class ClockAhead(ConfigError):
    """This machine's clock is so far ahead of the server's that a send could be repeated too late."""


class NotificationRefused(TallymarkError):
    """A webhook's body does not come from Stripe, or not lately, or is damaged. Nothing was stored."""


class NotFound(ConfigError):
    """What was asked for does not exist."""


class RemoteError(TallymarkError):
    """A service could not be used. Nothing is lost: run again."""

    exit_status = 3


class Unreachable(RemoteError):
    """No answer came."""


class Unavailable(RemoteError):
    """The service answered, but only that it cannot serve now."""


class Garbled(RemoteError):
    """The answer is not what the service sends."""


class Refused(RemoteError):
    """The service understood what it was asked and will not do it; asking the same again is no use."""


class WrongMode(RemoteError):
    """The server runs in a mode that does not have this route (Langfuse events_only, or before v4)."""


class TooMuch(RemoteError):
    """The server cannot answer a question this large; ask for a smaller window."""


class LedgerError(TallymarkError):
    """The ledger cannot be used."""

    exit_status = 4


class LedgerMissing(LedgerError):
    """There is no ledger yet."""


class LedgerLocked(LedgerError):
    """Another process holds the ledger."""


class LedgerUnreachable(LedgerError):
    """The ledger's server does not answer, or the connection to it was lost. Nothing is half-written: run again."""


class LedgerUnusable(LedgerError):
    """The ledger is read-only, corrupt, or not a ledger."""


class LedgerNewer(LedgerError):
    """A newer tallymark wrote the ledger."""


class LedgerFull(LedgerError):
    """No space is left for the ledger."""
