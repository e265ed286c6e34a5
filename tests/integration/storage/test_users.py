"""User accounts on a real Postgres."""

import asyncio
from uuid import UUID

import pytest

from storage.errors import StorageRefused, UserExists, UserNotFound
from storage.postgres import Pool
from storage.users import UserStore


async def test_a_created_user_is_found_by_name_and_id(pool: Pool) -> None:
    store = UserStore(pool)
    user = await store.create(username="Ada", password_hash="h", role="admin")
    assert (user.username, user.password_hash, user.role, user.disabled) == (
        "Ada",
        "h",
        "admin",
        False,
    )
    assert user.created_at.tzinfo is not None
    assert await store.by_id(user.id) == user
    assert await store.by_name("aDA") == user
    assert await store.count() == 1


async def test_nobody_is_found_where_there_is_nobody(pool: Pool) -> None:
    store = UserStore(pool)
    assert await store.by_name("ada") is None
    assert await store.by_name("a\0da") is None
    assert await store.by_id(UUID(int=1)) is None
    assert await store.count() == 0


async def test_a_name_is_given_once_whatever_its_case(pool: Pool) -> None:
    store = UserStore(pool)
    await store.create(username="ada", password_hash="h", role="user")
    with pytest.raises(UserExists, match="ADA"):
        await store.create(username="ADA", password_hash="h", role="user")
    assert await store.count() == 1


async def test_one_of_many_at_once_gets_the_name(pool: Pool) -> None:
    store = UserStore(pool)
    results = await asyncio.gather(
        *(store.create(username="ada", password_hash="h", role="user") for _ in range(8)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, UserExists) for result in results) == 7
    assert await store.count() == 1


async def test_password_and_standing_can_be_changed(pool: Pool) -> None:
    store = UserStore(pool)
    user = await store.create(username="ada", password_hash="h", role="viewer")
    await store.set_password_hash(user.id, "new")
    await store.set_disabled(user.id, disabled=True)
    changed = await store.by_id(user.id)
    assert changed is not None
    assert (changed.password_hash, changed.disabled) == ("new", True)


async def test_a_user_that_is_not_there_cannot_be_changed(pool: Pool) -> None:
    store = UserStore(pool)
    with pytest.raises(UserNotFound):
        await store.set_password_hash(UUID(int=1), "new")
    with pytest.raises(UserNotFound):
        await store.set_disabled(UUID(int=1), disabled=True)


@pytest.mark.parametrize(("username", "role"), [("", "user"), ("a\0", "user"), ("ada", "root")])
async def test_what_the_table_cannot_hold_is_refused(pool: Pool, username: str, role: str) -> None:
    with pytest.raises(StorageRefused):
        await UserStore(pool).create(username=username, password_hash="h", role=role)  # type: ignore[arg-type]
