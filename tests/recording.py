"""A run's log without a broker: signed by all who speak in it, verified like a real one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from pydantic import JsonValue
from pydantic_core import from_json, to_json

from actors.command import draft_of
from actors.decide import decide, wake_at
from actors.definition import definition_of
from actors.fact import fact_of
from actors.record import RunState
from actors.run_state import fold
from actors.sparc import SPARC
from actors.workflow import WorkflowSpec
from bus.errors import MalformedEvent, UntrustedEvent
from bus.event import SIGNATURE_HEADER, Draft, Event, StoredEvent, derive_id
from bus.nkey import AgentKey, encode_base64url
from bus.payloads import (
    EventRefused,
    Payload,
    RetryRequested,
    RunSubmitted,
    StepAssigned,
    StepClaimed,
    StepCompleted,
    StepFailed,
    Usage,
)
from bus.received import Received, RefusedEvent, refused_event
from bus.signing import Sender
from bus.trust import Standing, verify
from tests.sending import POLICY, admitted, credential_of
from tests.unit.actors.simulation import answer_for

RUN = "r0123456789abcdef0123"
USAGE = Usage(prompt_tokens=10, completion_tokens=5)


@dataclass
class Recording:
    """The log of one run, and hands to write in it. Every write takes a millisecond."""

    workflow: WorkflowSpec = SPARC
    run: str = RUN
    events: list[StoredEvent] = field(default_factory=list)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    keys: dict[str, AgentKey] = field(default_factory=dict)
    senders: dict[str, Sender] = field(default_factory=dict)

    @property
    def state(self) -> RunState:
        return fold(RunState(), map(fact_of, self.events))

    def sender(self, name: str) -> Sender:
        """The sender of a name such as ``coder-1``: its role stands before the hyphen."""
        if name not in self.senders:
            key = self.keys.setdefault(name, AgentKey.generate())
            credential = credential_of(name.split("-", maxsplit=1)[0], name, key)
            self.senders[name] = Sender(key, credential, POLICY, clock=lambda: self.now)
        return self.senders[name]

    def say(self, name: str, draft: Draft) -> StoredEvent:
        self.now += timedelta(milliseconds=1)
        sender = self.sender(name)
        event = sender.sign(draft)
        sender.advance(event)
        stored = StoredEvent(
            event=event, stream_sequence=10 + 3 * len(self.events), stored_at=self.now
        )
        self.events.append(stored)
        return stored

    def tell(
        self, name: str, payload: Payload, *parts: str, cause: str | None = None
    ) -> StoredEvent:
        event_id = derive_id(payload.TYPE, self.run, *parts)
        return self.say(name, Draft(run=self.run, payload=payload, id=event_id, cause=cause))

    def submit(self, **fields: object) -> StoredEvent:
        payload = RunSubmitted.model_validate(
            {
                "objective": "Design a rate limiter",
                "workflow": self.workflow.name,
                "model": "scripted",
                "requested_by": "ada",
                "definition": definition_of(self.workflow),
                **fields,
            }
        )
        return self.tell("gateway-1", payload)

    def begin(self, payload: RunSubmitted) -> StoredEvent:
        """Submit something that is made already."""
        return self.tell("gateway-1", payload)

    def settle(self, *, by: str = "coordinator-1", most: int = 1_000) -> int:
        """Let a coordinator decide until it has nothing to say, or so many times; how many."""
        said = 0
        while said < most:
            state = self.state
            commands = decide(state, self.now)
            if not commands:
                break
            for command in commands[: most - said]:
                self.say(by, draft_of(command, state))
                said += 1
        return said

    def wait(self) -> None:
        """Let time pass until the coordinator could have something to say."""
        moment = wake_at(self.state, self.now)
        if moment is not None:
            self.now = max(self.now, moment)

    def open(self) -> list[StoredEvent]:
        """Assignments that nobody has brought to an end, in the order of the log."""
        current = {a.id for key, a in self.state.assignments.items() if not a.failure}
        done = {
            self.state.assignments[key].id
            for key in self.state.results
            if key in self.state.assignments
        }
        return [each for each in self.events if each.event.id in current - done]

    def claim(self, assigned: StoredEvent, *, epoch: int = 1, agent: int = 1) -> StoredEvent:
        work = assigned.payload()
        assert isinstance(work, StepAssigned)
        name = f"{work.role}-{agent}"
        payload = StepClaimed(**_place(work), epoch=epoch, agent=name)
        return self._report(
            name, payload, assigned, derive_id("step.claimed", assigned.event.id, str(epoch))
        )

    def answer(
        self, claim: StoredEvent, answer: Mapping[str, JsonValue] | None = None, **more: bool
    ) -> StoredEvent:
        work = claim.payload()
        assert isinstance(work, StepClaimed)
        payload = StepCompleted(
            **_place(work),
            epoch=work.epoch,
            answer=dict(answer or answer_for(claim.event.role, work.step, **more)),
            model="scripted",
            usage=USAGE,
            duration_ms=1_200,
        )
        return self._report(work.agent, payload, claim, derive_id("step.completed", claim.event.id))

    def fail(self, claim: StoredEvent) -> StoredEvent:
        work = claim.payload()
        assert isinstance(work, StepClaimed)
        payload = StepFailed(
            **_place(work), epoch=work.epoch, code="deadline", message="no answer", retryable=True
        )
        return self._report(work.agent, payload, claim, derive_id("step.failed", claim.event.id))

    def do(self, assigned: StoredEvent, **more: bool) -> StoredEvent:
        """Claim and answer an assignment, then let the coordinator go on."""
        answered = self.answer(self.claim(assigned), None, **more)
        self.settle()
        return answered

    def to_end(self, **more: bool) -> "Recording":
        """Work until nothing is left to do."""
        self.settle()
        while self.open():
            self.do(self.open()[0], **more)
        return self

    def retry(self) -> StoredEvent:
        return self.tell("gateway-1", RetryRequested(requested_by="ada"), str(len(self.events)))

    def find(self, event_type: str, step: str = "", iteration: int = 1) -> StoredEvent:
        """The first event of that kind, such as ``step.completed``."""
        return next(
            each
            for each in self.events
            if each.event.type == f"swarm.{event_type}.v1"
            and (not step or _names(each, step, iteration))
        )

    def _report(
        self, name: str, payload: Payload, cause: StoredEvent, event_id: str
    ) -> StoredEvent:
        draft = Draft(
            run=self.run,
            payload=payload,
            id=event_id,
            suffix=(name.split("-", maxsplit=1)[0],),
            cause=cause.event.id,
        )
        return self.say(name, draft)

    def read(self, events: Sequence[StoredEvent] | None = None) -> list[Received]:
        """The log as a reader gets it: what does not verify is refused."""
        known = {sender.key.public: admitted(sender) for sender in self.senders.values()}
        return [_checked(each, known) for each in (self.events if events is None else events)]

    def altered(self, stored: StoredEvent, at: int) -> list[StoredEvent]:
        """The log with one byte of an event's data changed to another that may stand there."""
        data = bytearray(stored.event.data)
        data[at] = data[at] + 1 if data[at : at + 1].isalnum() and data[at] not in b"zZ9" else 0x41
        return self._with(
            stored,
            Event(subject=stored.event.subject, headers=stored.event.headers, data=bytes(data)),
        )

    def resigned(
        self, stored: StoredEvent, change: Mapping[str, object], *, rechain: bool
    ) -> list[StoredEvent]:
        """The log after somebody with the sender's key changed fields of one payload.

        Args:
            stored: whose event.
            change: fields of the payload.
            rechain: also sign the sender's later events again, so that they cite the new one.
        """
        payload: dict[str, object] = {**_json(stored.event.data), **change}
        event = self._signed(replace(stored.event, data=to_json(payload)))
        log = self._with(stored, event)
        head = event
        for later in [
            e for e in log if e.event.key == event.key and e.event.sequence > event.sequence
        ]:
            if rechain:
                headers = {**later.event.headers, "ce-previous": head.digest.hex()}
                head = self._signed(replace(later.event, headers=headers))
                log = [replace(e, event=head) if e is later else e for e in log]
        return log

    def _signed(self, event: Event) -> Event:
        key = next(s.key for s in self.senders.values() if s.key.public == event.key)
        unsigned = Event(subject=event.subject, headers=event.headers, data=event.data)
        signature = encode_base64url(key.sign(unsigned.signed_bytes))
        headers = {**event.headers, SIGNATURE_HEADER: signature}
        return Event(subject=event.subject, headers=headers, data=event.data)

    def _with(self, stored: StoredEvent, event: Event) -> list[StoredEvent]:
        return [replace(each, event=event) if each is stored else each for each in self.events]


def forged(recording: Recording) -> RefusedEvent:
    """Something that never verified, at the end of the log."""
    last = recording.events[-1]
    stranger = Recording(run=recording.run)
    stored = stranger.submit()
    recording.now += timedelta(milliseconds=1)
    return RefusedEvent(
        subject=stored.event.subject,
        headers=stored.event.headers,
        data=stored.event.data,
        stream_sequence=last.stream_sequence + 1,
        stored_at=recording.now,
        error=UntrustedEvent("nobody vouches for it"),
    )


def refusal_of(refused: RefusedEvent, digest: str) -> EventRefused:
    return EventRefused(
        stream_sequence=refused.stream_sequence,
        subject=refused.subject,
        digest=digest,
        code=refused.error.code,
        reason="x",
    )


def _checked(stored: StoredEvent, known: Mapping[str, Standing]) -> Received:
    try:
        verify(
            stored.event,
            known.get(stored.event.key),
            POLICY,
            stream_sequence=stored.stream_sequence,
            stored_at=stored.stored_at,
        )
        stored.payload()
    except (UntrustedEvent, MalformedEvent) as error:
        return refused_event(stored.event, stored.stream_sequence, stored.stored_at, error)
    return stored


def _names(stored: StoredEvent, step: str, iteration: int) -> bool:
    payload = _json(stored.event.data)
    return (payload.get("step"), payload.get("iteration")) == (step, iteration)


def _json(data: bytes) -> dict[str, JsonValue]:
    value: dict[str, JsonValue] = from_json(data)
    return value


def _place(work: StepAssigned | StepClaimed) -> dict[str, object]:
    return {
        "step": work.step,
        "iteration": work.iteration,
        "attempt": work.attempt,
        "item": work.item,
    }
