"""A run without a bus: a list of facts, agents that answer, a coordinator that decides."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from actors.decide import decide, draft_of
from actors.record import Fact, RunState
from actors.roles import RoleSpec, role_spec
from actors.run_state import COORDINATOR, fold
from actors.sparc import WORKFLOWS
from actors.workflow import WorkflowSpec
from bus.event import Draft, derive_id
from bus.payloads import (
    Payload,
    RunSubmitted,
    StepAssigned,
    StepClaimed,
    StepCompleted,
    StepFailed,
    Usage,
)

RUN = "r0123456789abcdef0123"
USAGE = Usage(prompt_tokens=10, completion_tokens=5)


def answer_for(role: str, step: str, *, accepted: bool = True) -> dict[str, JsonValue]:
    """The smallest answer that fits the role; every boolean in it is `accepted`."""
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
        return [draft_of(command, state) for command in decide(state)]

    def write(self, fact: Fact) -> Fact:
        self.log.append(fact)
        return fact

    def submit(self, *, workflow: str | None = None) -> Fact:
        payload = RunSubmitted(
            objective="Sort a list of names",
            workflow=workflow or self.workflow.name,
            model="scripted",
            requested_by="ann",
        )
        return self.write(
            Fact(
                id=derive_id("run.submitted", RUN),
                run=RUN,
                role="gateway",
                agent="gateway-1",
                payload=payload,
                on_behalf_of="ann",
                traceparent="00-1-2-01",
            )
        )

    def settle(self) -> list[Payload]:
        """Let the coordinator write until it has nothing more to say; returns what it wrote."""
        written: list[Payload] = []
        while drafts := self.drafts:
            written += [self.write(stated(draft)).payload for draft in drafts]
        return written

    def assigned(self, step: str, iteration: int = 1, attempt: int = 1) -> Fact:
        """The assignment in the log."""
        wanted = step, iteration, attempt
        return next(
            fact
            for fact in self.log
            if isinstance(fact.payload, StepAssigned)
            and (fact.payload.step, fact.payload.iteration, fact.payload.attempt) == wanted
        )

    def claim(self, assigned: Fact, *, epoch: int = 1, agent: str = "a") -> Fact:
        return self.write(claim_of(assigned, epoch=epoch, agent=agent))

    def complete(self, claim: Fact, answer: dict[str, JsonValue] | None = None) -> Fact:
        return self.write(completion_of(claim, answer))

    def fail(self, claim: Fact, *, retryable: bool = True) -> Fact:
        return self.write(failure_of(claim, retryable=retryable))

    def do(self, step: str, iteration: int = 1, attempt: int = 1, *, accepted: bool = True) -> Fact:
        """Claim and complete an assigned step, then let the coordinator go on."""
        claim = self.claim(self.assigned(step, iteration, attempt))
        completed = self.complete(claim, answer_for(claim.role, step, accepted=accepted))
        self.settle()
        return completed


def stated(draft: Draft) -> Fact:
    """The fact that a coordinator's draft becomes once it is stored."""
    return Fact(
        id=draft.id,
        run=draft.run,
        role=COORDINATOR,
        agent="coordinator-1",
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
        payload=StepClaimed(
            step=work.step,
            iteration=work.iteration,
            attempt=work.attempt,
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
        payload=StepCompleted(
            step=work.step,
            iteration=work.iteration,
            attempt=work.attempt,
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
        payload=StepFailed(
            step=work.step,
            iteration=work.iteration,
            attempt=work.attempt,
            epoch=work.epoch,
            code="deadline",
            message="no answer within 300 s",
            retryable=retryable,
        ),
    )
