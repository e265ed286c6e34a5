# ruff: noqa: ARG002 - the ports have what is not looked at here
"""What was used up, in memory: an audit log that has got nowhere yet, and counters."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from storage.errors import StorageRefused, StorageUnavailable
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
    """As storage/token_budgets.py has them."""

    used: dict[tuple[str, date], int] = field(default_factory=dict)
    held: dict[tuple[str, date], dict[str, Reservation]] = field(default_factory=dict)
    down: bool = False
    unheard: int = 0
    """So many settlements get lost on the way."""
    unanswered: int = 0
    """Of so many that are heard the answer gets lost."""
    refused: int = 0
    """So many settlements are refused, as by a server that is full or takes no writes."""

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
        held = {n: one for n, one in self.held[slot].items() if one.until_ms >= now_ms}
        self.held[slot] = held
        held.pop(name, None)
        in_work = sum(one.tokens for one in held.values())
        left = limit - self.used[slot] - in_work
        given = wanted.most
        if given > left:
            given = wanted.fewest + (left - wanted.fewest) // wanted.step * wanted.step
        if given < wanted.fewest or left <= 0:
            return Exhausted(used=self.used[slot], in_work=in_work)
        held[name] = Reservation(tokens=given, until_ms=now_ms + life_ms)
        return Reserved(tokens=given)

    async def install(
        self, user: str, day: date, *, used: int, in_work: Mapping[str, Reservation]
    ) -> None:
        self._check_up()
        if (user, day) not in self.used:
            self.used[user, day] = used
            self.held[user, day] = dict(in_work)

    async def settle(self, user: str, day: date, name: str, used: int) -> bool:
        self._check_up()
        if self.unheard:
            self.unheard -= 1
            raise StorageUnavailable("Redis: could not book tokens in time.")
        if self.refused:
            self.refused -= 1
            raise StorageRefused("Redis: could not book tokens: READONLY.")
        is_held = self.held.get((user, day), {}).pop(name, None) is not None
        if is_held:
            self.used[user, day] += used
        if self.unanswered:
            self.unanswered -= 1
            raise StorageUnavailable("Redis: could not book tokens in time.")
        return is_held

    async def forget(self, user: str, day: date) -> None:
        self._check_up()
        self.used.pop((user, day), None)
        self.held.pop((user, day), None)

    def vanish(self) -> None:
        """Lose everything, as a server without a disk does that is started anew."""
        self.used.clear()
        self.held.clear()

    def _check_up(self) -> None:
        if self.down:
            raise StorageUnavailable("Redis: no connection.")
