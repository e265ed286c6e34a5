"""A real audit log in Postgres before a real witness: what the operator cannot take back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import httpx
import pytest
from structlog.testing import capture_logs

from actors.witnesses import Asking, witnessed
from bus.event import Draft, StoredEvent
from bus.log import EventLog
from bus.payloads import WitnessContradicted
from bus.subjects import SYSTEM_RUN, subject_for
from storage.audit import AuditStore
from storage.audit_reader import StoredCheckpoint
from storage.checkpoint import parse_checkpoint
from storage.cosign_request import write_request
from storage.cosignature import WitnessAddress
from storage.errors import BadProof
from storage.leaf import AuditRecord
from storage.merkle import Frontier, consistency_proof, verify_consistency
from storage.postgres import Pool, open_pool
from storage.witnessed import WitnessStore
from tests.branching import LOG_VKEY, SIGN
from tests.broker import Broker
from tests.integration.storage.conftest import (
    PostgresServer,
    dsn,
    pool,
    postgres,
    template,
)
from tests.integration.storage.test_audit import records
from tests.witnessing import NAME, Running, running_witness

__all__ = ["dsn", "pool", "postgres", "template"]
DEADLINE_S = 30.0


@pytest.fixture
async def witness(tmp_path: Path) -> AsyncIterator[Running]:
    async with running_witness(tmp_path / "witness", "--name", NAME) as running:
        yield running


class Alarms(list[WitnessContradicted]):
    """What the auditor would say to the swarm."""

    async def tell(self, draft: Draft) -> None:
        assert isinstance(draft.payload, WitnessContradicted)
        self.append(draft.payload)

    @property
    def said(self) -> list[tuple[str, int, int]]:
        return [(alarm.how, alarm.size, alarm.held) for alarm in self]


@asynccontextmanager
async def asked(pool: Pool, witness: Running, alarms: Alarms) -> AsyncIterator[Asking]:
    """The operator's side, new as after a start."""
    address = WitnessAddress(url=witness.url, key=witness.key)
    async with httpx.AsyncClient() as http:
        with capture_logs():
            yield Asking(WitnessStore(pool), address, http, alarms.tell)


async def cosigned(pool: Pool, witness: Running, last: int) -> StoredCheckpoint:
    """A log of so many events, honestly cosigned; what a user took away of it."""
    alarms = Alarms()
    async with asked(pool, witness, alarms) as asking:
        await AuditStore(pool).append(records(1, last), SIGN)
        assert await asking.once()
    assert alarms.said == []
    taken = await WitnessStore(pool).checkpoint(cosigned=True)
    assert taken is not None
    assert taken.size == last
    return taken


def forged(first: int, last: int) -> list[AuditRecord]:
    """The events as the operator would rather have them."""
    return [replace(record, data=b'{"n":0}') for record in records(first, last)]


@asynccontextmanager
async def copied(postgres: PostgresServer, dsn: str) -> AsyncIterator[Pool]:
    """The database as it is now, to come back to; nobody may be connected to it meanwhile."""
    name, original = f"copy_{uuid4().hex}", urlsplit(dsn).path.removeprefix("/")
    administrator = await asyncpg.connect(postgres.get_uri())
    try:
        await administrator.execute(f"create database {name} template {original}")
        async with open_pool(postgres.get_uri(name)) as copy:
            yield copy
        await administrator.execute(f"drop database {name} with (force)")
    finally:
        await administrator.close()


async def is_refused_whatever_it_shows(pool: Pool, witness: Running, known: int) -> None:
    """The operator asks by hand as well: with old sizes and proofs true and made up."""
    newest = await WitnessStore(pool).checkpoint()
    assert newest is not None
    sizes = {0, 1, known - 1, known, known + 1, newest.size - 1, newest.size}
    for old in sorted(size for size in sizes if size <= newest.size):
        for proved in {old, min(known, newest.size), 0}:
            proof = await WitnessStore(pool).consistency(proved, newest.size)
            answer = await witness.add(write_request(old, proof, newest.note))
            assert answer.status_code in {409, 422}, answer.text
            if answer.status_code == 409:
                assert answer.text == f"{known}\n"


async def contradicts(pool: Pool, taken: StoredCheckpoint) -> None:
    """Whoever holds the earlier checkpoint sees it without any witness."""
    newest = await WitnessStore(pool).checkpoint()
    assert newest is not None
    if newest.size < taken.size:
        return  # fewer leaves than it once had: there can be no proof
    proof = await WitnessStore(pool).consistency(taken.size, newest.size)
    with pytest.raises(BadProof):
        verify_consistency(
            old=taken.size,
            new=newest.size,
            proof=proof,
            old_root=taken.root,
            new_root=newest.root,
        )


async def test_a_checkpoint_is_handed_out_with_the_cosignature_that_it_has(
    pool: Pool,
    witness: Running,
) -> None:
    taken = await cosigned(pool, witness, 20)
    summary = await WitnessStore(pool).summary("r1")
    assert summary.checkpoint == summary.cosigned == taken.handed_out
    signed = parse_checkpoint(taken.handed_out)
    signed.verify(LOG_VKEY)
    signed.note.verify(witness.key)
    assert (await witness.http.get("/checkpoint")).text == taken.handed_out

    await AuditStore(pool).append(records(21, 25), SIGN)
    summary = await WitnessStore(pool).summary("r1")
    assert (summary.tree_size, summary.cosigned) == (25, taken.handed_out)
    assert summary.checkpoint is not None
    assert [line.name for line in parse_checkpoint(summary.checkpoint).note.signatures] == [
        LOG_VKEY.name
    ]
    newest = await WitnessStore(pool).checkpoint()
    assert newest is not None
    assert newest.handed_out == summary.checkpoint
    assert await WitnessStore(pool).checkpoint(25, cosigned=True) is None
    assert await WitnessStore(pool).checkpoint(20) == taken
    (state,) = await WitnessStore(pool).states()
    assert (state.name, state.size, state.problem) == (NAME, 20, "")


async def test_truncating_the_tail_is_refused_by_the_witness(
    dsn: str,
    pool: Pool,
    witness: Running,
) -> None:
    """With all triggers off, and the tree made good again as only its owner can."""
    taken = await cosigned(pool, witness, 20)
    await cut_the_tail(dsn, 13)
    async with open_pool(dsn) as cut:
        store = AuditStore(cut)
        assert (await store.position()).size == 13  # the log finds nothing wrong with itself
        alarms = Alarms()
        async with asked(cut, witness, alarms) as asking:
            assert not await asking.once()
            await is_refused_whatever_it_shows(cut, witness, known=20)
            await store.append(forged(14, 30), SIGN)
            assert not await asking.once()
        await is_refused_whatever_it_shows(cut, witness, known=20)
        await contradicts(cut, taken)
        (state,) = await WitnessStore(cut).states()
        assert state.problem == "branch"
    assert alarms.said == [("ahead", 13, 20), ("branch", 30, 20)]


async def cut_the_tail(dsn: str, size: int) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        tables = ("audit_event", "audit_node", "audit_checkpoint", "audit_cosignature")
        for table in tables:
            await connection.execute(f"alter table {table} disable trigger append_only")
        await connection.execute("delete from audit_event where leaf_index >= $1", size)
        await connection.execute("delete from audit_node where (index + 1) << level > $1", size)
        await connection.execute("delete from audit_checkpoint where size > $1", size)
        await connection.execute("delete from audit_cosignature where size > $1", size)
        await connection.execute("delete from audit_witness")
        leaves = await connection.fetch("select leaf_hash from audit_event order by leaf_index")
        root = Frontier().append(row["leaf_hash"] for row in leaves)[0].root()
        await connection.execute(
            "update audit_head set size = $1, root = $2, stream_sequence = $1", size, root
        )
        await connection.execute(
            "insert into audit_checkpoint (size, root, note) values ($1, $2, $3)",
            size, root, SIGN(size, root),
        )  # fmt: skip
    finally:
        await connection.close()


async def test_an_older_database_and_a_fork_of_it_are_refused_by_the_witness(
    postgres: PostgresServer, dsn: str, witness: Running
) -> None:
    async with open_pool(dsn) as original:
        await cosigned(original, witness, 12)
    async with copied(postgres, dsn) as older, open_pool(dsn) as original:
        taken = await cosigned_further(original, witness)
        alarms = Alarms()
        async with asked(older, witness, alarms) as asking:
            assert not await asking.once()  # as at a start, though nothing is new
            await AuditStore(older).append(forged(13, 20), SIGN)
            assert not await asking.once()  # as long, and another one
            await is_refused_whatever_it_shows(older, witness, known=20)
            await AuditStore(older).append(forged(21, 30), SIGN)
            assert not await asking.once()
        await is_refused_whatever_it_shows(older, witness, known=20)
        await contradicts(older, taken)
        newest = await WitnessStore(older).checkpoint(cosigned=True)
        assert newest is not None
        assert newest.size == 12
        assert alarms.said == [("ahead", 12, 20), ("branch", 20, 20)]
        async with asked(original, witness, Alarms()) as asking:  # the true log goes on
            await AuditStore(original).append(records(21, 22), SIGN)
            assert await asking.once()


async def cosigned_further(pool: Pool, witness: Running) -> StoredCheckpoint:
    await AuditStore(pool).append(records(13, 20), SIGN)
    alarms = Alarms()
    async with asked(pool, witness, alarms) as asking:
        assert await asking.once()
    taken = await WitnessStore(pool).checkpoint(cosigned=True)
    assert taken is not None
    assert (taken.size, alarms.said) == (20, [])
    return taken


async def test_an_older_database_that_grows_as_before_is_cosigned_again(
    postgres: PostgresServer, dsn: str, witness: Running
) -> None:
    """What was lost is put back from the stream: that is no other branch."""
    async with open_pool(dsn) as original:
        await cosigned(original, witness, 12)
    async with copied(postgres, dsn) as older, open_pool(dsn) as original:
        await cosigned_further(original, witness)
        await AuditStore(older).append(records(13, 25), SIGN)
        alarms = Alarms()
        async with asked(older, witness, alarms) as asking:
            assert await asking.once()
        assert alarms.said == []


async def test_the_log_goes_on_without_its_witness_and_the_swarm_is_told_of_a_branch(
    pool: Pool,
    tmp_path: Path,
) -> None:
    """As it runs in the swarm: beside the auditor, with the alarm on the real bus."""
    broker, place = Broker(tmp_path), tmp_path / "witness"
    await broker.start()
    try:
        await broker.provision()
        store, ledger = AuditStore(pool), WitnessStore(pool)
        async with running_witness(place, "--name", NAME) as running:
            address = WitnessAddress(url=running.url, key=running.key)
        listen = urlsplit(address.url).netloc
        async with broker.joined("auditor") as log, witnessed(ledger, [address], log.append):
            await store.append(records(1, 10), SIGN)
            await until_noted(ledger, "silent")
            await store.append(records(11, 20), SIGN)
            async with running_witness(place, listen=listen) as running:
                await until_noted(ledger, "", size=20)
                fork = await running.add(await other_branch(pool, 20, 22))
                assert fork.status_code == 200  # the owner shows another history first
                await store.append(records(21, 30), SIGN)
                event = await first_alarm(log)
        assert [state.problem for state in await ledger.states()] == ["branch"]
        alarm = event.payload()
        assert isinstance(alarm, WitnessContradicted)
        assert (alarm.how, alarm.held) == ("branch", 22)
    finally:
        await broker.stop()


async def test_at_a_clean_stop_what_was_recorded_last_is_cosigned(
    pool: Pool, witness: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.witnesses.LAST_S", 30.0)
    ledger, alarms = WitnessStore(pool), Alarms()
    address = WitnessAddress(url=witness.url, key=witness.key)
    async with witnessed(ledger, [address], alarms.tell):
        await AuditStore(pool).append(records(1, 10), SIGN)
        await until_noted(ledger, "", size=10)
        await AuditStore(pool).append(records(11, 12), SIGN)
    taken = await ledger.checkpoint(cosigned=True)
    assert taken is not None
    assert (taken.size, alarms.said) == (12, [])


async def other_branch(pool: Pool, old: int, new: int) -> bytes:
    """A request for a history that is this log's up to the old size only."""
    rows = await pool.fetch("select leaf_hash from audit_event order by leaf_index limit $1", old)
    leaves = [row["leaf_hash"] for row in rows] + [bytes(32)] * (new - old)
    frontier, nodes = Frontier().append(leaves)
    stored = {(node.level, node.index): node.hash for node in nodes}
    proof = consistency_proof(old, new, lambda level, index: stored[level, index])
    return write_request(old, proof, SIGN(new, frontier.root()))


async def until_noted(ledger: WitnessStore, problem: str, size: int = 0) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not any(  # noqa: ASYNC110
            state.problem == problem and state.size >= size for state in await ledger.states()
        ):
            await asyncio.sleep(0.05)


async def first_alarm(log: EventLog) -> StoredEvent:
    async with (
        asyncio.timeout(DEADLINE_S),
        aclosing(log.follow(subject_for(SYSTEM_RUN, WitnessContradicted.TYPE))) as alarms,
    ):
        async for received in alarms:
            assert isinstance(received, StoredEvent)
            return received
    raise AssertionError
