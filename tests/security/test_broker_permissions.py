"""No credential of a member alters the stream or a queue, by whatever subject it answers on.

The broker checks where a client publishes, not where it asks to be answered, and the
answer is published by the broker itself. Each attack here is a permitted request whose
answer is sent to a subject that the credential may not publish on.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from nats.aio.client import Client
from nats.js.api import ConsumerConfig

from bus.connection import Connection
from bus.event import Draft, StoredEvent, derive_id
from bus.identity import LAUNCHER_ROLE
from bus.log import EventLog
from bus.nkey import AgentKey
from bus.payloads import AgentStarted, StepAssigned
from bus.reference import OBJECTS, chunk_subject
from bus.subjects import STREAM, run_filter, subject_for
from bus.trim import purge_run
from bus.work import Ack, Delivery, Verdict, WorkQueue
from policies.capabilities import Capabilities, queue_name
from tests.broker import Broker
from tests.integration.bus.test_log import submitted

WORKERS = Capabilities.shipped().worker_roles
READERS = ("gateway", "coordinator", "auditor", "observer")
MEMBERS = (*WORKERS, *READERS, "authority")
API = "$JS.API"
VICTIM = queue_name("judge")
FORGED = subject_for("r1", "swarm.run.completed.v1")
PLANTER = AgentKey.generate()
FORGED_CHUNK = chunk_subject("r1", PLANTER.public, "f" * 64, 0)
ALTERED = {
    "name": VICTIM,
    "durable_name": VICTIM,
    "filter_subject": "evt.*.*.step.assigned.judge.>",
    "ack_policy": "explicit",
    "ack_wait": 1_000_000_000,
    "max_ack_pending": 1,
}
ALTERING = json.dumps({"stream_name": STREAM, "config": ALTERED}).encode()
ONE = {"batch": 1, "no_wait": True}
"""A pull request that is answered at once."""


@dataclass(frozen=True)
class Request:
    """A request that the role may make."""

    subject: str
    body: bytes


def assigned(run: str, role: str) -> Draft:
    payload = StepAssigned(
        step="code", iteration=1, attempt=1, role=role, objective="x", inputs={}, deadline_s=10
    )
    return Draft(
        run=run, payload=payload, id=derive_id("step.assigned", run), suffix=(role, "normal")
    )


async def snapshot(broker: Broker) -> dict[str, object]:
    """The streams and every queue, as the broker describes them."""
    async with broker.connected(LAUNCHER_ROLE) as (connection, _):
        found: dict[str, object] = {}
        for name in (
            f"STREAM.INFO.{STREAM}",
            f"STREAM.INFO.{OBJECTS}",
            *(f"CONSUMER.INFO.{STREAM}.{queue_name(role)}" for role in WORKERS),
        ):
            answer = await connection.client.request(f"{API}.{name}", b"", timeout=5)
            said = json.loads(answer.data)
            assert "error" not in said, said
            said.pop("ts", None)
            # readers come and go; what an attacker does to its own queue is its own affair
            said.get("state", {}).pop("consumer_count", None)
            found[name] = said
        return found


def named(found: dict[str, object], except_queue: str) -> dict[str, object]:
    return {name: said for name, said in found.items() if not name.endswith(f".{except_queue}")}


def own_inbox(role: str, connection: Connection) -> str:
    inbox = connection.new_inbox()
    return f"_INBOX.{inbox.rpartition('.')[2]}" if role == "observer" else inbox


async def send_raw(client: Client, subject: str, block: bytes, data: bytes) -> None:
    """Publish headers that no client library would."""
    assert client._transport is not None
    head = f"HPUB {subject} {len(block)} {len(block) + len(data)}\r\n".encode()
    client._transport.write(head + block + data + b"\r\n")
    await client.flush()


async def plant(broker: Broker, data: bytes) -> list[int]:
    """Store what the server's API would take for a request, of the members' or log's account."""
    found = []
    async with broker.connected("coder") as (connection, _):
        subject = subject_for("r1", "swarm.agent.started.v1")
        for account in (
            broker.authority.account_public_key,
            broker.authority.log_account_public_key,
        ):
            info = json.dumps({"acc": account, "rtt": 1})
            block = f"NATS/1.0\r\nNats-Request-Info: {info}\r\n\r\n".encode()
            await send_raw(connection.client, subject, block, data)
            ack = await connection.publish(subject, b"after", {}, timeout_s=5)
            found.append(ack.sequence - 1)
    return found


async def plant_chunks(broker: Broker) -> None:
    """Store an empty chunk, which the server's API would take for "all of it", and a config."""
    async with broker.connected("coder", key=PLANTER) as (connection, _):
        for number, data in enumerate((b"", ALTERING)):
            await connection.publish(planted_chunk(number), data, {}, timeout_s=5)


def planted_chunk(number: int) -> str:
    return chunk_subject("r1", PLANTER.public, "0" * 64, number)


@pytest.fixture(scope="module")
async def planted(broker: Broker) -> list[int]:
    """Sequences of stored messages whose text is a request: two empty, two with a config."""
    await plant_chunks(broker)
    return [*await plant(broker, b""), *await plant(broker, ALTERING)]


@pytest.fixture(scope="module")
async def leased(broker: Broker) -> AsyncIterator[str]:
    """The subject that acknowledges an assignment which a judge is working on."""
    async with (
        broker.joined("coordinator") as coordinator,
        broker.connected("judge") as (judge, _),
    ):
        for run in ("rleased1", "rleased2"):
            await coordinator.append(assigned(run, "judge"))
        inbox = judge.new_inbox()
        subscription = await judge.client.subscribe(inbox)
        await judge.client.publish(
            f"{API}.CONSUMER.MSG.NEXT.{STREAM}.{VICTIM}", json.dumps(ONE).encode(), reply=inbox
        )
        message = await subscription.next_msg(timeout=5)
        assert message.reply.startswith(f"$JS.ACK.{STREAM}.{VICTIM}.")
        yield message.reply


def targets(acknowledgement: str) -> list[str]:
    """Subjects that no answer may reach."""
    return [
        f"{API}.STREAM.DELETE.{STREAM}",
        f"{API}.STREAM.PURGE.{STREAM}",
        f"{API}.STREAM.UPDATE.{STREAM}",
        f"{API}.STREAM.MSG.DELETE.{STREAM}",
        f"{API}.STREAM.DELETE.{OBJECTS}",
        f"{API}.STREAM.PURGE.{OBJECTS}",
        f"{API}.STREAM.UPDATE.{OBJECTS}",
        FORGED_CHUNK,
        f"{API}.CONSUMER.DELETE.{STREAM}.{VICTIM}",
        f"{API}.CONSUMER.PAUSE.{STREAM}.{VICTIM}",
        f"{API}.CONSUMER.CREATE.{STREAM}",
        f"{API}.CONSUMER.CREATE.{STREAM}.{VICTIM}",
        f"{API}.CONSUMER.CREATE.{STREAM}.{VICTIM}.{ALTERED['filter_subject']}",
        f"{API}.CONSUMER.DURABLE.CREATE.{STREAM}.{VICTIM}",
        f"{API}.CONSUMER.MSG.NEXT.{STREAM}.{VICTIM}",
        acknowledgement,
        FORGED,
    ]


async def requests_of(
    role: str, connection: Connection, planted: list[int]
) -> AsyncIterator[Request]:
    """Every kind of request that the role may make, with answers of its choosing."""
    for sequence in planted:
        yield Request(f"{API}.DIRECT.GET.{STREAM}", json.dumps({"seq": sequence}).encode())
    yield Request(f"{API}.DIRECT.GET.{STREAM}", b'{"seq": 1, "batch": 3}')
    yield Request(f"{API}.DIRECT.GET.{STREAM}", b'{"seq": 999999}')
    yield Request(f"{API}.DIRECT.GET.{STREAM}.{FORGED}", b"")
    for number in range(2):
        yield Request(f"{API}.DIRECT.GET.{OBJECTS}.{planted_chunk(number)}", b"")
    yield Request(f"{API}.DIRECT.GET.{OBJECTS}.{FORGED_CHUNK}", b"")
    if role in WORKERS and queue_name(role) != VICTIM:
        yield Request(f"{API}.CONSUMER.INFO.{STREAM}.{queue_name(role)}", b"")
        yield Request(
            f"{API}.CONSUMER.MSG.NEXT.{STREAM}.{queue_name(role)}", json.dumps(ONE).encode()
        )
    if role in READERS:
        yield Request(f"{API}.INFO", b"")
        yield Request(f"{API}.STREAM.INFO.{STREAM}", b"")
        for sequence in planted:
            name = await make_consumer(role, connection, {"opt_start_seq": sequence})
            yield Request(
                f"{API}.CONSUMER.MSG.NEXT.{STREAM}.{name}", json.dumps({"batch": 1}).encode()
            )


async def ask(
    role: str, connection: Connection, subject: str, body: bytes, *, within_s: float = 0.3
) -> dict[str, object] | None:
    """One request and its answer; None where the broker refuses it."""
    inbox = own_inbox(role, connection)
    answers: asyncio.Queue[bytes] = asyncio.Queue()

    async def note(message: object) -> None:
        await answers.put(getattr(message, "data", b""))

    subscription = await connection.client.subscribe(inbox, cb=note)
    try:
        await connection.client.publish(subject, body, reply=inbox)
        async with asyncio.timeout(within_s):
            answer: dict[str, object] = json.loads(await answers.get() or b"{}")
            return answer
    except TimeoutError:
        return None
    finally:
        await subscription.unsubscribe()


async def make_consumer(role: str, connection: Connection, options: dict[str, object]) -> str:
    name = f"own-{role}-{connection.client._nuid.next().decode()}"
    config = {"name": name, "ack_policy": "none", "deliver_policy": "by_start_sequence"} | options
    body = json.dumps({"stream_name": STREAM, "config": config}).encode()
    answer = await ask(
        role, connection, f"{API}.CONSUMER.CREATE.{STREAM}.{name}", body, within_s=20
    )
    assert answer is not None
    return name


async def settle(role: str, connection: Connection) -> None:
    """Wait until the stream has answered everything that was asked before."""
    await connection.client.flush()
    for _ in range(3):
        await ask(role, connection, f"{API}.DIRECT.GET.{STREAM}", b'{"seq": 1}')


@pytest.mark.parametrize("role", MEMBERS)
async def test_no_answer_reaches_a_subject_that_alters_anything(
    broker: Broker, role: str, planted: list[int], leased: str
) -> None:
    before = await snapshot(broker)
    async with broker.connected(role) as (connection, _):
        for target in targets(leased):
            async for request in requests_of(role, connection, planted):
                await connection.client.publish(request.subject, request.body, reply=target)
            await settle(role, connection)
            assert named(await snapshot(broker), queue_name(role)) == named(
                before, queue_name(role)
            ), target


@pytest.mark.parametrize("role", ["coder", "gateway", "coordinator", "auditor", "authority"])
async def test_the_answer_to_an_event_reaches_no_such_subject_either(
    broker: Broker, role: str, leased: str
) -> None:
    """What is stored afterwards is the event itself, and not what answered it."""
    kind = "identity.issued.v1" if role == "authority" else "agent.started.v1"
    suffix = ("KEY",) if role == "authority" else ()
    subject = subject_for("r1", f"swarm.{kind}", *suffix)
    before = await snapshot(broker)
    async with broker.connected(role) as (connection, _):
        for target in targets(leased):
            await connection.client.publish(subject, b"", reply=target)
        last = (await connection.publish(subject, b"", {}, timeout_s=5)).sequence
        await settle(role, connection)
    after = await snapshot(broker)
    stream, stream_before = (found.pop(f"STREAM.INFO.{STREAM}") for found in (after, before))
    assert after == before
    assert isinstance(stream, dict)
    assert isinstance(stream_before, dict)
    assert stream["state"]["last_seq"] == last
    assert stream["created"] == stream_before["created"]
    async with broker.connected(role) as (connection, _):
        assert await connection.last_message(FORGED) is None


@pytest.mark.parametrize("role", READERS)
@pytest.mark.parametrize("options", [{}, {"flow_control": True, "idle_heartbeat": 100_000_000}])
async def test_a_consumer_pushes_nowhere_that_alters_anything(
    broker: Broker, role: str, options: dict[str, object], planted: list[int], leased: str
) -> None:
    before = await snapshot(broker)
    async with broker.connected(role) as (connection, _):
        for target in targets(leased):
            for sequence in planted:
                push = {"deliver_subject": target, "opt_start_seq": sequence, **options}
                await make_consumer(role, connection, push)
            await settle(role, connection)
            assert await snapshot(broker) == before, target


@pytest.mark.parametrize("role", MEMBERS)
async def test_no_request_alters_the_queue_of_another_role(
    broker: Broker, role: str, leased: str
) -> None:
    if queue_name(role) == VICTIM:
        role = "critic"
    before = await snapshot(broker)
    ephemeral = {**ALTERED, "durable_name": ""}
    async with broker.connected(role) as (connection, _):
        for subject in (
            f"CONSUMER.CREATE.{STREAM}",
            f"CONSUMER.CREATE.{STREAM}.{VICTIM}",
            f"CONSUMER.CREATE.{STREAM}.{VICTIM}.{ALTERED['filter_subject']}",
            f"CONSUMER.CREATE.{STREAM}.mine",
            f"CONSUMER.CREATE.{STREAM}.mine.{ALTERED['filter_subject']}",
            f"CONSUMER.DURABLE.CREATE.{STREAM}.{VICTIM}",
            f"CONSUMER.DURABLE.CREATE.{STREAM}.mine",
            f"CONSUMER.DELETE.{STREAM}.{VICTIM}",
            f"CONSUMER.PAUSE.{STREAM}.{VICTIM}",
            f"CONSUMER.RESET.{STREAM}.{VICTIM}",
            f"CONSUMER.UNPIN.{STREAM}.{VICTIM}",
            f"CONSUMER.MSG.NEXT.{STREAM}.{VICTIM}",
            f"STREAM.DELETE.{STREAM}",
            f"STREAM.PURGE.{STREAM}",
            f"STREAM.UPDATE.{STREAM}",
            f"STREAM.DELETE.{OBJECTS}",
            f"STREAM.PURGE.{OBJECTS}",
            f"STREAM.UPDATE.{OBJECTS}",
            f"STREAM.MSG.GET.{OBJECTS}",
            f"CONSUMER.CREATE.{OBJECTS}.mine",
        ):
            for config in (ALTERED, ephemeral):
                body = json.dumps({"stream_name": STREAM, "config": config}).encode()
                inbox = own_inbox(role, connection)
                await connection.client.publish(f"{API}.{subject}", body, reply=inbox)
        await connection.client.publish(leased, b"")
        await connection.client.publish(leased, b"+TERM")
        await settle(role, connection)
    assert await snapshot(broker) == before


@pytest.mark.parametrize("role", MEMBERS)
@pytest.mark.parametrize("stream", [STREAM, OBJECTS])
async def test_no_member_purges_though_the_streams_allow_it(
    broker: Broker, role: str, stream: str, planted: list[int]
) -> None:
    before = await snapshot(broker)
    async with broker.connected(role) as (connection, _):
        for body in (b"", b'{"keep": 0}', b'{"seq": 999999}', b'{"filter": ">"}'):
            answer = await ask(role, connection, f"{API}.STREAM.PURGE.{stream}", body)
            assert answer is None
            await settle(role, connection)
    assert await snapshot(broker) == before


async def test_a_launcher_purges_one_run_and_no_other(broker: Broker) -> None:
    """Else the test above would prove nothing."""
    async with broker.joined("gateway") as gateway:
        for run in ("rpurged", "rkept"):
            await gateway.append(submitted(run))
        last = await gateway.last_sequence()
        async with broker.connected(LAUNCHER_ROLE) as (connection, _):
            await purge_run(connection, "rpurged", up_to=last)
        assert [r async for r in gateway.read(run_filter("rpurged"))] == []
        assert len([r async for r in gateway.read(run_filter("rkept"))]) == 1


async def test_the_attack_works_in_the_account_that_holds_the_log(broker: Broker) -> None:
    """Else the tests above would prove nothing. A launcher is trusted with the stream."""
    async with broker.connected(LAUNCHER_ROLE) as (connection, _):
        name = "to-be-deleted"
        await connection.manager.add_consumer(STREAM, ConsumerConfig(name=name, durable_name=name))
        (_, sequence) = await plant(broker, b"")
        await connection.client.publish(
            f"{API}.DIRECT.GET.{STREAM}",
            json.dumps({"seq": sequence}).encode(),
            reply=f"{API}.CONSUMER.DELETE.{STREAM}.{name}",
        )
        async with asyncio.timeout(5):
            while True:
                answer = await connection.client.request(
                    f"{API}.CONSUMER.INFO.{STREAM}.{name}", b"", timeout=5
                )
                if "error" in json.loads(answer.data):
                    break


async def test_members_do_their_ordinary_work(broker: Broker) -> None:
    run = "rordinary"
    done: list[StoredEvent] = []
    async with (
        broker.joined("gateway") as gateway,
        broker.joined("coordinator") as coordinator,
        broker.joined("coder") as coder,
        asyncio.timeout(20),
    ):
        first = await gateway.append(submitted(run))
        again = await gateway.append(submitted(run))
        assert again.stream_sequence == first.stream_sequence
        await coordinator.append(assigned(run, "coder"))
        following = asyncio.ensure_future(follow(gateway, run, 3))

        async def handle(delivery: Delivery) -> Verdict:
            done.append(delivery.assignment)
            payload = AgentStarted(role="coder", name="coder-1", pid=1, node="here")
            await coder.append(Draft(run=run, payload=payload, id=derive_id("agent.started", run)))
            return Ack()

        worker = asyncio.ensure_future(WorkQueue(coder, queue_name("coder"), lease_s=2).run(handle))
        followed = await following
        worker.cancel()
        await asyncio.wait((worker,))
        assert [r async for r in gateway.read(run_filter(run))] == followed
        assert done == [followed[1]]
        last = await gateway.last_on(first.event.subject)
        assert isinstance(last, StoredEvent)
        assert last.event == first.event


async def follow(log: EventLog, run: str, count: int) -> list[StoredEvent]:
    found: list[StoredEvent] = []
    async for received in log.follow(run_filter(run)):
        assert isinstance(received, StoredEvent)
        found.append(received)
        if len(found) == count:
            break
    return found
