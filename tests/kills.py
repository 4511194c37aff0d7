"""A process that is lost at a failpoint, told in the test's own process: nothing after the failpoint happens.

What SIGKILL leaves behind is the same, since a transaction that did not commit is undone in either case.
"""

from tallymark import failpoints


class KilledError(BaseException):
    """Stands for SIGKILL: not an Exception, so that nobody catches it and goes on."""


def killed_at(step, side, what):
    """Run something and lose it at a failpoint; whether it got there."""

    def stop(reached, at):
        if (reached, at) == (step, side):
            failpoints.arm(None)
            raise KilledError

    failpoints.arm(stop)
    try:
        what()
    except KilledError:
        return True
    finally:
        failpoints.arm(None)
    return False
