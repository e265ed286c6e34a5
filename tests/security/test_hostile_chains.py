"""An agent that spoils its own chain, or says again what others said, takes no run's evidence.

What it sends is validly signed and permitted: the broker stores it, readers may act on it. The
auditor raises the alarm, and whoever verifies the run's evidence is told, and still has a proof.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

import nats
import pytest
from nats.aio.client import Client

from bus import jwt
from bus.errors import MalformedEvent
from bus.event import Draft, Event, StoredEvent, derive_id
from bus.identity import credentials_file
from bus.log import EventLog
from bus.nkey import AgentKey
from bus.payloads import ChainBroken, RunCompleted, StepClaimed
from bus.signing import ChainHead, Sender
from bus.subjects import SYSTEM_RUN, TRUST_RUN, run_filter, subject_for
from policies.capabilities import inbox_prefix
from serve.evidence import Anchors, bundle_of
from storage.evidence import Evidence, EvidenceReader
from storage.note import VerifierKey
from storage.postgres import Pool
from swarm.verify import Proven, verify
from tests.auditing import LOG_KEY, ORIGIN, auditing, until_audited
from tests.broker import Broker
from tests.integration.storage.conftest import dsn, pool, postgres, template
from tests.swarming import ScriptedAnswers, submission, team, until_end

__all__ = ["dsn", "pool", "postgres", "template"]
MOST_TAIL = 10_000
UNCAUSED = "it answers an event that is not in the run before it"


@dataclass(frozen=True)
class Scene:
    """A run that has ended, with everybody still there; and who audits."""

    broker: Broker
    pool: Pool
    run: str
    auditor: EventLog

    async def events(self, run: str) -> list[StoredEvent]:
        found = [received async for received in self.auditor.read(run_filter(run))]
        assert all(isinstance(received, StoredEvent) for received in found)
        return [received for received in found if isinstance(received, StoredEvent)]

    async def proven(self) -> Proven:
        """What the run's evidence shows to who trusts the operator's key."""
        await until_audited(self.auditor, self.pool)
        reader, root = EvidenceReader(self.pool), self.broker.authority
        checkpoint = await reader.checkpoint()
        assert checkpoint is not None
        evidence = await reader.evidence(self.run, checkpoint, most_tail=MOST_TAIL)
        assert isinstance(evidence, Evidence)
        key = VerifierKey(name=ORIGIN, public_key=LOG_KEY.verify_key.encode())
        claims: jwt.Claims = {
            "name": ORIGIN,
            "sub": str(key),
            "nats": {"type": "generic", "version": 2, "tags": ["log"]},
        }
        anchors = Anchors(
            operator=root.operator_public_key,
            account_jwt=root.account_jwt,
            log_key_jwt=jwt.encode(claims, root.root_key),
            policies=(),
        )
        return verify(bundle_of(evidence, anchors), root.operator_public_key)

    async def alarms(self) -> set[int]:
        """Stream sequences of which the auditor or the coordinator said that a chain is broken."""
        await until_audited(self.auditor, self.pool)
        wanted = subject_for(SYSTEM_RUN, ChainBroken.TYPE)
        found = [
            received.payload()
            async for received in self.auditor.read(wanted)
            if isinstance(received, StoredEvent)
        ]
        return {each.stream_sequence for each in found if isinstance(each, ChainBroken)}


@dataclass(frozen=True)
class Traitor:
    """A coder with a valid credential and a client of its own."""

    sender: Sender
    client: Client

    def claim(self, run: str, name: str, cause: str | None = None) -> Draft:
        payload = StepClaimed(
            step="code", iteration=9, attempt=1, epoch=1, agent=self.sender.credential.name
        )
        return Draft(
            run=run,
            payload=payload,
            id=derive_id("hostile", run, name),
            suffix=("coder",),
            cause=cause,
        )

    async def say(self, event: Event, message_id: str | None = None) -> int:
        """Publish what is signed, under whatever message id; where the stream has it."""
        headers = dict(event.headers)
        if message_id is not None:
            headers["Nats-Msg-Id"] = message_id
        stream = self.client.jetstream()
        stored = await stream.publish(event.subject, event.data, headers=headers, timeout=5)
        assert not stored.duplicate
        return int(stored.seq)


@pytest.fixture
async def scene(broker: Broker, pool: Pool) -> AsyncIterator[Scene]:
    run = f"r{uuid4().hex[:20]}"
    async with team(broker, ScriptedAnswers()), auditing(broker, pool) as auditor:
        async with broker.joined("gateway", f"gateway-{uuid4().hex[:8]}") as gateway:
            await gateway.append(submission(run))
            assert (await until_end(gateway, run))[-1].event.type == RunCompleted.TYPE
        yield Scene(broker, pool, run, auditor)


@pytest.fixture
async def traitor(broker: Broker) -> AsyncIterator[Traitor]:
    key = AgentKey.generate()
    credential = broker.credential("coder", f"coder-{uuid4().hex[:8]}", key)
    await broker.announce(credential)
    creds = broker.directory / f"{credential.public_key}.creds"
    creds.write_text(credentials_file(credential, key))
    client = await nats.connect(
        broker.url, user_credentials=str(creds), inbox_prefix=inbox_prefix(key.public).encode()
    )
    yield Traitor(Sender(key, credential, broker.policy), client)
    await client.close()


async def told(scene: Scene, added: Sequence[int], expected: Sequence[str]) -> None:
    """See that everything is accepted, alarmed where it is found, and proven."""
    events = await scene.events(scene.run)
    proven = await scene.proven()
    assert (proven.accepted, dict(proven.refused)) == (len(events), {})
    assert [found.stream_sequence for found in proven.findings] == list(added)
    assert await scene.alarms() >= set(added)
    for found, what in zip(proven.findings, expected, strict=True):
        assert what in found.what


async def test_a_run_that_nobody_spoils_is_proven_without_a_finding(scene: Scene) -> None:
    await told(scene, [], [])


async def test_what_another_agent_said_is_said_again_and_the_run_stays_proven(
    scene: Scene, traitor: Traitor
) -> None:
    """Under no message id and under another one: the stream knows neither again."""
    (first, *_) = [
        each.event
        for each in await scene.events(scene.run)
        if (each.event.role, each.event.type) == ("coder", StepClaimed.TYPE)
    ]
    added = [await traitor.say(first), await traitor.say(first, message_id="another")]
    await told(scene, added, ["once more", "once more"])


async def test_a_forked_number_and_a_chain_that_does_not_join_leave_the_run_proven(
    scene: Scene, traitor: Traitor
) -> None:
    sender, run = traitor.sender, scene.run
    first = sender.sign(traitor.claim(run, "first"))
    await traitor.say(first)
    added = [await traitor.say(sender.sign(traitor.claim(run, "fork")))]
    sender.head = ChainHead(sequence=1, digest="1" * 64)
    added.append(await traitor.say(sender.sign(traitor.claim(run, "loose"))))
    await told(scene, added, ["is another event 1 of its sender", "it does not follow"])


async def test_a_cause_that_nobody_has_seen_leaves_the_run_proven(
    scene: Scene, traitor: Traitor
) -> None:
    added = [await traitor.say(traitor.sender.sign(traitor.claim(scene.run, "odd", "nothing")))]
    await told(scene, added, [UNCAUSED])


async def test_a_name_that_nobody_could_repeat_is_refused_and_all_work_goes_on(
    scene: Scene, traitor: Traitor
) -> None:
    """Who answers an event or tells of it repeats its id: in a payload, a header, a column."""
    claim, huge = traitor.claim(scene.run, "odd"), "x" * 60_000
    odd = [
        *(replace(claim, id=name) for name in ("\0", "x" * 65, "two words", huge)),
        *(replace(claim, cause=name) for name in ("\0", "x" * 65, "\u2028", huge)),
        *(replace(claim, on_behalf_of=name) for name in ("\0", "x" * 129, huge)),
    ]
    for at, draft in enumerate(odd):
        await traitor.say(traitor.sender.sign(draft), message_id=f"odd-{at}")
    proven = await scene.proven()
    assert dict(proven.refused) == {MalformedEvent.code: len(odd)}
    assert not proven.findings
    async with scene.broker.joined("gateway", f"gateway-{uuid4().hex[:8]}") as gateway:
        after = f"r{uuid4().hex[:20]}"
        await gateway.append(submission(after))
        assert (await until_end(gateway, after))[-1].event.type == RunCompleted.TYPE


async def test_an_agent_that_speaks_among_the_events_of_trust_leaves_every_run_proven(
    scene: Scene, traitor: Traitor
) -> None:
    """They come along with the evidence of each run."""
    event = traitor.sender.sign(traitor.claim(TRUST_RUN, "here"))
    await traitor.say(event)
    added = [await traitor.say(event)]
    await told(scene, added, ["once more"])
