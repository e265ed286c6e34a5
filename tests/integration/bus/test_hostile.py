"""One bad message must not silence a reader: it is refused, and what follows is read."""

import asyncio

import pytest
from nats.aio.client import Client

from bus.event import Draft, StoredEvent, derive_id
from bus.log import EventLog
from bus.payloads import AgentStarted
from bus.received import Received, RefusedEvent
from bus.work import Ack, Delivery, Verdict, WorkQueue
from policies.capabilities import queue_name
from tests.broker import Broker
from tests.integration.bus.test_log import assigned, read_all

HEAD = b"NATS/1.0"
BLOCKS = {
    "a heartbeat of the broker": HEAD + b" 100 Idle Heartbeat\r\n\r\n",
    "a heartbeat in a header": HEAD + b"\r\nStatus: 100\r\n\r\n",
    "an ended request": HEAD + b"\r\nStatus: 409\r\n\r\n",
    "a removed consumer": HEAD + b"\r\nStatus: 409\r\nDescription: Consumer Deleted\r\n\r\n",
    "no such message": HEAD + b" 404 No Messages\r\n\r\n",
    "nobody there": HEAD + b"\r\nStatus: 503\r\n\r\n",
    "a status that is no text": HEAD + b" \xff\xff\xff\r\n\r\n",
    "a description that is no text": HEAD + b" 100 \xff\xff\r\n\r\n",
    "headers that are no text": HEAD + b"\r\nce-id: \xff\xfe\r\n\xff: a\r\n\r\n",
    "a block that ends at once": b"N",
    "a block that ends after its version": HEAD,
    "a block of something else": b"HTTP/1.1 200 OK\r\nHost: x\r\n\r\n",
}


def started(run: str) -> Draft:
    payload = AgentStarted(role="coder", name="coder-1", pid=1, node="here")
    return Draft(run=run, payload=payload, id=derive_id("agent.started", run))


async def publish_block(log: EventLog, subject: bytes, block: bytes, data: bytes = b"") -> None:
    """Publish what no client library would."""
    client: Client = log.connection.client
    head = b"HPUB %b  %d %d\r\n" % (subject, len(block), len(block) + len(data))
    assert client._transport is not None
    client._transport.write(head + block + data + b"\r\n")
    await client.flush()


async def first_two(log: EventLog, subject_filter: str) -> list[Received]:
    found: list[Received] = []
    async with asyncio.timeout(20):
        async for received in log.follow(subject_filter):
            found.append(received)
            if len(found) == 2:
                break
    return found


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
async def test_a_strange_header_block_is_refused_and_the_reader_goes_on(
    broker: Broker, run: str, block: bytes
) -> None:
    async with broker.joined("coder") as coder, broker.joined("coordinator") as reader:
        subject = coder.sender.sign(started(run)).subject
        await publish_block(coder, subject.encode(), block)
        await coder.append(started(run))
        by_reading = await read_all(reader, run)
        by_following = await first_two(reader, subject)
        assert [type(r) for r in by_reading] == [RefusedEvent, StoredEvent]
        assert [type(r) for r in by_following] == [RefusedEvent, StoredEvent]


async def test_a_subject_that_is_no_text_is_refused_and_the_reader_goes_on(
    broker: Broker, run: str
) -> None:
    async with broker.joined("coder") as coder, broker.joined("coordinator") as reader:
        await publish_block(
            coder, b"evt.\xff." + run.encode() + b".agent.started", HEAD + b"\r\n\r\n"
        )
        await coder.append(started(run))
        strange, ours = await first_two(reader, f"evt.*.{run}.>")
        assert isinstance(strange, RefusedEvent)
        assert isinstance(ours, StoredEvent)
        await reader.record_refusal(strange)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ce-time", "0001-01-01T00:00:00%2B23:59"),  # before the first moment of UTC
        ("ce-time", "9999-12-31T23:59:59-23:59"),  # after the last
        ("ce-sequence", "9" * 5000),
        ("ce-run", "%FF%FE"),
        ("swarm-key", "U" + "A" * 55),
        ("swarm-key", "not.a.token"),
        ("swarm-signature", "%" * 86),
    ],
)
async def test_a_strange_attribute_is_refused_and_the_reader_goes_on(
    broker: Broker, run: str, name: str, value: str
) -> None:
    async with broker.joined("coder") as coder, broker.joined("coordinator") as reader:
        event = coder.sender.sign(started(run))
        await coder.connection.publish(
            event.subject, event.data, {**event.headers, name: value}, timeout_s=20
        )
        await coder.append(started(run))
        assert [type(r) for r in await read_all(reader, run)] == [RefusedEvent, StoredEvent]


@pytest.mark.parametrize("second", [b"ce-id: another", b"CE-ID: another", b"Ce-Id:another"])
@pytest.mark.parametrize("place", ["before", "after"])
async def test_an_attribute_that_is_there_twice_is_refused(
    broker: Broker, run: str, second: bytes, place: str
) -> None:
    """Readers would disagree on which of the two counts."""
    async with broker.joined("coder") as coder, broker.joined("coordinator") as reader:
        event = coder.sender.sign(started(run))
        lines = [f"{name}: {value}".encode() for name, value in event.headers.items()]
        lines = [second, *lines] if place == "before" else [*lines, second]
        block = b"\r\n".join((HEAD, *lines, b"", b""))
        await publish_block(coder, event.subject.encode(), block, event.data)
        (refused,) = await read_all(reader, run)
        assert isinstance(refused, RefusedEvent)
        assert refused.error.code == "malformed_event"


async def test_white_space_around_a_value_changes_nothing(broker: Broker, run: str) -> None:
    """The transport does not carry it; the value that arrives is the one that was signed."""
    async with broker.joined("coder") as coder, broker.joined("coordinator") as reader:
        event = coder.sender.sign(started(run))
        lines = [f"{name}: \t {value}  ".encode() for name, value in event.headers.items()]
        block = b"\r\n".join((HEAD, *lines, b"", b""))
        await publish_block(coder, event.subject.encode(), block, event.data)
        (received,) = await read_all(reader, run)
        assert isinstance(received, StoredEvent)
        assert received.event == event


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
async def test_a_strange_assignment_does_not_stop_the_queue(
    broker: Broker, run: str, block: bytes
) -> None:
    served: asyncio.Queue[str] = asyncio.Queue()

    async def handle(delivery: Delivery) -> Verdict:
        await served.put(delivery.assignment.event.run)
        return Ack()

    async with broker.joined("coordinator") as coordinator, broker.joined("coder") as coder:
        subject = coordinator.sender.sign(assigned(run)).subject
        await publish_block(coordinator, subject.encode(), block)
        await coordinator.append(assigned(run))
        queue = WorkQueue(coder, queue_name("coder"), lease_s=2)
        task = asyncio.create_task(queue.run(handle))
        async with asyncio.timeout(10):
            while await served.get() != run:
                pass
        task.cancel()
        await asyncio.wait((task,))
        codes = [
            r.payload().model_dump().get("code")
            for r in await read_all(coordinator, run)
            if isinstance(r, StoredEvent) and r.event.type == "swarm.event.refused.v1"
        ]
        assert codes == ["malformed_event"]
