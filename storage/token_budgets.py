"""Tokens that people may still use up today: counters in Valkey or Redis, exact at any moment.

Of each person and day there is one hash: what is used up, and what each answer in work may use
up at most. Each step is one script, so that of requests side by side no two are given the same
tokens. Where the hash is gone, nobody is given anything before it was counted anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from storage.cache import Cache

PREFIX: Final = "tokens"
KEPT_S: Final = 2 * 24 * 3600
"""Of a hash: its day, and the longest answer that began in it."""

# What is used up and in work. A reservation that nobody settled in time is not in work any more.
_COUNT = """
local used, in_work = 0, 0
local all = redis.call('hgetall', KEYS[1])
for at = 1, #all, 2 do
  local tokens, until_ms = string.match(all[at + 1], '^(%d+)|(%d+)$')
  if all[at] == 'used' then
    used = tonumber(all[at + 1])
  elseif tonumber(until_ms) < tonumber(ARGV[1]) then
    redis.call('hdel', KEYS[1], all[at])
  else
    in_work = in_work + tonumber(tokens)
  end
end
"""

# KEYS: hash. ARGV: now in ms, limit, id, tokens that are wanted, and the fewest that will do,
# in steps of how many, until when in ms.
_RESERVE = (
    """
if redis.call('exists', KEYS[1]) == 0 then return {-1, 0, 0} end
redis.call('hdel', KEYS[1], ARGV[3])
"""
    + _COUNT
    + """
local left = tonumber(ARGV[2]) - used - in_work
local wanted, fewest, step = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local given = wanted
if given > left then given = fewest + math.floor((left - fewest) / step) * step end
if given < fewest or left <= 0 then return {0, used, in_work} end
redis.call('hset', KEYS[1], ARGV[3], string.format('%d|%s', given, ARGV[7]))
return {given, used, in_work}
"""
)

# KEYS: hash. ARGV: how long it is kept in s, what is used up, then id, tokens and end of each
# reservation.
_INSTALL = """
if redis.call('exists', KEYS[1]) == 1 then return 0 end
redis.call('hset', KEYS[1], 'used', ARGV[2])
for at = 3, #ARGV, 3 do
  redis.call('hset', KEYS[1], ARGV[at], ARGV[at + 1] .. '|' .. ARGV[at + 2])
end
redis.call('expire', KEYS[1], ARGV[1])
return 1
"""

# KEYS: hash. ARGV: id, tokens used up.
_SETTLE = """
if redis.call('hdel', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('hincrby', KEYS[1], 'used', ARGV[2])
return 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What an answer may use up.

    Attributes:
        most: tokens at most, those that are read included.
        fewest: tokens that will do as well, if there are no more; fewer are of no use.
        step: what is between the two is given in whole steps of so many.
    """

    most: int
    fewest: int
    step: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """Tokens that an answer may use up."""

    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhausted:
    """There are not as many left."""

    used: int
    in_work: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Tokens held for an answer in work, until a time in Unix milliseconds."""

    tokens: int
    until_ms: int


class TokenBudgets:
    """The counters; every method may raise StorageUnavailable, and then nothing is given.

    Args:
        cache: where they are kept.
        life: of the process that counts. Another one begins anew: what the last one had in work
            when it died, and whether it had booked what it had told the log, nobody knows.
    """

    def __init__(self, cache: Cache, life: str) -> None:
        self._cache = cache
        self._life = life
        self._reserve = cache.client.register_script(_RESERVE)
        self._install = cache.client.register_script(_INSTALL)
        self._settle = cache.client.register_script(_SETTLE)

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
        """Hold tokens for an answer; None where nothing is counted of that day.

        Args:
            user: by id.
            day: in UTC.
            name: of the reservation.
            wanted: how many.
            limit: of all of the day.
            now_ms: in Unix milliseconds.
            life_ms: after which the answer is taken as lost, and the tokens as not used.
        """
        numbers = [wanted.most, wanted.fewest, wanted.step, now_ms + life_ms]
        async with self._cache.command("reserve tokens"):
            given, used, in_work = await self._reserve(
                keys=[self._slot(user, day)], args=[now_ms, limit, name, *numbers]
            )
        if given < 0:
            return None
        return Reserved(tokens=given) if given else Exhausted(used=used, in_work=in_work)

    async def install(
        self, user: str, day: date, *, used: int, in_work: Mapping[str, Reservation]
    ) -> None:
        """Begin to count a day; where it is counted already, that stays."""
        held = [x for name, one in in_work.items() for x in (name, one.tokens, one.until_ms)]
        async with self._cache.command("count tokens anew"):
            await self._install(keys=[self._slot(user, day)], args=[KEPT_S, used, *held])

    async def settle(self, user: str, day: date, name: str, used: int) -> bool:
        """Book what an answer used up in place of what was held for it.

        False where nothing is held by that name: it was settled, or not in time, or what was
        counted is gone.
        """
        async with self._cache.command("book tokens"):
            return bool(await self._settle(keys=[self._slot(user, day)], args=[name, used]))

    async def forget(self, user: str, day: date) -> None:
        """Count a day no longer, until somebody has counted it anew."""
        async with self._cache.command("forget tokens"):
            await self._cache.client.delete(self._slot(user, day))

    def _slot(self, user: str, day: date) -> str:
        return f"{PREFIX}:{self._life}:{user}:{day.isoformat()}"
