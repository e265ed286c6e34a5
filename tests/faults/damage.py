"""Runs that came to a halt in the middle, and what a broker may then do to its log."""

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from actors.model import Message
from bus.event import StoredEvent
from bus.payloads import RunCompleted, StepCompleted
from bus.scan import stored
from storage.audit_reader import AuditReader
from storage.leaf import encode_envelope
from storage.postgres import Pool
from tests.auditing import DEADLINE_S, administrator, auditing, until_audited
from tests.broker import Broker
from tests.swarming import ScriptedAnswers, by_type, submission, team, until_end


async def assert_equal_to_audit(broker: Broker, pool: Pool) -> None:
    """Byte for byte, sequence by sequence; what is behind the audit log's end is not looked at."""
    rows = await AuditReader(pool).stretch(after=0, until=1 << 60, limit=1 << 20)
    end = rows[-1].record.stream_sequence
    async with (
        broker.connected("auditor") as (connection, _),
        aclosing(stored(connection, after=0, until=end)) as messages,
    ):
        found = [received async for received in messages]
    shown = []
    for received in found:
        event = received.event if isinstance(received, StoredEvent) else received
        envelope = encode_envelope(event.subject, tuple(event.headers.items()))
        shown.append((received.stream_sequence, envelope, event.data))
    assert shown == [
        (
            row.record.stream_sequence,
            encode_envelope(row.record.subject, row.record.raw_headers),
            row.record.data,
        )
        for row in rows
    ]


def store(broker: Broker) -> Path:
    (messages,) = (broker.directory / "store").glob("jetstream/*/streams/EVENTS/msgs")
    return messages


def flip_a_bit(broker: Broker, within: bytes) -> None:
    """In the block file that holds these bytes."""
    for block in store(broker).glob("*.blk"):
        data = block.read_bytes()
        if within in data:
            with block.open("r+b") as file:
                at = data.index(within)
                file.seek(at)
                file.write(bytes([data[at] ^ 4]))
            return
    raise AssertionError("no block has these bytes")


@dataclass
class HalfRun:
    """A run that came to a halt in the middle, all of it audited."""

    broker: Broker
    pool: Pool
    run: str
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    model: ScriptedAnswers = field(default_factory=ScriptedAnswers)
    first: StoredEvent | None = None

    async def begin(self) -> int:
        """The last sequence."""
        halted = asyncio.Event()

        async def halt(_: Sequence[Message]) -> None:
            if len(self.model.calls) >= 4 and not self.go_on.is_set():
                halted.set()
                await self.go_on.wait()

        self.model.gate = halt
        async with auditing(self.broker, self.pool) as auditor:
            async with self.broker.joined("gateway") as gateway, team(self.broker, self.model):
                self.first = await gateway.append(submission(self.run))
                async with asyncio.timeout(DEADLINE_S):
                    await halted.wait()
            last = await until_audited(auditor, self.pool)
        self.go_on.set()
        return last

    async def finish(self) -> None:
        """It completes, with one result for each step."""
        async with auditing(self.broker, self.pool) as auditor:
            async with (
                self.broker.joined("gateway", "gateway-2") as gateway,
                team(self.broker, self.model),
            ):
                events = await until_end(gateway, self.run)
            await until_audited(auditor, self.pool)
        assert isinstance(events[-1].payload(), RunCompleted)
        steps = [
            (payload.step, payload.iteration)
            for event in by_type(events)[StepCompleted.TYPE]
            if isinstance(payload := event.payload(), StepCompleted)
        ]
        assert sorted(steps) == sorted(set(steps))


Damage = Callable[[HalfRun], Awaitable[tuple[range, str]]]


async def flipped_while_stopped(half: HalfRun) -> tuple[range, str]:
    assert half.first is not None
    await half.broker.stop()
    flip_a_bit(half.broker, half.first.event.data)
    await half.broker.start()
    return range(half.first.stream_sequence, half.first.stream_sequence + 1), "gateway/gateway-1"


async def flipped_while_running(half: HalfRun) -> tuple[range, str]:
    """The server has the block in memory; it reads the disk when it starts again."""
    assert half.first is not None
    flip_a_bit(half.broker, half.first.event.data)
    await half.broker.stop()
    await half.broker.start()
    return range(half.first.stream_sequence, half.first.stream_sequence + 1), "gateway/gateway-1"


async def flipped_and_killed(half: HalfRun) -> tuple[range, str]:
    """A server that was killed reads its blocks anew, and cuts them off at what it cannot read."""
    assert half.first is not None
    last = (await AuditReader(half.pool).reach()).stream_sequence
    flip_a_bit(half.broker, half.first.event.data)
    await half.broker.stop(signal.SIGKILL)
    await half.broker.start()
    return range(half.first.stream_sequence, last + 1), "gateway/gateway-1"


async def deleted_by_an_administrator(half: HalfRun) -> tuple[range, str]:
    assert half.first is not None
    at = half.first.stream_sequence
    async with administrator(half.broker) as connection:
        question = json.dumps({"filter": half.first.event.subject, "seq": at + 1}).encode()
        answer = await connection.client.request("$JS.API.STREAM.PURGE.EVENTS", question)
        assert json.loads(answer.data)["purged"] == 1
    return range(at, at + 1), "gateway/gateway-1"
