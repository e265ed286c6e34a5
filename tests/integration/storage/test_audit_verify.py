"""What is changed behind the auditor's back, directly in Postgres, and how it is found."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from actors.auditor import record_of
from bus.errors import BadSignature
from bus.event import Event, StoredEvent
from bus.received import RefusedEvent
from storage.audit import AuditStore
from storage.audit_check import START
from storage.audit_reader import StoredCheckpoint
from storage.audit_rows import EVENT_COLUMNS, prepare
from storage.checkpoint import checkpoint_signer, parse_checkpoint
from storage.leaf import AuditRecord
from storage.log_checker import LogCheck, LogChecker
from storage.merkle import Frontier, leaf_hash
from storage.note import VerifierKey
from storage.postgres import Pool
from tests.evidence import ORIGIN, Ledger, begun

EVENTS = 12
TABLES = ("audit_event", "audit_node", "audit_checkpoint", "audit_object")


def ledger_with_gaps() -> Ledger:
    """Three announcements, events of two runs, one with an object, one refused."""
    ledger, _, gateway, coder = begun()
    submitted = ledger.say(gateway, "run.submitted", {"objective": "x"})
    ledger.say(gateway, "run.submitted", content=b"large", run="r2")
    ledger.say(coder, "step.claimed", suffix=("coder",), cause=submitted)
    for _ in range(5):
        ledger.say(coder, "step.completed", suffix=("coder",), cause=submitted)
    ledger.say(gateway, "run.submitted", run="r2", refused="bad_signature")
    return ledger


def audited(ledger: Ledger) -> list[AuditRecord]:
    """The records as the auditor makes them; the stream has a gap before the twelfth."""
    found = []
    for record in ledger.records:
        sequence = record.stream_sequence + (record.stream_sequence >= EVENTS)
        place: dict[str, Any] = {"stream_sequence": sequence, "stored_at": record.stored_at}
        headers = dict(record.raw_headers)
        if record.verdict == "refused":
            error = BadSignature("the signature does not cover what was received")
            refused = RefusedEvent(
                subject=record.subject, headers=headers, data=record.data, error=error, **place
            )
            found.append(record_of(refused))
            continue
        event = Event.parse(record.subject, headers, record.data)
        content = ledger.objects.get(record.stream_sequence)
        event = replace(event, content=content)
        found.append(record_of(StoredEvent(event=event, **place)))
    return found


class Tampered:
    """A log in Postgres that may be changed as a superuser can, triggers or not."""

    def __init__(self, pool: Pool, ledger: Ledger) -> None:
        self.pool = pool
        self.ledger = ledger
        self.key = VerifierKey(name=ORIGIN, public_key=ledger.log.verify_key.encode())
        self.sign = checkpoint_signer(ORIGIN, ledger.log)

    async def write(self, records: Sequence[AuditRecord]) -> None:
        store = AuditStore(self.pool)
        for first in range(0, len(records), 5):
            await store.append(records[first : first + 5], self.sign)

    async def execute(self, statement: str, *arguments: object) -> None:
        for table in TABLES:
            await self.pool.execute(f"alter table {table} disable trigger all")
        await self.pool.execute(statement, *arguments)

    async def check(self, kept: StoredCheckpoint | None = None) -> LogCheck:
        held = None if kept is None else parse_checkpoint(kept.note).verify(self.key)
        return await LogChecker(self.pool, self.key).check(held)

    async def found(self) -> tuple[int | None, str]:
        finding = (await self.check()).finding
        assert finding is not None
        return finding.stream_sequence, str(finding)

    async def make_anew(self) -> None:
        """Leaf hashes, nodes and head that fit the rows: all that needs no key."""
        rows = await self.pool.fetch("select * from audit_event order by leaf_index")
        hashes = [row["leaf_hash"] for row in rows]
        frontier, nodes = Frontier().append(hashes)
        await self.execute("delete from audit_node")
        for node in nodes:
            await self.pool.execute(
                "insert into audit_node values ($1, $2, $3)", node.level, node.index, node.hash
            )
        await self.pool.execute(
            "update audit_head set size = $1, root = $2", frontier.size, frontier.root()
        )


@pytest.fixture
async def log(pool: Pool) -> Tampered:
    tampered = Tampered(pool, ledger_with_gaps())
    await tampered.write(audited(tampered.ledger))
    return tampered


async def test_a_log_that_nobody_touched_is_intact(log: Tampered) -> None:
    done = await log.check()
    assert (done.events, done.checkpoints, done.finding) == (EVENTS, 3, None)
    reach = await AuditStore(log.pool).reach()
    assert (done.events, done.root) == (reach.size, reach.root)


async def test_an_empty_log_is_intact(pool: Pool) -> None:
    done = await Tampered(pool, Ledger()).check()
    assert (done.events, done.checkpoints, done.finding) == (0, 0, None)


COLUMNS = {
    "subject": "'evt.02.r1.step.completed.critic'",
    "event_id": "'x'",
    "type": "null",
    "source_role": "'critic'",
    "source_agent": "'x'",
    "run": "'r2'",
    "cause": "null",
    "sender_key": "'U'",
    "sender_sequence": "sender_sequence + 1",
    "event_time": "event_time + interval '1 microsecond'",
    "stored_at": "stored_at + interval '1 microsecond'",
    "headers": 'headers || \'{"ce-id": "x"}\'',
    "envelope": "overlay(envelope placing 'x' from 30)",
    "data": "'{}'::bytea || ' '",
    "digest": "sha256('x')",
    "verdict": "'refused'",
    "reason_code": "'x'",
    "reason": "'x'",
    "run_index": "run_index + 1",
    "trust_count": "trust_count + 1",
    "leaf_hash": "sha256('x')",
}


def test_every_column_is_tried() -> None:
    assert {*COLUMNS, "leaf_index", "stream_sequence"} == set(EVENT_COLUMNS)


@pytest.mark.parametrize("column", COLUMNS)
async def test_a_row_that_was_changed_is_named(log: Tampered, column: str) -> None:
    await log.execute(f"update audit_event set {column} = {COLUMNS[column]} where leaf_index = 7")  # noqa: S608
    sequence, sentence = await log.found()
    assert sequence == 8
    assert "the row of stream sequence 8 was changed" in sentence


async def test_the_first_of_two_changed_rows_is_named(log: Tampered) -> None:
    await log.execute("update audit_event set data = 'x' where leaf_index in (5, 9)")
    assert (await log.found())[0] == 6


async def test_a_refusal_whose_sentence_was_changed_is_named(log: Tampered) -> None:
    await log.execute("update audit_event set reason = 'it was nothing' where leaf_index = 11")
    sequence, sentence = await log.found()
    assert (sequence, "its leaf_hash is another" in sentence) == (13, True)


@pytest.mark.parametrize("leaf", [0, 6, EVENTS - 1])
async def test_a_row_that_was_deleted_is_named(log: Tampered, leaf: int) -> None:
    await log.execute("delete from audit_event where leaf_index = $1", leaf)
    sequence, sentence = await log.found()
    assert sequence == (leaf + 1)
    assert f"the row of leaf {leaf}, stream sequence {leaf + 1}" in sentence
    assert "was deleted" in sentence


async def test_a_row_deleted_with_those_behind_it_moved_up_is_named(log: Tampered) -> None:
    await log.execute("delete from audit_event where leaf_index = 6")
    for leaf in range(7, EVENTS):
        await log.pool.execute(
            "update audit_event set leaf_index = $1 where leaf_index = $2", leaf - 1, leaf
        )
    sequence, _ = await log.found()
    assert sequence == 8  # the first that does not stand where it stood


async def test_a_row_that_was_inserted_behind_the_last_is_named(log: Tampered) -> None:
    columns = "subject, stored_at, headers, envelope, data, verdict, reason_code, reason"
    await log.execute(
        f"insert into audit_event ({columns}, leaf_index, stream_sequence, run, run_index,"  # noqa: S608
        f" trust_count, leaf_hash) select {columns}, 12, 99, run, run_index, trust_count, leaf_hash"
        " from audit_event where leaf_index = 11"
    )
    sequence, sentence = await log.found()
    assert (sequence, "99 was" in sentence) == (99, True)


async def test_a_row_that_was_written_anew_with_its_hash_is_named(log: Tampered) -> None:
    """As somebody would who knows how leaves are made."""
    other = ledger_with_gaps()
    records = audited(log.ledger)
    records[3] = audited(other)[3]
    made = prepare(START, {}, records).rows[3]
    await log.execute("delete from audit_event where leaf_index = 3")
    async with log.pool.acquire() as connection:
        await connection.copy_records_to_table("audit_event", records=[made], columns=EVENT_COLUMNS)
    sequence, sentence = await log.found()
    assert sequence == 4
    assert "changed or inserted" in sentence
    await log.make_anew()
    sequence, sentence = await log.found()
    assert sequence == 1  # a checkpoint tells the batch, not the row
    assert "sequences 1 to 5 was changed, and the tree made anew" in sentence


async def test_a_log_signed_anew_is_found_by_an_earlier_checkpoint(log: Tampered) -> None:
    kept = await AuditStore(log.pool).checkpoint(5)
    assert kept is not None
    assert (await log.check(kept)).finding is None
    for table in ("audit_event", "audit_node", "audit_checkpoint", "audit_object"):
        await log.execute(f"delete from {table}")  # noqa: S608
    for table in ("audit_run", "audit_chain"):
        await log.execute(f"delete from {table}")  # noqa: S608
    await log.execute(
        "update audit_head set size = 0, stream_sequence = 0, root = sha256(''::bytea)"
    )
    other = ledger_with_gaps()
    other.log = log.ledger.log
    await log.write(audited(other))
    assert (await log.check()).finding is None  # by itself it is a log like any other
    finding = (await log.check(kept)).finding
    assert finding is not None
    assert "does not continue the checkpoint of 5 leaves" in str(finding)


HEADS = (
    "update audit_head set size = 11",
    "update audit_head set size = 13",
    "update audit_head set root = sha256('x')",
    "update audit_head set stream_sequence = 99",
)


@pytest.mark.parametrize("statement", HEADS)
async def test_a_head_that_was_changed_is_found(log: Tampered, statement: str) -> None:
    await log.execute(statement)
    assert "head" in (await log.found())[1]


NODES = {
    "update audit_node set hash = sha256('x') where level = 0 and index = 4": 5,
    "update audit_node set hash = sha256('x') where level = 1 and index = 2": 6,
    "delete from audit_node where level = 2 and index = 1": 8,
    "insert into audit_node values (3, 1, sha256('x'))": None,
}


@pytest.mark.parametrize("statement", NODES)
async def test_a_node_that_was_tampered_with_is_found(log: Tampered, statement: str) -> None:
    await log.execute(statement)
    sequence, sentence = await log.found()
    assert sequence == NODES[statement]
    assert "Merkle node" in sentence


CHECKPOINTS = (
    "update audit_checkpoint set root = sha256('x') where size = 5",
    "update audit_checkpoint set note = replace(note, 'example', 'another') where size = 5",
    "update audit_checkpoint set size = 6 where size = 5",
    "delete from audit_checkpoint where size = 12",
    "insert into audit_checkpoint select 13, root, note from audit_checkpoint where size = 12",
)


@pytest.mark.parametrize("statement", CHECKPOINTS)
async def test_a_checkpoint_that_was_tampered_with_is_found(log: Tampered, statement: str) -> None:
    await log.execute(statement)
    assert "the checkpoint of" in (await log.found())[1]


TABLES_OF_COUNTS = {
    "update audit_run set events = 1 where run = 'r1'": "count of the run r1",
    "delete from audit_run where run = 'r2'": "count of the run r2",
    "insert into audit_run values ('r9', 1)": "count of the run r9",
    "update audit_chain set sequence = sequence + 1": "chain of the key U",
    "update audit_chain set digest = sha256('x')": "chain of the key U",
    "delete from audit_chain": "chain of the key U",
}


@pytest.mark.parametrize("statement", TABLES_OF_COUNTS)
async def test_a_table_that_follows_from_the_rows_must(log: Tampered, statement: str) -> None:
    await log.execute(statement)
    assert TABLES_OF_COUNTS[statement] in (await log.found())[1]


@pytest.mark.parametrize(
    "statement", ["update audit_object set content = 'x'", "delete from audit_object"]
)
async def test_an_object_that_was_changed_or_lost_is_named(log: Tampered, statement: str) -> None:
    await log.execute(statement)
    sequence, sentence = await log.found()
    assert sequence == 5
    assert "the object of the event at stream sequence 5 was" in sentence


async def test_the_counts_of_runs_can_be_made_from_the_events_again(log: Tampered) -> None:
    await log.execute("delete from audit_run")
    await log.execute("insert into audit_run select run, count(*) from audit_event group by run")
    assert (await log.check()).finding is None


def test_a_leaf_hash_is_that_of_the_leaf() -> None:
    event = ledger_with_gaps().events()[0]
    assert event.leaf_hash == leaf_hash(event.leaf.encode())
