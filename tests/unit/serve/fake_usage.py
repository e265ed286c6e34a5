# ruff: noqa: ARG002 - the ports have what is not looked at here
"""What was used up, in memory: an audit log that has got nowhere yet, and counters."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from storage.errors import StorageUnavailable
from storage.token_budgets import Exhausted, Reservation, Reserved, Wanted
from storage.usage import Part, Scope, Spent, Total


@dataclass
class MemoryUsage:
    found: tuple[Total, ...] = ()
    spent_tokens: int = 0
    asked: list[tuple[Scope, tuple[Part, ...]]] = field(default_factory=list)
    excepted: list[set[str]] = field(default_factory=list)
    down: bool = False

    async def totals(self, scope: Scope, by: Sequence[Part]) -> tuple[Total, ...]:
        self._check_up()
        self.asked.append((scope, tuple(by)))
        return self.found

    async def spent(self, user: str, day: date, *, but: Collection[str] = ()) -> Spent:
        self._check_up()
        self.excepted.append(set(but))
        return Spent(tokens=self.spent_tokens, stream_sequence=0)

    def _check_up(self) -> None:
        if self.down:
            raise StorageUnavailable("Postgres: no connection.")


@dataclass
class MemoryCounters:
    """As storage/token_budgets.py has them, but for the ends of reservations."""

    used: dict[tuple[str, date], int] = field(default_factory=dict)
    held: dict[tuple[str, date], dict[str, int]] = field(default_factory=dict)
    down: bool = False

    async def reserve(
        self,
        user: str,
        day: date,
        name: str,
        wanted: Wanted,
        *,
        limit: int,
        now_ms: int,
        life_ms: int,
    ) -> Reserved | Exhausted | None:
        self._check_up()
        slot = (user, day)
        if slot not in self.used:
            return None
        held = self.held[slot]
        held.pop(name, None)
        in_work = sum(held.values())
        left = limit - self.used[slot] - in_work
        given = wanted.most
        if given > left:
            given = wanted.fewest + (left - wanted.fewest) // wanted.step * wanted.step
        if given < wanted.fewest or left <= 0:
            return Exhausted(used=self.used[slot], in_work=in_work)
        held[name] = given
        return Reserved(tokens=given)

    async def install(
        self, user: str, day: date, *, used: int, in_work: Mapping[str, Reservation]
    ) -> None:
        self._check_up()
        if (user, day) not in self.used:
            self.used[user, day] = used
            self.held[user, day] = {name: one.tokens for name, one in in_work.items()}

    async def settle(self, user: str, day: date, name: str, used: int) -> bool:
        self._check_up()
        if self.held.get((user, day), {}).pop(name, None) is None:
            return False
        self.used[user, day] += used
        return True

    def vanish(self) -> None:
        """Lose everything, as a server without a disk does that is started anew."""
        self.used.clear()
        self.held.clear()

    def _check_up(self) -> None:
        if self.down:
            raise StorageUnavailable("Redis: no connection.")
