"""Sender, broker, receiver: each is compromised in turn, and the message still has no effect.

Effect is what a coordinator makes of it, and the record is the auditor's. The sender in each
attack is an agent with a valid credential that wants a run to end in its favour.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import uuid4

import nats
import pytest
from nats.js.errors import Error as JetStreamError

from bus.connection import Connection
from bus.errors import NotPermitted, PublishDenied
from bus.event import Draft, Event, StoredEvent, derive_id
from bus.identity import Credential, Permissions, credentials_file
from bus.log import EventLog
from bus.nkey import AgentKey
from bus.payloads import EventRefused, RunCompleted, StepAssigned, Usage
from bus.received import RefusedEvent
from bus.signing import Consumption, Sender
from bus.subjects import Subject, run_filter, subject_for
from policies.capabilities import inbox_prefix
from storage.audit_reader import AuditReader
from storage.postgres import Pool
from tests.auditing import auditing, until_audited
from tests.broker import Broker
from tests.integration.storage.conftest import dsn, pool, postgres, template
from tests.swarming import coordinator, submission

__all__ = ["dsn", "pool", "postgres", "template"]

NOTHING = Usage(prompt_tokens=0, completion_tokens=0)
EVERYTHING = Permissions(publish=(">",), subscribe=(">",))


class Anything:
    """A policy that a patched sender asks instead: it claims the real one, and allows all."""

    def __init__(self, digest: str) -> None:
        self.digest = digest

    def refusal(self, role: str, subject: Subject) -> str | None:  # noqa: ARG002 - the port has it
        return None

    def consumption_refusal(self, role: str, what: Consumption) -> str | None:  # noqa: ARG002
        return None


@dataclass(frozen=True)
class Scene:
    """A run that goes on, with a coordinator and an auditor; and who looks on."""

    broker: Broker
    pool: Pool
    run: str
    log: EventLog

    @property
    def forged(self) -> Draft:
        """The end of the run, as only a coordinator may say it."""
        payload = RunCompleted(document="bought", steps=0, usage=NOTHING)
        return Draft(run=self.run, payload=payload, id=derive_id("run.ended", self.run))

    async def goes_on(self) -> None:
        """See that the run has not ended, whatever the coordinator has read meanwhile.

        A second run that it takes up after the attack shows that it has read that far.
        """
        after = f"r{uuid4().hex[:20]}"
        await self.log.append(submission(after))
        await self._assigned(after)
        async for received in self.log.read(run_filter(self.run)):
            if isinstance(received, StoredEvent):
                assert received.event.type != RunCompleted.TYPE

    async def begun(self) -> None:
        await self.log.append(submission(self.run))
        await self._assigned(self.run)

    async def refusals(self) -> list[EventRefused]:
        """What the log and the audit log say was refused in the run; they say the same."""
        await until_audited(self.log, self.pool)
        found, refused = [], set()
        async for received in self.log.read(run_filter(self.run)):
            if isinstance(received, RefusedEvent):
                refused.add(received.stream_sequence)
            elif isinstance(payload := received.payload(), EventRefused):
                found.append(payload)
        rows = await AuditReader(self.pool).stretch(after=0, until=await self.log.last_sequence())
        audited = {
            row.record.stream_sequence
            for row in rows
            if row.record.run == self.run and row.record.verdict == "refused"
        }
        assert refused == audited == {each.stream_sequence for each in found}
        return found

    async def _assigned(self, run: str) -> None:
        async with (
            asyncio.timeout(20),
            aclosing(self.log.follow(run_filter(run))) as events,
        ):
            async for received in events:
                if isinstance(received, StoredEvent) and received.event.type == StepAssigned.TYPE:
                    return


@pytest.fixture
async def scene(broker: Broker, pool: Pool) -> AsyncIterator[Scene]:
    async with (
        broker.joined("gateway", f"gateway-{uuid4().hex[:8]}") as log,
        coordinator(broker),
        auditing(broker, pool),
    ):
        made = Scene(broker, pool, f"r{uuid4().hex[:20]}", log)
        await made.begun()
        yield made


@asynccontextmanager
async def traitor(
    broker: Broker, *, permissions: Permissions | None = None, role: str = "coder"
) -> AsyncIterator[EventLog]:
    """An announced agent whose sender does not ask the policy.

    Args:
        broker: to join.
        permissions: of its credential, if they are not those of its role.
        role: what its credential says that it is.
    """
    key = AgentKey.generate()
    credential = broker.credential(role, f"{role}-traitor", key)
    if permissions is not None:
        credential = broker.authority.issue(
            key.public,
            role=role,
            name=credential.name,
            permissions=permissions,
            ttl=timedelta(hours=1),
        )
    async with AsyncExitStack() as stack:
        connection = await Connection.open(
            broker.url, key, credential, inbox=inbox_prefix(key.public)
        )
        stack.push_async_callback(connection.close)
        await broker.announce(credential)
        patched = Anything(broker.policy.digest)
        sender = Sender(key, credential, patched)
        yield EventLog(connection, broker.trust(), patched, sender, deadline_s=5)


async def test_a_raw_client_with_a_valid_credential_is_stopped_by_the_broker_and_the_receivers(
    scene: Scene,
) -> None:
    """It needs no code of ours: what it may not say is not stored, the rest is not believed."""
    key = AgentKey.generate()
    credential: Credential = scene.broker.credential("coder", "coder-raw", key)
    await scene.broker.announce(credential)
    creds = scene.broker.directory / f"{credential.public_key}.creds"
    creds.write_text(credentials_file(credential, key))
    errors: list[Exception] = []

    async def note(error: Exception) -> None:
        errors.append(error)

    client = await nats.connect(
        scene.broker.url,
        user_credentials=str(creds),
        inbox_prefix=inbox_prefix(key.public).encode(),
        error_cb=note,
    )
    end = subject_for(scene.run, RunCompleted.TYPE)
    own = subject_for(scene.run, "swarm.step.completed.v1", "coder")
    try:
        with pytest.raises((nats.errors.Error, JetStreamError)):
            await client.jetstream().publish(end, b'{"document": "bought"}', timeout=1)
        assert any("permissions violation" in str(error).lower() for error in errors)
        await client.jetstream().publish(own, b'{"answer": {"code": "mine"}}', timeout=5)
    finally:
        await client.close()
    await scene.goes_on()
    (refused,) = await scene.refusals()
    assert (refused.subject, refused.code) == (own, "malformed_event")


async def test_a_sender_that_skips_its_own_check_is_stopped_by_the_broker(scene: Scene) -> None:
    async with traitor(scene.broker) as log:
        with pytest.raises(PublishDenied, match="the broker refused"):
            await log.append(scene.forged)
    await scene.goes_on()
    assert await scene.refusals() == []


async def test_a_broker_that_lets_everything_through_is_made_up_for_by_the_receivers(
    scene: Scene,
) -> None:
    """The credential, signed by the authority, allows all: the policy in the log does not."""
    async with traitor(scene.broker, permissions=EVERYTHING) as log:
        stored = await log.append(scene.forged)
    await scene.goes_on()
    (refused,) = await scene.refusals()
    assert (refused.stream_sequence, refused.code) == (stored.stream_sequence, NotPermitted.code)
    assert "has no capability to publish run.completed" in refused.reason


async def test_a_receiver_asks_for_the_role_of_the_credential_not_for_the_one_that_is_claimed(
    scene: Scene,
) -> None:
    async with traitor(scene.broker, permissions=EVERYTHING) as log:
        own = log.sender.credential
        claimed = replace(own, role="coordinator", name="coordinator-1")
        posing = Sender(log.sender.key, claimed, Anything(scene.broker.policy.digest))
        event = posing.sign(scene.forged)
        await log.connection.publish(event.subject, event.data, event.headers, timeout_s=5)
    await scene.goes_on()
    (refused,) = await scene.refusals()
    assert refused.code == NotPermitted.code
    assert "is not coder/coder-traitor" in refused.reason


async def test_a_sender_that_claims_a_policy_of_its_own_is_refused_by_every_receiver(
    scene: Scene,
) -> None:
    async with traitor(scene.broker, permissions=EVERYTHING, role="coordinator") as log:
        sender = Sender(log.sender.key, log.sender.credential, Anything("f" * 64))
        event: Event = sender.sign(scene.forged)
        await log.connection.publish(event.subject, event.data, event.headers, timeout_s=5)
    await scene.goes_on()
    (refused,) = await scene.refusals()
    assert refused.code == NotPermitted.code
    assert "its policy ffffffffffff is not known" in refused.reason


async def test_without_a_compromise_the_same_words_take_effect(scene: Scene) -> None:
    """The attacks above fail for the reason that is tested, and not for another."""
    async with scene.broker.joined("coordinator", "coordinator-2") as log:
        await log.append(scene.forged)
    async with asyncio.timeout(20), aclosing(scene.log.follow(run_filter(scene.run))) as events:
        async for received in events:
            if isinstance(received, StoredEvent) and received.event.type == RunCompleted.TYPE:
                break
    assert await scene.refusals() == []
