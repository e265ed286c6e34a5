"""Which assignment goes out next, over all runs: by priority, then by age, then in order.

The agents of a role take assignments in the order of the log, so what stands in the log
can no longer be overtaken. Of each role no more than a window of them is therefore out at
a time; the others wait here, where a run of high priority passes them. No I/O, no clock:
the same calls always give the same turns.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import heappop, heappush
from itertools import count
from typing import Final

from actors.command import AssignStep
from actors.record import RunState
from bus.payloads import Priority

RANKS: Final[dict[Priority, int]] = {"high": 0, "normal": 1, "low": 2}

_Entry = tuple[int, datetime, str, int, int]
"""Rank, submission, run, place in the run's offer, number of the offer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The assignment that may go out now, and the run it is of."""

    run: str
    command: AssignStep


def outstanding(state: RunState) -> tuple[str, ...]:
    """The role of each assignment that is neither answered nor over; a run's end ends all."""
    if state.ended is not None:
        return ()
    return tuple(
        assignment.role
        for key, assignment in state.assignments.items()
        if assignment.failure is None and key not in state.results
    )


class Schedule:
    """What waits to be assigned, and how much of each role is out."""

    def __init__(self, window: int | None) -> None:
        """Begin with nothing.

        Args:
            window: assignments of one role that may be out at a time, over all runs; None
                for no limit.
        """
        self._window = window
        self._numbers = count()
        self._queues: dict[str, list[_Entry]] = {}
        self._offers: dict[str, tuple[int, dict[int, AssignStep]]] = {}
        self._out: dict[str, tuple[str, ...]] = {}
        self._total: Counter[str] = Counter()

    def offer(
        self, run: str, *, priority: Priority, since: datetime, commands: Sequence[AssignStep]
    ) -> None:
        """Say what of a run waits now; what waited of it before waits no more."""
        self.withdraw(run)
        if not commands:
            return
        number = next(self._numbers)
        self._offers[run] = number, dict(enumerate(commands))
        for place, command in enumerate(commands):
            entry = RANKS[priority], since, run, place, number
            heappush(self._queues.setdefault(command.role, []), entry)

    def note(self, run: str, roles: tuple[str, ...]) -> None:
        """Say which roles have an assignment of the run out: one entry for each."""
        before = self._out.pop(run, ())
        if roles:
            self._out[run] = roles
        if before != roles:
            self._total.subtract(before)
            self._total.update(roles)

    def withdraw(self, run: str) -> None:
        """Nothing of the run waits any more."""
        self._offers.pop(run, None)

    def forget(self, run: str) -> None:
        """Nothing of the run waits or is out any more."""
        self.withdraw(run)
        self.note(run, ())

    def waiting(self, run: str) -> tuple[AssignStep, ...]:
        """What of a run waits, in the order in which it was offered."""
        return tuple(self._offers[run][1].values()) if run in self._offers else ()

    def out(self, role: str) -> int:
        """How many assignments of a role are out."""
        return self._total[role]

    def has_turn(self) -> bool:
        """Whether `take` would give one."""
        return self._best() is not None

    def take(self) -> Turn | None:
        """The next assignment to go out, if any may; it waits no more."""
        role = self._best()
        if role is None:
            return None
        _, _, run, place, _ = heappop(self._queues[role])
        _, commands = self._offers[run]
        command = commands.pop(place)
        if not commands:
            del self._offers[run]
        return Turn(run=run, command=command)

    def _best(self) -> str | None:
        """The role whose first entry is before those of all others that have room."""
        heads = (
            (head, role)
            for role in list(self._queues)
            if (self._window is None or self._total[role] < self._window)
            and (head := self._head(role)) is not None
        )
        return min(heads, default=(None, None))[1]

    def _head(self, role: str) -> _Entry | None:
        """The first entry of a role that still counts; those of earlier offers are dropped."""
        queue = self._queues[role]
        while queue:
            _, _, run, _, number = queue[0]
            if self._offers.get(run, (None, None))[0] == number:
                return queue[0]
            heappop(queue)
        del self._queues[role]
        return None
