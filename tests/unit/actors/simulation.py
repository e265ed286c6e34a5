"""A run without a bus: a list of facts, agents that answer, a coordinator that decides."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import JsonValue

from actors.decide import decide, draft_of
from actors.fact import GATEWAY
from actors.record import Fact, RunState
from actors.roles import ROLES, RoleSpec, role_spec
from actors.run_state import COORDINATOR, fold
from actors.sparc import WORKFLOWS
from actors.workflow import WorkflowSpec
from bus.event import Draft, derive_id
from bus.payloads import (
    ApprovalDenied,
    ApprovalGiven,
    ApprovalRequested,
    Payload,
    Request,
    RunSubmitted,
    StepAssigned,
    StepClaimed,
    StepCompleted,
    StepFailed,
    Usage,
)

RUN = "r0123456789abcdef0123"
START = datetime(2026, 1, 1, 12, tzinfo=UTC)
ROUNDS_TO_SETTLE = 20
USAGE = Usage(prompt_tokens=10, completion_tokens=5)


LISTING: Final[dict[str, JsonValue]] = {
    "type": "object",
    "properties": {"list": {"type": "array"}, "accepted": {"type": "boolean"}},
    "required": ["list", "accepted"],
    "additionalProperties": False,
}
"""What a role that is not built in answers in these tests."""


def answer_for(role: str, step: str, *, accepted: bool = True) -> dict[str, JsonValue]:
    """The smallest answer that fits the role; every boolean in it is `accepted`.

    A role that is not built in answers with a list of two, as `LISTING` says.
    """
    if role not in ROLES:
        return {"list": ["a", "b"], "accepted": accepted}
    answer: dict[str, JsonValue] = {}
    for name, schema in role_spec(role, step).fields().items():
        kind = schema["type"]
        if kind == "boolean":
            answer[name] = accepted
        else:
            answer[name] = [f"{name} of {step}"] if kind == "array" else f"{name} of {step}"
    return answer


def longest_answer(spec: RoleSpec, character: str = "x") -> dict[str, JsonValue]:
    """The longest answer that the role's schema allows, all of one character."""
    return {name: _longest(schema, character) for name, schema in spec.fields().items()}


def _longest(schema: Mapping[str, JsonValue], character: str) -> JsonValue:
    if schema["type"] == "boolean":
        return False
    if schema["type"] == "array":
        items, most = schema["items"], schema["maxItems"]
        assert isinstance(items, dict)
        assert isinstance(most, int)
        return [_longest(items, character)] * most
    if "pattern" in schema:
        words = re.search(r"\{4,(\d+)\}", str(schema["pattern"]))
        assert words is not None
        word = character * 12
        return f"{word}{character}{f' {word}' * int(words.group(1))}."
    most = schema["maxLength"]
    assert isinstance(most, int)
    return character * most


@dataclass
class SimulatedRun:
    """The log of one run, and hands to write in it. The state is folded anew each time."""

    workflow: WorkflowSpec
    log: list[Fact] = field(default_factory=list)
    now: datetime = START

    @property
    def workflows(self) -> dict[str, WorkflowSpec]:
        return {**WORKFLOWS, self.workflow.name: self.workflow}

    @property
    def state(self) -> RunState:
        return fold(RunState(workflows=self.workflows), self.log)

    @property
    def drafts(self) -> list[Draft]:
        """What a coordinator that reads the log now would say."""
        state = self.state
        return [draft_of(command, state) for command in decide(state, self.now)]

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    def write(self, fact: Fact) -> Fact:
        self.log.append(fact)
        return fact

    def submit(self, **changes: Any) -> Fact:
        """Ask for the run; `changes` are of the payload."""
        payload = RunSubmitted(
            objective="Sort a list of names",
            workflow=self.workflow.name,
            model="scripted",
            requested_by="ann",
        )
        return self.write(
            Fact(
                id=derive_id("run.submitted", RUN),
                run=RUN,
                role=GATEWAY,
                agent="gateway-1",
                time=self.now,
                payload=payload.model_copy(update=changes),
                on_behalf_of="ann",
                traceparent="00-1-2-01",
            )
        )

    def ask(self, request: type[Request], *, name: str = "", **more: str) -> Fact:
        """A person asks something of the run; a request of the same name has the same id."""
        payload = request(requested_by="ann", **more)
        parts = request.TYPE, RUN, name or str(len(self.log))
        return self.write(
            Fact(
                id=derive_id(*parts),
                run=RUN,
                role=GATEWAY,
                agent="gateway-1",
                time=self.now,
                payload=payload,
            )
        )

    def question(self, step: str, iteration: int = 1) -> Fact:
        """The last question in the log whether a step may begin."""
        return next(
            fact
            for fact in reversed(self.log)
            if isinstance(fact.payload, ApprovalRequested)
            and (fact.payload.step, fact.payload.iteration) == (step, iteration)
        )

    def approve(self, step: str, iteration: int = 1) -> Fact:
        return self.ask(ApprovalGiven, approval=self.question(step, iteration).id)

    def deny(self, step: str, iteration: int = 1, *, reason: str = "") -> Fact:
        approval = self.question(step, iteration).id
        return self.ask(ApprovalDenied, approval=approval, reason=reason)

    def settle(self) -> list[Payload]:
        """Let the coordinator write until it has nothing more to say; returns what it wrote."""
        written: list[Payload] = []
        for _ in range(ROUNDS_TO_SETTLE):
            drafts = self.drafts
            if not drafts:
                return written
            written += [self.write(stated(draft, self.now)).payload for draft in drafts]
        raise AssertionError("the coordinator says the same again and again")

    def assigned(self, step: str, iteration: int = 1, attempt: int = 1, item: int = 0) -> Fact:
        """The assignment in the log."""
        wanted = step, iteration, attempt, item
        return next(
            fact
            for fact in self.log
            if isinstance(work := fact.payload, StepAssigned)
            and (work.step, work.iteration, work.attempt, work.item) == wanted
        )

    def claim(self, assigned: Fact, *, epoch: int = 1, agent: str = "a") -> Fact:
        return self.write(replace(claim_of(assigned, epoch=epoch, agent=agent), time=self.now))

    def complete(self, claim: Fact, answer: dict[str, JsonValue] | None = None) -> Fact:
        return self.write(replace(completion_of(claim, answer), time=self.now))

    def fail(self, claim: Fact, *, retryable: bool = True) -> Fact:
        return self.write(replace(failure_of(claim, retryable=retryable), time=self.now))

    def do(
        self,
        step: str,
        iteration: int = 1,
        attempt: int = 1,
        item: int = 0,
        *,
        accepted: bool = True,
        answer: dict[str, JsonValue] | None = None,
    ) -> Fact:
        """Claim and complete an assigned step, then let the coordinator go on."""
        claim = self.claim(self.assigned(step, iteration, attempt, item))
        answer = answer_for(claim.role, step, accepted=accepted) if answer is None else answer
        completed = self.complete(claim, answer)
        self.settle()
        return completed


def stated(draft: Draft, time: datetime = START) -> Fact:
    """The fact that a coordinator's draft becomes once it is stored."""
    return Fact(
        id=draft.id,
        run=draft.run,
        role=COORDINATOR,
        agent="coordinator-1",
        time=time,
        payload=draft.payload,
        cause=draft.cause,
    )


def claim_of(assigned: Fact, *, epoch: int = 1, agent: str = "a") -> Fact:
    work = assigned.payload
    assert isinstance(work, StepAssigned)
    return Fact(
        id=derive_id("step.claimed", assigned.id, str(epoch)),
        run=assigned.run,
        role=work.role,
        agent=agent,
        cause=assigned.id,
        time=START,
        payload=StepClaimed(
            step=work.step,
            iteration=work.iteration,
            attempt=work.attempt,
            item=work.item,
            epoch=epoch,
            agent=agent,
        ),
    )


def completion_of(claim: Fact, answer: dict[str, JsonValue] | None = None) -> Fact:
    work = claim.payload
    assert isinstance(work, StepClaimed)
    return Fact(
        id=derive_id("step.completed", claim.id),
        run=claim.run,
        role=claim.role,
        agent=claim.agent,
        cause=claim.id,
        time=START,
        payload=StepCompleted(
            step=work.step,
            iteration=work.iteration,
            attempt=work.attempt,
            item=work.item,
            epoch=work.epoch,
            answer=answer_for(claim.role, work.step) if answer is None else answer,
            model="scripted",
            usage=USAGE,
            duration_ms=1_200,
        ),
    )


def failure_of(claim: Fact, *, retryable: bool = True) -> Fact:
    work = claim.payload
    assert isinstance(work, StepClaimed)
    return Fact(
        id=derive_id("step.failed", claim.id),
        run=claim.run,
        role=claim.role,
        agent=claim.agent,
        cause=claim.id,
        time=START,
        payload=StepFailed(
            step=work.step,
            iteration=work.iteration,
            attempt=work.attempt,
            item=work.item,
            epoch=work.epoch,
            code="deadline",
            message="no answer within 300 s",
            retryable=retryable,
        ),
    )
