"""One model per event type. Bytes that do not fit their model are not an event.

The wire contract: fields are only added, with a default; a field never changes its
meaning; a change that readers must know of makes a new version of the type.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from bus.alarm_payloads import ChainBroken, EventRefused, LogLost, MissingEvent, WitnessContradicted
from bus.answer_receipt import Digests, Receipt
from bus.budget import RunBudget, SpentBudget
from bus.errors import MalformedEvent
from bus.memory_payloads import MEMORY, ItemReference
from bus.payload import (
    ERASED,
    MAX_PAYLOAD_BYTES,
    NO_USAGE,
    Count,
    EventId,
    Name,
    Ordinal,
    Payload,
    Person,
    Reason,
    StepPayload,
    Usage,
)
from bus.people import PEOPLE
from bus.tool_payloads import ToolAnswered, ToolCalled
from bus.trust_payloads import (
    AuthorityRotated,
    IdentityRevoked,
    RootRotated,
    RotationRequested,
    SubjectForgotten,
)
from bus.usage import USAGE

__all__ = [  # and all that follows
    "NO_USAGE",
    "ChainBroken",
    "EventRefused",
    "LogLost",
    "MissingEvent",
    "Name",
    "Ordinal",
    "Payload",
    "Person",
    "Reason",
    "StepPayload",
    "ToolAnswered",
    "ToolCalled",
    "Usage",
    "WitnessContradicted",
]

MAX_OBJECTIVE_CHARS: Final = 16_384

Answer = Annotated[dict[str, JsonValue], Field(description="A role's answer, fitting its schema.")]
Priority = Literal["high", "normal", "low"]
Recall = Literal["none", "hybrid", "keyword", "failed"]
"""Not at all; by meaning and by words; by words only, because the index was away; in vain."""


class AdoptedResult(BaseModel):
    """An answer that a forked run takes over from its parent instead of asking again."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    step: Name
    iteration: Ordinal
    item: Count = 0
    event: EventId = Field(description="The parent's event that holds the answer.")
    answer: Answer
    changed: bool = Field(False, description="Whether who forked the run changed the answer.")
    model: str = Field(max_length=200)
    usage: Usage


class Fork(BaseModel):
    """Where a run branched off from another."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    parent: Name = Field(description="The run it branched off from.")
    at: EventId = Field(description="The parent's event up to which the two are the same.")
    adopted: tuple[AdoptedResult, ...] = ()


class RunSubmitted(Payload):
    """A person asks for a job."""

    TYPE: ClassVar[str] = "swarm.run.submitted.v1"
    PERSONAL: ClassVar[Mapping[str, JsonValue]] = {
        "objective": ERASED,
        "requested_by": ERASED,
        "instructions": {},
        "fork": None,
    }
    objective: str = Field(min_length=1, max_length=MAX_OBJECTIVE_CHARS)
    workflow: Name
    model: str = Field(min_length=1, max_length=200)
    requested_by: Person
    priority: Priority = "normal"
    deadline_s: float | None = Field(None, gt=0, description="Seconds the run may take.")
    definition: dict[str, JsonValue] | None = Field(
        None, description="The workflow as data, so that the log alone tells what was run."
    )
    instructions: dict[Name, str] = Field(
        default_factory=dict, description="What to tell the agent of a step besides its prompt."
    )
    fork: Fork | None = None
    budget_tokens: Ordinal | None = Field(None, description="What its user allows it to spend.")
    budget: RunBudget | None = Field(
        None, description="What it may spend, by the policy in force and its user."
    )
    tenant: Name = Field("default", description="Of whoever asks.")


class Request(Payload):
    """What a person asks of a run that is there already."""

    PERSONAL: ClassVar[Mapping[str, JsonValue]] = {"requested_by": ERASED, "reason": ERASED}
    requested_by: Person
    reason: Reason = ""


class CancelRequested(Request):
    """A person wants a run to end."""

    TYPE: ClassVar[str] = "swarm.cancel.requested.v1"


class PauseRequested(Request):
    """A person wants no further step of a run to begin; what has begun goes on."""

    TYPE: ClassVar[str] = "swarm.pause.requested.v1"


class ResumeRequested(Request):
    """A person wants a paused run to go on."""

    TYPE: ClassVar[str] = "swarm.resume.requested.v1"


class RetryRequested(Request):
    """A person wants a failed run to go on from the steps that failed."""

    TYPE: ClassVar[str] = "swarm.retry.requested.v1"


class ApprovalRequested(Payload):
    """The coordinator asks people whether a step may begin; its id names the approval."""

    TYPE: ClassVar[str] = "swarm.approval.requested.v1"
    step: Name
    iteration: Ordinal
    item: Count = 0
    role: Name


class ApprovalGiven(Request):
    """A person lets a step begin."""

    TYPE: ClassVar[str] = "swarm.approval.given.v1"
    approval: EventId


class ApprovalDenied(Request):
    """A person does not let a step begin; the run fails."""

    TYPE: ClassVar[str] = "swarm.approval.denied.v1"
    approval: EventId


class StepAssigned(StepPayload):
    """The coordinator gives a step to a role; any one of its agents takes it."""

    TYPE: ClassVar[str] = "swarm.step.assigned.v1"
    PERSONAL: ClassVar[Mapping[str, JsonValue]] = {
        "objective": ERASED,
        "inputs": {},
        "each": None,
        "instructions": "",
    }
    role: Name
    objective: str = Field(min_length=1, max_length=MAX_OBJECTIVE_CHARS)
    inputs: dict[str, Answer] = Field(description="Answers of earlier steps, by step name.")
    deadline_s: float = Field(gt=0, description="Seconds an attempt may take.")
    each: JsonValue = Field(None, description="What this part of a fan-out is about.")
    instructions: str = Field("", description="What this run says besides the role's prompt.")
    answer_schema: dict[str, JsonValue] | None = Field(
        None, description="JSON schema of the answer, where it is not the role's own."
    )
    tokens_left: Count | None = Field(
        None, description="What the role may still spend on the run; None for no limit."
    )


class StepClaimed(StepPayload):
    """An agent took the assignment; the epoch fences off earlier claims of the attempt."""

    TYPE: ClassVar[str] = "swarm.step.claimed.v1"
    MOST_BYTES: ClassVar[int] = MAX_PAYLOAD_BYTES
    epoch: Ordinal
    agent: Name


class StepCompleted(StepPayload):
    """An agent's answer."""

    TYPE: ClassVar[str] = "swarm.step.completed.v1"
    PERSONAL: ClassVar[Mapping[str, JsonValue]] = {"answer": {}, "digests": None}
    epoch: Ordinal
    answer: Answer
    model: str = Field(max_length=200)
    usage: Usage
    duration_ms: Count
    recalled: tuple[ItemReference, ...] = Field((), description="What of the memory was read.")
    recall: Recall = Field("none", description="How the memory was searched.")
    receipt: Receipt | None = Field(None, description="Who answered; None if no model did.")
    digests: Digests | None = None


class StepFailed(StepPayload):
    """An attempt ended without an answer."""

    TYPE: ClassVar[str] = "swarm.step.failed.v1"
    MOST_BYTES: ClassVar[int] = MAX_PAYLOAD_BYTES
    PERSONAL: ClassVar[Mapping[str, JsonValue]] = {"message": ERASED, "digests": None}
    epoch: Ordinal
    code: str = Field(max_length=64)
    message: str = Field(max_length=2_000)
    retryable: bool
    model: str = Field("", description="Who was asked in vain, if anybody.", max_length=200)
    usage: Usage | None = Field(None, description="What was spent in vain, as far as is known.")
    receipt: Receipt | None = Field(None, description="Of the answer nothing came of.")
    digests: Digests | None = None


class AssignmentDead(StepPayload):
    """An agent gives an assignment up that nobody brought to an end: a dead letter."""

    TYPE: ClassVar[str] = "swarm.assignment.dead.v1"
    MOST_BYTES: ClassVar[int] = MAX_PAYLOAD_BYTES
    epoch: Ordinal
    deliveries: Ordinal
    reason: Reason


class ResultRefused(StepPayload):
    """The coordinator did not accept a result, and why."""

    TYPE: ClassVar[str] = "swarm.result.refused.v1"
    PERSONAL: ClassVar[Mapping[str, JsonValue]] = {"reason": ERASED}
    epoch: Ordinal
    refused: str = Field(description="Id of the event that was refused.", max_length=64)
    reason: str = Field(max_length=500)


class RunCompleted(Payload):
    """The result of a run."""

    TYPE: ClassVar[str] = "swarm.run.completed.v1"
    PERSONAL: ClassVar[Mapping[str, JsonValue]] = {"document": ERASED}
    document: str = Field(description="Markdown, made from the answers without a model.")
    steps: Count
    usage: Usage
    recalled: tuple[ItemReference, ...] = Field((), description="What of the memory was read.")


class RunFailed(Payload):
    """A run ended without a result."""

    TYPE: ClassVar[str] = "swarm.run.failed.v1"
    PERSONAL: ClassVar[Mapping[str, JsonValue]] = {"message": ERASED}
    code: str = Field(max_length=64)
    message: str = Field(max_length=2_000)
    step: Name | None = None
    budget: SpentBudget | None = Field(None, description="With the code budget_exhausted.")


class RunCancelled(Payload):
    """A run ended because a person asked for it."""

    TYPE: ClassVar[str] = "swarm.run.cancelled.v1"
    PERSONAL: ClassVar[Mapping[str, JsonValue]] = {"requested_by": ERASED, "reason": ERASED}
    requested_by: Person
    reason: Reason = ""


class StallNoticed(Payload):
    """Nothing has moved in a run for long, and what it waits for."""

    TYPE: ClassVar[str] = "swarm.stall.noticed.v1"
    code: str = Field(max_length=64)
    waits_for: str = Field(max_length=500)
    since: AwareDatetime
    step: Name | None = None


class IdentityIssued(Payload):
    """The authority vouches for a key."""

    TYPE: ClassVar[str] = "swarm.identity.issued.v1"
    role: Name
    name: Name
    public_key: str = Field(max_length=64)
    credential: str = Field(description="NATS user JWT.", max_length=16_384)
    expires_at: AwareDatetime
    renews: bool = Field(False, description="Whether the key was vouched for before.")


class PolicyAdopted(Payload):
    """The policy that is in force from here on, to the next of these events."""

    TYPE: ClassVar[str] = "swarm.policy.adopted.v1"
    digest: str = Field(description="Hex SHA-256 of the document.", max_length=64)
    document: str = Field(description="Canonical JSON.", max_length=1_000_000)


class AgentStarted(Payload):
    """A process began to act under the key of this event."""

    TYPE: ClassVar[str] = "swarm.agent.started.v1"
    MOST_BYTES: ClassVar[int] = MAX_PAYLOAD_BYTES
    role: Name
    name: Name
    pid: Ordinal
    node: str = Field(max_length=255)


class AgentStopped(Payload):
    """A clean stop: this event is the last of its chain."""

    TYPE: ClassVar[str] = "swarm.agent.stopped.v1"
    MOST_BYTES: ClassVar[int] = MAX_PAYLOAD_BYTES
    role: Name
    name: Name
    last_sequence: Ordinal = Field(description="The number of this event in its chain.")


PAYLOADS: Final[Mapping[str, type[Payload]]] = {
    model.TYPE: model
    for model in (
        RunSubmitted,
        CancelRequested,
        PauseRequested,
        ResumeRequested,
        RetryRequested,
        ApprovalRequested,
        ApprovalGiven,
        ApprovalDenied,
        StepAssigned,
        StepClaimed,
        StepCompleted,
        StepFailed,
        AssignmentDead,
        ToolCalled,
        ToolAnswered,
        ResultRefused,
        RunCompleted,
        RunFailed,
        RunCancelled,
        StallNoticed,
        EventRefused,
        ChainBroken,
        LogLost,
        WitnessContradicted,
        IdentityIssued,
        IdentityRevoked,
        AuthorityRotated,
        RootRotated,
        RotationRequested,
        SubjectForgotten,
        PolicyAdopted,
        AgentStarted,
        AgentStopped,
    )
} | {model.TYPE: model for model in (*PEOPLE, *MEMORY, *USAGE)}


def most_bytes(event_type: str) -> int:
    """What a payload of an event type may have; of one that is not known, as much as any."""
    return PAYLOADS.get(event_type, Payload).MOST_BYTES


def payload_model(event_type: str) -> type[Payload]:
    """The model of an event type.

    Raises:
        MalformedEvent: no such type.
    """
    try:
        return PAYLOADS[event_type]
    except KeyError as error:
        raise MalformedEvent(f"event type {event_type[:100]!r} is not known") from error
