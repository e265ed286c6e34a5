"""An event that answers another proves that there was one: a gap, though every chain joins."""

import json
from uuid import uuid4

import pytest

from bus.event import Draft, StoredEvent, derive_id
from bus.log import EventLog
from bus.payloads import ChainBroken, ResultRefused
from bus.scan import removed_sequences
from bus.subjects import SYSTEM_RUN, subject_for
from bus.trim import purge_run
from storage.postgres import Pool
from tests.auditing import administrator, auditing, until_audited
from tests.broker import Broker
from tests.faults.damage import HalfRun
from tests.integration.storage.conftest import dsn, pool, postgres, template
from tests.sending import submitted

__all__ = ["dsn", "pool", "postgres", "template"]
ALARMS = subject_for(SYSTEM_RUN, ChainBroken.TYPE)


@pytest.fixture
def run() -> str:
    return f"r{uuid4().hex[:20]}"


async def answer(coordinator: EventLog, cause: StoredEvent) -> StoredEvent:
    payload = ResultRefused(
        step="code", iteration=1, attempt=1, epoch=1, refused=cause.event.id, reason="late"
    )
    draft = Draft(
        run=cause.event.run,
        payload=payload,
        id=derive_id("result.refused", cause.event.id),
        cause=cause.event.id,
    )
    return await coordinator.append(draft)


async def test_an_event_whose_cause_was_lost_before_it_was_audited_is_told(
    broker: Broker, pool: Pool, run: str
) -> None:
    async with broker.joined("gateway") as gateway, broker.joined("coordinator") as coordinator:
        lost, kept = [await gateway.append(submitted(run, name)) for name in ("lost", "kept")]
        await answer(coordinator, kept)
        answers = await answer(coordinator, lost)
    async with administrator(broker) as connection:
        question = {"filter": lost.event.subject, "seq": lost.stream_sequence + 1}
        await connection.client.request(
            "$JS.API.STREAM.PURGE.EVENTS", json.dumps(question).encode()
        )
        assert await removed_sequences(connection) == [lost.stream_sequence]
    async with auditing(broker, pool) as auditor:
        await until_audited(auditor, pool)
        told = [
            payload
            async for received in auditor.read(ALARMS)
            if isinstance(received, StoredEvent)
            and isinstance(payload := received.payload(), ChainBroken)
            and payload.cause
        ]
    assert told == [
        ChainBroken(
            sender=answers.event.source,
            key=answers.event.key,
            expected_sequence=answers.event.sequence,
            found_sequence=answers.event.sequence,
            stream_sequence=answers.stream_sequence,
            cause=lost.event.id,
        )
    ]


async def test_a_cause_that_was_trimmed_is_there(broker: Broker, pool: Pool, run: str) -> None:
    async with broker.joined("gateway") as gateway, broker.joined("coordinator") as coordinator:
        async with auditing(broker, pool) as auditor:
            old = await gateway.append(submitted(run))
            await until_audited(auditor, pool)
        await pool.execute(
            "insert into audit_trim (run, stream_sequence) values ($1, $2)",
            run,
            old.stream_sequence,
        )
        async with administrator(broker) as connection:
            await purge_run(connection, run, up_to=old.stream_sequence)
        await answer(coordinator, old)
        async with auditing(broker, pool) as auditor:
            await until_audited(auditor, pool)
            assert await auditor.last_on(ALARMS) is None


async def test_a_whole_run_that_came_to_a_halt_answers_nothing_that_is_missing(
    broker: Broker, pool: Pool, run: str
) -> None:
    half = HalfRun(broker, pool, run)
    await half.begin()
    await half.finish()
    async with broker.joined("auditor", "auditor-9") as log:
        assert await log.last_on(ALARMS) is None
