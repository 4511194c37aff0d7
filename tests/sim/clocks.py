"""Two clocks: the true one, on which the services live, and the machine's, which may go wrong."""

from tallymark.core.clock import SECOND_US


class MachineClock:
    """The clock that tallymark sees: the true one, wrong by `skew_us`. Implements `core.clock.Clock`."""

    def __init__(self, true):
        self.true, self.skew_us = true, 0
        self.latest_us = true.now_us()

    def now_us(self):
        """Microseconds since 1970, UTC, as this machine believes."""
        now_us = self.true.now_us() + self.skew_us
        self.latest_us = max(self.latest_us, now_us)
        return now_us

    def sleep(self, seconds):
        """Let time pass everywhere."""
        self.true.advance(max(seconds, 1 / SECOND_US))
