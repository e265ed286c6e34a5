"""The audit log on a real Postgres."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import asyncpg
import pytest
from nacl.signing import SigningKey

from bus.signing import ChainHead
from storage.audit import AuditStore
from storage.audit_reader import PAGE_EVENTS
from storage.audit_rows import AuditEvent
from storage.checkpoint import checkpoint_signer, parse_checkpoint
from storage.errors import (
    AuditConflict,
    AuditCorrupt,
    AuditRewritten,
    AuditUnordered,
    StorageUnavailable,
)
from storage.leaf import AuditRecord, leaf_of
from storage.merkle import EMPTY_ROOT, Frontier, leaf_hash, verify_consistency, verify_inclusion
from storage.note import VerifierKey
from storage.postgres import Pool, bundled_migrations, open_pool

ORIGIN = "example.com/audit"
KEY = SigningKey(bytes(32))
VKEY = VerifierKey(name=ORIGIN, public_key=KEY.verify_key.encode())
SIGN = checkpoint_signer(ORIGIN, KEY)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def record(sequence: int, *, run: str = "r1", refused: bool = False) -> AuditRecord:
    return AuditRecord(
        stream_sequence=sequence,
        subject=f"evt.3.{run}.step.completed",
        raw_headers=(("ce-id", f"id-{sequence}"), ("ce-type", "swarm.step.completed.v1")),
        data=b'{"n":%d}' % sequence,
        verdict="refused" if refused else "accepted",
        reason_code="bad_signature" if refused else "",
        reason="The signature does not cover what was received." if refused else "",
        stored_at=NOON + timedelta(seconds=sequence),
        digest=None if refused else bytes(32),
        event_id=f"id-{sequence}",
        type="swarm.step.completed.v1",
        source_role="coder",
        source_agent="coder-1",
        cause=f"id-{sequence - 1}",
        sender_key="UABC",
        sender_sequence=sequence,
        event_time=NOON,
    )


def records(first: int, last: int) -> list[AuditRecord]:
    return [record(sequence) for sequence in range(first, last + 1)]


def root_of(stored: list[AuditRecord]) -> bytes:
    return Frontier().append(hashes_of(stored))[0].root()


def hashes_of(stored: list[AuditRecord]) -> list[bytes]:
    """The leaf hashes of a log that begins with these records; none is of the run of trust."""
    places = [sum(r.run == each.run for r in stored[:at]) for at, each in enumerate(stored)]
    leaves = [leaf_of(r, run_index=n, trust_count=0) for r, n in zip(stored, places, strict=True)]
    return [leaf_hash(leaf.encode()) for leaf in leaves]


async def listed(events: AsyncIterator[AuditEvent]) -> list[AuditEvent]:
    return [event async for event in events]


async def test_an_empty_log_stands_at_nothing(pool: Pool) -> None:
    store = AuditStore(pool)
    position = await store.position()
    assert (position.size, position.stream_sequence, position.frontier) == (0, 0, Frontier())
    state = await store.append([], SIGN)
    assert (state.size, state.root, state.note, state.stored) == (0, EMPTY_ROOT, None, 0)
    assert await store.checkpoint() is None
    summary = await store.summary("r1")
    assert (summary.events, summary.tree_size, summary.checkpoint) == (0, 0, None)


async def test_batches_make_the_tree_of_their_leaves_under_a_signed_checkpoint(pool: Pool) -> None:
    store = AuditStore(pool)
    await store.append(records(1, 5), SIGN)
    state = await store.append(records(6, 13), SIGN)
    assert (state.size, state.stored, state.stream_sequence) == (13, 8, 13)
    assert state.root == root_of(records(1, 13))
    assert state.note is not None
    checkpoint = parse_checkpoint(state.note).verify(VKEY)
    assert (checkpoint.size, checkpoint.root) == (13, state.root)
    stored = await store.checkpoint()
    assert stored is not None
    assert (stored.size, stored.root, stored.note) == (13, state.root, state.note)
    earlier = await store.checkpoint(5)
    assert earlier is not None
    assert earlier.root == root_of(records(1, 5))
    assert await store.checkpoint(6) is None


async def test_a_restarted_writer_carries_on_where_the_log_ends(dsn: str) -> None:
    async with open_pool(dsn) as pool:
        await AuditStore(pool).append(records(1, 7), SIGN)
    async with open_pool(dsn) as pool:
        store = AuditStore(pool)
        position = await store.position()
        assert (position.size, position.stream_sequence) == (7, 7)
        assert position.frontier.root() == root_of(records(1, 7))
        assert (await store.append(records(8, 9), SIGN)).root == root_of(records(1, 9))


async def test_each_leaf_counts_those_of_its_run_and_of_trust_before_it(dsn: str) -> None:
    runs = ["r1", "trust", "r2", "r1", "r1", "trust", "r2", "trust", "r1"]
    batch = [record(at, run=run) for at, run in enumerate(runs, start=1)]
    for part in (batch[:4], batch[2:7], batch[7:]):  # a repeat among them, a new writer each time
        async with open_pool(dsn) as pool:
            await AuditStore(pool).append(part, SIGN)
    async with open_pool(dsn) as pool:
        rows = await pool.fetch(
            "select run, run_index, trust_count from audit_event order by leaf_index"
        )
        counts = await pool.fetch("select run, events from audit_run order by run")
    assert [tuple(row) for row in rows] == [
        (run, runs[:at].count(run), runs[:at].count("trust")) for at, run in enumerate(runs)
    ]
    assert [tuple(row) for row in counts] == [("r1", 4), ("r2", 2), ("trust", 3)]


async def test_a_failed_append_does_not_move_the_counts(pool: Pool) -> None:
    def fail(size: int, root: bytes) -> str:
        raise RuntimeError("no key")

    store = AuditStore(pool)
    with pytest.raises(RuntimeError, match="no key"):
        await store.append(records(1, 3), fail)
    assert await pool.fetchval("select count(*) from audit_run") == 0


async def test_a_log_of_an_earlier_version_is_not_taken_over(empty_dsn: str) -> None:
    steps = bundled_migrations()
    async with open_pool(empty_dsn) as pool:
        for step in steps[:3]:
            await pool.execute(step.sql)
        await pool.execute(
            "insert into audit_event (leaf_index, stream_sequence, subject, stored_at, headers,"
            " envelope, data, verdict, reason_code, reason, leaf_hash) values"
            " (0, 1, 'x', now(), '{}', '', '', 'accepted', '', '', $1)",
            bytes(32),
        )
        with pytest.raises(asyncpg.RaiseError, match="new SWARM_HOME"):
            await pool.execute(steps[3].sql)


async def test_a_repeated_batch_changes_nothing(pool: Pool) -> None:
    store = AuditStore(pool)
    first = await store.append(records(1, 4), SIGN)
    again = await store.append(records(1, 4), SIGN)
    assert again == replace(first, stored=0)
    partly = await store.append(records(3, 6), SIGN)
    assert (partly.size, partly.stored) == (6, 2)
    assert partly.root == root_of(records(1, 6))


async def test_a_repeat_with_another_verdict_keeps_the_first(pool: Pool) -> None:
    store = AuditStore(pool)
    first = await store.append([record(1)], SIGN)
    assert await store.append([record(1, refused=True)], SIGN) == replace(first, stored=0)


@pytest.mark.parametrize(
    "changed",
    [
        replace(record(2), data=b"other"),
        replace(record(2), subject="evt.3.r2.step.completed"),
        replace(record(2), raw_headers=()),
    ],
)
async def test_a_stream_that_shows_another_event_is_noticed(
    pool: Pool, changed: AuditRecord
) -> None:
    store = AuditStore(pool)
    await store.append(records(1, 3), SIGN)
    with pytest.raises(AuditRewritten, match="sequence 2"):
        await store.append([record(1), changed, record(4)], SIGN)
    assert (await store.position()).size == 3


async def test_an_event_that_turns_up_late_is_noticed(pool: Pool) -> None:
    store = AuditStore(pool)
    await store.append([record(1), record(3)], SIGN)
    with pytest.raises(AuditRewritten, match="sequence 2"):
        await store.append([record(2)], SIGN)


@pytest.mark.parametrize("sequences", [(2, 1), (1, 1)])
async def test_a_batch_out_of_order_is_refused(pool: Pool, sequences: tuple[int, ...]) -> None:
    store = AuditStore(pool)
    with pytest.raises(AuditUnordered):
        await store.append([record(n) for n in sequences], SIGN)
    assert (await store.position()).size == 0


async def test_the_second_of_two_writers_meets_a_conflict_and_then_goes_on(pool: Pool) -> None:
    one, two = AuditStore(pool), AuditStore(pool)
    await one.position()
    await two.position()
    await one.append(records(1, 3), SIGN)
    with pytest.raises(AuditConflict):
        await two.append(records(1, 4), SIGN)
    state = await two.append(records(1, 4), SIGN)
    assert (state.size, state.stored) == (4, 1)


async def test_writers_side_by_side_store_each_event_once(pool: Pool) -> None:
    async def write(store: AuditStore) -> int:
        stored, first = 0, 1
        while first <= 60:
            try:
                state = await store.append(records(first, first + 5), SIGN)
            except AuditConflict:
                continue
            stored += state.stored
            first += 6
        return stored

    counts = await asyncio.gather(*(write(AuditStore(pool)) for _ in range(3)))
    assert sum(counts) == 60
    assert (await AuditStore(pool).position()).frontier.root() == root_of(records(1, 60))


async def test_calls_to_one_store_take_turns(pool: Pool) -> None:
    store = AuditStore(pool)
    await asyncio.gather(*(store.append(records(1, 10), SIGN) for _ in range(4)))
    assert (await store.position()).frontier.root() == root_of(records(1, 10))


async def test_a_failed_signature_stores_nothing(pool: Pool) -> None:
    def fail(size: int, root: bytes) -> str:
        raise RuntimeError("no key")

    store = AuditStore(pool)
    with pytest.raises(RuntimeError, match="no key"):
        await store.append(records(1, 3), fail)
    assert await pool.fetchval("select count(*) from audit_event") == 0
    assert (await store.append(records(1, 3), SIGN)).stored == 3


async def test_a_broken_off_append_stores_nothing_and_can_be_repeated(pool: Pool) -> None:
    store = AuditStore(pool)
    async with pool.acquire() as other, other.transaction():
        await other.execute("select 1 from audit_head for update")
        task = asyncio.create_task(store.append(records(1, 3), SIGN))
        await _until_someone_waits(pool)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (await store.append(records(1, 3), SIGN)).stored == 3


async def test_a_writer_that_waits_too_long_for_another_is_told_to_try_again(pool: Pool) -> None:
    impatient = AuditStore(pool, deadline_s=0.3)
    async with pool.acquire() as other, other.transaction():
        await other.execute("select 1 from audit_head for update")
        with pytest.raises(StorageUnavailable, match="in time"):
            await impatient.append(records(1, 3), SIGN)
    assert (await AuditStore(pool).append(records(1, 3), SIGN)).stored == 3


@pytest.mark.parametrize("table", ["audit_event", "audit_node", "audit_checkpoint"])
@pytest.mark.parametrize(
    "statement", ["update {0} set {1} = {1}", "delete from {0}", "truncate {0}"]
)
async def test_the_log_is_append_only(pool: Pool, table: str, statement: str) -> None:
    column = {"audit_event": "run", "audit_node": "hash", "audit_checkpoint": "note"}[table]
    await AuditStore(pool).append(records(1, 3), SIGN)
    async with pool.acquire() as connection:
        for role in ("origin", "replica"):
            await connection.execute(f"set session_replication_role = {role}")
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
                await connection.execute(statement.format(table, column))
        await connection.execute("set session_replication_role = origin")
    assert await pool.fetchval(f"select count(*) from {table}") > 0  # noqa: S608


async def test_a_tree_that_was_tampered_with_is_noticed_at_the_start(pool: Pool) -> None:
    await AuditStore(pool).append(records(1, 3), SIGN)
    await pool.execute("alter table audit_node disable trigger append_only")
    await pool.execute("update audit_node set hash = $1 where level = 1", bytes(32))
    with pytest.raises(AuditCorrupt, match="do not lead to its recorded root"):
        await AuditStore(pool).position()
    await pool.execute("delete from audit_node where level = 1")
    with pytest.raises(AuditCorrupt, match="no Merkle node 0 at level 1"):
        await AuditStore(pool).position()


async def test_a_head_that_was_set_back_is_noticed(pool: Pool) -> None:
    await AuditStore(pool).append(records(1, 3), SIGN)
    await pool.execute("update audit_head set size = 0, stream_sequence = 0, root = $1", EMPTY_ROOT)
    with pytest.raises(AuditCorrupt, match="more than the 0 leaves"):
        await AuditStore(pool).append(records(1, 3), SIGN)
    await pool.execute("delete from audit_head")
    with pytest.raises(AuditCorrupt, match="head row"):
        await AuditStore(pool).position()
    with pytest.raises(AuditCorrupt, match="head row"):
        await AuditStore(pool).summary("r1")


async def test_every_leaf_is_proven_to_be_in_every_later_tree(pool: Pool) -> None:
    store = AuditStore(pool)
    stored = records(1, 21)
    for first in range(0, 21, 5):
        await store.append(stored[first : first + 5], SIGN)
    hashes = hashes_of(stored)
    for size in (1, 2, 7, 16, 21):
        root = root_of(stored[:size])
        for index in range(size):
            verify_inclusion(
                leaf=hashes[index],
                index=index,
                size=size,
                proof=await store.inclusion(index, size),
                root=root,
            )
        for old in range(size + 1):
            verify_consistency(
                old=old,
                new=size,
                proof=await store.consistency(old, size),
                old_root=root_of(stored[:old]),
                new_root=root,
            )


async def test_there_is_no_proof_beyond_the_log(pool: Pool) -> None:
    store = AuditStore(pool)
    await store.append(records(1, 3), SIGN)
    with pytest.raises(ValueError, match="not in a tree"):
        await store.inclusion(3, 3)
    with pytest.raises(AuditCorrupt, match="no Merkle node"):
        await store.inclusion(0, 8)


async def test_a_summary_counts_the_run_and_shows_the_whole_log(pool: Pool) -> None:
    store = AuditStore(pool)
    batch = [record(1), record(2, refused=True), record(3, run="r2"), record(4)]
    state = await store.append(batch, SIGN)
    summary = await store.summary("r1")
    assert (summary.events, summary.accepted, summary.refused) == (3, 2, 1)
    assert (summary.tree_size, summary.root) == (4, state.root.hex())
    assert summary.checkpoint == state.note
    assert (await store.summary("r3")).events == 0


async def test_events_come_back_as_they_were_recorded(pool: Pool) -> None:
    store = AuditStore(pool)
    batch = [record(1), record(2, refused=True), record(3, run="r2"), record(4)]
    await store.append(batch, SIGN)
    events = await listed(store.events("r1"))
    assert [event.record for event in events] == [batch[0], batch[1], batch[3]]
    assert [event.leaf_index for event in events] == [0, 1, 3]
    assert all(e.leaf_hash == leaf_hash(e.leaf.encode()) for e in events)
    assert await listed(store.events("r1", after=1)) == events[2:]
    assert [e.record for e in await listed(store.refusals())] == [batch[1]]
    assert [e.record for e in await listed(store.refusals("r1"))] == [batch[1]]
    assert await listed(store.refusals("r2")) == []


async def test_a_run_longer_than_a_page_is_read_to_its_end(pool: Pool) -> None:
    store = AuditStore(pool)
    last = 2 * PAGE_EVENTS + 1
    await store.append(records(1, last), SIGN)
    assert len(await listed(store.events("r1"))) == last


HOSTILE = replace(
    record(1, refused=True),
    subject="evt.\0.\udc80",
    raw_headers=(("ce-id", "\0\udcff"), ("ce-id", "twice"), ("x\\u0000", 'a"\\')),
    data=bytes(range(256)),
    reason="\0 is not text",
    event_id="e" * 100_000,
    type="\0",
    sender_sequence=10**40,
    event_time=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
)


async def test_a_hostile_event_is_recorded_byte_for_byte(pool: Pool) -> None:
    store = AuditStore(pool)
    state = await store.append([HOSTILE], SIGN)
    assert state.root == root_of([HOSTILE])
    (event,) = await listed(store.refusals())
    assert event.record.subject == HOSTILE.subject
    assert event.record.raw_headers == HOSTILE.raw_headers
    assert event.record.data == HOSTILE.data
    assert event.leaf_hash == leaf_hash(event.leaf.encode())
    assert event.record.sender_sequence is None
    assert event.record.event_time is None
    assert await store.append([HOSTILE], SIGN) == replace(state, stored=0)
    headers = await pool.fetchval("select headers ->> 'ce-id' from audit_event")
    assert headers == "twice"


async def test_ids_that_nobody_has_are_told_apart_from_those_of_hostile_events(pool: Pool) -> None:
    store = AuditStore(pool)
    await store.append([HOSTILE], SIGN)
    long = "e" * 100_000
    assert await store.unknown(["\0", long, "none", "\udcff"]) == ["\0", "none", "\udcff"]
    assert [event.record.event_id for event in await store.with_ids([long])] == [long[:512]]
    assert await store.with_ids(["\0"]) == []


async def test_a_connection_cut_in_the_middle_stores_nothing_and_can_be_repeated(
    pool: Pool,
) -> None:
    store = AuditStore(pool)
    async with pool.acquire() as other, other.transaction():
        await other.execute("select 1 from audit_head for update")
        task = asyncio.create_task(store.append(records(1, 3), SIGN))
        await _until_someone_waits(pool)
        await other.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock'"
        )
        with pytest.raises(StorageUnavailable):
            await task
    assert (await store.append(records(1, 3), SIGN)).stored == 3


async def _until_someone_waits(pool: Pool) -> None:
    """Polls the server until another connection of the database waits for a lock."""
    while not await pool.fetchval(  # noqa: ASYNC110 - the server tells nobody
        "select exists (select from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock')"
    ):
        await asyncio.sleep(0.01)


async def test_the_last_accepted_event_of_each_sender_is_known(pool: Pool) -> None:
    store = AuditStore(pool)
    other = replace(record(3), sender_key="UXYZ", sender_sequence=1, digest=b"x" * 32)
    await store.append([record(1), record(2), other, record(4, refused=True)], SIGN)
    await store.append([replace(record(5), sender_sequence=3, digest=b"y" * 32)], SIGN)
    assert await store.chain_heads() == {
        "UABC": ChainHead(sequence=3, digest=(b"y" * 32).hex()),
        "UXYZ": ChainHead(sequence=1, digest=(b"x" * 32).hex()),
    }
