"""What is done with accounts and what is noted of it, on a real Postgres."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from structlog.testing import capture_logs

from bus.errors import BusUnreachable, PublishDenied, SwarmError
from bus.event import Draft, derive_id
from bus.payload import Payload
from bus.people import (
    ApiKeyRevoked,
    SessionEnded,
    SessionRefreshed,
    TokenReused,
    UserChanged,
    UserCreated,
)
from bus.provision import DUPLICATE_WINDOW_S
from bus.subjects import SYSTEM_RUN
from storage.api_keys import ApiKeyStore
from storage.audit import AuditStore
from storage.errors import LastAdmin, StorageRefused, StorageUnavailable, UserExists, UserNotFound
from storage.people_outbox import BATCH, PeopleOutbox
from storage.postgres import Pool
from storage.sessions import Refreshed, Refused, Reused, Session, SessionStore
from storage.users import User, UserStore
from tests.integration.storage.test_audit import SIGN, record

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MONTH = timedelta(days=30)
ORIGIN = "0" * 32


class Log:
    """Takes what it is told, but for some of it."""

    def __init__(self, failure: SwarmError | None = None, after: int = 0) -> None:
        self.told: list[Draft] = []
        self._failure = failure
        self._after = after

    async def tell(self, draft: Draft) -> None:
        if self._failure is not None and len(self.told) == self._after:
            failure, self._failure = self._failure, None
            raise failure
        await asyncio.sleep(0)
        self.told.append(draft)

    @property
    def payloads(self) -> list[Payload]:
        return [draft.payload for draft in self.told]


@pytest.fixture
def outbox(pool: Pool) -> PeopleOutbox:
    return PeopleOutbox(pool)


@pytest.fixture
async def ada(pool: Pool) -> User:
    return await UserStore(pool).create(username="Ada", password_hash="h", role="user")


async def opened(pool: Pool, user: User, first: bytes) -> Session:
    store = SessionStore(pool)
    session = await store.open(user, first, client="curl", now=NOW, expires_at=NOW + MONTH)
    assert session is not None
    return session


async def refresh(pool: Pool, old: bytes, new: bytes) -> Refreshed | Reused | Refused:
    store = SessionStore(pool)
    return await store.refresh(old, new, now=NOW, expires_at=NOW + MONTH, origin=ORIGIN)


def digests(amount: int) -> list[bytes]:
    return [sha256(bytes([number])).digest() for number in range(amount)]


async def test_a_refresh_is_noted_with_it_and_a_theft_once(
    pool: Pool, outbox: PeopleOutbox, ada: User
) -> None:
    first, second, third, fourth = digests(4)
    session = await opened(pool, ada, first)
    assert isinstance(await refresh(pool, first, second), Refreshed)
    assert isinstance(await refresh(pool, fourth, third), Refused)
    for _ in range(2):
        assert isinstance(await refresh(pool, first, third), Reused)
    log, who = Log(), str(ada.id)
    assert await outbox.pass_on(log.tell) == 2
    assert log.payloads == [
        SessionRefreshed(user=who, session=str(session.id)),
        TokenReused(user=who, session=str(session.id), origin=ORIGIN),
    ]
    done, stolen = log.told
    assert done.id == derive_id("session.refreshed", second.hex())
    assert stolen.id == derive_id("token.reused", str(session.id))
    assert {(each.run, each.on_behalf_of) for each in log.told} == {(SYSTEM_RUN, who)}
    assert await outbox.pass_on(log.tell) == 0


async def test_of_refreshes_at_once_one_and_the_theft_are_noted(
    pool: Pool, outbox: PeopleOutbox, ada: User
) -> None:
    first, *others = digests(17)
    await opened(pool, ada, first)
    await asyncio.gather(*(refresh(pool, first, each) for each in others))
    log = Log()
    await outbox.pass_on(log.tell)
    assert [type(each) for each in log.payloads] == [SessionRefreshed, TokenReused]


async def test_of_a_disabled_user_no_refresh_is_noted(
    pool: Pool, outbox: PeopleOutbox, ada: User
) -> None:
    first, second = digests(2)
    await opened(pool, ada, first)
    await UserStore(pool).change(ada.id, disabled=True)
    assert isinstance(await refresh(pool, first, second), Refused)
    assert await outbox.backlog() == 0


async def test_what_ends_is_noted_once_and_what_is_not_theirs_never(
    pool: Pool, outbox: PeopleOutbox, ada: User
) -> None:
    sessions, keys = SessionStore(pool), ApiKeyStore(pool)
    session = await opened(pool, ada, digests(1)[0])
    key = await keys.create(
        ada.id,
        name="ci",
        prefix="abcdefghij22",
        digest=bytes(32),
        scopes=frozenset({"run.read"}),
        now=NOW,
        expires_at=NOW + MONTH,
    )
    for user in (uuid4(), ada.id, ada.id):
        await sessions.revoke(session.id, user_id=user, because="revoked", now=NOW)
        await keys.revoke(key.id, user_id=user, now=NOW)
    log, who = Log(), str(ada.id)
    await outbox.pass_on(log.tell)
    assert log.payloads == [
        SessionEnded(user=who, session=str(session.id), because="revoked"),
        ApiKeyRevoked(user=who, key=str(key.id)),
    ]


async def test_who_made_a_user_is_noted_if_a_person_did_and_the_user_was_made(
    pool: Pool, outbox: PeopleOutbox, ada: User
) -> None:
    users, own = UserStore(pool), uuid4()
    ben = await users.create(username="ben", password_hash="h", role="admin", by=ada.id)
    zoe = await users.create(username="zoe", password_hash="h", role="user", user_id=own, by=own)
    with pytest.raises(UserExists):
        await users.create(username="BEN", password_hash="h", role="user", by=ada.id)
    with pytest.raises(StorageRefused):
        await users.create(username="", password_hash="h", role="user", by=ada.id)
    assert zoe.id == own
    log = Log()
    await outbox.pass_on(log.tell)
    made = {"tenant": "default", "by": str(ada.id)}
    assert log.payloads == [
        UserCreated(user=str(ben.id), role="admin", **made),
        UserCreated(user=str(own), role="user", tenant="default", by=str(own)),
    ]
    assert [draft.on_behalf_of for draft in log.told] == [str(ada.id), str(own)]


async def test_who_changed_a_user_is_noted_if_a_person_did_and_the_user_was_changed(
    pool: Pool, outbox: PeopleOutbox, ada: User
) -> None:
    users, who = UserStore(pool), str(ada.id)
    await users.set_password_hash(ada.id, "nobody's doing", instead_of=ada.password_hash)
    await users.change(ada.id, password_hash="own", by=ada.id)
    raised = await users.change(ada.id, role="admin", password_hash="new", by=ada.id)
    assert (raised.role, raised.password_hash) == ("admin", "new")
    with pytest.raises(LastAdmin):
        await users.change(ada.id, disabled=True, by=ada.id)
    with pytest.raises(UserNotFound):
        await users.change(UUID(int=1), by=ada.id)
    log = Log()
    await outbox.pass_on(log.tell)
    assert log.payloads == [
        UserChanged(user=who, by=who, password=True),
        UserChanged(user=who, by=who, role="admin", password=True),
    ]
    assert {draft.on_behalf_of for draft in log.told} == {who}


async def some_users(pool: Pool, amount: int, name: str = "u") -> list[str]:
    store, by = UserStore(pool), UUID(int=7)
    return [
        str((await store.create(username=f"{name}{n}", password_hash="h", role="user", by=by)).id)
        for n in range(amount)
    ]


def told_of(log: Log) -> list[str]:
    return [each.model_dump()["user"] for each in log.payloads]


async def test_what_was_told_before_the_log_was_away_is_not_told_again(
    pool: Pool, outbox: PeopleOutbox
) -> None:
    made = await some_users(pool, 5)
    log = Log(BusUnreachable(), after=2)
    with pytest.raises(BusUnreachable):
        await outbox.pass_on(log.tell)
    assert await outbox.backlog() == 3
    assert await outbox.pass_on(log.tell) == 3
    assert told_of(log) == made


async def test_what_was_told_before_the_gateway_was_stopped_is_not_told_again(
    pool: Pool, outbox: PeopleOutbox
) -> None:
    made = await some_users(pool, 3)
    log, stuck = Log(), asyncio.Event()

    async def hang_after_one(draft: Draft) -> None:
        if log.told:
            stuck.set()
            await asyncio.Event().wait()
        await log.tell(draft)

    passing_on = asyncio.create_task(outbox.pass_on(hang_after_one))
    await stuck.wait()
    passing_on.cancel()
    with pytest.raises(asyncio.CancelledError):
        await passing_on
    assert await outbox.pass_on(log.tell) == 2
    assert told_of(log) == made


async def test_two_gateways_side_by_side_tell_each_thing_once(
    pool: Pool, outbox: PeopleOutbox
) -> None:
    made = await some_users(pool, BATCH + 10)
    log, both, began = Log(), asyncio.Event(), 0

    async def tell(draft: Draft) -> None:
        nonlocal began
        began += 1
        if began == 2:
            both.set()
        await both.wait()
        await log.tell(draft)

    told = await asyncio.gather(outbox.pass_on(tell), PeopleOutbox(pool).pass_on(tell))
    assert sorted(told) == [10, BATCH]
    assert sorted(told_of(log)) == sorted(made)


@pytest.mark.parametrize("kind", ["swarm.user.created.v1", "swarm.no.such.v1"])
async def test_what_can_never_be_told_is_kept_and_holds_nothing_up(
    pool: Pool, outbox: PeopleOutbox, kind: str
) -> None:
    await pool.execute(
        "insert into people_event (id, type, payload, user_id) values ('x', $1, '{}', 'x')", kind
    )
    made = await some_users(pool, 3)
    log = Log(PublishDenied())
    assert await outbox.pass_on(log.tell) == 2
    assert told_of(log) == made[1:]
    assert await outbox.backlog() == 2


async def note_nonsense(pool: Pool, amount: int) -> None:
    await pool.execute(
        "insert into people_event (id, type, payload, user_id)"
        " select 'x' || n, 'swarm.no.such.v1', '{}', 'x' from generate_series(1, $1) n",
        amount,
    )


@pytest.mark.parametrize("amount", [BATCH - 1, BATCH, 2 * BATCH])
async def test_however_much_can_never_be_told_what_is_behind_it_is(
    pool: Pool, outbox: PeopleOutbox, amount: int
) -> None:
    await note_nonsense(pool, amount)
    made = await some_users(pool, 3)
    log = Log()
    assert await outbox.pass_on(log.tell) == 3
    assert told_of(log) == made
    assert await outbox.backlog() == amount


async def test_all_that_is_noted_is_passed_on_in_order_at_once(
    pool: Pool, outbox: PeopleOutbox
) -> None:
    made = await some_users(pool, 2 * BATCH + 1)
    log = Log(BusUnreachable(), after=BATCH + 1)
    with pytest.raises(BusUnreachable):
        await outbox.pass_on(log.tell)
    assert await outbox.backlog() == BATCH
    assert await outbox.pass_on(log.tell) == BATCH
    assert told_of(log) == made


async def test_what_can_never_be_told_is_complained_of_once(
    pool: Pool, outbox: PeopleOutbox
) -> None:
    await note_nonsense(pool, 2)
    with capture_logs() as said:
        for _ in range(2):
            assert await outbox.pass_on(Log().tell) == 0
    assert [entry["id"] for entry in said] == ["x1", "x2"]


async def told_but_not_struck_out(pool: Pool) -> Draft:
    """That a user was made: the connection broke once the log had it."""
    await some_users(pool, 1)
    log = Log()

    async def tell_and_break(draft: Draft) -> None:
        await log.tell(draft)
        await pool.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and state = 'idle in transaction'"
        )

    with pytest.raises(StorageUnavailable):
        await PeopleOutbox(pool).pass_on(tell_and_break)
    (told,) = log.told
    return told


async def audit(pool: Pool, draft: Draft, **other: Any) -> None:
    """The audit log has it, or something like it."""
    fields: dict[str, Any] = {"event_id": draft.id, "type": draft.payload.TYPE, **other}
    await AuditStore(pool).append([replace(record(1), **fields)], SIGN)


async def age(pool: Pool, seconds: float) -> None:
    await pool.execute(
        "update people_event set noted_at = clock_timestamp() - make_interval(secs => $1)", seconds
    )


async def test_what_was_told_longer_ago_than_the_stream_remembers_is_not_told_again(
    pool: Pool, outbox: PeopleOutbox
) -> None:
    told = await told_but_not_struck_out(pool)
    await audit(pool, told)
    await age(pool, DUPLICATE_WINDOW_S)
    new = await some_users(pool, 1, "new")
    log = Log()
    assert await outbox.pass_on(log.tell) == 1
    assert told_of(log) == new
    assert await outbox.backlog() == 0


async def test_what_the_stream_remembers_is_told_again_without_a_look(
    pool: Pool, outbox: PeopleOutbox
) -> None:
    told = await told_but_not_struck_out(pool)
    await audit(pool, told)
    log = Log()
    assert await outbox.pass_on(log.tell) == 1
    assert log.told == [told]


@pytest.mark.parametrize(
    "other",
    [
        {"event_id": "another"},
        {"type": "swarm.user.changed.v1"},
        {"verdict": "refused", "reason_code": "bad_signature", "reason": "It is forged."},
    ],
)
async def test_what_only_looks_like_it_in_the_audit_log_keeps_nothing_from_being_told(
    pool: Pool, outbox: PeopleOutbox, other: dict[str, str]
) -> None:
    told = await told_but_not_struck_out(pool)
    await audit(pool, told, **other)
    await age(pool, DUPLICATE_WINDOW_S)
    log = Log()
    assert await outbox.pass_on(log.tell) == 1
    assert log.told == [told]


async def test_a_note_that_cannot_be_written_undoes_what_was_done(pool: Pool, ada: User) -> None:
    session = await opened(pool, ada, digests(1)[0])
    await pool.execute("alter table people_event add check (user_id = '')")
    store = SessionStore(pool)
    with pytest.raises(StorageRefused) as refused:
        await store.revoke(session.id, user_id=ada.id, because="logout", now=NOW)
    assert isinstance(refused.value.__cause__, asyncpg.CheckViolationError)
    assert await store.standing(session.id, now=NOW) is not None
