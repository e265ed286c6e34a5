"""How often something may be done in a minute. Pure: the time is an argument."""

from collections import deque
from typing import Final

from policies.bundle import UNLIMITED

WINDOW_S: Final = 60.0


class Pace:
    """A sliding window: no minute, wherever it begins, holds more than the limit."""

    def __init__(self, limit: int | str, *, sharers: int = 1) -> None:
        """Begin with nothing done.

        Args:
            limit: in a minute; ``unlimited`` for any number, 0 for none.
            sharers: how many keep to the limit together, each to its part. Where that is less
                than one a minute, each does one in as many minutes as it takes.
        """
        self._is_free = limit == UNLIMITED
        number = 0 if isinstance(limit, str) else limit
        self._limit = max(number // sharers, 1) if number else 0
        self._window_s = WINDOW_S * max(1.0, sharers / number) if number else WINDOW_S
        self._over_at: deque[float] = deque()

    @property
    def allows_none(self) -> bool:
        """Whether it may never be done."""
        return not self._is_free and self._limit == 0

    def wait_s(self, now: float) -> float:
        """Seconds until it may be done again; 0 if now.

        Args:
            now: seconds of a clock that does not go back.
        """
        if self._is_free:
            return 0.0
        if self._limit == 0:
            return float("inf")
        while self._over_at and self._over_at[0] <= now:
            self._over_at.popleft()
        return 0.0 if len(self._over_at) < self._limit else self._over_at[0] - now

    def done(self, now: float) -> None:
        """Count one."""
        if not self._is_free:
            self._over_at.append(now + self._window_s)
