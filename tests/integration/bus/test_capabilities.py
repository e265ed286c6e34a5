"""The broker lets each role do what the policy says, and nothing else."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from bus.connection import Connection, StreamRefusal
from bus.errors import PublishDenied
from bus.nkey import AgentKey
from bus.payloads import PAYLOADS
from bus.provision import provision
from bus.reference import OBJECTS
from bus.subjects import KEY_KINDS, ROLE_KINDS, STREAM, kind_of, parse, subject_for
from policies.capabilities import queue_name
from tests.broker import Broker

KEY = AgentKey.generate().public
WORKERS = ("specifier", "planner", "researcher", "architect", "coder", "critic", "tester", "judge")
ROLES = (*WORKERS, "launcher", "authority", "gateway", "coordinator", "auditor", "observer")


def subjects_of(run: str) -> list[str]:
    found = []
    for event_type in PAYLOADS:
        kind = kind_of(event_type)
        if kind == "step.assigned":
            found += [subject_for(run, event_type, role, "normal") for role in WORKERS]
        elif kind in ROLE_KINDS:
            found += [subject_for(run, event_type, role) for role in WORKERS]
        elif kind in KEY_KINDS:
            found.append(subject_for(run, event_type, KEY))
        else:
            found.append(subject_for(run, event_type))
    return found


@pytest.fixture(scope="module")
async def scratch(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    """A broker whose log may fill with junk."""
    broker = Broker(tmp_path_factory.mktemp("scratch"))
    await broker.start()
    await broker.provision()
    yield broker
    await broker.stop()


async def may_publish(connection: Connection, subject: str) -> bool:
    try:
        async with asyncio.timeout(20):
            await connection.publish(subject, b"junk", {}, timeout_s=60)
    except PublishDenied:
        return False
    return True


def inbox_of(role: str, public_key: str) -> str:
    return "_INBOX" if role == "observer" else f"_INBOX_{public_key}"


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_publishes_where_the_policy_says_and_nowhere_else(
    scratch: Broker, role: str
) -> None:
    key = AgentKey.generate()
    credential = scratch.credential(role, f"{role}-1", key)
    connection = await Connection.open(
        scratch.url, key, credential, inbox=inbox_of(role, key.public)
    )
    try:
        for subject in (*subjects_of("r1"), *subjects_of("R-upper_1")):
            allowed = scratch.policy.refusal(role, parse(subject)) is None
            assert await may_publish(connection, subject) == allowed, subject
    finally:
        await connection.close()


@pytest.mark.parametrize("role", WORKERS)
async def test_a_worker_can_neither_read_the_log_by_consumer_nor_change_it(
    scratch: Broker, role: str
) -> None:
    async with scratch.connected(role) as (connection, _):
        for request in (
            f"CONSUMER.CREATE.{STREAM}.mine",
            f"CONSUMER.CREATE.{STREAM}",
            f"STREAM.DELETE.{STREAM}",
            f"STREAM.PURGE.{STREAM}",
            f"STREAM.MSG.DELETE.{STREAM}",
            f"CONSUMER.DELETE.{STREAM}.{queue_name(role)}",
        ):
            assert not await may_publish(connection, f"$JS.API.{request}"), request


@pytest.mark.parametrize(
    "header",
    [
        {"Nats-Rollup": "all"},  # would replace the whole log
        {"Nats-Rollup": "sub"},  # would replace what stands on the subject
        {"Nats-TTL": "1s"},  # would make the event vanish
    ],
)
async def test_no_header_makes_the_stream_forget(scratch: Broker, header: dict[str, str]) -> None:
    async with scratch.connected("coder") as (connection, _):
        subject = subject_for("r1", "swarm.agent.started.v1")
        with pytest.raises(StreamRefusal, match="not permitted|disabled"):
            await connection.publish(subject, b"", header, timeout_s=20)


async def test_an_inbox_of_another_credential_cannot_be_listened_to(scratch: Broker) -> None:
    async with (
        scratch.connected("coder") as (victim, _),
        scratch.connected("gateway") as (spy, _),
    ):
        heard = await spy.client.subscribe(f"{victim.new_inbox().rsplit('.', 1)[0]}.>")
        everything = await spy.client.subscribe(">")
        await spy.client.flush()
        assert await victim.last_message(subject_for("r1", "swarm.run.failed.v1")) is not None
        await spy.client.flush()
        assert (heard.pending_msgs, everything.pending_msgs) == (0, 0)


async def test_provisioning_again_brings_the_stream_to_its_configuration(
    scratch: Broker,
) -> None:
    async with scratch.connected("launcher") as (connection, _):
        for max_bytes, lease_s in ((1 << 27, 3.0), (1 << 28, 2.0)):
            await provision(
                connection,
                queues={"coder": queue_name("coder")},
                lease_s=lease_s,
                max_bytes=max_bytes,
            )
            stream = await connection.manager.stream_info(STREAM)
            queue = await connection.manager.consumer_info(STREAM, queue_name("coder"))
            objects = await connection.manager.stream_info(OBJECTS)
            assert stream.config.max_bytes == max_bytes * 3 // 4
            assert objects.config.max_bytes == max_bytes // 4
            for config in (stream.config, objects.config):
                assert (config.deny_delete, config.deny_purge) == (True, False)
            assert queue.config.ack_wait == lease_s
            assert stream.state.messages > 0


async def test_a_refusal_of_the_stream_passes_through_a_context_manager(scratch: Broker) -> None:
    """An exception that cannot be given a traceback would turn into another one here."""
    with pytest.raises(StreamRefusal) as caught:  # noqa: PT012 - the way out of the block is tested
        async with scratch.connected("coder") as (connection, _):
            subject = subject_for("r1", "swarm.agent.started.v1")
            await connection.publish(subject, b"", {"Nats-TTL": "1s"}, timeout_s=20)
    assert caught.value.code == 10166
