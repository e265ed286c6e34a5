"""User accounts on a real Postgres."""

import asyncio
from uuid import UUID

import pytest

from storage.errors import LastAdmin, StorageRefused, UserExists, UserNotFound
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
    assert await store.set_password_hash(user.id, "new", instead_of="h")
    await store.set_disabled(user.id, disabled=True)
    changed = await store.by_id(user.id)
    assert changed is not None
    assert (changed.password_hash, changed.disabled) == ("new", True)


async def test_a_hash_takes_the_place_of_the_one_that_was_looked_at_and_of_no_other(
    pool: Pool,
) -> None:
    store = UserStore(pool)
    user = await store.create(username="ada", password_hash="h", role="viewer")
    await store.change(user.id, password_hash="of another password")
    assert not await store.set_password_hash(user.id, "h anew", instead_of="h")
    found = await store.by_id(user.id)
    assert found is not None
    assert found.password_hash == "of another password"


async def test_a_user_that_is_not_there_cannot_be_changed(pool: Pool) -> None:
    store = UserStore(pool)
    assert not await store.set_password_hash(UUID(int=1), "new", instead_of="h")
    with pytest.raises(UserNotFound):
        await store.set_disabled(UUID(int=1), disabled=True)


@pytest.mark.parametrize(("username", "role"), [("", "user"), ("a\0", "user"), ("ada", "root")])
async def test_what_the_table_cannot_hold_is_refused(pool: Pool, username: str, role: str) -> None:
    with pytest.raises(StorageRefused):
        await UserStore(pool).create(username=username, password_hash="h", role=role)  # type: ignore[arg-type]


async def test_users_are_listed_in_the_order_in_which_they_were_made(pool: Pool) -> None:
    store = UserStore(pool)
    made = [
        await store.create(username=name, password_hash="h", role="user", tenant="blue")
        for name in ("eve", "ada")
    ]
    assert await store.all() == tuple(made)
    assert {user.tenant for user in made} == {"blue"}


async def test_role_and_standing_are_changed_apart_or_together(pool: Pool) -> None:
    store = UserStore(pool)
    user = await store.create(username="ada", password_hash="h", role="viewer")
    assert (await store.change(user.id, role="user")).role == "user"
    changed = await store.change(user.id, disabled=True)
    assert (changed.role, changed.disabled) == ("user", True)
    with pytest.raises(UserNotFound):
        await store.change(UUID(int=1), role="user")


async def test_the_last_admin_stays(pool: Pool) -> None:
    store = UserStore(pool)
    ada = await store.create(username="ada", password_hash="h", role="admin")
    for change in ({"role": "user"}, {"disabled": True}):
        with pytest.raises(LastAdmin):
            await store.change(ada.id, **change)
    assert await store.by_id(ada.id) == ada


async def test_of_admins_who_demote_each_other_one_stays(pool: Pool) -> None:
    store = UserStore(pool)
    admins = [
        await store.create(username=f"admin{i}", password_hash="h", role="admin") for i in range(4)
    ]
    outcomes = await asyncio.gather(
        *(store.change(admin.id, role="user") for admin in admins), return_exceptions=True
    )
    assert sum(isinstance(outcome, LastAdmin) for outcome in outcomes) == 1
    assert [user.role for user in await store.all()].count("admin") == 1
