"""Sessions and their refresh tokens on a real Postgres."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID, uuid4

import pytest

from storage.errors import LastAdmin, StorageUnavailable
from storage.postgres import Pool
from storage.sessions import Refreshed, Refused, Reused, Session, SessionStore, Standing
from storage.sessions_end import SessionsEnd
from storage.users import User, UserStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MONTH = timedelta(days=30)


def digest(token: str) -> bytes:
    return sha256(token.encode()).digest()


@pytest.fixture
def store(pool: Pool) -> SessionStore:
    return SessionStore(pool)


@pytest.fixture
async def ada(pool: Pool) -> User:
    return await UserStore(pool).create(username="Ada", password_hash="h", role="user")


async def opened(store: SessionStore, user: User, first: str = "t1", at: datetime = NOW) -> Session:
    session = await open_for(store, user, first, at)
    assert session is not None
    return session


async def open_for(
    store: SessionStore, user: User, first: str = "t1", at: datetime = NOW
) -> Session | None:
    return await store.open(user, digest(first), client="curl", now=at, expires_at=at + MONTH)


async def refresh(
    store: SessionStore, old: str, new: str, at: datetime = NOW
) -> Refreshed | Reused | Refused:
    return await store.refresh(
        digest(old), digest(new), now=at, expires_at=at + MONTH, origin="0" * 32
    )


async def test_a_session_stands_for_what_its_user_is_now(
    pool: Pool, store: SessionStore, ada: User
) -> None:
    session = await opened(store, ada)
    expected = Standing(user_id=ada.id, username="Ada", role="user", tenant="default")
    assert await store.standing(session.id, now=NOW) == expected
    await UserStore(pool).change(ada.id, role="viewer")
    standing = await store.standing(session.id, now=NOW)
    assert standing is not None
    assert standing.role == "viewer"
    await UserStore(pool).change(ada.id, disabled=True)
    assert await store.standing(session.id, now=NOW) is None


async def test_a_refresh_hands_the_session_on_and_prolongs_it(
    store: SessionStore, ada: User
) -> None:
    session = await opened(store, ada)
    later = NOW + timedelta(days=20)
    refreshed = await refresh(store, "t1", "t2", later)
    assert isinstance(refreshed, Refreshed)
    assert refreshed.session.id == session.id
    assert refreshed.session.expires_at == later + MONTH
    assert refreshed.standing.username == "Ada"
    assert isinstance(await refresh(store, "t2", "t3", later), Refreshed)


async def test_a_token_that_comes_twice_ends_the_whole_session(
    store: SessionStore, ada: User
) -> None:
    session = await opened(store, ada)
    other = await opened(store, ada, "o1")
    await refresh(store, "t1", "t2")
    await refresh(store, "t2", "t3")
    reused = await refresh(store, "t1", "stolen")
    assert reused == Reused(session_id=session.id, user_id=ada.id, newly=True)
    assert await store.standing(session.id, now=NOW) is None
    assert isinstance(await refresh(store, "t3", "t4"), Refused)
    assert isinstance(await refresh(store, "stolen", "t5"), Refused)
    assert await store.of_user(ada.id, now=NOW) == (other,)


async def test_the_family_is_revoked_once_however_often_the_token_comes(
    store: SessionStore, ada: User
) -> None:
    await opened(store, ada)
    await refresh(store, "t1", "t2")
    outcomes = [await refresh(store, "t1", f"n{i}") for i in range(3)]
    assert [isinstance(each, Reused) and each.newly for each in outcomes] == [True, False, False]


async def test_of_many_refreshes_at_once_one_is_first_and_the_others_are_theft(
    store: SessionStore, ada: User
) -> None:
    session = await opened(store, ada)
    outcomes = await asyncio.gather(*(refresh(store, "t1", f"n{i}") for i in range(16)))
    assert Counter(type(each) for each in outcomes) == {Refreshed: 1, Reused: 15}
    assert await store.standing(session.id, now=NOW) is None
    for number in range(16):
        assert isinstance(await refresh(store, f"n{number}", "x"), Refused)


async def test_a_session_that_ends_while_it_is_refreshed_has_ended(
    store: SessionStore, ada: User
) -> None:
    for number in range(50):
        session = await opened(store, ada, f"old{number}")
        outcome, ended = await asyncio.gather(
            refresh(store, f"old{number}", f"new{number}"),
            store.revoke(session.id, user_id=ada.id, because="logout", now=NOW),
        )
        assert ended
        assert isinstance(outcome, Refreshed | Refused)
        assert await store.standing(session.id, now=NOW) is None
        assert not isinstance(await refresh(store, f"new{number}", "x"), Refreshed)


async def test_a_session_and_its_tokens_expire(store: SessionStore, ada: User) -> None:
    session = await opened(store, ada)
    assert await store.standing(session.id, now=NOW + MONTH) is None
    assert isinstance(await refresh(store, "t1", "t2", NOW + MONTH), Refused)
    assert await store.of_user(ada.id, now=NOW + MONTH) == ()


async def test_what_nobody_handed_out_is_refused(store: SessionStore) -> None:
    assert isinstance(await refresh(store, "made up", "t2"), Refused)
    assert await store.standing(uuid4(), now=NOW) is None


async def test_a_disabled_user_cannot_refresh(pool: Pool, store: SessionStore, ada: User) -> None:
    await opened(store, ada)
    await UserStore(pool).change(ada.id, disabled=True)
    assert isinstance(await refresh(store, "t1", "t2"), Refused)


async def test_a_session_is_ended_by_its_user_and_by_nobody_else(
    store: SessionStore, ada: User
) -> None:
    session = await opened(store, ada)
    stranger = UUID(int=7)
    assert not await store.revoke(session.id, user_id=stranger, because="revoked", now=NOW)
    assert await store.revoke(session.id, user_id=ada.id, because="logout", now=NOW)
    assert not await store.revoke(session.id, user_id=ada.id, because="logout", now=NOW)
    assert isinstance(await refresh(store, "t1", "t2"), Refused)


async def test_all_sessions_but_one_end_with_a_change_of_their_user(
    pool: Pool, store: SessionStore, ada: User
) -> None:
    users = UserStore(pool)
    ben = await users.create(username="ben", password_hash="h", role="user")
    bens = await opened(store, ben, "b1")
    sessions = [await opened(store, ada, f"s{i}") for i in range(3)]
    but_one = SessionsEnd(because="password", now=NOW, but=sessions[1].id)
    await users.change(ada.id, password_hash="new", ending=but_one)
    assert await store.of_user(ada.id, now=NOW) == (sessions[1],)
    await users.change(ada.id, disabled=True, ending=SessionsEnd(because="disabled", now=NOW))
    assert await store.of_user(ada.id, now=NOW) == ()
    assert await store.of_user(ben.id, now=NOW) == (bens,)


async def test_where_the_sessions_cannot_be_ended_their_user_is_not_changed(
    pool: Pool, store: SessionStore, ada: User
) -> None:
    session = await opened(store, ada)
    users, ending = UserStore(pool), SessionsEnd(because="password", now=NOW)
    async with pool.acquire() as other, other.transaction():
        await other.execute("select from sessions where id = $1 for update", session.id)
        hurried = UserStore(pool, deadline_s=0.3)
        with pytest.raises(StorageUnavailable):
            await hurried.change(ada.id, password_hash="new", ending=ending)
    assert await users.by_id(ada.id) == ada
    assert await store.of_user(ada.id, now=NOW) == (session,)
    assert (await users.change(ada.id, password_hash="new", ending=ending)).password_hash == "new"
    assert await store.of_user(ada.id, now=NOW) == ()


async def test_a_change_that_is_refused_ends_no_session(pool: Pool, store: SessionStore) -> None:
    users, ending = UserStore(pool), SessionsEnd(because="disabled", now=NOW)
    admin = await users.create(username="root", password_hash="h", role="admin")
    session = await opened(store, admin)
    with pytest.raises(LastAdmin):
        await users.change(admin.id, disabled=True, ending=ending)
    assert await store.of_user(admin.id, now=NOW) == (session,)


async def test_what_has_expired_does_not_pile_up(
    pool: Pool, store: SessionStore, ada: User
) -> None:
    await opened(store, ada)
    session = await opened(store, ada, "old", NOW + MONTH)
    assert await pool.fetchval("select count(*) from sessions") == 1
    for day in range(40):
        at = NOW + MONTH + timedelta(days=day)
        await refresh(store, f"d{day - 1}" if day else "old", f"d{day}", at)
    assert await pool.fetchval("select count(*) from refresh_tokens") <= 32
    assert await store.standing(session.id, now=NOW + MONTH) is not None


async def test_no_token_is_kept_as_it_was_handed_out(
    pool: Pool, store: SessionStore, ada: User
) -> None:
    await opened(store, ada, "a very secret token")
    rows = await pool.fetch("select * from refresh_tokens")
    assert [row["digest"] for row in rows] == [digest("a very secret token")]
    assert "secret" not in str(rows)


async def test_no_session_is_opened_with_a_password_that_was_changed_meanwhile(
    pool: Pool, store: SessionStore, ada: User
) -> None:
    await UserStore(pool).change(ada.id, password_hash="of another password")
    assert await open_for(store, ada) is None
    assert await store.of_user(ada.id, now=NOW) == ()


async def test_no_session_is_opened_for_who_was_barred_meanwhile(
    pool: Pool, store: SessionStore, ada: User
) -> None:
    await UserStore(pool).change(ada.id, disabled=True)
    assert await open_for(store, ada) is None


async def test_a_session_waits_for_a_change_that_is_being_made(
    pool: Pool, store: SessionStore, ada: User
) -> None:
    async with pool.acquire() as connection:
        change = connection.transaction()
        await change.start()
        await connection.execute("update users set password_hash = 'of another password'")
        opening = asyncio.create_task(open_for(store, ada))
        await until_one_waits(pool)
        await change.commit()
        assert await opening is None


async def test_a_change_ends_the_session_that_is_being_opened(
    pool: Pool, store: SessionStore, ada: User
) -> None:
    ending = SessionsEnd(because="password", now=NOW)
    for number in range(20):
        current = await UserStore(pool).by_id(ada.id)
        assert current is not None
        await asyncio.gather(
            open_for(store, current, f"t{number}"),
            UserStore(pool).change(ada.id, password_hash=f"h{number}", ending=ending),
        )
        assert await store.of_user(ada.id, now=NOW) == ()


async def until_one_waits(pool: Pool) -> None:
    """Return once somebody waits for what somebody else has locked."""
    async with asyncio.timeout(30):
        while not await pool.fetchval(  # noqa: ASYNC110 - a view has no event to wait for
            "select count(*) from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock'"
        ):
            await asyncio.sleep(0.02)
