"""What is known of a run, as values. `actors.run_state` makes them from the log."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import JsonValue

from actors.sparc import WORKFLOWS
from actors.workflow import WorkflowSpec
from bus.event import StoredEvent
from bus.payloads import Payload, RunCompleted, RunFailed, Usage

Key = tuple[str, int]
"""A step and its iteration; there is one accepted result for each."""
Mark = tuple[str, str, str]
"""Role, agent and id of an event: what nobody else can use up by sending the same id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What a run needs to know of one verified event.

    Attributes:
        id: of the event.
        run: the run it belongs to.
        role: the sender's, as its credential says.
        agent: the sender's name, as its credential says.
        payload: the typed payload.
        cause: id of the event it answers.
        on_behalf_of: the user, where there is one.
        traceparent: W3C trace context of the sender's span.
    """

    id: str
    run: str
    role: str
    agent: str
    payload: Payload
    cause: str | None = None
    on_behalf_of: str | None = None
    traceparent: str | None = None

    @property
    def mark(self) -> Mark:
        """What makes this fact the same as another."""
        return self.role, self.agent, self.id


def fact_of(stored: StoredEvent) -> Fact:
    """The fact that a verified event states.

    Raises:
        MalformedEvent: the payload does not fit its type.
    """
    event = stored.event
    return Fact(
        id=event.id,
        run=event.run,
        role=event.role,
        agent=event.agent,
        payload=stored.payload(),
        cause=event.cause,
        on_behalf_of=event.on_behalf_of,
        traceparent=event.traceparent,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What was asked, by the event of that id."""

    id: str
    objective: str
    workflow: str
    on_behalf_of: str | None
    traceparent: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why the current attempt is over, by the event of that id."""

    id: str
    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The current attempt at a step, by the event of that id."""

    id: str
    role: str
    attempt: int
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An agent took the assignment of that id."""

    assignment: str
    role: str
    agent: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The accepted answer of a step, by the event of that id."""

    id: str
    agent: str
    epoch: int
    answer: Mapping[str, JsonValue]
    model: str
    usage: Usage
    duration_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An outcome that does not count; the log does not hold its refusal yet."""

    id: str
    step: str
    iteration: int
    attempt: int
    epoch: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStatus:
    """One step of a run, as a status page shows it."""

    step: str
    role: str
    iteration: int
    attempt: int
    status: Literal["assigned", "claimed", "completed", "failed"]
    agent: str | None = None
    epoch: int | None = None
    duration_ms: int | None = None
    usage: Usage | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """A run as far as its log tells. ``RunState()`` is one of which nothing is known.

    The mappings are never changed in place; they keep the order of the log.
    """

    run: str = ""
    """Empty until the first fact."""
    workflows: Mapping[str, WorkflowSpec] = field(default_factory=lambda: WORKFLOWS, repr=False)
    submission: Submission | None = None
    assignments: Mapping[Key, Assignment] = field(default_factory=dict)
    claims: Mapping[Mark, Claim] = field(default_factory=dict)
    results: Mapping[Key, Result] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()
    refused: frozenset[str] = frozenset()
    ended: RunCompleted | RunFailed | None = None
    seen: frozenset[Mark] = field(default=frozenset(), repr=False)

    @property
    def status(self) -> Literal["running", "completed", "failed"]:
        """Running until the log says otherwise."""
        if self.ended is None:
            return "running"
        return "completed" if isinstance(self.ended, RunCompleted) else "failed"

    @property
    def workflow(self) -> WorkflowSpec | None:
        """What is being run; None before the submission and for an unknown name."""
        return None if self.submission is None else self.workflows.get(self.submission.workflow)

    @property
    def steps(self) -> tuple[StepStatus, ...]:
        """Every step that was assigned, in the order of the log."""
        return tuple(self._status_of(key) for key in self.assignments)

    @property
    def usage(self) -> Usage:
        """Tokens of all accepted answers."""
        used = [result.usage for result in self.results.values()]
        return Usage(
            prompt_tokens=sum(usage.prompt_tokens for usage in used),
            completion_tokens=sum(usage.completion_tokens for usage in used),
        )

    def last_claim(self, assignment: Assignment) -> Claim | None:
        """The claim with the highest epoch of an attempt; of equals, the first in the log."""
        made = (
            claim
            for claim in self.claims.values()
            if claim.assignment == assignment.id and claim.role == assignment.role
        )
        return max(made, key=lambda claim: claim.epoch, default=None)

    def _status_of(self, key: Key) -> StepStatus:
        assignment, result = self.assignments[key], self.results.get(key)
        status = StepStatus(
            step=key[0],
            role=assignment.role,
            iteration=key[1],
            attempt=assignment.attempt,
            status="failed" if assignment.failure else "assigned",
        )
        if result is not None:
            return replace(
                status,
                status="completed",
                agent=result.agent,
                epoch=result.epoch,
                duration_ms=result.duration_ms,
                usage=result.usage,
                model=result.model,
            )
        claim = self.last_claim(assignment)
        if claim is None:
            return status
        claimed = replace(status, agent=claim.agent, epoch=claim.epoch)
        return claimed if assignment.failure else replace(claimed, status="claimed")
