"""Payloads over 256 KiB: by digest in the event, in chunks in the object store."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from bus.connection import StreamRefusal
from bus.errors import LogFull, PayloadTooLarge, PublishDenied, PublishUnconfirmed
from bus.event import SIGNATURE_HEADER, Draft, Event, StoredEvent, derive_id
from bus.log import EventLog
from bus.nkey import encode_base64url
from bus.payload import MAX_PAYLOAD_BYTES
from bus.payloads import StepCompleted, Usage
from bus.received import RefusedEvent
from bus.reference import (
    CHUNK_BYTES,
    DATAREF,
    MAX_OBJECT_BYTES,
    OBJECTS,
    ObjectReference,
    chunk_subject,
)
from bus.subjects import run_filter
from tests.broker import Broker
from tests.integration.bus.test_log import assigned, read_all

MiB = 1024 * 1024


def completed(run: str, size: int, *, role: str = "coder", fill: str = "x") -> Draft:
    payload = StepCompleted(
        step="code",
        iteration=1,
        attempt=1,
        epoch=1,
        answer={"text": fill * size},
        model="scripted",
        usage=Usage(prompt_tokens=1, completion_tokens=1),
        duration_ms=1,
    )
    event_id = derive_id("step.completed", run, role, fill)
    return Draft(run=run, payload=payload, id=event_id, suffix=(role,))


async def publish_raw(log: EventLog, event: Event) -> None:
    await log.connection.publish(event.subject, event.data, event.headers, timeout_s=20)


def resigned(log: EventLog, event: Event, **headers: str) -> Event:
    """The event with other attributes, under a signature that covers them."""
    changed = replace(event, headers={**event.headers, **headers})
    signature = encode_base64url(log.sender.key.sign(changed.signed_bytes))
    return replace(changed, headers={**changed.headers, SIGNATURE_HEADER: signature})


async def refusal(broker: Broker, run: str) -> RefusedEvent:
    """What a reader is told of the only event of the run."""
    async with broker.joined("coordinator") as reader, asyncio.timeout(10):
        (refused,) = await read_all(reader, run)
        assert isinstance(refused, RefusedEvent)
        return refused


async def stored_objects(broker: Broker, run: str) -> dict[str, int]:
    async with broker.connected("launcher") as (connection, _):
        answer = await connection.client.request(
            f"$JS.API.STREAM.INFO.{OBJECTS}",
            json.dumps({"subjects_filter": f"obj.{run}.>"}).encode(),
            timeout=20,
        )
        found: dict[str, int] = json.loads(answer.data)["state"].get("subjects") or {}
        return found


@pytest.mark.parametrize("size", [MAX_PAYLOAD_BYTES, MiB, 15 * MiB])
async def test_a_large_answer_reads_like_any_other(broker: Broker, run: str, size: int) -> None:
    draft = completed(run, size)
    async with broker.joined("coder") as coder, broker.joined("coordinator") as reader:
        sent = await coder.append(draft)
        (received,) = await read_all(reader, run)
        last = await reader.last_on(sent.event.subject)
    assert isinstance(received, StoredEvent)
    assert isinstance(last, StoredEvent)
    assert received.payload() == last.payload() == sent.payload() == draft.payload
    assert received.event == sent.event
    assert received.event.digest == sent.event.digest
    assert received.event.data == b""
    assert received.event.reference == ObjectReference.to(draft.body)


async def test_a_small_answer_stays_in_the_event(broker: Broker, run: str) -> None:
    async with broker.joined("coder") as coder:
        sent = await coder.append(completed(run, 1000))
    assert sent.event.reference is None
    assert await stored_objects(broker, run) == {}


async def test_sixteen_mebibytes_are_the_limit_and_nothing_is_stored_over_it(
    broker: Broker, run: str
) -> None:
    async with broker.joined("coder") as coder:
        with pytest.raises(PayloadTooLarge, match=str(MAX_OBJECT_BYTES)):
            await coder.append(completed(run, MAX_OBJECT_BYTES))
    assert await stored_objects(broker, run) == {}


async def test_large_answers_at_once_form_one_chain(broker: Broker, run: str) -> None:
    async with broker.joined("coder") as coder, broker.joined("coordinator") as reader:
        await asyncio.gather(*(coder.append(completed(run, MiB, fill=f)) for f in "abcd"))
        received = await read_all(reader, run)
    assert [r.event.sequence for r in received if isinstance(r, StoredEvent)] == [1, 2, 3, 4]


async def test_killed_between_object_and_event_the_next_one_says_it_again(
    broker: Broker, run: str
) -> None:
    draft = completed(run, MiB)
    async with broker.joined("coder", "coder-1") as killed:
        await killed._objects.put(run, draft.body)
    async with broker.joined("coder", "coder-2") as next_one, broker.joined("gateway") as reader:
        assert await read_all(reader, run) == []
        await next_one.append(draft)
        (received,) = await read_all(reader, run)
    assert isinstance(received, StoredEvent)
    assert received.payload() == draft.payload


async def test_putting_it_again_is_the_same_object(broker: Broker, run: str) -> None:
    draft = completed(run, MiB)
    async with broker.joined("coder") as coder:
        await coder._objects.put(run, draft.body)
        before = await stored_objects(broker, run)
        await coder._objects.put(run, draft.body)
        await coder.append(draft)
    assert await stored_objects(broker, run) == before
    assert set(before.values()) == {1}


async def test_an_object_that_is_not_there_is_refused_and_the_reader_goes_on(
    broker: Broker, run: str
) -> None:
    async with broker.joined("coder") as coder, broker.joined("coordinator") as reader:
        withheld = coder.sender.sign(completed(run, MiB))
        await publish_raw(coder, withheld)
        coder.sender.advance(withheld)
        await coder.append(completed(run, 10, fill="y"))
        refused, stored = await read_all(reader, run)
        assert isinstance(refused, RefusedEvent)
        assert refused.error.code == "object_missing"
        assert isinstance(stored, StoredEvent)
        await reader.record_refusal(refused)


async def test_the_object_of_another_is_not_found_under_ones_own_key(
    broker: Broker, run: str
) -> None:
    draft = completed(run, MiB)
    async with broker.joined("critic") as critic, broker.joined("coder") as coder:
        await critic._objects.put(run, draft.body)
        await publish_raw(coder, coder.sender.sign(draft))
    assert (await refusal(broker, run)).error.code == "object_missing"


async def test_the_object_of_another_run_is_not_found(broker: Broker, run: str) -> None:
    draft = completed(run, MiB)
    async with broker.joined("coder") as coder:
        await coder._objects.put("another", draft.body)
        await publish_raw(coder, coder.sender.sign(draft))
    assert (await refusal(broker, run)).error.code == "object_missing"


@pytest.mark.parametrize(
    "forged", [bytes(CHUNK_BYTES), bytes(100), b""], ids=["other bytes", "fewer bytes", "none"]
)
async def test_a_chunk_that_is_not_what_was_signed_is_refused(
    broker: Broker, run: str, forged: bytes
) -> None:
    draft = completed(run, MiB)
    reference = ObjectReference.to(draft.body)
    async with broker.joined("coder") as coder:
        for number in range(len(reference.chunk_sizes)):
            true = draft.body[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES]
            await coder.connection.publish(
                chunk_subject(run, coder.sender.key.public, reference.digest, number),
                forged if number == 3 else true,
                {},
                timeout_s=20,
            )
        await publish_raw(coder, coder.sender.sign(draft))
    assert (await refusal(broker, run)).error.code == "object_mismatch"


@pytest.mark.parametrize(
    "claim",
    [
        f"swarm-object:sha256:{'0' * 64}:{10**17}",
        f"swarm-object:sha256:{'0' * 64}:{MAX_OBJECT_BYTES + 1}",
        f"swarm-object:sha256:{'0' * 64}:0",
        f"swarm-object:sha256:{'0' * 63}:1000000",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
    ],
)
async def test_a_claim_that_nobody_of_ours_makes_is_malformed(
    broker: Broker, run: str, claim: str
) -> None:
    """Nothing is fetched for it, whoever signed it."""
    async with broker.joined("coder") as coder:
        event = coder.sender.sign(completed(run, MiB))
        await publish_raw(coder, resigned(coder, event, **{DATAREF: claim}))
    assert (await refusal(broker, run)).error.code == "malformed_event"


async def test_an_event_with_an_object_has_no_data_beside_it(broker: Broker, run: str) -> None:
    """Else two readers could read two things."""
    async with broker.joined("coder") as coder:
        event = coder.sender.sign(completed(run, MiB))
        small = completed(run, 1).body
        await publish_raw(coder, resigned(coder, replace(event, data=small)))
    assert (await refusal(broker, run)).error.code == "malformed_event"


async def test_the_claim_is_signed(broker: Broker, run: str) -> None:
    draft, other = completed(run, MiB), completed(run, MiB, fill="y")
    async with broker.joined("coder") as coder:
        await coder._objects.put(run, other.body)
        event = coder.sender.sign(draft)
        headers = {**event.headers, DATAREF: str(ObjectReference.to(other.body))}
        await publish_raw(coder, replace(event, headers=headers))
    assert (await refusal(broker, run)).error.code == "bad_signature"


async def test_the_objects_of_a_stranger_are_not_fetched(broker: Broker, run: str) -> None:
    async with broker.joined("coder", announce=False) as stranger:
        await stranger.append(completed(run, MiB))
    assert (await refusal(broker, run)).error.code == "unknown_key"


async def test_nobody_puts_under_another_key_or_replaces_a_chunk(broker: Broker, run: str) -> None:
    draft = completed(run, MiB)
    digest = ObjectReference.to(draft.body).digest
    async with broker.joined("coder") as coder, broker.connected("critic") as (critic, _):
        await coder.append(draft)
        subject = chunk_subject(run, coder.sender.key.public, digest, 0)
        with pytest.raises(PublishDenied):
            await critic.publish(subject, b"forged", {}, timeout_s=20)
        for headers in ({}, {"Nats-Rollup": "sub"}, {"Nats-TTL": "1s"}):
            with pytest.raises(StreamRefusal):
                await coder.connection.publish(subject, b"forged", headers, timeout_s=20)
    async with broker.joined("coordinator") as reader:
        (received,) = await read_all(reader, run)
        assert isinstance(received, StoredEvent)
        assert received.payload() == draft.payload


@pytest.mark.parametrize("role", ["observer", "launcher"])
async def test_who_publishes_no_event_puts_no_object(broker: Broker, run: str, role: str) -> None:
    async with broker.connected(role) as (connection, sender):
        subject = chunk_subject(run, sender.key.public, "0" * 64, 0)
        with pytest.raises((PublishDenied, PublishUnconfirmed)):
            await connection.publish(subject, b"x", {}, timeout_s=1)


@pytest.fixture
async def own_broker(tmp_path: Path) -> AsyncIterator[Broker]:
    own = Broker(tmp_path, sync="always")
    await own.start()
    yield own
    await own.stop()


async def test_objects_survive_a_broker_that_is_killed(own_broker: Broker) -> None:
    await own_broker.provision()
    draft = completed("r1", 3 * MiB)
    async with own_broker.joined("coder") as coder:
        await coder.append(draft)
        await own_broker.stop(signal.SIGKILL)
        await own_broker.start()
        after = completed("r1", MiB, fill="z")
        await coder.append(after)
    async with own_broker.joined("coordinator") as reader:
        received = await read_all(reader, "r1")
    assert [r.payload() for r in received if isinstance(r, StoredEvent)] == [
        draft.payload,
        after.payload,
    ]


async def test_a_full_log_says_so_and_stores_nothing_half(own_broker: Broker) -> None:
    await own_broker.provision(max_bytes=1 << 20)
    async with own_broker.joined("coder") as coder, own_broker.joined("coordinator") as reader:
        with pytest.raises(LogFull) as full_of_objects:
            await coder.append(completed("r1", MiB))
        assert "SWARM_JETSTREAM_MAX_BYTES" in full_of_objects.value.hint
        stored = 0
        with pytest.raises(LogFull):  # noqa: PT012 - which of them is the last is the broker's affair
            while True:
                await coder.append(completed("r1", 100_000, fill=str(stored)))
                stored += 1
        assert stored > 3
        received = await read_all(reader, "r1")
        assert [r.event.sequence for r in received if isinstance(r, StoredEvent)] == [
            *range(1, stored + 1)
        ]
        # With room again, the same sender goes on where it was.
        await own_broker.provision(max_bytes=1 << 24)
        await coder.append(completed("r1", 100_000, fill="again"))
        last = (await read_all(reader, "r1"))[-1]
        assert isinstance(last, StoredEvent)
        assert last.event.sequence == stored + 1


async def test_a_large_input_reaches_an_agent_through_its_queue(broker: Broker, run: str) -> None:
    payload = assigned(run).payload.model_copy(update={"inputs": {"plan": {"text": "p" * MiB}}})
    draft = replace(assigned(run), payload=payload)
    async with broker.joined("coordinator") as coordinator, broker.joined("coder") as coder:
        await coordinator.append(draft)
        received = await coder.next_on(run_filter(run), after=0)
    assert isinstance(received, StoredEvent)
    assert received.payload() == payload
