"""Whose turn it is, on a real Postgres."""

import asyncio

import asyncpg
import pytest

from storage.fair_pool import FairPool
from storage.postgres import Pool, open_pool


async def test_whoever_asks_later_is_served_later(dsn: str) -> None:
    asked: list[int] = []
    overtaken_by: list[int] = []

    async def ask_and_ask(pool: Pool, who: int) -> None:
        for _ in range(20):
            asked.append(who)
            mine, behind = len(asked), len(overtaken_by)
            async with pool.acquire() as connection:
                served_meanwhile = len(overtaken_by) - behind
                stood_before = mine - 1 - behind
                overtaken_by.append(served_meanwhile - stood_before)
                await connection.execute("select 1")

    async with open_pool(dsn, min_size=2, max_size=2) as pool, asyncio.TaskGroup() as group:
        for who in range(16):
            group.create_task(ask_and_ask(pool, who))
    assert len(overtaken_by) == 16 * 20
    assert max(overtaken_by) <= 2  # those who are let in together may begin in any order


async def test_a_turn_has_a_deadline_and_whoever_gave_up_takes_none(dsn: str) -> None:
    async with open_pool(dsn, max_size=2) as pool:
        async with pool.acquire(), pool.acquire():
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await pool.fetchval("select 1")
            with pytest.raises(TimeoutError):
                async with pool.acquire(timeout=0.01):
                    raise AssertionError("there is no third")
            cancelled = asyncio.create_task(pool.fetchval("select 1"))
            await asyncio.sleep(0)
            cancelled.cancel()
            await asyncio.gather(cancelled, return_exceptions=True)
        async with asyncio.timeout(5), pool.acquire() as one, pool.acquire() as two:
            assert await one.fetchval("select 1") == await two.fetchval("select 1") == 1


async def test_a_connection_that_cannot_be_made_gives_its_turn_back(dsn: str) -> None:
    async with open_pool(dsn, max_size=1) as pool:
        assert isinstance(pool, FairPool)
        pool.set_connect_args("postgresql://nobody@127.0.0.1:1/none")
        await pool.expire_connections()
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                await pool.fetchval("select 1")
        pool.set_connect_args(dsn)
        async with asyncio.timeout(5):
            assert await pool.fetchval("select 1") == 1


async def test_a_statement_that_fails_gives_its_turn_back(dsn: str) -> None:
    async with open_pool(dsn, max_size=1) as pool:
        for _ in range(3):
            with pytest.raises(asyncpg.DivisionByZeroError):
                await pool.fetchval("select 1 / 0")
        assert await pool.fetchval("select 1") == 1
