"""Who is to be looked at again, and when. No clock: the time is told."""

from datetime import datetime
from heapq import heappop, heappush


class Agenda:
    """One moment for each name, the earliest that was asked for."""

    def __init__(self) -> None:
        self._moments: dict[str, datetime] = {}
        self._queue: list[tuple[datetime, str]] = []

    def set(self, name: str, moment: datetime) -> None:
        """Ask for a look at that moment, unless an earlier one is asked for."""
        known = self._moments.get(name)
        if known is None or moment < known:
            self._moments[name] = moment
            heappush(self._queue, (moment, name))

    def forget(self, name: str) -> None:
        """Ask for nothing any more."""
        self._moments.pop(name, None)

    def next(self) -> datetime | None:
        """The earliest moment that is asked for."""
        while self._queue:
            moment, name = self._queue[0]
            if self._moments.get(name) == moment:
                return moment
            heappop(self._queue)
        return None

    def due(self, now: datetime) -> tuple[str, ...]:
        """Whose moment has come, the earliest first; they are asked for no more."""
        names: list[str] = []
        while (moment := self.next()) is not None and moment <= now:
            name = heappop(self._queue)[1]
            del self._moments[name]
            names.append(name)
        return tuple(names)
