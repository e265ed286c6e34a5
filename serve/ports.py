"""What the gateway needs of the rest of the system, and nothing more.

Each port is what one adapter offers: `bus.log.EventLog`, `storage.audit_reader.AuditReader`,
and serve/inference.py for the model; those that people are known by stand in serve/people.py.
Whatever they raise descends from SwarmError; serve/problems.py says what
of it a caller gets to see.
"""

from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Protocol

from pydantic import JsonValue

from actors.workflow import WorkflowSpec
from bus.event import Draft, StoredEvent
from bus.log import Expected
from bus.received import Received
from policies.bundle import UNLIMITED
from policies.capabilities import Capabilities
from policies.pace import Pace
from serve.completion import Task
from serve.evidence import Anchors
from serve.memory_ports import Memory
from serve.metering import Meter
from serve.people import People
from storage.audit_reader import AuditSummary, StoredCheckpoint
from storage.evidence import Evidence, TailTooLong
from storage.usage import Part, Scope, Spent, Total


class Log(Protocol):
    """The event log as one sender and reader; see bus/log.py for delivery and order."""

    async def append(self, draft: Draft, *, expected: Expected | None = None) -> StoredEvent:
        """Store an event; PublishConflict where `expected` no longer holds."""
        ...

    def read(
        self, subject_filter: str, *, after: int = 0, unseal: bool = True
    ) -> AsyncGenerator[Received, None]:
        """What the log holds now, in order, each once; sealed as it is, if that will do."""
        ...

    def follow(self, subject_filter: str, *, after: int = 0) -> AsyncGenerator[Received, None]:
        """What the log holds and what comes, in order, each once, endlessly."""
        ...

    async def keeps(self, subject: str) -> bool:
        """Whether what is personal of a user is kept: not if that user is forgotten."""
        ...

    async def last_sequence(self) -> int:
        """The stream sequence of the last event of the whole log."""
        ...


class ChatModel(Protocol):
    """The model behind the OpenAI-compatible routes."""

    def stream(
        self, request: dict[str, JsonValue], *, deadline_s: float, task: Task = "chat"
    ) -> AsyncGenerator[str, None]:
        """One JSON document per piece: chunks for a stream, else one completion, or an error.

        Closing the generator stops the model's work; ModelTimeout when the deadline passes.
        """
        ...

    async def models(self) -> dict[str, JsonValue]:
        """The list of models, in the form of /v1/models."""
        ...


class Audit(Protocol):
    """The audit log, with what an outsider needs to check it."""

    async def summary(self, run: str) -> AuditSummary:
        """Counts of one run, and the state of the whole log."""
        ...

    async def checkpoint(
        self, size: int | None = None, *, cosigned: bool = False
    ) -> StoredCheckpoint | None:
        """The latest one, or the one signed at that size, cosigned if asked for, or None."""
        ...

    async def inclusion(self, leaf_index: int, size: int) -> tuple[bytes, ...]:
        """Proof that a leaf is in the tree of that size, which the log must have reached."""
        ...

    async def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Proof that one tree begins with another; the log must have reached both."""
        ...

    async def evidence(
        self, run: str, checkpoint: StoredCheckpoint, *, most_tail: int
    ) -> Evidence | TailTooLong | None:
        """Everything that shows a run; None where the tree has no leaf of it."""
        ...


class Totals(Protocol):
    """What was used up of the models, as far as the audit log has come."""

    async def totals(self, scope: Scope, by: Sequence[Part]) -> tuple[Total, ...]:
        """Totals of what is in the scope, told apart by the parts and in their order."""
        ...

    async def spent(self, user: str, day: date, *, but: Collection[str] = ()) -> Spent:
        """What a user has used up of a day by asking the gateway, without some events."""
        ...


Probe = Callable[[], Awaitable[str | None]]
"""Returns if the part answers, raises if not; a sentence where it does so in part only, or another
part stands in for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one request; each is there so that no caller can occupy the gateway for long."""

    body_bytes: int = 256 * 1024
    body_timeout_s: float = 10.0
    """For the whole body: a client that dribbles is cut off."""
    objective_chars: int = 16_384
    instructions_chars: int = 16_384
    """For those of all steps together: they travel in one event with the objective."""
    call_timeout_s: float = 15.0
    """For what one request asks of the log and the stores together."""
    settle_s: float = 5.0
    """For a write to take effect in the memory, and for the memory's answer to a question."""
    upkeep_s: float = 300.0
    """For the memory to be made anew."""
    chat_timeout_s: float = 300.0
    """For the whole of a model's answer."""
    heartbeat_s: float = 10.0
    """Silence after which an event stream sends a comment, so that nobody takes it for dead."""
    stream_life_s: float = 3_600.0
    """An event stream ends then and the client comes back, with a token that is still valid."""
    probe_timeout_s: float = 2.0
    evidence_timeout_s: float = 60.0
    """For reading a run's evidence, which may be thousands of events and the log behind them."""
    evidence_tail_leaves: int = 100_000
    """That may follow a run's last event in its bundle, 0.4 KiB each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Web:
    """How people's programs reach the gateway."""

    tls: bool = False
    """By TLS only: browsers are told so."""
    origins: tuple[str, ...] = ()
    """Whose pages may call the gateway from a browser (CORS), such as https://app.example."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayParts:
    """Everything the gateway works with; it opens and closes none of it."""

    log: Log
    people: People
    audit: Audit
    memory: Memory
    anchors: Anchors
    """What evidence is checked against; it comes along with it."""
    model: ChatModel
    meter: Meter
    """What people use up of it."""
    usage: Totals
    workflows: Mapping[str, WorkflowSpec]
    """What may be run, by name; the definition goes into the log with the run."""
    model_name: str
    """What the agents' model is called; a run may name it or leave it out."""
    role_models: Mapping[str, str] = field(default_factory=dict)
    """What the models of roles with one of their own are called, by role."""
    probes: Mapping[str, Probe]
    """Health, by name of the part."""
    limits: Limits = field(default_factory=Limits)
    web: Web = field(default_factory=Web)
    policy: Capabilities = field(default_factory=Capabilities.shipped)
    """What the gateway and the agents may do; runs are budgeted by it."""
    chat_pace: Pace = field(default_factory=lambda: Pace(UNLIMITED))
    """How often the gateway may ask the model for people."""
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
