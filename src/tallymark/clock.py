"""The clock of the machine."""

from __future__ import annotations

import time


class SystemClock:
    """The present as the machine tells it; implements `core.clock.Clock`."""

    def now_us(self) -> int:
        """Microseconds since 1970, UTC."""
        return time.time_ns() // 1000

    def sleep(self, seconds: float) -> None:
        """Wait that long."""
        time.sleep(seconds)
