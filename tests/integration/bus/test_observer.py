"""An outsider with a .creds file, nats-py and the CloudEvents SDK reads every event."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import nats.errors
import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from bus.event import Draft, StoredEvent, derive_id
from bus.identity import credentials_file
from bus.nkey import AgentKey
from bus.payloads import RunFailed
from bus.subjects import STREAM, run_filter, subject_for
from policies.capabilities import queue_name
from tests.broker import Broker
from tests.integration.bus.test_log import assigned, submitted


@asynccontextmanager
async def observing(
    broker: Broker, directory: Path, errors: asyncio.Queue[str] | None = None
) -> AsyncIterator[Client]:
    key = AgentKey.generate()
    path = directory / "observer.creds"
    path.write_text(credentials_file(broker.credential("observer", "observer-1", key), key))

    async def note(error: Exception) -> None:
        if errors is not None:
            await errors.put(str(error))

    client = await nats.connect(broker.url, user_credentials=str(path), error_cb=note)
    try:
        yield client
    finally:
        await client.close()


async def some_run(broker: Broker, run: str) -> list[StoredEvent]:
    async with broker.joined("gateway") as gateway, broker.joined("coordinator") as coordinator:
        first = await gateway.append(
            Draft(
                run=run,
                payload=submitted(run, "Say “Grüße”, 100 % exactly").payload,
                id=derive_id("run.submitted", run),
                on_behalf_of='Zoë "admin" 100 %',
                traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01",
            )
        )
        second = await coordinator.append(assigned(run))
        third = await coordinator.append(
            Draft(
                run=run,
                payload=RunFailed(code="x", message="y"),
                id=derive_id("run.ended", run),
                cause=first.event.id,
            )
        )
    return [first, second, third]


def cloud_event(message: Msg) -> BaseCloudEvent:
    return from_binary(HTTPMessage(headers=message.headers or {}, body=message.data), JSONFormat())


def check(sent: StoredEvent, message: Msg) -> None:
    attributes = cloud_event(message).get_attributes()
    event = sent.event
    assert message.subject == event.subject
    assert message.metadata.sequence.stream == sent.stream_sequence
    assert attributes == {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "time": event.time,
        "datacontenttype": "application/json",
        "dataschema": f"urn:vllm-swarm:event:{event.type}",
        "run": event.run,
        "sequence": str(event.sequence),
        "previous": event.previous,
        "policy": event.policy,
        **({"cause": event.cause} if event.cause else {}),
        **({"onbehalfof": event.on_behalf_of} if event.on_behalf_of else {}),
        **({"sealedfor": event.sealed_for} if event.sealed_for else {}),
    }


def without_personal(stored: StoredEvent) -> dict[str, object]:
    """What an outsider gets to see of a payload."""
    payload, sealed = stored.payload(), stored.event.sealed_for is not None
    return payload.model_dump(mode="json", exclude=set(payload.PERSONAL) if sealed else None)


def clear_of(data: object) -> dict[str, object]:
    assert isinstance(data, dict)
    return {name: value for name, value in data.items() if name != "sealed"}


def data_of(message: Msg) -> object:
    """Data as JSON: the SDK is told its type by a header of the HTTP binding's name."""
    headers = message.headers or {}
    headers = {**headers, "content-type": headers["ce-datacontenttype"]}
    event = from_binary(HTTPMessage(headers=headers, body=message.data), JSONFormat())
    data: object = event.get_data()
    return data


async def test_every_event_of_a_run_is_a_cloud_event_to_an_outsider(
    broker: Broker, run: str, tmp_path: Path
) -> None:
    sent = await some_run(broker, run)
    async with observing(broker, tmp_path) as client:
        subscription = await client.jetstream().subscribe(
            run_filter(run), ordered_consumer=True, config=ConsumerConfig(name=f"ordered-{run}")
        )
        for stored in sent:
            message = await subscription.next_msg(timeout=20)
            check(stored, message)
            assert clear_of(data_of(message)) == without_personal(stored)
        with pytest.raises(nats.errors.TimeoutError):
            await subscription.next_msg(timeout=0.2)
        await subscription.unsubscribe()


async def test_an_outsider_may_pull_with_a_consumer_of_its_own(
    broker: Broker, run: str, tmp_path: Path
) -> None:
    sent = await some_run(broker, run)
    async with observing(broker, tmp_path) as client:
        subscription = await client.jetstream().pull_subscribe(
            run_filter(run), stream=STREAM, config=ConsumerConfig(name=f"outside-{run}")
        )
        messages = await subscription.fetch(len(sent), timeout=20)
        for stored, message in zip(sent, messages, strict=True):
            check(stored, message)


async def refusal(errors: asyncio.Queue[str]) -> str:
    """The subject that the broker refused next; nats-py gives it in lower case."""
    async with asyncio.timeout(20):
        found = re.search(r'permissions violation for publish to "(.+)"', await errors.get())
    assert found is not None
    return found.group(1)


async def test_an_observer_publishes_no_event(broker: Broker, run: str, tmp_path: Path) -> None:
    errors: asyncio.Queue[str] = asyncio.Queue()
    async with observing(broker, tmp_path, errors) as client:
        for subject in (
            subject_for(run, "swarm.agent.started.v1"),
            subject_for(run, "swarm.run.submitted.v1"),
            subject_for(run, "swarm.step.completed.v1", "coder"),
            "anything",
        ):
            await client.publish(subject, b"junk")
            assert await refusal(errors) == subject
    async with broker.joined("coordinator") as reader:
        assert [r async for r in reader.read(run_filter(run))] == []


async def test_an_observer_takes_no_work(broker: Broker, run: str, tmp_path: Path) -> None:
    errors: asyncio.Queue[str] = asyncio.Queue()
    async with broker.joined("coordinator") as coordinator:
        await coordinator.append(assigned(run))
    async with observing(broker, tmp_path, errors) as client:
        for request in (
            f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{queue_name('coder')}",
            f"$JS.API.CONSUMER.DELETE.{STREAM}.{queue_name('coder')}",
            f"$JS.ACK.{STREAM}.{queue_name('coder')}.1.1.1.1.0",
        ):
            with pytest.raises(nats.errors.TimeoutError):
                await client.request(request, b"", timeout=0.3)
            assert await refusal(errors) == request.lower()


async def test_an_observer_removes_nothing(broker: Broker, run: str, tmp_path: Path) -> None:
    errors: asyncio.Queue[str] = asyncio.Queue()
    (first, *_) = await some_run(broker, run)
    async with observing(broker, tmp_path, errors) as client:
        manager, look = client.jsm(timeout=0.3), client.jsm(timeout=20)
        before = (await look.stream_info(STREAM)).state.messages
        for attempt in (
            manager.purge_stream(STREAM),
            manager.purge_stream(STREAM, subject=run_filter(run)),
            manager.delete_msg(STREAM, first.stream_sequence),
            manager.delete_stream(STREAM),
            manager.update_stream(name=STREAM, subjects=["evt.>"], max_msgs=1),
        ):
            with pytest.raises(nats.errors.TimeoutError):
                await attempt
            assert (await refusal(errors)).startswith("$js.api.stream.")
        assert (await look.stream_info(STREAM)).state.messages == before


@pytest.mark.parametrize(
    "options",
    [{}, {"user": "admin", "pass": "admin"}, {"auth_token": "x"}, {"jwt": "x", "sig": "y"}],
)
async def test_nobody_connects_without_a_credential(
    broker: Broker, options: dict[str, str]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
    connect = json.dumps({"verbose": False, "headers": True, **options}).encode()
    writer.write(b"CONNECT " + connect + b"\r\nSUB evt.> 1\r\nPING\r\n")
    async with asyncio.timeout(20):
        answers = (await reader.read()).decode().splitlines()
    writer.close()
    await writer.wait_closed()
    assert answers[0].startswith("INFO ")
    assert answers[1:] == ["-ERR 'Authorization Violation'"]
