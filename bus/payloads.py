"""One model per event type. Bytes that do not fit their model are not an event.

The wire contract: fields are only added, with a default; a field never changes its
meaning; a change that readers must know of makes a new version of the type.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from bus.errors import MalformedEvent

MAX_OBJECTIVE_CHARS: Final = 16_384

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
Count = Annotated[int, Field(ge=0)]
Ordinal = Annotated[int, Field(ge=1)]
Answer = Annotated[dict[str, JsonValue], Field(description="A role's answer, fitting its schema.")]


class Payload(BaseModel):
    """The typed content of an event."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    TYPE: ClassVar[str] = ""


class RunSubmitted(Payload):
    """A person asks for a job."""

    TYPE: ClassVar[str] = "swarm.run.submitted.v1"
    objective: str = Field(min_length=1, max_length=MAX_OBJECTIVE_CHARS)
    workflow: Name
    model: str = Field(min_length=1, max_length=200)
    requested_by: str = Field(min_length=1, max_length=128)


class StepPayload(Payload):
    """What names one attempt at one step; iterations count the rounds of a loop."""

    step: Name
    iteration: Ordinal
    attempt: Ordinal


class StepAssigned(StepPayload):
    """The coordinator gives a step to a role; any one of its agents takes it."""

    TYPE: ClassVar[str] = "swarm.step.assigned.v1"
    role: Name
    objective: str = Field(min_length=1, max_length=MAX_OBJECTIVE_CHARS)
    inputs: dict[str, Answer] = Field(description="Answers of earlier steps, by step name.")
    deadline_s: float = Field(gt=0, description="Seconds an attempt may take.")


class StepClaimed(StepPayload):
    """An agent took the assignment; the epoch fences off earlier claims of the attempt."""

    TYPE: ClassVar[str] = "swarm.step.claimed.v1"
    epoch: Ordinal
    agent: Name


class Usage(BaseModel):
    """Tokens a model read and wrote."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    prompt_tokens: Count
    completion_tokens: Count


class StepCompleted(StepPayload):
    """An agent's answer."""

    TYPE: ClassVar[str] = "swarm.step.completed.v1"
    epoch: Ordinal
    answer: Answer
    model: str = Field(max_length=200)
    usage: Usage
    duration_ms: Count


class StepFailed(StepPayload):
    """An attempt ended without an answer."""

    TYPE: ClassVar[str] = "swarm.step.failed.v1"
    epoch: Ordinal
    code: str = Field(max_length=64)
    message: str = Field(max_length=2_000)
    retryable: bool


class ResultRefused(StepPayload):
    """The coordinator did not accept a result, and why."""

    TYPE: ClassVar[str] = "swarm.result.refused.v1"
    epoch: Ordinal
    refused: str = Field(description="Id of the event that was refused.", max_length=64)
    reason: str = Field(max_length=500)


class RunCompleted(Payload):
    """The result of a run."""

    TYPE: ClassVar[str] = "swarm.run.completed.v1"
    document: str = Field(description="Markdown, made from the answers without a model.")
    steps: Count
    usage: Usage


class RunFailed(Payload):
    """A run ended without a result."""

    TYPE: ClassVar[str] = "swarm.run.failed.v1"
    code: str = Field(max_length=64)
    message: str = Field(max_length=2_000)
    step: Name | None = None


class EventRefused(Payload):
    """An event in the log was not acted on; the evidence stays where it is."""

    TYPE: ClassVar[str] = "swarm.event.refused.v1"
    stream_sequence: Ordinal
    subject: str = Field(max_length=512)
    digest: str = Field(description="Hex SHA-256 of the data as received.", max_length=64)
    code: str = Field(max_length=64)
    reason: str = Field(max_length=1_000)


class ChainBroken(Payload):
    """A sender's chain does not join: something was lost, repeated or forked."""

    TYPE: ClassVar[str] = "swarm.chain.broken.v1"
    sender: str = Field(max_length=128)
    key: str = Field(max_length=64)
    expected_sequence: Ordinal
    found_sequence: Ordinal
    stream_sequence: Ordinal


class IdentityIssued(Payload):
    """The authority vouches for a key."""

    TYPE: ClassVar[str] = "swarm.identity.issued.v1"
    role: Name
    name: Name
    public_key: str = Field(max_length=64)
    credential: str = Field(description="NATS user JWT.", max_length=16_384)
    expires_at: AwareDatetime


class AgentStarted(Payload):
    """A process began to act under the key of this event."""

    TYPE: ClassVar[str] = "swarm.agent.started.v1"
    role: Name
    name: Name
    pid: Ordinal
    node: str = Field(max_length=255)


class AgentStopped(Payload):
    """A clean stop: this event is the last of its chain."""

    TYPE: ClassVar[str] = "swarm.agent.stopped.v1"
    role: Name
    name: Name
    last_sequence: Ordinal = Field(description="The number of this event in its chain.")


PAYLOADS: Final[Mapping[str, type[Payload]]] = {
    model.TYPE: model
    for model in (
        RunSubmitted,
        StepAssigned,
        StepClaimed,
        StepCompleted,
        StepFailed,
        ResultRefused,
        RunCompleted,
        RunFailed,
        EventRefused,
        ChainBroken,
        IdentityIssued,
        AgentStarted,
        AgentStopped,
    )
}


def payload_model(event_type: str) -> type[Payload]:
    """The model of an event type.

    Raises:
        MalformedEvent: no such type.
    """
    try:
        return PAYLOADS[event_type]
    except KeyError as error:
        raise MalformedEvent(f"event type {event_type[:100]!r} is not known") from error
