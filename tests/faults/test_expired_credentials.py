"""A stream that was made anew holds events whose credentials have ended since: they count."""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bus.errors import ExpiredKey
from bus.event import StoredEvent
from bus.log import EventLog
from bus.nkey import OPERATOR, AgentKey
from bus.receipt import first_stored, receipt
from bus.received import RefusedEvent
from bus.subjects import run_filter
from cluster.home import locate
from cluster.survivors import Survivors
from storage.postgres import Pool
from tests.auditing import administrator, auditing, recover, until_audited
from tests.broker import Broker
from tests.faults.damage import assert_equal_to_audit
from tests.integration.storage.conftest import dsn, pool, postgres, template
from tests.sending import new_sender, submitted

__all__ = ["dsn", "pool", "postgres", "template"]

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
SKEW = timedelta(seconds=5)


async def test_events_put_back_after_their_credential_has_ended_stay_valid(
    broker: Broker, pool: Pool, tmp_path: Path
) -> None:
    survivors = Survivors(locate(tmp_path))
    async with broker.joined("gateway", ttl=timedelta(seconds=5)) as gateway:
        async with auditing(broker, pool) as auditor:
            await gateway.append(submitted("r1"))
            await until_audited(auditor, pool)
        await gateway.append(submitted("r2"))  # only the stream has it
        expires = gateway.sender.credential.expires_at
    async with administrator(broker) as connection:
        await connection.manager.purge_stream("EVENTS", subject=run_filter("r1"))
    await _until(expires + SKEW)
    await recover(broker, pool, survivors)
    async with broker.joined("auditor", "auditor-2") as reader:
        first, second = [(await events_of(reader, run))[0] for run in ("r1", "r2")]
        assert isinstance(first, StoredEvent)
        assert isinstance(second, StoredEvent)
        assert first.stored_at < expires + SKEW
        assert first.receipt is not None
        await _put_without_receipt(broker, first)
        received = await events_of(reader, "r1")
    assert isinstance(received[-1], RefusedEvent)
    assert isinstance(received[-1].error, ExpiredKey)
    await assert_equal_to_audit(broker, pool)


def test_a_receipt_is_of_one_event_on_one_place_by_a_root() -> None:
    root, other, sender = AgentKey.generate(OPERATOR), AgentKey.generate(OPERATOR), new_sender()
    event, another = sender.sign(submitted("r1")), sender.sign(submitted("r2"))
    text = receipt(root, event, 7, MOMENT)
    assert first_stored(text, event, 7, (other.public, root.public)) == MOMENT
    later = text.replace("2026", "2027")
    for wrong in (
        first_stored(text, event, 8, (root.public,)),
        first_stored(text, another, 7, (root.public,)),
        first_stored(text, event, 7, (other.public,)),
        first_stored(later, event, 7, (root.public,)),
        first_stored("", event, 7, (root.public,)),
        first_stored(text.partition(",")[0], event, 7, (root.public,)),
    ):
        assert wrong is None


async def events_of(log: EventLog, run: str) -> list[StoredEvent | RefusedEvent]:
    async with aclosing(log.read(run_filter(run))) as events:
        return [received async for received in events]


async def _put_without_receipt(broker: Broker, stored: StoredEvent) -> None:
    """The same event again, as one can who has the old key and the broker on its side."""
    event = replace(stored.event)
    async with administrator(broker) as connection:
        await connection.publish(event.subject, event.data, event.headers, timeout_s=2)


async def _until(moment: datetime) -> None:
    await asyncio.sleep(max(0.0, (moment - datetime.now(UTC)).total_seconds()))
