"""What the swarm says of a run, as frozen values. Fields added later are ignored, not refused."""

from datetime import datetime
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, JsonValue

_ENDS: Final = frozenset(
    {"swarm.run.completed.v1", "swarm.run.failed.v1", "swarm.run.cancelled.v1"}
)
_ENDED: Final = frozenset({"completed", "failed", "cancelled"})
Status = Literal["running", "paused", "completed", "failed", "cancelled"]
Priority = Literal["high", "normal", "low"]
ApprovalStatus = Literal["pending", "given", "denied", "lapsed"]
"""Lapsed: the run ended before anybody answered."""


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Usage(_View):
    """Tokens a model read and wrote."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class StepStatus(_View):
    """One step of one round, or one part of it, with its latest attempt."""

    name: str
    iteration: int
    item: int = 0
    """The part of a fan-out, from 1; 0 for a step that is done once."""
    role: str
    status: Literal["assigned", "claimed", "completed", "failed"]
    attempt: int
    agent: str | None = None
    model: str | None = None
    duration_ms: int | None = None
    usage: Usage | None = None
    adopted: bool = False
    """Taken over from the run that this is a fork of."""


class SpentBudget(_View):
    """A budget that is used up."""

    budget: str
    role: str | None = None
    """Whose it is; None for that of the whole run."""
    spent: int
    limit: int


class Failure(_View):
    """Why a run ended without a result."""

    code: str
    message: str
    step: str | None = None
    budget: SpentBudget | None = None


class Cancellation(_View):
    """Who wants the run to end, or ended it, and why."""

    requested_by: str
    reason: str = ""


class Approval(_View):
    """Whether people let a step begin."""

    id: str
    """What `swarm.approve` and `swarm.deny` are told."""
    run: str
    step: str
    iteration: int
    status: ApprovalStatus
    requested_at: datetime
    answered_by: str | None = None
    answered_at: datetime | None = None
    reason: str = ""


class Waiting(_View):
    """Why nothing moves in a run just now."""

    code: str
    text: str
    step: str | None = None
    since: datetime | None = None


class Fork(_View):
    """Where a run branched off from another."""

    run: str
    at: str
    """The other run's event up to which the two are the same."""


class Submitted(_View):
    """A run that was handed in."""

    id: str


class SharedAnswer(_View):
    """An answer that a fork took over from its parent."""

    step: str
    iteration: int
    item: int = 0
    event: str
    """The parent's event that holds it."""
    changed: bool = False


class ChangedValue(_View):
    """What a fork asks for that its parent did not."""

    name: str
    was: JsonValue = None
    now: JsonValue = None


class Forked(_View):
    """A run that branched off from another."""

    id: str
    parent: str
    at: str
    """The parent's event up to which the two are the same."""
    shared: tuple[SharedAnswer, ...] = ()
    changed: tuple[ChangedValue, ...] = ()


class RunStatus(_View):
    """Where a run stood when it was asked."""

    id: str
    status: Status
    objective: str
    workflow: str
    model: str
    requested_by: str
    submitted_at: datetime
    ended_at: datetime | None = None
    priority: Priority = "normal"
    deadline_at: datetime | None = None
    """The run fails if it goes on longer."""
    retries: int = 0
    """How often it was taken up again after a failure."""
    parent: Fork | None = None
    waits_for: Waiting | None = None
    approvals: tuple[Approval, ...] = ()
    cancellation: Cancellation | None = None
    steps: tuple[StepStatus, ...] = ()
    usage: Usage = Usage()
    result: str | None = None
    """Markdown, once the run is completed."""
    failure: Failure | None = None
    stream_sequence: int
    """The last event that this status knows of; `run.events(after=...)` goes on from there."""

    @property
    def ended(self) -> bool:
        """Whether it is over, one way or the other."""
        return self.status in _ENDED


class RunEvent(_View):
    """One event of a run. Of one that was refused only the place and the reason are told."""

    stream_sequence: int
    """Its place in the log."""
    stored_at: datetime
    type: str
    """For example "swarm.step.completed.v1"; "refused" for one that must not be acted on."""
    subject: str
    id: str | None = None
    source: str | None = None
    """swarm://<role>/<agent>"""
    time: datetime | None = None
    sequence: int | None = None
    """The sender's own counter."""
    cause: str | None = None
    on_behalf_of: str | None = None
    key: str | None = None
    """The sender's public NKey."""
    signature: str | None = None
    """Ed25519, base64url."""
    payload: dict[str, JsonValue] | None = None
    erased: bool = False
    """Whether what is personal in the payload cannot be read any more."""
    code: str | None = None
    reason: str | None = None

    @property
    def refused(self) -> bool:
        """Whether the swarm refused to act on it."""
        return self.type == "refused"

    @property
    def ends_run(self) -> bool:
        """Whether it is the last one of its run, unless that failed and is retried."""
        return self.type in _ENDS


class RunLine(_View):
    """A run in short."""

    id: str
    status: Status
    objective: str
    workflow: str
    requested_by: str
    submitted_at: datetime


class DeadLetter(_View):
    """An assignment that was given up, because nobody brought it to an end."""

    id: str
    """What `swarm.redrive` is told."""
    run: str
    step: str
    iteration: int
    item: int = 0
    attempt: int
    role: str
    agent: str
    """Who gave it up."""
    deliveries: int
    reason: str
    stored_at: datetime
    redriven: bool
    """Whether its run was retried since."""


class Runs(_View):
    """What the gateway lists."""

    runs: tuple[RunLine, ...]


class Approvals(_View):
    """What the gateway lists."""

    approvals: tuple[Approval, ...]


class DeadLetters(_View):
    """What the gateway lists."""

    dead_letters: tuple[DeadLetter, ...]


class AuditSummary(_View):
    """What the audit log has of a run, and the signed checkpoint of the whole log."""

    run: str
    events: int
    signatures_verified: int
    refused: int
    tree_size: int
    root: str
    """Merkle root of the whole log, hex."""
    checkpoint: str | None = None
    """Signed note (C2SP tlog-checkpoint), with the cosignatures of witnesses that it has yet."""
    cosigned: str | None = None
    """The newest checkpoint that a witness has cosigned."""


class InclusionProof(_View):
    """Proof (RFC 6962) that a leaf is in the audit log's tree of a size; hashes in hex."""

    leaf: int
    size: int
    proof: tuple[str, ...]


class ConsistencyProof(_View):
    """Proof (RFC 6962) that the audit log's tree of one size begins with that of another."""

    old: int
    new: int
    proof: tuple[str, ...]


class Reply(_View):
    """A model's answer."""

    text: str
    model: str = ""
    finish_reason: str | None = None
    usage: Usage = Usage()
    fingerprint: str = ""
    """OpenAI's system_fingerprint: engine, its version, and the digest of its weights."""
