"""Complete parts in memory for the gateway: a log that signs, users, a throttle, a model."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import httpx
from argon2 import PasswordHasher
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import JsonValue

from actors.authority import vouch
from actors.sparc import SPARC
from actors.workflow import WorkflowSpec
from bus.errors import BadSignature, BusUnreachable, PublishConflict
from bus.event import Draft, StoredEvent, derive_id
from bus.identity import Authority
from bus.log import Expected
from bus.nkey import AgentKey
from bus.payloads import (
    ApprovalRequested,
    AssignmentDead,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunSubmitted,
    StepAssigned,
    StepClaimed,
    StepCompleted,
    Usage,
)
from bus.received import Received, RefusedEvent
from bus.signing import Sender
from bus.subjects import kind_of, subject_for
from policies.api_keys import make_key
from policies.capabilities import Capabilities
from policies.pace import Pace
from policies.passwords import Passwords
from policies.roles import Role
from policies.token_keys import KeyRing, TokenKeys
from policies.tokens import DEFAULT_TTL_S
from serve.allowance import Allowances
from serve.app import create_app
from serve.attempts import Attempts
from serve.callers import Callers
from serve.completion import Task
from serve.metering import Meter
from serve.people import People, PeopleRules
from serve.people_events import PeopleEvents
from serve.ports import GatewayParts, Limits, Probe
from storage.audit_reader import AuditSummary, StoredCheckpoint
from storage.evidence import Evidence, TailTooLong
from storage.run_owners import RunOwner
from storage.users import username_key
from tests.evidence import Ledger
from tests.unit.serve.fake_memory import FakeMemory
from tests.unit.serve.fake_people import (
    NOW,
    MemoryApiKeys,
    MemoryOwners,
    MemoryRates,
    MemorySessions,
    MemoryThrottle,
    MemoryUsers,
)
from tests.unit.serve.fake_usage import MemoryCounters, MemoryUsage

PASSWORD = "correct horse battery staple"
MODEL = "smollm2-135m"
BASE_URL = "http://gateway.test"
UMA = "00000000-0000-0000-0000-000000000002"
"""The id of the user uma."""
RESEARCH: dict[str, JsonValue] = {"findings": ["Parsers read text."], "risks": ["None."]}


def _sealed(received: Received) -> Received:
    """As it is stored."""
    if not isinstance(received, StoredEvent):
        return received
    return replace(received, event=replace(received.event, opened=None))


def matches(subject_filter: str, subject: str) -> bool:
    """NATS wildcards: * stands for one token, > at the end for one or more."""
    wanted, tokens = subject_filter.split("."), subject.split(".")
    if wanted[-1] == ">" and len(tokens) >= len(wanted):
        wanted, tokens = wanted[:-1], tokens[: len(wanted) - 1]
    return len(wanted) == len(tokens) and all(
        want in ("*", token) for want, token in zip(wanted, tokens, strict=True)
    )


class MemoryLog:
    """The log as a list, with the promises of bus.log.EventLog; really signed."""

    def __init__(self) -> None:
        self.stored: list[Received] = []
        self.down = False
        self.reads = 0
        self.forgotten: set[str] = set()
        self._authority = Authority.create()
        self._policy = Capabilities.shipped()
        self._senders: dict[tuple[str, str], Sender] = {}
        self._grown = asyncio.Condition()

    async def append(self, draft: Draft, *, expected: Expected | None = None) -> StoredEvent:
        return await self.append_as("gateway", "gateway-1", draft, expected=expected)

    async def append_as(
        self, role: str, agent: str, draft: Draft, *, expected: Expected | None = None
    ) -> StoredEvent:
        self._check_up()
        known = self._known(draft.id)
        if known is not None:
            return known
        if expected is not None and self._last_on(expected.subject_filter) != (
            expected.stream_sequence
        ):
            raise PublishConflict
        sender = self._sender(role, agent)
        event = sender.sign(draft if draft.about is None else draft.sealed_under(bytes(32)))
        sender.advance(event)
        stored = StoredEvent(
            event=event, stream_sequence=len(self.stored) + 1, stored_at=datetime.now(UTC)
        )
        await self._add(stored)
        return stored

    async def append_refused(self, run: str, event_type: str, *suffix: str) -> None:
        """Something forged on a subject of the run."""
        await self._add(
            RefusedEvent(
                subject=subject_for(run, event_type, *suffix),
                headers={},
                data=b'{"document": "forged"}',
                stream_sequence=len(self.stored) + 1,
                stored_at=datetime.now(UTC),
                error=BadSignature(),
            )
        )

    async def read(
        self, subject_filter: str, *, after: int = 0, unseal: bool = True
    ) -> AsyncGenerator[Received, None]:
        self._check_up()
        self.reads += 1
        for received in self.stored[after:]:
            if matches(subject_filter, _subject_of(received)):
                yield received if unseal else _sealed(received)

    async def follow(
        self, subject_filter: str, *, after: int = 0
    ) -> AsyncGenerator[Received, None]:
        position = after
        while True:
            async with self._grown:
                while not self.down and len(self.stored) <= position:
                    await self._grown.wait()
            self._check_up()
            for received in self.stored[position:]:
                position = received.stream_sequence
                if matches(subject_filter, _subject_of(received)):
                    yield received

    async def keeps(self, subject: str) -> bool:
        self._check_up()
        return subject not in self.forgotten

    async def last_sequence(self) -> int:
        self._check_up()
        return len(self.stored)

    def erase(self) -> None:
        """Have everything said in the log erased, as for who was forgotten."""
        for n, stored in enumerate(self.stored):
            if isinstance(stored, StoredEvent):
                self.stored[n] = replace(
                    stored, event=replace(stored.event, opened=None, is_erased=True)
                )

    def of_kind(self, kind: str, run: str | None = None) -> list[StoredEvent]:
        """What was stored of one kind, of one run or of all."""
        return [
            stored
            for stored in self.stored
            if isinstance(stored, StoredEvent)
            and kind_of(stored.event.type) == kind
            and run in (None, stored.event.run)
        ]

    async def break_down(self) -> None:
        """The broker is gone; whoever follows the log notices."""
        async with self._grown:
            self.down = True
            self._grown.notify_all()

    def _known(self, event_id: str) -> StoredEvent | None:
        for known in self.stored:
            if isinstance(known, StoredEvent) and known.event.id == event_id:
                return known
        return None

    def _check_up(self) -> None:
        if self.down:
            raise BusUnreachable

    def _last_on(self, subject_filter: str) -> int:
        on = [r.stream_sequence for r in self.stored if matches(subject_filter, _subject_of(r))]
        return max(on, default=0)

    def _sender(self, role: str, agent: str) -> Sender:
        if (role, agent) not in self._senders:
            key = AgentKey.generate()
            credential = vouch(self._authority, self._policy, key.public, role=role, name=agent)
            self._senders[role, agent] = Sender(key, credential, self._policy)
        return self._senders[role, agent]

    async def _add(self, received: Received) -> None:
        async with self._grown:
            self.stored.append(received)
            self._grown.notify_all()


def _subject_of(received: Received) -> str:
    return received.event.subject if isinstance(received, StoredEvent) else received.subject


class MemoryAudit:
    def __init__(self) -> None:
        self.summaries: dict[str, AuditSummary] = {}
        self.ledger = Ledger()
        self.ledger_sizes: list[int] = []
        """Of the checkpoints that were signed."""
        self.cosignatures: dict[int, list[str]] = {}

    async def summary(self, run: str) -> AuditSummary:
        empty = AuditSummary(
            run=run, events=0, accepted=0, refused=0, tree_size=7, root="ab" * 32, checkpoint=None
        )
        return self.summaries.get(run, empty)

    async def checkpoint(
        self, size: int | None = None, *, cosigned: bool = False
    ) -> StoredCheckpoint | None:
        sizes = self.cosignatures if cosigned else self.ledger_sizes
        known = [each for each in sizes if size in (None, each)]
        if not known:
            return None
        found = self.ledger.checkpoint(max(known))
        return replace(found, cosignatures=self.cosignatures.get(found.size, []))

    async def inclusion(self, leaf_index: int, size: int) -> tuple[bytes, ...]:
        return tuple(self.ledger.inclusion(leaf_index, size))

    async def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        return tuple(self.ledger.consistency(old, new))

    async def evidence(
        self, run: str, checkpoint: StoredCheckpoint, *, most_tail: int
    ) -> Evidence | TailTooLong | None:
        if all(record.run != run for record in self.ledger.records[: checkpoint.size]):
            return None
        found = self.ledger.evidence(size=checkpoint.size)
        if len(found.tail) > most_tail:
            last = checkpoint.size - len(found.tail) - 1
            return TailTooLong(leaves=len(found.tail), last_leaf=last)
        return found


class EchoModel:
    """Says back the last message, word by word; or what it was told to say."""

    def __init__(self) -> None:
        self.requests: list[dict[str, JsonValue]] = []
        self.tasks: list[Task] = []
        self.says: list[str | Exception] | None = None
        self.closed = 0
        self.gate: asyncio.Event | None = None
        self.waiting = asyncio.Event()
        self.deadline_s = 0.0

    async def stream(
        self, request: dict[str, JsonValue], *, deadline_s: float, task: Task = "chat"
    ) -> AsyncGenerator[str, None]:
        self.requests.append(request)
        self.tasks.append(task)
        self.deadline_s = deadline_s
        try:
            if self.gate is not None:
                self.waiting.set()
                await self.gate.wait()
            for piece in self._pieces(request) if self.says is None else self.says:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            self.closed += 1

    async def models(self) -> dict[str, JsonValue]:
        return {"object": "list", "data": [{"id": MODEL, "object": "model"}]}

    def _pieces(self, request: dict[str, JsonValue]) -> list[str]:
        if "input" in request:
            return [json.dumps({"object": "list", "data": [], "model": request["model"]})]
        messages = request.get("messages", [{"content": request.get("prompt")}])
        assert isinstance(messages, list)
        assert isinstance(messages[-1], dict)
        text = str(messages[-1].get("content"))
        if request.get("stream"):
            return [
                json.dumps({"model": MODEL, "choices": [{"delta": {"content": word}, "index": 0}]})
                for word in text.split()
            ]
        answer = {
            "model": MODEL,
            "choices": [
                {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            ],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        }
        return [json.dumps(answer)]


@dataclass
class Fakes:
    """The parts, each within reach of a test."""

    log: MemoryLog = field(default_factory=MemoryLog)
    record: MemoryLog = field(default_factory=MemoryLog)
    """Attempts of people; apart from the log, so that tests of runs may count events."""
    users: MemoryUsers = field(default_factory=MemoryUsers)
    throttle: MemoryThrottle = field(default_factory=MemoryThrottle)
    rates: MemoryRates = field(default_factory=MemoryRates)
    owners: MemoryOwners = field(default_factory=MemoryOwners)
    rules: PeopleRules = field(default_factory=PeopleRules)
    audit: MemoryAudit = field(default_factory=MemoryAudit)
    model: EchoModel = field(default_factory=EchoModel)
    usage: MemoryUsage = field(default_factory=MemoryUsage)
    counters: MemoryCounters = field(default_factory=MemoryCounters)
    probes: dict[str, Probe] = field(default_factory=dict)
    workflows: dict[str, WorkflowSpec] = field(default_factory=lambda: {"sparc": SPARC})
    now: datetime = NOW

    def __post_init__(self) -> None:
        hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        self.passwords = Passwords(hasher)
        stored = hasher.hash(PASSWORD)
        self.users.add("Ada", "admin", stored)
        self.users.add("uma", "user", stored)
        self.users.add("vic", "viewer", stored)
        self.users.add("off", "user", stored, disabled=True)
        self.policy = Capabilities.shipped()
        self.role_models: dict[str, str] = {}
        self.chat_pace = Pace("unlimited")
        self.sessions = MemorySessions(self.users)
        self.api_keys = MemoryApiKeys(self.users)
        self.ring = KeyRing(signing=Ed25519PrivateKey.generate())
        self.tokens = TokenKeys(
            lambda: self.ring, issuer="swarm", audience="gateway", life_s=DEFAULT_TTL_S
        )
        self.seconds = 0.0
        self.memory = FakeMemory(getattr(self.log, "stored", []))  # a real log has none
        self.attempts = Attempts(self.record, b"a key", monotonic=lambda: self.seconds)
        self.events = PeopleEvents(self.users.outbox, self.record, pause_s=0.01)

    def parts(self, limits: Limits | None = None) -> GatewayParts:
        return GatewayParts(
            log=self.log,
            people=self.people(),
            audit=self.audit,
            memory=self.memory.ports(),
            anchors=self.audit.ledger.anchors(),
            model=self.model,
            meter=self.meter(),
            usage=self.usage,
            workflows=self.workflows,
            model_name=MODEL,
            role_models=self.role_models,
            probes=self.probes,
            limits=limits or Limits(),
            policy=self.policy,
            chat_pace=self.chat_pace,
            clock=lambda: self.now,
        )

    def meter(self) -> Meter:
        def clock() -> datetime:
            return self.now

        allowances = Allowances(
            counters=self.counters, books=self.usage, stream=self.record, clock=clock, life_s=60.0
        )
        return Meter(self.record, self.policy, allowances, clock)

    def people(self) -> People:
        return People(
            users=self.users,
            passwords=self.passwords,
            sessions=self.sessions,
            api_keys=self.api_keys,
            tokens=self.tokens,
            throttle=self.throttle,
            rates=self.rates,
            callers=Callers(
                tokens=self.tokens,
                sessions=self.sessions,
                api_keys=self.api_keys,
                attempts=self.attempts,
                monotonic=lambda: self.seconds,
            ),
            attempts=self.attempts,
            events=self.events,
            owners=self.owners,
            rules=self.rules,
        )

    def have_audited(self, ledger: Ledger, sizes: list[int], run: str = "r1") -> None:
        """The audit log is that ledger, with checkpoints of these sizes; its run is uma's."""
        self.audit.ledger, self.audit.ledger_sizes = ledger, sizes
        uma = self.users.users[username_key("uma")]
        self.owners.owners[run] = RunOwner(user=str(uma.id), tenant="default")

    def token(self, name: str = "uma") -> str:
        """An access token of a session of that user's own."""
        user = self.users.users[username_key(name)]
        session = self.sessions.begin(user.id, now=self.now)
        return self.tokens.issue(
            str(user.id), user.username, Role(user.role), session=str(session.id), now=self.now
        )

    def id_of(self, name: str) -> str:
        return str(self.users.users[username_key(name)].id)

    def api_key(self, name: str, *scopes: str) -> str:
        """A key of that user with those scopes."""
        key = make_key()
        self.api_keys.add(
            self.users.users[username_key(name)].id,
            prefix=key.prefix,
            digest=key.digest,
            scopes=frozenset(scopes),
            now=self.now,
        )
        return key.text

    @asynccontextmanager
    async def client(
        self,
        name: str | None = "uma",
        limits: Limits | None = None,
        parts: GatewayParts | None = None,
    ) -> AsyncGenerator[httpx.AsyncClient, None]:
        """A client of the gateway over these parts, with that user's token or with none.

        At the end what was noted of people is passed on.
        """
        headers = {} if name is None else {"Authorization": f"Bearer {self.token(name)}"}
        transport = httpx.ASGITransport(create_app(parts or self.parts(limits)))
        async with httpx.AsyncClient(
            transport=transport, base_url=BASE_URL, headers=headers
        ) as client:
            yield client
        await self.events.flush()


async def submit(
    log: MemoryLog, run: str = "r1", workflow: str = "sparc", by: str = UMA, **more: Any
) -> StoredEvent:
    """A run is handed in."""
    payload = RunSubmitted(
        objective="Write a parser.", workflow=workflow, model=MODEL, requested_by="uma", **more
    )
    return await log.append(
        Draft(run=run, payload=payload, id=derive_id("run.submitted", run), on_behalf_of=by)
    )


async def do_step(
    log: MemoryLog,
    run: str,
    *,
    step: str,
    role: str,
    answer: Mapping[str, JsonValue],
    item: int = 0,
) -> None:
    """A step, or one part of it, is assigned, claimed and completed."""
    names: Any = {"step": step, "iteration": 1, "attempt": 1, "item": item}
    assigned_id = derive_id("step.assigned", run, step, "1", str(item), "1")
    assigned = StepAssigned(
        **names, role=role, objective="Write a parser.", inputs={}, deadline_s=60.0
    )
    await log.append_as(
        "coordinator",
        "coordinator",
        Draft(run=run, payload=assigned, id=assigned_id, suffix=(role, "normal")),
    )
    claim_id = derive_id("step.claimed", assigned_id, "1")
    agent = f"{role}-1"
    claimed = StepClaimed(**names, epoch=1, agent=agent)
    await log.append_as(
        role,
        agent,
        Draft(run=run, payload=claimed, id=claim_id, suffix=(role,), cause=assigned_id),
    )
    completed = StepCompleted(
        **names,
        epoch=1,
        answer=dict(answer),
        model=MODEL,
        usage=Usage(prompt_tokens=30, completion_tokens=12),
        duration_ms=1_500,
    )
    await log.append_as(
        role,
        agent,
        Draft(
            run=run,
            payload=completed,
            id=derive_id("step.completed", claim_id),
            suffix=(role,),
            cause=claim_id,
        ),
    )


async def complete(log: MemoryLog, run: str, document: str = "# Done") -> None:
    """The run ends well."""
    payload = RunCompleted(
        document=document, steps=1, usage=Usage(prompt_tokens=30, completion_tokens=12)
    )
    await _end(log, run, payload)


async def fail(log: MemoryLog, run: str) -> None:
    """The run ends badly."""
    await _end(log, run, RunFailed(code="step_failed", message="No agent could.", step="research"))


async def cancelled(log: MemoryLog, run: str) -> None:
    """The coordinator ends the run, as a person asked."""
    await _end(log, run, RunCancelled(requested_by="uma", reason="no need"))


async def _end(log: MemoryLog, run: str, payload: RunCompleted | RunFailed | RunCancelled) -> None:
    """An end for each time that the run was taken up."""
    retries = len(log.of_kind("retry.requested", run))
    parts = ("run.ended", run, *([str(retries)] if retries else []))
    draft = Draft(run=run, payload=payload, id=derive_id(*parts))
    await log.append_as("coordinator", "coordinator", draft)


async def ask_approval(
    log: MemoryLog, run: str = "r1", step: str = "research", asked: int = 1
) -> str:
    """The coordinator asks people whether a step may begin; the id of the approval."""
    payload = ApprovalRequested(step=step, iteration=1, role="researcher")
    draft = Draft(
        run=run, payload=payload, id=derive_id("approval.requested", run, step, str(asked))
    )
    return (await log.append_as("coordinator", "coordinator", draft)).event.id


async def give_up(log: MemoryLog, run: str = "r1", step: str = "research") -> str:
    """An agent gives an assignment up; the id of the dead letter."""
    payload = AssignmentDead(
        step=step,
        iteration=1,
        attempt=1,
        epoch=5,
        deliveries=5,
        reason="handed out 5 times, never brought to an end",
    )
    draft = Draft(
        run=run,
        payload=payload,
        id=derive_id("assignment.dead", run, step),
        suffix=("researcher",),
    )
    return (await log.append_as("researcher", "researcher-1", draft)).event.id


def quick(*, heartbeat_s: float = 0.02, stream_life_s: float = 3_600.0) -> Limits:
    """Limits for a test that waits for one of them."""
    return Limits(heartbeat_s=heartbeat_s, stream_life_s=stream_life_s)
