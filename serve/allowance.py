"""What people may still use up today: reserved before a model is asked, booked after it.

The counters are in Valkey. They are counted anew from the log where they are gone: what the
audit log has of the day, what the stream holds beyond it, and what is in work here. An event of
an answer in work is left out of that count, and booked when its answer is settled: nothing is
counted twice or left out, whenever the counters vanish. What was reserved for longer than an
answer can take is given to others; where its answer is settled all the same, so late that nothing
is held to be booked in place of, the day is counted anew.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Protocol

from bus.event import StoredEvent
from bus.received import Received
from bus.subjects import SYSTEM_RUN, subject_for
from bus.usage import ModelUsed
from storage.token_budgets import Exhausted, Reservation, Reserved, Wanted
from storage.usage import Spent

_Answer = Reserved | Exhausted | None


class Counters(Protocol):
    """Counters that may vanish; see storage/token_budgets.py."""

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
        """Hold tokens for an answer; None where nothing is counted of that day."""
        ...

    async def install(
        self, user: str, day: date, *, used: int, in_work: Mapping[str, Reservation]
    ) -> None:
        """Begin to count a day."""
        ...

    async def settle(self, user: str, day: date, name: str, used: int) -> bool:
        """Book what an answer used up; False where nothing is held by that name."""
        ...

    async def forget(self, user: str, day: date) -> None:
        """Count a day no longer; whoever asks next counts it anew."""
        ...


class Books(Protocol):
    """What the audit log has."""

    async def spent(self, user: str, day: date, *, but: Collection[str] = ()) -> Spent:
        """What a user has used up of a day by asking the gateway."""
        ...


class Stream(Protocol):
    """The log."""

    def read(
        self, subject_filter: str, *, after: int = 0, unseal: bool = True
    ) -> AsyncGenerator[Received, None]:
        """What the log holds now, in order, each once."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One person on one day.

    Attributes:
        user: by id.
        day: in UTC.
        limit: tokens that they may use up.
    """

    user: str
    day: date
    limit: int


class Allowances:
    """Reserves and books tokens of people who have a limit.

    Args:
        counters: of tokens.
        books: what the audit log has.
        stream: what it does not have yet.
        clock: the time.
        life_s: of the longest answer; what was reserved for longer is not used any more.
    """

    def __init__(
        self,
        *,
        counters: Counters,
        books: Books,
        stream: Stream,
        clock: Callable[[], datetime],
        life_s: float,
    ) -> None:
        self._counters = counters
        self._books = books
        self._stream = stream
        self._clock = clock
        self._life_ms = round(life_s * 1000)
        self._in_work: dict[tuple[str, date], dict[str, Reservation]] = {}
        self._counting: dict[tuple[str, date], asyncio.Lock] = {}

    async def reserve(self, account: Account, name: str, wanted: Wanted) -> Reserved | Exhausted:
        """Hold tokens for an answer.

        Args:
            account: whose.
            name: the id of the event that will say what was used up.
            wanted: how many.

        Raises:
            StorageUnavailable: nobody can count just now.
            BusUnreachable: the same.
        """
        now_ms = round(self._clock().timestamp() * 1000)

        async def ask() -> Reserved | Exhausted | None:
            return await self._counters.reserve(
                account.user,
                account.day,
                name,
                wanted,
                limit=account.limit,
                now_ms=now_ms,
                life_ms=self._life_ms,
            )

        # Held from now on, for whoever counts anew before the answer is here.
        until_ms = now_ms + self._life_ms
        self._hold(account, name, Reservation(tokens=wanted.most, until_ms=until_ms))
        try:
            answer = await ask()
            while answer is None:
                answer = await self._counted(account, ask)
        except BaseException:
            self._let_go(account, name)
            raise
        if isinstance(answer, Reserved):
            self._hold(account, name, Reservation(tokens=answer.tokens, until_ms=until_ms))
        else:
            self._let_go(account, name)
        return answer

    async def settle(self, account: Account, name: str, used: int) -> None:
        """Book what an answer used up; its event, if there is one, is in the log by now.

        Raises:
            StorageError: the counters do not answer, or refuse for now. Ask again, with the
                same: what was reserved stays so for a while, and then nobody has booked it.
        """
        try:
            if not await self._counters.settle(account.user, account.day, name, used):
                await self._settle_late(account, name, used)
        finally:
            self._let_go(account, name)

    async def _settle_late(self, account: Account, name: str, used: int) -> None:
        """Nothing is held: it was given to others, or is booked, or is being counted."""
        async with self._lock(account):  # whoever counts anew may have left it to us
            is_booked = await self._counters.settle(account.user, account.day, name, used)
            if used and not is_booked:
                # Once too often does no harm: its event is in the log, and counted from there.
                await self._counters.forget(account.user, account.day)
            self._let_go(account, name)  # before anybody counts

    def _hold(self, account: Account, name: str, reservation: Reservation) -> None:
        self._in_work.setdefault((account.user, account.day), {})[name] = reservation

    def _let_go(self, account: Account, name: str) -> None:
        held = self._in_work.get((account.user, account.day), {})
        held.pop(name, None)
        if not held:
            self._in_work.pop((account.user, account.day), None)

    async def _counted(self, account: Account, ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Ask again where another has counted meanwhile, or after counting."""
        async with self._lock(account):
            answer = await ask()
            if answer is not None:
                return answer
            await self._count(account)
            return await ask()

    async def _count(self, account: Account) -> None:
        in_work = dict(self._in_work.get((account.user, account.day), {}))
        spent = await self._books.spent(account.user, account.day, but=in_work.keys())
        subject = subject_for(SYSTEM_RUN, ModelUsed.TYPE)
        tokens = spent.tokens
        async with aclosing(self._stream.read(subject, after=spent.stream_sequence)) as events:
            async for received in events:
                tokens += _tokens(received, account, in_work)
        # Who reserved or settled meanwhile waits for us, but for whom was in work all along.
        await self._counters.install(account.user, account.day, used=tokens, in_work=in_work)

    def _lock(self, account: Account) -> asyncio.Lock:
        for slot in [each for each in self._counting if each[1] < account.day]:
            if not self._counting[slot].locked():
                del self._counting[slot]
        return self._counting.setdefault((account.user, account.day), asyncio.Lock())


def _tokens(received: Received, account: Account, but: Collection[str]) -> int:
    if not isinstance(received, StoredEvent) or received.event.id in but:
        return 0
    used = received.payload()
    if not isinstance(used, ModelUsed) or used.user != account.user:
        return 0
    is_of_day = day_of(used.asked_at) == account.day
    return used.prompt_tokens + used.completion_tokens if is_of_day else 0


def day_of(moment: datetime) -> date:
    """The day that something counts for."""
    return moment.astimezone(UTC).date()
