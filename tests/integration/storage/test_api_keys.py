"""API keys on a real Postgres."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from storage.api_keys import MAX_LIVE_KEYS, ApiKey, ApiKeyStore
from storage.errors import StorageRefused, TooManyKeys
from storage.postgres import Pool
from storage.users import User, UserStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
PREFIX = "abcdefghij22"


@pytest.fixture
def store(pool: Pool) -> ApiKeyStore:
    return ApiKeyStore(pool)


@pytest.fixture
async def ada(pool: Pool) -> User:
    return await UserStore(pool).create(username="Ada", password_hash="h", role="user")


async def made(store: ApiKeyStore, user: User, prefix: str = PREFIX) -> ApiKey:
    return await store.create(
        user.id,
        name="ci",
        prefix=prefix,
        digest=bytes(32),
        scopes=frozenset({"run.read", "run.submit"}),
        now=NOW,
        expires_at=NOW + YEAR,
    )


async def test_a_key_is_found_by_its_prefix_with_what_its_owner_is(
    store: ApiKeyStore, ada: User
) -> None:
    key = await made(store, ada)
    owned = await store.by_prefix(PREFIX, now=NOW)
    assert owned is not None
    assert owned.key == key
    assert owned.key.scopes == {"run.read", "run.submit"}
    assert (owned.standing.username, owned.standing.role) == ("Ada", "user")
    assert await store.of_user(ada.id, now=NOW) == (key,)
    assert "digest" not in repr(key)


async def test_a_key_is_in_force_until_it_expires_or_is_revoked(
    store: ApiKeyStore, ada: User
) -> None:
    key = await made(store, ada)
    assert await store.by_prefix(PREFIX, now=NOW + YEAR) is None
    assert not await store.revoke(key.id, user_id=uuid4(), now=NOW)
    assert await store.revoke(key.id, user_id=ada.id, now=NOW)
    assert not await store.revoke(key.id, user_id=ada.id, now=NOW)
    assert await store.by_prefix(PREFIX, now=NOW) is None
    assert await store.of_user(ada.id, now=NOW) == ()


async def test_the_key_of_a_disabled_user_is_of_no_use(
    pool: Pool, store: ApiKeyStore, ada: User
) -> None:
    await made(store, ada)
    await UserStore(pool).change(ada.id, disabled=True)
    assert await store.by_prefix(PREFIX, now=NOW) is None


async def test_the_last_use_of_a_key_is_noted_and_never_put_back(
    store: ApiKeyStore, ada: User
) -> None:
    key = await made(store, ada)
    assert key.last_used_at is None
    await store.touch(key.id, now=NOW + timedelta(hours=2))
    await store.touch(key.id, now=NOW)
    (listed,) = await store.of_user(ada.id, now=NOW)
    assert listed.last_used_at == NOW + timedelta(hours=2)


async def test_a_user_has_a_hundred_keys_at_most(store: ApiKeyStore, ada: User) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    prefixes = [f"{PREFIX[:10]}{a}{b}" for a in letters for b in letters][:MAX_LIVE_KEYS]
    keys = await asyncio.gather(*(made(store, ada, prefix) for prefix in prefixes))
    with pytest.raises(TooManyKeys):
        await made(store, ada)
    await store.revoke(keys[0].id, user_id=ada.id, now=NOW)
    await made(store, ada)


@pytest.mark.parametrize("prefix", ["", "short", "abcdefghij1!", "ABCDEFGHIJ22"])
async def test_what_is_no_prefix_is_not_stored(store: ApiKeyStore, ada: User, prefix: str) -> None:
    with pytest.raises(StorageRefused):
        await made(store, ada, prefix)
