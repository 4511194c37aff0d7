"""A range of time cut into windows that become narrower where the server cannot answer, and wider again after."""

from __future__ import annotations

from collections.abc import Iterator

from ..core.clock import MINUTE_US, format_time
from ..errors import TooMuch

WINDOW_US_MIN = MINUTE_US


class Windows:
    """The windows of a range, the oldest first, each beginning where the one before it ended. Times in microseconds."""

    def __init__(self, from_us: int, to_us: int, width_us_max: int) -> None:
        self.from_us, self.to_us, self.width_us_max = from_us, to_us, width_us_max
        self._start_us = self._end_us = from_us
        self._width_us = width_us_max

    def __iter__(self) -> Iterator[tuple[int, int]]:
        while self._end_us < self.to_us:
            self._start_us, self._end_us = self._end_us, min(self._end_us + self._width_us, self.to_us)
            # What comes after this one, unless it has to be shrunk, dares twice as much.
            self._width_us = min(self._width_us * 2, self.width_us_max)
            yield self._start_us, self._end_us

    def shrink(self) -> None:
        """Give the window that was given last once more, half as wide. Raises TooMuch if it is narrow already."""
        self._width_us = (self._end_us - self._start_us) // 2
        if self._width_us < WINDOW_US_MIN:
            raise TooMuch(
                f"the server cannot answer even one minute of observations at {format_time(self._start_us)}. "
                "Ask its operator for more memory or a longer query time-out, then run again."
            )
        self._end_us = self._start_us
